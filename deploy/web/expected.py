"""What Python finds in three pictures, for the browser to be compared with: expected.py FOLDER.

FOLDER receives the pictures as PNG, which every reader decodes alike, and `expected.json`: people by model and picture.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2

import keras_ehrnet as ke
from keras_ehrnet.data.synthetic import Scenes
from keras_ehrnet.images import read_image

ROOT = Path(__file__).parents[2]
MODELS = ("efficientpose-rt-coco", "efficientpose-rt-people")
MIN_SCORE = 0.15
"""Low enough that drawn people, whom the networks have never seen, are found too."""


def pictures() -> dict:
    """An astronaut, and two photographs of COCO where they are at hand, else drawn people."""
    found = {"astronaut": read_image(ROOT / "docs/pictures/astronaut.jpg")}
    photographs = Path(os.environ.get("KERAS_EHRNET_REFERENCE", ROOT.parent / "shared")) / "data/coco_samples/images"
    if photographs.is_dir():
        return found | {name: read_image(photographs / f"{name}.jpg") for name in ("000000000785", "000000197388")}
    scenes = Scenes(image_size=(640, 480), people=(2, 3), turning=0.2)
    return found | {f"drawn-{index}": scenes.render(index)[0] for index in range(2)}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, image in pictures().items():
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
        expected[name] = {
            model: [
                {"score": float(poses.scores[0]), "keypoints": poses.keypoints[0].astype(float).tolist()}
                for poses in ke.PosePredictor.load(model, min_score=MIN_SCORE)(image)
            ]
            for model in MODELS
        }
    content = {"min_score": MIN_SCORE, "pictures": expected}
    (folder / "expected.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
