"""Keras layers as ONNX operators: a functional model of stock layers becomes a graph in channels-first order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import keras
import numpy as np
from keras import layers
from onnx import GraphProto, TensorProto, helper

from keras_ehrnet.export.onnx_graph import Graph, Pads, Value

INPUT_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


Emitter = Callable[[Graph, Any, Sequence[Value]], str]


class Decoder(Protocol):
    """Appends to a graph what makes one output of a network's maps."""

    @property
    def decode(self) -> str:
        """Name of the output."""
        ...

    def __call__(self, graph: Graph, maps: Mapping[str, Value]) -> tuple[str, tuple[int, ...]]:
        """Name of the output's tensor, and its shape without the number of images."""
        ...


def graph_of(
    model: keras.Model,
    *,
    input_dtype: str = "uint8",
    batch: int | None = 1,
    any_size: bool = False,
    decoder: Decoder | None = None,
) -> GraphProto:
    """A functional model of fixed size as an ONNX graph that computes in channels-first order.

    Images enter and maps leave channels last, as in Keras: one transposition at either end.

    Args:
        model: `keras.Model`, functional, of the layers in `EMITTERS`, with one image input of fixed height and width.
        input_dtype: str. `"uint8"` or `"float32"`.
        batch: int, or None for any number of images.
        any_size: bool. Whether height and width are free. Of sides that all strides divide, as they do the model's,
            the zeros around them are the same.
        decoder: `Decoder`, or None for the model's outputs as they are.

    Returns:
        `GraphProto` with an input `"image"` of shape `(batch, H, W, C)` and the model's outputs by name, or the
        decoder's.

    Raises:
        ValueError: for a layer that has no counterpart here.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.onnx_layers import graph_of
        >>> graph = graph_of(ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)))
        >>> [output.name for output in graph.output]
        ['heatmaps']
    """
    (image,) = model.inputs
    outputs = _outputs(model)
    graph = Graph("image", {"image", *outputs})
    values = {id(image): Value(_channels_first(graph, input_dtype, len(image.shape)), tuple(image.shape))}
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            arrived = [_known(values, tensor, layer) for tensor in keras.tree.flatten(layer.input)]
            graph.scope = layer.name
            values[id(layer.output)] = _emitted(graph, layer, arrived)
    arrived = {name: _known(values, tensor, model) for name, tensor in outputs.items()}
    if decoder is None:
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()}
        free = any_size
        for name, value in arrived.items():
            graph.scope = name
            _channels_last(graph, graph.padded(value), len(value.shape), name)
    else:
        if any_size:
            arrived = {
                name: replace(value, shape=(value.shape[0], None, None, value.shape[3]))
                for name, value in arrived.items()
            }
        result, shape = decoder(graph, arrived)
        shapes, free = {decoder.decode: shape}, False
        graph.nodes.append(helper.make_node("Identity", [result], [decoder.decode], name=decoder.decode))
    return helper.make_graph(
        graph.nodes,
        model.name,
        [helper.make_tensor_value_info("image", INPUT_TYPES[input_dtype], _shape(image.shape[1:], batch, any_size))],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, _shape(shape, batch, free, f"{name}_"))
            for name, shape in shapes.items()
        ],
        graph.constants,
    )


