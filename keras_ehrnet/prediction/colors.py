"""Colors of people's clothes, by which two of them who stand in one place are told apart."""

from __future__ import annotations

import cv2
import numpy as np

from keras_ehrnet.poses import Poses

_ALONG = np.array([0.2, 0.35, 0.5, 0.65, 0.8], np.float32)  # A limb's ends lie on other limbs and on the background.
_LIGHTNESS = 0.5  # Light and shadow change how light clothes are, hardly their hue.


def limb_colors(image: np.ndarray, poses: Poses) -> np.ndarray:
    """The mean color along every limb of every person.

    Args:
        image: uint8 RGB array of shape `(H, W, 3)`.
        poses: `Poses` in pixels of that image, N persons.

    Returns:
        Float32 array of shape `(N, L, 3)`, L being the skeleton's limbs: L*a*b* with half of its lightness. NaN where
        an end of the limb was not found, or lies outside of the image.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import Poses, skeletons
        >>> from keras_ehrnet.prediction.colors import limb_colors
        >>> person = Poses(np.full((1, 17, 3), 8.0), np.ones(1), skeletons.COCO_17)
        >>> limb_colors(np.full((16, 16, 3), 255, np.uint8), person)[0, 0].round().tolist()
        [50.0, 0.0, 0.0]
    """
    limbs = np.array(poses.skeleton.limbs, int).reshape(-1, 2)
    ends = poses.keypoints[:, limbs]  # (N, L, 2, 3)
    along = _ALONG[:, None]
    points = ends[:, :, None, 0, :2] * (1 - along) + ends[:, :, None, 1, :2] * along
    column, row = np.floor(np.nan_to_num(points, nan=-1.0)).clip(-1, 2**30).astype(int).transpose(3, 0, 1, 2)
    height, width = image.shape[:2]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = image[np.where(inside, row, 0), np.where(inside, column, 0)].astype(np.float32) / 255
    lab = cv2.cvtColor(pixels.reshape(1, -1, 3), cv2.COLOR_RGB2Lab) if pixels.size else pixels
    colors = lab.reshape(pixels.shape).mean(axis=2) * np.array([_LIGHTNESS, 1, 1], np.float32)
    seen = (ends[..., 2] > 0).all(axis=-1) & inside.all(axis=-1)
    return np.where(seen[..., None], colors, np.nan).astype(np.float32)


def color_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How differently people are dressed: the median distance of the colors of limbs that both show.

    Args:
        first: float array of shape `(N, L, 3)`, from `limb_colors`.
        second: float array of shape `(M, L, 3)`.

    Returns:
        Float array of shape `(N, M)`, in units of L*a*b*; 0 for two who show no limb in common.
    """
    distances = np.linalg.norm(first[:, None] - second[None], axis=-1)
    shown = np.isfinite(distances)
    middle = np.nanmedian(np.where(shown.any(axis=-1, keepdims=True), distances, 0), axis=-1)
    return np.nan_to_num(middle)


def blended(old: np.ndarray, new: np.ndarray, weight: float) -> np.ndarray:
    """Colors that follow what is seen, by `weight` of it; a limb that is seen for the first time has its own."""
    mixed = old + weight * (new - old)
    return np.where(np.isfinite(mixed), mixed, np.where(np.isfinite(old), old, new))
