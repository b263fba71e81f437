"""Recipes of a search: those of a training, with a space and how to search it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from keras_ehrnet.search.space import Space
from keras_ehrnet.training import recipe as recipes
from keras_ehrnet.training.recipe import Recipe
from keras_ehrnet.training.sections import ModelRecipe
from keras_ehrnet.training.values import CHECKED, Count, NotNegative, Positive, Whole


@dataclass(frozen=True, config=CHECKED)
class SearchSection:
    """How to search.

    Args:
        method: `"gradient"`: a supernet, whose choices are trained with its weights; `"random"` and `"evolution"`:
            as many steps, divided among networks that are trained one by one.
        warmup: int. Epochs of weights alone, of the largest network first, before choices are trained; gradient only.
        temperature: tuple (float, float). Of the choices in the first epoch behind the warm-up and in the last one.
        paths: int. Options of a decision that are mixed while choices are trained, 1 or 2.
        rate: float. Learning rate of the choices.
        cost_weight: float. How many hundredths less loss a hundredth more cost is worth.
        limit: float or None. The most that the found network may cost: multiply-adds, or milliseconds with `latency`.
        latency: str or None. Path of a table that `keras-ehrnet search measure` wrote; None: multiply-adds count.
        candidates: int. Networks that random search and evolution try.
    """

    method: Literal["gradient", "random", "evolution"] = "gradient"
    warmup: Whole = 5
    temperature: tuple[Positive, Positive] = (3.0, 0.3)
    paths: Literal[1, 2] = 2
    rate: Positive = 0.01
    cost_weight: NotNegative = 0.05
    limit: Positive | None = None
    latency: str | None = None
    candidates: Count = 12


@dataclass(frozen=True, config=CHECKED)
class SearchRecipe(Recipe):
    """A whole search.

    Its model names the family, one of EfficientPose-A/B/C, and the size of the input that is searched for. Epochs
    are those of the weights; behind the warm-up every step of them is followed by one of the choices.

    Args:
        space: `Space`.
        search: `SearchSection`.

    Raises:
        ValueError: for values that cannot be, or do not go together.

    Example:
        >>> from keras_ehrnet.search.recipe import SearchRecipe
        >>> from keras_ehrnet.training.recipe import from_dict
        >>> from_dict({"data": {"kind": "synthetic"}}, kind=SearchRecipe).search.method
        'gradient'
    """

    subfolder = "search"

    name: str = "searched"
    model: ModelRecipe = field(default_factory=lambda: ModelRecipe("efficientpose-a"))
    space: Space = field(default_factory=Space)
    search: SearchSection = field(default_factory=SearchSection)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant.family != "efficientpose_nas":
            raise ValueError(
                "A search is for the family of efficientpose-a, whose backbones are blocks to choose. "
                f"Received: model.name={self.model.name!r}"
            )
        if self.search.method == "gradient" and self.search.warmup >= self.training.epochs:
            raise ValueError(
                "search.warmup must leave epochs to train choices in. Received: "
                f"search.warmup={self.search.warmup} of training.epochs={self.training.epochs}"
            )

    @property
    def depends_on_epochs(self) -> bool:
        return True

    @property
    def choice_epochs(self) -> int:
        """Epochs in which choices are trained."""
        return max(self.training.epochs - self.search.warmup, 0)

    def temperature(self, epoch: int) -> float:
        """The choices' temperature in an epoch: it falls by the same factor each time."""
        first, last = self.search.temperature
        done = max(epoch - self.search.warmup, 0) / max(self.choice_epochs - 1, 1)
        return first * (last / first) ** min(done, 1.0)

    def training_of(self, blocks: str | os.PathLike) -> Recipe:
        """The recipe that trains a network, given as a file of blocks, as this one trains the supernet."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(Recipe)}
        return Recipe(**{**values, "model": dataclasses.replace(self.model, name=str(blocks))})


def read(path: str | os.PathLike, overrides: Iterable[str] = ()) -> SearchRecipe:
    """A recipe of a search from a YAML file, or by its name; see `keras_ehrnet.recipe.read`.

    Example:
        >>> from keras_ehrnet.search import recipe
        >>> recipe.read("synthetic", ["paths=1"]).search.paths
        1
    """
    return recipes.read(path, overrides, SearchRecipe)
