"""Training from a recipe: everything put together, and taken up again after an interruption."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_ehrnet.data.classification import LabelledExamples
from keras_ehrnet.data.loader import Order, numpy_batches
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.poses import draw
from keras_ehrnet.support.files import sha256, write_file
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.training import schedules
from keras_ehrnet.training.best import Best
from keras_ehrnet.training.callbacks import EpochEnd, Progress, StepLog, StopAtBadLoss, StopWhere, Table, take_averages
from keras_ehrnet.training.checkpoints import Checkpoints, assign_state, empty_state
from keras_ehrnet.training.checks import check_evaluation, check_keypoints, check_packages
from keras_ehrnet.training.devices import Hosts, devices, distribution, precision, this_host
from keras_ehrnet.training.examples import make_examples
from keras_ehrnet.training.folder import prepare_folder, save_model, write_start
from keras_ehrnet.training.model import build_losses, compiled_model, unfreeze
from keras_ehrnet.training.pictures import curve_picture, targets_picture
from keras_ehrnet.training.recipe import Recipe, with_changes
from keras_ehrnet.training.scoring import Figures, evaluator, has_evaluation
from keras_ehrnet.training.validation import with_validation

if TYPE_CHECKING:
    from rich.console import Console

_LOG = "log.csv"
_MODEL = "model.keras"


@dataclass(frozen=True)
class Result:
    """What a training left behind.

    Args:
        model: `keras.Model` with the final weights: moving averages, if the recipe asks for them.
        folder: Path of the output folder.
        history: tuple of dict of figures by name, one per epoch of this run, as in `log.csv`.
        finished: bool. Whether all epochs are done; not, where `training.minutes` were over before. There is then no
            `model.keras` of this run yet.
    """

    model: keras.Model
    folder: Path
    history: tuple[dict[str, float], ...]
    finished: bool = True

    @property
    def model_path(self) -> Path:
        """The `.keras` file of the model."""
        return self.folder / _MODEL


@pinned
def train(
    recipe: Recipe | str | os.PathLike | Mapping[str, Any],
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    console: Console | None = None,
    **changes: Any,
) -> Result:
    """Trains a model as a recipe says, or goes on where an earlier run with the same recipe stopped.

    The output folder receives `recipe.yaml`, `run.json` (versions, seed, starts), `log.csv` (a row per epoch),
    `curve.png`, `checkpoints/`, `targets.png`, `predictions.png` and at the end `model.keras`, which
    `PosePredictor.load` takes: the model of the best evaluation, or of the last epoch where there was none.
    After an interruption it goes on behind the last whole epoch. Batches and dropout depend on seed and step alone, so
    that the losses are those of a run without interruption.

    Args:
        recipe: name of one that comes with the package, such as `"h-4"`; path of a YAML file; mapping of its sections;
            or `Recipe`, as `recipe.read` gives it.
        callbacks: further callbacks of Keras.
        console: `rich.console.Console` for progress; by default a new one.
        **changes: values of the recipe by the last part of their keys, such as `epochs=10`, or, where several end
            alike, by the whole key: `**{"data.images": "dogs"}`. A key that there is not is refused with the nearest.

    Returns:
        `Result`.

    Raises:
        ValueError: if the folder holds another training, the recipe cannot be followed, or the loss is not finite.
        OSError: if results cannot be written; the last checkpoint is intact.

    Example:
        >>> import keras_ehrnet as ke
        >>> result = ke.train("h-4", annotations="dogs.json", images="dogs", epochs=20, name="dogs")  # doctest: +SKIP
        >>> ke.PosePredictor.load(result.model_path)("dog.jpg")  # doctest: +SKIP
        Poses(1 person, dog, image 640x425, scores 0.71)
    """
    from rich.console import Console

    started, hosts, recipe = time.monotonic(), this_host(), with_changes(recipe, changes)
    console = console or Console(quiet=not hosts.is_first)
    say = partial(console.print, highlight=False, soft_wrap=True)
    check_packages(recipe)
    checkpoints = Checkpoints(recipe.folder / "checkpoints", recipe.output.keep)
    batch_size = _batch_size_of_host(recipe, hosts)
    if hosts.is_first:
        prepare_folder(recipe, bool(checkpoints.paths()))
    first = _agreed_start(recipe, checkpoints, hosts)
    check_keypoints(recipe, say)
    recipe = with_validation(recipe, say)
    check_evaluation(recipe)

    keras.utils.set_random_seed(recipe.training.seed)
    examples = make_examples(recipe)
    if examples.report():
        say(examples.report())
    order = Order(len(examples), batch_size, seed=recipe.training.seed, num_shards=hosts.count, shard=hosts.number)
    steps = recipe.training.steps_per_epoch or order.steps_per_epoch
    with devices(recipe.training.devices) as scope:
        with precision(recipe.training.precision), scope:
            network, model = compiled_model(recipe, steps, say)
            build_losses(model, examples)
            if hosts.is_first:
                write_start(recipe, first, hosts)
            if first:
                state = checkpoints.read(model) if hosts.is_first else empty_state(model)
                assign_state(model, hosts.from_first(state))
        say(
            f"{network.name}: {network.count_params():,} weights, {len(examples)} examples, {steps} steps per epoch; "
            + (f"going on after epoch {first} of {recipe.training.epochs}" if first else "starting")
            + f"; results in {recipe.folder}"
        )
        if first == 0 and recipe.evaluation.pictures and hosts.is_first:
            picture = targets_picture(examples, order, recipe.evaluation.pictures)
            write_file(recipe.folder / "targets.png", draw.encode_png(picture))
        best = Best(
            recipe.folder / "best.keras",
            recipe.folder / _LOG,
            first,
            recipe.training.patience,
            lambda path: save_model(recipe, network, path, str(best)),
        )
        run = _Run(recipe, network, model, steps, first, checkpoints, hosts, started, best)
        history: tuple[dict[str, float], ...] = ()
        if first < recipe.training.epochs and not run.is_patience_over():
            batches = make_batches(recipe, examples, order, list(model.output), first * steps)
            history = _fit(run, batches, callbacks, console)
        _draw_curve(run)
        done = first + len(history)
        # A caller's callback may end it sooner, too: that is an end like any other.
        if done < recipe.training.epochs and not run.is_patience_over() and run.is_out_of_time():
            say(
                f"Stopped after epoch {done} of {recipe.training.epochs}: {recipe.training.minutes:g} minutes are over."
            )
            unfreeze(network)
            return Result(network, recipe.folder, history, finished=False)
        take_averages(model)
        if hosts.is_first:
            if run.best.epoch and hosts.count == 1:
                run.best.restore(network)
            # Networks that hosts share cannot be changed by one of them alone: their file is the best one's.
            if run.best.epoch and hosts.count > 1:
                write_file(recipe.folder / _MODEL, run.best.path.read_bytes())
            else:
                save_model(
                    recipe, network, recipe.folder / _MODEL, str(run.best) if run.best.epoch else f"epoch {done}"
                )
        if run.best.epoch:
            say(f"The best of {done} epochs by its score: {run.best}")
    unfreeze(network)
    return Result(network, recipe.folder, history)


def _batch_size_of_host(recipe: Recipe, hosts: Hosts) -> int:
    size, parts = recipe.training.batch_size, hosts.count * recipe.training.devices
    if size % parts:
        raise ValueError(
            f"training.batch_size must be a multiple of all devices of all hosts, which are {parts}. Received: {size}"
        )
    return size // hosts.count


def _agreed_start(recipe: Recipe, checkpoints: Checkpoints, hosts: Hosts) -> int:
    """The epochs that are done, as the first host knows them; ValueError where hosts have different recipes."""
    digest = np.frombuffer(bytes.fromhex(sha256(recipe.to_yaml().encode())), np.uint8)
    first, of_first = hosts.from_first((np.int32(checkpoints.epochs()), digest))
    if not np.array_equal(of_first, digest):
        raise ValueError(f"All hosts need the same recipe. Received: another on host {hosts.number} than on host 0")
    return int(first)


@dataclass(frozen=True)
class _Run:
    """A training that is ready to go on."""

    recipe: Recipe
    network: keras.Model
    model: keras.Model
    steps: int
    first: int
    checkpoints: Checkpoints
    hosts: Hosts
    started: float
    best: Best

    def is_evaluated(self, epoch: int) -> bool:
        """Whether it is the recipe's time to evaluate after an epoch; the last one always is."""
        every = self.recipe.evaluation.every
        return epoch + 1 == self.recipe.training.epochs or (every > 0 and (epoch + 1) % every == 0)

    def is_patience_over(self) -> bool:
        """Whether `training.patience` evaluations brought nothing better, as the first host knows."""
        if self.recipe.training.patience is None:
            return False
        return bool(self.hosts.from_first(np.int32(self.best.is_over)))

    def is_out_of_time(self) -> bool:
        """Whether `training.minutes` are over, by the first host's clock."""
        minutes = self.recipe.training.minutes
        if minutes is None:
            return False
        over = time.monotonic() - self.started > 60 * minutes
        return bool(self.hosts.from_first(np.int32(over)))


