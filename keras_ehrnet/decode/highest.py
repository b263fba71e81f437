"""Single-person decoding: every joint where its heatmap is highest."""

from __future__ import annotations

import cv2
import numpy as np

from keras_ehrnet.decode.peaks import SUBPIXEL, checked_maps
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import Skeleton

_GAUSSIAN_SIGMA = 1.0
_GAUSSIAN_WIDTH = 9  # four sigmas to either side


def single_person(
    heatmaps: np.ndarray,
    *,
    skeleton: Skeleton,
    smooth: bool = False,
    threshold: float = 0.0,
    subpixel: str = "none",
    image_size: tuple[int, int] | None = None,
) -> Poses:
    """The one person in a set of heatmaps.

    Args:
        heatmaps: float array of shape `(H, W, K)`.
        skeleton: `Skeleton`. What the K joints are.
        smooth: bool. Whether to look for the highest place after blurring with a gaussian of one pixel.
        threshold: float. A joint whose heatmap stays below it keeps its place but has score 0: not found.
        subpixel: str. `"none"`: pixel centers. `"quarter"`: moved a quarter of a pixel towards the higher neighbour,
            for coarse maps. `"parabola"`: fitted between the pixels, as predictors do for EfficientPose.
        image_size: (width, height) or None. Passed on to the result.

    Returns:
        `Poses` with one person, in pixels of the maps (`Poses.resized` takes them to the image). A joint's score is the
        map's value, before blurring, not below 0; the person's is their mean.

    Raises:
        ValueError: if the shape does not fit the skeleton, values are not finite, or `subpixel` is unknown.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import decode, skeletons
        >>> heatmaps = np.zeros((64, 64, 16))
        >>> heatmaps[20, 30] = 0.75
        >>> decode.single_person(heatmaps, skeleton=skeletons.MPII_16).joint("pelvis")
        (30.5, 20.5, 0.75)
    """
    if subpixel not in SUBPIXEL:
        raise ValueError(f"`subpixel` must be one of {', '.join(map(repr, SUBPIXEL))}. Received: {subpixel!r}")
    heatmaps = checked_maps(heatmaps, "heatmaps", "HWK", skeleton.num_joints)
    searched = _smoothed(heatmaps) if smooth else heatmaps
    row, column = np.divmod(searched.reshape(-1, skeleton.num_joints).argmax(axis=0), heatmaps.shape[1])
    joint = np.arange(skeleton.num_joints)
    xy = np.stack([column, row], axis=-1) + np.float32(0.5) + SUBPIXEL[subpixel](searched, row, column, joint)
    scores = np.maximum(heatmaps[row, column, joint], 0)
    scores = np.where(scores < threshold, 0, scores)
    return Poses(np.column_stack([xy, scores])[None], scores.mean(keepdims=True), skeleton, image_size)


def _smoothed(heatmaps: np.ndarray) -> np.ndarray:
    width = (_GAUSSIAN_WIDTH, _GAUSSIAN_WIDTH)
    blur = [
        cv2.GaussianBlur(
            np.ascontiguousarray(heatmaps[..., joint]), width, _GAUSSIAN_SIGMA, borderType=cv2.BORDER_REFLECT
        )
        for joint in range(heatmaps.shape[2])
    ]
    return np.stack(blur, axis=-1)
