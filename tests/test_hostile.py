"""Files that are damaged, or made to do harm: told before anything opens them."""

from __future__ import annotations

import gc
import io
import json
import pickle
import re
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import keras
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet import metadata, runtime
from keras_ehrnet.data import crowd_mask, read_coco
from keras_ehrnet.images import ArchiveMember
from keras_ehrnet.runtime import litert
from keras_ehrnet.runtime.apart import ApartEngine
from keras_ehrnet.runtime.engine import LocalEngine
from keras_ehrnet.runtime.onnx import OnnxNetwork
from keras_ehrnet.support.errors import AnnotationError, CheckpointError, ImageError, ModelError, WeightsError
from keras_ehrnet.training.checkpoints import Checkpoints
from keras_ehrnet.weights import formats, registry, trial

PACKAGED = registry.packaged()["efficientpose-rt-coco"].exported_path


def model_of(content: bytes) -> bytes:
    """A `.tflite` file without its metadata."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: min(entry.header_offset for entry in archive.infolist())]


def test_packaged_models_know_their_bytes() -> None:
    for entry in registry.packaged().values():
        about = metadata.verified(entry.exported_path)
        assert about is not None and about.checksum is not None


@pytest.mark.parametrize("place", [0, 5, 0.3, 0.6, 0.9])
def test_a_changed_bit_of_a_tflite_file_is_told_before_it_is_opened(place: float, tmp_path: Path, monkeypatch) -> None:
    content = bytearray(PACKAGED.read_bytes())
    content[int(place * len(model_of(content))) if place < 1 else int(place)] ^= 4
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    monkeypatch.setattr(litert, "_engine", lambda *_: pytest.fail("opened"))
    for model in (path, bytes(content)):
        with pytest.raises(ModelError, match="bytes are not those that were exported"):
            runtime.Interpreter(model)


def test_models_of_others_run_apart(tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(model_of(PACKAGED.read_bytes()))
    image = np.full((1, 224, 224, 3), 99, np.uint8)
    own = runtime.Interpreter(PACKAGED)
    assert isinstance(own._engine, LocalEngine)
    for model in (path, path.read_bytes()):
        other = pickle.loads(pickle.dumps(runtime.Interpreter(model)))
        assert isinstance(other._engine, ApartEngine) and repr(other) == repr(own)
        for picture in (image, image // 2):
            assert np.array_equal(other(image=picture)["poses"], own(image=picture)["poses"])
    assert isinstance(runtime.Interpreter(path, verify=False)._engine, LocalEngine)
    process = other._engine._process
    del other
    gc.collect()
    assert process.poll() is not None


def test_a_model_that_ends_its_process_is_refused() -> None:
    model = model_of(PACKAGED.read_bytes())
    shape = struct.pack("<4i", 240, 1, 1, 40)  # Of kernels, which a convolution then reads far beyond their end.
    told = []
    for place in re.finditer(re.escape(shape), model):
        changed = model[: place.start() + 4] + b"\xff\x0f" + model[place.start() + 6 :]
        with pytest.raises(ModelError) as caught:
            runtime.Interpreter(changed)(image=np.zeros((1, 224, 224, 3), np.uint8))
        told.append("it ends the process that runs it" in str(caught.value))
    assert any(told)


def test_metadata_of_another_model_are_told(tmp_path: Path) -> None:
    content = PACKAGED.read_bytes()
    about = metadata.read(content)
    for change, told in (
        ({"skeleton": ke.skeletons.MPII_16}, "'poses' has shape .* 'mpii_16' has 16 joints"),
        ({"input": metadata.Input(256, 256)}, "height and width .224, 224., not .256, 256."),
        ({"decode": "peaks"}, "no output 'peaks'"),
        ({"family": "hourglass"}, "no family 'hourglass'"),
    ):
        with pytest.raises(ModelError, match=told):
            runtime.TFLiteNetwork(metadata.append(model_of(content), replace(about, **change)))


def test_one_changed_bit_of_an_onnx_file_is_told(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    import tiny

    path = ke.export.onnx(tiny.network(), tmp_path / "a.onnx", skeleton=ke.skeletons.COCO_17)
    content = path.read_bytes()
    assert OnnxNetwork(path).metadata.checksum is not None
    refused = 0
    for place in range(40, len(content), len(content) // 50):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(ke.KerasEhrnetError):
            OnnxNetwork(path)
        refused += 1
    assert refused >= 50


def weights_file(path: Path) -> Path:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")]).save_weights(path)
    return path


def elsewhere(group: h5py.Group, folder: Path) -> None:
    del group["0"]
    group.create_dataset("0", (2, 2), "f4", external=[(str(folder / "secret"), 0, 16)])


def external(group: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = np.ones((2, 2), "f4")
    del group["0"]
    group["0"] = h5py.ExternalLink(str(folder / "other.h5"), "/kernel")


def soft(group: h5py.Group, folder: Path) -> None:
    del group["0"]
    group["0"] = h5py.SoftLink(group.name + "/1")


def huge(group: h5py.Group, folder: Path) -> None:
    del group["0"]
    group.create_dataset("0", (1 << 20, 1 << 12), "f4", chunks=(1024, 1024), compression="gzip")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (elsewhere, "stored in another file"),
        (external, "a link to elsewhere"),
        (soft, "a link to elsewhere"),
        (huge, "takes 16385 MB of memory.*KERAS_EHRNET_MAX_MEGABYTES=16385"),
    ],
)
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_are_in_their_file(harm, told: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    path = tmp_path / f"a{suffix}"
    inner = weights_file(tmp_path / "inner.weights.h5")
    with h5py.File(inner, "a") as file:
        harm(file["layers/dense/vars"], tmp_path)
    if suffix == ".keras":
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")]).save(path)
        with zipfile.ZipFile(path) as whole:
            members = {name: whole.read(name) for name in whole.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, inner.read_bytes() if name == "model.weights.h5" else content)
    else:
        path.write_bytes(inner.read_bytes())
    with pytest.raises(WeightsError, match=told):
        formats.read(path)
    if suffix == ".keras":
        with pytest.raises(ModelError, match=told):
            runtime.load(path)


def test_archives_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w", force_zip64=True) as file:
            for _ in range(600):
                file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    for read, kind in ((formats.read, WeightsError), (runtime.load, ModelError)):
        with pytest.raises(kind, match="archive takes 60. MB of memory"):
            read(path)


def test_checkpoints_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(model, 1)
    with np.load(path) as file:
        arrays = dict(file)
    assert checkpoints.restore(model) == 1
    name = next(name for name, array in arrays.items() if array.shape == (2, 2))
    for other in (np.broadcast_to(np.float32(0), (1 << 15, 1 << 12)), np.full((2, 2), "a" * (1 << 20))):
        np.savez_compressed(path, **{**arrays, name: other})
        assert path.stat().st_size < 1 << 20
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="does not fit|something else where numbers are"):
            checkpoints.restore(model)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


def test_pictures_in_archives_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_EHRNET_MAX_MEGABYTES", "1")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(3 << 20))
        archive.writestr("b.png", bytes(1 << 20))
    assert len(ArchiveMember(path, "b.png").read_bytes()) == 1 << 20
    with pytest.raises(ImageError, match="file in the archive takes 3 MB of memory"):
        ArchiveMember(path, "a.png").read_bytes()


def test_names_of_images_lead_nowhere_else(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    people = tmp_path / "people.json"
    category = {"id": 1, "name": "person", "keypoints": ["nose"], "skeleton": []}
    for name in ("../a.png", str(tmp_path / "a.png"), "x/..\\..\\a.png"):
        image = {"id": 1, "file_name": name, "width": 4, "height": 4}
        people.write_text(json.dumps({"images": [image], "annotations": [], "categories": [category]}))
        with pytest.raises(AnnotationError, match="outside its folder.*KERAS_EHRNET_FILES_ANYWHERE=1"):
            read_coco(people, folder)
    image = {"id": 1, "file_name": "../a.png", "width": 4, "height": 4}
    people.write_text(json.dumps({"images": [image], "annotations": [], "categories": [category]}))
    monkeypatch.setenv("KERAS_EHRNET_FILES_ANYWHERE", "1")
    assert read_coco(people, folder)[0].read().shape == (4, 4, 3)


def test_regions_far_away_are_refused(tmp_path: Path) -> None:
    crowd = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 1,
        "bbox": [0, 0, 3, 3],
        "area": 9,
        "keypoints": [0] * 3,
    }
    category = {"id": 1, "name": "person", "keypoints": ["nose"], "skeleton": []}
    image = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
    content = {"images": [image], "categories": [category]}
    for far, refused in ((41, False), (1e8, True)):
        path = tmp_path / "people.json"
        outline = {**crowd, "segmentation": [[0, 0, far, 0, far, 30, 0, 30]]}
        path.write_text(json.dumps({**content, "annotations": [outline]}))
        if refused:
            with pytest.raises(AnnotationError, match="in the image, or near it: .40, 30.. Received: 1e.08"):
                read_coco(path)
        else:
            assert not crowd_mask(read_coco(path)[0]).any()


def test_strips_are_refused() -> None:
    predictor = ke.PosePredictor(ke.EfficientHRNet(-4), protocol="fast")
    with pytest.raises(ImageError, match="16 times its short one.*4000x40"):
        predictor(np.zeros((40, 4000, 3), np.uint8))


def test_converted_weights_know_their_values(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")])
    model.save_weights(tmp_path / "keras.weights.h5")
    path = ke.weights.convert(model, tmp_path / "keras.weights.h5", tmp_path / "own.weights.h5")
    ke.weights.load(model, path)
    kernel = model.get_weights()[0].tobytes()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(kernel, bytes(len(kernel))))
    with pytest.raises(WeightsError, match="its bytes are not those that were saved"):
        ke.weights.load(model, path)
    path.write_bytes(path.read_bytes()[: whole.index(b"keras_ehrnet_file_sha256:")])  # as of earlier versions
    with pytest.raises(WeightsError, match="its values are not those that were saved"):
        ke.weights.load(model, path)


def test_no_byte_of_converted_weights_reaches_hdf5_changed(tmp_path: Path, monkeypatch) -> None:
    """HDF5 may follow a damaged heap for ever, which no time limit of ours would end."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")])
    model.save_weights(tmp_path / "keras.weights.h5")
    path = ke.weights.convert(model, tmp_path / "keras.weights.h5", tmp_path / "own.weights.h5")
    expected = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in expected])
    model.load_weights(path)  # Keras itself reads it as any other.
    assert all(map(np.array_equal, model.get_weights(), expected))
    whole = bytearray(path.read_bytes())
    monkeypatch.setattr(h5py, "File", lambda *_: pytest.fail("opened"))
    for place in range(9, len(whole) - 89, 97):
        whole[place] ^= 16
        path.write_bytes(whole)
        with pytest.raises(WeightsError, match="is damaged: its bytes are not those"):
            ke.weights.load(model, path)
        whole[place] ^= 16


def test_weights_of_others_that_hdf5_does_not_come_back_from_are_refused(tmp_path: Path, monkeypatch) -> None:
    """Two bytes: one leads HDF5 in a circle, with the other it ends the process."""
    monkeypatch.setattr(trial, "SECONDS", 5)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")])
    path = tmp_path / "keras.weights.h5"
    with h5py.File(path, "w") as archive:
        variables = archive.create_group("layers/dense/vars")
        variables.attrs["name"] = "dense"
        for index, values in enumerate(model.get_weights()):
            variables[str(index)] = values
    whole = path.read_bytes()
    ke.weights.load(model, path)
    # The size of a text on the heap, and the kind of its characters.
    for place, value in ((whole.index(b"GCOL") + 24, 0), (whole.index(b"name\0\0\0\0\x19") + 9, 255)):
        changed = bytearray(whole)
        changed[place] = value
        path.write_bytes(changed)
        # Other versions of HDF5 may notice it themselves.
        with pytest.raises(
            WeightsError, match=r"keras.weights.h5 is (damaged|not a readable weights file): .*(\.|\))$"
        ):
            ke.weights.load(model, path)
