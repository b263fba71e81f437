"""TensorFlow's operations as ONNX operators, for `keras_ehrnet.export.onnx_functions`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_ehrnet.export.onnx_functions import TYPES, Emitter, Translation
from keras_ehrnet.export.onnx_layers import same_pads

_REDUCTIONS_TAKE_AXES = 18
"""From this opset on axes are an input of every reduction; before, an attribute of all but sums."""


def _while(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> list[str]:
    """A loop of ONNX looks at its condition at the end of a turn. What no turn changes stays outside."""
    condition, body = (operation.graph._get_function(operation.get_attr(part).name).graph for part in ("cond", "body"))
    changing = [
        index
        for index, (before, after) in enumerate(zip(body.inputs, body.outputs, strict=True))
        if _origin(after).ref() != before.ref()
    ]

    def everything(values: Sequence[str]) -> list[str]:
        changed = dict(zip(changing, values, strict=True))
        return [changed.get(index, name) for index, name in enumerate(arguments)]

    def turn(_: str, values: Sequence[str]) -> tuple[str, list[str], list[str]]:
        results = to.call(body, everything(values))
        after = [results[index] for index in changing]
        return to.call(condition, everything(after))[0], after, []

    (goes_on,) = to.call(condition, arguments)
    kinds = [(TYPES[body.inputs[index].dtype], body.inputs[index].shape.as_list()) for index in changing]
    start = [arguments[index] for index in changing]
    return everything(to.loop(turn, start, turns="", goes_on=goes_on, types=kinds))


def _origin(tensor: tf.Tensor) -> tf.Tensor:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _as(operator: str) -> Emitter:
    return lambda to, operation, arguments: to.add(operator, *arguments)


def _static(operation: tf.Operation, index: int) -> np.ndarray:
    value = tf.get_static_value(operation.inputs[index])
    if value is None:
        raise ValueError(
            f"The ONNX export needs a constant. Received: input {index} of {operation.type} ({operation.name})"
        )
    return np.asarray(value)


def _axes(operation: tf.Operation, index: int = 1) -> list[int]:
    return [int(axis) for axis in _static(operation, index).ravel()]


def _shape(tensor: tf.Tensor) -> list[int | None]:
    """Sides of a tensor; None is what depends on the images' size."""
    return tensor.shape.as_list()


