"""Writes what the Kotlin tests compare with: outputs of every layout, pictures and walks, and Python's answers to them.

python deploy/android/goldens.py FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from keras_ehrnet import decode, images, metadata, runtime
from keras_ehrnet.geometry import Geometry, Region
from keras_ehrnet.metadata import Input, Metadata, Output
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction import PosePredictor
from keras_ehrnet.prediction.pipeline import Settings, estimate, whole_geometry
from keras_ehrnet.prediction.tracking import Tracker
from keras_ehrnet.skeletons import COCO_17, MPII_16
from keras_ehrnet.weights import registry

sys.path.append(str(Path(__file__).parents[1]))
import refining_goldens

RANKS, ROWS = 8, 6
LEAST = 0.05  # faint people too: the more there is to compare
PHOTO = Path(__file__).parents[2] / "docs/pictures/astronaut.jpg"


def main(folder: Path) -> None:
    """Fills the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decoded.json").write_text(json.dumps([case for seed in range(8) for case in decoded(seed, folder)]))
    (folder / "letterboxes.json").write_text(json.dumps([case for sizes in SIZES for case in letterbox(*sizes)]))
    (folder / "walk.json").write_text(json.dumps(walk()))
    (folder / "refining.json").write_text(json.dumps(refining_goldens.goldens()))
    models = {name: entry.exported_path for name, entry in registry.packaged().items()}
    ways = [(model, None) for model in models.values()]
    ways += [(models[registry.DEFAULT], models[registry.DEFAULT_REFINE])]
    (folder / "inference.json").write_text(json.dumps([inference(*way) for way in ways]))
    photo = images.read_image(PHOTO)
    (folder / "photo.json").write_text(json.dumps({"sizes": photo.shape[1::-1], "rgb": photo.ravel().tolist()}))


class Shown(SimpleNamespace):
    """A network that gives the same output whatever it is shown."""

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        return {self.decode: self.output}


def decoded(seed: int, folder: Path) -> list[dict]:
    """One output of every layout: a model's file that describes it, its numbers, and the people in them."""
    random = np.random.default_rng(seed)
    nameless = replace(COCO_17, sigmas=None, grouping_order=None)
    layouts = {
        "person": ("efficientpose", "poses", {}, MPII_16, scattered(random, 1, 16, 3)),
        "peaks": ("efficientpose_nas", "peaks", {}, COCO_17, sorted_peaks(random, 17)),
        "people": ("efficientpose", "poses", {"multi_person": True}, COCO_17, rows(random, 17)),
        "grouped people": ("efficienthrnet", "poses", {}, COCO_17, rows(random, 17)),
        "tagged peaks": ("efficienthrnet", "peaks", {}, COCO_17, sorted_peaks(random, 17)),
        "unordered peaks": ("efficienthrnet", "peaks", {}, nameless, sorted_peaks(random, 17)),
    }
    cases = []
    for name, (family, kind, decoder, skeleton, values) in layouts.items():
        output = values[None].astype(np.float32)
        width, height = (int(side) for side in random.integers(30, 900, 2))
        least = float(random.uniform(0, 0.4))
        described = (Output(kind, output.shape),)
        about = Metadata(
            name, family, skeleton, Input(256, 192), described, decode=kind, decoder=decoder, min_score=least
        )
        file = folder / f"{name}-{seed}.tflite"
        file.write_bytes(metadata.append(random.bytes(200), about))
        fields = ("name", "family", "skeleton", "input_size", "decode", "multi_person", "min_score")
        network = Shown(**{field: getattr(about, field) for field in fields}, any_size=False, output=output)
        (found,) = estimate(network, [np.zeros((height, width, 3), np.uint8)], Settings())
        cases.append({"file": file.name, "image": [width, height], "output": output.ravel().tolist(), **listed(found)})
    return cases


