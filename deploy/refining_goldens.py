"""The second look as Python takes it, for Kotlin and JavaScript to be compared with: numbers, and made-up people."""

from __future__ import annotations

import numpy as np

from keras_ehrnet import geometry
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction import refining
from keras_ehrnet.skeletons import COCO_17

NUMBERS = {
    **{
        name: getattr(refining, name)
        for name in (
            "SEEN", "FOUND_MARGIN", "PLACED_MARGIN", "LEFT_MARGIN", "LEFT_SEEN", "FEWEST_LEFT", "EXPLAINED",
            "SMALLEST_REFINED", "SURE_ENOUGH", "ROUNDS", "HOPELESS", "AT_REST", "SAME_PERSON", "DOUBTED",
        )
    },
    "BOX_MARGIN": geometry.BOX_MARGIN,
    "SMALLEST_REGION": geometry.SMALLEST_REGION,
}  # fmt: skip
"""Names as in Python -> what they are there."""

SIZE = (640, 480)
MIN_SCORE = 0.3


def goldens(count: int = 40) -> dict:
    """Numbers, and cases: people as a first network may find them, what a second one sees, and who is left then."""
    cases = [_case(np.random.default_rng(seed)) for seed in range(count)]
    return {"numbers": NUMBERS, "size": SIZE, "min_score": MIN_SCORE, "sigmas": COCO_17.oks_sigmas, "cases": cases}


def _case(random: np.random.Generator) -> dict:
    found = _found(random)
    looks, known = [], list(found)

    def look(boxes: np.ndarray, mirrored: bool) -> Poses:
        people = [_again(box, known, random) if mirrored else _seen(box, random) for box in boxes]
        known.extend(people)
        for box, person in zip(boxes, people, strict=True):
            region = geometry.box_region(box)
            looks.append({"region": [*region.center, *region.size], "mirrored": mirrored, **_listed(person)[0]})
        return Poses(
            np.concatenate([each.keypoints for each in people]),
            np.concatenate([each.scores for each in people]),
            COCO_17,
        )

    left = refining.refined(found, look, SIZE, MIN_SCORE)
    return {"people": _listed(found), "looks": looks, "refined": _listed(left)}


def _found(random: np.random.Generator) -> Poses:
    """Nobody to four: large and tiny ones, some known by a joint or two, some found twice, some of faint score."""
    count = int(random.integers(0, 4))
    places = random.uniform(0, 1, (count, 17, 2)) * random.choice([3.0, 90.0, 250.0], (count, 1, 1))
    scores = random.uniform(0, 1, (count, 17, 1)) * random.choice([0.12, 1.0], (count, 1, 1))
    keypoints = np.concatenate([places + random.uniform(0, 400, (count, 1, 2)), scores], axis=-1)
    keypoints[..., 2] *= keypoints[..., 2] > 0.02
    if count and random.uniform() < 0.5:
        twin = keypoints[:1] + np.array([*random.uniform(-3, 3, 2), 0])
        keypoints = np.concatenate([keypoints, twin])
    persons = random.uniform(0.0, 0.6, len(keypoints))
    order = np.argsort(-persons)
    return Poses(keypoints[order].reshape(-1, 17, 3), persons[order], COCO_17)


def _seen(box: np.ndarray, random: np.random.Generator) -> Poses:
    """Somebody who fills the middle of a box, or lies beside it, so that the next look is elsewhere, or not needed."""
    low, high = np.asarray(box[:2], float), np.asarray(box[2:], float)
    spread = random.uniform(0, 1, (17, 2))
    spread[:2] = [[0, 0], [1, 1]]
    margin = random.choice([0.1159, 0.3])  # The first leads to the same box again.
    moved = random.choice([0.0, 0.2]) * random.uniform(-1, 1, 2)
    places = low + (margin + (1 - 2 * margin) * spread + moved) * (high - low)
    scores = random.uniform(0.11, 1, (17, 1))
    return Poses(np.concatenate([places, scores], axis=1)[None], random.uniform(0, 0.7, 1), COCO_17)


def _again(box: np.ndarray, known: list[Poses], random: np.random.Generator) -> Poses:
    """Whoever fills a box best, some joints where they were, some elsewhere, some surer than before."""
    person = min(known, key=lambda each: np.abs(refining.box_around(each.xy[0], refining.PLACED_MARGIN) - box).sum())
    apart = random.choice([0.005, 0.3], (17, 1)) * random.uniform(-1, 1, (17, 2)) * (box[2:] - box[:2])
    scores = random.uniform(0.11, 1, (17, 1))
    keypoints = np.concatenate([person.xy[0] + apart, scores], axis=1)
    return Poses(keypoints[None], random.uniform(0, 0.7, 1), COCO_17)


def _listed(poses: Poses) -> list[dict]:
    return [
        {"keypoints": person.keypoints[0].ravel().astype(float).tolist(), "score": float(person.scores[0])}
        for person in poses
    ]