def _fit(
    run: _Run, batches: Any, callbacks: Sequence[keras.callbacks.Callback], console: Console
) -> tuple[dict[str, float], ...]:
    recipe = run.recipe
    # Evaluates, logs and saves; behind it, so that a stop leaves a whole epoch, the clock.
    epoch_end = _epoch_end(run, partial(console.print, highlight=False, soft_wrap=True))
    used = [*callbacks, StopAtBadLoss(), *_optional_callbacks(run)]
    curve = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: _draw_curve(run) if run.is_evaluated(epoch) else None
    )
    with ExitStack() as cleanup:
        if run.hosts.is_first:
            used.append(Progress(console, recipe.training.epochs, run.steps, recipe.training.batch_size, run.first))
            cleanup.callback(used[-1].close)
        if hasattr(batches, "close"):
            cleanup.callback(batches.close)
        try:
            # Batches follow each other without end: an epoch is a number of steps.
            run.model.fit(
                batches,
                initial_epoch=run.first,
                epochs=recipe.training.epochs,
                steps_per_epoch=run.steps,
                shuffle=False,
                verbose=0,
                callbacks=[*used, epoch_end, curve, StopWhere(run.is_patience_over), StopWhere(run.is_out_of_time)],
            )
        except Exception as error:
            _raise_cause(error)
            raise
    return tuple(epoch_end.rows)


