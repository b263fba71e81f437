"""From what a network gives for an image, its mirror image and its other sizes to maps that can be decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from keras_ehrnet.decode.peaks import checked_maps

_CHANNELS_AT_ONCE = 64  # OpenCV limits the channels of an image


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
