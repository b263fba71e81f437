"""A second look at everyone who was found, each in a crop of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from keras_ehrnet.geometry import box_around
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.tracking import joint_similarity, similarity

Look = Callable[[np.ndarray, bool], Poses]
"""From boxes, `(N, 4)`, and whether the mirror image is to be seen, to a person for each box in pixels of the image."""

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

SURE_ENOUGH = 0.3
"""The second network's joints are taken if their score is at least this part of the first's: its crop shows more than
the whole image does, but what it shows may be somebody else, or nobody."""

ROUNDS = 2
"""The crop follows the joints that were found in it, so many times at most."""

HOPELESS = 0.5
"""Whoever has less than this part of the score from which on there is somebody is not looked at any more."""

AT_REST = 0.9
"""Intersection over union of a person's boxes from which on another look would show the same."""

SAME_PERSON = 0.7
"""Object keypoint similarity (OKS) above which two results are one person, found twice."""

DOUBTED = 0.4
"""Where the mirror image shows a joint elsewhere, the surer of both places has this part of its score."""


def refined(poses: Poses, look: Look, size: tuple[int, int], min_score: float, mirror: bool = True) -> Poses:
    """Everyone placed anew in their own crop, where that leaves them sure enough, and nobody twice.

    Whoever the first network took together with another is found around the joints that are left over. Where nobody is
    found, the whole image may be one person. Everyone is looked at in the mirror image, too. The numbers above were
    chosen on 160 to 340 images of COCO's training people: most for `efficientpose-i-coco` in the second place, others
    for EfficientPose RT in both.

    Args:
        poses: `Poses` of an image, none left out for a low score.
        look: `Look` of the second network.
        size: tuple (width, height) of the image in pixels.
        min_score: float. Score of a person below which there is nobody.
        mirror: bool. Whether the mirror image is looked at; it cannot be where left and right are not known.

    Returns:
        `Poses`, best first.
    """
    least = HOPELESS * min_score
    people = distinct(_followed(poses, look, _boxes(poses, FOUND_MARGIN), least))
    rest, boxes = _left_over(poses, people)
    people = distinct(together([people, _followed(rest, look, boxes, least)]))
    if mirror:
        people = distinct(_mirrored(people, look, least))
    if (people.scores >= min_score).any():
        return people
    whole = look(np.array([[0.0, 0.0, *size]]), False)
    whole = _followed(whole, look, _boxes(whole, FOUND_MARGIN), least)
    return _mirrored(whole, look, least) if mirror else whole


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


def _followed(poses: Poses, look: Look, boxes: np.ndarray, least: float) -> Poses:
    """Everyone as the crop shows them that follows their joints, beginning with these boxes."""
    rows = np.flatnonzero(_large_enough(boxes))
    for _ in range(ROUNDS):
        if not len(rows):
            break
        anew = look(boxes[rows], False)
        better = _sure_enough(anew, poses, rows)
        rows, anew = rows[better], anew[better]
        poses = _replaced(poses, rows, anew.keypoints, anew.scores)
        moved = _boxes(poses, PLACED_MARGIN)
        worth_it = _large_enough(moved[rows]) & (poses.scores[rows] >= least)
        rows = rows[worth_it & (_overlap(moved[rows], boxes[rows]) < AT_REST)]
        boxes = moved
    return poses


def _mirrored(people: Poses, look: Look, least: float) -> Poses:
    """Everyone by the image and its mirror image together: errors of the one are seldom those of the other."""
    boxes = _boxes(people, PLACED_MARGIN)
    rows = np.flatnonzero(_large_enough(boxes) & (people.scores >= least))
    if not len(rows):
        return people
    twice = look(boxes[rows], True)
    better = _sure_enough(twice, people, rows)
    rows, twice = rows[better], twice[better]
    once = people[rows]
    alike = joint_similarity(once, twice)[np.arange(len(rows)), np.arange(len(rows)), :, None]
    both = np.stack([once.keypoints, twice.keypoints])
    scores = both[..., 2:]
    weights = scores / np.maximum(scores.sum(axis=0), 1e-9)
    mean = np.concatenate([(weights * both[..., :2]).sum(axis=0), scores.mean(axis=0)], axis=-1)
    surer = np.where(scores[0] >= scores[1], *both) * [1, 1, DOUBTED]
    keypoints = alike * mean + (1 - alike) * surer
    return _replaced(people, rows, keypoints, keypoints[..., 2].mean(axis=1))


def _sure_enough(anew: Poses, poses: Poses, rows: np.ndarray) -> np.ndarray:
    return anew.scores >= SURE_ENOUGH * poses.scores[rows]


def _replaced(poses: Poses, rows: np.ndarray, joints: np.ndarray, row_scores: np.ndarray) -> Poses:
    keypoints, scores = poses.keypoints.copy(), poses.scores.copy()
    keypoints[rows], scores[rows] = joints, row_scores
    return replace(poses, keypoints=keypoints, scores=scores)


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
