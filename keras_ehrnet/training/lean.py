"""A network as training runs it: the same weights and maps, with layers that cost less.

The networks themselves consist of stock layers, so that their files load anywhere. A training never saves what it runs,
so it may run something else: a clone of the graph whose layers *are* the network's own, but for batch norms and swish.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
from keras import ops

Tensor = Any


class FusedBatchNorm(keras.layers.Layer):
    """Batch norm in as few passes over memory as there can be, with the variables of a stock layer. For TensorFlow.

    Args:
        stock: `keras.layers.BatchNormalization` over the last axis of images, whose variables it uses and updates.
    """

    def __init__(self, stock: keras.layers.BatchNormalization) -> None:
        super().__init__(name=stock.name, dtype=stock.dtype_policy)
        self.stock, self.built = stock, True

    def call(self, x: Tensor, training: bool = False, mask: Any = None) -> Tensor:
        import tensorflow as tf

        stock = self.stock
        if not (training and stock.trainable):
            return stock(x, training=False)
        gamma, beta, moving_mean, moving_variance = (
            tf.convert_to_tensor(variable.value)
            for variable in (stock.gamma, stock.beta, stock.moving_mean, stock.moving_variance)
        )
        if x.shape[-1] % _CHANNELS_OF_FUSED and not tf.config.list_logical_devices("GPU"):
            y, mean, variance = _matrix_batch_norm(stock.epsilon)(x, gamma, beta, moving_mean)
        else:
            out = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=stock.epsilon, is_training=True
            )
            # It reports the sample's variance, n / (n - 1) times that of the population, which Keras keeps.
            count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
            y, mean, variance = out.y, out.batch_mean, out.batch_variance * ((count - 1) / count)
        kept = stock.momentum
        stock.moving_mean.assign(moving_mean * kept + mean * (1 - kept))
        stock.moving_variance.assign(moving_variance * kept + variance * (1 - kept))
        return y


_CHANNELS_OF_FUSED = 16
"""TensorFlow's own operation is slow on processors unless channels are a multiple of this."""


