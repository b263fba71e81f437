"""A network that is built and compiled in moments, for tests of everything around networks.

As a script it is `keras-ehrnet train`, which then knows this network too; or, with several recipes, it trains one after
the other, on two processor devices.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet.models.searched import SearchedBackbone
from keras_ehrnet.models.variants import VARIANTS, Variant
from keras_ehrnet.training import recipe as recipes

if TYPE_CHECKING:
    import keras

ROOT = Path(__file__).parents[1]
EPOCHS, STEPS = 3, 4


def network(
    num_keypoints: int = 17, input_shape: tuple[int, int, int] = (64, 64, 3), dropout: float = 0.3
) -> keras.Model:
    """All that has a state: batch norm, and dropout of pixels and of whole images."""
    import keras
    from keras import layers

    from keras_ehrnet.models import blocks

    inputs = blocks.image_input(input_shape)
    x = blocks.preprocess(inputs, lite=False)
    for number, noise_shape in enumerate([None, (None, 1, 1, 1)]):
        x = blocks.conv(x, blocks.Style(), 8, 3, strides=2, name=f"conv{number}")
        x = blocks.batch_norm(x, blocks.Style(), f"bn{number}")
        x = blocks.activation(x, "relu", f"relu{number}")
        x = layers.Dropout(dropout, noise_shape=noise_shape, name=f"drop{number}")(x)
    return keras.Model(inputs, {"heatmaps": blocks.map_conv(x, num_keypoints, "heatmaps")}, name="tiny")


SEARCHED = SearchedBackbone("short", 8, ((3, 3, 16, 2), (3, 3, 16, 1), (5, 6, 24, 2), (7, 3, 24, 2)), (64, 64))
"""All kinds of blocks of the searched networks, but few: for what is done to a network, however deep it is."""

NETWORKS = {
    "tiny": Variant("efficientpose_nas", network, (64, 64), None, None, "none"),
    "tiny-without-dropout": Variant("efficientpose_nas", partial(network, dropout=0), (64, 64), None, None, "none"),
}


def recipe(folder: Path, **sections: Any) -> recipes.Recipe:
    """A dozen small pictures, and an optimizer with all that has a state: Adam, moving averages, a schedule."""
    content: dict[str, Any] = {
        "model": {"name": "tiny"},
        "data": {
            "kind": "synthetic",
            "augmentation": "efficientpose",
            "synthetic": {"length": 12, "evaluation_length": 2, "image_size": [64, 64], "people": [1, 2]},
        },
        "optimizer": {"name": "adam", "weight_decay": 1e-4, "ema": 0.9, "clip_norm": 1.0},
        "schedule": {"rate": 1e-3, "boundaries": [2], "warmup_epochs": 1},
        "training": {"epochs": EPOCHS, "batch_size": 4, "steps_per_epoch": STEPS, "seed": 5, "workers": 0},
        "evaluation": {"every": EPOCHS, "pictures": 2},
        "output": {"folder": str(folder), "steps": True},
    }
    for name, values in sections.items():
        content[name] = {**content[name], **values}
    return recipes.from_dict(content)


def start(*arguments: Any, backend: str, cwd: Path = ROOT) -> subprocess.Popen:
    """`keras-ehrnet train` in a process of its own."""
    cwd.mkdir(exist_ok=True)
    settings = {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *map(str, arguments)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env={**os.environ, **settings}, cwd=cwd, **output)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def _make_two_devices() -> None:
    if os.environ["KERAS_BACKEND"] == "jax":
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        return
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


if __name__ == "__main__":
    VARIANTS.update(NETWORKS)
    if all(argument.endswith(".yaml") for argument in sys.argv[1:]) and len(sys.argv) > 2:
        _make_two_devices()
        from keras_ehrnet import training

        for path in sys.argv[1:]:
            training.train(recipes.read(path))
    else:
        from keras_ehrnet.cli import main

        main(["train", *sys.argv[1:]])
