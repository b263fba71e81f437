"""Channels of a network brought to equal ranges, exactly, before its numbers are cut into few steps.

All channels of a tensor share their 256 steps: of a channel whose values are a fiftieth of another's, five steps are
left. But convolutions can divide what they write, and multiply what they read, by a number per channel for nothing.
What lies between (sums, concatenations, means, products with gates) lets such factors through (the idea for ReLU:
Nagel et al. 2019, arXiv 1906.04721, section 4.1). Swish, x sigmoid(x), does not: what leads to an uneven one had better
stay in float.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras_ehrnet.export.litert.graph import OUTPUT_AXIS, Graph
from keras_ehrnet.export.litert.ranges import Values

UNEVENNESS = 2.0
"""By how much channels behind a swish differ, on average, from the greatest one for it to stay in float."""

EVEN_RUN = 4
"""So many even swishes in a row end a network's uneven beginning."""

EVENNESS = 0.75
"""1 would make all channels equal, and the kernels that read them as uneven as the channels were."""

_CHANNELWISE = (
    "ADD", "PAD", "STRIDED_SLICE", "MEAN", "AVERAGE_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
)  # fmt: skip
_SWISH_RANGE = 8.0  # channels count as no smaller: where they were, sigmoid would need fine steps all the same
_LEAST = 1e-4  # of a channel that is always 0, too, something must be divided


@dataclass(frozen=True)
class Swish:
    """x sigmoid(x): numbers of x and of the product."""

    source: int
    product: int


def equalized(content: bytes, measured: Mapping[int, Values]) -> tuple[bytes, dict[int, Values]]:
    """The same network, whose tensors use their ranges evenly.

    Args:
        content: bytes of a `.tflite` file in float32.
        measured: mapping of `keras_ehrnet.export.litert.ranges.measure` for it.

    Returns:
        tuple (bytes of a `.tflite` file that computes the same, `Values` of its tensors).
    """
    graph = Graph(content)
    divisors = _divisors(graph, measured)
    _rescale_convolutions(graph, divisors)
    values = {index: each.divided(divisors[index]) if index in divisors else each for index, each in measured.items()}
    for swish in _swishes(graph):
        values[swish.source] = replace(values[swish.source], is_read_by_swish=True)
    return graph.content(), values


def uneven_beginning(content: bytes, measured: Mapping[int, Values]) -> set[str]:
    """What had better stay in float: all that leads to a swish of uneven channels.

    In networks that have such, they are in the beginning, from whose errors all later operations suffer. A swish that
    is uneven after many even ones stays in integers, or all before it would have to be in float for its sake.

    Args:
        content: bytes of a `.tflite` file in float32.
        measured: mapping of `keras_ehrnet.export.litert.ranges.measure` for it.

    Returns:
        set of the names of these operations' results.
    """
    graph = Graph(content)
    kept: set[int] = set()
    even = 0
    # Those of gates, one number per channel, do not matter.
    for swish in (each for each in _swishes(graph) if not graph.is_narrow(each.source)):
        even = 0 if _is_uneven(measured, swish) else even + 1
        if even == EVEN_RUN:
            break
        if even == 0:
            kept.add(swish.product)
    operations = [(inputs, result) for _, _, inputs, result in graph.operations()]
    for inputs, result in reversed(operations):
        if result in kept:
            kept.update(inputs)
    return {graph.name(result) for _, result in operations if result in kept}


def _swishes(graph: Graph) -> list[Swish]:
    """Every x sigmoid(x)."""
    products = {tuple(sorted(inputs)): result for kind, _, inputs, result in graph.operations() if kind == "MUL"}
    sigmoids = [(inputs[0], result) for kind, _, inputs, result in graph.operations() if kind == "LOGISTIC"]
    found = [(source, products.get(tuple(sorted((source, result))))) for source, result in sigmoids]
    readers = Counter(index for _, _, inputs, _ in graph.operations() for index in inputs)
    outputs = {int(index) for index in graph.main.outputs}
    return [
        Swish(source, product)
        for source, product in found
        if product is not None and readers[source] == 2 and source not in outputs
    ]


def _is_uneven(measured: Mapping[int, Values], swish: Swish) -> bool:
    magnitude = measured[swish.product].magnitude
    return float((magnitude.max() / np.maximum(magnitude, _SWISH_RANGE)).mean()) > UNEVENNESS


