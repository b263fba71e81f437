"""Whole evaluations: a predictor over a data set, with progress, results on disk, and going on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np

from keras_ehrnet.data import read_coco, read_lspet, read_mpii
from keras_ehrnet.data.annotations import Dataset, Sample
from keras_ehrnet.data.coco import CocoContent, check_coco
from keras_ehrnet.evaluation.journal import PathLike, Predict, Record, find_people
from keras_ehrnet.evaluation.oks import CocoScores, oks_average_precision
from keras_ehrnet.evaluation.pck import PckScores, pck, pckh, torso_lengths
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import DEFAULT_SIGMA, LSP_14, MPII_16, Skeleton
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.messages import cut, needing, suggestion, suggests_keywords

if TYPE_CHECKING:
    from keras_ehrnet.prediction import PosePredictor

Scores = TypeVar("Scores", CocoScores, PckScores)


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
        predictor: `PosePredictor` of the annotated keypoints: COCO's 17, or any others. Where it has other joints than
            the data, those that both have are scored, which `notes` of the scores tell.
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
        ValueError: if predictor and annotations have no joint in common, if several categories have keypoints and none
            of them is `person`, or if the folder belongs to another evaluation.
    """
    content = check_coco(annotations, category=category)
    shared = _Shared.of(predictor, content.skeleton)
    category_id = _scored_category(content)
    dataset = _limited(read_coco(annotations, images, category=category), limit)
    records = find_people(predictor, dataset, _predict(predictor, boxes)[0], output, progress)
    results = [result for sample in dataset for result in _coco_results(records, sample, category_id, shared)]
    rows, notes = shared.rows, shared.notes
    sigmas = content.skeleton.sigmas
    if sigmas is None:
        sigmas = [0.0 if origin is None else shared.own.oks_sigmas[origin] for origin in shared.origins]
        if shared.own.sigmas is None:
            notes += (f"OKS with a constant of {DEFAULT_SIGMA} for every joint: none was published for them.",)
    scores = oks_average_precision(
        [{**result, "keypoints": np.reshape(result["keypoints"], (-1, 3))[rows]} for result in results],
        content.with_joints(rows),
        [sample.image_id for sample in dataset],
        [sigmas[row] for row in rows],
    )
    return _told(scores, dataset, notes, results, output)


