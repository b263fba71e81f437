"""Our weights beside MoveNet MultiPose, the network to beat: accuracy and milliseconds on the same images, in turn.

    python training/own_weights/movenet.py movenet-multipose-384.tflite --people IMAGES ANNOTATIONS

The file is the published one of a fixed square input (uint8), or a conversion of it; none is part of this project.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table

from keras_ehrnet import PosePredictor, Poses
from keras_ehrnet.data import read_coco
from keras_ehrnet.evaluation import oks_average_precision
from keras_ehrnet.geometry import letterbox_geometry
from keras_ehrnet.runtime.engine import usual_threads
from keras_ehrnet.skeletons import COCO_17
from keras_ehrnet.support.terminal import progress_bar
from keras_ehrnet.weights import registry

JOINTS = COCO_17.num_joints


class MoveNet:
    """MoveNet MultiPose as LiteRT runs it: at most six people, fitted whole into a square."""

    def __init__(self, path: Path) -> None:
        self.interpreter = Interpreter(str(path), num_threads=usual_threads())
        self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()

    def __call__(self, image: np.ndarray) -> Poses:
        side = int(self.input["shape"][1])
        height, width = image.shape[:2]
        geometry = letterbox_geometry(width, height, side, side)
        self.interpreter.set_tensor(self.input["index"], geometry.warp(image)[None].astype(self.input["dtype"]))
        self.interpreter.invoke()
        rows = self.interpreter.get_tensor(self.output["index"])[0]
        joints = rows[:, : 3 * JOINTS].reshape(-1, JOINTS, 3)
        points = geometry.to_image(joints[..., 1::-1].astype(np.float64) * side)
        return Poses(np.concatenate([points, joints[..., 2:]], axis=-1), rows[:, -1], skeleton=COCO_17)


def compare(
    people: dict[str, Callable[[np.ndarray], Poses]], images: Path, annotations: Path, limit: int | None
) -> Table:
    """A row of scores and of milliseconds for each way to find people."""
    samples = read_coco(annotations, images).samples[:limit]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in people}
    seconds: dict[str, list[float]] = {name: [] for name in people}
    with progress_bar("images") as progress:
        task = progress.add_task("comparing", total=len(samples))
        for sample in samples:
            image = sample.read()
            for name, find in people.items():
                start = time.perf_counter()
                poses = find(image)
                seconds[name].append(time.perf_counter() - start)
                results[name] += [
                    {
                        "image_id": sample.image_id,
                        "category_id": 1,
                        "score": float(score),
                        "keypoints": joints.ravel().tolist(),
                    }
                    for joints, score in zip(poses.keypoints, poses.scores, strict=True)
                ]
            progress.advance(task)
    table = Table("", "AP", "AP50", "AP75", "AP medium", "AP large", "AR", "ms (median)")
    for name in people:
        scores = oks_average_precision(results[name], annotations, [sample.image_id for sample in samples])
        figures = (scores.ap, scores.ap50, scores.ap75, scores.ap_medium, scores.ap_large, scores.ar)
        table.add_row(name, *(f"{100 * figure:.1f}" for figure in figures), f"{1000 * np.median(seconds[name]):.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("movenet", type=Path, nargs="+", help="MoveNet MultiPose as .tflite")
    parser.add_argument("--people", nargs=2, type=Path, metavar=("IMAGES", "ANNOTATIONS"), required=True)
    parser.add_argument("--model", default=registry.DEFAULT)
    parser.add_argument("--refine", default=registry.DEFAULT_REFINE)
    parser.add_argument("--limit", type=int, help="only so many images")
    options = parser.parse_args()
    people: dict[str, Callable[[np.ndarray], Poses]] = {path.stem: MoveNet(path) for path in options.movenet}
    refined = f"{options.model} refined"
    for name, refine, min_score in (
        (options.model, None, 0.0),
        (refined, options.refine, 0.0),
        (f"{refined}, usual min_score", options.refine, None),
    ):
        people[name] = PosePredictor.load(options.model, refine=refine, min_score=min_score).one
    Console().print(compare(people, *options.people, options.limit))


if __name__ == "__main__":
    main()
