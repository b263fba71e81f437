"""Shards: written, read without TensorFlow, and damaged in every way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_ehrnet.data import Dataset, read_coco, synthetic
from keras_ehrnet.data.loader import Order, numpy_batches
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.data.tfrecord import INDEX, read_tfrecords, verify_tfrecords, write_tfrecords
from keras_ehrnet.images import ImageError, write_image
from keras_ehrnet.support.errors import RecordError

tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def people() -> Dataset:
    return synthetic.dataset(5, image_size=(48, 40), seed=1)


@pytest.fixture
def shards(people: Dataset, tmp_path: Path) -> Path:
    write_tfrecords(people, tmp_path, records_per_shard=2, progress=False)
    return tmp_path


def damage(folder: Path, shard: int, record: int) -> Path:
    """Changes one byte in the middle of a record's image."""
    entry = json.loads((folder / INDEX).read_text())["shards"][shard]
    place = entry["records"][record]
    path, position = folder / entry["file"], place["start"] + place["image"][0] + place["image"][1] // 2
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    return path


def test_what_is_read_is_what_was_written(people: Dataset, shards: Path) -> None:
    assert sorted(path.name for path in shards.iterdir()) == [
        "index.json",
        *(f"synthetic-0000{number}-of-00003.tfrecord" for number in range(3)),
    ]
    dataset = read_tfrecords(shards)
    assert dataset.skeleton is people.skeleton and len(dataset) == 5
    for sample, expected in zip(dataset, people, strict=True):
        assert sample.image_id == expected.image_id and sample.image_size == expected.image_size
        np.testing.assert_array_equal(sample.read(), expected.source)
        for person, twin in zip(sample.persons, expected.persons, strict=True):
            np.testing.assert_array_equal(person.joints, twin.joints)
            np.testing.assert_array_equal(person.box, twin.box)
            assert (person.area, person.head_size) == (twin.area, pytest.approx(twin.head_size))
    assert verify_tfrecords(shards, progress=False) == []


def test_a_skeleton_of_ones_own_survives_whole(people: Dataset, tmp_path: Path) -> None:
    order = tuple(range(17))[::-1]
    own = replace(people.skeleton, name="mine", sigmas=(0.05,) * 17, grouping_order=order, flip_pairs=((1, 2),))
    write_tfrecords(replace(people, skeleton=own), tmp_path, progress=False)
    assert read_tfrecords(tmp_path).skeleton == own


def test_shards_of_before_tell_names_and_limbs_alone(people: Dataset, shards: Path) -> None:
    index = json.loads((shards / INDEX).read_text())
    index["skeleton"] = {name: index["skeleton"][name] for name in ("name", "joint_names", "limbs")}
    (shards / INDEX).write_text(json.dumps(index))
    assert read_tfrecords(shards).skeleton is people.skeleton
    index["skeleton"]["joint_names"][0] = "beak"
    (shards / INDEX).write_text(json.dumps(index))
    with pytest.raises(RecordError, match="the joints are not those of 'coco_17'"):
        read_tfrecords(shards)
    del index["skeleton"]["limbs"]
    (shards / INDEX).write_text(json.dumps(index))
    with pytest.raises(RecordError, match="limbs"):
        read_tfrecords(shards)


def test_tensorflow_reads_the_records(people: Dataset, shards: Path) -> None:
    files = sorted(map(str, shards.glob("*.tfrecord")))
    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string), "person/joints": tf.io.VarLenFeature(tf.float32)}
    records = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(files)]
    assert len(records) == 5
    np.testing.assert_array_equal(tf.io.decode_png(records[3]["image/encoded"]), people[3].source)
    joints = np.reshape(records[3]["person/joints"].values, (-1, 17, 3))
    np.testing.assert_array_equal(joints, np.stack([person.joints for person in people[3].persons]))


def test_files_are_stored_as_they_are(people: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_image(path, people[0].source)
    samples = (replace(people[0], source=path), replace(people[1], source=path.read_bytes()))
    write_tfrecords(replace(people, samples=samples), tmp_path / "records", progress=False)
    for sample in read_tfrecords(tmp_path / "records"):
        assert sample.source.read_bytes() == path.read_bytes()


def test_official_annotations_survive(reference: Path, tmp_path: Path) -> None:
    folder = reference / "data/coco_samples"
    dataset = read_coco(folder / "person_keypoints.json", folder / "images")
    write_tfrecords(dataset, tmp_path, records_per_shard=10, progress=False)
    numbers = [(0, index) for index in range(0, 32, 3)]
    expected, actual = (
        Examples(source, (64, 64), "efficienthrnet").batch(numbers) for source in (dataset, read_tfrecords(tmp_path))
    )
    for array, twin in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(array, twin)


def test_a_damaged_record_in_the_middle_is_named(shards: Path) -> None:
    path = damage(shards, shard=1, record=1)
    dataset = read_tfrecords(shards)
    with pytest.raises(ImageError, match=rf"damaged.*{path.name}, record 1"):
        dataset[3].read()
    dataset[2].read()
    (line,) = verify_tfrecords(shards, progress=False)
    assert f"{path.name}, record 1" in line
    with pytest.raises(ImageError, match=rf"{path.name}, record 1"):
        list(numpy_batches(Examples(dataset, (32, 32)), Order(5, 5, repeat=False), workers=0))


def test_a_shard_cut_short_is_named_with_its_record(shards: Path) -> None:
    path = sorted(shards.glob("*.tfrecord"))[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{path.name} is cut short: record 1"):
        read_tfrecords(shards)


def test_missing_shard_missing_index_and_foreign_index(shards: Path) -> None:
    sorted(shards.glob("*.tfrecord"))[2].unlink()
    with pytest.raises(FileNotFoundError, match="00002-of-00003"):
        read_tfrecords(shards)
    index = json.loads((shards / INDEX).read_text())
    (shards / INDEX).write_text(json.dumps({**index, "version": 99}))
    with pytest.raises(ValueError, match=r"version 1\. Received: 99"):
        read_tfrecords(shards)
    del index["shards"][0]["records"][1]["checksum"]
    (shards / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="00000-of-00003.tfrecord, record 1 has no field 'checksum'"):
        read_tfrecords(shards)
    (shards / INDEX).unlink()
    with pytest.raises(FileNotFoundError, match=INDEX):
        read_tfrecords(shards)


def test_a_damaged_image_is_not_written(people: Dataset, tmp_path: Path) -> None:
    broken = replace(people, samples=(replace(people[0], source=b"\x89PNG\r\n\x1a\n"),))
    with pytest.raises(ImageError):
        write_tfrecords(broken, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == [], "no index: the folder is not complete"


def test_a_folder_that_cannot_be_written_is_named(people: Dataset, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", full)
    with pytest.raises(OSError, match=r"No space left on device.*synthetic-00000-of-00001"):
        write_tfrecords(people, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_empty_data_set(people: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There must be images"):
        write_tfrecords(replace(people, samples=()), tmp_path)
