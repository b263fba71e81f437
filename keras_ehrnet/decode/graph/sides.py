"""Sides of maps in a TensorFlow graph: numbers where they are known, so that files for one size compute none of them.

Of images of any size the graph asks its maps: a side is then an int32 scalar.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

Side = int | tf.Tensor


def sides(tensor: tf.Tensor) -> tuple[Side, ...]:
    """The sides of a tensor.

    Example:
        >>> import tensorflow as tf
        >>> from keras_ehrnet.decode.graph.sides import sides
        >>> sides(tf.zeros((1, 4, 6, 17)))
        (1, 4, 6, 17)
    """
    known = tensor.shape.as_list()
    if None not in known:
        return tuple(known)
    asked = tf.shape(tensor)
    return tuple(asked[axis] if side is None else side for axis, side in enumerate(known))


def smaller(one: Side, other: Side) -> Side:
    """The smaller of two sides."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    return tf.minimum(one, other)


def real(side: Side) -> float | tf.Tensor:
    """A side to reckon with among float32 tensors."""
    return side if isinstance(side, int) else tf.cast(side, tf.float32)


def every_pixel(side: Side) -> np.ndarray | tf.Tensor:
    """0, 1, 2 ... up to the last pixel of a side, int32."""
    return np.arange(side, dtype=np.int32) if isinstance(side, int) else tf.range(side)
