"""What any search must beat: networks at random, and evolution, over the same space with as many steps."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_ehrnet.data.loader import Order, numpy_batches
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.search.cost import Cost
from keras_ehrnet.search.recipe import SearchRecipe
from keras_ehrnet.search.space import Architecture, Space
from keras_ehrnet.support.errors import CheckpointError, reading
from keras_ehrnet.support.files import write_file
from keras_ehrnet.training.model import build_losses, compiled_model
from keras_ehrnet.training.run import make_batches

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

_POPULATION = 6
_TOURNAMENT = 3


@dataclass(frozen=True)
class Candidate:
    """A network that was tried.

    Args:
        architecture: tuple of int.
        loss: float. On the half of the data that it was not trained on.
        cost: float.
        score: float. `log(loss) + cost_weight * log(cost)`, as the gradient search has it; lower is better.
    """

    architecture: Architecture
    loss: float
    cost: float
    score: float


@dataclass(frozen=True)
class Tried:
    """Candidates so far, and whether these are all."""

    candidates: list[Candidate]
    finished: bool

    @property
    def best(self) -> Architecture:
        """The one with the lowest score."""
        return min(self.candidates, key=lambda one: one.score).architecture


def try_candidates(
    recipe: SearchRecipe,
    cost: Cost,
    halves: tuple[Examples, Examples],
    steps: int,
    console: Console,
    started: float,
) -> Tried:
    """Trains networks one by one on the first half of the data, and scores them on the second.

    Together they get as many steps as the gradient search with this recipe has, of weights and of choices.
    """
    path, minutes = path_in(recipe.folder), recipe.training.minutes
    tried = _read(path)
    budget = steps * (recipe.training.epochs + recipe.choice_epochs)
    count = recipe.search.candidates
    steps_each = budget // count
    if steps_each < 1:
        raise ValueError(f"search.candidates must leave a step for each of them, of {budget}. Received: {count}")
    while len(tried) < count:
        architecture = next_candidate(recipe, cost, tried)
        loss = _loss(recipe, architecture, halves, steps_each)
        price = cost.of(architecture)
        score = float(np.log(loss) + recipe.search.cost_weight * np.log(price / cost.of(cost.cheapest)))
        tried.append(Candidate(architecture, loss, price, score))
        write_file(path, json.dumps([asdict(one) for one in tried], indent=1) + "\n")
        console.print(
            f"network {len(tried)}/{count}: loss {loss:.5f}, {cost.text(price)}", highlight=False, soft_wrap=True
        )
        if minutes is not None and time.monotonic() - started > 60 * minutes:
            break
    return Tried(tried, len(tried) >= count)


def path_in(folder: Path) -> Path:
    """The file of what was tried."""
    return folder / "candidates.json"


def _read(path: Path) -> list[Candidate]:
    if not path.exists():
        return []
    with reading(CheckpointError, path):
        content = json.loads(path.read_text(encoding="utf-8"))
        return [Candidate(**{**one, "architecture": tuple(one["architecture"])}) for one in content]


def next_candidate(recipe: SearchRecipe, cost: Cost, tried: list[Candidate]) -> Architecture:
    """The next network to try; it depends on the seed and on those tried alone, so that a search can go on."""
    generator = np.random.default_rng((recipe.training.seed, len(tried)))
    most = np.inf if recipe.search.limit is None else recipe.search.limit
    if recipe.search.method == "random" or len(tried) < _POPULATION:
        return cost.sample(generator, most=most)
    # Aging evolution: the best of a few of the youngest has a child, and the oldest is forgotten.
    young = tried[-_POPULATION:]
    parent = min(generator.choice(len(young), _TOURNAMENT, replace=False), key=lambda index: young[index].score)
    known = {one.architecture for one in tried}
    for _ in range(100):
        child = mutated(recipe.space, young[parent].architecture, generator)
        if child not in known and cost.of(child) <= most:
            return child
    return cost.sample(generator, most=most)


def mutated(space: Space, architecture: Architecture, generator: np.random.Generator) -> Architecture:
    """An architecture with another option for one decision."""
    several = [number for number, decision in enumerate(space.decisions) if len(decision.options) > 1]
    number = int(generator.choice(several))
    others = [option for option in range(len(space.decisions[number].options)) if option != architecture[number]]
    return (*architecture[:number], int(generator.choice(others)), *architecture[number + 1 :])


def _loss(recipe: SearchRecipe, architecture: Architecture, halves: tuple[Examples, Examples], steps: int) -> float:
    path = recipe.folder / "candidate.json"
    recipe.space.derive(architecture, "candidate", recipe.input_size).write(path)
    keras.utils.set_random_seed(recipe.training.seed)
    # The learning rate falls within these few steps as it does within all of them.
    _, model = compiled_model(recipe.training_of(path), max(steps // recipe.training.epochs, 1), lambda text: None)
    path.unlink()
    build_losses(model, halves[0])
    size, seed = recipe.training.batch_size, recipe.training.seed
    batches = make_batches(recipe, halves[0], Order(len(halves[0]), size, seed=seed), ["heatmaps"], 0)
    model.fit(batches, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    once = Order(len(halves[1]), size, shuffle=False, repeat=False)
    unseen = list(numpy_batches(halves[1], once, outputs=["heatmaps"], workers=0))
    losses = [model.test_on_batch(images, joints, sample_weight=masks) for images, joints, masks in unseen]
    loss = float(np.average(np.array(losses), weights=[len(images) for images, _, _ in unseen]))
    keras.utils.clear_session(free_memory=False)
    return loss
