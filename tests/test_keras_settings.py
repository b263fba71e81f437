"""`keras.json` may say what it likes: networks, losses and exports give the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = """
import sys
import keras
import numpy as np
import keras_ehrnet as ke
from keras_ehrnet import losses

assert (keras.config.image_data_format(), keras.config.floatx()) == (sys.argv[2], sys.argv[3])
rng = np.random.default_rng(0)
image = rng.integers(0, 256, (1, 64, 64, 3)).astype("float32")
joints = np.concatenate([rng.uniform(4, 60, (1, 2, 17, 2)), np.full((1, 2, 17, 1), 2)], axis=-1).astype("float32")
results = {}
networks = (
    ke.EfficientHRNet(-4, input_shape=(64, 64, 3)),
    ke.EfficientPose("RT", num_keypoints=17, input_shape=(64, 64, 3)),
    ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)),
)
for model in networks:
    for weight in model.weights:
        weight.assign(0.05 * np.cos(np.arange(np.prod(weight.shape))).reshape(weight.shape) + 0.05)
    for name, maps in model(image).items():
        results[f"{model.name}/{name}"] = np.asarray(maps, "float32")
maps = model(image)["heatmaps"]
loss = losses.HeatmapLoss(stride=4)
results["loss"] = np.asarray(loss(joints, maps, np.ones((1, 8, 8), "float32")), "float32")
path = ke.export.tflite(model, f"{sys.argv[1]}.tflite", skeleton=ke.skeletons.COCO_17)
results["tflite"] = ke.runtime.load(path)(image.astype("uint8"))["heatmaps"]
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


def test_results_are_those_of_channels_last(tmp_path: Path) -> None:
    expected, found = (results(tmp_path, data_format, "float32") for data_format in ("channels_last", "channels_first"))
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], name)
