"""Recipes: everything that a training depends on, as YAML that is checked before anything starts.

A recipe names a model, data, and how to train; what it leaves out has the default given here. With `base: other.yaml`
it takes the values of another file first. `key=value` on the command line come last.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from keras_ehrnet.data.augment import AUGMENTATIONS, Augmentation, augmentation
from keras_ehrnet.data.categories import category_skeleton
from keras_ehrnet.data.kinds import KINDS, Kind
from keras_ehrnet.families import FAMILIES, PartName
from keras_ehrnet.models.variants import Variant, variant
from keras_ehrnet.skeletons import COCO_17, SKELETONS, Skeleton
from keras_ehrnet.support.errors import RecipeError, reading, reads
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.training.sections import (
    DataRecipe,
    EvaluationRecipe,
    LossRecipe,
    ModelRecipe,
    OptimizerRecipe,
    OutputRecipe,
    ScheduleRecipe,
    Size,
    TrainingRecipe,
)
from keras_ehrnet.training.values import (
    CHECKED,
    checked,
    flattened,
    merged,
    nested,
    override,
    plain,
    read_layers,
    read_yaml,
)

_LOSSES_OF = {
    "tag_weight": ("efficienthrnet",),
    "limb_width": ("efficientpose",),
    "ignore_unlabelled": ("efficienthrnet", "efficientpose"),
}
"""Settings of losses, and the families of which they are."""

_SKELETON_FILES = (".yaml", ".yml", ".json")
_FOLDER = Path(str(resources.files("keras_ehrnet"))) / "recipes"
R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True, config=CHECKED)
class Recipe:
    """A whole training.

    Args:
        name: str. For people, and for the output folder.
        model: `ModelRecipe`.
        data: `DataRecipe`.
        loss: `LossRecipe`.
        optimizer: `OptimizerRecipe`.
        schedule: `ScheduleRecipe`.
        training: `TrainingRecipe`.
        evaluation: `EvaluationRecipe`.
        output: `OutputRecipe`.

    Raises:
        ValueError: for values that cannot be, or do not go together.

    Example:
        >>> from keras_ehrnet.training.recipe import DataRecipe, ModelRecipe, Recipe
        >>> recipe = Recipe(model=ModelRecipe("h-2"), data=DataRecipe("synthetic"))
        >>> recipe.input_size, recipe.folder.as_posix()
        ((448, 448), 'runs/training')
    """

    # Where in the package's folder of recipes those of this kind are; without a type, it is no key of them.
    subfolder = ""

    name: str = "training"
    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    output: OutputRecipe = field(default_factory=OutputRecipe)

    def __post_init__(self) -> None:
        self._check_task()
        named = self.model.skeleton
        if named is not None and named not in SKELETONS and Path(named).suffix.lower() not in _SKELETON_FILES:
            raise ValueError(
                f"model.skeleton is neither known nor a file of YAML or JSON. {suggestion(named, SKELETONS)} "
                f"Received: {named!r}"
            )
        if self.data.augmentation not in AUGMENTATIONS:
            hint = suggestion(self.data.augmentation, AUGMENTATIONS)
            raise ValueError(f"data.augmentation is not known. {hint} Received: {self.data.augmentation!r}")
        self._check_numbers()
        self._check_names()

    def _check_task(self) -> None:
        if self.kind.is_classified != self.is_classifier:
            fitting = [name for name, kind in KINDS.items() if kind.is_classified == self.is_classifier]
            raise ValueError(
                f"Data for {self.model.name!r} are of the kinds {', '.join(map(repr, fitting))}. "
                f"Received: data.kind={self.data.kind!r}"
            )
        if self.is_classifier and self.loss != LossRecipe():
            raise ValueError(f"Classifiers have no keys of 'loss'. Received: {self.loss}")

    def _check_numbers(self) -> None:
        boundaries = list(self.schedule.boundaries)
        if boundaries != sorted(set(boundaries)):
            raise ValueError(f"schedule.boundaries must rise. Received: {boundaries!r}")
        if self.training.batch_size % self.training.devices:
            raise ValueError(
                "training.batch_size must be a multiple of training.devices. "
                f"Received: {self.training.batch_size!r} and {self.training.devices!r}"
            )

        rates = self.optimizer.rates
        if rates and self.optimizer.weight_decay and self.optimizer.decay == "decoupled":
            raise ValueError(
                f"optimizer.rates go with optimizer.decay='l2': decoupled decay has one rate. Received: {rates!r}"
            )
        if set(rates) == set(get_args(PartName)) and not any(rates.values()):
            raise ValueError(f"optimizer.rates must leave something to train. Received: {rates!r}")

    def _check_names(self) -> None:
        needed = "images" if self.is_classifier else "annotations"
        if self.data.kind != "synthetic" and getattr(self.data, needed) is None:
            raise ValueError(f"data.{needed} is needed for data.kind={self.data.kind!r}. Received: None")
        if self.model.drop_rate is not None and self.variant.family not in ("efficienthrnet", "efficientnet"):
            raise ValueError(f"model.drop_rate is for EfficientHRNet and EfficientNet. Received: {self.model.name!r}")
        usual = LossRecipe()
        for name, families in _LOSSES_OF.items():
            value = getattr(self.loss, name)
            if value != getattr(usual, name) and self.variant.family not in families:
                raise ValueError(f"loss.{name} is none of {self.model.name!r}'s. Received: loss.{name}={value!r}")
        _ = self.augmentation, self.parts

    @property
    def variant(self) -> Variant:
        """The model of the papers."""
        try:
            return variant(self.model.name)
        except ValueError as error:
            raise ValueError(f"model.name: {error}") from None

    @property
    def kind(self) -> Kind:
        """What kind of data it trains on."""
        return KINDS[self.data.kind]

    @property
    def is_classifier(self) -> bool:
        """Whether it trains a classifier, rather than a pose model."""
        return self.variant.family == "efficientnet"

    @cached_property
    def skeleton(self) -> Skeleton:
        """The model's keypoints; read from its file, or that of the data, when they are first asked for.

        Raises:
            FileNotFoundError, RecipeError, AnnotationError: if they cannot be read.
        """
        if self.model.skeleton is None:
            return self.data_skeleton
        return SKELETONS.get(self.model.skeleton) or read_skeleton(self.model.skeleton)

    @cached_property
    def data_skeleton(self) -> Skeleton:
        """The keypoints that the data are annotated with; synthetic people have those that they are asked for."""
        if self.kind.has_categories:
            return category_skeleton(self.data.annotations or "", self.data.category)
        return self.kind.skeleton or (COCO_17 if self.model.skeleton is None else self.skeleton)

    @property
    def input_size(self) -> Size:
        """Height and width of the network's input."""
        return self.model.input_size or self.variant.input_size

    @property
    def top_down(self) -> bool:
        """Whether an example is one person."""
        return FAMILIES[self.variant.family].top_down if self.data.top_down is None else self.data.top_down

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation, with its changes."""
        values = dataclasses.asdict(augmentation(self.data.augmentation))
        return checked(Augmentation, {**values, **self.data.augmentation_changes}, "", "data.augmentation_changes")

    @property
    def parts(self) -> tuple[tuple[DataRecipe, float], ...]:
        """Data sets to mix in, and their shares of all images."""
        parts = tuple(_part(kind, content) for kind, content in self.data.mixed_with.items())
        if sum(share for _, share in parts) >= 1:
            raise ValueError(f"Shares in data.mixed_with must sum to less than 1. Received: {self.data.mixed_with!r}")
        return parts

    @property
    def depends_on_epochs(self) -> bool:
        """Whether steps depend on how many epochs are still to come."""
        return self.schedule.kind == "triangular"

    @property
    def folder(self) -> Path:
        """Where results go."""
        return Path(self.output.folder) if self.output.folder else Path("runs") / self.name

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML has them."""
        return plain(dataclasses.asdict(self))

    def flat(self) -> dict[str, Any]:
        """Plain values by their full names, such as `"training.epochs"`."""
        return dict(flattened(self.to_dict()))

    def to_yaml(self) -> str:
        """The whole recipe, defaults included."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


@reads(RecipeError)
def read_skeleton(path: str | os.PathLike) -> Skeleton:
    """A skeleton from a file of YAML or JSON, with the fields of `Skeleton.to_dict`; limbs may name their joints.

    Raises:
        FileNotFoundError: if there is no such file.
        RecipeError: naming what is missing or wrong.
    """
    content = read_yaml(Path(path))
    with reading(RecipeError, path, "The skeleton"):
        names = list(content["joint_names"])
        for field in ("limbs", "flip_pairs"):
            content[field] = content.get(field) and [
                [names.index(joint) if isinstance(joint, str) else joint for joint in pair] for pair in content[field]
            ]
        content = {"name": Path(path).stem, **content, "limbs": content["limbs"] or []}
        return Skeleton.from_dict(content)


def _part(kind: str, content: Any) -> tuple[DataRecipe, float]:
    """What to mix in, and its share."""
    key = f"data.mixed_with.{kind}"
    if not isinstance(content, Mapping) or not isinstance(content.get("share"), (int, float)):
        raise ValueError(f"{key} must hold a share, and keys of a data set. Received: {content!r}")
    if not 0 < content["share"] < 1:
        raise ValueError(f"{key}.share must be between 0 and 1. Received: {content['share']!r}")
    rest = {name: value for name, value in content.items() if name != "share"}
    return checked(DataRecipe, {"kind": kind, **rest}, "", key), float(content["share"])


@reads(RecipeError)
def read(path: str | os.PathLike, overrides: Iterable[str] = (), kind: type[R] = Recipe) -> R:
    """A recipe from a YAML file.

    Args:
        path: the file, or the name of a recipe that comes with the package, such as `"h-4"`. What it calls `base` is
            another one, relative to it.
        overrides: texts such as `"training.epochs=10"`, or `"epochs=10"` where the last part of a key says it all.
        kind: class. `Recipe`, or one that stands on it.

    Returns:
        `Recipe`, named like the file unless it says otherwise.

    Raises:
        FileNotFoundError: if there is no such file.
        RecipeError: naming the file and the key that is unknown, or has a wrong value.

    Example:
        >>> from keras_ehrnet import recipe
        >>> recipe.read("h-2", ["batch_size=8", "data.kind=synthetic"]).training.batch_size
        8
    """
    path, changes = _found(path, kind), list(overrides)
    content = {"name": path.stem, **read_layers(path, ())}
    content = _with(content, [override(change, kind) for change in changes])
    where = f"{path} with {' '.join(changes)}" if changes else str(path)
    return checked(kind, content, where)


def _with(content: dict[str, Any], changes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Values with changes; other training data are not evaluated on what the recipe names for its own."""
    together: dict[str, Any] = {}
    for change in changes:
        together = merged(together, change)
    data = together.get("data", {})
    if "annotations" in data and not any(key.startswith("evaluation_") for key in data):
        together = merged({"data": {"evaluation_annotations": None, "evaluation_images": None}}, together)
    return merged(content, together)


