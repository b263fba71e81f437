"""Augmentation: one affine warp per image, and one color matrix. Joints and masks follow the warp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from keras_ehrnet.data.annotations import Person, Sample, joints_box
from keras_ehrnet.data.masks import crowd_mask
from keras_ehrnet.geometry import SUBPIXEL_BITS, Affine, Region, box_region, whole_region
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import suggestion

_LOWER_BODY = ("hip", "knee", "ankle", "pelvis")
_HALF_BODY_JOINTS = 8  # Only persons with more labelled joints than this are cut in half.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# Principal axes of ImageNet's colors in columns, and the deviations along them (Krizhevsky et al. 2012), of 255.
_COLOR_AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_COLOR_DEVIATIONS = np.array([0.2175, 0.0188, 0.0045])


@dataclass(frozen=True)
class Augmentation:
    """How much images are changed at random. Everything is drawn evenly from its range.

    Args:
        rotation: float. Largest rotation in degrees, either way.
        scale: tuple (float, float). Factors of the side of the region that fills the network's input: below 1 people
            get larger.
        translation: float. Largest shift in pixels of the network's input, along each axis.
        flip: float. Probability of mirroring; left and right joints change places.
        short_side: bool. Whether the region is the square of the image's short side, rather than the whole image.
            Regions around one person are that person's box either way.
        half_body: float. Probability of showing only the upper or lower half of a person (top-down only).
        brightness: float. Largest change, as a part of the full range.
        contrast: float. Largest change of the factor 1.
        saturation: float. Largest change of the factor 1.
        hue: float. Largest rotation of colors in degrees.
        aspect: tuple (float, float). Factors of width over height. Drawn from their logarithms.
        pca: float. Deviation of the change along each principal axis of ImageNet's colors, which is multiplied by
            that axis's own deviation.
        mosaic: float. Probability of an image put together from four (bottom-up only).

    Raises:
        ValueError: for probabilities outside of [0, 1], negative ranges, or scales that are not (low, high).

    Example:
        >>> from keras_ehrnet.data.augment import AUGMENTATIONS
        >>> AUGMENTATIONS["efficienthrnet"].scale
        (0.75, 1.5)
    """

    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    translation: float = 0.0
    flip: float = 0.0
    short_side: bool = False
    half_body: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    mosaic: float = 0.0
    aspect: tuple[float, float] = (1.0, 1.0)
    pca: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "half_body", "mosaic"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, from 0 to 1. Received: {name}={getattr(self, name)!r}")
        for name in ("rotation", "translation", "brightness", "contrast", "saturation", "hue", "pca"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative. Received: {name}={getattr(self, name)!r}")
        for name in ("scale", "aspect"):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1]:
                raise ValueError(f"{name} must be (low, high), both positive. Received: {name}={value!r}")

    @property
    def changes_colors(self) -> bool:
        """Whether any of the color ranges is not zero."""
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.pca))


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "efficienthrnet": Augmentation(rotation=30, scale=(0.75, 1.5), translation=40, flip=0.5, short_side=True),
    "efficientpose": Augmentation(rotation=45, scale=(0.75, 1.25), flip=0.5),
    "efficientpose_nas_coco": Augmentation(rotation=45, scale=(0.65, 1.35), flip=0.5, half_body=0.3),
    "efficientpose_nas_mpii": Augmentation(rotation=30, scale=(0.75, 1.25), flip=0.5, half_body=0.3),
    "efficientnet": Augmentation(
        rotation=15, scale=(0.5, 1.0), translation=16, flip=0.5, short_side=True, aspect=(3 / 4, 4 / 3), pca=0.1
    ),
}
"""What the papers use. Of EfficientPose-A/B/C they tell the ranges, not how values are drawn from them; of the compact
EfficientNet, that there are rotation, scale, aspect ratio and jitter along the principal colors, not how much."""


def augmentation(name_or_value: str | Augmentation) -> Augmentation:
    """An augmentation by name, or as it is.

    Raises:
        ValueError: for an unknown name, naming the nearest.
    """
    if isinstance(name_or_value, Augmentation):
        return name_or_value
    if name_or_value not in AUGMENTATIONS:
        raise ValueError(
            f"There is no such augmentation. {suggestion(name_or_value, AUGMENTATIONS)} Received: {name_or_value!r}"
        )
    return AUGMENTATIONS[name_or_value]


@dataclass(frozen=True, eq=False)
class Warp(Affine):
    """An affine change of an image, of its joints and of what counts in the loss.

    Args:
        matrix, size: as of `Affine`.
        flipped: bool. Whether it mirrors.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data.augment import fitting_warp
        >>> from keras_ehrnet.geometry import Region
        >>> warp = fitting_warp(Region((2, 1), (4, 2)), size=(8, 8))
        >>> print(warp.points(np.array([[0, 0], [4, 2]])))
        [[0. 2.]
         [8. 6.]]
    """

    flipped: bool = False

    def joints(self, joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
        """Warped joints `(N, K, 3)`: left and right exchanged where mirrored, unlabelled where outside."""
        if self.flipped:
            joints = joints[:, list(skeleton.flip_permutation)]
        xy = self.points(joints[..., :2])
        inside = (joints[..., 2] > 0) & ((xy >= 0) & (xy < self.size)).all(axis=-1)
        warped = np.concatenate([xy, joints[..., 2:]], axis=-1)
        return np.where(inside[..., None], warped, 0).astype(np.float32)

    def mask(self, sample: Sample, stride: int) -> np.ndarray:
        """What counts in the loss: a uint8 array of the result's size by `stride`, 0 on crowds and unlabelled persons.

        What lies outside of the image is background, and counts. Only the few regions are warped, not a full mask.
        """
        width, height = (-(-side // stride) for side in self.size)
        mask = np.ones((height, width), np.uint8)
        encoded = tuple(person for person in sample.ignored if isinstance(person.segmentation, dict))
        if encoded:
            # Crowds, as run lengths: expanded to the image's size, and warped like it.
            regions = (~crowd_mask(replace(sample, persons=encoded))).view(np.uint8)
            small = replace(self, matrix=self.matrix / stride, size=(width, height))
            mask &= 1 - small.image(regions)
        for person in sample.ignored:
            if not isinstance(person.segmentation, dict):
                self.erase(mask, outlines(person), stride)
        return mask

    def erase(self, mask: np.ndarray, polygons: Sequence[np.ndarray], stride: int) -> None:
        """Sets the inside of polygons, given in pixels of the image, to 0 in a mask of the result."""
        for polygon in polygons:
            corners = (self.points(polygon) / stride - 0.5) * 2**SUBPIXEL_BITS
            cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 0, shift=SUBPIXEL_BITS)


def outlines(person: Person) -> list[np.ndarray]:
    """Polygons `(n, 2)` around a person: its segmentation, or its box where there is none."""
    if person.segmentation:
        return [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in person.segmentation]
    left, top, right, bottom = person.box
    return [np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)]


def image_region(image_size: tuple[int, int], short_side: bool) -> Region:
    """The whole image, or the square of its short side about its middle."""
    region = whole_region(*image_size)
    side = min(image_size)
    return replace(region, size=(side, side)) if short_side else region


def person_region(person: Person, margin: float) -> Region:
    """A person's box, enlarged by a margin such as 1.25."""
    return box_region(person.box, margin)