def scattered(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Places beyond the borders too, where joints are sometimes found."""
    return random.uniform(-0.1, 1.1, shape).clip(0, 1.05)


def rows(random: np.random.Generator, joints: int) -> np.ndarray:
    table = scattered(random, ROWS, 3 * joints + 5)
    table[-2:] = 0
    return table[np.argsort(-table[:, -1])]


def sorted_peaks(random: np.random.Generator, joints: int) -> np.ndarray:
    """Peaks of four people, some missing; tags scatter enough to be doubtful, scores repeat enough to be equal."""
    peaks = scattered(random, joints, RANKS, 4)
    peaks[..., 2] = random.integers(0, 12, (joints, RANKS)) / 12
    peaks[..., 3] = random.integers(0, 4, (joints, RANKS)) * 1.2 + random.normal(0, 0.3, (joints, RANKS))
    order = np.argsort(-peaks[..., 2], axis=1)
    return np.take_along_axis(peaks, order[..., None], axis=1)


SIZES = [(37, 53, 64, 48), (320, 214, 96, 96), (20, 90, 64, 64), (64, 64, 64, 64), (50, 30, 192, 256), (1, 1, 8, 8)]


def letterbox(width: int, height: int, input_width: int, input_height: int) -> list[dict]:
    """A picture, and the network's input for it: for all of it, a part, and a part that reaches beyond its borders."""
    image = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    whole = decode.letterbox_geometry(width, height, input_width, input_height)
    regions = [Region((0.4 * width, 0.6 * height), (0.31 * width, 0.7 * height)), Region((-1.3, height), (40.5, 16.0))]
    geometries = [whole] + [Geometry.fitting(region, input_width, input_height) for region in regions]
    return [
        {
            "sizes": [width, height, input_width, input_height],
            "region": None if region is None else [*region.center, *region.size],
            "image": image.ravel().tolist(),
            "input": geometry.warp(image).ravel().tolist(),
            "corners": geometry.to_image(np.array([[0.0, 0.0], [input_width / 3, input_height / 2]])).ravel().tolist(),
        }
        for region, geometry in zip([None, *regions], geometries, strict=True)
    ]


def walk() -> dict:
    """People who walk, cross, hide and return, and who they are in every frame."""
    random = np.random.default_rng(5)
    figures = random.uniform(0, 100, (4, 17, 2))
    starts, steps = random.uniform(0, 300, (4, 1, 2)), random.uniform(-8, 8, (4, 1, 2))
    tracker, frames, seconds = Tracker(), [], 0.0
    for time in range(80):
        seconds += random.uniform(0.02, 0.06)
        # Now everybody is found, now nobody for a while, and else some.
        order = random.permutation(4)[: (4, 4, 0, random.integers(0, 5))[time // 10 % 4]]
        xy = (figures + starts + steps * (time - 40))[order] + random.normal(0, 3, (len(order), 17, 2))
        scores = random.uniform(0, 1, (len(order), 17, 1))
        keypoints = np.concatenate([xy, np.where(scores < 0.2, 0, scores)], axis=-1)
        found = tracker(Poses(keypoints, keypoints[..., 2].mean(axis=1), COCO_17), seconds)
        frames.append({**listed(found), "seconds": seconds, "ids": found.ids.tolist()})
    return {"sigmas": list(COCO_17.sigmas or ()), "frames": frames}


def inference(model: Path, refine: Path | None) -> dict:
    """The photograph as a model of the package takes it, and the people whom it, and another beside it, find there."""
    network = runtime.load(model)
    photo = images.read_image(PHOTO)
    pixels = whole_geometry(network, photo).warp(photo)
    found = PosePredictor.load(model, refine=refine, min_score=LEAST)(photo)
    second = None if refine is None else str(refine)
    return {"model": str(model), "refine": second, "input": pixels.ravel().tolist(), "least": LEAST, **listed(found)}


def listed(found: Poses) -> dict:
    return {"keypoints": [person.ravel().tolist() for person in found.keypoints], "scores": found.scores.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="receives what the tests read")
    main(parser.parse_args().folder)
