"""Building blocks shared by all families. Stock Keras layers only, so that saved models load without custom objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_ehrnet.support.messages import is_whole
from keras_ehrnet.weights.formats import WeightsSource

Tensor = Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Style:
    """What all convolutions of one network have in common.

    Args:
        activation: str. `"silu"` (swish), `"eswish"`, `"relu"` or `"relu6"`.
        epsilon: float. Added to the variance in batch normalization.
        momentum: float. Of the moving statistics of batch normalization.
        symmetric_padding: bool. Whether strided convolutions pad k // 2 on both sides, as PyTorch does, rather than
            as TensorFlow's SAME, which pads less on the left and top.
        squeeze_excitation: bool. Whether inverted residual blocks have squeeze-excitation.
    """

    activation: str = "relu"
    epsilon: float = 1e-5
    momentum: float = 0.9
    symmetric_padding: bool = False
    squeeze_excitation: bool = False


ESWISH_BETA = 1.25


def activation(x: Tensor, kind: str, name: str) -> Tensor:
    """An activation; e-swish(x) = 1.25 x sigmoid(x) (section 3.3 of arXiv 2004.12186)."""
    if kind == "relu6":
        return layers.ReLU(max_value=6.0, name=name)(x)
    if kind == "eswish":
        x = layers.Activation("silu", name=f"{name}_swish")(x)
        return layers.Rescaling(ESWISH_BETA, name=name)(x)
    return layers.Activation(kind, name=name)(x)


def batch_norm(x: Tensor, style: Style, name: str) -> Tensor:
    return layers.BatchNormalization(momentum=style.momentum, epsilon=style.epsilon, name=name)(x)


def conv(
    x: Tensor, style: Style, filters: int, kernel: int, *, strides: int = 1, use_bias: bool = False, name: str
) -> Tensor:
    """A convolution, padded in the network's style."""
    x, padding = _padded(x, style, kernel, strides, name)
    return layers.Conv2D(filters, kernel, strides, padding, use_bias=use_bias, name=name)(x)


def depthwise_conv(x: Tensor, style: Style, kernel: int, *, strides: int = 1, name: str) -> Tensor:
    """A depthwise convolution, padded in the network's style."""
    x, padding = _padded(x, style, kernel, strides, name)
    return layers.DepthwiseConv2D(kernel, strides, padding, use_bias=False, name=name)(x)


def _padded(x: Tensor, style: Style, kernel: int, strides: int, name: str) -> tuple[Tensor, str]:
    if strides == 1 or kernel == 1 or not style.symmetric_padding:
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"