def schema() -> dict[str, Any]:
    """The JSON schema of recipes, by which editors complete and check them.

    Example:
        >>> from keras_ehrnet import recipe
        >>> recipe.schema()["$defs"]["TrainingRecipe"]["properties"]["batch_size"]["minimum"]
        1
    """
    return TypeAdapter(Recipe).json_schema()


def names(kind: type[Recipe] = Recipe) -> list[str]:
    """Names of the recipes of a kind that come with the package.

    Example:
        >>> from keras_ehrnet import recipe
        >>> "h-4" in recipe.names()
        True
    """
    return sorted(path.stem for path in (_FOLDER / kind.subfolder).glob("*.yaml"))


def _found(path: str | os.PathLike, kind: type[Recipe]) -> Path:
    """The file, or that of a recipe's name."""
    given = Path(path)
    if given.suffix in (".yaml", ".yml") or given.exists():
        return given
    if str(path) not in names(kind):
        raise FileNotFoundError(
            f"There is no such recipe, neither a file nor one of the package's. {suggestion(str(path), names(kind))} "
            f"Received: {str(path)!r}"
        )
    return _FOLDER / kind.subfolder / f"{path}.yaml"


@reads(RecipeError)
def from_dict(content: Mapping[str, Any], where: str = "the recipe", kind: type[R] = Recipe) -> R:
    """A recipe from plain values, as YAML has them; see `read`.

    Example:
        >>> from keras_ehrnet import recipe
        >>> recipe.from_dict({"model": {"name": "h-3"}, "data": {"kind": "synthetic"}}).input_size
        (416, 416)
        >>> recipe.from_dict({"trainig": {"epochs": 3}})
        Traceback (most recent call last):
        keras_ehrnet.support.errors.RecipeError: ...
    """
    return checked(kind, content, where)