def _epoch_end(run: _Run, say: Callable[[str], None]) -> EpochEnd:
    def is_due(epoch: int) -> bool:
        return has_evaluation(run.recipe) and run.is_evaluated(epoch)

    if not run.hosts.is_first:
        return EpochEnd(None, None, dict, is_due, say)
    table = Table(run.recipe.folder / _LOG, "epoch", run.first)
    return EpochEnd(table, run.checkpoints, _evaluator(run) or dict, is_due, say, run.best)


def _draw_curve(run: _Run) -> None:
    if not run.hosts.is_first:
        return
    picture = curve_picture([run.recipe.folder / _LOG], run.recipe.name)
    if picture is not None:
        write_file(run.recipe.folder / "curve.png", picture)


def _optional_callbacks(run: _Run) -> list[keras.callbacks.Callback]:
    recipe, chosen = run.recipe, []
    if recipe.loss.sigma_factors:
        chosen.append(schedules.StepwiseSigma(recipe.loss.sigma_factors))
    if recipe.output.steps and run.hosts.is_first:
        chosen.append(StepLog(Table(recipe.folder / "steps.csv", "step", run.first * run.steps), run.steps))
    if recipe.output.tensorboard and run.hosts.is_first:
        chosen.append(keras.callbacks.TensorBoard(recipe.folder / "tensorboard", update_freq=10, write_graph=False))
    return chosen


def _evaluator(run: _Run) -> Callable[[], Figures] | None:
    if run.hosts.count == 1:
        return evaluator(run.recipe, run.network)
    # What hosts share can only be run by all of them together: one that evaluates alone needs a copy of its own.
    with distribution(None):
        copy = keras.models.clone_model(run.network)
        evaluate = evaluator(run.recipe, copy)

    if evaluate is None:
        return None

    def evaluate_copy() -> Figures:
        weights = run.network.get_weights()
        with distribution(None):
            copy.set_weights(weights)
            return evaluate()

    return evaluate_copy


def _raise_cause(error: Exception) -> None:
    """TensorFlow wraps what goes wrong with an image into pages of its own; the last line tells what it was."""
    text = str(error)
    for kind in ("ImageError", "FileNotFoundError", "ValueError"):
        for line in text.splitlines():
            if type(error).__module__.startswith("tensorflow") and f"{kind}: " in line:
                raise ValueError(line.partition(f"{kind}: ")[2]) from error


def make_batches(
    recipe: Recipe, examples: Examples | LabelledExamples, order: Order, outputs: list[str], start: int
) -> Any:
    """Batches of a recipe's examples, from a step on, as its backend likes them best."""
    workers = recipe.training.workers
    if keras.backend.backend() == "tensorflow":
        from keras_ehrnet.data.pipeline import tf_batches

        return tf_batches(examples, order, outputs=outputs, start=start, threads=workers or None)
    return numpy_batches(examples, order, outputs=outputs, start=start, workers=workers)
