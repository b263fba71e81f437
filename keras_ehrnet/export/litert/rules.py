"""The network that phones get: as few operations as give the same maps, such as TensorFlow Lite runs fastest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_ehrnet.export.rewrite import (
    EVERYWHERE,
    Rules,
    Signal,
    Tensor,
    along,
    assign,
    bias_of,
    convolution,
    copied,
    is_linear,
    like,
    rewrite,
)
from keras_ehrnet.models.efficientpose import bilinear_kernel
from keras_ehrnet.runtime.keras import checked_size


def static_model(model: keras.Model, input_size: tuple[int, int] | None = None, *, batch: int = 1) -> keras.Model:
    """The same network for images of fixed size and number, in float32, with everything folded that folds exactly.

    Batch normalization, constant factors (normalization of pixels, e-swish's 1.25) and dropout vanish into the
    convolutions around them. Of branches that are enlarged and summed, coarse ones are added first, so that the fine
    map is written once. Transposed convolutions become ordinary ones, whose results are rearranged, or bilinear resizes
    where they are just that. Weights are copied; the model itself stays as it is.

    Args:
        model: `keras.Model`, functional, from one of this package's builders, on TensorFlow.
        input_size: tuple (height, width) in pixels, or None for the model's own, or its paper's.
        batch: int. Number of images.

    Returns:
        `keras.Model` from float32 RGB in [0, 255] of shape `(batch, height, width, 3)` to a dict of the same maps.

    Raises:
        ValueError: if the model gives no heatmaps or does not normalize its input, if its size is not known or no
            multiple of its stride, or if it is not made of layers that are used once.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.litert.rules import static_model
        >>> static = static_model(ke.EfficientHRNet(-4), (64, 96))
        >>> static.output["heatmaps_2"].shape
        (1, 32, 48, 17)
    """
    return rewrite(model, checked_size(model, input_size), RULES, batch=batch)


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


def _subpixel_convolution(layer: layers.Conv2DTranspose, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """A 4x4/2 transposed convolution as what it is: 2x2 convolutions, one for each of four neighbouring pixels.

    The same multiplications, but in one ordinary convolution, for which devices have their fastest code.
    """
    if layer.kernel_size != (4, 4) or layer.strides != (2, 2) or layer.padding != "same":
        return convolution(layer, signals, only_reader)
    (signal,) = signals
    if _is_bilinear(layer):
        return _interpolated(signal)
    kernel = np.asarray(layer.kernel, np.float64) * along(signal.scales(), 3)
    tensor, kernel = _without_linear_parts(replace(signal, scale=None), kernel)
    # Of the rows 2y - 1 and 2y of the result, the first reads the kernel's rows 2 and 0, the second 3 and 1, from the
    # input's rows y - 1 and y; columns likewise.
    kernel = kernel.reshape(2, 2, 2, 2, *kernel.shape[2:])[::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, tensor.shape[-1], -1)
    conv = layers.Conv2D(kernel.shape[-1], 2, activation=layer.activation, dtype="float32", name=layer.name)
    result = conv(layers.ZeroPadding2D(1, dtype="float32")(tensor))
    assign(conv, kernel, np.tile(bias_of(layer), 4))
    return Signal(layers.Cropping2D(1, dtype="float32")(DepthToSpace()(result)), producer=conv)


def _is_bilinear(layer: layers.Conv2DTranspose) -> bool:
    """Whether it was built to interpolate, and never trained."""
    kernel = np.asarray(layer.kernel)
    is_plain = is_linear(layer) and not bias_of(layer).any()
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
        weights, bias = (np.asarray(weight, np.float64) for weight in _weights_of(part))
        folded, ones = folded + piece @ weights[0, 0].T, ones + piece @ bias[:, None]
    constant = np.ones((*source.tensor.shape[:-1], 1), "float32")
    tensor = keras.ops.concatenate([source.tensor, constant], axis=-1)
    return tensor, np.concatenate([folded, ones], axis=-1)


def _weights_of(part: Signal) -> list[np.ndarray]:
    return [] if part.producer is None else part.producer.get_weights()


def _is_linear_in(part: Signal, others: Sequence[Signal]) -> bool:
    conv: Any = part.producer
    if type(conv) is not layers.Conv2D or conv.output is not part.tensor or part.enlargement != 1:
        return False
    by_pixel = conv.kernel_size == (1, 1) and conv.strides == (1, 1)
    return by_pixel and is_linear(conv) and any(conv.input is other.tensor for other in others)


def _activation(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """ReLU becomes part of the convolution before it."""
    (signal,) = signals
    conv = signal.producer
    function = _RELUS.get(getattr(layer, "max_value", None)) if _is_relu(layer) else None
    if conv is None or function is None or not is_linear(conv) or not only_reader:
        return copied(layer, signals, only_reader)
    conv.activation = function
    return replace(signal, producer=None)


_RELUS = {None: keras.activations.relu, 6.0: keras.activations.relu6}


def _is_relu(layer: layers.Layer) -> bool:
    if isinstance(layer, layers.ReLU):
        return not layer.negative_slope and not layer.threshold
    return layer.activation is keras.activations.relu


def _rescaling(layer: layers.Rescaling, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """s x + t = s (x + t / s): the factors wait for the next convolution, an offset is added here."""
    signal = signals[0].scaled()
    channels = signal.tensor.shape[-1]
    scale, offset = (np.broadcast_to(np.ravel(value).astype(float), channels) for value in (layer.scale, layer.offset))
    if offset.any():
        # Not folded into the next convolution's bias: zero padding would then no longer be the normalized zero. The
        # same three numbers for a whole row: adding rows to rows is much faster than triples to triples.
        tensor, shift = signal.finished(), (offset / scale).astype("float32")
        signal = Signal(keras.ops.add(tensor, np.broadcast_to(shift, (1, 1, *tensor.shape[2:]))))
    return replace(signal, scale=scale, producer=None)


def _product(layer: layers.Multiply, signals: Sequence[Signal], only_reader: bool) -> Signal:
    tensor = like(layer)([replace(signal, scale=None).finished() for signal in signals])
    return Signal(tensor, np.prod([signal.scales() for signal in signals], axis=0))


def _pooling(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Means and zero padding commute with factors of channels."""
    (signal,) = signals
    return Signal(like(layer)(replace(signal, scale=None).finished()), signal.scale)


def _concatenation(layer: layers.Concatenate, signals: Sequence[Signal], only_reader: bool) -> Signal:
    tensor = like(layer)([replace(signal, scale=None).finished() for signal in signals])
    return Signal(tensor, np.concatenate([signal.scales() for signal in signals]), parts=tuple(signals))


def _enlargement(layer: layers.Layer, signals: Sequence[Signal], only_reader: bool) -> Signal:
    """Nearest-neighbour enlargement, left to whatever reads it."""
    (signal,) = signals
    if layer.interpolation != "nearest":
        return copied(layer, signals, only_reader)
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


RULES: Rules = {
    **EVERYWHERE,
    layers.Conv2DTranspose: _subpixel_convolution,
    layers.Rescaling: _rescaling,
    layers.Activation: _activation,
    layers.ReLU: _activation,
    layers.Multiply: _product,
    layers.GlobalAveragePooling2D: _pooling,
    layers.AveragePooling2D: _pooling,
    layers.ZeroPadding2D: _pooling,
    layers.Concatenate: _concatenation,
    layers.UpSampling2D: _enlargement,
    layers.Resizing: _enlargement,
    layers.Add: _sum,
}
"""Rules for phones."""
