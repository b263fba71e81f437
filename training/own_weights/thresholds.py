"""From which score on there is somebody: found people against false ones, by score.

    python training/own_weights/thresholds.py efficientpose-rt-coco --people IMAGES ANNOTATIONS --empty FOLDER

A person is found where the best pose has an object keypoint similarity (OKS) of at least 0.5 with somebody labelled.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ehrnet import PosePredictor
from keras_ehrnet.data import read_coco
from keras_ehrnet.images import list_images
from keras_ehrnet.skeletons import COCO_17

FOUND = 0.5


def similarity(joints: np.ndarray, person: np.ndarray, area: float) -> float:
    """COCO's OKS of a pose with an annotated person."""
    labelled = person[:, 2] > 0
    squared = ((joints[:, :2] - person[:, :2]) ** 2).sum(axis=1)[labelled]
    sigmas = np.array(COCO_17.sigmas)[labelled]
    return float(np.exp(-squared / (2 * max(area, 1) * (2 * sigmas) ** 2)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--refine", help="a second model that places everyone anew")
    parser.add_argument("--people", nargs=2, type=Path, metavar=("IMAGES", "ANNOTATIONS"), required=True)
    parser.add_argument("--empty", type=Path, required=True, help="folder of images without people")
    parser.add_argument("--limit", type=int, help="only so many of the images with people")
    options = parser.parse_args()
    predictor = PosePredictor.load(options.model, refine=options.refine, min_score=0.0)
    scores, right = [], []
    for sample in read_coco(options.people[1], options.people[0]).with_people().samples[: options.limit]:
        for pose in predictor(sample.read()):
            best = max(similarity(pose.keypoints[0], person.joints, person.area) for person in sample.targets)
            scores.append(float(pose.scores[0]))
            right.append(best >= FOUND)
    scores, right = np.array(scores), np.array(right)
    empty = [max(map(float, predictor(path).scores), default=0.0) for path in list_images(options.empty)]
    table = Table("score", "right of those found", "found of the right ones", "empty images with a person")
    for threshold in np.arange(0.05, 0.65, 0.05):
        above = scores >= threshold
        table.add_row(
            f"{threshold:.2f}",
            f"{right[above].mean() if above.any() else 1:.3f}",
            f"{(right & above).sum() / max(right.sum(), 1):.3f}",
            f"{sum(score >= threshold for score in empty)} of {len(empty)}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
