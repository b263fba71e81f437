"""Builders: sizes, shapes, saving, precision, and what they say to mistakes."""

from __future__ import annotations

import json
from functools import cache

import cv2
import keras
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.models.scaling import EFFICIENTNET_SCALING, efficienthrnet_scaling

TRAINABLE_PARAMETERS = {
    "h0": 19_725_359,
    "h-1": 13_004_446,
    "h-2": 8_263_495,
    "h-3": 5_360_390,
    "h-4": 2_764_706,
    "efficientpose-a": 1_299_393,
    "efficientpose-b": 3_252_945,
    "efficientpose-c": 5_002_345,
}
ALL_WEIGHTS = {
    "efficientpose-rt": 465_608,
    "efficientpose-i": 726_116,
    "efficientpose-rt-lite": 404_608,
    "efficientpose-i-lite": 591_632,
}


@cache
def counted(name: str) -> tuple[ke.models.Profile, int]:
    """Counts of a network of the tables, which several tests look at: its profile, and the number of all weights."""
    from keras_ehrnet.models.variants import variant

    model = variant(name).build()
    return ke.profile(model), model.count_params()


def maps_of(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """What a network returns. TensorFlow takes longer to trace one than to run it once; JAX the other way round."""
    if keras.backend.backend() == "jax":
        return model.predict_on_batch(image)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(image, training=False))


@pytest.mark.parametrize(("name", "count"), TRAINABLE_PARAMETERS.items())
def test_trainable_parameters_are_the_published_ones(name, count):
    assert counted(name)[0].parameters == count


@pytest.mark.parametrize(("name", "count"), ALL_WEIGHTS.items())
def test_weights_are_those_of_the_published_files(name, count):
    assert counted(name)[1] == count


@pytest.mark.parametrize("name", ["efficientpose-ii", "efficientpose-iii", "efficientpose-iv", "efficientpose-ii-lite"])
def test_other_variants_round_to_the_papers_figures(name):
    from keras_ehrnet.models.variants import VARIANTS

    assert round(counted(name)[0].paper_parameters / 1e6, 2) == VARIANTS[name].parameters


@pytest.mark.parametrize(
    ("phi", "width", "modules", "resolution"),
    [
        (0, (32, 64, 128, 256), (1, 4, 3), 512),
        (-1, (26, 52, 103, 206), (1, 3, 3), 480),
        (-2, (21, 42, 83, 166), (1, 2, 3), 448),
        (-3, (17, 34, 67, 133), (1, 1, 3), 416),
        (-4, (14, 27, 54, 107), (1, 1, 2), 384),
    ],
)
def test_scaling_is_table_1(phi, width, modules, resolution):
    scaling = efficienthrnet_scaling(phi)
    assert (scaling.branch_widths, scaling.modules, scaling.resolution) == (width, modules, resolution)


def test_widths_are_multiples_of_8_and_never_much_narrower():
    for scaling in EFFICIENTNET_SCALING.values():
        for channels in (16, 24, 32, 40, 80, 112, 192, 320, 1280):
            scaled = scaling.channels(channels)
            assert scaled % 8 == 0
            assert scaled >= 0.9 * channels * scaling.width


@pytest.mark.parametrize("phi", [1, 3])
def test_scales_upward(phi):
    model = ke.EfficientHRNet(phi, input_shape=(64, 64, 3))
    assert model.output["heatmaps_2"].shape == (None, 32, 32, 17)


@pytest.mark.backend
@pytest.mark.parametrize("lite", [False, True])
def test_efficienthrnet_shapes(lite):
    model = ke.EfficientHRNet(-4, num_keypoints=5, lite=lite)
    outputs = maps_of(model, np.zeros((2, 64, 96, 3), np.uint8))
    assert {name: maps.shape for name, maps in outputs.items()} == {
        "heatmaps_4": (2, 16, 24, 5),
        "tags_4": (2, 16, 24, 5),
        "heatmaps_2": (2, 32, 48, 5),
    }


@pytest.mark.backend
def test_fixed_and_free_sizes_give_the_same_maps():
    free = ke.EfficientHRNet(-4)
    fixed = ke.EfficientHRNet(-4, input_shape=(64, 96, 3))
    fixed.set_weights(free.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype("float32")
    expected = fixed.predict_on_batch(image)
    for name, maps in free.predict_on_batch(image).items():
        np.testing.assert_allclose(expected[name], maps, rtol=1e-5, atol=1e-6)


@pytest.mark.backend
def test_efficientnet_feature_maps():
    model = ke.EfficientNet(-4, include_top=False, input_shape=(64, 64, 3))
    assert {name: maps.shape[1] for name, maps in model.output.items()} == {
        "features_4": 16,
        "features_8": 8,
        "features_16": 4,
        "features_32": 2,
    }


def test_efficientpose_intermediate_outputs_can_be_asked_for():
    model = ke.EfficientPose("RT_LITE", intermediate_outputs=True, input_shape=(64, 64, 3))
    assert set(model.output) == {"pafs", "heatmaps_coarse", "heatmaps_fine", "heatmaps"}


@pytest.mark.backend
def test_upsampling_starts_bilinear():
    model = ke.EfficientPose("RT", input_shape=(64, 64, 3))
    maps = np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 16)).astype("float32")
    enlarged = np.asarray(model.get_layer("heatmaps")(maps))[0]
    # Borders differ: a transposed convolution sees zeros outside.
    np.testing.assert_allclose(enlarged[1:-1, 1:-1], cv2.resize(maps[0], (16, 16))[1:-1, 1:-1], atol=1e-5)


