"""Keras models rewritten for what will run them: one walk over the layers, and rules that say what becomes of each.

The rules here are those that hold everywhere, and those for servers and GPUs; phones have more of their own
(`keras_ehrnet.export.litert.rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers

Tensor = Any


@dataclass(frozen=True)
class Signal:
    """A tensor, and what is still to be done to it.

    Args:
        tensor: `KerasTensor`.
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
"""What becomes of a layer: from the layer, what arrives at it, and whether nothing else reads that, to its result."""

Rules = Mapping[type, Rule]


def rewrite(model: keras.Model, input_size: tuple[int, int], rules: Rules, *, batch: int | None = None) -> keras.Model:
    """The same network in float32 for images of one size, each layer as the rule for it says.

    Weights are copied; the model itself stays as it is.

    Args:
        model: `keras.Model`, functional.
        input_size: tuple (height, width) in pixels.
        rules: mapping of class to `Rule`, the first that fits counts. Layers without a rule are copied.
        batch: int, or None for any number of images.

    Returns:
        `keras.Model` with an input `"image"` of shape `(batch, height, width, 3)` and the same outputs.

    Raises:
        ValueError: if the model is not made of layers that are used once each.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.rewrite import rewrite
        >>> rewrite(ke.EfficientHRNet(-4), (64, 96), rules={}, batch=2).output["heatmaps_2"].shape
        (2, 32, 48, 17)
    """
    shape = (batch, *input_size, model.inputs[0].shape[-1])
    inputs = keras.Input(batch_shape=shape, dtype="float32", name="image")
    signals = {id(model.inputs[0]): Signal(inputs)}
    readers = _count_readers(model)
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        sources, result = _ends(model, layer)
        arrived = [_known(signals, tensor, layer) for tensor in sources]
        only_reader = all(readers[id(tensor)] == 1 for tensor in sources)
        signals[id(result)] = _rule(layer, rules)(layer, arrived, only_reader)
    outputs = keras.tree.map_structure(lambda tensor: _known(signals, tensor, model).finished(), model.output)
    return keras.Model(inputs, outputs, name=model.name)


def plain_model(model: keras.Model, input_size: tuple[int, int]) -> keras.Model:
    """The network that servers and GPUs get: for any number of images of one size, of stock layers only.

    Batch normalization vanishes into the convolution before it, dropout altogether; nearest-neighbour enlargement is
    one operation. Every other layer stays what it is: TensorRT and ONNX Runtime have their own ways, and know a layer
    best in its usual form.

    Args:
        model: `keras.Model`, functional, of stock layers.
        input_size: tuple (height, width) in pixels.

    Returns:
        `keras.Model` with an input `"image"` of shape `(None, height, width, 3)` and the same outputs.

    Raises:
        ValueError: if the model is not made of layers that are used once each.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.rewrite import plain_model
        >>> plain = plain_model(ke.EfficientHRNet(-4), (64, 96))
        >>> plain.output["heatmaps_2"].shape, any("bn" in layer.name for layer in plain.layers)
        ((None, 32, 48, 17), False)
    """
    return rewrite(model, input_size, PLAIN)


def _count_readers(model: keras.Model) -> dict[int, int]:
    """How often every tensor is read, as an output of the network too."""
    inner = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    read = [*(tensor for layer in inner for tensor in _ends(model, layer)[0]), *model.outputs]
    counts: dict[int, int] = {}
    for tensor in read:
        counts[id(tensor)] = counts.get(id(tensor), 0) + 1
    return counts


def _ends(model: keras.Model, layer: layers.Layer) -> tuple[list[Tensor], Tensor]:
    """What a layer reads, and what it gives."""
    try:
        return keras.tree.flatten(layer.input), layer.output
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"An exported model is made of layers that are used once each. Received: {layer.name!r} in {model.name!r}"
        ) from error


def _known(signals: Mapping[int, Signal], tensor: Tensor, reader: layers.Layer) -> Signal:
    if id(tensor) not in signals:
        raise ValueError(
            f"An exported model is made of layers that are used once each. Received: {reader.name!r}, which reads "
            "something else"
        )
    return signals[id(tensor)]


