"""Labels for pictures nobody has labelled: a predictor as the teacher of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.geometry import box_around
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.predictor import FileResult
from keras_ehrnet.skeletons import Skeleton

LABEL_MARGIN = 0.12
"""By how much of its size the box around joints grows on each side to hold the person."""

LABELLED, UNLABELLED = 2, 0


@dataclass(frozen=True)
class Trust:
    """Whom and what to believe.

    Args:
        sure: float. Score from which on a person is a label.
        faint: float. Persons between this score and `sure` are marked as crowds, which training masks: there may be
            somebody.
        joint: float. Joints below this score count as unlabelled.
        min_joints: int. Persons with fewer labelled joints are marked as crowds, too.

    Raises:
        ValueError: if `faint` is above `sure`.
    """

    sure: float = 0.35
    faint: float = 0.15
    joint: float = 0.3
    min_joints: int = 4

    def __post_init__(self) -> None:
        if self.faint > self.sure:
            raise ValueError(
                "The score of faint people is at most that of sure ones. "
                f"Received: faint={self.faint}, sure={self.sure}"
            )


def coco_labels(
    results: Iterable[FileResult], folder: Path, skeleton: Skeleton, trust: Trust | None = None
) -> dict[str, Any]:
    """What was found in pictures, as COCO's keypoint annotations.

    Args:
        results: iterable of `FileResult`, as `PosePredictor.files` gives them; unreadable pictures are left out.
        folder: Path that file names are relative to.
        skeleton: `Skeleton` of the predictor.
        trust: `Trust`.

    Returns:
        dict for JSON: `images`, `annotations` and `categories`, for `read_coco` and `keras-ehrnet train`.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from keras_ehrnet import Poses, skeletons
        >>> from keras_ehrnet.prediction import FileResult
        >>> from keras_ehrnet.prediction.labels import coco_labels
        >>> person = np.column_stack([np.random.default_rng(0).uniform(9, 90, (17, 2)), np.ones(17)])
        >>> poses = Poses(person[None], np.array([0.6]), skeletons.COCO_17, (100, 100))
        >>> labels = coco_labels([FileResult(Path("a/1.jpg"), poses)], Path("a"), skeletons.COCO_17)
        >>> labels["images"][0]["file_name"], labels["annotations"][0]["num_keypoints"]
        ('1.jpg', 17)
    """
    trust = trust or Trust()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for result in results:
        if result.poses is None or result.poses.image_size is None:
            continue
        width, height = result.poses.image_size
        name = result.path.relative_to(folder).as_posix()
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        for index in range(len(result.poses)):
            entry = _annotation(result.poses[index], trust)
            if entry is not None:
                numbers = {"id": len(annotations) + 1, "image_id": len(images), "category_id": 1}
                annotations.append({**numbers, **entry})
    category = {
        "id": 1,
        "name": "person",
        "keypoints": list(skeleton.joint_names),
        "skeleton": [[start + 1, end + 1] for start, end in skeleton.limbs],
    }
    return {"images": images, "annotations": annotations, "categories": [category]}


def person_box(points: np.ndarray, image_size: tuple[int, int]) -> list[float]:
    """COCO's box of a person of whom only joints are known.

    Args:
        points: float array of shape `(P, 2)`, P at least 1. x, y of the joints in pixels.
        image_size: (width, height). The box stays inside.

    Returns:
        list of left, top, width and height in pixels, in tenths of a pixel.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.prediction.labels import person_box
        >>> person_box(np.array([[10.0, 50.0], [30.0, 150.0]]), (640, 160))
        [6.0, 38.0, 28.0, 122.0]
    """
    low, high = np.split(box_around(points.astype(float), LABEL_MARGIN), 2)
    low, high = np.maximum(low, 0), np.minimum(high, image_size)
    return [*low.round(1).tolist(), *(high - low).round(1).tolist()]


def _annotation(person: Poses, trust: Trust) -> Mapping[str, Any] | None:
    """One person as an annotation; None for whoever is fainter than faint."""
    score, joints = float(person.scores[0]), person.keypoints[0]
    if score < trust.faint:
        return None
    labelled = joints[:, 2] >= trust.joint
    points = joints[labelled if labelled.any() else joints[:, 2] > 0, :2]
    if not len(points) or person.image_size is None:
        return None
    flags = np.where(labelled, LABELLED, UNLABELLED)
    keypoints = np.column_stack([np.where(labelled[:, None], joints[:, :2], 0), flags])
    is_crowd = score < trust.sure or labelled.sum() < trust.min_joints
    return annotation(keypoints, person_box(points, person.image_size), score, is_crowd)


def annotation(joints: np.ndarray, box: Sequence[float], score: float, is_crowd: bool) -> dict[str, Any]:
    """A person as COCO's files have them, but for numbers.

    Args:
        joints: array of shape `(K, 3)`: x, y and flag, all 0 where a joint is not labelled.
        box: left, top, width and height in pixels.
        score: float in [0, 1].
        is_crowd: bool. Whether the person is only to be masked.
    """
    return {
        "bbox": [*box],
        "area": round(0.6 * box[2] * box[3], 1),
        "iscrowd": int(is_crowd),
        "keypoints": joints.astype(float).round(1).ravel().tolist(),
        "num_keypoints": int((joints[:, 2] > 0).sum()),
        "score": round(score, 4),
    }
