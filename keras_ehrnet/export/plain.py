"""The network that servers and GPUs get: one size of image, batch normalization folded, stock layers only.

Other than `keras_ehrnet.export.prepare`, which rearranges a network for the processors of phones, this leaves every
layer what it is: TensorRT and ONNX Runtime have their own ways, and know a layer best in its usual form.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

Tensor = Any

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)


def plain_model(model: keras.Model, input_size: tuple[int, int]) -> keras.Model:
    """The same network for any number of images of one size, in float32.

    Batch normalization vanishes into the convolution before it, dropout altogether; nearest-neighbour enlargement is
    one operation. Weights are copied; the model itself stays as it is.

    Args:
        model: `keras.Model`, functional, of stock layers.
        input_size: tuple (height, width) in pixels.

    Returns:
        `keras.Model` with an input `"image"` of shape `(None, height, width, 3)` and the same outputs.

    Raises:
        ValueError: if the model is not made of layers that are used once each.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.plain import plain_model
        >>> plain = plain_model(ke.EfficientHRNet(-4), (64, 96))
        >>> plain.output["heatmaps_2"].shape, any("bn" in layer.name for layer in plain.layers)
        ((None, 32, 48, 17), False)
    """
    inputs = keras.Input((*input_size, model.inputs[0].shape[-1]), dtype="float32", name="image")
    tensors = {id(model.inputs[0]): inputs}
    readers = _readers(model)
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        arrived = keras.tree.map_structure(lambda tensor, reader=layer: _known(tensors, tensor, reader), layer.input)
        conv = _producer(arrived) if readers.get(id(layer.input)) == 1 else None
        tensors[id(layer.output)] = _carried_over(layer, arrived, conv)
    outputs = keras.tree.map_structure(lambda tensor: _known(tensors, tensor, model), model.output)
    return keras.Model(inputs, outputs, name=model.name)


def _readers(model: keras.Model) -> dict[int, int]:
    """How often every tensor is read, as an output of the network too."""
    inner = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    read = [*(tensor for layer in inner for tensor in keras.tree.flatten(layer.input)), *model.outputs]
    counts: dict[int, int] = {}
    for tensor in read:
        counts[id(tensor)] = counts.get(id(tensor), 0) + 1
    return counts


def _known(tensors: dict[int, Tensor], tensor: Tensor, reader: Any) -> Tensor:
    if id(tensor) not in tensors:
        raise ValueError(
            f"An exported model is made of layers that are used once each. Received: {reader.name!r}, which reads "
            "something else"
        )
    return tensors[id(tensor)]


def _producer(tensor: Tensor) -> layers.Layer | None:
    """The convolution that a tensor comes from; None if it is none, or an activation lies between."""
    producer = None if isinstance(tensor, (list, tuple, dict)) else tensor._keras_history.operation
    is_linear = type(producer) in _CONVOLUTIONS and producer.activation is keras.activations.linear
    return producer if is_linear else None


def _carried_over(layer: layers.Layer, arrived: Any, conv: layers.Layer | None) -> Tensor:
    if type(layer) is layers.Dropout:
        return arrived
    if type(layer) is layers.BatchNormalization and conv is not None:
        _fold(layer, conv)
        return arrived
    if type(layer) is layers.UpSampling2D and layer.interpolation == "nearest":
        height, width = (side * factor for side, factor in zip(arrived.shape[1:3], layer.size, strict=True))
        return layers.Resizing(height, width, "nearest", dtype="float32", name=layer.name)(arrived)
    config = {**layer.get_config(), "dtype": "float32"}
    copy = type(layer).from_config({**config, "use_bias": True} if type(layer) in _CONVOLUTIONS else config)
    result = copy(arrived)
    weights = layer.get_weights()
    if len(weights) < len(copy.weights):
        weights.append(np.zeros(result.shape[-1]))
    copy.set_weights(weights)
    return result


def _fold(layer: layers.BatchNormalization, conv: layers.Layer) -> None:
    """Makes a convolution give what the batch normalization after it gave."""
    weights = iter(np.asarray(weight, np.float64) for weight in layer.get_weights())
    gain = next(weights) if layer.scale else 1.0
    offset = next(weights) if layer.center else 0.0
    mean, variance = weights
    gain = gain / np.sqrt(variance + layer.epsilon)
    kernel, bias = (np.asarray(weight, np.float64) for weight in conv.get_weights())
    # The axis of the output channels: (y, x, in, out); (y, x, out, in) of transposed convolutions; those of depthwise
    # ones are the last two together.
    if type(conv) is layers.Conv2D:
        kernel = kernel * gain
    elif type(conv) is layers.Conv2DTranspose:
        kernel = kernel * gain[:, None]
    else:
        kernel = kernel * gain.reshape(kernel.shape[2:])
    conv.set_weights([kernel, (bias - mean) * gain + offset])
