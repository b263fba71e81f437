"""What training runs instead of a network: the same maps, losses, gradients and statistics, with the same variables."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_ehrnet as ke
from keras_ehrnet.training import lean
from keras_ehrnet.training import recipe as recipes
from keras_ehrnet.training.lean import training_clone
from keras_ehrnet.training.model import compiled_model

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="fused layers are TensorFlow's; other backends keep stock ones"
)


def batch(size: int, side: int, people: int = 1) -> tuple:
    rng = np.random.default_rng(3)
    joints = np.zeros((size, people, 17, 3), np.float32)
    joints[..., :2] = rng.uniform(0, side, joints[..., :2].shape)
    joints[..., 2] = 2
    return (
        rng.integers(0, 256, (size, side, side, 3), np.uint8),
        joints,
        np.ones((size, side // 4, side // 4), np.uint8),
    )


def step(name: str, is_lean: bool, monkeypatch, frozen: bool = False) -> tuple[float, list, list]:
    """Loss, gradients and statistics after one step from the same weights."""
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    with monkeypatch.context() as patch:
        if not is_lean:
            patch.setattr("keras_ehrnet.training.model.training_clone", lambda network, freeze_statistics: network)
        model_recipe = {"name": name, "input_size": [64, 64], "freeze_batch_norm": frozen}
        if name == "h-4":
            model_recipe["drop_rate"] = 0.0
        recipe = recipes.from_dict({"model": model_recipe, "data": {"kind": "synthetic"}})
        network, model = compiled_model(recipe, 10)
    images, joints, masks = batch(4, 64)
    truth, weights = dict.fromkeys(model.output, joints), dict.fromkeys(model.output, masks)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(images, truth, model(images, training=True), weights)
    gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
    statistics = [keras.ops.convert_to_numpy(v) for v in network.non_trainable_variables if "moving" in v.name]
    return float(loss), [None if g is None else g.numpy() for g in gradients], statistics


@on_tensorflow
@pytest.mark.parametrize("name", ["efficientpose-rt", "h-4", "efficientpose-a"])
def test_losses_gradients_and_statistics_are_those_of_the_stock_network(name: str, monkeypatch) -> None:
    loss, gradients, statistics = step(name, True, monkeypatch)
    stock_loss, stock_gradients, stock_statistics = step(name, False, monkeypatch)
    assert loss == pytest.approx(stock_loss, rel=1e-5)
    pairs = [(own, stock) for own, stock in zip(gradients, stock_gradients, strict=True) if stock is not None]
    assert [g is None for g in gradients] == [g is None for g in stock_gradients]
    error, size = (
        np.sqrt(sum(np.square(part).sum() for part in parts))
        for parts in zip(*((o - s, s) for o, s in pairs), strict=True)
    )
    assert error < 5e-3 * size
    for own, stock in zip(statistics, stock_statistics, strict=True):
        np.testing.assert_allclose(own, stock, rtol=1e-3, atol=1e-6)


@on_tensorflow
@pytest.mark.parametrize("channels", [5, 16])
def test_batch_norm_of_any_number_of_channels(channels: int) -> None:
    """Against float64. The mean is far from zero: a variance taken as E[x^2] - E[x]^2 would cancel."""
    import tensorflow as tf

    x = np.random.default_rng(0).normal(30, 0.5, (3, 6, 7, channels)).astype(np.float32)
    upstream = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    gamma = np.linspace(0.5, 2, channels)
    stock = layers.BatchNormalization(epsilon=1e-3, momentum=0.5)
    stock.build(x.shape)
    stock.moving_mean.assign(np.full(channels, 29))
    stock.gamma.assign(gamma)
    layer, images = lean.FusedBatchNorm(stock), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        y = layer(images, training=True)
    gradients = tape.gradient(y, [images, stock.gamma.value, stock.beta.value], output_gradients=tf.constant(upstream))

    exact, given, over = x.astype(np.float64), upstream.astype(np.float64), (0, 1, 2)
    mean, variance = exact.mean(over), exact.var(over)
    deviation = np.sqrt(variance + 1e-3)
    normal = (exact - mean) / deviation
    along = (given * normal).mean(over)
    expected = {
        "y": (y, normal * gamma),
        "gradient": (gradients[0], (given - given.mean(over) - normal * along) * gamma / deviation),
        "gamma": (gradients[1], (given * normal).sum(over)),
        "beta": (gradients[2], given.sum(over)),
        "mean": (stock.moving_mean.value, (29 + mean) / 2),
        "variance": (stock.moving_variance.value, (1 + variance) / 2),
    }
    for what, (own, right) in expected.items():
        np.testing.assert_allclose(own, right, rtol=2e-4, atol=2e-4, err_msg=what)


@on_tensorflow
@pytest.mark.parametrize("beta", [1.0, 1.25])
def test_swish_and_its_gradient(beta: float) -> None:
    import tensorflow as tf

    x = tf.constant(np.linspace(-30, 30, 240).reshape(2, 3, 4, 10), tf.float32)
    own = lean.Swish(layers.Activation("silu"), beta)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, expected = own(x), beta * tf.nn.silu(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(y, x), tape.gradient(expected, x), rtol=1e-5, atol=1e-6)


@pytest.mark.backend
def test_frozen_statistics_become_part_of_convolutions() -> None:
    network = ke.EfficientPose("RT", input_shape=(64, 64, 3))
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    clone = training_clone(network, freeze_statistics=True)
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    before = [np.array(variable) for variable in network.non_trainable_variables]
    expected, found = network(images, training=False), clone(images, training=True)
    for name, maps in expected.items():
        expected_maps, found_maps = map(keras.ops.convert_to_numpy, (maps, found[name]))
        np.testing.assert_allclose(found_maps, expected_maps, atol=2e-5 * expected_maps.std())
    for variable, value in zip(network.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in clone.layers)
    assert len(clone.trainable_variables) == len(network.trainable_variables)


@pytest.mark.backend
def test_variables_are_the_networks_own_and_files_stay_plain(tmp_path) -> None:
    network = ke.EfficientHRNet(phi=-4, input_shape=(64, 64, 3))
    clone = training_clone(network)
    own = {id(variable) for variable in network.trainable_variables}
    assert {id(variable) for variable in clone.trainable_variables} == own
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras", custom_objects={}, safe_mode=True)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in network.layers]
