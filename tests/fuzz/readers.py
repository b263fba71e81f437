"""Every reader of the package: a whole file for it, ways to damage that, and how a user comes to read it.

Imports stand where they are needed: a process that reads annotations does without Keras.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mutations import Mutation, bytes_anywhere, either, lines, member, png_chunks, tree, yaml_tree

from keras_ehrnet import metadata
from keras_ehrnet.support.files import sha256

WEIGHTS = Path(metadata.__file__).parents[1] / "weights" / "packaged"
TEXT = either(tree, tree, tree, bytes_anywhere)
SKELETON = {"name": "dog", "joint_names": ["nose", "left_ear", "right_ear"], "limbs": [[0, 1], [0, 2]]}
GROUPS = ("light", "models", "keras")


@dataclass(frozen=True)
class Reader:
    """A reader, and what it is to be tried with.

    Args:
        name: str.
        file: str. Name of the file that is damaged.
        make: callable. Writes the whole file, and those it needs, into a folder.
        mutate: `Mutation` of that file.
        read: callable. Takes the path of the file, and reads it and all it leads to.
        group: str. Readers of one group share a process.
        share: int. So many inputs, where others get ten.
    """

    name: str
    file: str
    make: Callable[[Path], object]
    mutate: Mutation
    read: Callable[[Path], object]
    group: str = "light"
    share: int = 10


def _write(name: str, content: bytes | str | dict | list) -> Callable[[Path], object]:
    data = json.dumps(content).encode() if isinstance(content, (dict, list)) else content
    data = data.encode() if isinstance(data, str) else data
    return lambda folder: (folder / name).write_bytes(data)


# Annotations


def _encoded(suffix: str, width: int = 40, height: int = 30) -> bytes:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    if suffix == ".heic":
        from PIL import Image
        from pillow_heif import from_pillow

        from_pillow(Image.fromarray(picture)).save(file := io.BytesIO())
        return file.getvalue()
    return cv2.imencode(suffix, picture)[1].tobytes()


def _coco() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    people = []
    for number in range(4):
        points = np.column_stack([rng.integers(2, 28, (17, 2)), rng.integers(0, 3, 17)])
        entry = {"id": number + 1, "image_id": number % 2 + 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 27, 27]}
        people.append({**entry, "keypoints": points.ravel().tolist(), "num_keypoints": 17, "area": 500.0})
    crowd = {"id": 5, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9], "area": 81.0}
    crowd |= {"keypoints": [0] * 51, "segmentation": {"size": [30, 40], "counts": [10, 20, 1170]}}
    outline = {**crowd, "id": 6, "iscrowd": 0, "segmentation": [[1.0, 1, 9, 1, 9, 9, 1, 9]]}
    from keras_ehrnet.skeletons import COCO_17

    limbs = [[first + 1, second + 1] for first, second in COCO_17.limbs]
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.joint_names), "skeleton": limbs}
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in (1, 2)]
    return {"images": images, "annotations": [*people, crowd, outline], "categories": [category]}


def _make_coco(folder: Path) -> None:
    _write("people.json", _coco())(folder)
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(_encoded(".png"))


def _read_coco(path: Path) -> None:
    from keras_ehrnet.data import read_coco

    _use(read_coco(path, path.parent, skip_missing=True))


def _use(dataset: Any) -> None:
    """What a training does with each of a data set's images: reads it, makes its examples and its mask."""
    from keras_ehrnet.data import crowd_mask
    from keras_ehrnet.data.targets import Examples

    dataset.report()
    for sample in dataset:
        if sample.source is not None:
            sample.read()
        if sample.image_size is not None:
            crowd_mask(sample)
    if dataset.num_persons and all(sample.source is not None for sample in dataset):
        examples = Examples(dataset, (64, 64), top_down=False)
        examples.batch([(0, index) for index in range(len(examples))])


def _lspet() -> dict[str, Any]:
    from keras_ehrnet.skeletons import LSP_14

    rng = np.random.default_rng(2)
    entry = {"width": 40, "height": 30, "labelled": [1] * 13 + [0], "visible": [1, 0] * 7}
    joints = rng.integers(1, 29, (2, 14, 2)).tolist()
    images = [{"file_name": f"{n}.png", "joints": xy, **entry} for n, xy in enumerate(joints)]
    return {"joint_names": list(LSP_14.joint_names), "images": images}