BUILDERS = {
    "EfficientNet": lambda: ke.EfficientNet(-4, classes=10, input_shape=(64, 64, 3)),
    "EfficientHRNet": lambda: ke.EfficientHRNet(-4, input_shape=(64, 64, 3)),
    "EfficientHRNet, any size": lambda: ke.EfficientHRNet(-4, lite=True),
    "EfficientPose": lambda: ke.EfficientPose("I", input_shape=(64, 64, 3)),
    "EfficientPoseNAS": lambda: ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)),
}


@pytest.mark.backend
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_saves_and_loads_without_custom_objects(build, tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected, actual = maps_of(model, image), maps_of(loaded, image)
    keras.tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), actual, expected)


@pytest.mark.backend
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_mixed_precision(build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = maps_of(model, np.full((1, 64, 64, 3), 128, np.uint8))
    for maps in keras.tree.flatten(outputs):
        assert maps.dtype == "float32"
        assert np.isfinite(maps).all()


@pytest.mark.backend
def test_preprocessing_in_the_graph_equals_normalizing_before():
    inside = ke.EfficientPoseNAS("A", input_shape=(64, 64, 3))
    outside = ke.EfficientPoseNAS("A", input_shape=(64, 64, 3), include_preprocessing=False)
    outside.set_weights(inside.get_weights())
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("uint8")
    normalized = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = outside.predict_on_batch(normalized.astype("float32"))["heatmaps"]
    np.testing.assert_allclose(inside.predict_on_batch(image)["heatmaps"], expected, rtol=1e-4, atol=1e-5)


def test_flops_are_the_papers(record_property):
    from keras_ehrnet.models.variants import VARIANTS

    for name in ("h0", "h-1", "h-2", "h-3", "h-4"):
        counts, _ = counted(name)
        record_property(name, json.dumps([counts.parameters, counts.macs, counts.paper_flops]))
        # The papers print one decimal: what they say is the count, rounded.
        assert round(counts.paper_flops / 1e9, 1) == pytest.approx(VARIANTS[name].flops, rel=0.01)
    for name in (name for name, entry in VARIANTS.items() if entry.family == "efficientpose"):
        assert counted(name)[0].paper_flops / 1e9 == pytest.approx(VARIANTS[name].flops, rel=0.02)


MACS_OF_A_B_C = {"A": (0.41, 0.54), "B": (1.05, 1.39), "C": (1.40, 1.86)}


@pytest.mark.parametrize("variant", MACS_OF_A_B_C)
def test_multiply_adds_of_the_searched_networks(variant):
    for shape, expected in zip(((256, 192, 3), (256, 256, 3)), MACS_OF_A_B_C[variant], strict=True):
        counts = ke.profile(ke.EfficientPoseNAS(variant, input_shape=shape))
        assert counts.macs / 1e9 == pytest.approx(expected, rel=0.01)


def test_profile_needs_a_size():
    with pytest.raises(ValueError, match="takes images of any size"):
        ke.profile(ke.EfficientHRNet(-4, name="mine"))
    counts = ke.profile(ke.EfficientHRNet(-4, name="mine"), (384, 384, 3))
    assert counts.macs == ke.profile(ke.EfficientHRNet(-4)).macs


MISTAKES = {
    "phi": (lambda: ke.EfficientHRNet(-5), r"Did you mean -4\?.*Received: -5"),
    "phi of EfficientNet": (lambda: ke.EfficientNet(9), r"Did you mean 3\?.*Received: 9"),
    "phi as text": (lambda: ke.EfficientHRNet("H-2"), "Unknown phi"),
    "variant": (lambda: ke.EfficientPose("lite"), r"Unknown variant of EfficientPose.*Received: 'lite'"),
    "variant in small letters": (lambda: ke.EfficientPose("rt-lite"), r"Did you mean 'RT_LITE'\?"),
    "searched variant": (lambda: ke.EfficientPoseNAS("D"), r"Did you mean 'C'\? Valid: 'A', 'B', 'C'.*Received: 'D'"),
    "phi that is no whole number": (lambda: ke.EfficientHRNet(-4.0), r"Did you mean -4\?"),
    "shape that is no shape": (lambda: ke.EfficientHRNet(0, input_shape=512), "must be \\(height, width, 3\\)"),
    "size": (lambda: ke.EfficientHRNet(0, input_shape=(500, 512, 3)), r"nearest is \(512, 512, 3\)"),
    "size of EfficientPose": (lambda: ke.EfficientPose("RT", input_shape=(225, 224, 3)), "multiples of 8"),
    "channels": (lambda: ke.EfficientPoseNAS("A", input_shape=(256, 192, 1)), r"\(height, width, 3\)"),
    "keypoints": (lambda: ke.EfficientHRNet(0, num_keypoints=0), "num_keypoints must be a positive whole number"),
}


@pytest.mark.parametrize(("build", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(build, message):
    with pytest.raises(ValueError, match=message):
        build()