@cache
def _matrix_batch_norm(epsilon: float) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Batch norm of any number of channels: sums by matrix products, all between them in loops that XLA makes.

    Returns:
        callable of x, gamma, beta and a guess of the mean, which keeps the variance from cancelling, that returns the
        normalized x, the mean and the population's variance.
    """
    import tensorflow as tf

    compiled = tf.function(jit_compile=True)

    @compiled
    def squared_distance(x: Tensor, guess: Tensor) -> Tensor:
        return tf.square(tf.cast(x, tf.float32) - guess)

    @compiled
    def affine(x: Tensor, mean: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
        return tf.cast((tf.cast(x, tf.float32) - mean) * factor + offset, x.dtype)

    @compiled
    def centered_product(x: Tensor, mean: Tensor, upstream: Tensor) -> Tensor:
        return (tf.cast(x, tf.float32) - mean) * tf.cast(upstream, tf.float32)

    @compiled
    def combined(upstream: Tensor, factor: Tensor, x: Tensor, mean: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
        centered = tf.cast(x, tf.float32) - mean
        return tf.cast(tf.cast(upstream, tf.float32) * factor + centered * slope + offset, x.dtype)

    def sum_of(x: Tensor) -> Tensor:
        rows = tf.reshape(tf.cast(x, tf.float32), (-1, x.shape[-1]))
        return tf.matmul(tf.ones((1, tf.shape(rows)[0])), rows)[0]

    @tf.custom_gradient
    def normalize(x: Tensor, gamma: Tensor, beta: Tensor, guess: Tensor) -> Any:
        count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        mean = sum_of(x) / count
        variance = sum_of(squared_distance(x, guess)) / count - tf.square(mean - guess)
        inverse = tf.math.rsqrt(tf.maximum(variance, 0.0) + epsilon)
        y = affine(x, mean, gamma * inverse, beta)

        def gradient(upstream: Tensor, *_: Tensor) -> tuple:
            total = sum_of(upstream)
            along = sum_of(centered_product(x, mean, upstream)) * inverse
            slope = -along * gamma * tf.square(inverse) / count
            offset = -total * gamma * inverse / count
            return combined(upstream, gamma * inverse, x, mean, slope, offset), along, total, None

        return (y, mean, variance), gradient

    return normalize


class FoldedConv(keras.layers.Layer):
    """A convolution and the batch norm behind it as one convolution, the norm's statistics being constants.

    Args:
        conv: `keras.layers.Conv2D` or `DepthwiseConv2D`, without bias and activation.
        norm: `keras.layers.BatchNormalization`. Its gamma and beta go on learning.
    """

    def __init__(self, conv: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> None:
        super().__init__(name=conv.name, dtype=conv.dtype_policy)
        self.conv, self.norm, self.built = conv, norm, True

    def call(self, x: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        factor = norm.gamma / ops.sqrt(norm.moving_variance + norm.epsilon)
        offset = norm.beta - norm.moving_mean * factor
        depthwise = isinstance(conv, keras.layers.DepthwiseConv2D)
        convolve = ops.depthwise_conv if depthwise else ops.conv
        kernel = conv.kernel * (factor[:, None] if depthwise else factor)
        y = convolve(x, ops.cast(kernel, x.dtype), conv.strides, conv.padding, conv.data_format, conv.dilation_rate)
        return y + ops.cast(offset, y.dtype)


class Swish(keras.layers.Layer):
    """beta x sigmoid(x), forwards and backwards in one pass over memory each.

    Args:
        beta: float. 1 for swish, 1.25 for e-swish.
    """

    def __init__(self, stock: keras.layers.Layer, beta: float = 1.0) -> None:
        super().__init__(name=stock.name, dtype=stock.dtype_policy)
        self.beta, self.built = beta, True
        self._function = _one_pass_swish(beta)

    def call(self, x: Tensor) -> Tensor:
        return self._function(x)


class _Nothing(keras.layers.Layer):
    """What is left of a layer that another one does the work of."""

    def __init__(self, stock: keras.layers.Layer) -> None:
        super().__init__(name=stock.name, dtype=stock.dtype_policy)
        self.built = True

    def call(self, x: Tensor, mask: Any = None) -> Tensor:
        return x


@cache
def _one_pass_swish(beta: float) -> Callable[[Tensor], Tensor]:
    import tensorflow as tf

    # XLA makes one loop of an elementwise expression; TensorFlow alone reads and writes memory for every term of it.
    @tf.function(jit_compile=True)
    def forward(x: Tensor) -> Tensor:
        return beta * x * tf.sigmoid(x)

    @tf.function(jit_compile=True)
    def backward(x: Tensor, upstream: Tensor) -> Tensor:
        gate = tf.sigmoid(x)
        return beta * upstream * gate * (1 + x * (1 - gate))

    @tf.custom_gradient
    def swish(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return forward(x), lambda upstream: backward(x, upstream)

    return swish


def training_clone(network: keras.Model, *, freeze_statistics: bool = False) -> keras.Model:
    """A model with the weights of a network, made for training steps.

    On TensorFlow batch norms are fused and swish has one-pass gradients; losses agree with the network's own to 1e-5.

    Args:
        network: functional `keras.Model` of stock layers.
        freeze_statistics: bool. Whether batch norms use and keep the statistics they have, on every backend; they
            then cost nothing, as parts of the convolutions before them.

    Returns:
        `keras.Model` of the same inputs and outputs, whose variables are the network's.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.training.lean import training_clone
        >>> network = ke.EfficientPose("RT")
        >>> len(training_clone(network).trainable_variables) == len(network.trainable_variables)
        True
    """
    replaced: dict[str, keras.layers.Layer] = {}
    for layer in network.layers:
        before = _only_one_before(layer)
        if isinstance(layer, keras.layers.BatchNormalization):
            if freeze_statistics and before is not None and _is_plain_conv(before):
                replaced |= {before.name: FoldedConv(before, layer), layer.name: _Nothing(layer)}
            elif _fuses(layer):
                replaced[layer.name] = FusedBatchNorm(layer)
        elif keras.backend.backend() != "tensorflow":
            continue
        elif isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.silu:
            replaced[layer.name] = Swish(layer)
        elif before is not None and _is_factor(layer) and isinstance(replaced.get(before.name), Swish):
            # E-swish is swish and a factor.
            replaced |= {before.name: Swish(before, layer.scale), layer.name: _Nothing(layer)}
    return keras.models.clone_model(network, clone_function=lambda layer: replaced.get(layer.name, layer))


def _only_one_before(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """The layer whose output this layer takes, if nothing else takes it."""
    nodes = layer._inbound_nodes
    parents = nodes[0].parent_nodes if len(nodes) == 1 else ()
    if len(parents) != 1 or len(parents[0].operation._outbound_nodes) != 1:
        return None
    return parents[0].operation


def _is_plain_conv(layer: keras.layers.Layer) -> bool:
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return isinstance(layer, kinds) and not layer.use_bias and layer.activation is keras.activations.linear


def _is_factor(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Rescaling) and isinstance(layer.scale, float) and not layer.offset


def _fuses(layer: keras.layers.BatchNormalization) -> bool:
    return (
        keras.backend.backend() == "tensorflow"
        and layer.center
        and layer.scale
        and layer.axis in (3, -1)
        and layer.trainable
    )