def squeeze_excitation(x: Tensor, style: Style, reduced: int, name: str) -> Tensor:
    """Channels weighted by what the whole image shows: pooling, two 1x1 convolutions, sigmoid, product."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(x)
    gate = layers.Conv2D(reduced, 1, name=f"{name}_se_reduce")(gate)
    gate = activation(gate, style.activation, f"{name}_se_activation")
    gate = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_se_expand")(gate)
    return layers.Multiply(name=f"{name}_se_excite")([x, gate])


def inverted_residual(
    x: Tensor,
    style: Style,
    *,
    filters: int,
    kernel: int,
    expanded: int,
    strides: int = 1,
    squeezed: int = 1,
    residual: bool = True,
    drop_rate: float = 0.0,
    name: str,
) -> Tensor:
    """MBConv: 1x1 expansion, depthwise convolution, squeeze-excitation, linear 1x1 projection.

    Args:
        x: tensor of shape `(B, H, W, C)`.
        style: `Style`.
        filters: int. Channels that leave the block.
        kernel: int. Side of the depthwise kernel.
        expanded: int. Channels inside; no expansion convolution where they equal C.
        strides: int. Stride of the depthwise convolution.
        squeezed: int. Channels between the two squeeze-excitation convolutions.
        residual: bool. Whether the input is added where shapes allow.
        drop_rate: float. Probability that training leaves the block out (stochastic depth).
        name: str. Prefix of the layers' names.

    Returns:
        Tensor of shape `(B, H / strides, W / strides, filters)`.
    """
    inputs = x
    if expanded != x.shape[-1]:
        x = conv(x, style, expanded, 1, name=f"{name}_expand_conv")
        x = batch_norm(x, style, f"{name}_expand_bn")
        x = activation(x, style.activation, f"{name}_expand_activation")
    x = depthwise_conv(x, style, kernel, strides=strides, name=f"{name}_dwconv")
    x = batch_norm(x, style, f"{name}_bn")
    x = activation(x, style.activation, f"{name}_activation")
    if style.squeeze_excitation:
        x = squeeze_excitation(x, style, squeezed, name)
    x = conv(x, style, filters, 1, name=f"{name}_project_conv")
    x = batch_norm(x, style, f"{name}_project_bn")
    if not residual or strides != 1 or inputs.shape[-1] != filters:
        return x
    if drop_rate:
        x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([x, inputs])


def upsample_nearest(x: Tensor, factor: int, name: str) -> Tensor:
    """Nearest-neighbour enlargement, by the layer whose gradient XLA compiles. Exports write it as one operation."""
    return layers.UpSampling2D(factor, interpolation="nearest", name=name)(x)


def map_conv(x: Tensor, channels: int, name: str) -> Tensor:
    """The 1x1 convolution that draws maps, in full precision.

    Its first maps are almost nothing, as true ones mostly are: kernels of usual size cost a thousand steps to shrink.
    """
    initializer = keras.initializers.RandomNormal(stddev=0.001)
    return layers.Conv2D(channels, 1, kernel_initializer=initializer, dtype=full_precision(), name=name)(x)


def image_input(input_shape: tuple[int | None, int | None, int]) -> Tensor:
    return keras.Input(input_shape, name="image")


def full_precision() -> str:
    """The type of what enters and leaves a network: float32 even where it computes in half precision."""
    return "float64" if keras.config.dtype_policy().compute_dtype == "float64" else "float32"


def normalize_imagenet(x: Tensor) -> Tensor:
    """Pixels in [0, 255] to ImageNet's zero mean and unit deviation, in full precision."""
    # In this shape they stay with the last axis; a plain list would go with the first one if Keras is set so.
    scale = [[[1 / (255 * std) for std in IMAGENET_STD]]]
    offset = [[[-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]]]
    return layers.Rescaling(scale, offset, dtype=full_precision(), name="preprocessing")(x)


def normalize_symmetric(x: Tensor) -> Tensor:
    """Pixels in [0, 255] to [-1, 1], as the Lite networks take them."""
    return layers.Rescaling(1 / 127.5, -1.0, dtype=full_precision(), name="preprocessing")(x)


def preprocess(x: Tensor, *, lite: bool) -> Tensor:
    """The normalization of a network, inside its graph."""
    return normalize_symmetric(x) if lite else normalize_imagenet(x)


def check_input_shape(
    input_shape: tuple[int | None, int | None, int] | None,
    default: tuple[int | None, int | None, int],
    multiple: int,
) -> tuple[int | None, int | None, int]:
    """The input shape to build for; sides must be free (None) or multiples of the network's largest stride.

    Raises:
        ValueError: if the shape is not (height, width, 3), or a side does not divide; the message names the nearest
            shape that does.
    """
    if input_shape is None:
        return default
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if len(shape) != 3 or shape[2] != 3 or not all(_is_side(side) for side in shape[:2]):
        raise ValueError(
            f"input_shape must be (height, width, 3), with None for a free side. Received: input_shape={input_shape}"
        )
    if any(side is not None and side % multiple for side in shape[:2]):
        nearest = tuple(
            None if side is None else max(multiple, round(side / multiple) * multiple) for side in shape[:2]
        )
        raise ValueError(
            f"Height and width of input_shape must be multiples of {multiple}; the nearest is {(*nearest, 3)}. "
            f"Received: input_shape={input_shape}"
        )
    return shape[0], shape[1], 3


def _is_side(side: object) -> bool:
    return side is None or is_whole(side)


def check_count(value: object, what: str) -> int:
    """A positive whole number, or a `ValueError`."""
    if not is_whole(value):
        raise ValueError(f"{what} must be a positive whole number. Received: {what}={value!r}")
    return int(value)


def finish(model: keras.Model, weights: WeightsSource | None) -> keras.Model:
    """Loads weights into a new model if any are named."""
    if weights is not None:
        from keras_ehrnet import weights as weights_module

        weights_module.load(model, weights)
    return model
