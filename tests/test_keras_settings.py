"""`keras.json` may say what it likes: networks, losses and exports give the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ehrnet as ke

SCRIPT = """
import sys
import keras
import numpy as np
import tiny
import keras_ehrnet as ke
from keras_ehrnet import losses
from keras_ehrnet.models.variants import VARIANTS

assert (keras.config.image_data_format(), keras.config.floatx()) == (sys.argv[2], sys.argv[3])
rng = np.random.default_rng(0)
image = rng.integers(0, 256, (1, 64, 64, 3)).astype("float32")
joints = np.concatenate([rng.uniform(4, 60, (1, 2, 17, 2)), np.full((1, 2, 17, 1), 2)], axis=-1).astype("float32")
results = {}
networks = (
    ke.EfficientHRNet(-4, input_shape=(64, 64, 3)),
    ke.EfficientPose("RT", num_keypoints=17, input_shape=(64, 64, 3)),
    ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)),
    ke.EfficientPoseNAS(tiny.SEARCHED),  # the one that is trained and exported: a shallow one does
)
for model in networks:
    for weight in model.weights:
        weight.assign(0.05 * np.cos(np.arange(np.prod(weight.shape))).reshape(weight.shape) + 0.05)
    for name, maps in model(image).items():
        results[f"{model.name}/{name}"] = np.asarray(maps, "float32")
maps = model(image)["heatmaps"]
loss = losses.HeatmapLoss(stride=4)
results["loss"] = np.asarray(loss(joints, maps, np.ones((1, 8, 8), "float32")), "float32")
model.compile(keras.optimizers.SGD(0.125), {"heatmaps": loss})  # a rate that half precision holds as well
model.train_on_batch(image, {"heatmaps": joints})
results |= {f"trained/{weight.path}": keras.ops.convert_to_numpy(weight) for weight in model.weights}
VARIANTS.update(tiny.NETWORKS)
recipe = tiny.recipe(f"{sys.argv[1]}.run", evaluation={"every": 0}, training={"epochs": 1, "steps_per_epoch": 2})
run = ke.train(recipe)
results |= {f"recipe/{weight.path}": keras.ops.convert_to_numpy(weight) for weight in run.model.weights}
results["recipe/loss"] = np.float64(run.history[0]["loss"])
assert {values.dtype.name for name, values in results.items() if name.startswith(("trained", "recipe/"))} <= {
    "float32", "float64", "uint32", "int64", "int32"
}
path = ke.export.tflite(model, f"{sys.argv[1]}.tflite", skeleton=ke.skeletons.COCO_17)
results["tflite"] = ke.runtime.load(path)(image.astype("uint8"))["heatmaps"]
onnx = ke.export.onnx(model, f"{sys.argv[1]}.onnx", skeleton=ke.skeletons.COCO_17)
results["onnx"] = ke.runtime.load(onnx)(image.astype("uint8"))["heatmaps"]
keras_file = ke.models.save(model, f"{sys.argv[1]}.keras", ke.skeletons.COCO_17)
results["keras"] = ke.runtime.load(keras_file)(image.astype("uint8"))["heatmaps"]
assert (keras.config.image_data_format(), keras.config.floatx()) == (sys.argv[2], sys.argv[3])
np.savez(sys.argv[1], **results)
"""


def results(folder: Path, data_format: str, floatx: str) -> dict[str, np.ndarray]:
    home = folder / f"{data_format}-{floatx}"
    home.mkdir()
    settings = {"backend": "tensorflow", "image_data_format": data_format, "floatx": floatx, "epsilon": 1e-7}
    (home / "keras.json").write_text(json.dumps(settings))
    environment = {**os.environ, "KERAS_HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("KERAS_BACKEND", None)
    command = [sys.executable, "-c", SCRIPT, str(home / "results.npz"), data_format, floatx]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(home / "results.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return results(tmp_path_factory.mktemp("usual"), "channels_last", "float32")


@pytest.mark.parametrize(("data_format", "floatx"), [("channels_first", "float16"), ("channels_last", "float64")])
def test_results_are_those_of_the_usual_settings(
    usual: dict[str, np.ndarray], data_format: str, floatx: str, tmp_path: Path
) -> None:
    found = results(tmp_path, data_format, floatx)
    assert found.keys() == usual.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, usual[name], name)


def test_a_precision_that_was_chosen_is_followed() -> None:
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = ke.EfficientPoseNAS("A", input_shape=(64, 64, 3))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    kinds = {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)}
    assert kinds == {"bfloat16"}
