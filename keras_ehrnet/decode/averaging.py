"""From the network's outputs to maps that can be decoded, and from the network's pixels back to those of the image.

`resize_geometry` and `letterbox_geometry` say how an image enters a network; `aggregate` puts the outputs for an image,
its mirror image and its other sizes together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from keras_ehrnet.decode.peaks import checked_maps

_MULTIPLE = 64
_PIXEL_STD = 200.0
_CHANNELS_AT_ONCE = 64  # OpenCV limits the channels of an image


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
    def of_region(
        cls, input_width: int, input_height: int, center: tuple[float, float], region: tuple[float, float]
    ) -> Geometry:
        """The geometry that fills the input with a region (width, height in pixels) of the image about `center`."""
        return cls(input_width, input_height, center, (region[0] / _PIXEL_STD, region[1] / _PIXEL_STD))

    @property
    def factor(self) -> float:
        """Pixels of the input per pixel of the image."""
        return self.resized_width / (self.scale_wh[0] * _PIXEL_STD)

    @property
    def matrix(self) -> np.ndarray:
        """2x3 matrix from coordinates of the image to coordinates of the input (pixel centers at +0.5)."""
        middle = np.array([self.resized_width, self.resized_height]) / 2
        offset = middle - self.factor * np.array(self.center)
        return np.column_stack([np.eye(2) * self.factor, offset])

    @property
    def inverse(self) -> np.ndarray:
        """2x3 matrix from coordinates of the input back to coordinates of the image."""
        return cv2.invertAffineTransform(self.matrix)

    def to_input(self, xy: np.ndarray) -> np.ndarray:
        """Coordinates of the image, shape `(..., 2)`, as coordinates of the input."""
        return np.asarray(xy) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """Coordinates of the input, shape `(..., 2)`, as coordinates of the image.

        For people, `poses.resized((1 / factor, 1 / factor), offset=tuple(inverse[:, 2]))` is the same.
        """
        return np.asarray(xy) @ self.inverse[:, :2].T + self.inverse[:, 2]

    def warp(self, image: np.ndarray) -> np.ndarray:
        """The network's input, `(resized_height, resized_width, C)`, black where there is no image."""
        matrix = self.matrix
        # OpenCV's pixel centers are at whole numbers.
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
        return cv2.warpAffine(image, matrix, (self.resized_width, self.resized_height), flags=cv2.INTER_LINEAR)


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
        ValueError: if a size or scale is not positive.

    Example:
        >>> from keras_ehrnet import decode
        >>> geometry = decode.resize_geometry(640, 480, input_size=512)
        >>> geometry.resized_width, geometry.resized_height, geometry.to_image([352.0, 256.0])
        (704, 512, array([320., 240.]))
    """
    _require_positive(image_width, image_height, input_size, scale, min_scale)
    short, long = sorted((image_width, image_height))
    short_input = _rounded_up(min_scale * input_size)
    long_input = _rounded_up(short_input / short * long)
    short_resized, long_resized = (int(side * scale / min_scale) for side in (short_input, long_input))
    sides = (short_resized, short / _PIXEL_STD), (long_resized, long_resized / short_resized * short / _PIXEL_STD)
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
    factor = min(input_width / image_width, input_height / image_height)
    scale_wh = input_width / factor / _PIXEL_STD, input_height / factor / _PIXEL_STD
    return Geometry(input_width, input_height, (image_width / 2, image_height / 2), scale_wh)


def _rounded_up(length: float) -> int:
    return int((length + _MULTIPLE - 1) // _MULTIPLE * _MULTIPLE)


def _require_positive(*numbers: float) -> None:
    if min(numbers) <= 0:
        raise ValueError(f"Sizes and scales must be positive. Received: {numbers}")


@dataclass(frozen=True)
class NetworkOutputs:
    """What a bottom-up network returned for one image at one scale, flipped or not.

    Args:
        heatmaps_4: float array of shape `(H/4, W/4, K)`.
        tags_4: float array of shape `(H/4, W/4, K)`.
        heatmaps_2: float array of shape `(H/2, W/2, K)`.
        scale: float. The scale of the image, 1 being the model's own input size.
        flipped: bool. Whether the image was mirrored.
    """

    heatmaps_4: np.ndarray
    tags_4: np.ndarray
    heatmaps_2: np.ndarray
    scale: float = 1.0
    flipped: bool = False


def aggregate(
    outputs: Sequence[NetworkOutputs],
    *,
    size: tuple[int, int],
    flip_permutation: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Full-resolution maps out of everything the network returned for an image.

    Heatmaps are averaged over strides, mirror images and scales. Tags are not comparable between runs, so those of
    the image and of its mirror image stay beside each other, and other scales contribute none.

    Args:
        outputs: sequence of `NetworkOutputs`. In any order; tags keep this order.
        size: (width, height) of the maps to return: the network's input at scale 1.
        flip_permutation: sequence of int, or None. The joint that each becomes in the mirror image
            (`Skeleton.flip_permutation`); needed if any of the outputs is flipped.

    Returns:
        Heatmaps, float32 `(H, W, K)`, and tags, float32 `(H, W, K, T)`, for `associative`.

    Raises:
        ValueError: if there are no outputs, none at scale 1 among several scales, or shapes do not fit.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import decode
        >>> outputs = decode.NetworkOutputs(np.ones((8, 8, 17)), np.zeros((8, 8, 17)), np.ones((16, 16, 17)))
        >>> heatmaps, tags = decode.aggregate([outputs], size=(32, 32))
        >>> heatmaps.shape, tags.shape, float(heatmaps.mean())
        ((32, 32, 17), (32, 32, 17, 1), 1.0)
    """
    scales = sorted({output.scale for output in outputs})
    if not scales:
        raise ValueError("There is nothing to aggregate. Received: no outputs")
    tag_scale = scales[0] if len(scales) == 1 else 1
    if tag_scale not in scales:
        raise ValueError(f"Of several scales one must be 1: the tags are taken from there. Received: {scales}")
    if flip_permutation is None and any(output.flipped for output in outputs):
        raise ValueError("Flipped outputs need `flip_permutation`. Received: None")

    means = []
    for scale in scales:
        at_scale = [output for output in outputs if output.scale == scale]
        # Averaging commutes with resizing, and is cheaper before it.
        means.append(_mean([_upright(_heatmaps(output), output.flipped, flip_permutation) for output in at_scale]))
    tags = []
    for output in outputs:
        if output.scale == tag_scale:
            height, width = np.shape(output.heatmaps_2)[:2]
            tags_4 = checked_maps(output.tags_4, "tags_4", "HWK")
            tags_2 = resize_maps(_upright(tags_4, output.flipped, flip_permutation), (width, height))
            tags.append(resize_maps(tags_2, size))
    return _mean([resize_maps(mean, size) for mean in means]), np.stack(tags, axis=-1)