def with_changes(
    recipe: Recipe | str | os.PathLike | Mapping[str, Any], changes: Mapping[str, Any], kind: type[R] = Recipe
) -> R:
    """A recipe, however it is given, with changed values.

    Args:
        recipe: `Recipe`, or what `read` or `from_dict` takes.
        changes: mapping of keys, whole or their last part, to values.
        kind: class. `Recipe`, or one that stands on it.

    Raises:
        FileNotFoundError, RecipeError: as of `read`.

    Example:
        >>> from keras_ehrnet.training.recipe import with_changes
        >>> with_changes("synthetic-smoke", {"epochs": 2}).training.epochs
        2
    """
    if not isinstance(recipe, (Recipe, Mapping)):
        recipe = read(recipe, kind=kind)
    content = recipe.to_dict() if isinstance(recipe, Recipe) else dict(recipe)
    content = _with(content, [nested(key, plain(value), kind) for key, value in changes.items()])
    return recipe if isinstance(recipe, kind) and not changes else from_dict(content, kind=kind)


_WITHOUT_EFFECT = (
    "name",
    "training.workers",
    "training.minutes",
    "training.patience",
    "evaluation.",
    "output.",
    "data.evaluation_",
)


def first_difference(first: Recipe, second: Recipe) -> str | None:
    """The first key in which two recipes differ so that one cannot go on where the other stopped, or None.

    Evaluation, logs and workers may differ; so may the number of epochs, unless the learning rate depends on it.

    Example:
        >>> from keras_ehrnet.training.recipe import first_difference, from_dict
        >>> first, second = ({"data": {"kind": "synthetic", "max_people": people}} for people in (3, 4))
        >>> first_difference(from_dict(first), from_dict(second))
        'data.max_people'
    """
    free = (*_WITHOUT_EFFECT, *(() if first.depends_on_epochs else ("training.epochs",)))
    one, other = first.flat(), second.flat()
    return next((key for key in one if one[key] != other.get(key) and not key.startswith(free)), None)