def half_body_region(person: Person, skeleton: Skeleton, rng: np.random.Generator, margin: float) -> Region | None:
    """The upper or lower half of a person, None where too little of it is labelled."""
    labelled = person.joints[:, 2] > 0
    if np.count_nonzero(labelled) <= _HALF_BODY_JOINTS:
        return None
    lower = np.array([name.endswith(_LOWER_BODY) for name in skeleton.joint_names])
    half = lower if rng.random() < 0.5 else ~lower
    if np.count_nonzero(labelled & half) < 3:
        return None
    return box_region(joints_box(person.joints[half]), 1.2 * margin)


def fitting_warp(region: Region, size: tuple[int, int]) -> Warp:
    """The warp that shows a region as large as it fits, in the middle, without change of its proportions."""
    return random_warp(AUGMENTATIONS["none"], region, size, np.random.default_rng(0))


def random_warp(augmentation: Augmentation, region: Region, size: tuple[int, int], rng: np.random.Generator) -> Warp:
    """A warp that shows a region, changed at random.

    Args:
        augmentation: `Augmentation`. How much.
        region: `Region` of the image.
        size: tuple (width, height) of the result.
        rng: `numpy.random.Generator`. Asked for a number of values that depends on the augmentation alone.

    Returns:
        `Warp`.
    """
    turn, scale, shift_x, shift_y, mirror = rng.random(5)
    angle = np.deg2rad(augmentation.rotation * (2 * turn - 1))
    low, high = augmentation.scale
    fit = min(size[0] / region.size[0], size[1] / region.size[1])
    zoom = fit / (low + (high - low) * scale)
    matrix = np.empty((2, 3))
    matrix[:, :2] = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if augmentation.aspect != (1.0, 1.0):
        stretch = np.exp(rng.uniform(*np.log(augmentation.aspect)) / 2)
        matrix[:, :2] *= (stretch, 1 / stretch)
    shift = augmentation.translation * (2 * np.array([shift_x, shift_y]) - 1)
    matrix[:, 2] = np.array(size) / 2 + shift - matrix[:, :2] @ np.array(region.center)
    flipped = bool(mirror < augmentation.flip)
    if flipped:
        matrix[0] *= -1
        matrix[0, 2] += size[0]
    return Warp(matrix, size, flipped)


def jitter_colors(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> None:
    """Changes brightness, contrast, saturation and hue of a uint8 RGB image in place, all by one color matrix."""
    matrix = color_matrix(augmentation, rng)
    cv2.transform(image, matrix, dst=image)


def color_matrix(augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """The affine map of RGB colors, `(3, 4)`, of a random change."""
    brightness, contrast, saturation, hue = 2 * rng.random(4) - 1
    gray = np.ones((3, 1)) * _LUMINANCE
    saturated = gray + (1 + augmentation.saturation * saturation) * (np.eye(3) - gray)
    # Hue: a rotation about the gray axis.
    angle = np.deg2rad(augmentation.hue * hue)
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    rotation = np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * axis @ axis
    gain = 1 + augmentation.contrast * contrast
    offset = np.full((3, 1), 128 * (1 - gain) + 255 * augmentation.brightness * brightness)
    if augmentation.pca:
        shift = _COLOR_AXES @ (augmentation.pca * rng.standard_normal(3) * _COLOR_DEVIATIONS)
        offset += 255 * shift[:, None]
    return np.concatenate([gain * rotation @ saturated, offset], axis=1)
