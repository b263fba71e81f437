"""Whole evaluations: a predictor over a data set, with progress, results on disk, and going on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from keras_ehrnet.data import read_coco, read_lspet, read_mpii
from keras_ehrnet.data.annotations import Dataset, Sample
from keras_ehrnet.data.coco import CocoContent, check_coco
from keras_ehrnet.evaluation.oks import CocoScores, oks_average_precision
from keras_ehrnet.evaluation.pck import PckScores, pck, pckh, torso_lengths
from keras_ehrnet.images import ImageError
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction import PosePredictor
from keras_ehrnet.skeletons import LSP_14, MPII_16, Skeleton
from keras_ehrnet.support.errors import CheckpointError, reading
from keras_ehrnet.support.files import sha256, why, write_file
from keras_ehrnet.support.messages import cut, suggests_keywords, warn
from keras_ehrnet.support.terminal import progress_bar

Record = dict[str, Any]
PathLike = str | os.PathLike


@suggests_keywords
def coco(
    predictor: PosePredictor,
    images: PathLike,
    annotations: PathLike,
    *,
    boxes: bool | None = None,
    category: int | str | None = None,
    output: PathLike | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> CocoScores:
    """COCO's average precision of a predictor, under its own settings (protocol, mirroring, scales).

    Args:
        predictor: `PosePredictor` of the annotated keypoints: COCO's 17, or any others.
        images: folder of the images.
        annotations: keypoint JSON in COCO's format. Where its joints have no published constants of OKS, those of the
            predictor's skeleton count, or `skeletons.DEFAULT_SIGMA`.
        boxes: bool or None. Whether the network is given the annotated boxes, a person each; None: if it takes
            one person at a time, and is not set to find several.
        category: name or id of the category to score, where several have keypoints; None: the one called person.
        output: folder or None. Receives `results.json` in COCO's format and `scores.json`; run again with the same
            folder, an interrupted evaluation goes on where it stopped.
        limit: int or None. Only so many images.
        progress: bool. Whether to show a progress bar.

    Returns:
        `CocoScores`.

    Raises:
        ValueError: if predictor or annotations have other keypoints, if several categories have keypoints and none of
            them is `person`, or if the folder belongs to another evaluation.
    """
    content = check_coco(annotations, category=category)
    _require_skeleton(predictor, content.skeleton)
    category_id = _scored_category(content)
    dataset = _limited(read_coco(annotations, images, category=category), limit)
    several = predictor.network.multi_person or predictor.settings.multi_person
    top_down = not several if boxes is None else boxes
    predict = _boxed(predictor) if top_down else _whole(predictor)
    records = _records(predictor, dataset, predict, output, progress)
    results = [result for sample in dataset for result in _coco_results(records, sample, category_id)]
    sigmas = content.skeleton.sigmas or predictor.network.skeleton.oks_sigmas
    scores = oks_average_precision(results, content, [sample.image_id for sample in dataset], sigmas)
    _write_results(output, results, scores)
    return scores


@suggests_keywords
def mpii(
    predictor: PosePredictor,
    images: PathLike,
    annotations: PathLike,
    *,
    output: PathLike | None = None,
    limit: int | None = None,
    skip_missing: bool = False,
    progress: bool = True,
) -> PckScores:
    """MPII's PCKh@0.5 and @0.1 of a predictor, every person cut out by its annotated center and scale.

    Args:
        predictor: `PosePredictor` of MPII's 16 keypoints.
        images: folder of the images.
        annotations: JSON of persons.
        output: folder or None. Receives `results.json` and `scores.json`; serves to go on after an interruption.
        limit: int or None. Only so many images.
        skip_missing: bool. Whether to leave out persons whose image is missing.
        progress: bool. Whether to show a progress bar.

    Returns:
        `PckScores`.

    Raises:
        ValueError: if the predictor has other keypoints, or the folder belongs to another evaluation.
    """
    _require_skeleton(predictor, MPII_16)
    dataset = _limited(read_mpii(annotations, images, skip_missing=skip_missing), limit)
    records = _records(predictor, dataset, _boxed(predictor), output, progress)
    predicted = _aligned(records, dataset, MPII_16)
    truth = dataset.joints
    scores = pckh(predicted, truth[..., :2], truth[..., 2], dataset.head_sizes)
    _write_results(output, _all_records(records, dataset), scores)
    return scores


@suggests_keywords
def lspet(
    predictor: PosePredictor,
    images: PathLike | None,
    annotations: PathLike,
    *,
    output: PathLike | None = None,
    limit: int | None = None,
    threshold: float = 0.2,
    progress: bool = True,
) -> PckScores:
    """PCK of a predictor on Leeds Sports Pose extended, relative to the torso, every image being one person.

    Args:
        predictor: `PosePredictor`; joints that its skeleton lacks are not measured.
        images: zip archive or folder; None for the archive beside the annotations.
        annotations: JSON of images.
        output: folder or None. Receives `results.json` and `scores.json`; serves to go on after an interruption.
        limit: int or None. Only so many images.
        threshold: float. Part of the torso's length.
        progress: bool. Whether to show a progress bar.

    Returns:
        `PckScores` over the joints of LSP.

    Raises:
        ValueError: if the folder belongs to another evaluation.
    """
    dataset = _limited(read_lspet(annotations, images), limit)
    records = _records(predictor, dataset, _whole(predictor), output, progress)
    mapping = predictor.network.skeleton.mapping_to(LSP_14)
    predicted = _aligned(records, dataset, predictor.network.skeleton)
    known = np.array([source is not None for source in mapping])
    predicted = predicted[:, [source or 0 for source in mapping]]
    truth = dataset.joints
    # Whether a person counts depends on its labels alone, whatever the predictor can find.
    scores = pck(
        predicted,
        truth[..., :2],
        truth[..., 2] * known,
        torso_lengths(truth[..., :2], truth[..., 2]),
        threshold=threshold,
        skeleton=LSP_14,
    )
    _write_results(output, _all_records(records, dataset), scores)
    return scores


def _require_skeleton(predictor: PosePredictor, skeleton: Skeleton) -> None:
    own = predictor.network.skeleton
    if not own.same_joints(skeleton):
        raise ValueError(
            f"This data set is scored with the joints of {skeleton.name!r}. "
            f"Received: model {predictor.network.name!r} with those of {own.name!r}"
        )


def _scored_category(content: CocoContent) -> int | str:
    """The category whose members a predictor finds; found out before hours are spent on images."""
    if len(content.category_ids) == 1:
        return content.category_ids[0]
    persons = [number for number, name in content.categories.items() if name.lower() == "person"]
    if len(persons) != 1:
        raise ValueError(
            f"Where several categories have keypoints, one of them must be called 'person', or chosen by category=. "
            f"Received: {content.name} with {cut(content.categories)}"
        )
    return persons[0]


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    if limit is None:
        return dataset
    if limit < 1:
        raise ValueError(f"limit must be at least 1. Received: limit={limit}")
    return replace(dataset, samples=dataset.samples[:limit])


Predict = Callable[[np.ndarray, Sample], Poses]


def _whole(predictor: PosePredictor) -> Predict:
    """People in the whole image."""
    return lambda image, sample: cast("Poses", predictor(image))


def _boxed(predictor: PosePredictor) -> Predict:
    """People by the boxes of a sample's targets, one result each, in their order."""

    def predict(image: np.ndarray, sample: Sample) -> Poses:
        return cast("Poses", predictor(image, boxes=np.array([person.box for person in sample.targets])))

    return predict


