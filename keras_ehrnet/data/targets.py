"""Training examples: image, joints and mask as the losses want them, made from samples. NumPy and OpenCV only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from keras_ehrnet.data.annotations import Dataset, Sample
from keras_ehrnet.data.augment import (
    Augmentation,
    Warp,
    augmentation,
    half_body_region,
    image_region,
    jitter_colors,
    outlines,
    person_region,
    random_warp,
)
from keras_ehrnet.geometry import BOX_MARGIN

_MOSAIC_CENTRE = (0.3, 0.7)  # Where the four images of a mosaic meet, as parts of the sides.


class Shapes(NamedTuple):
    """Shapes of one example's arrays, as they are named in `Batch`."""

    images: tuple[int, ...]
    joints: tuple[int, ...]
    masks: tuple[int, ...]

    def arrays(self, size: int) -> Batch:
        """Arrays for `size` examples, not filled."""
        images, joints, masks = ((size, *shape) for shape in self)
        return Batch(np.empty(images, np.uint8), np.empty(joints, np.float32), np.empty(masks, np.uint8))


class Batch(NamedTuple):
    """Examples side by side.

    Args:
        images: uint8 array of shape `(B, H, W, 3)`, RGB.
        joints: float32 array of shape `(B, P, K, 3)`. x, y in pixels of these images and visibility, padded with 0.
        masks: uint8 array of shape `(B, h, w)`. 1 where the loss counts.
    """

    images: np.ndarray
    joints: np.ndarray
    masks: np.ndarray


class BatchMaker(Protocol):
    """What makes batches: `Examples` of people, or `LabelledExamples` of classes. Methods as of the former."""

    def __len__(self) -> int: ...

    def shapes(self) -> Shapes: ...

    def empty(self, size: int) -> Batch: ...

    def batch(self, numbers: Sequence[tuple[int, int]] | np.ndarray, out: Batch | None = None) -> Batch: ...