@suggests_keywords
def coco_pck(
    predictor: PosePredictor,
    images: PathLike,
    annotations: PathLike,
    *,
    threshold: float | Sequence[float] = (0.05, 0.1, 0.2),
    reference: Literal["box", "torso"] = "box",
    boxes: bool | None = None,
    category: int | str | None = None,
    output: PathLike | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> PckScores:
    """PCK of a predictor of any keypoints, on annotations in COCO's format: joint by joint, how many are near enough.

    Of people who were found without boxes, those count for the annotated ones that are nearest to them as a whole.

    Args:
        predictor: `PosePredictor`; joints that only one of it and the data has are not measured, which `notes` tell.
        images: folder of the images.
        annotations: keypoint JSON in COCO's format.
        threshold: float, or a sequence of them. Parts of the reference length.
        reference: `"box"`: the longer side of the annotated box, for whatever has joints; `"torso"`: from left shoulder
            to right hip.
        boxes, category, output, limit, progress: as of `coco`.

    Returns:
        `PckScores` over the joints of the data.

    Raises:
        ValueError: if predictor and annotations have no joint in common, there is no torso to measure by, or the folder
            belongs to another evaluation.

    Example:
        >>> from keras_ehrnet import evaluation
        >>> scores = evaluation.coco_pck(predictor, "dogs", "dogs.json")  # doctest: +SKIP
        >>> dict(zip(scores.joint_names, scores.per_joint[-1]))  # doctest: +SKIP
        {'nose': 0.97, 'left_ear': 0.93, 'right_ear': 0.94, 'left_paw': 0.81, 'right_paw': 0.84}
    """
    if reference not in _REFERENCES:
        raise ValueError(f"There is no such reference. {suggestion(reference, _REFERENCES)} Received: {reference!r}")
    dataset = _limited(read_coco(annotations, images, category=category), limit)
    shared = _Shared.of(predictor, dataset.skeleton)
    truth = dataset.joints
    if reference == "torso":
        lengths = torso_lengths(truth[..., :2], truth[..., 2], dataset.skeleton)
    else:
        lengths = np.array([max(person.box[2:] - person.box[:2]) for person in dataset.persons], np.float64)
    predict, top_down = _predict(predictor, boxes)
    records = find_people(predictor, dataset, predict, output, progress)
    predicted = _aligned(records, dataset, shared) if top_down else _matched(records, dataset, shared, lengths)
    scores = pck(predicted, truth[..., :2], truth[..., 2] * shared.known, lengths, threshold, dataset.skeleton)
    return _told(scores, dataset, shared.notes, _all_records(records, dataset), output)


_REFERENCES = ("box", "torso")


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
        predictor: `PosePredictor` of MPII's 16 keypoints; of others those that both have are scored, as `notes` tell.
        images: folder of the images.
        annotations: JSON of persons.
        output: folder or None. Receives `results.json` and `scores.json`; serves to go on after an interruption.
        limit: int or None. Only so many images.
        skip_missing: bool. Whether to leave out persons whose image is missing.
        progress: bool. Whether to show a progress bar.

    Returns:
        `PckScores`.

    Raises:
        ValueError: if the predictor has none of the joints, or the folder belongs to another evaluation.
    """
    shared = _Shared.of(predictor, MPII_16)
    dataset = _limited(read_mpii(annotations, images, skip_missing=skip_missing), limit)
    records = find_people(predictor, dataset, _boxed(predictor), output, progress)
    predicted = _aligned(records, dataset, shared)
    truth = dataset.joints
    scores = pckh(predicted, truth[..., :2], truth[..., 2] * shared.known, dataset.head_sizes)
    return _told(scores, dataset, shared.notes, _all_records(records, dataset), output)


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
    shared = _Shared.of(predictor, LSP_14)
    dataset = _limited(read_lspet(annotations, images), limit)
    records = find_people(predictor, dataset, _whole(predictor), output, progress)
    predicted = _aligned(records, dataset, shared)
    truth = dataset.joints
    # Whether a person counts depends on its labels alone, whatever the predictor can find.
    scores = pck(
        predicted,
        truth[..., :2],
        truth[..., 2] * shared.known,
        torso_lengths(truth[..., :2], truth[..., 2]),
        threshold=threshold,
        skeleton=LSP_14,
    )
    return _told(scores, dataset, shared.notes, _all_records(records, dataset), output)


@dataclass(frozen=True)
class _Shared:
    """What a predictor and a data set have in common.

    Args:
        own: `Skeleton` of the predictor.
        theirs: `Skeleton` of the data.
        origins: tuple. For every joint of the data, the predictor's, or None.
        notes: tuple of str. What is to be told of it.
    """

    own: Skeleton
    theirs: Skeleton
    origins: tuple[int | None, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, predictor: PosePredictor, theirs: Skeleton) -> _Shared:
        own = predictor.network.skeleton
        origins = own.mapping_to(theirs)
        absent = [name for name, origin in zip(theirs.joint_names, origins, strict=True) if origin is None]
        if len(absent) == len(origins):
            raise ValueError(
                f"This data set is scored with the joints of {theirs.name!r}, {cut(list(theirs.joint_names))}. "
                f"Received: model {predictor.network.name!r} with those of {own.name!r}, {cut(list(own.joint_names))}"
            )
        scored, count = len(origins) - len(absent), len(origins)
        told = f"Scored on {scored} of {count} joints: {predictor.network.name} has no {', '.join(absent)}."
        return cls(own, theirs, origins, (told,) if absent else ())

    @property
    def rows(self) -> list[int]:
        """Joints of the data that the predictor has."""
        return [row for row, origin in enumerate(self.origins) if origin is not None]

    @property
    def known(self) -> np.ndarray:
        """The same as a bool array, one value per joint of the data."""
        return np.array([origin is not None for origin in self.origins])

    def points(self, person: Record) -> list[list[float]]:
        """x, y and score of a person's joints in the order of the data; zeros where the predictor has none."""
        return [[0.0] * 3 if origin is None else person["keypoints"][origin] for origin in self.origins]

    def found(self, person: Record) -> np.ndarray:
        """x and y likewise, `(K, 2)`; NaN where the joint was not found."""
        points = np.array(self.points(person))
        return np.where(points[:, 2:] > 0, points[:, :2], np.nan)


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


def _predict(predictor: PosePredictor, boxes: bool | None) -> tuple[Predict, bool]:
    """How people are found, and whether by the annotated boxes."""
    several = predictor.network.multi_person or predictor.settings.multi_person
    top_down = not several if boxes is None else boxes
    return (_boxed(predictor) if top_down else _whole(predictor)), top_down


def _whole(predictor: PosePredictor) -> Predict:
    """People in the whole image."""
    return lambda image, sample: cast("Poses", predictor(image))


def _boxed(predictor: PosePredictor) -> Predict:
    """People by the boxes of a sample's targets, one result each, in their order."""

    def predict(image: np.ndarray, sample: Sample) -> Poses:
        return cast("Poses", predictor(image, boxes=np.array([person.box for person in sample.targets])))

    return predict


def _coco_results(
    records: dict[Any, list[Record]], sample: Sample, category_id: int | str, shared: _Shared
) -> list[Record]:
    return [
        {
            "image_id": sample.image_id,
            "category_id": category_id,
            "keypoints": [value for point in shared.points(person) for value in point],
            "score": person["score"],
        }
        for person in records[sample.image_id]
    ]


def _aligned(records: dict[Any, list[Record]], dataset: Dataset, shared: _Shared) -> np.ndarray:
    """One result for every person to find, `(N, K, 2)`; NaN where there is none or a joint was not found."""
    rows = []
    for sample in dataset:
        people = records[sample.image_id]
        for index in range(len(sample.targets)):
            nobody = np.full((len(shared.origins), 2), np.nan)
            rows.append(shared.found(people[index]) if index < len(people) else nobody)
    return np.array(rows).reshape(-1, len(shared.origins), 2)


@needing("PCK of people found in whole images")
def _matched(records: dict[Any, list[Record]], dataset: Dataset, shared: _Shared, lengths: np.ndarray) -> np.ndarray:
    """The same of people who were found in whole images: each for the annotated person that is nearest as a whole."""
    from scipy.optimize import linear_sum_assignment

    truth, first = dataset.joints, 0
    matched = np.full((*truth.shape[:2], 2), np.nan)
    for sample in dataset:
        rows = slice(first, first + len(sample.targets))
        first = rows.stop
        people = np.array([shared.found(person) for person in records[sample.image_id]])
        if not (len(people) and sample.targets):
            continue
        units = np.where(lengths[rows] > 0, lengths[rows], 1.0)[:, None, None]
        distances = np.linalg.norm(people - truth[rows, None, :, :2], axis=-1) / units
        # Farther than the reference length is as good as nowhere.
        costs = np.where(distances < 1, distances, 1.0) * (truth[rows, None, :, 2] > 0)
        persons, found = linear_sum_assignment(costs.sum(axis=-1))
        matched[first - len(sample.targets) + persons] = people[found]
    return matched


def _all_records(records: dict[Any, list[Record]], dataset: Dataset) -> list[Record]:
    return [{"image_id": sample.image_id, "people": records[sample.image_id]} for sample in dataset]


def _told(
    scores: Scores, dataset: Dataset, notes: tuple[str, ...], results: list[Record], output: PathLike | None
) -> Scores:
    """The scores with what is to be said of them, also as files where an output is named."""
    scores = replace(scores, notes=(*notes, *dataset.report().splitlines()))
    if output is not None:
        for name, content in (("results.json", results), ("scores.json", scores.to_dict())):
            write_file(Path(output) / name, json.dumps(content))
    return scores