def _heatmaps(output: NetworkOutputs) -> np.ndarray:
    heatmaps_2 = checked_maps(output.heatmaps_2, "heatmaps_2", "HWK")
    heatmaps_4 = checked_maps(output.heatmaps_4, "heatmaps_4", "HWK", heatmaps_2.shape[2])
    return average_strides(heatmaps_4, heatmaps_2)


def _upright(maps: np.ndarray, flipped: bool, flip_permutation: Sequence[int] | None) -> np.ndarray:
    """Maps of a mirror image as maps of the image."""
    return maps[:, ::-1, list(flip_permutation or ())] if flipped else maps


def _mean(maps: list[np.ndarray]) -> np.ndarray:
    return maps[0] if len(maps) == 1 else sum(maps[1:], start=maps[0]) / np.float32(len(maps))


def average_strides(heatmaps_4: np.ndarray, heatmaps_2: np.ndarray) -> np.ndarray:
    """The mean of stride-4 heatmaps, upsampled to stride 2, and stride-2 heatmaps.

    Args:
        heatmaps_4: float array of shape `(H/4, W/4, K)`.
        heatmaps_2: float array of shape `(H/2, W/2, K)`.

    Returns:
        Float32 array of shape `(H/2, W/2, K)`: the heatmaps for `associative(protocol="fast")`.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import decode
        >>> float(decode.average_strides(np.ones((8, 8, 17)), np.zeros((16, 16, 17))).mean())
        0.5
    """
    height, width = heatmaps_2.shape[:2]
    half = resize_maps(np.asarray(heatmaps_4, np.float32) * np.float32(0.5), (width, height))
    flat = half.reshape(height, -1)
    cv2.scaleAdd(np.ascontiguousarray(heatmaps_2, np.float32).reshape(height, -1), 0.5, flat, dst=flat)
    return half


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps resized bilinearly, half-pixel centers.

    Args:
        maps: float array of shape `(H, W, C)`.
        size: (width, height) of the result.

    Returns:
        A new float32 array of shape `(height, width, C)`.
    """
    maps = np.asarray(maps, np.float32)
    channels = maps.shape[2]
    parts = [
        cv2.resize(np.ascontiguousarray(maps[..., start : start + _CHANNELS_AT_ONCE]), size).reshape(*size[::-1], -1)
        for start in range(0, channels, _CHANNELS_AT_ONCE)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
