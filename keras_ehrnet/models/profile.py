"""Parameters and multiply-adds of a model, as they are and as the papers count them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
from keras import layers

from keras_ehrnet.families import family_of
from keras_ehrnet.models import variants

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """Size and cost of a model for one image.

    Args:
        name: str. Name of the model.
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        input_shape: tuple (height, width, channels) that the cost holds for.
        parameters: int. Trainable parameters.
        weights: int. All weights, batch-norm statistics included.
        macs: int. Multiply-adds of convolutions and dense layers.
        paper_parameters: int. Parameters as the family's paper counts them.
        paper_flops: int. Operations as the family's paper counts them.
    """

    name: str
    family: str
    input_shape: tuple[int, int, int]
    parameters: int
    weights: int
    macs: int
    paper_parameters: int
    paper_flops: int


def profile(model: keras.Model, input_shape: tuple[int, int, int] | None = None) -> Profile:
    """Counts parameters and multiply-adds of a model.

    Args:
        model: `keras.Model`, functional.
        input_shape: tuple (height, width, 3), or None. What to count the cost for; needed only where the model takes
            any size and is not one of the papers' by name.

    Returns:
        `Profile`.

    Raises:
        ValueError: if the input size is not known.

    Example:
        >>> import keras_ehrnet as ke
        >>> counts = ke.profile(ke.EfficientHRNet(phi=-4))
        >>> counts.parameters, round(counts.macs / 1e9, 2), round(counts.paper_flops / 1e9, 1)
        (2764706, 1.81, 2.1)
    """
    shape = _input_shape(model, input_shape)
    family = family_of(model.output_names if isinstance(model.output, dict) else None)
    costs = _layer_macs(model, shape)
    # Transposed convolutions are counted as if every output pixel saw the whole kernel: stride x stride too much.
    transposed = sum(macs * math.prod(layer.strides) for layer, macs in costs if _is_transposed(layer))
    others = sum(macs for layer, macs in costs if not _is_transposed(layer))
    macs = sum(macs for _, macs in costs)
    paper_flops = {"efficientpose": 2 * macs, "efficientnet": macs}.get(family, others + transposed)
    return Profile(
        name=model.name,
        family=family,
        input_shape=shape,
        parameters=_count(model.trainable_weights),
        weights=_count(model.weights),
        macs=macs,
        paper_parameters=_paper_parameters(model, family),
        paper_flops=paper_flops,
    )


def _input_shape(model: keras.Model, input_shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    own = tuple(model.input_shape[1:])
    if input_shape is None and None in own and model.name in variants.VARIANTS:
        input_shape = (*variants.VARIANTS[model.name].input_size, 3)
    shape = tuple(input_shape) if input_shape is not None else own
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(
            f"Model {model.name!r} takes images of any size: pass profile(model, input_shape=(height, width, 3)). "
            f"Received: input_shape={input_shape}"
        )
    if any(side not in (None, given) for side, given in zip(own, shape, strict=True)):
        raise ValueError(f"Model {model.name!r} takes images of shape {own}. Received: input_shape={input_shape}")
    return shape


def _layer_macs(model: keras.Model, input_shape: Shape) -> list[tuple[layers.Layer, int]]:
    """Every layer with weights to multiply by, and its multiply-adds; shapes are followed through the graph."""
    spec = keras.KerasTensor((1, *input_shape))
    specs = {id(model.inputs[0]): spec}
    costs = []
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        inputs = keras.tree.map_structure(lambda tensor: specs[id(tensor)], layer.input)
        output = layer.compute_output_spec(inputs)
        specs[id(layer.output)] = output
        macs = _macs(layer, inputs, output)
        if macs:
            costs.append((layer, macs))
    return costs


def _macs(layer: layers.Layer, inputs: keras.KerasTensor, output: keras.KerasTensor) -> int:
    if _is_transposed(layer):
        return math.prod(inputs.shape[1:3]) * math.prod(layer.kernel.shape)
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        return math.prod(output.shape[1:3]) * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Dense):
        return math.prod(layer.kernel.shape)
    return 0


def _is_transposed(layer: layers.Layer) -> bool:
    return isinstance(layer, layers.Conv2DTranspose)


def _paper_parameters(model: keras.Model, family: str) -> int:
    parameters = _count(model.trainable_weights)
    if family == "efficienthrnet":
        backbone = [layer for layer in model.layers if layer.name.startswith(("stem", "block"))]
        return parameters + sum(_count(layer.trainable_weights) for layer in backbone)
    if family == "efficientpose":
        intermediate = [layer for layer in model.layers if layer.name in ("pafs", "heatmaps_coarse")]
        return _count(model.weights) - sum(_count(layer.weights) for layer in intermediate)
    return parameters


def _count(weights: list[keras.Variable]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