class _Classes:
    """Channels that must be divided by the same number. Class 0 is of those that stay as they are."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.channels: dict[int, range] = {}
        count = 1
        for index in range(len(graph.tensors)):
            shape = graph.shape(index)
            if len(shape) == 4 and not graph.is_constant(index):
                self.channels[index] = range(count, count + shape[-1])
                count += shape[-1]
        self.parents = list(range(count))

    def root(self, channel: int) -> int:
        while self.parents[channel] != channel:
            self.parents[channel] = self.parents[self.parents[channel]]
            channel = self.parents[channel]
        return channel

    def tie(self, channel: int, other: int) -> None:
        channel, other = self.root(channel), self.root(other)
        self.parents[max(channel, other)] = min(channel, other)

    def keep(self, *indices: int) -> None:
        for index in indices:
            for channel in self.channels.get(index, ()):
                self.tie(0, channel)

    def same(self, indices: list[int], result: int) -> None:
        for index in indices:
            for channel, other in zip(self.channels[index], self.channels[result], strict=True):
                self.tie(channel, other)

    def concatenated(self, indices: list[int], result: int) -> None:
        parts = [channel for index in indices for channel in self.channels[index]]
        for channel, other in zip(parts, self.channels[result], strict=True):
            self.tie(channel, other)

    def roots(self, index: int) -> list[int]:
        return [self.root(channel) for channel in self.channels[index]]


def _classes(graph: Graph) -> _Classes:
    classes = _Classes(graph)
    classes.keep(*(int(index) for index in (*graph.main.inputs, *graph.main.outputs)))
    buffers = Counter(graph.buffer(index) for _, _, inputs, _ in graph.operations() for index in inputs)
    for kind, operator, inputs, result in graph.operations():
        options = operator.builtinOptions
        data = [index for index in inputs if not graph.is_constant(index)]
        is_scalable = getattr(options, "fusedActivationFunction", 0) <= 1  # none, or ReLU
        is_known = {result, *data} <= set(classes.channels)
        if kind in OUTPUT_AXIS:
            if any(buffers[graph.buffer(index)] > 1 for index in inputs[1:]):
                classes.keep(*data, result)
            elif not is_scalable:
                classes.keep(result)
        elif not is_known or not is_scalable:
            classes.keep(*data, result)
        elif kind == "CONCATENATION" and len(data) == len(inputs) and options.axis in (3, -1):
            classes.concatenated(data, result)
        elif kind == "MUL" and graph.is_gated(data):
            classes.same(data[:1], result)
            classes.keep(data[1])
        elif kind in _CHANNELWISE and _is_channelwise(graph, kind, data, result):
            classes.same(data, result)
        else:
            classes.keep(*data, result)
    return classes


def _is_channelwise(graph: Graph, kind: str, data: list[int], result: int) -> bool:
    is_sum_of_two = kind != "ADD" or len(data) == 2
    return is_sum_of_two and all(graph.shape(index)[-1] == graph.shape(result)[-1] for index in data)


def _divisors(graph: Graph, measured: Mapping[int, Values]) -> dict[int, np.ndarray]:
    """Numbers that each channel is divided by: by what all that must share it reach."""
    classes = _classes(graph)
    greatest = np.zeros(len(classes.parents))
    for index, values in measured.items():
        if index in classes.channels:
            np.maximum.at(greatest, classes.roots(index), values.magnitude)
    greatest = np.maximum(greatest, _LEAST) ** EVENNESS
    greatest[0] = 1
    return {index: greatest[classes.roots(index)] for index in classes.channels}


def _rescale_convolutions(graph: Graph, divisors: dict[int, np.ndarray]) -> None:
    for kind, _, inputs, result in graph.operations():
        if kind not in OUTPUT_AXIS:
            continue
        source, kernel, *bias = inputs
        read, written = divisors[source], divisors[result]
        if (read == 1).all() and (written == 1).all():
            continue
        # Axes are (out, y, x, in); of depthwise ones (1, y, x, channel).
        out = written[:, None, None, None] if kind == "CONV_2D" else written
        graph.assign(kernel, graph.constant(kernel) * read / out)
        for index in bias:
            graph.assign(index, graph.constant(index) / written)
