"""A network in TensorFlow Lite's format as a graph of operations, to be read and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from keras_ehrnet.export.litert import flatbuffer

OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}
"""Convolutions, and the axis of their kernels that their results' channels are on."""


def kinds(model: Any) -> list[str]:
    """Names of the operations that a model's operators refer to by number."""
    builtin = flatbuffer.schema().BuiltinOperator
    names = {code: name for name, code in vars(builtin).items() if isinstance(code, int)}
    return [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]


class Graph:
    """A network in TensorFlow Lite's format, to be read and changed.

    Args:
        content: bytes of a `.tflite` file in float32.
    """

    def __init__(self, content: bytes) -> None:
        self.model = flatbuffer.read(content)
        self.main = self.model.subgraphs[0]
        self.tensors = self.main.tensors
        self.codes = kinds(self.model)

    def content(self) -> bytes:
        """The file, as changed."""
        return flatbuffer.write(self.model)

    def operations(self) -> Iterator[tuple[str, Any, list[int], int]]:
        """Kind, object, numbers of inputs and of the result of every operation."""
        for operator in self.main.operators:
            inputs = [int(index) for index in operator.inputs if index >= 0]
            yield self.codes[operator.opcodeIndex], operator, inputs, int(operator.outputs[0])

    def name(self, index: int) -> str:
        return self.tensors[index].name.decode()

    def is_constant(self, index: int) -> bool:
        data = self.model.buffers[self.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def shape(self, index: int) -> tuple[int, ...]:
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def is_narrow(self, index: int) -> bool:
        """Whether it is one number per channel."""
        return self.shape(index)[1:3] == (1, 1)

    def is_gated(self, inputs: list[int]) -> bool:
        """Whether what a product multiplies is a map and one number for each of its channels."""
        if len(inputs) != 2 or any(self.is_constant(index) for index in inputs):
            return False
        maps, gate = inputs
        return self.is_narrow(gate) and not self.is_narrow(maps) and self.shape(maps)[-1] == self.shape(gate)[-1]

    def behind(self, results: Iterable[int], onward: Callable[[str, int, list[int]], list[int] | None]) -> set[str]:
        """Names of results and of the operations that they come from, as far as `onward` leads.

        Args:
            results: iterable of int. Where to begin.
            onward: callable of an operation's kind, result and inputs that gives the inputs to go on to, or None where
                the operation is not meant.

        Returns:
            set of str.
        """
        sources = {result: (kind, result, inputs) for kind, _, inputs, result in self.operations()}
        found: set[int] = set()
        waiting = list(results)
        while waiting:
            index = waiting.pop()
            if index in sources and index not in found:
                inputs = onward(*sources[index])
                if inputs is not None:
                    found.add(index)
                    waiting += inputs
        return {self.name(index) for index in found}

    def buffer(self, index: int) -> int:
        return self.tensors[index].buffer

    def constant(self, index: int) -> np.ndarray:
        data = self.model.buffers[self.tensors[index].buffer].data
        return np.frombuffer(bytes(data), "<f4").reshape(self.shape(index)).astype(np.float64)

    def assign(self, index: int, values: np.ndarray) -> None:
        self.model.buffers[self.tensors[index].buffer].data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)


def last_convolutions(content: bytes) -> set[str]:
    """Whatever a network's outputs come from, back to the convolutions before them.

    Heatmaps are asked where they are highest. In 256 steps their tops would be flat, all the more where the highest are
    cut off to make the steps finer, and enlarging would round once more at every stage.

    Args:
        content: bytes of a `.tflite` file in float32.

    Returns:
        set of the names of these operations' results, those of the convolutions included.
    """
    graph = Graph(content)
    outputs = [int(index) for index in graph.main.outputs]
    return graph.behind(outputs, lambda kind, result, inputs: [] if kind in OUTPUT_AXIS else inputs)


def gates(content: bytes) -> set[str]:
    """Whatever gates are made from, one number per channel, and the products that they read and multiply.

    Channels that a gate closes may be ten times as great as those that it lets through, which would share their 256
    steps; and a gate that is wrong makes its whole channel wrong.

    Args:
        content: bytes of a `.tflite` file in float32.

    Returns:
        set of the names of these operations' results.
    """
    graph = Graph(content)
    gated = [result for kind, _, inputs, result in graph.operations() if kind == "MUL" and graph.is_gated(inputs)]
    return graph.behind(
        gated, lambda kind, result, inputs: inputs if kind == "MUL" or graph.is_narrow(result) else None
    )
