"""Training from a recipe: everything put together, and taken up again after an interruption."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_ehrnet import __version__, draw, schedules
from keras_ehrnet.callbacks import (
    Checkpoints,
    EpochEnd,
    Progress,
    StepLog,
    StopAtBadLoss,
    Table,
    take_averages,
)
from keras_ehrnet.data.loader import Order, numpy_batches
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.files import write_file
from keras_ehrnet.recipe import Recipe, first_difference, from_dict

if TYPE_CHECKING:
    from rich.console import Console
from keras_ehrnet.training.devices import devices, precision
from keras_ehrnet.training.examples import make_examples
from keras_ehrnet.training.model import compiled_model
from keras_ehrnet.training.pictures import targets_picture
from keras_ehrnet.training.scoring import evaluator

_PACKAGES = ("keras", "tensorflow", "jax", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Result:
    """What a training left behind.

    Args:
        model: `keras.Model` with the final weights: moving averages, if the recipe asks for them.
        folder: Path of the output folder.
        history: tuple of dict of figures by name, one per epoch of this run, as in `log.csv`.
    """

    model: keras.Model
    folder: Path
    history: tuple[dict[str, float], ...]


def train(
    recipe: Recipe, *, callbacks: Sequence[keras.callbacks.Callback] = (), console: Console | None = None
) -> Result:
    """Trains a model as a recipe says, or goes on where an earlier run with the same recipe stopped.

    The output folder receives `recipe.yaml`, `run.json` (versions, seed, starts), `log.csv` (a row per epoch),
    `checkpoints/`, `targets.png`, `predictions.png` and at the end `model.keras`, which `PosePredictor.load` takes.
    After an interruption it goes on behind the last whole epoch. Batches and dropout depend on seed and step alone, so
    that the losses are those of a run without interruption.

    Args:
        recipe: `Recipe`, as `recipe.read` gives it.
        callbacks: further callbacks of Keras.
        console: `rich.console.Console` for progress; by default a new one.

    Returns:
        `Result`.

    Raises:
        ValueError: if the folder holds another training, the recipe cannot be followed, or the loss is not finite.
        OSError: if results cannot be written; the last checkpoint is intact.

    Example:
        >>> from keras_ehrnet import recipe, training
        >>> result = training.train(recipe.read("training/recipes/synthetic-smoke.yaml"))  # doctest: +SKIP
        >>> result.history[-1]["ap"] > 0.5  # doctest: +SKIP
        True
    """
    from rich.console import Console

    console = console or Console()
    say = partial(console.print, highlight=False, soft_wrap=True)
    folder = recipe.folder
    checkpoints = Checkpoints(folder / "checkpoints", recipe.output.keep)
    _prepare_folder(recipe, checkpoints)
    first = checkpoints.epochs()

    keras.utils.set_random_seed(recipe.training.seed)
    examples = make_examples(recipe)
    if examples.report():
        say(examples.report())
    order = Order(len(examples), recipe.training.batch_size, seed=recipe.training.seed)
    steps = recipe.training.steps_per_epoch or order.steps_per_epoch
    with devices(recipe.training.devices) as scope:
        with precision(recipe.training.precision), scope:
            network, model = compiled_model(recipe, steps, examples.dataset.skeleton, say)
            _write_start(recipe, first)
            checkpoints.restore(model)
        say(
            f"{network.name}: {network.count_params():,} weights, {len(examples)} examples, {steps} steps per epoch; "
            + (f"going on after epoch {first} of {recipe.training.epochs}" if first else "starting")
            + f"; results in {folder}"
        )
        if first == 0 and recipe.evaluation.pictures:
            picture = targets_picture(examples, order, recipe.evaluation.pictures)
            write_file(folder / "targets.png", draw.encode_png(picture))
        history: tuple[dict[str, float], ...] = ()
        if first < recipe.training.epochs:
            run = _Run(recipe, network, model, steps, first, checkpoints)
            batches = _batches(recipe, examples, order, list(model.output), first * steps)
            history = _fit(run, batches, callbacks, console)
        take_averages(model)
        _save_model(network, folder / "model.keras")
    return Result(network, folder, history)


@dataclass(frozen=True)
class _Run:
    """A training that is ready to go on."""

    recipe: Recipe
    network: keras.Model
    model: keras.Model
    steps: int
    first: int
    checkpoints: Checkpoints


def _fit(
    run: _Run, batches: Any, callbacks: Sequence[keras.callbacks.Callback], console: Console
) -> tuple[dict[str, float], ...]:
    recipe, steps, first = run.recipe, run.steps, run.first
    epochs = recipe.training.epochs
    log = Table(recipe.folder / "log.csv", "epoch", first)
    evaluate = evaluator(recipe, run.network)
    progress = Progress(console, epochs, steps, recipe.training.batch_size, first)
    every = recipe.evaluation.every

    def is_due(epoch: int) -> bool:
        return evaluate is not None and every > 0 and ((epoch + 1) % every == 0 or epoch + 1 == epochs)

    used = [*callbacks, StopAtBadLoss()]
    if recipe.loss.sigma_factors:
        used.append(schedules.StepwiseSigma(recipe.loss.sigma_factors))
    if recipe.output.steps:
        used.append(StepLog(Table(recipe.folder / "steps.csv", "step", first * steps), steps))
    if recipe.output.tensorboard:
        used.append(keras.callbacks.TensorBoard(recipe.folder / "tensorboard", update_freq=10))
    say = partial(console.print, highlight=False, soft_wrap=True)
    epoch_end = EpochEnd(log, run.checkpoints, evaluate or dict, is_due, say)
    used += [progress, epoch_end]
    try:
        # Batches follow each other without end: an epoch is a number of steps.
        run.model.fit(
            batches,
            initial_epoch=first,
            epochs=epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=used,
        )
    except Exception as error:
        _raise_cause(error)
        raise
    finally:
        progress.close()
        if hasattr(batches, "close"):
            batches.close()
    return tuple(epoch_end.rows)


def _raise_cause(error: Exception) -> None:
    """TensorFlow wraps what goes wrong with an image into pages of its own; the last line tells what it was."""
    text = str(error)
    for kind in ("ImageError", "FileNotFoundError", "ValueError"):
        for line in text.splitlines():
            if type(error).__module__.startswith("tensorflow") and f"{kind}: " in line:
                raise ValueError(line.partition(f"{kind}: ")[2]) from error


def _batches(recipe: Recipe, examples: Examples, order: Order, outputs: list[str], start: int) -> Any:
    workers = recipe.training.workers
    if keras.backend.backend() == "tensorflow":
        from keras_ehrnet.data.pipeline import tf_batches

        return tf_batches(examples, order, outputs=outputs, start=start, threads=workers or None)
    return numpy_batches(examples, order, outputs=outputs, start=start, workers=workers)


def _prepare_folder(recipe: Recipe, checkpoints: Checkpoints) -> None:
    path = recipe.folder / "recipe.yaml"
    # A run that trained nothing yet may be started anew with another recipe.
    if checkpoints.paths():
        if not path.exists():
            raise ValueError(
                f"There are checkpoints without their recipe: choose another folder. Received: {recipe.folder}"
            )
        _check_same(recipe, path)
    try:
        checkpoints.folder.mkdir(parents=True, exist_ok=True)
        write_file(path, recipe.to_yaml())
    except OSError as error:
        reason = (error.__cause__ or error).strerror or error
        raise OSError(f"The output folder cannot be written to ({reason}). Received: {recipe.folder}") from error


def _check_same(recipe: Recipe, path: Path) -> None:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: choose another folder. Received: {error}") from error
    there = from_dict(content, str(path))
    key = first_difference(there, recipe)
    if key is not None:
        raise ValueError(
            f"{recipe.folder} holds a training with another recipe, of which {key} is {there.flat()[key]!r}: choose "
            f"another output.folder, or delete this one. Received: {key}={recipe.flat()[key]!r}"
        )


def _write_start(recipe: Recipe, first: int) -> None:
    """Notes seed, versions and devices of this start in `run.json`, after those before it."""
    path = recipe.folder / "run.json"
    starts = json.loads(path.read_text(encoding="utf-8"))["starts"] if path.exists() else []
    start = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "after_epoch": first,
        "command": " ".join(sys.argv),
        "versions": {"python": platform.python_version(), "keras-ehrnet": __version__, **_versions()},
        "backend": keras.backend.backend(),
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


def _save_model(network: keras.Model, path: Path) -> None:
    partial_path = path.with_name(f".{path.stem}.part.keras")
    try:
        network.save(partial_path)
        partial_path.replace(path)
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}); the last checkpoint is intact."
        ) from error
    finally:
        partial_path.unlink(missing_ok=True)