def _reduction(operator: str) -> Emitter:
    def emit(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
        axes, keep = _axes(operation), int(operation.get_attr("keep_dims"))
        if operator == "ReduceSum" or to.opset >= _REDUCTIONS_TAKE_AXES:
            return to.add(operator, arguments[0], to.integers(*axes), keepdims=keep)
        return to.add(operator, arguments[0], axes=axes, keepdims=keep)

    return emit


def _of_truths(operator: str) -> Emitter:
    def emit(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
        numbers = to.cast(arguments[0], tf.int32)
        return to.cast(str(_reduction(operator)(to, operation, [numbers])), tf.bool)

    return emit


def _place(operator: str) -> Emitter:
    def emit(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
        (axis,) = _axes(operation)
        return to.cast(to.add(operator, arguments[0], axis=axis, keepdims=0), operation.outputs[0].dtype)

    return emit


def _select(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    condition, one, other = arguments
    if operation.outputs[0].dtype != tf.bool:
        return to.add("Where", condition, one, other)
    neither = to.add("And", to.add("Not", condition), other)
    return to.add("Or", to.add("And", condition, one), neither)


def _cumulated(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    how = {name: int(operation.get_attr(name)) for name in ("exclusive", "reverse")}
    return to.add("CumSum", arguments[0], to.constant(np.array(_axes(operation)[0], np.int64)), **how)


def _divided(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    """Division that rounds down, where ONNX's rounds towards zero."""
    rest = to.add("Mod", *arguments)
    return to.add("Div", to.add("Sub", arguments[0], rest), arguments[1])


def _gathered(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    (axis,) = _axes(operation, 2)
    if not operation.get_attr("batch_dims"):
        return to.add("Gather", *arguments[:2], axis=axis)
    rows = _shape(operation.inputs[0])
    if len(rows) != 2 or operation.get_attr("batch_dims") != 1:
        raise ValueError(f"The ONNX export gathers from the rows of tables. Received: {operation.name}")
    index = to.shaped(arguments[1], (rows[0], -1))
    return to.shaped(to.add("GatherElements", arguments[0], index, axis=1), _shape(operation.outputs[0]))


def _padded(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    return to.add("Pad", arguments[0], to.integers(*_static(operation, 1).T.ravel()), *arguments[2:])


def _stacked(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    axis, shape = operation.get_attr("axis"), _shape(operation.outputs[0])
    axis %= len(shape)
    shape[axis] = 1
    return to.add("Concat", *(to.shaped(name, shape) for name in arguments), axis=axis)


def _joined(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    (axis,) = _axes(operation, len(arguments) - 1)
    return to.add("Concat", *arguments[:-1], axis=axis)


def _reshaped(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    shape = _shape(operation.outputs[0])
    if shape.count(None) > 1:
        return to.add("Reshape", arguments[0], to.sides(arguments[1], len(shape)))
    return to.shaped(arguments[0], shape)


def _slice(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    """A part of a tensor that may begin anywhere, and be of any size, but for -1: up to the end."""
    begin, shape = to.wide(arguments[1]), _shape(operation.outputs[0])
    known = [side for side in shape if side is not None]
    end = to.add("Add", begin, to.integers(*known) if len(known) == len(shape) else to.wide(arguments[2]))
    return to.add("Slice", arguments[0], begin, end)


def _indexed(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    """`tensor[..., 1, None]` and the like: parts of a tensor, with axes that come and go."""
    begin, end, step = (_static(operation, index) for index in (1, 2, 3))
    masks = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    begins, ends, ellipsis, new, single = (operation.get_attr(f"{mask}_mask") for mask in masks)
    sides = _shape(operation.inputs[0])
    taken = sum(not (ellipsis | new) >> number & 1 for number in range(len(begin)))
    axis, parts = 0, []
    for number in range(len(begin)):
        if ellipsis >> number & 1:
            axis = len(sides) - sum(not new >> later & 1 for later in range(number + 1, len(begin)))
        elif not new >> number & 1:
            one = single >> number & 1
            start = 0 if begins >> number & 1 and not one else int(begin[number])
            stop = start + 1 or sides[axis] if one else sides[axis] if ends >> number & 1 else int(end[number])
            if step[number] != 1 or taken > len(sides):
                raise ValueError(f"The ONNX export slices in steps of one. Received: {operation.name}")
            if (start, stop) != (0, sides[axis]):
                parts.append((axis, start, stop))
            axis += 1
    name = arguments[0]
    if parts:
        axes, starts, stops = (to.integers(*values) for values in zip(*parts, strict=True))
        name = to.add("Slice", name, starts, stops, axes)
    return to.shaped(name, _shape(operation.outputs[0]))


def _highest(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> list[str]:
    known = tf.get_static_value(operation.inputs[1])
    count = to.integers(int(known)) if known is not None else to.wide(to.shaped(arguments[1], (1,)))
    values, index = to.graph.add_several("TopK", [arguments[0], count], 2, axis=-1)
    return [values, to.cast(index, operation.outputs[1].dtype)]


def _transposed(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    return to.add("Transpose", arguments[0], perm=_axes(operation))


def _pooled(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    size, strides = (operation.get_attr(name)[1:3] for name in ("ksize", "strides"))
    pads = same_pads(_shape(operation.inputs[0])[1:3], size, strides)
    name = to.add("Transpose", arguments[0], perm=_FIRST)
    return to.add(
        "Transpose",
        to.add("MaxPool", name, kernel_shape=list(size), strides=list(strides), pads=list(pads)),
        perm=_LAST,
    )


def _resized(to: Translation, operation: tf.Operation, arguments: Sequence[str]) -> str:
    if operation.get_attr("align_corners") or not operation.get_attr("half_pixel_centers"):
        raise ValueError(f"The ONNX export resizes between the centers of pixels. Received: {operation.name}")
    images, *before, channels = operation.inputs[0].shape.as_list()
    after = _shape(operation.outputs[0])[1:3]
    factors = [new / old for old, new in zip(before, after, strict=True) if old is not None and new is not None]
    if len(factors) == 2:
        sizes = [to.constant(np.array([1, 1, *factors], np.float32))]
    else:
        sizes = ["", to.add("Concat", to.integers(images, channels), to.sides(arguments[1], 2), axis=0)]
    name = to.add("Transpose", arguments[0], perm=_FIRST)
    return to.add("Transpose", to.add("Resize", name, "", *sizes, mode="linear"), perm=_LAST)


_FIRST, _LAST = [0, 3, 1, 2], [0, 2, 3, 1]
"""Orders of axes: channels first, and last."""

EMITTERS: dict[str, Emitter] = {
    "Abs": _as("Abs"),
    "AddV2": _as("Add"),
    "All": _of_truths("ReduceMin"),
    "Any": _of_truths("ReduceMax"),
    "ArgMax": _place("ArgMax"),
    "ArgMin": _place("ArgMin"),
    "Cast": lambda to, operation, arguments: to.cast(arguments[0], operation.outputs[0].dtype),
    "ConcatV2": _joined,
    "Cumsum": _cumulated,
    "Equal": _as("Equal"),
    "FloorDiv": _divided,
    "FloorMod": _as("Mod"),
    "GatherV2": _gathered,
    "Greater": _as("Greater"),
    "GreaterEqual": _as("GreaterOrEqual"),
    "Identity": lambda to, operation, arguments: arguments,
    "Less": _as("Less"),
    "LessEqual": _as("LessOrEqual"),
    "Log": _as("Log"),
    "LogicalAnd": _as("And"),
    "LogicalNot": _as("Not"),
    "LogicalOr": _as("Or"),
    "Max": _reduction("ReduceMax"),
    "MaxPool": _pooled,
    "Maximum": _as("Max"),
    "Mean": _reduction("ReduceMean"),
    "Min": _reduction("ReduceMin"),
    "Minimum": _as("Min"),
    "Mul": _as("Mul"),
    "Neg": _as("Neg"),
    "Pack": _stacked,
    "Pad": _padded,
    "PadV2": _padded,
    "Pow": _as("Pow"),
    "Range": _as("Range"),
    "RealDiv": _as("Div"),
    "Reshape": _reshaped,
    "ResizeBilinear": _resized,
    "Round": _as("Round"),
    "SelectV2": _select,
    "Shape": lambda to, operation, arguments: to.cast(to.add("Shape", *arguments), operation.outputs[0].dtype),
    "Slice": _slice,
    "Sqrt": _as("Sqrt"),
    "StatelessWhile": _while,
    "StridedSlice": _indexed,
    "Sub": _as("Sub"),
    "Sum": _reduction("ReduceSum"),
    "TopKV2": _highest,
    "Transpose": _transposed,
    "While": _while,
}
"""Operation of TensorFlow -> the function that appends it to a graph and returns the names of its outputs."""
