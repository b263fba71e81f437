"""A second look at everyone who was found, each in a crop of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from keras_ehrnet.geometry import box_around
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.tracking import joint_similarity, similarity

SEEN = 0.1
"""Joints below this score do not count for the box around a person."""

FOUND_MARGIN = 0.3
"""A person's box reaches further than the joints that the first network found, which may be a part of them, by this
part of their extent on each side;"""

PLACED_MARGIN = 0.15
"""and by this part than those that the second network has placed."""

LEFT_MARGIN = 1.2
"""Joints that the first network took for a person's, where the second has placed nobody's, may be somebody else's: the
box around them reaches so much further;"""

LEFT_SEEN = 0.05
"""joints below this score do not count for it,"""

FEWEST_LEFT = 2
"""nor fewer of them than these."""

EXPLAINED = 0.1
"""What a joint must add to the object keypoint similarity with somebody who is placed to be theirs."""

SMALLEST_REFINED = 8.0
"""Pixels. Whoever is smaller is not looked at again: there is nothing more to be seen."""

SURE_ENOUGH = 0.5
"""The second network's joints are taken if their score is at least this part of the first's: its crop shows more than
the whole image does, but what it shows may be somebody else, or nobody."""

ROUNDS = 3
"""The crop follows the joints that were found in it, so many times at most."""

AT_REST = 0.9
"""Intersection over union of a person's boxes from which on another look would show the same."""

SAME_PERSON = 0.7
"""Object keypoint similarity (OKS) above which two results are one person, found twice."""


def refined(poses: Poses, look: Callable[[np.ndarray], Poses], size: tuple[int, int], min_score: float) -> Poses:
    """Everyone placed anew in their own crop, where that leaves them sure enough, and nobody twice.

    Whoever the first network took together with another is found around the joints that are left over. Where nobody is
    found, the whole image may be one person. The numbers above were chosen on 160 to 340 images of COCO's training
    people: the margins and what is left over for `efficientpose-i-coco` in the second place, others for EfficientPose
    RT in both.

    Args:
        poses: `Poses` of an image, none left out for a low score.
        look: callable of boxes, `(N, 4)`, that gives a person for each of them, in their order.
        size: tuple (width, height) of the image in pixels.
        min_score: float. Score of a person below which there is nobody.

    Returns:
        `Poses`, best first.
    """
    people = distinct(_followed(poses, look, _boxes(poses, FOUND_MARGIN)))
    rest, boxes = _left_over(poses, people)
    people = distinct(together([people, _followed(rest, look, boxes)]))
    if (people.scores >= min_score).any():
        return people
    whole = look(np.array([[0.0, 0.0, *size]]))
    return distinct(_followed(whole, look, _boxes(whole, FOUND_MARGIN)))


def _left_over(poses: Poses, people: Poses) -> tuple[Poses, np.ndarray]:
    """Joints that nobody who is placed explains, as people of whom nothing else is known: any other is surer.

    With the boxes around them.
    """
    left = (poses.confidence > LEFT_SEEN) & ~(joint_similarity(people, poses) > EXPLAINED).any(axis=0)
    rest = replace(poses, keypoints=poses.keypoints * left[..., None], scores=np.zeros(len(poses)))
    rest = rest[left.sum(axis=1) >= FEWEST_LEFT]
    boxes = _boxes(rest, LEFT_MARGIN, LEFT_SEEN)
    large = _large_enough(boxes)
    return rest[large], boxes[large]


def _followed(poses: Poses, look: Callable[[np.ndarray], Poses], boxes: np.ndarray) -> Poses:
    """Everyone as the crop shows them that follows their joints, beginning with these boxes."""
    rows = np.flatnonzero(_large_enough(boxes))
    for _ in range(ROUNDS):
        if not len(rows):
            break
        anew = look(boxes[rows])
        better = anew.scores >= SURE_ENOUGH * poses.scores[rows]
        rows, anew = rows[better], anew[better]
        keypoints, scores = poses.keypoints.copy(), poses.scores.copy()
        keypoints[rows], scores[rows] = anew.keypoints, anew.scores
        poses = replace(poses, keypoints=keypoints, scores=scores)
        moved = _boxes(poses, PLACED_MARGIN)
        rows = rows[_large_enough(moved[rows]) & (_overlap(moved[rows], boxes[rows]) < AT_REST)]
        boxes = moved
    return poses


def distinct(poses: Poses) -> Poses:
    """The people without those who are the same as a surer one; best first.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import Poses, skeletons
        >>> from keras_ehrnet.prediction.refining import distinct
        >>> joints = np.random.default_rng(0).uniform(1, 99, (17, 3))
        >>> twice = Poses(np.stack([joints, joints + 0.5]), np.array([0.4, 0.6]), skeletons.COCO_17)
        >>> distinct(twice).scores
        array([0.6], dtype=float32)
    """
    poses = poses[np.argsort(-poses.scores, kind="stable")]
    alike = similarity(poses, poses) > SAME_PERSON
    kept: list[int] = []
    for index in range(len(poses)):
        if not alike[kept, index].any():
            kept.append(index)
    return poses[np.array(kept, int)]


def together(people: Sequence[Poses]) -> Poses:
    """All people of several results, of the same joints, as one."""
    keypoints = np.concatenate([poses.keypoints for poses in people])
    return Poses(keypoints, np.concatenate([poses.scores for poses in people]), people[0].skeleton)


def _boxes(poses: Poses, margin: float, seen: float = SEEN) -> np.ndarray:
    """The boxes of people of whom joints are known, `(N, 4)`."""
    return np.array([_box_of_joints(keypoints, margin, seen) for keypoints in poses.keypoints]).reshape(-1, 4)


def _box_of_joints(keypoints: np.ndarray, margin: float, seen: float) -> np.ndarray:
    is_seen = keypoints[:, 2] > seen
    return box_around(keypoints[is_seen if is_seen.sum() > 1 else slice(None), :2], margin)


def _large_enough(boxes: np.ndarray) -> np.ndarray:
    return np.all(boxes[:, 2:] - boxes[:, :2] >= SMALLEST_REFINED, axis=1)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes with others, one by one."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    area, other_area = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    return shared / np.maximum(area + other_area - shared, 1e-9)