@dataclass(frozen=True, eq=False)
class Examples:
    """Makes examples of a data set. The same seed, epoch and index give the same example, on every machine.

    Args:
        dataset: `Dataset` with its images.
        input_size: tuple (height, width) of the network's input.
        augmentation: `Augmentation`, or a name of `AUGMENTATIONS`.
        top_down: bool. Whether an example is one person, cut out by its box, rather than an image.
        max_people: int. P, persons per image. Where there are more, the smallest are masked.
        mask_stride: int. Pixels of the input per cell of the mask.
        margin: float. What a person's box is enlarged by (top-down only).
        seed: int.

    Raises:
        ValueError: if there is nobody to find in the data set, it was read without its images, or images are to be
            mirrored while a joint has no counterpart on the other side.

    Example:
        >>> from keras_ehrnet.data import synthetic
        >>> from keras_ehrnet.data.targets import Examples
        >>> examples = Examples(synthetic.dataset(4, seed=3), (128, 128), "efficienthrnet")
        >>> [array.shape for array in examples.batch([(0, 1), (0, 2)])]
        [(2, 128, 128, 3), (2, 30, 17, 3), (2, 32, 32)]
    """

    dataset: Dataset
    input_size: tuple[int, int]
    augmentation: Augmentation | str = "none"
    top_down: bool = False
    max_people: int = 30
    mask_stride: int = 4
    margin: float = BOX_MARGIN
    seed: int = 0
    samples: tuple[Sample, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.change.flip > 0:
            _ = self.dataset.skeleton.flip_permutation  # Refused now, rather than with the first mirrored image.
        if not self.dataset.num_persons:
            raise ValueError(f"There is nobody to train on: no person has labelled joints. Received: {self.dataset!r}")
        if any(sample.source is None for sample in self.dataset):
            raise ValueError(f"The data set was read without its images. Received: {self.dataset!r}")
        for name in ("max_people", "mask_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={getattr(self, name)!r}")
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise ValueError(f"input_size must be (height, width). Received: {self.input_size!r}")
        dataset = self.dataset.per_person() if self.top_down else self.dataset
        object.__setattr__(self, "samples", dataset.samples)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def change(self) -> Augmentation:
        """How much images are changed at random."""
        return augmentation(self.augmentation)

    def report(self) -> str:
        """What the data set's reader corrected or left out, what `max_people` masks, what mirroring leaves in place."""
        crowded = [str(sample.image_id) for sample in self.samples if len(sample.targets) > self.max_people]
        lines = [self.dataset.report()] if self.dataset.report() else []
        if crowded:
            lines.append(
                f"{self.dataset.name}: images with more than {self.max_people} persons, the smallest masked: "
                f"{len(crowded)} ({', '.join(crowded[:5])}{', ...' if len(crowded) > 5 else ''})"
            )
        skeleton = self.dataset.skeleton
        stays = skeleton.flip_pairs is None and self.change.flip > 0 and skeleton.num_joints > 1
        if stays and not skeleton.knows_sides:
            lines.append(
                f"{self.dataset.name}: mirrored images keep every joint in its place, as no name says left or right: "
                "where some have a side, name the pairs in flip_pairs"
            )
        return "\n".join(lines)

    def shapes(self) -> Shapes:
        """Shapes of one example's image, joints and mask."""
        height, width = self.input_size
        people = 1 if self.top_down else self.max_people
        mask = tuple(-(-side // self.mask_stride) for side in self.input_size)
        return Shapes((height, width, 3), (people, self.dataset.skeleton.num_joints, 3), mask)

    def empty(self, size: int) -> Batch:
        """Arrays for `size` examples, not filled."""
        return self.shapes().arrays(size)

    def batch(self, numbers: Sequence[tuple[int, int]] | np.ndarray, out: Batch | None = None) -> Batch:
        """Makes examples.

        Args:
            numbers: B pairs of epoch and index of the sample.
            out: `Batch` of at least that many examples to write to.

        Returns:
            `Batch` of B examples.

        Raises:
            FileNotFoundError: naming the image file that is missing.
            ImageError: naming the image file that is damaged.
        """
        batch = Batch(*(array[: len(numbers)] for array in (out or self.empty(len(numbers)))))
        for row, (epoch, index) in enumerate(numbers):
            rng = np.random.default_rng((self.seed, int(epoch), int(index)))
            image = batch.images[row]
            if not self.top_down and rng.random() < self.change.mosaic:
                joints, mask = self._mosaic(int(index), rng, image)
            else:
                joints, mask = self._example(self.samples[index], rng, image)
            if self.change.changes_colors:
                jitter_colors(image, self.change, rng)
            batch.joints[row] = _padded(joints, batch.joints.shape[1])
            batch.masks[row] = mask
        return batch

    def _example(self, sample: Sample, rng: np.random.Generator, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Writes the warped image to `out`, which may be a part of a larger image; returns its joints and mask."""
        image = sample.read()
        warp = self._warp(sample, image, rng, (out.shape[1], out.shape[0]))
        if out.flags.c_contiguous:
            warp.image(image, out)
        else:
            out[:] = warp.image(image)
        people = sorted(sample.targets, key=lambda person: -person.area)
        mask = warp.mask(sample, self.mask_stride)
        for person in people[self.max_people :]:
            warp.erase(mask, outlines(person), self.mask_stride)
        joints = np.stack([person.joints for person in people[: self.max_people]]) if people else _nobody(self.dataset)
        return warp.joints(joints, self.dataset.skeleton), mask

    def _warp(self, sample: Sample, image: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> Warp:
        region = None
        if self.top_down:
            person = sample.persons[0]
            if rng.random() < self.change.half_body:
                region = half_body_region(person, self.dataset.skeleton, rng, self.margin)
            region = region or person_region(person, self.margin)
        else:
            region = image_region((image.shape[1], image.shape[0]), self.change.short_side)
        return random_warp(self.change, region, size, rng)

    def _mosaic(self, index: int, rng: np.random.Generator, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Four images in the corners of one, each with its own warp."""
        stride, (height, width) = self.mask_stride, self.input_size
        low, high = _MOSAIC_CENTRE
        # The images meet at a multiple of the stride, so that every cell of the mask belongs to one of them.
        x, y = (int(side * rng.uniform(low, high)) // stride * stride for side in (width, height))
        members = [index, *rng.integers(len(self), size=3)]
        corners = [(top, left) for top in (slice(0, y), slice(y, height)) for left in (slice(0, x), slice(x, width))]
        all_joints, mask = [], np.ones(self.shapes().masks, np.uint8)
        for member, (rows, columns) in zip(members, corners, strict=True):
            joints, part = self._example(self.samples[member], rng, out[rows, columns])
            joints[..., :2] += np.where(joints[..., 2:] > 0, (columns.start, rows.start), 0)
            all_joints.append(joints)
            top, left = rows.start // stride, columns.start // stride
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return np.concatenate(all_joints), mask


def _nobody(dataset: Dataset) -> np.ndarray:
    return np.zeros((0, dataset.skeleton.num_joints, 3), np.float32)


def _padded(joints: np.ndarray, max_people: int) -> np.ndarray:
    """Persons with a labelled joint, at most `max_people` of them, and zeros after them."""
    seen = joints[(joints[..., 2] > 0).any(axis=1)][:max_people]
    padded = np.zeros((max_people, *joints.shape[1:]), np.float32)
    padded[: len(seen)] = seen
    return padded
