"""Synthetic people: drawn figures on varied backgrounds, with exact joints. For tests, demos and smoke training.

A figure is a body in three dimensions with random proportions, joint angles and clothes, seen from a random side. Its
parts are convex hulls of circles, drawn from the farthest to the nearest. Left and right can be told apart: by the
face, and because clothes are lighter on the left side of the body than on the right.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_ehrnet.data._figure import Figure, draw_figure, joint_positions, random_figure
from keras_ehrnet.data.annotations import HIDDEN, UNLABELLED, VISIBLE, Dataset, Person, Sample
from keras_ehrnet.images import write_image
from keras_ehrnet.skeletons import COCO_17, Skeleton
from keras_ehrnet.support.files import write_file

_MIN_VISIBLE = 4  # Persons with fewer visible joints are not to be found; they become ignored regions.
_OCCLUDER = 255
_PLACES_TRIED = 4


@dataclass(frozen=True)
class Scenes:
    """Renders images of people. Image i depends on nothing but these values and i.

    Args:
        image_size: tuple (width, height) in pixels.
        people: tuple (int, int). Fewest and most persons per image.
        height: tuple (float, float). Height of a standing person, as parts of the shorter side of the image.
        occluders: int. Most shapes in front of people.
        skeleton: `Skeleton`. Joints to give; those of COCO, MPII and LSP are known.
        seed: int.
        turning: float. How far people turn and tilt: 1 as people do, a quarter of them seen from behind and few upside
            down; 0 everybody upright and seen from the front, which is soon learned.

    Raises:
        ValueError: for sizes or numbers that cannot be, or joints that are not known.

    Example:
        >>> from keras_ehrnet.data.synthetic import Scenes
        >>> sample = Scenes(image_size=(64, 48), seed=1).sample(7)
        >>> sample.read().shape, len(sample.persons) >= 1
        ((48, 64, 3), True)
    """

    image_size: tuple[int, int] = (256, 256)
    people: tuple[int, int] = (1, 4)
    height: tuple[float, float] = (0.45, 0.95)
    occluders: int = 2
    skeleton: Skeleton = COCO_17
    seed: int = 0
    turning: float = 1.0

    def __post_init__(self) -> None:
        if min(self.image_size) < 16:
            raise ValueError(f"Images must have at least 16 pixels a side. Received: image_size={self.image_size!r}")
        if not 0 <= self.people[0] <= self.people[1] <= 60:
            raise ValueError(f"people must be (fewest, most), at most 60. Received: people={self.people!r}")
        if not 0 < self.height[0] <= self.height[1]:
            raise ValueError(f"height must be (low, high), both positive. Received: height={self.height!r}")
        if self.occluders < 0:
            raise ValueError(f"occluders must not be negative. Received: occluders={self.occluders!r}")
        if not 0 <= self.turning <= 1:
            raise ValueError(f"turning must be from 0 to 1. Received: turning={self.turning!r}")
        joint_positions(random_figure(np.random.default_rng(0), (0.0, 0.0), 1.0), self.skeleton)

    def sample(self, index: int) -> Sample:
        """Image number `index`, rendered, with the people in it."""
        image, persons = self.render(index)
        return Sample(index, image, self.image_size, persons)

    def render(self, index: int) -> tuple[np.ndarray, tuple[Person, ...]]:
        """Pixels and people of image number `index`."""
        rng = np.random.default_rng((self.seed, index))
        width, height = self.image_size
        image = _background(rng, width, height)
        # Which figure, by number, or occluder is in front at every pixel; 0 is none.
        front = np.zeros((height, width), np.uint8)
        count = int(rng.integers(self.people[0], self.people[1] + 1))
        figures = sorted(self._figures(rng, count), key=lambda figure: figure.ground)
        for number, figure in enumerate(figures, start=1):
            draw_figure(image, front, number, figure)
        for _ in range(int(rng.integers(self.occluders + 1)) if count else 0):
            _draw_occluder(image, front, rng)
        _finish(image, rng)
        persons = (self._person(figure, number, front) for number, figure in enumerate(figures, start=1))
        return image, tuple(person for person in persons if person is not None)

    def _figures(self, rng: np.random.Generator, count: int) -> list[Figure]:
        places: list[np.ndarray] = []
        for _ in range(count):
            # Of a few places the one farthest from everybody else: people may overlap, but do not pile up.
            across, down = (
                rng.uniform(0.1, 0.9, _PLACES_TRIED),
                np.clip(rng.normal(0.52, 0.1, _PLACES_TRIED), 0.25, 0.8),
            )
            tried = np.stack([across, down], axis=1) * self.image_size
            room = [min((np.hypot(*(place - other)) for other in places), default=0.0) for place in tried]
            places.append(tried[int(np.argmax(room))])
        sizes = min(self.image_size) * rng.uniform(*self.height, count)
        return [random_figure(rng, tuple(place), size, self.turning) for place, size in zip(places, sizes, strict=True)]

    def _person(self, figure: Figure, number: int, front: np.ndarray) -> Person | None:
        ys, xs = np.nonzero(front == number)
        if not len(xs):
            return None  # Wholly covered, or outside of the image: nothing of it is in the picture.
        box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
        joints = self._joints(figure, number, front)
        if np.count_nonzero(joints[:, 2] == VISIBLE) < _MIN_VISIBLE:
            joints = np.zeros_like(joints)
        return Person(joints, box, float(len(xs)), head_size=figure.head_size, person_id=number)

    def _joints(self, figure: Figure, number: int, front: np.ndarray) -> np.ndarray:
        xy, faces_away = joint_positions(figure, self.skeleton)
        inside = np.all((xy >= 0) & (xy < self.image_size), axis=1)
        column, row = np.where(inside[:, None], xy, 0).astype(int).T
        # A joint at the very edge of a limb may lie a pixel outside of what was drawn, on the background.
        covered = ~np.isin(front[row, column], (0, number))
        flags = np.where(covered | faces_away, HIDDEN, VISIBLE)
        flags = np.where(inside, flags, UNLABELLED)
        joints = np.concatenate([xy, flags[:, None]], axis=1)
        return np.where(inside[:, None], joints, 0).astype(np.float32)


def dataset(length: int, *, image_size: tuple[int, int] = (256, 256), seed: int = 0, **scenes: Any) -> Dataset:
    """Synthetic people as a data set in memory.

    Args:
        length: int. Number of images.
        image_size: tuple (width, height) in pixels.
        seed: int. The first n images of two data sets with one seed are the same, whatever their lengths.
        **scenes: Further arguments of `Scenes`.

    Returns:
        `Dataset` whose samples hold their images.

    Raises:
        ValueError: if the length is not positive.

    Example:
        >>> from keras_ehrnet.data import synthetic
        >>> len(synthetic.dataset(3, image_size=(64, 64)))
        3
    """
    if length < 1:
        raise ValueError(f"A data set needs at least one image. Received: length={length!r}")
    source = Scenes(image_size=image_size, seed=seed, **scenes)
    return Dataset("synthetic", source.skeleton, tuple(source.sample(index) for index in range(length)))


def write_coco(
    folder: str | os.PathLike, scenes: Scenes, length: int, *, first: int = 0, suffix: str = ".jpg"
) -> tuple[Path, Path]:
    """Writes synthetic people as COCO has it: `images/` and `person_keypoints.json`.

    The annotations come last and at once: where they are, all images are.

    Args:
        folder: where to; made if need be.
        scenes: `Scenes`. What to render.
        length: int. Number of images.
        first: int. Number of the first image, so that training and validation do not share any.
        suffix: str. `".jpg"` or `".png"`.

    Returns:
        Paths of the annotations and of the folder of images, for `read_coco`.

    Raises:
        ValueError: if the length is not positive, or images cannot be written with this suffix.
        OSError: if the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> from keras_ehrnet.data import read_coco, synthetic
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     len(read_coco(*synthetic.write_coco(folder, synthetic.Scenes(), length=2)))
        2
    """
    if length < 1:
        raise ValueError(f"A data set needs at least one image. Received: length={length!r}")
    folder = Path(folder)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for sample in (scenes.sample(index) for index in range(first, first + length)):
        name = f"{sample.image_id:08d}{suffix}"
        picture = sample.read()
        height, width = picture.shape[:2]
        write_image(images / name, picture)
        entries.append({"id": sample.image_id, "file_name": name, "width": width, "height": height})
        annotations.extend(_annotations(sample, len(annotations) + 1))
    skeleton = scenes.skeleton
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(skeleton.joint_names)}
    category["skeleton"] = [[first + 1, second + 1] for first, second in skeleton.limbs]
    content = {"info": {"description": repr(scenes)}, "images": entries, "annotations": annotations}
    path = folder / "person_keypoints.json"
    write_file(path, json.dumps({**content, "categories": [category]}))
    return path, images


def _annotations(sample: Sample, first_id: int) -> Iterator[dict]:
    for number, person in enumerate(sample.persons):
        left, top, right, bottom = (float(value) for value in person.box)
        yield {
            "id": first_id + number,
            "image_id": sample.image_id,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": [left, top, right - left, bottom - top],
            "area": person.area,
            "num_keypoints": person.num_labelled,
            "keypoints": [round(float(value), 3) for value in person.joints.reshape(-1)],
        }


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A picture of nothing: coarse random colors made smooth, with stripes or shapes on them."""
    cells = int(rng.integers(2, 7))
    base = rng.uniform(30, 225, 3)
    coarse = np.clip(base + rng.normal(0, rng.uniform(5, 60), (cells, cells, 3)), 0, 255).astype(np.uint8)
    smooth = rng.random() < 0.7
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST)
    if rng.random() < 0.3:
        image = cv2.add(image, _weave(rng, width, height))
    scale = max(width, height)
    for _ in range(int(rng.integers(0, 9))):
        color = tuple(float(value) for value in rng.uniform(0, 255, 3))
        x, y = rng.integers(0, width), rng.integers(0, height)
        extent = int(scale * rng.uniform(0.03, 0.3)) + 1
        kind = rng.integers(3)
        if kind == 0:
            cv2.circle(image, (int(x), int(y)), extent // 2, color, -1, cv2.LINE_AA)
        elif kind == 1:
            corner = (int(x + extent), int(y + extent * rng.uniform(0.2, 3)))
            cv2.rectangle(image, (int(x), int(y)), corner, color, -1)
        else:
            other = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            cv2.line(image, (int(x), int(y)), other, color, max(1, extent // 6), cv2.LINE_AA)
    return image


def _weave(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A texture of waves across each other, as cloth, wallpaper or planks have it."""
    waves = []
    for side in (width, height):
        phase = np.arange(side) * rng.uniform(0.05, 1.2) + rng.uniform(0, 2 * np.pi)
        waves.append(rng.uniform(0, 30) * (1 + np.sin(phase)))
    pattern = np.add.outer(waves[1], waves[0]).astype(np.uint8)
    return cv2.merge([pattern] * 3)


def _draw_occluder(image: np.ndarray, front: np.ndarray, rng: np.random.Generator) -> None:
    """A box or disc in front of people, such as furniture would be."""
    height, width = front.shape
    color = tuple(float(value) for value in rng.uniform(0, 255, 3))
    x, y = int(rng.uniform(0, width)), int(rng.uniform(0.2, 1) * height)
    extent = min(width, height) * rng.uniform(0.06, 0.2)
    if rng.random() < 0.5:
        for target, value in ((image, color), (front, _OCCLUDER)):
            cv2.circle(target, (x, y), int(extent / 2), value, -1)
        return
    corner = (int(x + extent), int(y + extent * rng.uniform(0.3, 1.5)))
    for target, value in ((image, color), (front, _OCCLUDER)):
        cv2.rectangle(target, (x, y), corner, value, -1)


def _finish(image: np.ndarray, rng: np.random.Generator) -> None:
    """Light and noise of the whole picture, in place."""
    gain, offset = rng.uniform(0.75, 1.15), rng.uniform(-15, 25)
    cv2.convertScaleAbs(image, dst=image, alpha=gain, beta=offset)
    bits = int(rng.integers(0, 6))
    if bits:
        noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape) >> (8 - bits)
        cv2.add(image, noise, dst=image)
