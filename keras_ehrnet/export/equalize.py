"""Channels of a network brought to equal ranges, exactly, before its numbers are cut into few steps.

All channels of a tensor share their 256 steps: of a channel whose values are a fiftieth of another's, five steps are
left. But convolutions can divide what they write, and multiply what they read, by a number per channel for nothing.
What lies between (sums, concatenations, means, products with gates) lets such factors through. Swish does not:
x sigmoid(x) of scaled x needs the unscaled x in its sigmoid, which costs a product, and is worth it where channels
differ much. (The idea for ReLU: Nagel et al. 2019, arXiv 1906.04721, section 4.1.)
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ehrnet.export import flatbuffer
from keras_ehrnet.export.ranges import Values

SWISH_RANGE = 8.0
"""Channels that swish reads are not enlarged beyond this: between -8 and 8 sigmoid needs fine steps in all of them."""

UNEVENNESS = 3.0
"""By how much channels differ, on average, from the greatest one for swish to be worth another product."""

EVENNESS = 0.75
"""1 would make all channels equal, and the kernels that read them as uneven as the channels were."""

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_CHANNELWISE = ("ADD", "PAD", "STRIDED_SLICE", "MEAN", "AVERAGE_POOL_2D", "RESIZE_NEAREST_NEIGHBOR")
_UNSCALED = b"/unscaled"
_LEAST = 1e-4  # of a channel that is always 0, too, something must be divided


@dataclass(frozen=True)
class Swish:
    """x sigmoid(x): numbers of its tensors, and of the constant factors inside the sigmoid if there are any."""

    source: int
    product: int
    factors: int | None = None
    unscaled: int | None = None


class Graph:
    """A network in TensorFlow Lite's format, to be read and changed.

    Args:
        content: bytes of a `.tflite` file in float32.
    """

    def __init__(self, content: bytes) -> None:
        self.model = flatbuffer.read(content)
        self.main = self.model.subgraphs[0]
        self.tensors = self.main.tensors
        builtin = flatbuffer.schema().BuiltinOperator
        names = {code: name for name, code in vars(builtin).items() if isinstance(code, int)}
        self.codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in self.model.operatorCodes]

    def content(self) -> bytes:
        """The file, as changed."""
        return flatbuffer.write(self.model)

    def operations(self) -> Iterator[tuple[str, Any, list[int], int]]:
        """Kind, object, numbers of inputs and of the result of every operation."""
        for operator in self.main.operators:
            inputs = [int(index) for index in operator.inputs if index >= 0]
            yield self.codes[operator.opcodeIndex], operator, inputs, int(operator.outputs[0])

    def is_constant(self, index: int) -> bool:
        data = self.model.buffers[self.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def shape(self, index: int) -> tuple[int, ...]:
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def buffer(self, index: int) -> int:
        return self.tensors[index].buffer

    def constant(self, index: int) -> np.ndarray:
        data = self.model.buffers[self.tensors[index].buffer].data
        return np.frombuffer(bytes(data), "<f4").reshape(self.shape(index)).astype(np.float64)

    def assign(self, index: int, values: np.ndarray) -> None:
        self.model.buffers[self.tensors[index].buffer].data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)

    def add_tensor(self, like: int, name: bytes, values: np.ndarray | None = None) -> int:
        """A tensor like another one, or a constant of the same type."""
        tensor = copy.copy(self.tensors[like])
        tensor.name += name
        self.tensors.append(tensor)
        index = len(self.tensors) - 1
        if values is not None:
            tensor.shape = np.array(values.shape, np.int32)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(flatbuffer.schema().BufferT())
            self.assign(index, values)
        return index


def equalized(
    content: bytes, measured: dict[int, Values], *, through_swish: bool = True
) -> tuple[bytes, dict[int, Values]]:
    """The same network, whose tensors use their ranges evenly.

    Args:
        content: bytes of a `.tflite` file in float32.
        measured: dict of `keras_ehrnet.export.ranges.measure` for it.
        through_swish: bool. Whether to add products for swish where channels differ much.

    Returns:
        tuple (bytes of a `.tflite` file that computes the same, `Values` of its tensors).
    """
    graph = Graph(content)
    swishes = _swishes(graph)
    if through_swish:
        swishes = [_opened(graph, swish) if _is_uneven(graph, measured, swish) else swish for swish in swishes]
    divisors = _divisors(graph, measured, {swish.product: swish for swish in swishes})
    _rescale_convolutions(graph, divisors)
    values = dict(measured)
    for swish in swishes:
        values[swish.source] = replace(values[swish.source], swish=np.ones(len(divisors[swish.source])))
        if swish.unscaled is not None:
            values[swish.unscaled] = values[swish.source]
            graph.assign(swish.factors, divisors[swish.source][None, None, None])
    values = {index: each.divided(divisors[index]) if index in divisors else each for index, each in values.items()}
    return graph.content(), values


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


def _is_uneven(graph: Graph, measured: dict[int, Values], swish: Swish) -> bool:
    if graph.shape(swish.source)[1:3] == (1, 1):
        return False
    magnitude = measured[swish.product].magnitude
    return float((magnitude.max() / np.maximum(magnitude, SWISH_RANGE)).mean()) > UNEVENNESS


def _opened(graph: Graph, swish: Swish) -> Swish:
    """With a product before the sigmoid, by 1 as yet."""
    schema = flatbuffer.schema()
    channels = graph.shape(swish.source)[-1]
    factors = graph.add_tensor(swish.source, b"/factors", np.ones((1, 1, 1, channels)))
    unscaled = graph.add_tensor(swish.source, _UNSCALED)
    product = schema.OperatorT()
    product.opcodeIndex = graph.codes.index("MUL")
    product.inputs, product.outputs = [swish.source, factors], [unscaled]
    product.builtinOptionsType, product.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
    place, sigmoid = next(
        (place, operator)
        for place, (kind, operator, inputs, _) in enumerate(graph.operations())
        if kind == "LOGISTIC" and inputs == [swish.source]
    )
    sigmoid.inputs = [unscaled]
    graph.main.operators.insert(place, product)
    return replace(swish, factors=factors, unscaled=unscaled)


def uneven_beginning(content: bytes) -> set[str]:
    """What had better stay in float: all before a quarter of the input's resolution, if channels are uneven there.

    It is few operations and few weights, all later ones suffer from its errors, and at its size extra products for
    swish cost more time than 8 bits save.

    Args:
        content: bytes of a `.tflite` file that `equalized` returned.

    Returns:
        set of the names of these operations' results; empty where no product was added for their swish.
    """
    graph = Graph(content)
    height = graph.shape(int(graph.main.inputs[0]))[1]
    beginning: list[str] = []
    behind: set[int] = set()
    for _, _, inputs, result in graph.operations():
        shape = graph.shape(result)
        is_small = len(shape) == 4 and 1 < shape[1] <= height // 4
        if is_small or not behind.isdisjoint(inputs):
            behind.add(result)
        else:
            beginning.append(graph.tensors[result].name.decode())
    return set(beginning) if any(name.endswith(_UNSCALED.decode()) for name in beginning) else set()


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


def _classes(graph: Graph, products: dict[int, Swish]) -> _Classes:
    classes = _Classes(graph)
    classes.keep(*(int(index) for index in (*graph.main.inputs, *graph.main.outputs)))
    buffers = Counter(graph.buffer(index) for _, _, inputs, _ in graph.operations() for index in inputs)
    unscaled = {swish.unscaled for swish in products.values()}
    for kind, operator, inputs, result in graph.operations():
        options = operator.builtinOptions
        data = [index for index in inputs if not graph.is_constant(index)]
        is_scalable = getattr(options, "fusedActivationFunction", 0) <= 1  # none, or ReLU
        is_known = {result, *data} <= set(classes.channels)
        if kind in _CONVOLUTIONS:
            if any(buffers[graph.buffer(index)] > 1 for index in inputs[1:]):
                classes.keep(*data, result)
            elif not is_scalable:
                classes.keep(result)
        elif result in unscaled:
            classes.keep(result)
        elif not is_known or not is_scalable:
            classes.keep(*data, result)
        elif result in products and products[result].factors is not None:
            classes.same([products[result].source], result)
        elif kind == "CONCATENATION" and len(data) == len(inputs) and options.axis in (3, -1):
            classes.concatenated(data, result)
        elif kind == "MUL" and _is_gated(graph, data):
            classes.same(data[:1], result)
            classes.keep(data[1])
        elif kind in _CHANNELWISE and _is_channelwise(graph, kind, data, result):
            classes.same(data, result)
        else:
            classes.keep(*data, result)
    return classes


def _is_gated(graph: Graph, data: list[int]) -> bool:
    """Whether it is a map times one number for each of its channels."""
    shapes = [graph.shape(index) for index in data]
    return len(data) == 2 and shapes[0][1:3] != (1, 1) == shapes[1][1:3] and shapes[0][-1] == shapes[1][-1]


def _is_channelwise(graph: Graph, kind: str, data: list[int], result: int) -> bool:
    is_sum_of_two = kind != "ADD" or len(data) == 2
    return is_sum_of_two and all(graph.shape(index)[-1] == graph.shape(result)[-1] for index in data)


def _divisors(graph: Graph, measured: dict[int, Values], products: dict[int, Swish]) -> dict[int, np.ndarray]:
    """Numbers that each channel is divided by: by what all that must share it reach."""
    classes = _classes(graph, products)
    opened = {swish.source for swish in products.values() if swish.factors is not None}
    greatest = np.zeros(len(classes.parents))
    for index, values in measured.items():
        if index in classes.channels:
            # What swish reads may be far below 0, and is then almost nothing afterwards.
            magnitude = np.full(len(values.high), SWISH_RANGE) if index in opened else values.magnitude
            np.maximum.at(greatest, classes.roots(index), magnitude)
    greatest = np.maximum(greatest, _LEAST) ** EVENNESS
    greatest[0] = 1
    return {index: greatest[classes.roots(index)] for index in classes.channels}


def _rescale_convolutions(graph: Graph, divisors: dict[int, np.ndarray]) -> None:
    for kind, _, inputs, result in graph.operations():
        if kind not in _CONVOLUTIONS:
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
