"""What a training leaves in its folder besides checkpoints: its recipe, its starts, its model."""

from __future__ import annotations

import json
import platform
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import keras

from keras_ehrnet.models.saving import save
from keras_ehrnet.support.errors import CheckpointError, reading
from keras_ehrnet.support.files import why, write_file
from keras_ehrnet.support.version import __version__
from keras_ehrnet.training.devices import Hosts
from keras_ehrnet.training.model import all_trainable
from keras_ehrnet.training.recipe import Recipe, first_difference, from_dict
from keras_ehrnet.training.values import read_yaml

_PACKAGES = ("keras", "tensorflow", "jax", "numpy", "opencv-python-headless")


PARTS = ("training.json", "validation.json")
"""What annotations are split into where some are set aside to evaluate on."""

SYNTHETIC_PEOPLE = "evaluation/person_keypoints.json"
"""Synthetic people to evaluate on."""

MADE_ONCE = (*PARTS, SYNTHETIC_PEOPLE)
"""What is made of the data at the beginning, and is the same for as long as the training goes on."""


def prepare_folder(recipe: Recipe, is_begun: bool) -> None:
    """Makes the output folder, with the recipe in it.

    Args:
        recipe: `Recipe`.
        is_begun: bool. Whether something was trained there before, with which another recipe cannot go on.

    Raises:
        ValueError: if it holds a training with another recipe.
        OSError: if it cannot be written to.
    """
    path = recipe.folder / "recipe.yaml"
    if is_begun:
        if not path.exists():
            raise ValueError(
                f"There are checkpoints without their recipe: choose another folder. Received: {recipe.folder}"
            )
        _check_same(recipe, path)
    try:
        for name in () if is_begun else MADE_ONCE:
            (recipe.folder / name).unlink(missing_ok=True)
        write_file(path, recipe.to_yaml())
    except OSError as error:
        raise OSError(f"The output folder cannot be written to ({why(error)}). Received: {recipe.folder}") from error


def _check_same(recipe: Recipe, path: Path) -> None:
    there = from_dict(read_yaml(path), str(path), type(recipe))
    key = first_difference(there, recipe)
    if key is not None:
        raise ValueError(
            f"{recipe.folder} holds a training with another recipe, of which {key} is {there.flat()[key]!r}: choose "
            f"another output.folder, or delete this one. Received: {key}={recipe.flat()[key]!r}"
        )


def write_start(recipe: Recipe, first: int, hosts: Hosts) -> None:
    """Notes seed, versions and devices of this start in `run.json`, after those before it."""
    path = recipe.folder / "run.json"
    with reading(CheckpointError, path):
        starts = [*json.loads(path.read_text(encoding="utf-8"))["starts"]] if path.exists() else []
    start = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "after_epoch": first,
        "command": " ".join(sys.argv),
        "versions": {"python": platform.python_version(), "keras-ehrnet": __version__, **_versions()},
        "backend": keras.backend.backend(),
        "hosts": hosts.count,
        "devices": [str(device) for device in keras.distribution.list_devices()][: recipe.training.devices],
    }
    content = {"name": recipe.name, "seed": recipe.training.seed, "starts": [*starts, start]}
    write_file(path, json.dumps(content, indent=2) + "\n")


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def save_model(recipe: Recipe, network: keras.Model, path: Path, trained: str) -> None:
    skeleton = None if recipe.is_classifier else recipe.skeleton
    try:
        with all_trainable(network):
            save(network, path, skeleton, input_size=recipe.input_size, trained=trained)
    except OSError as error:
        raise OSError(f"{path} could not be written ({why(error)}); the last checkpoint is intact.") from error
