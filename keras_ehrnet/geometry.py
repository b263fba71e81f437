"""Where an image lies in a network's input: the one affine map, and the one rule for cutting out people.

Coordinates are (x, y) in pixels, pixel centers at +0.5. `resize_geometry` and `letterbox_geometry` say how whole images
enter a network, `box_region` what is shown of a person. Training turns, shifts and mirrors besides, see
`keras_ehrnet.data.augment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from keras_ehrnet.support.errors import ImageError

BOX_MARGIN = 1.25
"""The region around a person is larger than its box by this factor."""

SMALLEST_REGION = 16.0
"""Pixels. The box of a person of whom one joint is known has no area."""

SCALE_UNIT = 200.0
"""Pixels. MPII gives people's heights in this unit, and published evaluations the sizes of regions."""

SUBPIXEL_BITS = 4
"""OpenCV draws at coordinates in sixteenths of a pixel: whole numbers shifted by so many bits."""

_LONGEST = 16  # times the short side: for the largest network, an input of 8192 pixels
_MULTIPLE = 64


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine map from an image to a result of fixed size.

    Args:
        matrix: float64 array of shape `(2, 3)`. From pixels of the image to pixels of the result.
        size: tuple (width, height) of the result.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.geometry import Affine
        >>> twice = Affine(np.array([[2.0, 0, 0], [0, 2, 0]]), (8, 4))
        >>> twice.points(np.array([4, 2])), twice.image(np.ones((2, 4), np.uint8)).shape
        (array([8., 4.]), (4, 8))
    """

    matrix: np.ndarray
    size: tuple[int, int]

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Places in the result, for places in the image: `(..., 2)` to `(..., 2)`."""
        return xy @ self.matrix[:, :2].T + self.matrix[:, 2]

    def image(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The result for an image, black where there is none, written to `out` where given."""
        matrix = self.matrix.copy()
        # OpenCV's pixel centers are at whole numbers.
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
        return cv2.warpAffine(image, matrix, self.size, dst=out, flags=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Region:
    """The part of an image that is to fill a network's input.

    Args:
        center: tuple (x, y) in pixels.
        size: tuple (width, height) in pixels.
    """

    center: tuple[float, float]
    size: tuple[float, float]


def whole_region(width: float, height: float) -> Region:
    """All of an image."""
    return Region((width / 2, height / 2), (width, height))


def box_region(box: np.ndarray, margin: float = BOX_MARGIN) -> Region:
    """What is shown of a person.

    Args:
        box: array of shape `(4,)`: left, top, right, bottom in pixels.
        margin: float. What the box is enlarged by, about its middle.

    Returns:
        `Region`, whose sides are not below `SMALLEST_REGION`.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.geometry import box_region
        >>> box_region(np.array([10, 10, 50, 10]))
        Region(center=(30.0, 10.0), size=(50.0, 16.0))
    """
    left, top, right, bottom = (float(side) for side in box)
    width, height = (max(margin * side, SMALLEST_REGION) for side in (right - left, bottom - top))
    return Region(((left + right) / 2, (top + bottom) / 2), (width, height))


def box_around(points: np.ndarray, margin: float) -> np.ndarray:
    """The box of a person of whom only joints are known, which end before heads, hands and feet do.

    Args:
        points: float array of shape `(P, 2)`, P at least 1. x, y of the joints in pixels.
        margin: float. By which part of the joints' extent, at least a third of the longer one, each side reaches
            further.

    Returns:
        Float array (left, top, right, bottom) of the type of `points`.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.geometry import box_around
        >>> box_around(np.array([[10.0, 50.0], [30.0, 150.0]]), 0.12).tolist()
        [6.0, 38.0, 34.0, 162.0]
    """
    low, high = points.min(axis=0), points.max(axis=0)
    beside = margin * np.maximum(high - low, (high - low).max() / 3)
    return np.concatenate([low - beside, high + beside])


@dataclass(frozen=True)
class Geometry:
    """How an image is placed in a network's input: scaled by one factor about its center.

    Args:
        resized_width: int. Width of the network's input.
        resized_height: int. Height of the network's input.
        center: (x, y). The point of the image that comes to lie in the middle of the input.
        scale_wh: (width, height). Size of the part of the image that fills the input, in units of 200 pixels.
    """

    resized_width: int
    resized_height: int
    center: tuple[float, float]
    scale_wh: tuple[float, float]

    @classmethod
    def fitting(cls, region: Region, input_width: int, input_height: int) -> Geometry:
        """The geometry that shows a region as large as it fits, in the middle of the input."""
        factor = min(input_width / region.size[0], input_height / region.size[1])
        scale_wh = input_width / factor / SCALE_UNIT, input_height / factor / SCALE_UNIT
        return cls(input_width, input_height, region.center, scale_wh)

    @property
    def factor(self) -> float:
        """Pixels of the input per pixel of the image."""
        return self.resized_width / (self.scale_wh[0] * SCALE_UNIT)

    @property
    def affine(self) -> Affine:
        """The map from the image to the input."""
        size = self.resized_width, self.resized_height
        offset = np.array(size) / 2 - self.factor * np.array(self.center)
        return Affine(np.column_stack([np.eye(2) * self.factor, offset]), size)

    @property
    def matrix(self) -> np.ndarray:
        """2x3 matrix from coordinates of the image to coordinates of the input (pixel centers at +0.5)."""
        return self.affine.matrix

    @property
    def inverse(self) -> np.ndarray:
        """2x3 matrix from coordinates of the input back to coordinates of the image."""
        return cv2.invertAffineTransform(self.matrix)

    def to_input(self, xy: np.ndarray) -> np.ndarray:
        """Coordinates of the image, shape `(..., 2)`, as coordinates of the input."""
        return self.affine.points(np.asarray(xy))

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """Coordinates of the input, shape `(..., 2)`, as coordinates of the image.

        For people, `poses.resized((1 / factor, 1 / factor), offset=tuple(inverse[:, 2]))` is the same.
        """
        inverse = self.inverse
        return np.asarray(xy) @ inverse[:, :2].T + inverse[:, 2]

    def warp(self, image: np.ndarray) -> np.ndarray:
        """The network's input, `(resized_height, resized_width, C)`, black where there is no image."""
        return self.affine.image(image)


def resize_geometry(
    image_width: int, image_height: int, input_size: int, scale: float = 1.0, min_scale: float = 1.0
) -> Geometry:
    """How the published evaluation of the bottom-up models sizes an image.

    The short side becomes the input size rounded up to a multiple of 64. The long side follows in proportion, rounded
    up likewise, and is filled by a little more than the image.

    Args:
        image_width: int. Width of the image.
        image_height: int. Height of the image.
        input_size: int. The model's input size.
        scale: float. One of the scales at which the image is looked at.
        min_scale: float. The smallest of these scales: sides are rounded there, so that all scales show the same part.

    Returns:
        `Geometry`.

    Raises:
        ImageError: if the long side is more than 16 times the short one.
        ValueError: if a size or scale is not positive.

    Example:
        >>> from keras_ehrnet import decode
        >>> geometry = decode.resize_geometry(640, 480, input_size=512)
        >>> geometry.resized_width, geometry.resized_height, geometry.to_image([352.0, 256.0])
        (704, 512, array([320., 240.]))
    """
    _require_positive(image_width, image_height, input_size, scale, min_scale)
    short, long = sorted((image_width, image_height))
    if long > _LONGEST * short:
        raise ImageError(
            f"An image's long side may be {_LONGEST} times its short one, which becomes {input_size} pixels of the "
            f"input: cut it into pieces. Received: an image of {image_width}x{image_height}"
        )
    short_input = _rounded_up(min_scale * input_size)
    long_input = _rounded_up(short_input / short * long)
    short_resized, long_resized = (int(side * scale / min_scale) for side in (short_input, long_input))
    sides = (short_resized, short / SCALE_UNIT), (long_resized, long_resized / short_resized * short / SCALE_UNIT)
    (width, scale_w), (height, scale_h) = sides if image_width < image_height else sides[::-1]
    center = float(int(image_width / 2 + 0.5)), float(int(image_height / 2 + 0.5))
    return Geometry(width, height, center, (scale_w, scale_h))


def letterbox_geometry(image_width: int, image_height: int, input_width: int, input_height: int) -> Geometry:
    """How a whole image is fitted into an input of fixed size: as large as possible, centered, the rest black.

    Args:
        image_width: int. Width of the image.
        image_height: int. Height of the image.
        input_width: int. Width of the network's input.
        input_height: int. Height of the network's input.

    Returns:
        `Geometry`.

    Raises:
        ValueError: if a size is not positive.

    Example:
        >>> from keras_ehrnet import decode
        >>> decode.letterbox_geometry(640, 480, 224, 224).to_image([112.0, 28.0])
        array([320.,   0.])
    """
    _require_positive(image_width, image_height, input_width, input_height)
    return Geometry.fitting(whole_region(image_width, image_height), input_width, input_height)


def _rounded_up(length: float) -> int:
    return int((length + _MULTIPLE - 1) // _MULTIPLE * _MULTIPLE)


def _require_positive(*numbers: float) -> None:
    if min(numbers) <= 0:
        raise ValueError(f"Sizes and scales must be positive. Received: {numbers}")
