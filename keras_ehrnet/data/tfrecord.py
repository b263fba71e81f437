"""Sharded TFRecord files: few large files instead of many small ones, every record with a checksum.

A record is a `tf.train.Example` that any TensorFlow program reads. Beside the shards lies `index.json`, written last:
the annotations, and where every record lies in its shard. With it, `read_tfrecords` gives a `Dataset` like any other
reader, whose images are read one by one, in any order, without TensorFlow.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_ehrnet.data._checks import flag, load_json, need, need_inside, numbers
from keras_ehrnet.data.annotations import Dataset, Person, Sample
from keras_ehrnet.data.masks import check_segmentation
from keras_ehrnet.images import ArchiveMember, ImageError
from keras_ehrnet.skeletons import SKELETONS, Skeleton
from keras_ehrnet.support.errors import RecordError, reading, reads
from keras_ehrnet.support.files import replacing, write_file
from keras_ehrnet.support.messages import cut, is_size, needing
from keras_ehrnet.support.terminal import progress_bar

INDEX = "index.json"
_VERSION = 1
_HEADER = 12  # Bytes of a record before its content: the length, and the checksum of the length.


@dataclass(frozen=True)
class RecordImage(ArchiveMember):
    """The image in a record, read without TensorFlow. `archive` is the shard, `name` says which record.

    Args:
        archive: `Path` of the shard.
        name: str. For messages, such as `"record 12"`.
        start: int. First byte of the record's content.
        length: int. Bytes of the content.
        checksum: int. CRC-32 of the content.
        image: tuple (int, int). First byte of the image within the content, and its length.
    """

    start: int = 0
    length: int = 0
    checksum: int = 0
    image: tuple[int, int] = (0, 0)

    def read_bytes(self) -> bytes:
        """The encoded image.

        Raises:
            FileNotFoundError: if there is no such shard.
            ImageError: if the record is damaged or cut short, naming file and record.
        """
        try:
            with reading(ImageError, self, "The record"), self.archive.open("rb") as file:
                file.seek(self.start)
                content = file.read(self.length)
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no such shard. Received: {self.archive}") from None
        if len(content) != self.length or zlib.crc32(content) != self.checksum:
            raise ImageError(f"The record is damaged or cut short. Received: {self}")
        first, size = self.image
        return content[first : first + size]

    def __str__(self) -> str:
        return f"{self.archive}, {self.name}"


@needing("write_tfrecords")
def write_tfrecords(
    dataset: Dataset, folder: str | os.PathLike, *, records_per_shard: int = 1000, progress: bool = True
) -> Path:
    """Writes a data set as shards `<name>-00000-of-00004.tfrecord` and their index.

    Images are stored as the files they are, without loss; those in memory as PNG. The index is written last: as long
    as it is missing, the folder is not complete.

    Args:
        dataset: `Dataset` with its images.
        folder: where to; made if need be.
        records_per_shard: int. Images per file.
        progress: bool. Whether to show a progress bar.

    Returns:
        Path of the index.

    Raises:
        ValueError: if the data set is empty or was read without its images.
        ImageError, FileNotFoundError: naming the image that cannot be read.
        OSError: naming the shard that cannot be written, as on a full disk.
    """
    if not len(dataset) or records_per_shard < 1:
        raise ValueError(f"There must be images, and at least 1 per shard. Received: {dataset!r}, {records_per_shard=}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)  # It would belong to other shards.
    count = -(-len(dataset) // records_per_shard)
    shards = []
    with progress_bar("images", shown=progress) as bar:
        task = bar.add_task(f"Writing {dataset.name}", total=len(dataset))
        for number in range(count):
            samples = dataset.samples[number * records_per_shard : (number + 1) * records_per_shard]
            path = folder / f"{dataset.name}-{number:05d}-of-{count:05d}.tfrecord"
            shards.append({"file": path.name, "records": _write_shard(path, samples, lambda: bar.advance(task))})
    problems = {what: list(places) for what, places in dataset.problems.items()}
    content = {
        "version": _VERSION,
        "name": dataset.name,
        "skeleton": dataset.skeleton.to_dict(),
        "problems": problems,
        "shards": shards,
    }
    write_file(folder / INDEX, json.dumps(content, default=_as_json))
    return folder / INDEX


@reads(RecordError)
def read_tfrecords(folder: str | os.PathLike) -> Dataset:
    """A data set from shards that `write_tfrecords` has written.

    Args:
        folder: the folder with `index.json`.

    Returns:
        `Dataset`. A damaged record is told when its image is read; `verify_tfrecords` looks at all of them.

    Raises:
        FileNotFoundError: if the index or a shard is missing.
        RecordError: naming the file and the field that is missing or wrong, or the shard that is cut short.
    """
    folder = Path(folder)
    path = folder / INDEX
    content = load_json(path, dict)
    if need(content, "version", str(path)) != _VERSION:
        raise RecordError(f"{path} must be of version {_VERSION}. Received: {content['version']!r}")
    skeleton = _skeleton(need(content, "skeleton", str(path), dict), str(path))
    samples = []
    for shard in need(content, "shards", str(path), list):
        name = need(shard, "file", f"{path}: shards", str)
        need_inside(name, str(path))
        file = folder / name
        if not file.is_file():
            raise FileNotFoundError(f"{path} names a shard that does not exist. Received: {file}")
        records = need(shard, "records", f"{path}: {file.name}", list)
        for number, record in enumerate(records):
            where = f"{path}: {file.name}, record {number}"
            with reading(RecordError, where, "The record's entry in the index"):
                samples.append(_sample(record, file, number, skeleton.num_joints, where))
        if samples and (size := file.stat().st_size) < (end := samples[-1].source.start + samples[-1].source.length):
            whole = sum(record["start"] + record["length"] <= size for record in records)
            raise RecordError(
                f"{file} is cut short: record {whole} is not complete. Received: {size} bytes, not {end} or more"
            )
    problems = {what: tuple(places) for what, places in content.get("problems", {}).items()}
    return Dataset(need(content, "name", str(path), str), skeleton, tuple(samples), problems)


def verify_tfrecords(folder: str | os.PathLike, *, progress: bool = True) -> list[str]:
    """Reads every record and compares checksums.

    Args:
        folder: the folder with `index.json`.
        progress: bool. Whether to show a progress bar.

    Returns:
        One line for each damaged record, naming file and record number; empty if all is well.
    """
    dataset = read_tfrecords(folder)
    damaged = []
    with progress_bar("images", shown=progress) as bar:
        task = bar.add_task(f"Checking {dataset.name}", total=len(dataset))
        for sample in dataset:
            try:
                _source_of(sample).read_bytes()
            except ImageError as error:
                damaged.append(str(error))
            bar.advance(task)
    return damaged


def _write_shard(path: Path, samples: tuple[Sample, ...], advance: Callable[[], None]) -> list[dict]:
    import tensorflow as tf

    records, position = [], 0
    try:
        with replacing(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
            for sample in samples:
                image, size = _encoded(sample)
                record = _record(sample, size)
                content = _example(tf, image, record).SerializeToString()
                writer.write(content)
                start = position + _HEADER
                place = {"start": start, "length": len(content), "checksum": zlib.crc32(content)}
                records.append({**record, **place, "image": [content.index(image), len(image)]})
                position = start + len(content) + 4
                advance()
    except tf.errors.OpError as error:
        raise OSError(f"The shard cannot be written ({error.message}). Received: {path}") from error
    return records


def _encoded(sample: Sample) -> tuple[bytes, tuple[int, int]]:
    """The image as a file, and its size, after it was seen that it can be read."""
    pixels = sample.read()
    size = (pixels.shape[1], pixels.shape[0])
    if isinstance(sample.source, np.ndarray):
        return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes(), size
    if isinstance(sample.source, bytes):
        return sample.source, size
    return _source_of(sample).read_bytes(), size


def _source_of(sample: Sample) -> ArchiveMember | Path:
    if isinstance(sample.source, ArchiveMember):
        return sample.source
    if isinstance(sample.source, (str, os.PathLike)):
        return Path(sample.source)
    raise ValueError(f"Images are files or arrays. Received: {type(sample.source).__name__}")


def _record(sample: Sample, size: tuple[int, int]) -> dict[str, Any]:
    """A sample as plain values."""
    persons = [
        {
            "joints": person.joints.tolist(),
            "box": person.box.tolist(),
            "area": person.area,
            "is_crowd": person.is_crowd,
            "head_size": person.head_size,
            "segmentation": person.segmentation,
            "person_id": person.person_id,
        }
        for person in sample.persons
    ]
    return {"image_id": sample.image_id, "image_size": list(size), "persons": persons}


def _example(tf: Any, image: bytes, record: dict[str, Any]) -> Any:
    """The record for TensorFlow. Features follow its object detection tools, joints are flat (persons, K, 3)."""
    persons = record["persons"]

    def floats(values: Any) -> Any:
        return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(values)))

    def integers(values: Any) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=np.ravel(values).astype(np.int64)))

    def texts(*values: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    features = {
        "image/encoded": texts(image),
        "image/source_id": texts(str(record["image_id"]).encode()),
        "image/width": integers(record["image_size"][:1]),
        "image/height": integers(record["image_size"][1:]),
        "person/joints": floats([person["joints"] for person in persons]),
        "person/box": floats([person["box"] for person in persons]),
        "person/area": floats([person["area"] for person in persons]),
        "person/is_crowd": integers([person["is_crowd"] for person in persons]),
        "person/json": texts(json.dumps(persons, default=_as_json).encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def _sample(record: dict, file: Path, number: int, joints: int, where: str) -> Sample:
    places = {key: need(record, key, where, int) for key in ("start", "length", "checksum")}
    first, length = need(record, "image", where, list)
    # What does not lie in its record would be read as another's picture, or from nowhere.
    if not 0 <= first <= first + length <= places["length"] or places["start"] < 0:
        raise RecordError(f"{where} must lie in its shard, and the image in it. Received: {cut(record['image'])}")
    image = RecordImage(file, f"record {number}", image=(first, length), **places)
    size = tuple(need(record, "image_size", where, list))
    if not is_size(size):
        raise RecordError(f"{where} must have width and height in 'image_size'. Received: {cut(size)}")
    entries = need(record, "persons", where, list)
    persons = tuple(_person(entry, size, joints, f"{where}, person {row}") for row, entry in enumerate(entries))
    return Sample(need(record, "image_id", where, (int, str)), image, (size[0], size[1]), persons)


def _person(entry: dict, size: tuple[int, ...], joints: int, where: str) -> Person:
    shapes = {"joints": (joints, 3), "box": (4,), "area": ()}
    values = {key: numbers([entry], key, shape, lambda _: where)[0] for key, shape in shapes.items()}
    head = need(entry, "head_size", where, (int, float, type(None)))
    person = Person(
        values["joints"],
        values["box"],
        float(values["area"]),
        is_crowd=flag(entry, "is_crowd", where),
        head_size=None if head is None else float(head),
        segmentation=entry.get("segmentation") or None,
        person_id=need(entry, "person_id", where, (int, str, type(None))),
    )
    check_segmentation(person, (size[0], size[1]), where)
    return person


def _skeleton(entry: dict, where: str) -> Skeleton:
    known = SKELETONS.get(need(entry, "name", where, str))
    with reading(RecordError, where, "The index's skeleton"):
        read = Skeleton.from_dict(entry)
    if known is None or read == known:
        return known or read
    if read.joint_names != known.joint_names:
        raise RecordError(f"{where}: the joints are not those of {known.name!r}. Received: {cut(read.joint_names)}")
    # The first shards told names and limbs alone.
    return read if "sigmas" in entry else known


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"This cannot be stored in a record. Received: {type(value).__name__}")
