"""Biases that make up for what rounding and cutting off change on average.

Kernels of few weights, depthwise ones above all, do not round to the same sum; every value they give is then off by the
same amount. What a channel reads on average is known from calibration, and so is that amount: Nagel et al. 2019
(arXiv 1906.04721), section 4.2, with measured means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set

import numpy as np

from keras_ehrnet.export.litert.graph import OUTPUT_AXIS, Graph
from keras_ehrnet.export.litert.ranges import Range, Values, rounded

_LARGEST = 127


def corrected(
    content: bytes,
    measured: Mapping[int, Values],
    ranges: Mapping[int, Range] | None = None,
    in_float: Set[str] = frozenset(),
) -> bytes:
    """The same network, whose convolutions give on average in integers what they give in float.

    Args:
        content: bytes of a `.tflite` file in float32.
        measured: mapping from numbers of tensors to their `Values`.
        ranges: mapping from numbers of tensors to what 8 bits keep of them, see `ranges.best`; None: only weights are
            rounded.
        in_float: set of names of results that stay in float, where there is nothing to make up for.

    Returns:
        bytes of a `.tflite` file, still in float32.
    """
    graph = Graph(content)
    readers = Counter(graph.buffer(index) for _, _, inputs, _ in graph.operations() for index in inputs)
    for kind, _, inputs, result in graph.operations():
        if kind not in OUTPUT_AXIS or len(inputs) < 3 or inputs[0] not in measured:
            continue
        if graph.name(result) in in_float:
            continue
        source, kernel, bias = inputs
        if readers[graph.buffer(bias)] > 1:
            continue
        sample = measured[source].sample
        read = sample if ranges is None else rounded(sample, ranges[source])
        weights = graph.constant(kernel)
        rounded_weights = quantized(weights, OUTPUT_AXIS[kind])
        lost = _sums(kind, weights, sample.mean(axis=0)) - _sums(kind, rounded_weights, read.mean(axis=0))
        graph.assign(bias, graph.constant(bias) + lost)
    return graph.content()


def quantized(weights: np.ndarray, axis: int) -> np.ndarray:
    """Weights as 8 bits hold them, with a scale for every channel along an axis.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.export.litert.bias import quantized
        >>> quantized(np.array([[127.0, 0.6], [254.0, 2.6]]), axis=0)
        array([[127.,   1.],
               [254.,   2.]])
    """
    others = tuple(other for other in range(weights.ndim) if other != axis)
    scale = np.abs(weights).max(axis=others, keepdims=True) / _LARGEST
    return np.where(scale > 0, np.round(weights / np.where(scale > 0, scale, 1)) * scale, 0)


def _sums(kind: str, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    """What a convolution gives where every channel that it reads is at its mean."""
    return np.einsum("oyxi,i->o" if kind == "CONV_2D" else "oyxi,i->i", weights, means)