def _records(
    predictor: PosePredictor, dataset: Dataset, predict: Predict, output: PathLike | None, progress: bool
) -> dict[Any, list[Record]]:
    """The people found in every image: as keypoints and score; from the journal where it has them already."""
    journal = _Journal(Path(output), _fingerprint(predictor, dataset)) if output else None
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


class _Journal:
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


def _coco_results(records: dict[Any, list[Record]], sample: Sample, category_id: int | str) -> list[Record]:
    return [
        {
            "image_id": sample.image_id,
            "category_id": category_id,
            "keypoints": [value for point in person["keypoints"] for value in point],
            "score": person["score"],
        }
        for person in records[sample.image_id]
    ]


def _aligned(records: dict[Any, list[Record]], dataset: Dataset, skeleton: Skeleton) -> np.ndarray:
    """One result for every person to find, `(N, K, 2)`; NaN where there is none or a joint was not found."""
    rows = []
    for sample in dataset:
        people = records[sample.image_id]
        for index in range(len(sample.targets)):
            points = np.full((skeleton.num_joints, 2), np.nan)
            if index < len(people):
                found = np.array(people[index]["keypoints"])
                points = np.where(found[:, 2:] > 0, found[:, :2], np.nan)
            rows.append(points)
    return np.array(rows).reshape(-1, skeleton.num_joints, 2)


def _all_records(records: dict[Any, list[Record]], dataset: Dataset) -> list[Record]:
    return [{"image_id": sample.image_id, "people": records[sample.image_id]} for sample in dataset]


def _write_results(output: PathLike | None, results: list[Record], scores: CocoScores | PckScores) -> None:
    if output is None:
        return
    for name, content in (("results.json", results), ("scores.json", scores.to_dict())):
        path = Path(output) / name
        write_file(path, json.dumps(content))
