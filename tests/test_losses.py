"""Losses against the goldens, on whichever backend Keras runs (KERAS_BACKEND)."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ehrnet import losses
from keras_ehrnet.skeletons import MPII_16

pytestmark = pytest.mark.backend


def numpy_of(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def value_and_gradients(function, *arrays: np.ndarray) -> tuple[float, list[np.ndarray]]:
    if keras.backend.backend() == "jax":
        import jax

        value, gradients = jax.jit(jax.value_and_grad(function, tuple(range(len(arrays)))))(*arrays)
    else:
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors)
    return float(value), [numpy_of(gradient) for gradient in gradients]


def people(*shape: int, size: float = 64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    joints = rng.uniform(0, size, (*shape, 3)).astype(np.float32)
    joints[..., 2] = rng.integers(0, 3, shape)
    return joints


def test_rendered_heatmaps_are_the_published_targets(reference: Path) -> None:
    golden = np.load(reference / "reference/targets_res64.npz")
    side, sigma = int(golden["resolution"]), float(golden["sigma"])
    heatmaps = numpy_of(losses.render_heatmaps(golden["joints"][None], side, side, sigma=sigma))[0]
    np.testing.assert_allclose(heatmaps.transpose(2, 0, 1), golden["heatmaps"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["losses_batch3", "losses_first_image_empty"])
def test_values_and_gradients_are_the_published_ones(reference: Path, monkeypatch, name: str) -> None:
    golden = dict(np.load(reference / f"reference/{name}.npz"))
    # The published maps are random numbers, not rendered from the joints.
    published = ops.convert_to_tensor(golden["heatmaps_true"])
    monkeypatch.setattr(losses.heatmaps, "render_heatmaps", lambda *_, **__: published)
    tag_loss, heatmap_loss = losses.TagLoss(stride=1), losses.HeatmapLoss(stride=1)

    def total(tags, heatmaps):
        return heatmap_loss(golden["joints"], heatmaps, golden["mask"]) + tag_loss(golden["joints"], tags)

    value, (grad_tags, grad_heatmaps) = value_and_gradients(total, golden["tags"], golden["heatmaps_pred"])
    assert value == pytest.approx(float(golden["total"]), rel=1e-5)
    for gradient, expected in ((grad_tags, golden["grad_tags"]), (grad_heatmaps, golden["grad_heatmaps"])):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    pull, push = losses.associative_embedding(golden["tags"], golden["joints"], stride=1)
    np.testing.assert_allclose(numpy_of(pull), golden["pull"], rtol=1e-5)
    np.testing.assert_allclose(numpy_of(push), golden["push"], rtol=1e-5)


def test_stride_places_joints_in_cells_and_unlabelled_ones_nowhere() -> None:
    joints = np.zeros((1, 2, 2, 3), np.float32)
    joints[0, 0, 0] = 11.9, 4.1, 1
    joints[0, 1, 1] = 5, 5, 0
    heatmaps = numpy_of(losses.render_heatmaps(joints, 8, 8, stride=4))
    assert np.unravel_index(heatmaps[0, ..., 0].argmax(), (8, 8)) == (1, 2)
    assert heatmaps[0, ..., 0].max() == 1 and not heatmaps[..., 1].any()


def test_unlabelled_coordinates_change_nothing() -> None:
    joints = people(2, 4, 16)
    moved = np.where(joints[..., 2:] > 0, joints, np.add(joints, (3, 5, 0)))
    rng = np.random.default_rng(1)
    for loss, channels in (
        (losses.HeatmapLoss(4), 16),
        (losses.TagLoss(4), 16),
        (losses.PafLoss(MPII_16.limbs, 4), 28),
    ):
        predicted = rng.normal(size=(2, 16, 16, channels)).astype(np.float32)
        assert float(loss(joints, predicted)) == float(loss(moved, predicted)), loss.name


def test_ignored_channels_have_no_gradient_but_empty_images_are_background() -> None:
    joints = np.zeros((2, 1, 3, 3), np.float32)
    joints[0, 0, 0] = 8, 8, 2
    predicted = np.ones((2, 4, 4, 3), np.float32)
    loss = losses.HeatmapLoss(4, ignore_unlabelled=True)
    _, (gradient,) = value_and_gradients(lambda heatmaps: loss(joints, heatmaps), predicted)
    assert gradient[0, ..., 0].any() and not gradient[0, ..., 1:].any() and gradient[1].all()


def test_mask_of_any_resolution_and_weights_of_images() -> None:
    joints, predicted = people(2, 3, 5), np.ones((2, 32, 32, 5), np.float32)
    mask = np.ones((2, 16, 16), np.uint8)
    loss = losses.HeatmapLoss(2)
    assert float(loss(joints, predicted, mask)) == pytest.approx(float(loss(joints, predicted)))
    mask[1] = 0
    half = float(loss(joints, predicted, mask))
    assert half == pytest.approx(float(loss(joints, predicted, np.array([1.0, 0.0]))))
    mask[:] = 0
    assert float(loss(joints, predicted, mask)) == 0
    tags = losses.TagLoss(2)
    assert float(tags(joints, predicted, mask)) == float(tags(joints, predicted)) > 0


def test_pafs_point_from_first_to_second_joint() -> None:
    joints = np.zeros((1, 2, 2, 3), np.float32)
    joints[0, 0] = (8, 8, 2), (8, 56, 1)
    joints[0, 1] = (40, 20, 2), (56, 20, 0)
    pafs = numpy_of(losses.render_pafs(joints, [(0, 1), (1, 0)], 8, 8, stride=8, limb_width=1.0))[0]
    # The limb is the line x = 1 from y = 1 to y = 7, in cells; centers at x = 0.5 and 1.5 are half a cell from it.
    np.testing.assert_allclose(pafs[2:6, :2, 1], 1)
    np.testing.assert_allclose(pafs[2:6, :2, 3], -1)
    np.testing.assert_allclose(pafs[..., 0], 0, atol=1e-6)
    assert not pafs[:, 3:].any(), "a limb with an unlabelled end is not drawn"


def test_overlapping_pafs_are_averaged() -> None:
    joints = np.zeros((1, 2, 2, 3), np.float32)
    joints[0, 0] = (4, 36, 2), (60, 36, 2)
    joints[0, 1] = (60, 36, 2), (4, 36, 2)
    pafs = numpy_of(losses.render_pafs(joints, [(0, 1)], 8, 8))
    np.testing.assert_allclose(pafs, 0, atol=1e-6)


def test_narrower_sigma_keeps_the_window() -> None:
    loss = losses.HeatmapLoss(4, sigma=2.0, spread=1.0)
    joints = np.array([[[[32, 32, 2]]]], np.float32)
    zeros = np.zeros((1, 16, 16, 1), np.float32)
    wide = float(loss(joints, zeros))
    loss.sigma = 1.0
    assert float(loss(joints, zeros)) == pytest.approx(wide / 4, rel=0.04)


@pytest.mark.parametrize(
    "loss", [*losses.efficienthrnet_losses().values(), *losses.efficientpose_losses(MPII_16.limbs).values()]
)
def test_losses_are_serialisable(loss: keras.losses.Loss) -> None:
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(copy) is type(loss) and copy.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.HeatmapLoss(0), "stride=0"),
        (lambda: losses.HeatmapLoss(sigma=-1), "sigma=-1"),
        (lambda: losses.PafLoss([]), "limbs=\\[\\]"),
        (lambda: losses.efficientpose_losses([(0, 1)], outputs=["heatmap"]), "Did you mean 'heatmaps'"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_plain_fit_trains_all_outputs() -> None:
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, 2, "same", activation="relu")(inputs)
    outputs = {"heatmaps_2": layers.Conv2D(4, 1, name="heatmaps_2")(x)}
    x = layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
    outputs |= {name: layers.Conv2D(4, 1, name=name)(x) for name in ("heatmaps_4", "tags_4")}
    model = keras.Model(inputs, outputs)
    model.compile("adam", loss=losses.efficienthrnet_losses())
    images, joints = np.random.default_rng(0).random((4, 32, 32, 3), np.float32), people(4, 3, 4, size=32)
    truth, mask = (dict.fromkeys(outputs, array) for array in (joints, np.ones((4, 8, 8), np.uint8)))
    history = model.fit(images, truth, sample_weight=mask, batch_size=2, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert {"heatmaps_4_loss", "tags_4_loss", "heatmaps_2_loss"} <= set(history)
    parts = sum(history[f"{name}_loss"][-1] for name in outputs)
    assert history["loss"][-1] == pytest.approx(parts, rel=1e-4)


@pytest.mark.parametrize(("stride", "spread"), [(1, 2.0), (8, 1.0)])
def test_one_person_is_drawn_as_the_first_of_many(stride: int, spread: float) -> None:
    """A single person has a way of its own, without a maximum over persons."""
    joints = people(3, 1, 17, size=9 * stride, seed=4)
    many = np.concatenate([joints, np.zeros((3, 2, 17, 3), np.float32)], axis=1)
    options = {"stride": stride, "sigma": 1.5, "spread": spread}
    alone, among = (numpy_of(losses.render_heatmaps(j, 9, 11, **options)) for j in (joints, many))
    np.testing.assert_allclose(alone, among, rtol=1e-6, atol=1e-7)
    assert alone.max() == 1
