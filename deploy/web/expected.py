"""What Python finds in three pictures, for the browser to be compared with: expected.py FOLDER.

FOLDER receives the pictures as PNG, which every reader decodes alike, and `expected.json`: people by way to find them
and picture. The folder `networks` beside this file receives those of the package, both as ONNX, and one in int8.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

import keras_ehrnet as ke
from keras_ehrnet.data.synthetic import Scenes
from keras_ehrnet.images import read_image

sys.path.append(str(Path(__file__).parents[1]))
import refining_goldens

ROOT = Path(__file__).parents[2]
NETWORKS = Path(__file__).parent / "networks"
ONE, SEVERAL, EXACT = "efficientpose-rt-coco", "efficientpose-rt-people", "efficientpose-i-coco"
WAYS = {
    "one person": (f"{ONE}.tflite", None),
    "one person, int8": (f"{ONE}-int8.tflite", None),
    "one person, ONNX": (f"{ONE}.onnx", None),
    "several people": (f"{SEVERAL}.tflite", None),
    "several people, ONNX": (f"{SEVERAL}.onnx", None),
    "several people, refined": (f"{SEVERAL}.tflite", f"{ONE}.tflite"),
    "several people, refined as by PosePredictor.load()": (f"{SEVERAL}.tflite", f"{EXACT}.tflite"),
}
"""File of the network, and of the one that looks at everyone again."""
MIN_SCORE = 0.15
"""Low enough that drawn people, whom the networks have never seen, are found too."""


CALIBRATION = 30
"""Drawn people beside the pictures: enough for a file that two runtimes are compared on, no more."""


def pictures() -> dict[str, np.ndarray]:
    """An astronaut, and two photographs of COCO where they are at hand, else drawn people."""
    found = {"astronaut": read_image(ROOT / "docs/pictures/astronaut.jpg")}
    photographs = Path(os.environ.get("KERAS_EHRNET_REFERENCE", ROOT.parent / "shared")) / "data/coco_samples/images"
    if photographs.is_dir():
        return found | {name: read_image(photographs / f"{name}.jpg") for name in ("000000000785", "000000197388")}
    scenes = Scenes(image_size=(640, 480), people=(2, 3), turning=0.2)
    return found | {f"drawn-{index}": scenes.render(index)[0] for index in range(2)}


def make_networks(images: list[np.ndarray]) -> None:
    """The networks that the page is tried with."""
    NETWORKS.mkdir(exist_ok=True)
    for name in (ONE, SEVERAL, EXACT):
        shutil.copy(ROOT / f"keras_ehrnet/weights/packaged/{name}.tflite", NETWORKS)
    for name in (ONE, SEVERAL):
        if not (NETWORKS / f"{name}.onnx").exists():
            ke.export.onnx(name, NETWORKS / f"{name}.onnx", decode="poses", multi_person=name == SEVERAL)
    if not (NETWORKS / f"{ONE}-int8.tflite").exists():
        scenes = Scenes(image_size=(256, 256), people=(1, 1))
        drawn = [scenes.render(index)[0] for index in range(CALIBRATION)]
        ke.export.tflite(ONE, NETWORKS / f"{ONE}-int8.tflite", "int8", "poses", calibration=images + drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="receives pictures and people")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    images = pictures()
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
    make_networks(list(images.values()))
    expected = []
    for way, (network, refine) in WAYS.items():
        second = None if refine is None else NETWORKS / refine
        predictor = ke.PosePredictor.load(NETWORKS / network, refine=second, min_score=MIN_SCORE)
        people = {
            name: [
                {"score": float(person.scores[0]), "keypoints": person.keypoints[0].astype(float).tolist()}
                for person in predictor(image)
            ]
            for name, image in images.items()
        }
        expected.append({"way": way, "network": network, "refine": refine, "people": people})
    refining = refining_goldens.goldens()
    content = {"min_score": MIN_SCORE, "pictures": list(images), "expected": expected, "refining": refining}
    (folder / "expected.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
