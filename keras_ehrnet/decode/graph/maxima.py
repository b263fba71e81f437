"""Peaks of heatmaps in a TensorFlow graph: the twin of `keras_ehrnet.decode.peaks`, of operations that LiteRT has.

Maps are float32 tensors of shape `(1, H, W, K)` with H and W even, K known. Indices are int32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_ehrnet.decode.graph.sides import Side, real, sides

_STEEP = 1e9  # turns the least difference of two heights above 1e-4 into more than any height
_NOTHING = -1e30  # below every height, these steep ones too


@dataclass(frozen=True)
class Peaks:
    """The best local maxima of each of K heatmaps, by falling score; where there are fewer, scores of 0.

    Args:
        rows: int32 tensor of shape `(K, P)`. y in pixels of the map.
        columns: int32 tensor of shape `(K, P)`. x in pixels of the map.
        scores: float32 tensor of shape `(K, P)`. Value of the map there.
    """

    rows: tf.Tensor
    columns: tf.Tensor
    scores: tf.Tensor


def max_pool(maps: tf.Tensor, size: int, stride: int) -> tf.Tensor:
    """The highest values of windows of `size` x `size` pixels, `stride` pixels apart."""
    return tf.nn.max_pool2d(maps, size, stride, "SAME")


def by_joint(maps: tf.Tensor) -> tf.Tensor:
    """`(1, H, W, K)` as `(K, H * W)`."""
    return tf.transpose(tf.reshape(maps, (-1, maps.shape[-1])))


def find_peaks(maps: tf.Tensor, count: int, threshold: float, kernel: int) -> Peaks:
    """As `keras_ehrnet.decode.peaks.find_peaks` with `first_of_equals=True`.

    Within two by two pixels there is at most one peak, so only one of four has to be sorted. Equally high neighbours
    are told apart afterwards, among twice as many candidates as are asked for.

    Args:
        maps: float32 tensor of shape `(1, H, W, K)`.
        count: int. Number of peaks per joint, P.
        threshold: float, not negative. Peaks at or below it are left out.
        kernel: int, odd. Width of the window of the non-maximum suppression in pixels.

    Returns:
        `Peaks`. Equal scores are ordered by row, then column.
    """
    below = maps - max_pool(maps, kernel, 1)
    scores, block = _highest_blocks(by_joint(max_pool(maps + below * _STEEP, 2, 2)), 2 * count)
    joint = np.arange(maps.shape[3], dtype=np.int32)[:, None]
    rows, columns = first_highest(maps, block, joint)
    own, around = _window(sides(maps), rows, columns, joint, kernel)
    heights = tf.gather(tf.reshape(maps, (-1,)), around)
    highest = tf.where(around < own, scores[..., None] > heights, scores[..., None] >= heights)
    scores = tf.where(tf.reduce_all(highest, axis=-1) & (scores > threshold), scores, tf.zeros_like(scores))

    _, in_order = tf.math.top_k(-own[..., 0], own.shape[1])
    scores, best = tf.math.top_k(_picked(scores, in_order), min(count, own.shape[1]))
    best = _picked(in_order, best)
    missing = ((0, 0), (0, count - best.shape[1]))
    return Peaks(*(tf.pad(table, missing) for table in (_picked(rows, best), _picked(columns, best), scores)))


def _highest_blocks(blocks: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Heights and numbers of the highest of each row, `(K, count)`; of all, where they are known to be less."""
    _, number = sides(blocks)
    if isinstance(number, int):
        return tf.math.top_k(blocks, min(count, number))
    # There may be less: as high as nothing is, and where the last block is, they are peaks of no joint.
    enough = tf.pad(blocks, ((0, 0), (0, count)), constant_values=_NOTHING)
    heights, block = tf.math.top_k(enough, count)
    return heights, tf.minimum(block, number - 1)


def _picked(table: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    return tf.gather(table, index, batch_dims=1)


def first_highest(maps: tf.Tensor, block: tf.Tensor, joint: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Row and column of the highest of the two by two pixels of blocks, which are numbered row by row."""
    _, _, width, joints = sides(maps)
    across = width // 2
    top, left = block // across * 2, block % across * 2
    corner = (top * width + left) * joints + joint
    down, right = np.indices((2, 2), np.int32).reshape(2, -1)
    steps = (down * width + right) * joints
    heights = tf.gather(tf.reshape(maps, (-1,)), corner[..., None] + steps)
    within = tf.argmax(heights, axis=-1, output_type=tf.int32)
    return top + within // 2, left + within % 2


def at(maps: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, joint: np.ndarray) -> tf.Tensor:
    """Values of maps at given pixels."""
    _, _, width, joints = sides(maps)
    return tf.gather(tf.reshape(maps, (-1,)), (rows * width + columns) * joints + joint)


def _window(
    shape: tuple[Side, ...], rows: tf.Tensor, columns: tf.Tensor, joint: np.ndarray, size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Flat indices of pixels, `(..., 1)`, and of the windows around them; beyond the border of the nearest pixel."""
    _, height, width, joints = shape
    down, right = (np.indices((size, size), np.int32).reshape(2, -1)) - size // 2
    rows, columns = rows[..., None], columns[..., None]
    inside = tf.clip_by_value(rows + down, 0, height - 1), tf.clip_by_value(columns + right, 0, width - 1)
    own, around = ((row * width + column) * joints + joint[..., None] for row, column in ((rows, columns), inside))
    return own, around


def between_pixels(
    maps: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, joint: np.ndarray, subpixel: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Coordinates (y, x) of pixels, moved between the pixels, in [0, 1] of the map.

    Args:
        maps: float32 tensor of shape `(1, H, W, K)`.
        rows: int32 tensor of any shape.
        columns: int32 tensor of that shape.
        joint: int32 array that broadcasts to that shape. The heatmaps.
        subpixel: str. Key of `SUBPIXEL`.

    Returns:
        y and x, float32 tensors of the shape of `rows`.
    """
    shape = sides(maps)
    y, x = tf.cast(rows, tf.float32) + 0.5, tf.cast(columns, tf.float32) + 0.5
    if subpixel != "none":
        _, around = _window(shape, rows, columns, joint, 3)
        heights = tf.gather(tf.reshape(maps, (-1,)), around)
        above, left, center, right, below = (heights[..., place] for place in (1, 3, 4, 5, 7))
        y, x = y + SUBPIXEL[subpixel](above, center, below), x + SUBPIXEL[subpixel](left, center, right)
    return y / real(shape[1]), x / real(shape[2])


def _quarter(before: tf.Tensor, center: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    return tf.where(after > before, 0.25, -0.25)


def _parabola(before: tf.Tensor, center: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    before, center, after = (tf.math.log(tf.maximum(value, 1e-3)) for value in (before, center, after))
    curvature = 2 * center - before - after
    subpixel = tf.where(curvature > 1e-6, (after - before) / (2 * tf.maximum(curvature, 1e-6)), 0.0)
    return tf.clip_by_value(subpixel, -0.5, 0.5)


SUBPIXEL = {"none": None, "quarter": _quarter, "parabola": _parabola}
"""Ways from a pixel and its neighbours to a place between them, by name: those of `keras_ehrnet.decode.peaks`."""
