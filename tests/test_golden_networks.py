"""The networks agree with the published ones: same weights, same input, same maps."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import relative_difference

import keras_ehrnet as ke

pytestmark = pytest.mark.backend

TOLERANCE = 2e-5
# The published maps of EfficientPose lie up to 1.9e-5 from what float64 gives. TensorFlow rounds like they do; JAX
# rounds otherwise, and comes nearer to float64 than they are, but not within 2e-5 of them: see the test in float64.
EFFICIENTPOSE_TOLERANCE = {"tensorflow": 2e-5, "jax": 4e-5}


def state_dict(reference, deterministic_tensor, file_name, key):
    shapes = json.loads((reference / "reference" / file_name).read_text())[key]
    return {name: deterministic_tensor(name, shape) for name, shape in shapes}


@pytest.mark.parametrize("phi", [0, -2, -4])
def test_efficienthrnet(reference, deterministic_tensor, golden_input, phi):
    name = f"H{phi}"
    weights = state_dict(reference, deterministic_tensor, "efficienthrnet_state_dicts.json", name)
    model = ke.EfficientHRNet(phi, include_preprocessing=False, weights=weights)
    golden = np.load(reference / f"reference/efficienthrnet_{name}.npz")
    outputs = model.predict(golden_input(128, 160), verbose=0)
    low = np.concatenate([outputs["heatmaps_4"], outputs["tags_4"]], axis=-1)
    assert relative_difference(low, golden["low"]) <= TOLERANCE
    assert relative_difference(outputs["heatmaps_2"], golden["high"]) <= TOLERANCE


@pytest.mark.parametrize("variant", ["A", "C"])
def test_efficientpose_nas(reference, deterministic_tensor, golden_input, variant):
    weights = state_dict(
        reference, deterministic_tensor, "efficientpose_nas_state_dicts.json", f"EfficientPose-{variant}"
    )
    model = ke.EfficientPoseNAS(variant, input_shape=(128, 96, 3), include_preprocessing=False, weights=weights)
    golden = np.load(reference / f"reference/efficientpose_nas_{variant}.npz")
    outputs = model.predict(golden_input(128, 96), verbose=0)
    assert relative_difference(outputs["heatmaps"], golden["heatmaps"]) <= TOLERANCE


PUBLISHED_OUTPUTS = {
    "pafs": "pass1_skeleton_pafs",
    "heatmaps_coarse": "pass2_detection1_confs",
    "heatmaps_fine": "pass3_detection2_confs",
    "heatmaps": "upscaled_confs",
}


@pytest.mark.parametrize("variant", ["RT", "I", "RT_LITE"])
def test_efficientpose(reference, variant):
    model = ke.EfficientPose(variant, weights=reference / f"weights/EfficientPose{variant}.h5")
    golden = np.load(reference / f"reference/efficientpose_{variant}.npz")
    outputs = model.predict(golden["image"], verbose=0)
    assert {PUBLISHED_OUTPUTS[name] for name in outputs} == set(golden.files) - {"image"}
    for name, maps in outputs.items():
        tolerance = EFFICIENTPOSE_TOLERANCE[keras.backend.backend()]
        assert relative_difference(maps, golden[PUBLISHED_OUTPUTS[name]]) <= tolerance, name


FLOAT64 = """
import sys, numpy as np, keras
if keras.backend.backend() == "jax":
    import jax
    jax.config.update("jax_enable_x64", True)
keras.config.set_dtype_policy("float64")
if keras.backend.backend() == "jax":
    # The layer of batch norms asks for the wider of its input's type and float32, which Keras takes for float32 on JAX.
    import keras.src.backend
    keras.src.backend.result_type = lambda *kinds: "float64"
import keras_ehrnet as ke
reference, results, *variants = sys.argv[1:]
for variant in variants:
    model = ke.EfficientPose(variant, weights=f"{reference}/weights/EfficientPose{variant}.h5")
    image = np.load(f"{reference}/reference/efficientpose_{variant}.npz")["image"]
    np.savez(f"{results}/{variant}.npz", **model.predict(image, verbose=0))
"""
IN_FLOAT64 = ("RT", "I")


@pytest.fixture(scope="module")
def maps_in_float64(reference, tmp_path_factory):
    """The folder of the maps of every variant, all from one process, whose policy is another one."""
    results = tmp_path_factory.mktemp("float64")
    command = [sys.executable, "-c", FLOAT64, str(reference), str(results), *IN_FLOAT64]
    subprocess.run(command, check=True, capture_output=True)
    return results


@pytest.mark.parametrize("variant", IN_FLOAT64)
def test_efficientpose_in_float64(reference, maps_in_float64, variant):
    """Without rounding of ours, only that of the published maps is left, on every backend."""
    golden = np.load(reference / f"reference/efficientpose_{variant}.npz")
    outputs = np.load(maps_in_float64 / f"{variant}.npz")
    for name, published in PUBLISHED_OUTPUTS.items():
        assert relative_difference(outputs[name], golden[published]) <= TOLERANCE, name
