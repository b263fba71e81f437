"""Poses in the objects of other libraries and back, without depending on one: supervision, FiftyOne, pandas.

What is made needs the library; what is read is told by its attributes, whichever library or version it is of.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import needing


class People(Protocol):
    """What is passed on of `Poses`; attributes as there."""

    @property
    def keypoints(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def skeleton(self) -> Skeleton: ...

    @property
    def image_size(self) -> tuple[int, int] | None: ...

    @property
    def ids(self) -> np.ndarray | None: ...

    @property
    def xy(self) -> np.ndarray: ...

    @property
    def confidence(self) -> np.ndarray: ...

    def boxes(self, threshold: float = 0.0) -> np.ndarray: ...

    def __len__(self) -> int: ...


_KEYPOINTS, _SCORE, _IDS = "keypoints", "score", "tracker_id"


def _library(name: str, what: str) -> Any:
    with needing(what):
        return import_module(name)


def to_key_points(poses: People) -> Any:
    """`supervision.KeyPoints`; see `Poses.to_supervision`."""
    library = _library("supervision", "Poses.to_supervision")
    # Its annotators take a point at zero for one that is not there.
    xy = np.where(poses.confidence[..., None] > 0, poses.xy, 0)
    result = library.KeyPoints(xy, np.zeros(len(poses), int), poses.confidence.copy())
    result.data.update(_data(poses))
    if hasattr(result, "detection_confidence"):
        result.detection_confidence = poses.scores.copy()
    return result


def to_detections(poses: People, threshold: float) -> Any:
    """`supervision.Detections`; see `Poses.to_detections`."""
    library = _library("supervision", "Poses.to_detections")
    return library.Detections(
        xyxy=poses.boxes(threshold),
        confidence=poses.scores.copy(),
        class_id=np.zeros(len(poses), int),
        tracker_id=None if poses.ids is None else poses.ids.copy(),
        data={**_data(poses), _KEYPOINTS: poses.keypoints.copy()},
    )


def _data(poses: People) -> dict[str, np.ndarray]:
    """What is said of each person besides."""
    ids = {} if poses.ids is None else {_IDS: poses.ids.copy()}
    return {"class_name": np.full(len(poses), poses.skeleton.name), _SCORE: poses.scores.copy(), **ids}


def from_supervision(source: Any, skeleton: Skeleton) -> dict[str, Any]:
    """Keypoints, scores and ids of `supervision.KeyPoints`, or of `Detections` that `to_detections` made."""
    data: Mapping[str, Any] = getattr(source, "data", None) or {}
    if hasattr(source, "xy"):
        xy = np.asarray(source.xy, np.float32)
        xy = xy if xy.size else xy.reshape(0, skeleton.num_joints, 2)
        # Asked in this order: later versions have the older name as well, and warn of it.
        confidence = getattr(source, "keypoint_confidence", None)
        if confidence is None and not hasattr(source, "keypoint_confidence"):
            confidence = getattr(source, "confidence", None)
        confidence = (xy != 0).any(axis=-1) if confidence is None else np.asarray(confidence)
        keypoints = np.concatenate([xy, confidence.reshape(*xy.shape[:2], 1).astype(np.float32)], axis=-1)
        scores = getattr(source, "detection_confidence", None)
    elif _KEYPOINTS in data:
        keypoints, scores = np.asarray(data[_KEYPOINTS], np.float32), source.confidence
    else:
        raise ValueError(
            "Poses are made of supervision's KeyPoints, or of Detections that Poses.to_detections gave. Boxes alone go "
            f"to predictor(image, boxes=detections.xyxy). Received: {type(source).__name__}"
        )
    scores = data.get(_SCORE) if scores is None else scores
    ids = getattr(source, _IDS, None)
    return {
        "keypoints": keypoints,
        "scores": _mean_scores(keypoints) if scores is None else scores,
        "ids": data.get(_IDS) if ids is None else ids,
    }


def _mean_scores(keypoints: np.ndarray) -> np.ndarray:
    """Scores of people whose library has none: the mean of the joints that were found."""
    found = keypoints[..., 2] > 0
    return np.where(found, keypoints[..., 2], 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1)


def to_fiftyone(poses: People) -> Any:
    """`fiftyone.Keypoints`; see `Poses.to_fiftyone`."""
    library = _library("fiftyone", "Poses.to_fiftyone")
    if poses.image_size is None:
        raise ValueError("FiftyOne counts in parts of the image: these poses need image_size. Received: None")
    points = np.where(poses.confidence[..., None] > 0, poses.xy / np.array(poses.image_size), np.nan)
    return library.Keypoints(
        keypoints=[
            library.Keypoint(
                label=poses.skeleton.name,
                points=[tuple(point) for point in points[row].tolist()],
                confidence=poses.confidence[row].tolist(),
                index=None if poses.ids is None else int(poses.ids[row]),
                score=float(poses.scores[row]),
            )
            for row in range(len(poses))
        ]
    )


def from_fiftyone(source: Any, skeleton: Skeleton, image_size: tuple[int, int]) -> dict[str, Any]:
    """Keypoints, scores and ids of `fiftyone.Keypoints`."""
    people = list(source.keypoints)
    counts = {len(person.points) for person in people} - {skeleton.num_joints}
    if counts:
        raise ValueError(
            f"Every person has a point for each of the {skeleton.num_joints} joints of {skeleton.name!r}, NaN where it "
            f"was not found. Received: {counts.pop()} points"
        )
    points = np.array([person.points for person in people], np.float32).reshape(-1, skeleton.num_joints, 2)
    found = np.asarray(np.isfinite(points).all(axis=-1))
    given = [getattr(person, "confidence", None) for person in people]
    sure = np.array([np.ones(skeleton.num_joints) if one is None else one for one in given], np.float32)
    sure = np.where(found, sure.reshape(found.shape), 0)
    xy = np.where(found[..., None], points * np.array(image_size), 0)
    keypoints = np.concatenate([xy, sure[..., None]], axis=-1)
    scores, means = [getattr(person, _SCORE, None) for person in people], _mean_scores(keypoints)
    ids = [getattr(person, "index", None) for person in people]
    return {
        "keypoints": keypoints,
        "scores": [mean if score is None else score for score, mean in zip(scores, means, strict=True)],
        "ids": None if not ids or None in ids else ids,
    }


def columns(poses: People) -> dict[str, Any]:
    """The columns of `Poses.to_pandas`: a row for each joint of each person."""
    people, joints = poses.keypoints.shape[:2]
    table = {
        "person": np.repeat(np.arange(people), joints),
        "joint": list(poses.skeleton.joint_names) * people,
        "x": poses.keypoints[..., 0].ravel(),
        "y": poses.keypoints[..., 1].ravel(),
        "score": poses.confidence.ravel(),
        "person_score": np.repeat(poses.scores, joints),
    }
    return table if poses.ids is None else {**table, "id": np.repeat(poses.ids, joints)}


def to_pandas(poses: People) -> Any:
    """`pandas.DataFrame`; see `Poses.to_pandas`."""
    return _library("pandas", "Poses.to_pandas").DataFrame(columns(poses))


def from_pandas(table: Any, skeleton: Skeleton) -> dict[str, Any]:
    """Keypoints, scores and ids of a table with the columns of `to_pandas`; joints without a row were not found."""
    lacking = [name for name in ("person", "joint", "x", "y", "score") if name not in table]
    if lacking:
        raise ValueError(
            f"A table of poses has the columns person, joint, x, y and score. Received: {list(table)}, "
            f"without {', '.join(lacking)}"
        )
    people, firsts, rows = np.unique(np.asarray(table["person"]), return_index=True, return_inverse=True)
    keypoints = np.zeros((len(people), skeleton.num_joints, 3), np.float32)
    joints = np.array([skeleton.index(name) for name in table["joint"]], int)
    for axis, name in enumerate(("x", "y", "score")):
        keypoints[rows, joints, axis] = np.asarray(table[name])
    scores = np.asarray(table["person_score"])[firsts] if "person_score" in table else _mean_scores(keypoints)
    return {
        "keypoints": keypoints,
        "scores": scores,
        "ids": np.asarray(table["id"])[firsts] if "id" in table else None,
    }
