"""Whatever a reader is given: one class of error for each kind of input, and nothing else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_ehrnet import metadata
from keras_ehrnet.data import read_coco, read_lspet, read_mpii
from keras_ehrnet.data.tfrecord import read_tfrecords
from keras_ehrnet.images import ArchiveMember, find_images, read_image
from keras_ehrnet.skeletons import COCO_17
from keras_ehrnet.support import terminal
from keras_ehrnet.support.errors import (
    AnnotationError,
    CheckpointError,
    ImageError,
    KerasEhrnetError,
    MetadataError,
    RecipeError,
    RecordError,
    reading,
)
from keras_ehrnet.training import recipe

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""YAML of some lines that stands for 9 ** 9 values."""

READERS = {
    "coco": (read_coco, AnnotationError),
    "lspet": (read_lspet, AnnotationError),
    "mpii": (read_mpii, AnnotationError),
    "recipe": (recipe.read, RecipeError),
    "metadata": (lambda path: metadata.Metadata.from_json(path.read_bytes()), MetadataError),
    "tfrecords": (lambda path: read_tfrecords(path.parent), RecordError),
    "image": (read_image, ImageError),
    "archive": (lambda path: find_images(["a.jpg"], path), ImageError),
}
CONTENTS = {
    "bytes": b"\xff\xfe\x00\x01",
    "deep": b"[" * 100_000,
    "number of thousands of digits": b'{"images": ' + b"9" * 5000 + b"}",
    "no object": b"[1, 2, {}]",
    "fields of other kinds": b'{"images": {"a": 1}, "annotations": 7, "categories": [[]], "joint_names": [{}], "x": 1}',
    "a date that cannot be": b"name: 2001-99-99",
    "aliases of aliases": BOMB.encode(),
    "itself": b"model: &a [*a]",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("reader", READERS)
def test_one_class_for_each_kind_of_input(reader: str, content: str, tmp_path: Path) -> None:
    read, kind = READERS[reader]
    path = tmp_path / "index.json"
    path.write_bytes(CONTENTS[content])
    with pytest.raises(kind) as caught:
        read(path)
    assert issubclass(kind, KerasEhrnetError)
    assert len(str(caught.value)) < 1000


def test_a_reader_tells_its_own_errors_and_hides_no_missing_files() -> None:
    with pytest.raises(RecordError, match="of images"), reading(RecordError, "shards"):
        raise AnnotationError("of images")
    with pytest.raises(FileNotFoundError), reading(RecordError, "shards"):
        raise FileNotFoundError("none")
    with pytest.raises(AnnotationError, match="x is 1. Received: 2"), reading(AnnotationError, "file"):
        raise ValueError("x is 1. Received: 2")


def test_mistakes_of_ones_own_are_no_damage() -> None:
    source = "import numpy as np\ndef use(entry):\n    return {}\n"
    ours = {"__name__": "keras_ehrnet.data.coco"}
    library = {"__name__": "keras.src.saving"}

    def used(code: str, entry: object, where: dict[str, str] = ours) -> object:
        names: dict[str, Any] = dict(where)
        exec(source.format(code), names)
        with reading(AnnotationError, "people.json"):
            return names["use"](entry)

    for code, kind in (("entrys", NameError), ("entry.gett('id')", AttributeError), ("np.gett", AttributeError)):
        with pytest.raises(kind) as caught:
            used(code, {})
        assert not isinstance(caught.value, AnnotationError)
    # A list where an object was to be, or nothing: that may be the file.
    for entry in ([], None, "a"):
        with pytest.raises(AnnotationError, match="The file is damaged .*Received: people.json"):
            used("entry.get('id')", entry)
    with pytest.raises(AnnotationError, match="is damaged"):
        used("np.gett", None, library)


def test_records_outside_their_shard_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(bytes(100))
    record = {"start": 0, "length": 50, "checksum": 0, "image": [40, 60], "persons": [], "image_size": [4, 4]}
    record["image_id"] = 1
    shards = [{"file": "a.tfrecord", "records": [record]}]
    index = {"version": 1, "skeleton": COCO_17.to_dict(), "shards": shards}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(RecordError, match=r"record 0 must lie in its shard.*\[40, 60\]"):
        read_tfrecords(tmp_path)


def test_a_member_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="archive is damaged"):
        ArchiveMember(path, "a.jpg").read_bytes()


@pytest.mark.parametrize("error", [AnnotationError("no 'id'"), OSError("disk full"), ValueError("flip and several")])
def test_mistakes_end_in_one_sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    assert terminal.run(command) == terminal.FAILED
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_mistakes_of_the_program_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        terminal.run(lambda: 1 // 0)


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    from keras_ehrnet.training.checkpoints import Checkpoints

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(model, 1)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            checkpoints.read(model)
        except CheckpointError:
            continue
    path.write_bytes(whole[:200])
    with pytest.raises(CheckpointError, match=r"damaged.*epoch-00001\.npz"):
        checkpoints.read(model)


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("input", "height"), "224", "input are wrong: 'height' must be int, not '224'"),
        (("input", "width"), 0, "sides are from 1 to 32768 pixels. Received: 224 x 0"),
        (("input", "dtype"), "int3", "one of uint8, float32. Received: 'int3'"),
        (("outputs", 0, "shape"), [1, "a"], "'shape' must be tuple"),
        (("skeleton", "limbs"), [[0, 17]], "pairs of its joints, 0 to 16"),
        (("skeleton", "joint_names"), [1, 2], "'joint_names' must be"),
        (("decode",), "people", "none, peaks, poses. Received: 'people'"),
        (("decoder",), [1], "'decoder' must be dict"),
        (("min_score",), float("nan"), "'min_score' must be float, not nan"),
        (("family",), None, "'family' must be str, not None"),
        (("format",), "2", "an object with a 'format'"),
    ],
)
def test_metadata_that_cannot_be(where: tuple[str | int, ...], value: object, told: str) -> None:
    maps = {"heatmaps": (1, 56, 56, 17)}
    whole = metadata.Metadata.of_maps("a", COCO_17, metadata.Input(224, 224), maps).to_json()
    assert metadata.Metadata.from_json(whole).outputs[0].shape == (1, 56, 56, 17)
    content = json.loads(whole)
    *holders, last = where
    place = content
    for key in holders:
        place = place[key]
    place[last] = value
    with pytest.raises(MetadataError, match=told):
        metadata.Metadata.from_json(json.dumps(content))


def test_an_archive_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for content in (b"first", b"second one"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.jpg", content)
        assert ArchiveMember(path, "a.jpg").read_bytes() == content


def test_messages_do_not_quote_pages() -> None:
    told = str(AnnotationError(f"{'x' * 100_000}. Received: a.json"))
    assert len(told) < 1300 and told.endswith("Received: a.json")