def check_any_size(model: keras.Model, multiple: int) -> None:
    """ValueError for a network that pads some images otherwise than those of its own size.

    Args:
        model: `keras.Model`, functional, of fixed size.
        multiple: int. What the sides of all images are multiples of.
    """
    own = model.inputs[0].shape[1:3]
    for layer in model.layers:
        size = layer.output.shape[1:3]
        # Of vectors nothing is padded, and what a padding layer adds is in what follows it.
        if len(size) < 2 or size == (1, 1) or isinstance(layer, layers.ZeroPadding2D):
            continue
        if any(side % part or multiple % (side // part) for side, part in zip(own, size, strict=True)):
            raise ValueError(
                f"Images of any size, whose sides are multiples of {multiple}, are for networks whose strides divide "
                f"that: leave out any_size. Received: any_size=True for {model.name!r}, in which {layer.name!r} makes "
                f"{size} of {own}"
            )


def _shape(sides: Sequence[int | str], batch: int | None, any_size: bool = False, of: str = "") -> list[int | str]:
    """A shape, in which what is free has a name."""
    if any_size:
        return _shape([f"{of}height", f"{of}width", *sides[2:]], batch)
    return ["batch" if batch is None else batch, *sides]


def _channels_first(graph: Graph, input_dtype: str, rank: int) -> str:
    """Straight after the input: TensorRT takes bytes only where they are converted at once."""
    pixels = graph.add("Cast", ["image"], to=TensorProto.FLOAT) if input_dtype == "uint8" else "image"
    return graph.add("Transpose", [pixels], perm=[0, rank - 1, *range(1, rank - 1)])


def _channels_last(graph: Graph, value: str, rank: int, name: str) -> None:
    if rank == 2:
        graph.nodes.append(helper.make_node("Identity", [value], [name], name=name))
    else:
        graph.nodes.append(helper.make_node("Transpose", [value], [name], name=name, perm=[0, *range(2, rank), 1]))


def _outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    if isinstance(model.output, dict):
        return model.output
    return dict(zip(model.output_names, model.outputs, strict=True))


def _known(values: Mapping[int, Value], tensor: keras.KerasTensor, reader: Any) -> Value:
    if id(tensor) not in values:
        raise ValueError(
            f"An exported model is made of layers that are used once each. Received: {reader.name!r}, which reads "
            "something else"
        )
    return values[id(tensor)]


def _emitted(graph: Graph, layer: layers.Layer, arrived: Sequence[Value]) -> Value:
    kind, shape = type(layer), tuple(layer.output.shape)
    if kind is layers.Dropout:
        return arrived[0]
    if kind is layers.ZeroPadding2D:
        (top, bottom), (left, right) = layer.padding
        return Value(graph.padded(arrived[0]), shape, (top, left, bottom, right))
    if kind not in EMITTERS:
        names = sorted(known.__name__ for known in (*EMITTERS, layers.Dropout, layers.ZeroPadding2D))
        raise ValueError(
            f"The ONNX export knows these layers: {', '.join(names)}. Received: {layer.name!r} of class {kind.__name__}"
        )
    return Value(EMITTERS[kind](graph, layer, arrived), shape)


def _require(holds: bool, layer: layers.Layer, what: str) -> None:
    if not holds:
        raise ValueError(f"The ONNX export of {type(layer).__name__} needs {what}. Received: layer {layer.name!r}")


def same_pads(sides: Iterable[int | None], kernel: Sequence[int], strides: Sequence[int]) -> Pads:
    """TensorFlow's SAME padding: as many outputs as inputs per stride, the odd zero below and on the right.

    Sides of which nothing is known are multiples of the stride.
    """
    totals = [
        max((math.ceil((side or stride) / stride) - 1) * stride + size - (side or stride), 0)
        for side, size, stride in zip(sides, kernel, strides, strict=True)
    ]
    top, left = (total // 2 for total in totals)
    return top, left, totals[0] - top, totals[1] - left


def _window(value: Value, layer: Any, size: Sequence[int], dilation: Sequence[int] = (1, 1)) -> dict[str, object]:
    """Attributes of whatever slides over an image."""
    _require(layer.data_format == "channels_last", layer, "channels last")
    extent = [(side - 1) * step + 1 for side, step in zip(size, dilation, strict=True)]
    own = (0, 0, 0, 0) if layer.padding == "valid" else same_pads(value.shape[1:3], extent, layer.strides)
    pads = [given + added for given, added in zip(value.pads, own, strict=True)]
    return {"kernel_shape": list(size), "strides": list(layer.strides), "pads": pads}


def _weights(graph: Graph, layer: Any, kernel: np.ndarray) -> list[str]:
    names = [graph.constant(kernel.astype("float32"), "kernel")]
    if layer.use_bias:
        names.append(graph.constant(_array(layer.bias), "bias"))
    return names


def _array(weight: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(weight), np.float32)


def _convolution(graph: Graph, layer: layers.Conv2D, values: Sequence[Value]) -> str:
    return _convolved(graph, layer, values[0], _array(layer.kernel).transpose(3, 2, 0, 1), layer.groups)


def _depthwise(graph: Graph, layer: layers.DepthwiseConv2D, values: Sequence[Value]) -> str:
    kernel = _array(layer.kernel).transpose(2, 3, 0, 1)
    return _convolved(graph, layer, values[0], kernel.reshape(-1, 1, *kernel.shape[2:]), group=len(kernel))


def _convolved(graph: Graph, layer: Any, value: Value, kernel: np.ndarray, group: int) -> str:
    window = _window(value, layer, layer.kernel_size, layer.dilation_rate)
    inputs = [value.name, *_weights(graph, layer, kernel)]
    name = graph.add("Conv", inputs, group=group, dilations=list(layer.dilation_rate), **window)
    return _activated(graph, layer, name)


def _transposed(graph: Graph, layer: layers.Conv2DTranspose, values: Sequence[Value]) -> str:
    _require(
        tuple(layer.dilation_rate) == (1, 1) and layer.output_padding is None,
        layer,
        "no dilation and no output_padding",
    )
    # What overlaps beyond stride times the input's side: SAME cuts it off, the odd row below and on the right.
    overlap = [max(size - stride, 0) for size, stride in zip(layer.kernel_size, layer.strides, strict=True)]
    before = [0 if layer.padding == "valid" else side // 2 for side in overlap]
    after = [0 if layer.padding == "valid" else side - first for side, first in zip(overlap, before, strict=True)]
    missing = [max(stride - size, 0) for size, stride in zip(layer.kernel_size, layer.strides, strict=True)]
    inputs = [graph.padded(values[0]), *_weights(graph, layer, _array(layer.kernel).transpose(3, 2, 0, 1))]
    window = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.strides), "pads": [*before, *after]}
    name = graph.add("ConvTranspose", inputs, output_padding=missing, **window)
    return _activated(graph, layer, name)


def _batch_norm(graph: Graph, layer: layers.BatchNormalization, values: Sequence[Value]) -> str:
    variance = _array(layer.moving_variance)
    parts = {
        "gamma": _array(layer.gamma) if layer.scale else np.ones_like(variance),
        "beta": _array(layer.beta) if layer.center else np.zeros_like(variance),
        "mean": _array(layer.moving_mean),
        "variance": variance,
    }
    inputs = [graph.constant(array, part) for part, array in parts.items()]
    return graph.add("BatchNormalization", [graph.padded(values[0]), *inputs], epsilon=layer.epsilon)


def _dense(graph: Graph, layer: layers.Dense, values: Sequence[Value]) -> str:
    _require(len(values[0].shape) == 2, layer, "vectors")
    inputs = [values[0].name, *_weights(graph, layer, _array(layer.kernel))]
    return _activated(graph, layer, graph.add("Gemm", inputs))


def _linear(graph: Graph, name: str) -> str:
    return name


def _silu(graph: Graph, name: str) -> str:
    gate = graph.add("Sigmoid", [name])
    return graph.add("Mul", [name, gate])


def _clipped(graph: Graph, name: str, top: float = 6.0) -> str:
    limits = [graph.constant(np.array(limit, np.float32), "limit") for limit in (0.0, top)]
    return graph.add("Clip", [name, *limits])


def _operator(operator: str, **attributes: object) -> Callable[[Graph, str], str]:
    def add(graph: Graph, name: str) -> str:
        return graph.add(operator, [name], **attributes)

    return add


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "linear": _linear,
    "relu": _operator("Relu"),
    "relu6": _clipped,
    "sigmoid": _operator("Sigmoid"),
    "silu": _silu,
    "softmax": _operator("Softmax", axis=1),
}
"""Activation of Keras -> the function that appends it."""


def _activated(graph: Graph, layer: Any, name: str) -> str:
    kind = keras.activations.serialize(layer.activation)
    if kind not in ACTIVATIONS:
        raise ValueError(
            f"The ONNX export knows these activations: {', '.join(ACTIVATIONS)}. Received: {kind!r} in layer "
            f"{layer.name!r}"
        )
    return ACTIVATIONS[kind](graph, name)


def _activation(graph: Graph, layer: layers.Activation, values: Sequence[Value]) -> str:
    return _activated(graph, layer, graph.padded(values[0]))


def _relu(graph: Graph, layer: layers.ReLU, values: Sequence[Value]) -> str:
    _require(not layer.negative_slope and not layer.threshold, layer, "no slope below zero and no threshold")
    name = graph.padded(values[0])
    if layer.max_value is None:
        return ACTIVATIONS["relu"](graph, name)
    return _clipped(graph, name, layer.max_value)


def _rescaling(graph: Graph, layer: layers.Rescaling, values: Sequence[Value]) -> str:
    name = graph.padded(values[0])
    for operator, array, neutral in (("Mul", layer.scale, 1), ("Add", layer.offset, 0)):
        array = _along_channels(array, len(values[0].shape))
        if (array != neutral).any():
            constant = graph.constant(array, f"{operator.lower()}_by")
            name = graph.add(operator, [name, constant])
    return name


def _along_channels(array: Any, rank: int) -> np.ndarray:
    """A number, or one per channel, in the shape that ONNX stretches along the channels of a tensor."""
    array = np.asarray(array, np.float32)
    return array if array.size == 1 else array.reshape(-1, *[1] * (rank - 2))


def _elementwise(operator: str) -> Emitter:
    def emit(graph: Graph, layer: Any, values: Sequence[Value]) -> str:
        name, *others = [graph.padded(value) for value in values]
        for other in others:
            name = graph.add(operator, [name, other])
        return name

    return emit


def _concatenation(graph: Graph, layer: layers.Concatenate, values: Sequence[Value]) -> str:
    _require(layer.axis in (-1, len(values[0].shape) - 1), layer, "axis=-1")
    return graph.add("Concat", [graph.padded(value) for value in values], axis=1)


def _global_average(graph: Graph, layer: layers.GlobalAveragePooling2D, values: Sequence[Value]) -> str:
    name = graph.add("GlobalAveragePool", [graph.padded(values[0])])
    return name if layer.keepdims else graph.add("Flatten", [name])


def _average(graph: Graph, layer: layers.AveragePooling2D, values: Sequence[Value]) -> str:
    # Keras counts the zeros of a padding layer, and not those of its own SAME padding.
    value = Value(graph.padded(values[0]), values[0].shape)
    return graph.add("AveragePool", [value.name], **_window(value, layer, layer.pool_size))


def _enlargement(graph: Graph, layer: layers.Resizing | layers.UpSampling2D, values: Sequence[Value]) -> str:
    factors = [after / before for before, after in zip(values[0].shape[1:3], layer.output.shape[1:3], strict=True)]
    nearest = layer.interpolation == "nearest" and all(factor.is_integer() for factor in factors)
    _require(nearest, layer, "interpolation='nearest' by whole factors")
    scales = graph.constant(np.array([1, 1, *factors], np.float32), "scales")
    # With whole factors every rule for "nearest" gives the same; this one all runtimes have.
    rule = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", [graph.padded(values[0]), "", scales], **rule)


EMITTERS: dict[type, Emitter] = {
    layers.Activation: _activation,
    layers.Add: _elementwise("Add"),
    layers.AveragePooling2D: _average,
    layers.BatchNormalization: _batch_norm,
    layers.Concatenate: _concatenation,
    layers.Conv2D: _convolution,
    layers.Conv2DTranspose: _transposed,
    layers.Dense: _dense,
    layers.DepthwiseConv2D: _depthwise,
    layers.GlobalAveragePooling2D: _global_average,
    layers.Multiply: _elementwise("Mul"),
    layers.ReLU: _relu,
    layers.Rescaling: _rescaling,
    layers.Resizing: _enlargement,
    layers.UpSampling2D: _enlargement,
}
"""Class of a layer -> the function that appends it to a graph and returns the name of its output."""
