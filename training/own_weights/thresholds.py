"""From which score on there is somebody, and a joint: found ones against false ones, by score.

    python training/own_weights/thresholds.py efficientpose-rt-coco --people IMAGES ANNOTATIONS --empty FOLDER

A person is found where the best pose has an object keypoint similarity (OKS) of at least 0.5 with somebody labelled, a
joint of theirs where its own part of that similarity is at least 0.5. Joints are those of people who are found from the
model's own `min_score` on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ehrnet import PosePredictor
from keras_ehrnet.data import read_coco
from keras_ehrnet.data.annotations import Person
from keras_ehrnet.images import list_images
from keras_ehrnet.skeletons import COCO_17

FOUND = 0.5


def similarities(joints: np.ndarray, person: Person) -> np.ndarray:
    """How near each joint of a pose is to that of an annotated person, in [0, 1]: their mean is COCO's OKS.

    NaN where a joint is not labelled.
    """
    squared = ((joints[:, :2] - person.joints[:, :2]) ** 2).sum(axis=1)
    near = np.exp(-squared / (2 * max(person.area, 1) * (2 * np.array(COCO_17.sigmas)) ** 2))
    return np.where(person.joints[:, 2] > 0, near, np.nan)


def shares(scores: np.ndarray, right: np.ndarray, threshold: float) -> tuple[str, str]:
    """Of those from a score on, the part that is right; of those that are right, the part from that score on."""
    above = scores >= threshold
    return f"{right[above].mean() if above.any() else 1:.3f}", f"{(right & above).sum() / max(right.sum(), 1):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--refine", help="a second model that places everyone anew")
    parser.add_argument("--people", nargs=2, type=Path, metavar=("IMAGES", "ANNOTATIONS"), required=True)
    parser.add_argument("--empty", type=Path, required=True, help="folder of images without people")
    parser.add_argument("--limit", type=int, help="only so many of the images with people")
    options = parser.parse_args()
    predictor = PosePredictor.load(options.model, refine=options.refine, min_score=0.0)
    least = predictor.network.min_score
    scores, right, joints, joint_right, unlabelled = [], [], [], [], []
    for sample in read_coco(options.people[1], options.people[0]).with_people().samples[: options.limit]:
        for pose in predictor(sample.read()):
            near = max((similarities(pose.keypoints[0], person) for person in sample.targets), key=np.nanmean)
            scores.append(float(pose.scores[0]))
            right.append(np.nanmean(near) >= FOUND)
            if right[-1] and scores[-1] >= least:
                labelled = ~np.isnan(near)
                joints.extend(pose.confidence[0, labelled])
                joint_right.extend(near[labelled] >= FOUND)
                unlabelled.extend(pose.confidence[0, ~labelled])
    scores, right, joints, joint_right, unlabelled = map(np.array, (scores, right, joints, joint_right, unlabelled))
    empty = [max(map(float, predictor(path).scores), default=0.0) for path in list_images(options.empty)]
    people = Table("score", "right of those found", "found of the right ones", "empty images with a person")
    parts = Table("score", "right of the joints found", "found of the right joints", "of those not labelled")
    for threshold in np.arange(0.05, 0.65, 0.05):
        falsely = f"{sum(score >= threshold for score in empty)} of {len(empty)}"
        others = f"{(unlabelled >= threshold).mean():.3f}"
        people.add_row(f"{threshold:.2f}", *shares(scores, right, threshold), falsely)
        parts.add_row(f"{threshold:.2f}", *shares(joints, joint_right, threshold), others)
    Console().print(people, parts)


if __name__ == "__main__":
    main()
