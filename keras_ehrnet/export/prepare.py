"""The network that a device gets: one image of a fixed size, and as few operations as give the same maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_ehrnet.models.efficientpose import bilinear_kernel
from keras_ehrnet.runtime.keras import KerasNetwork

Tensor = Any


def static_model(
    model: keras.Model, input_size: tuple[int, int] | None = None, *, for_tflite: bool = False
) -> keras.Model:
    """The same network for one image of fixed size, in float32, with everything folded that folds exactly.

    Batch normalization, constant factors (normalization of pixels, e-swish's 1.25) and dropout vanish into the
    convolutions around them. Of branches that are enlarged and summed, coarse ones are added first, so that the fine
    map is written once. Weights are copied; the model itself stays as it is.

    Args:
        model: `keras.Model`, functional, from one of this package's builders.
        input_size: tuple (height, width) in pixels, or None for the model's own, or its paper's.
        for_tflite: bool. Whether to choose what TensorFlow Lite runs fastest: transposed convolutions become ordinary
            ones, whose results are rearranged, or bilinear resizes where they are just that. Such a model takes one
            image at a time, on TensorFlow.

    Returns:
        `keras.Model` from float32 RGB in [0, 255] of shape `(1, height, width, 3)` to a dict of the same maps.

    Raises:
        ValueError: if the model gives no heatmaps or does not normalize its input, if its size is not known or no
            multiple of its stride, or if it is not made of layers that are used once.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.prepare import static_model
        >>> static = static_model(ke.EfficientHRNet(-4), (64, 96))
        >>> static.output["heatmaps_2"].shape
        (1, 32, 48, 17)
    """
    size = KerasNetwork(model, input_size=input_size).input_size
    inputs = keras.Input(batch_shape=(1, *size, 3), dtype="float32", name="image")
    signals = {id(model.inputs[0]): Signal(inputs)}
    readers = _count_readers(model)
    rules = (*TFLITE_RULES, *RULES) if for_tflite else RULES
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        source, result = _ends(model, layer)
        arrived = [signals[id(tensor)] for tensor in keras.tree.flatten(source)]
        only_reader = all(readers[id(tensor)] == 1 for tensor in keras.tree.flatten(source))
        signals[id(result)] = _rule(layer, rules)(layer, arrived, only_reader)
    outputs = {name: signals[id(tensor)].finished() for name, tensor in model.output.items()}
    return keras.Model(inputs, outputs, name=model.name)


@dataclass(frozen=True)
class Signal:
    """A tensor, and what is still to be done to it.

    Args:
        tensor: `KerasTensor` of shape `(1, H, W, C)`.
        scale: float array of shape `(C,)`, or None. Factors of the channels.
        enlargement: int. Factor of a nearest-neighbour enlargement.
        producer: layer or None. The convolution that it comes from, however its pixels were arranged since.
        parts: tuple of `Signal`. What it is the concatenation of.
    """

    tensor: Tensor
    scale: np.ndarray | None = None
    enlargement: int = 1
    producer: layers.Layer | None = None
    parts: tuple[Signal, ...] = ()

    def scales(self) -> np.ndarray:
        return np.ones(self.tensor.shape[-1]) if self.scale is None else self.scale

    def enlarged(self, factor: int) -> Signal:
        """With so much of the enlargement done."""
        if factor == 1:
            return self
        height, width = (side * factor for side in self.tensor.shape[1:3])
        resize = layers.Resizing(height, width, interpolation="nearest", dtype="float32")
        return replace(self, tensor=resize(self.tensor), enlargement=self.enlargement // factor, producer=None)

    def scaled(self) -> Signal:
        """With nothing but the enlargement left to do."""
        if self.scale is None:
            return self
        return Signal(layers.Rescaling(self.scale.tolist(), dtype="float32")(self.tensor), None, self.enlargement)

    def finished(self) -> Tensor:
        """The tensor with everything done."""
        return self.scaled().enlarged(self.enlargement).tensor


Rule = Callable[[layers.Layer, Sequence[Signal], bool], Signal]


class DepthToSpace(layers.Layer):
    """Four neighbouring pixels from four times the channels."""

    def __init__(self) -> None:
        super().__init__(dtype="float32")

    def call(self, x: Tensor) -> Tensor:
        import tensorflow as tf

        return tf.nn.depth_to_space(x, 2)

    def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, height, width, channels = shape
        return batch, 2 * height, 2 * width, channels // 4


def _count_readers(model: keras.Model) -> dict[int, int]:
    """How often every tensor is read, as an output of the network too."""
    read = [tensor for layer in model.layers for tensor in keras.tree.flatten(_ends(model, layer)[0])]
    ids = [id(tensor) for tensor in [*read, *model.outputs]]
    return {tensor: ids.count(tensor) for tensor in set(ids)}


def _ends(model: keras.Model, layer: layers.Layer) -> tuple[Any, Tensor]:
    try:
        return layer.input, layer.output
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"An exported model is made of layers that are used once each. Received: {layer.name!r} in {model.name!r}"
        ) from error


def _convolution(layer: layers.Conv2D, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """A convolution whose kernel takes the factors that its input still lacks."""
    (signal,) = signals
    kernel = np.asarray(layer.kernel, np.float64)
    if signal.scale is not None:
        # Axes are (y, x, in, out); of transposed convolutions (y, x, out, in), of depthwise ones (y, x, in, 1).
        kernel = kernel * _along(signal.scale, 3 if isinstance(layer, layers.Conv2DTranspose) else 2)
    tensor = replace(signal, scale=None).finished()
    copy = _like(layer, use_bias=True)
    result = copy(tensor)
    _assign(copy, kernel, _bias(layer))
    return Signal(result, producer=copy)


def _subpixel_convolution(layer: layers.Conv2DTranspose, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """A 4x4/2 transposed convolution as what it is: 2x2 convolutions, one for each of four neighbouring pixels.

    The same multiplications, but in one ordinary convolution, for which devices have their fastest code.
    """
    if layer.kernel_size != (4, 4) or layer.strides != (2, 2) or layer.padding != "same":
        return _convolution(layer, signals, only_reader)
    (signal,) = signals
    if _is_bilinear(layer):
        return _interpolated(signal)
    kernel = np.asarray(layer.kernel, np.float64) * _along(signal.scales(), 3)
    tensor, kernel = _without_linear_parts(replace(signal, scale=None), kernel)
    # Of the rows 2y - 1 and 2y of the result, the first reads the kernel's rows 2 and 0, the second 3 and 1, from the
    # input's rows y - 1 and y; columns likewise.
    kernel = kernel.reshape(2, 2, 2, 2, *kernel.shape[2:])[::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, tensor.shape[-1], -1)
    conv = layers.Conv2D(kernel.shape[-1], 2, activation=layer.activation, dtype="float32", name=layer.name)
    result = conv(layers.ZeroPadding2D(1, dtype="float32")(tensor))
    _assign(conv, kernel, np.tile(_bias(layer), 4))
    return Signal(layers.Cropping2D(1, dtype="float32")(DepthToSpace()(result)), producer=conv)


def _is_bilinear(layer: layers.Conv2DTranspose) -> bool:
    """Whether it was built to interpolate, and never trained."""
    kernel = np.asarray(layer.kernel)
    is_plain = _is_linear(layer) and not _bias(layer).any()
    return is_plain and np.array_equal(kernel, bilinear_kernel(kernel.shape[2]))


def _interpolated(signal: Signal) -> Signal:
    """Twice as large, with zeros around: a resize alone would go on with the outermost pixels instead."""
    tensor = layers.ZeroPadding2D(1, dtype="float32")(replace(signal, scale=None).finished())
    height, width = (2 * side for side in tensor.shape[1:3])
    tensor = layers.Resizing(height, width, interpolation="bilinear", dtype="float32")(tensor)
    return Signal(layers.Cropping2D(2, dtype="float32")(tensor), signal.scale)


def _without_linear_parts(signal: Signal, kernel: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Spares a transposed convolution the maps that are linear in other channels that it reads.

    Of [x, W x + b], K's result is that of [x, 1], with a kernel made of K, W and b. The ones are a channel rather than
    a bias: the zeros around the image have none.
    """
    plain = [part for part in signal.parts if not _is_linear_in(part, signal.parts)]
    if len(plain) != 1 or len(signal.parts) < 2 or signal.enlargement != 1:
        return signal.finished(), kernel
    starts = np.cumsum([0, *(part.tensor.shape[-1] for part in signal.parts)])
    slices = [kernel[..., start:end] for start, end in itertools.pairwise(starts)]
    (source,) = plain
    folded, ones = 0.0, 0.0
    for part, piece in zip(signal.parts, slices, strict=True):
        if part is source:
            folded = folded + piece
            continue
        weights, bias = (np.asarray(weight, np.float64) for weight in part.producer.get_weights())
        folded, ones = folded + piece @ weights[0, 0].T, ones + piece @ bias[:, None]
    constant = np.ones((*source.tensor.shape[:-1], 1), "float32")
    tensor = keras.ops.concatenate([source.tensor, constant], axis=-1)
    return tensor, np.concatenate([folded, ones], axis=-1)


def _is_linear_in(part: Signal, others: Sequence[Signal]) -> bool:
    conv = part.producer
    if type(conv) is not layers.Conv2D or conv.output is not part.tensor or part.enlargement != 1:
        return False
    is_linear = conv.kernel_size == (1, 1) and conv.strides == (1, 1) and _is_linear(conv)
    return is_linear and any(conv.input is other.tensor for other in others)


def _batch_norm(layer: layers.BatchNormalization, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Folded into the convolution before it."""
    (signal,) = signals
    conv = signal.producer
    if conv is None or not _is_linear(conv) or not only_reader:
        return _any_other(layer, signals, only_reader)
    mean, variance = (np.asarray(value, np.float64) for value in (layer.moving_mean, layer.moving_variance))
    gain = np.asarray(layer.gamma, np.float64) / np.sqrt(variance + layer.epsilon)
    offset = np.asarray(layer.beta, np.float64) - mean * gain
    kernel, bias = (np.asarray(weight, np.float64) for weight in conv.get_weights())
    copies = len(bias) // len(gain)
    gain, offset = np.tile(gain, copies), np.tile(offset, copies)
    axis = {layers.DepthwiseConv2D: 2, layers.Conv2DTranspose: 2}.get(type(conv), 3)
    _assign(conv, kernel * _along(gain, axis), bias * gain + offset)
    return signal


def _activation(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """ReLU becomes part of the convolution before it."""
    (signal,) = signals
    conv = signal.producer
    function = _RELUS.get(getattr(layer, "max_value", None)) if _is_relu(layer) else None
    if conv is None or function is None or not _is_linear(conv) or not only_reader:
        return _any_other(layer, signals, only_reader)
    conv.activation = function
    return replace(signal, producer=None)


_RELUS = {None: keras.activations.relu, 6.0: keras.activations.relu6}


def _is_relu(layer: layers.Layer) -> bool:
    if isinstance(layer, layers.ReLU):
        return not layer.negative_slope and not layer.threshold
    return layer.activation is keras.activations.relu


def _rescaling(
    layer: layers.Rescaling, signals: Sequence[Signal], only_reader: bool, *, by_rows: bool = False
) -> Signal:
    """s x + t = s (x + t / s): the factors wait for the next convolution, an offset is added here."""
    signal = signals[0].scaled()
    channels = signal.tensor.shape[-1]
    scale, offset = (np.broadcast_to(np.asarray(value, np.float64), channels) for value in (layer.scale, layer.offset))
    if offset.any():
        # Not folded into the next convolution's bias: zero padding would then no longer be the normalized zero.
        tensor, shift = signal.finished(), (offset / scale).astype("float32")
        rows = np.broadcast_to(shift, (1, 1, *tensor.shape[2:])) if by_rows else shift
        signal = Signal(keras.ops.add(tensor, rows))
    return replace(signal, scale=scale, producer=None)


# The same three numbers for a whole row: adding rows to rows is much faster than triples to triples.
_rescaling_by_rows = partial(_rescaling, by_rows=True)


def _product(layer: layers.Multiply, signals: Sequence[Signal], only_reader: bool) -> Signal:
    tensor = _like(layer)([replace(signal, scale=None).finished() for signal in signals])
    return Signal(tensor, np.prod([signal.scales() for signal in signals], axis=0))


def _pooling(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Means and zero padding commute with factors of channels."""
    (signal,) = signals
    return Signal(_like(layer)(replace(signal, scale=None).finished()), signal.scale)


def _concatenation(layer: layers.Concatenate, signals: Sequence[Signal], only_reader: bool) -> Signal:
    tensor = _like(layer)([replace(signal, scale=None).finished() for signal in signals])
    return Signal(tensor, np.concatenate([signal.scales() for signal in signals]), parts=tuple(signals))


def _enlargement(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Nearest-neighbour enlargement, left to whatever reads it."""
    (signal,) = signals
    if layer.interpolation != "nearest":
        return _any_other(layer, signals, only_reader)
    factor = layer.size[0] if isinstance(layer, layers.UpSampling2D) else layer.height // layer.input.shape[1]
    return replace(signal, enlargement=signal.enlargement * factor, producer=None)


def _sum(layer: layers.Add, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Coarse maps first: what they have in common is enlarged once."""
    coarse_first = sorted((signal.scaled() for signal in signals), key=lambda signal: -signal.enlargement)
    total = coarse_first[0]
    for signal in coarse_first[1:]:
        total = total.enlarged(total.enlargement // signal.enlargement)
        total = replace(signal, tensor=layers.Add(dtype="float32")([total.tensor, signal.tensor]), producer=None)
    return total


def _nothing(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    return signals[0]


def _any_other(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    copy = _like(layer)
    tensors = [signal.finished() for signal in signals]
    result = copy(tensors if isinstance(layer.input, list) else tensors[0])
    copy.set_weights(layer.get_weights())
    return Signal(result)


RULES: tuple[tuple[tuple[type, ...], Rule], ...] = (
    ((layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose), _convolution),
    ((layers.BatchNormalization,), _batch_norm),
    ((layers.Rescaling,), _rescaling),
    ((layers.Multiply,), _product),
    ((layers.GlobalAveragePooling2D, layers.AveragePooling2D, layers.ZeroPadding2D), _pooling),
    ((layers.Concatenate,), _concatenation),
    ((layers.UpSampling2D, layers.Resizing), _enlargement),
    ((layers.Add,), _sum),
    ((layers.Dropout,), _nothing),
)


TFLITE_RULES: tuple[tuple[tuple[type, ...], Rule], ...] = (
    ((layers.Conv2DTranspose,), _subpixel_convolution),
    ((layers.Rescaling,), _rescaling_by_rows),
    ((layers.Activation, layers.ReLU), _activation),
)


def _rule(layer: layers.Layer, rules: tuple[tuple[tuple[type, ...], Rule], ...]) -> Rule:
    return next((rule for kinds, rule in rules if isinstance(layer, kinds)), _any_other)


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    """Values along one axis of a kernel."""
    return np.expand_dims(values, [other for other in range(4) if other != axis])


def _bias(layer: layers.Layer) -> np.ndarray:
    channels = layer.output.shape[-1]
    return np.asarray(layer.bias, np.float64) if layer.use_bias else np.zeros(channels)


def _assign(conv: layers.Layer, kernel: np.ndarray, bias: np.ndarray) -> None:
    conv.set_weights([kernel.astype("float32"), bias.astype("float32")])


def _is_linear(conv: layers.Layer) -> bool:
    return conv.activation is keras.activations.linear


def _like(layer: layers.Layer, **changes: object) -> layers.Layer:
    """A new layer of the same configuration, in float32."""
    return type(layer).from_config({**layer.get_config(), "dtype": "float32", **changes})