def _rule(layer: layers.Layer, rules: Rules) -> Rule:
    return next((rule for kind, rule in rules.items() if isinstance(layer, kind)), copied)


def copied(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """The layer as it is."""
    copy = like(layer)
    result = copy(keras.tree.pack_sequence_as(layer.input, [signal.finished() for signal in signals]))
    copy.set_weights(layer.get_weights())
    return Signal(result)


def convolution(layer: layers.Conv2D, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """A convolution whose kernel takes the factors that its input still lacks."""
    (signal,) = signals
    kernel = np.asarray(layer.kernel, np.float64)
    if signal.scale is not None:
        # Axes are (y, x, in, out); of transposed convolutions (y, x, out, in), of depthwise ones (y, x, in, copies).
        kernel = kernel * along(signal.scale, 3 if isinstance(layer, layers.Conv2DTranspose) else 2)
    tensor = replace(signal, scale=None).finished()
    copy = like(layer, use_bias=True)
    result = copy(tensor)
    assign(copy, kernel, bias_of(layer))
    return Signal(result, producer=copy)


def _batch_norm(layer: layers.BatchNormalization, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Folded into the convolution before it."""
    (signal,) = signals
    conv = signal.producer
    if conv is None or not is_linear(conv) or not only_reader:
        return copied(layer, signals, only_reader)
    weights = iter(np.asarray(weight, np.float64) for weight in layer.get_weights())
    gain = next(weights) if layer.scale else 1.0
    offset = next(weights) if layer.center else 0.0
    mean, variance = weights
    gain = gain / np.sqrt(variance + layer.epsilon)
    offset = offset - mean * gain
    kernel, bias = (np.asarray(weight, np.float64) for weight in conv.get_weights())
    copies = len(bias) // len(gain)
    gain, offset = np.tile(gain, copies), np.tile(offset, copies)
    if isinstance(conv, layers.DepthwiseConv2D):
        kernel = kernel * gain.reshape(kernel.shape[2:])
    else:
        kernel = kernel * along(gain, 2 if isinstance(conv, layers.Conv2DTranspose) else 3)
    assign(conv, kernel, bias * gain + offset)
    return signal


def _dropout(layer: layers.Dropout, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Nothing; but what somebody else reads too is no longer to be changed."""
    return signals[0] if only_reader else replace(signals[0], producer=None)


def _one_enlargement(layer: layers.UpSampling2D, signals: Sequence[Signal], only_reader: bool) -> Signal:
    if layer.interpolation != "nearest":
        return copied(layer, signals, only_reader)
    tensor = signals[0].finished()
    height, width = (side * factor for side, factor in zip(tensor.shape[1:3], layer.size, strict=True))
    return Signal(layers.Resizing(height, width, "nearest", dtype="float32", name=layer.name)(tensor))


EVERYWHERE: Rules = {
    layers.Conv2D: convolution,
    layers.DepthwiseConv2D: convolution,
    layers.Conv2DTranspose: convolution,
    layers.BatchNormalization: _batch_norm,
    layers.Dropout: _dropout,
}
"""Rules of every target."""

PLAIN: Rules = {**EVERYWHERE, layers.UpSampling2D: _one_enlargement}
"""Rules for servers and GPUs."""


def along(values: np.ndarray, axis: int) -> np.ndarray:
    """Values along one axis of a kernel."""
    return np.expand_dims(values, [other for other in range(4) if other != axis])


def bias_of(conv: layers.Layer) -> np.ndarray:
    """The bias of a convolution; zeros where it has none."""
    return np.asarray(conv.bias, np.float64) if conv.use_bias else np.zeros(conv.output.shape[-1])


def assign(conv: layers.Layer, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Gives a convolution its weights, in float32."""
    conv.set_weights([kernel.astype("float32"), bias.astype("float32")])


def is_linear(conv: layers.Layer) -> bool:
    """Whether a convolution has no activation of its own."""
    return conv.activation is keras.activations.linear


def like(layer: layers.Layer, use_bias: bool | None = None) -> layers.Layer:
    """A new layer of the same configuration, in float32; `use_bias` of convolutions may be changed."""
    changes = {} if use_bias is None else {"use_bias": use_bias}
    return type(layer).from_config({**layer.get_config(), "dtype": "float32", **changes})