def _make_lspet(folder: Path) -> None:
    _write("val.json", _lspet())(folder)
    (folder / "val.zip").write_bytes(_archive())


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(2):
            archive.writestr(zipfile.ZipInfo(f"{number}.png"), _encoded(".png"))
        archive.writestr("a.jpg", _encoded(".jpg"), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _read_lspet(path: Path) -> None:
    from keras_ehrnet.data import read_lspet

    _use(read_lspet(path, path.with_suffix(".zip"), skip_missing=True))


def _mpii() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    people = []
    for number in range(3):
        entry = {
            "image": f"{number // 2}.png",
            "person": number % 2,
            "center": [15, 15],
            "scale": 0.1,
            "head_size": 3.0,
        }
        entry |= {"joints": rng.integers(1, 29, (16, 2)).tolist(), "joints_vis": [1] * 16, "visible": [0, 1] * 8}
        people.append({**entry, "index": number})
    return people


def _make_mpii(folder: Path) -> None:
    _write("mpii.json", _mpii())(folder)
    for number in range(2):
        (folder / f"{number}.png").write_bytes(_encoded(".png"))


def _read_mpii(path: Path) -> None:
    from keras_ehrnet.data import read_mpii

    _use(read_mpii(path, path.parent, skip_missing=True))


def _make_records(folder: Path) -> None:
    from keras_ehrnet.data import read_coco
    from keras_ehrnet.data.tfrecord import write_tfrecords

    _make_coco(folder)
    write_tfrecords(read_coco(folder / "people.json", folder), folder / "shards", progress=False)
    for file in (folder / "shards").iterdir():
        file.rename(folder / file.name)


def _read_records(path: Path) -> None:
    from keras_ehrnet.data.tfrecord import read_tfrecords, verify_tfrecords

    verify_tfrecords(path.parent, progress=False)
    _use(read_tfrecords(path.parent))


def _read_category(path: Path) -> None:
    from keras_ehrnet.data.categories import category_skeleton

    category_skeleton(path)


# Pictures and archives of them


def _read_picture(path: Path) -> None:
    from keras_ehrnet.images import read_image

    read_image(path)


def _read_archive(path: Path) -> None:
    from keras_ehrnet.images import find_images, read_image

    for source in find_images(["0.png", "1.png", "a.jpg"], path).values():
        read_image(source)


def _cifar() -> bytes:
    file = io.BytesIO()
    pictures = {b"data": np.zeros((3, 3072), np.uint8), b"fine_labels": [0, 1, 2]}
    meta = {b"fine_label_names": [str(number).encode() for number in range(100)]}
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in (("train", pictures), ("meta", meta)):
            data = pickle.dumps(content, protocol=4)
            entry = tarfile.TarInfo(f"cifar-100-python/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def _read_cifar(path: Path) -> None:
    from keras_ehrnet.data.classification import read_cifar100

    read_cifar100(path, "train", sha256=None)


# Recipes and other texts

_RECIPE = """
model: {name: efficientpose-a, input_size: [64, 64]}
data: {kind: synthetic, synthetic: {length: 12, image_size: [64, 64], people: [1, 2]}, augmentation: efficientpose}
optimizer: {name: adam, weight_decay: 0.0001, clip_norm: 1.0}
schedule: {rate: 0.001, boundaries: [2], warmup_epochs: 1}
training: {epochs: 3, batch_size: 4, seed: 5}
evaluation: {every: 3, pictures: 2}
"""


def _read_recipe(path: Path) -> None:
    from keras_ehrnet.training import recipe

    found = recipe.read(path)
    _ = found.skeleton, found.input_size, found.top_down, found.to_yaml(), found.folder


def _read_skeleton(path: Path) -> None:
    from keras_ehrnet.training.recipe import read_skeleton

    read_skeleton(path)


def _blocks() -> dict[str, Any]:
    from keras_ehrnet.models.searched import read_backbone

    return read_backbone("A").to_dict()


def _read_blocks(path: Path) -> None:
    from keras_ehrnet.models.searched import read_backbone

    read_backbone(path)


def _about() -> bytes:
    found = metadata.read(WEIGHTS / "efficientpose-rt-coco.tflite")
    assert found is not None
    return found.to_json().encode()


def _read_metadata(path: Path) -> None:
    found = metadata.Metadata.from_json(path.read_bytes(), path)
    _ = found.to_json(), found.multi_person


def _journal() -> str:
    people = [{"keypoints": [[1.0, 2.0, 0.5]] * 17, "score": 0.5}]
    rows = [{"model": "m"}, {"image_id": 1, "people": people}, {"image_id": 2, "people": people}]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _read_journal(path: Path) -> None:
    from keras_ehrnet.evaluation.journal import Journal

    Journal(path.parent, {"model": "m"})


# Files of models


def _make_tflite(folder: Path) -> None:
    (folder / "a.tflite").write_bytes((WEIGHTS / "efficientpose-rt-coco.tflite").read_bytes())


def _unsigned(data: bytes, rng: np.random.Generator) -> bytes:
    """A damaged model as other programs write it: nothing tells that it is."""
    found = metadata.read(data)
    assert found is not None
    model = bytes_anywhere(data[: _end_of_model(data)], rng)
    with zipfile.ZipFile(file := io.BytesIO(model), "a") as archive:
        archive.writestr("metadata.json", found.to_json().replace(f'"{found.checksum}"', "null"))
    return file.getvalue()


def _other_metadata(data: bytes, rng: np.random.Generator) -> bytes:
    """A whole model with metadata of which something is wrong, though their checksum is right."""

    def mutate(text: bytes, rng: np.random.Generator) -> bytes:
        unsealed = {**json.loads(text), "checksum": None}
        changed = tree(json.dumps(unsealed).encode(), rng)
        digest = sha256([data[: _end_of_model(data)], changed])
        return changed.replace(b'"checksum": null', b'"checksum": "%s"' % digest.encode())

    return member({"metadata.json": mutate})(data, rng)


def _end_of_model(data: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return min(entry.header_offset for entry in archive.infolist())


def _unsigned_onnx(data: bytes, rng: np.random.Generator) -> bytes:
    return bytes_anywhere(data.replace(b'"checksum": "', b'"checksun": "'), rng)


def _run(path: Path) -> None:
    import keras_ehrnet as ke

    ke.PosePredictor(ke.runtime.load(path, threads=1))(np.zeros((96, 64, 3), np.uint8))


def _run_signed(path: Path) -> None:
    """What is read is what was written, or the file is refused."""
    from keras_ehrnet import runtime

    whole = runtime.load(path.with_name(f"whole-{path.name}"), threads=1)
    network = runtime.load(path, threads=1)
    image = np.full((1, *whole.input_size, 3), 99, np.uint8)
    maps, expected = network(image), whole(image)
    assert all(np.array_equal(maps[name], expected[name]) for name in expected)


def _make_onnx(folder: Path) -> None:
    import tiny

    from keras_ehrnet import export
    from keras_ehrnet.skeletons import COCO_17

    export.onnx(tiny.network(), folder / "a.onnx", skeleton=COCO_17)


def _make_keras(folder: Path) -> None:
    import tiny

    from keras_ehrnet.models import save
    from keras_ehrnet.skeletons import COCO_17

    save(tiny.network(), folder / "a.keras", COCO_17)


def _read_keras(path: Path) -> None:
    from keras_ehrnet import runtime

    runtime.load(path)


def _make_h5(folder: Path) -> None:
    import tiny

    from keras_ehrnet import weights

    model = tiny.network()
    model.save_weights(folder / "whole.weights.h5")
    weights.convert(model, folder / "whole.weights.h5", folder / "a.weights.h5")


def _make_official(folder: Path) -> None:
    """In the layout of Keras 2, in which the weights of EfficientPose are published."""
    import h5py
    import tiny

    with h5py.File(folder / "official.h5", "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [layer.name.encode() for layer in tiny.network().layers]
        for layer in tiny.network().layers:
            held = group.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            held.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.get_weights(), strict=True):
                held[name] = weight


def _make_torch(folder: Path) -> None:
    import torch

    state = {"conv1.weight": torch.zeros(8, 3, 3, 3), "bn1.running_mean": torch.zeros(8), "bn1.weight": torch.ones(8)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "a.pth")


def _read_weights(path: Path) -> None:
    """What is read is what was written, or the file is refused."""
    from keras_ehrnet import weights

    model, expected = _network(), _written(path.with_name(f"whole-{path.name}"))
    model.set_weights([np.full_like(weight, 7) for weight in expected])  # What no file holds.
    weights.load(model, path)
    # Where the checksum itself is lost, a file is as those of other programs.
    assert (b"keras_ehrnet_sha256" not in path.read_bytes() and path.suffix == ".h5") or all(
        map(np.array_equal, model.get_weights(), expected)
    )


@cache
def _written(path: Path) -> list[np.ndarray]:
    """The weights of a whole file."""
    from keras_ehrnet import weights

    return weights.load(_network(), path).get_weights()


def _read_tensors(path: Path) -> None:
    from keras_ehrnet.weights import formats

    formats.read(path)


def _make_checkpoint(folder: Path) -> None:
    from keras_ehrnet.training.checkpoints import Checkpoints

    Checkpoints(folder).save(_compiled(), 1)


def _read_checkpoint(path: Path) -> None:
    from keras_ehrnet.training.checkpoints import Checkpoints

    Checkpoints(path.parent).restore(_compiled())


@cache
def _network() -> Any:
    """One network for all inputs: making it takes as long as reading several of them."""
    import keras
    import tiny

    keras.utils.clear_session()
    return tiny.network()


@cache
def _compiled() -> Any:
    """The same with an optimizer, whose state checkpoints hold."""
    import keras
    import tiny

    keras.utils.clear_session()
    model = tiny.network()
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def _text(name: str, content: Callable[[], bytes | str | dict | list]) -> Callable[[Path], object]:
    return lambda folder: _write(name, content())(folder)


_MEMBER = either(member({"json": TEXT}), bytes_anywhere)
_PICTURES: dict[str, Mutation] = {"png": either(png_chunks, bytes_anywhere), "jpg": bytes_anywhere}
_PICTURES |= dict.fromkeys(("webp", "tiff", "bmp", "gif", "ppm", "jp2", "heic"), bytes_anywhere)

_LIGHT = (
    Reader("coco", "people.json", _make_coco, TEXT, _read_coco, share=40),
    Reader("categories", "people.json", _make_coco, TEXT, _read_category),
    Reader("lspet", "val.json", _make_lspet, TEXT, _read_lspet),
    Reader("mpii", "mpii.json", _make_mpii, TEXT, _read_mpii),
    Reader("tfrecord-index", "index.json", _make_records, TEXT, _read_records),
    Reader("tfrecord", "people-00000-of-00001.tfrecord", _make_records, bytes_anywhere, _read_records),
    Reader("archive", "a.zip", _text("a.zip", _archive), _MEMBER, _read_archive),
    Reader("cifar-100", "a.tar", _text("a.tar", _cifar), bytes_anywhere, _read_cifar),
    Reader("recipe", "a.yaml", _write("a.yaml", _RECIPE), either(yaml_tree, bytes_anywhere), _read_recipe, share=20),
    Reader("skeleton", "a.json", _write("a.json", SKELETON), TEXT, _read_skeleton),
    Reader("blocks", "a.json", _text("a.json", _blocks), TEXT, _read_blocks),
    Reader("metadata", "a.json", _text("a.json", _about), TEXT, _read_metadata, share=20),
    Reader("journal", "journal.jsonl", _text("journal.jsonl", _journal), either(lines, bytes_anywhere), _read_journal),
)
_MODELS = (
    Reader("tflite", "a.tflite", _make_tflite, bytes_anywhere, _run_signed, "models"),
    Reader("tflite-unsigned", "a.tflite", _make_tflite, _unsigned, _run, "models", share=2),
    Reader("tflite-metadata", "a.tflite", _make_tflite, _other_metadata, _run, "models"),
    Reader("onnx", "a.onnx", _make_onnx, bytes_anywhere, _run_signed, "models"),
    Reader("onnx-unsigned", "a.onnx", _make_onnx, _unsigned_onnx, _run, "models"),
)
_KERAS = (
    Reader("keras", "a.keras", _make_keras, _MEMBER, _read_keras, "keras"),
    Reader("keras-weights", "a.keras", _make_keras, bytes_anywhere, _read_weights, "keras"),
    Reader("h5", "a.weights.h5", _make_h5, bytes_anywhere, _read_weights, "keras"),
    Reader("h5-official", "official.h5", _make_official, bytes_anywhere, _read_tensors, "keras"),
    Reader("pth", "a.pth", _make_torch, _MEMBER, _read_tensors, "keras"),
    Reader("npz", "epoch-00001.npz", _make_checkpoint, _MEMBER, _read_checkpoint, "keras"),
)


def _picture_reader(kind: str, mutate: Mutation) -> Reader:
    name = f"a.{kind}"
    return Reader(f"picture-{kind}", name, _text(name, lambda: _encoded(f".{kind}", 64, 64)), mutate, _read_picture)


_PICTURE_READERS = (_picture_reader(kind, mutate) for kind, mutate in _PICTURES.items())
READERS = {reader.name: reader for reader in (*_LIGHT, *_PICTURE_READERS, *_MODELS, *_KERAS)}
