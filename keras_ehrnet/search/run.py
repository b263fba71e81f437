"""A search from a recipe: everything put together, and taken up again after an interruption."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_ehrnet.data.loader import Order
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.losses import efficientpose_nas_losses
from keras_ehrnet.models.searched import SearchedBackbone
from keras_ehrnet.search import baselines, pictures
from keras_ehrnet.search.cost import Cost, multiply_adds
from keras_ehrnet.search.latency import read_latency
from keras_ehrnet.search.recipe import SearchRecipe
from keras_ehrnet.search.space import Architecture
from keras_ehrnet.search.steps import ChoicesStep, WeightsStep, chosen
from keras_ehrnet.search.supernet import Choices, gates_of, gates_shape, gumbel, one_hot, supernet
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.support.terminal import progress_bar
from keras_ehrnet.training.callbacks import Table
from keras_ehrnet.training.checkpoints import Checkpoints
from keras_ehrnet.training.examples import make_examples
from keras_ehrnet.training.folder import prepare_folder
from keras_ehrnet.training.optimizers import make_optimizer
from keras_ehrnet.training.recipe import Recipe, with_changes
from keras_ehrnet.training.run import make_batches

if TYPE_CHECKING:
    from rich.console import Console

_FOUND = "found.json"
_SHRINKING = 8.0
"""With so much more of a logit, nearly every step draws the largest network."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        backbone: `SearchedBackbone`, as `EfficientPoseNAS(blocks=...)` takes it; so far, where it is not finished.
        architecture: tuple of int. Its options, see `Space.decisions`.
        cost: float. Multiply-adds or milliseconds.
        folder: Path of the output folder.
        finished: bool. Whether all epochs are done; not, where `training.minutes` were over before.
    """

    backbone: SearchedBackbone
    architecture: Architecture
    cost: float
    folder: Path
    finished: bool = True

    @property
    def path(self) -> Path:
        """The JSON file of the backbone."""
        return self.folder / _FOUND


@pinned
def search(
    recipe: SearchRecipe | str | os.PathLike | Mapping[str, Any], *, console: Console | None = None, **changes: Any
) -> Found:
    """Finds a network for a task and a cost, or goes on where an earlier search with the same recipe stopped.

    The output folder receives `recipe.yaml`, `log.csv` (a row per epoch), `choices.csv` and `choices.png` (how
    choices settle), `found.json` and `found.png` (the network so far), and `checkpoints/`; of random search and
    evolution `candidates.json` instead of choices.

    Args:
        recipe: name of one that comes with the package, such as `"synthetic"`; path of a YAML file; mapping of its
            sections; or `SearchRecipe`.
        console: `rich.console.Console` for progress; by default a new one.
        **changes: values of the recipe by the last part of their keys, such as `cost_weight=0.5`.

    Returns:
        `Found`.

    Raises:
        ValueError: if no network of the space is within `search.limit`, the folder holds another search, the recipe
            cannot be followed, or the loss is not finite.
        OSError: if results cannot be written; the last checkpoint is intact.

    Example:
        >>> import keras_ehrnet as ke
        >>> found = ke.search("synthetic", cost_weight=0.5)  # doctest: +SKIP
        >>> network = ke.EfficientPoseNAS(found.path)  # doctest: +SKIP
    """
    from rich.console import Console

    started, recipe = time.monotonic(), with_changes(recipe, changes, SearchRecipe)
    console = console or Console()
    say = partial(console.print, highlight=False, soft_wrap=True)
    cost = make_cost(recipe)
    cost.check_limit(recipe.search.limit)
    checkpoints = Checkpoints(recipe.folder / "checkpoints", recipe.output.keep)
    prepare_folder(recipe, bool(checkpoints.paths()) or baselines.path_in(recipe.folder).exists())
    keras.utils.set_random_seed(recipe.training.seed)
    halves = split(_examples(recipe))
    order = Order(len(halves[0]), recipe.training.batch_size, seed=recipe.training.seed)
    steps = recipe.training.steps_per_epoch or order.steps_per_epoch
    say(f"{recipe.space.size:.3g} networks; {steps} steps per epoch; results in {recipe.folder}")
    if recipe.search.method == "gradient":
        run = _Search(recipe, cost, halves, steps, checkpoints)
        finished = run.go_on(console, started)
        architecture = run.chosen()
    else:
        tried = baselines.try_candidates(recipe, cost, halves, steps, console, started)
        architecture, finished = tried.best, tried.finished
    backbone = _write_found(recipe, cost, architecture)
    say(f"{'Found' if finished else 'So far'}: {cost.text(cost.of(architecture))}, {recipe.folder / _FOUND}")
    return Found(backbone, architecture, cost.of(architecture), recipe.folder, finished)


def make_cost(recipe: SearchRecipe) -> Cost:
    """What networks of a recipe cost: multiply-adds, or milliseconds by its table.

    Raises:
        FileNotFoundError: if there is no such table.
        LatencyError: if the table is damaged, or of another version or other shapes.
    """
    if recipe.search.latency is not None:
        table = read_latency(recipe.search.latency)
        return table.cost(recipe.space, recipe.input_size, recipe.skeleton.num_joints)
    return multiply_adds(recipe.space, recipe.input_size, recipe.skeleton.num_joints)


def _examples(recipe: Recipe) -> Examples:
    examples = make_examples(recipe)
    assert isinstance(examples, Examples)
    return examples


def split(examples: Examples) -> tuple[Examples, Examples]:
    """Every other sample: one half of the data for weights, the other for choices.

    Raises:
        ValueError: if there are fewer than two.
    """
    samples = examples.dataset.samples
    if len(samples) < 2:
        raise ValueError(f"A search divides its images in two halves. Received: {len(samples)} image")
    first, second = (
        replace(examples, dataset=replace(examples.dataset, samples=samples[start::2])) for start in (0, 1)
    )
    return first, second


def _write_found(recipe: SearchRecipe, cost: Cost, architecture: Architecture) -> SearchedBackbone:
    about = {
        "method": recipe.search.method,
        "cost": cost.text(cost.of(architecture)),
        "cost_weight": recipe.search.cost_weight,
        "seed": recipe.training.seed,
    }
    backbone = recipe.space.derive(architecture, recipe.name, recipe.input_size, about)
    backbone.write(recipe.folder / _FOUND)
    write_file(recipe.folder / "found.png", pictures.network_picture(backbone))
    return backbone


@dataclass(frozen=True)
class _Optimizers:
    """Several optimizers seen as one, for checkpoints."""

    variables: list[Any]


@dataclass(frozen=True)
class _State:
    """All variables of a search, for checkpoints."""

    variables: list[Any]
    optimizer: _Optimizers


class _Search:
    """A supernet and its choices, in training."""

    def __init__(
        self,
        recipe: SearchRecipe,
        cost: Cost,
        halves: tuple[Examples, Examples],
        steps: int,
        checkpoints: Checkpoints,
    ) -> None:
        self._recipe, self._cost, self._halves, self._steps = recipe, cost, halves, steps
        self._checkpoints = checkpoints
        space, settings = recipe.space, recipe.search
        self._largest = one_hot(space, space.largest)
        self._choices = Choices(space, settings.paths, name="choices")
        network = supernet(space, recipe.input_size, recipe.skeleton.num_joints)
        sigma = {} if recipe.loss.sigma is None else {"sigma": recipe.loss.sigma}
        parts = (network, self._choices, efficientpose_nas_losses(**sigma)["heatmaps"])
        self._weights_step = WeightsStep(*parts)
        self._choices_step = ChoicesStep(*parts, cost=cost, cost_weight=settings.cost_weight)
        optimizers = make_optimizer(recipe, steps), keras.optimizers.Adam(settings.rate, beta_1=0.5)
        for step, optimizer in zip((self._weights_step, self._choices_step), optimizers, strict=True):
            step.compile(optimizer=optimizer, jit_compile=False)
            optimizer.build(step.trainable_variables)
        self._state = _State(
            [*network.variables, *self._choices.variables],
            _Optimizers([one for optimizer in optimizers for one in optimizer.variables]),
        )

    def chosen(self) -> Architecture:
        """The network that the choices lean to."""
        return chosen(self._cost, self._probabilities(), self._recipe.search.limit)

    def go_on(self, console: Console, started: float) -> bool:
        """Trains to the last epoch, or until the recipe's minutes are over; returns whether all are done."""
        recipe = self._recipe
        first = self._checkpoints.restore(self._state)
        log, settled = (Table(recipe.folder / f"{name}.csv", "epoch", first) for name in ("log", "choices"))
        batches = [self._batches(half, start) for half, start in zip(self._halves, self._starts(first), strict=True)]
        minutes, epochs = recipe.training.minutes, recipe.training.epochs
        with progress_bar("images", console=console, transient=True) as bar:
            task = bar.add_task("", total=self._steps, per_step=recipe.training.batch_size)
            for epoch in range(first, epochs):
                bar.reset(task, description=f"epoch {epoch + 1}/{epochs}", total=self._steps)
                row = self._epoch(epoch, batches, partial(bar.advance, task))
                log.add(row)
                settled.add({"epoch": epoch} | self._named_probabilities())
                self._checkpoints.save(self._state, epoch + 1)
                console.print(_told(row, epochs, self._cost), highlight=False, soft_wrap=True)
                if minutes is not None and time.monotonic() - started > 60 * minutes:
                    first = epoch + 1
                    break
            else:
                first = epochs
        picture = pictures.choices_picture(recipe.folder / "choices.csv", recipe.space)
        if picture is not None:
            write_file(recipe.folder / "choices.png", picture)
        return first == epochs

    def _starts(self, epochs: int) -> tuple[int, int]:
        """Steps of weights and of choices that so many epochs have."""
        return epochs * self._steps, max(epochs - self._recipe.search.warmup, 0) * self._steps

    def _batches(self, half: Examples, start: int) -> Iterator[Any]:
        order = Order(len(half), self._recipe.training.batch_size, seed=self._recipe.training.seed)
        return iter(make_batches(self._recipe, half, order, ["heatmaps"], start))

    def _epoch(self, epoch: int, batches: list[Iterator[Any]], advance: Any) -> dict[str, Any]:
        recipe, temperature = self._recipe, np.float32(self._recipe.temperature(epoch))
        losses: dict[str, list[float]] = {"loss": [], "choices_loss": []}
        for step in range(epoch * self._steps, (epoch + 1) * self._steps):
            for number, (name, model) in enumerate(zip(losses, (self._weights_step, self._choices_step), strict=True)):
                if number == 1 and epoch < recipe.search.warmup:
                    continue
                images, joints, masks = next(batches[number])
                noise = gumbel(gates_shape(recipe.space), recipe.training.seed, 2 * step + number)
                noise += self._shrinking(step) * self._largest
                inputs = {"image": images, "noise": noise, "temperature": temperature}
                losses[name].append(float(model.train_on_batch(inputs, joints, sample_weight=masks)))
                if not np.isfinite(losses[name][-1]):
                    raise ValueError(
                        "The loss is not finite: lower schedule.rate or search.rate, or set optimizer.clip_norm. "
                        f"Received: {name}={losses[name][-1]} in step {step}"
                    )
            advance()
        gates = gates_of(recipe.space, self._probabilities())
        entropy = [-float((gate * np.log(np.maximum(gate, 1e-12))).sum()) for gate in gates]
        return {
            "epoch": epoch,
            **{name: float(np.mean(values)) if values else "" for name, values in losses.items()},
            "cost": float(self._cost.expected(gates)),
            "cost_of_likeliest": self._cost.of(self.chosen()),
            "entropy": float(np.mean(entropy)),
            "temperature": float(temperature),
        }

    def _shrinking(self, step: int) -> float:
        """What is added to the logits of the largest network in a step of the warm-up; it falls to 0.

        All networks are parts of the largest. Where it has learned something first, they begin with that; where all
        are drawn alike from the beginning, none of them has learned much when choices are made.
        """
        return _SHRINKING * max(1 - step / max(self._recipe.search.warmup * self._steps, 1), 0.0)

    def _probabilities(self) -> np.ndarray:
        return keras.ops.convert_to_numpy(self._choices.probabilities())

    def _named_probabilities(self) -> dict[str, float]:
        gates = gates_of(self._recipe.space, self._probabilities())
        return {
            f"{decision.name}={option}": float(gate[number])
            for decision, gate in zip(self._recipe.space.decisions, gates, strict=True)
            for number, option in enumerate(decision.options)
        }


def _told(row: dict[str, Any], epochs: int, cost: Cost) -> str:
    return (
        f"epoch {row['epoch'] + 1}/{epochs}: loss {row['loss']:.5f}, mean cost {cost.text(row['cost'])}, "
        f"likeliest network {cost.text(row['cost_of_likeliest'])}, undecided {row['entropy']:.2f}"
    )
