"""One network that holds all networks of a space, and the choices that mix them.

Every option of a decision has a gate: a part of 1. Gates weigh masks rather than branches: a small kernel is the middle
of the large one, few channels are the first of many, a block that is left out is one whose output counts nothing. So
memory and time are those of the largest network, however many options there are, and with one option of each open,
the network computes exactly what the derived one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_ehrnet.models import blocks as parts
from keras_ehrnet.models.blocks import Tensor
from keras_ehrnet.models.efficientpose_nas import STYLE, head, stem
from keras_ehrnet.search.space import Architecture, Slot, Space

_CLOSED = -1e9  # The logit of an option that a decision does not have.


def one_hot(space: Space, architecture: Architecture) -> np.ndarray:
    """Gates of one network: `(decisions, most options)`, 1 where it takes an option."""
    gates = np.zeros(gates_shape(space), np.float32)
    gates[np.arange(len(architecture)), space.check(architecture)] = 1
    return gates


def gates_shape(space: Space) -> tuple[int, int]:
    """Decisions, and the most options that one of them has."""
    return len(space.decisions), max(len(decision.options) for decision in space.decisions)


def gates_of(space: Space, gates: Any) -> list[Any]:
    """The gates of every decision by themselves, from a matrix of all."""
    return [gates[number, : len(decision.options)] for number, decision in enumerate(space.decisions)]


class Choices(layers.Layer):
    """Which options a search leans to: logits of its own for every option, and gates drawn from them.

    Args:
        space: `Space`.
        paths: int. How many options of a decision are open at a time, 1 or 2, the likeliest after the noise. With one,
            gates are 0 or 1, and gradients those of the soft ones (straight through).
    """

    def __init__(self, space: Space, paths: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        counts = np.array([len(decision.options) for decision in space.decisions])
        self._closed = np.where(np.arange(counts.max()) < counts[:, None], 0, _CLOSED).astype(np.float32)
        self.paths = paths
        self.logits = self.add_weight(shape=self._closed.shape, initializer="zeros", name="logits", dtype="float32")

    def probabilities(self, temperature: float | Tensor = 1.0) -> Tensor:
        """How likely every option is."""
        return ops.softmax(self.logits / temperature + self._closed, axis=-1)

    def call(self, noise: Tensor, temperature: Tensor, is_hard: bool = False) -> Tensor:
        """Gates, drawn with the help of Gumbel noise of the logits' shape.

        Args:
            noise: tensor of shape `(decisions, options)`.
            temperature: scalar tensor. The lower, the nearer gates are to 0 and 1.
            is_hard: bool. One option of each decision, without a gradient.
        """
        soft = ops.softmax((self.logits + noise) / temperature + self._closed, axis=-1)
        best = ops.one_hot(ops.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
        if is_hard:
            return ops.stop_gradient(best)
        if self.paths == 1:
            return ops.stop_gradient(best - soft) + soft
        second = ops.one_hot(ops.argmax(soft - 2 * best, axis=-1), soft.shape[-1], dtype=soft.dtype)
        kept = soft * ops.stop_gradient(best + second)
        return kept / ops.sum(kept, axis=-1, keepdims=True)


def gumbel(shape: tuple[int, ...], seed: int, step: int) -> np.ndarray:
    """Gumbel noise of a step, float32: the argmax of logits with it is a draw from their softmax."""
    return np.random.default_rng((seed, step)).gumbel(size=shape).astype(np.float32)


class MixedBlock(layers.Layer):
    """All inverted residual blocks that one slot of a space may hold, in one: masks of the largest.

    Args:
        space: `Space`.
        slot: `Slot` of it.
    """

    def __init__(self, space: Space, slot: Slot, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slot = slot
        entering = (space.stem,) if slot.width_in is None else space.decisions[slot.width_in].options
        leaving = space.decisions[slot.width_out].options
        inside = entering[-1] * space.expansions[-1]
        self._widths = _first(leaving, leaving[-1])
        self._inside = np.stack([_first([a * e for e in space.expansions], inside) for a in entering])
        self._kernels = np.stack([_middle(kernel, space.kernels[-1]) for kernel in space.kernels])
        self._expand = _conv(inside, "expand_conv")
        self._expand_bn = _batch_norm("expand_bn")
        self._depthwise = layers.DepthwiseConv2D(space.kernels[-1], padding="same", use_bias=False, name="dwconv")
        self._bn = _batch_norm("bn")
        self._project = _conv(leaving[-1], "project_conv")
        self._project_bn = _batch_norm("project_bn")
        self._activation = layers.Activation(STYLE.activation)

    def build(self, input_shape: Any) -> None:
        shape, _ = input_shape
        inner = (*shape[:3], self._inside.shape[-1])
        outer = (*shape[:3], self._widths.shape[-1])
        for layer, of in ((self._expand, shape), (self._depthwise, inner), (self._project, inner)):
            layer.build(of)
        for norm, of in ((self._expand_bn, inner), (self._bn, inner), (self._project_bn, outer)):
            norm.build(of)
        self.built = True

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        (batch, height, width, _), _ = input_shape
        sides = (side and side // self.slot.stride for side in (height, width))
        return (batch, *sides, self._widths.shape[-1])

    def call(self, inputs: tuple[Tensor, Tensor], training: bool = False) -> Tensor:
        x, gates = inputs
        slot = self.slot
        open_widths = gates[slot.width_out, : len(self._widths)]
        entering = np.ones(1, np.float32) if slot.width_in is None else gates[slot.width_in, : len(self._inside)]
        expansion = gates[slot.expansion, : self._inside.shape[1]]
        kernel = ops.einsum("k,kij->ij", gates[slot.kernel, : len(self._kernels)], self._kernels)
        y = self._activation(self._expand_bn(self._expand(x), training=training))
        side = self._kernels.shape[-1] // 2
        y = ops.pad(y, ((0, 0), (side, side), (side, side), (0, 0)))
        kernels = self._depthwise.kernel * kernel[:, :, None, None]
        y = ops.depthwise_conv(y, ops.cast(kernels, y.dtype), slot.stride, "valid", "channels_last")
        y = self._activation(self._bn(y, training=training))
        y = y * ops.cast(ops.einsum("a,e,aec->c", entering, expansion, self._inside), y.dtype)
        y = self._project_bn(self._project(y), training=training)
        y = y * ops.cast(ops.einsum("w,wc->c", open_widths, self._widths), y.dtype)
        return y if slot.kept is None else x + y * ops.cast(gates[slot.kept, 0], y.dtype)


def supernet(space: Space, input_size: tuple[int, int], num_keypoints: int) -> keras.Model:
    """All networks of a space in one.

    Args:
        space: `Space`.
        input_size: tuple (height, width) in pixels.
        num_keypoints: int.

    Returns:
        `keras.Model` from `{"image": (B, height, width, 3), "gates": see gates_shape}` to the dict
        `{"heatmaps": (B, height/4, width/4, K)}`.

    Example:
        >>> from keras_ehrnet.search.space import Space
        >>> from keras_ehrnet.search.supernet import supernet
        >>> space = Space(stem=8, widths=((8, 16), (16, 24), (32,)), depths=(1, 2, 1), strides=(2, 2, 2))
        >>> supernet(space, (64, 64), 17).output["heatmaps"].shape
        (None, 16, 16, 17)
    """
    image = parts.image_input((*input_size, 3))
    gates = keras.Input(batch_shape=gates_shape(space), name="gates")
    x = stem(parts.preprocess(image, lite=False), space.stem)
    for slot in space.slots:
        x = MixedBlock(space, slot, name=slot.name.replace(".", "_"))((x, gates))
    return keras.Model({"image": image, "gates": gates}, {"heatmaps": head(x, num_keypoints)}, name="supernet")


def _conv(filters: int, name: str) -> layers.Conv2D:
    return layers.Conv2D(filters, 1, use_bias=False, name=name)


def _batch_norm(name: str) -> layers.BatchNormalization:
    return layers.BatchNormalization(momentum=STYLE.momentum, epsilon=STYLE.epsilon, name=name)


def _first(counts: Sequence[int], of: int) -> np.ndarray:
    """For every count a mask of so many channels, the first `of` all."""
    return (np.arange(of) < np.array(counts)[:, None]).astype(np.float32)


def _middle(side: int, of: int) -> np.ndarray:
    """A mask of the middle of a kernel."""
    mask = np.zeros((of, of), np.float32)
    margin = (of - side) // 2
    mask[margin : of - margin, margin : of - margin] = 1
    return mask


def transfer(trained: keras.Model, space: Space, network: keras.Model) -> None:
    """Gives a derived network the weights that it has inside the supernet.

    Args:
        trained: `keras.Model`, as `supernet` made it.
        space: `Space` of it.
        network: `keras.Model` of `EfficientPoseNAS`, with the blocks of an architecture of this space.
    """
    sources = {layer.name: layer for layer in trained.layers}
    for index, slot in enumerate(space.slots):
        mixed = sources[slot.name.replace(".", "_")]
        sources |= {f"block{index}_{layer.name}": layer for layer in mixed._flatten_layers(include_self=False)}
    for layer in network.layers:
        if layer.weights:
            pairs = zip(layer.weights, sources[layer.name].get_weights(), strict=True)
            layer.set_weights([_cut(weight, tuple(target.shape)) for target, weight in pairs])


def _cut(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of a kernel, the first of its channels."""
    if weight.ndim == 4:
        margin = (weight.shape[0] - shape[0]) // 2
        weight = weight[margin : margin + shape[0], margin : margin + shape[1]]
    return weight[tuple(map(slice, shape))]
