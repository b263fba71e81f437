"""What was found in every image, kept on disk so that an evaluation goes on where it was interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet.data.annotations import Dataset, Sample
from keras_ehrnet.images import ImageError
from keras_ehrnet.poses import Poses
from keras_ehrnet.support.errors import CheckpointError, reading
from keras_ehrnet.support.files import sha256, why, write_file
from keras_ehrnet.support.messages import warn
from keras_ehrnet.support.terminal import progress_bar

if TYPE_CHECKING:
    from keras_ehrnet.prediction import PosePredictor

Record = dict[str, Any]
PathLike = str | os.PathLike
Predict = Callable[[np.ndarray, Sample], Poses]


def find_people(
    predictor: PosePredictor, dataset: Dataset, predict: Predict, output: PathLike | None, progress: bool
) -> dict[Any, list[Record]]:
    """The people found in every image: as keypoints and score; from the journal where it has them already."""
    journal = Journal(Path(output), _fingerprint(predictor, dataset)) if output else None
    records = dict(journal.records) if journal else {}
    todo = [sample for sample in dataset if sample.image_id not in records]
    unreadable: list[str] = []
    with progress_bar("images", shown=progress) as bar:
        task = bar.add_task(dataset.name, total=len(dataset), completed=len(dataset) - len(todo))
        for sample in todo:
            people = _people(predict, sample, unreadable)
            records[sample.image_id] = people or []
            # An image that could not be read is not done: it may be repaired before the next run.
            if journal and people is not None:
                journal.add(sample.image_id, people)
            bar.advance(task)
    if unreadable:
        warn(
            f"{len(unreadable)} of {len(dataset)} images cannot be read and count as empty, the first: {unreadable[0]}"
        )
    return records


def _people(predict: Predict, sample: Sample, unreadable: list[str]) -> list[Record] | None:
    """The people in an image; None where it cannot be read."""
    try:
        image = sample.read()
    except ImageError as error:
        unreadable.append(str(error))
        return None
    poses = predict(image, sample)
    return [
        {"keypoints": person.astype(float).round(4).tolist(), "score": float(score)}
        for person, score in zip(poses.keypoints, poses.scores, strict=True)
    ]


def _fingerprint(predictor: PosePredictor, dataset: Dataset) -> Record:
    """What must be the same for a journal to be taken up again."""
    settings = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(predictor.settings).items()
    }
    return {
        "model": predictor.network.name,
        "input": list(predictor.network.input_size),
        "settings": settings,
        "weights": predictor.network.digest(),
        "refine": predictor.refine.digest() if predictor.refine else None,
        "data": _digest(dataset),
    }


def _digest(dataset: Dataset) -> str:
    """Checksum of what is asked: images and the joints of their people."""

    def pieces() -> Iterator[bytes]:
        yield dataset.name.encode()
        for sample in dataset:
            yield str(sample.image_id).encode()
            yield from (person.joints.tobytes() for person in sample.persons)

    return f"{dataset.name} {sha256(pieces())}"


class Journal:
    """A file of what was found so far, one image per line, so that nothing is lost when a run is interrupted."""

    def __init__(self, folder: Path, fingerprint: Record) -> None:
        self._path = folder / "journal.jsonl"
        self.records: dict[Any, list[Record]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._read(fingerprint)
            else:
                write_file(self._path, json.dumps(fingerprint) + "\n")
        except OSError as error:
            raise ValueError(f"Results cannot be written ({why(error)}). Received: {folder}") from error

    def _read(self, fingerprint: Record) -> None:
        with reading(CheckpointError, self._path):
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        if not lines or lines[0].rstrip() != json.dumps(fingerprint):
            raise CheckpointError(
                f"{self._path.parent} holds another evaluation ({lines[0].strip() if lines else 'empty'}): choose "
                f"another folder, or delete it. Received: {json.dumps(fingerprint)}"
            )
        # An interruption can cut the last line short; that image is done again.
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            write_file(self._path, "".join(whole))
        for number, line in enumerate(whole[1:], start=2):
            try:
                entry = json.loads(line)
                self.records[entry["image_id"]] = [_checked(person) for person in entry["people"]]
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                raise CheckpointError(
                    f"The journal is damaged in line {number}: delete that line to go on. Received: {self._path}"
                ) from error

    def add(self, image_id: Any, people: list[Record]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"image_id": image_id, "people": people}) + "\n")


def _checked(person: Record) -> Record:
    """A person of a journal; ValueError, TypeError or KeyError where it is none."""
    keypoints, score = np.asarray(person["keypoints"], float), float(person["score"])
    if keypoints.ndim != 2 or keypoints.shape[1] != 3 or not (np.isfinite(keypoints).all() and np.isfinite(score)):
        raise ValueError
    return person
