"""TensorFlow functions as ONNX operators: decoders with loops become part of an ONNX file as they are.

For functions of the operations in `onnx_operations.EMITTERS`: what `keras_ehrnet.decode.graph` consists of. Values keep
their types (float32, int32, bool) and their order of channels; sides that are known become constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto, helper

from keras_ehrnet.export.onnx_graph import Graph

TYPES = {tf.float32: TensorProto.FLOAT, tf.int32: TensorProto.INT32, tf.bool: TensorProto.BOOL}

Emitter = Callable[["Translation", tf.Operation, Sequence[str]], "str | Sequence[str]"]
"""Appends an operation's counterpart: the translation, the operation and its arguments in; names of its results out."""


class Translation:
    """A function on its way into an ONNX graph.

    Args:
        graph: `Graph`. What operators are appended to; those inside loops go into graphs of their own.
        opset: int. Version of ONNX's operators.
        emitters: mapping of TensorFlow's names of operations to what appends their counterparts.
    """

    def __init__(self, graph: Graph, opset: int, emitters: Mapping[str, Emitter]) -> None:
        self.graph, self.opset, self._emitters = graph, opset, emitters
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def call(self, function: Any, arguments: Sequence[str]) -> list[str]:
        """Appends a function's operations.

        Args:
            function: `tf.Graph` of a function, with `inputs` and `outputs`.
            arguments: sequence of str. Names of its inputs.

        Returns:
            Names of its outputs.

        Raises:
            ValueError: for an operation that has no counterpart here.
        """
        names = {tensor.ref(): name for tensor, name in zip(function.inputs, arguments, strict=True)}

        def named(tensor: tf.Tensor) -> str:
            # Only here are constants stored: many are sides and axes that become part of an operator.
            if tensor.ref() not in names:
                names[tensor.ref()] = self.constant(tf.get_static_value(tensor))
            return names[tensor.ref()]

        for operation in function.get_operations():
            known = all(tf.get_static_value(output) is not None for output in operation.outputs)
            if operation.type != "Placeholder" and not known:
                results = self._emitted(operation, _Arguments(named, operation.inputs))
                names.update(zip((output.ref() for output in operation.outputs), results, strict=True))
        return [named(output) for output in function.outputs]

    def _emitted(self, operation: tf.Operation, arguments: Sequence[str]) -> Sequence[str]:
        if operation.type not in self._emitters:
            raise ValueError(
                f"The ONNX export knows these operations in decoders: {', '.join(self._emitters)}. Received: "
                f"{operation.type} ({operation.name})"
            )
        result = self._emitters[operation.type](self, operation, arguments)
        return [result] if isinstance(result, str) else result

    def constant(self, value: Any) -> str:
        """The name of an array, which is stored once however often it occurs."""
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.graph.constant(array, "constant")
        return self._constants[key]

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.add(operator, inputs, **attributes)

    def integers(self, *values: int) -> str:
        """Known sides, places and axes, which are 64 bits wide in ONNX."""
        return self.constant(np.array(values, np.int64))

    def shaped(self, name: str, shape: Sequence[int | None]) -> str:
        """A value in another shape, of which one side may be whatever is left."""
        if list(shape).count(None) > 1:
            raise ValueError(f"The ONNX export finds out one side of a shape by itself. Received: {tuple(shape)}")
        return self.add("Reshape", name, self.integers(*(-1 if side is None else side for side in shape)))

    def wide(self, name: str) -> str:
        """Integers as sides, places and axes."""
        return self.add("Cast", name, to=TensorProto.INT64)

    def sides(self, name: str, count: int) -> str:
        """So many integers as sides: by the zeros shape inference knows inside loops how many there are."""
        return self.add("Add", self.wide(name), self.constant(np.zeros(count, np.int64)))

    def cast(self, name: str, dtype: Any) -> str:
        return self.add("Cast", name, to=TYPES[dtype])

    def loop(
        self, body: Callable[[str, Sequence[str]], tuple[str, list[str], list[str]]], start: Sequence[str], **how: Any
    ) -> list[str]:
        """Appends a loop.

        Args:
            body: function of the number of the turn and the values, that appends one turn and returns whether there
                is another, the new values, and what is collected over all turns.
            start: sequence of str. The values before the first turn.
            how: `turns` and `goes_on`, names: how many there are at most, and whether there is one at all; `types`:
                a pair of a type and a shape for each value and everything collected.

        Returns:
            Names of the values after the last turn, and of what was collected.
        """
        outer, inner = self.graph, self.graph.inside()
        self.graph = inner
        number, before, values = inner.name("turn"), inner.name("again"), [inner.name("value") for _ in start]
        again, after, collected = body(number, values)
        # Outputs of a graph are results of its own, each by a name of its own.
        again, *results = (inner.add("Identity", [name]) for name in (again, *after, *collected))
        self.graph = outer
        types = how["types"]
        info = helper.make_tensor_value_info
        inputs = [info(number, TensorProto.INT64, []), info(before, TensorProto.BOOL, [])]
        inputs += [info(name, *kind) for name, kind in zip(values, types, strict=False)]
        outputs = [info(name, *kind) for name, kind in zip(results, types, strict=True)]
        graph = helper.make_graph(inner.nodes, number, inputs, [info(again, TensorProto.BOOL, []), *outputs])
        return outer.add_several("Loop", [how["turns"], how["goes_on"], *start], len(results), body=graph)


class _Arguments(Sequence):
    """Names of an operation's inputs, which are asked for only where they are needed."""

    def __init__(self, named: Callable[[tf.Tensor], str], tensors: Sequence[tf.Tensor]) -> None:
        self._named, self._tensors = named, tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._named(tensor) for tensor in self._tensors[index]]
        return self._named(self._tensors[index])


def for_each_image(
    translation: Translation, function: Any, maps: Sequence[str], shape: Sequence[int], batch: int | None
) -> str:
    """A function of one image for all of a batch, one after the other.

    Args:
        translation: `Translation`.
        function: `tf.Graph`, as of `Translation.call`, with one output.
        maps: sequence of str. Its inputs, for a batch of images.
        shape: sequence of int. Shape of its output, without the number of images.
        batch: int, or None for any number of images.

    Returns:
        Name of the outputs, `(batch, *shape)`.
    """
    if batch == 1:
        return translation.call(function, maps)[0]
    always = translation.constant(np.array(True))
    if batch is None:
        sides = translation.add("Shape", maps[0])
        images = translation.shaped(translation.add("Slice", sides, *(translation.integers(end) for end in (0, 1))), ())
    else:
        images = translation.constant(np.array(batch, np.int64))

    def one(number: str, _: Sequence[str]) -> tuple[str, list[str], list[str]]:
        place = translation.shaped(number, (1,))
        (result,) = translation.call(function, [translation.add("Gather", name, place, axis=0) for name in maps])
        return always, [], [translation.shaped(result, shape)]

    return translation.loop(one, [], turns=images, goes_on=always, types=[(TensorProto.FLOAT, list(shape))])[0]
