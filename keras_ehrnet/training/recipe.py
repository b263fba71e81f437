"""Recipes: everything that a training depends on, as YAML that is checked before anything starts.

A recipe names a model, data, and how to train; what it leaves out has the default given here. With `base: other.yaml`
it takes the values of another file first. `key=value` on the command line come last.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from keras_ehrnet.data.augment import AUGMENTATIONS, Augmentation, augmentation
from keras_ehrnet.data.categories import category_skeleton
from keras_ehrnet.families import FAMILIES
from keras_ehrnet.models.variants import Variant, variant
from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16, SKELETONS, Skeleton
from keras_ehrnet.support.errors import RecipeError, reading, reads
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.training.values import changed, flattened, merged, nested, override, plain, read_layers, read_yaml

Size = tuple[int, int]
_SKELETON_FILES = (".yaml", ".yml", ".json")
_FOLDER = Path(str(resources.files("keras_ehrnet"))) / "recipes"
CLASSIFIED = ("folders", "cifar100")
"""Kinds of data that classifiers train on."""


@dataclass(frozen=True)
class ModelRecipe:
    """What is trained.

    Args:
        name: str. Name of `models.variants.VARIANTS`.
        skeleton: str or None. A pose model's keypoints: name of `skeletons.SKELETONS`, or a YAML or JSON file with
            `name`, `joint_names`, `limbs` and, if need be, `sigmas` and `flip_pairs`; None: those of the data.
        classes: int. Classes of a classifier.
        input_size: tuple (height, width) in pixels, or None for the paper's.
        drop_rate: float or None. Stochastic depth of EfficientNet, alone or as EfficientHRNet's backbone; None for the
            paper's.
        freeze_batch_norm: bool. Whether batch norms keep the statistics they start with, for fine-tuning: a step then
            costs a third less.
        weights: str or None. What to start from: what `keras_ehrnet.weights.load` takes.
        transfer: `"whole"`: the weights must fit; `"fitting"`: take those whose name and shape fit, such as a backbone;
            of registered weights of another skeleton also the heads of the joints that both have.
        train_upscaling: bool. EfficientPose: whether the transposed convolutions that enlarge the heatmaps are trained
            and supervised, at full size. They start as bilinear interpolation, and stay it if not.
    """

    name: str = "h-4"
    skeleton: str | None = None
    classes: int = 1000
    input_size: Size | None = None
    drop_rate: float | None = None
    freeze_batch_norm: bool = False
    weights: str | None = None
    transfer: Literal["whole", "fitting"] = "whole"
    train_upscaling: bool = True


@dataclass(frozen=True)
class SyntheticRecipe:
    """Synthetic people, see `data.synthetic.Scenes`.

    Args:
        length: int. Training images.
        evaluation_length: int. Images to evaluate on, others than those.
        image_size: tuple (width, height) in pixels.
        people: tuple (int, int). Fewest and most persons per image.
        height: tuple (float, float). Height of people as parts of the image's shorter side.
        occluders: int. Most shapes in front of people.
        turning: float. How far people turn and tilt, from 0 to 1.
    """

    length: int = 2000
    evaluation_length: int = 64
    image_size: Size = (256, 256)
    people: tuple[int, int] = (1, 4)
    height: tuple[float, float] = (0.45, 0.95)
    occluders: int = 2
    turning: float = 1.0


@dataclass(frozen=True)
class DataRecipe:
    """What it is trained and evaluated on.

    Args:
        kind: which reader: COCO's JSON, MPII's, LSP-extended's, or synthetic people; for classifiers a folder with one
            folder of images for each class, or CIFAR-100.
        annotations: str or None. JSON of the training data; not for classifiers.
        images: str or None. Their folder or archive.
        evaluation_annotations: str or None. JSON to evaluate on; None: of COCO's format `validation_share` of the
            training images, else no evaluation.
        evaluation_images: str or None. Their folder or archive; for classifiers None means no evaluation.
        validation_share: float. Part of the images with people that is set aside where nothing to evaluate on is named.
        category: str or None. Name or id of COCO's category to learn, where several have keypoints.
        skip_missing: bool. Whether to leave out images whose file is missing, rather than to stop.
        limit: int or None. Only the first so many training images; of classified ones so many of all classes.
        top_down: bool or None. Whether an example is one person, cut out by its box; None for the model's way.
        max_people: int. Persons per image; where there are more, the smallest are masked.
        stand_ins: bool. Whether joints that the data lack are put between others, see `data.map_joints`.
        augmentation: str. Name of `data.AUGMENTATIONS`.
        augmentation_changes: mapping of fields of `data.Augmentation` to other values.
        synthetic: `SyntheticRecipe`.
        mixed_with: mapping of other kinds to `share`, of all images, and keys like these; see `data.mixture`.
    """

    kind: Literal["coco", "mpii", "lspet", "synthetic", "folders", "cifar100"] = "coco"
    annotations: str | None = None
    images: str | None = None
    evaluation_annotations: str | None = None
    evaluation_images: str | None = None
    validation_share: float = 0.1
    category: str | None = None
    skip_missing: bool = False
    limit: int | None = None
    top_down: bool | None = None
    max_people: int = 30
    stand_ins: bool = False
    augmentation: str = "efficienthrnet"
    augmentation_changes: dict[str, Any] = field(default_factory=dict)
    synthetic: SyntheticRecipe = field(default_factory=SyntheticRecipe)
    mixed_with: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LossRecipe:
    """Losses of the model's family, see `keras_ehrnet.losses`.

    Args:
        sigma: float or None. Width of the gaussians; None for the family's.
        sigma_factors: mapping of epoch to factor of sigma, see `schedules.StepwiseSigma`.
        tag_weight: float. EfficientHRNet: weight of pull and push.
        limb_width: float. EfficientPose: half the width of limbs, in cells.
        ignore_unlabelled: bool or None. Whether joints nobody in an image has labelled are left out; None: where the
            model's family or other joints in the data ask for it.
    """

    sigma: float | None = None
    sigma_factors: dict[int, float] = field(default_factory=dict)
    tag_weight: float = 1e-3
    limb_width: float = 1.0
    ignore_unlabelled: bool | None = None


@dataclass(frozen=True)
class OptimizerRecipe:
    """How weights change.

    Args:
        name: which optimizer.
        weight_decay: float. Factor of the decay of all weights.
        decay: `"l2"`: added to the gradient, as PyTorch's Adam and SGD do; `"decoupled"`: taken off the weights.
        momentum: float. Of SGD.
        clip_norm: float or None. Largest norm of all gradients together; longer ones are shortened.
        ema: float or None. Momentum of the moving average of the weights, which is then what is evaluated and saved.
    """

    name: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    decay: Literal["l2", "decoupled"] = "l2"
    momentum: float = 0.9
    clip_norm: float | None = None
    ema: float | None = None


@dataclass(frozen=True)
class ScheduleRecipe:
    """Learning rate, see `keras_ehrnet.training.schedules`.

    Args:
        kind: `"step"` or `"triangular"`.
        rate: float. The highest learning rate.
        boundaries: epochs at which it falls (step).
        factor: float. By what (step).
        warmup_epochs: float. Length of the warm-up (step).
        warmup_rate: float. Where the warm-up starts (step).
        final_rate: float or None. Peak of the last cycle (triangular).
        cycle_epochs: float. Length of a cycle (triangular).
        divisor: float. How far below its peak a cycle starts and ends (triangular).
    """

    kind: Literal["step", "triangular"] = "step"
    rate: float = 1e-3
    boundaries: tuple[float, ...] = ()
    factor: float = 0.1
    warmup_epochs: float = 0.0
    warmup_rate: float = 1e-4
    final_rate: float | None = None
    cycle_epochs: float = 3.0
    divisor: float = 3000.0


@dataclass(frozen=True)
class TrainingRecipe:
    """How long, how much at a time, on what.

    Args:
        epochs: int.
        batch_size: int. Examples per step, of all devices and hosts together.
        steps_per_epoch: int or None. None: as many as show every example.
        seed: int. Of weights, order, augmentation and dropout.
        precision: what is computed in; weights are float32 in any case.
        patience: int or None. Stop after so many evaluations in a row without a better score; None: never.
        minutes: float or None. Stop after the first epoch at whose end so many minutes of this start are over; the
            same command goes on later.
        devices: int. How many of every host's devices to use: GPUs where there are any, else CPUs.
        jit: bool or None. Whether to compile with XLA; None: as Keras decides.
        workers: int or None. Threads (TensorFlow) or processes (JAX; 0: none) that make batches; None: one per core.
    """

    epochs: int = 300
    batch_size: int = 16
    steps_per_epoch: int | None = None
    seed: int = 0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    patience: int | None = None
    minutes: float | None = None
    devices: int = 1
    jit: bool | None = None
    workers: int | None = None


@dataclass(frozen=True)
class EvaluationRecipe:
    """How often and how to evaluate.

    Args:
        every: int. Epochs between evaluations; the last epoch is always evaluated. 0: never.
        limit: int or None. Only the first so many images.
        flip: bool. Whether to average with mirrored images.
        pictures: int. Images in `predictions.png` and `targets.png`; 0: none.
    """

    every: int = 10
    limit: int | None = None
    flip: bool = False
    pictures: int = 8


@dataclass(frozen=True)
class OutputRecipe:
    """What is written.

    Args:
        folder: str or None. Where to; None: `runs/` and the name of the recipe.
        keep: int. Checkpoints to keep, the newest.
        steps: bool. Whether to write the running mean of the loss after every step to `steps.csv`.
        tensorboard: bool. Whether to write logs for TensorBoard.
    """

    folder: str | None = None
    keep: int = 1
    steps: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
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
        if named is not None and named not in SKELETONS and Path(named).suffix not in _SKELETON_FILES:
            raise ValueError(
                f"model.skeleton is neither known nor a file of YAML or JSON. {suggestion(named, SKELETONS)} "
                f"Received: {named!r}"
            )
        if self.data.augmentation not in AUGMENTATIONS:
            hint = suggestion(self.data.augmentation, AUGMENTATIONS)
            raise ValueError(f"data.augmentation is not known. {hint} Received: {self.data.augmentation!r}")
        self._check_numbers()
        self._check_schedule()
        self._check_names()

    def _check_task(self) -> None:
        classifies = self.data.kind in CLASSIFIED
        if classifies != self.is_classifier:
            fitting = CLASSIFIED if self.is_classifier else tuple(kind for kind in _KINDS if kind not in CLASSIFIED)
            raise ValueError(
                f"Data for {self.model.name!r} are of the kinds {', '.join(map(repr, fitting))}. "
                f"Received: data.kind={self.data.kind!r}"
            )
        if classifies and self.loss != LossRecipe():
            raise ValueError(f"Classifiers have no keys of 'loss'. Received: {self.loss}")

    def _check_numbers(self) -> None:
        flat = self.flat()
        for key in _AT_LEAST_1:
            if flat[key] is not None and flat[key] < 1:
                raise ValueError(f"{key} must be at least 1. Received: {key}={flat[key]!r}")
        for key in _POSITIVE:
            if flat[key] is not None and not flat[key] > 0:
                raise ValueError(f"{key} must be positive. Received: {key}={flat[key]!r}")
        for key in _NOT_NEGATIVE:
            if flat[key] is not None and not flat[key] >= 0:
                raise ValueError(f"{key} must not be negative. Received: {key}={flat[key]!r}")
        for key in _PARTS:
            if flat[key] is not None and not 0 <= flat[key] < 1:
                raise ValueError(f"{key} must be from 0 to below 1. Received: {key}={flat[key]!r}")
        if min(self.input_size) < 1:
            raise ValueError(f"model.input_size must be positive. Received: {self.input_size!r}")
        if self.training.batch_size % self.training.devices:
            raise ValueError(
                "training.batch_size must be a multiple of training.devices. "
                f"Received: {self.training.batch_size!r} and {self.training.devices!r}"
            )

    def _check_schedule(self) -> None:
        boundaries = list(self.schedule.boundaries)
        if boundaries != sorted(set(boundaries)):
            raise ValueError(f"schedule.boundaries must rise. Received: {boundaries!r}")
        if not all(epoch >= 0 and 0 < factor <= 1 for epoch, factor in self.loss.sigma_factors.items()):
            raise ValueError(
                "loss.sigma_factors are of epochs from 0, and at most 1. "
                f"Received: loss.sigma_factors={self.loss.sigma_factors!r}"
            )

    def _check_names(self) -> None:
        needed = "images" if self.is_classifier else "annotations"
        if self.data.kind != "synthetic" and getattr(self.data, needed) is None:
            raise ValueError(f"data.{needed} is needed for data.kind={self.data.kind!r}. Received: None")
        if self.model.drop_rate is not None and self.variant.family not in ("efficienthrnet", "efficientnet"):
            raise ValueError(f"model.drop_rate is for EfficientHRNet and EfficientNet. Received: {self.model.name!r}")
        _ = self.augmentation, self.parts

    @property
    def variant(self) -> Variant:
        """The model of the papers."""
        try:
            return variant(self.model.name)
        except ValueError as error:
            raise ValueError(f"model.name: {error}") from None

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
        if self.data.kind == "coco":
            return category_skeleton(self.data.annotations or "", self.data.category)
        known = {"mpii": MPII_16, "lspet": LSP_14}.get(self.data.kind)
        return known or (COCO_17 if self.model.skeleton is None else self.skeleton)

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
        named = augmentation(self.data.augmentation)
        return changed(named, self.data.augmentation_changes, "the recipe", "data.augmentation_changes")

    @property
    def parts(self) -> tuple[tuple[DataRecipe, float], ...]:
        """Data sets to mix in, and their shares of all images."""
        parts = tuple(_part(kind, content) for kind, content in self.data.mixed_with.items())
        if sum(share for _, share in parts) >= 1:
            raise ValueError(f"Shares in data.mixed_with must sum to less than 1. Received: {self.data.mixed_with!r}")
        return parts

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
    return changed(DataRecipe, {"kind": kind, **rest}, "the recipe", key), float(content["share"])


_KINDS = typing.get_args(typing.get_type_hints(DataRecipe)["kind"])
_AT_LEAST_1 = (
    "model.classes",
    "data.limit",
    "data.max_people",
    "data.synthetic.length",
    "data.synthetic.evaluation_length",
    "training.epochs",
    "training.batch_size",
    "training.steps_per_epoch",
    "training.devices",
    "training.patience",
    "evaluation.limit",
    "output.keep",
)
_POSITIVE = (
    "loss.sigma",
    "loss.limb_width",
    "optimizer.clip_norm",
    "training.minutes",
    "schedule.rate",
    "schedule.factor",
    "schedule.warmup_rate",
    "schedule.final_rate",
    "schedule.cycle_epochs",
    "schedule.divisor",
)
_NOT_NEGATIVE = (
    "loss.tag_weight",
    "optimizer.weight_decay",
    "schedule.warmup_epochs",
    "training.seed",
    "training.workers",
    "evaluation.every",
    "evaluation.pictures",
)
_PARTS = ("data.validation_share", "model.drop_rate", "optimizer.momentum", "optimizer.ema")


@reads(RecipeError)
def read(path: str | os.PathLike, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe from a YAML file.

    Args:
        path: the file, or the name of a recipe that comes with the package, such as `"h-4"`. What it calls `base` is
            another one, relative to it.
        overrides: texts such as `"training.epochs=10"`, or `"epochs=10"` where the last part of a key says it all.

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
    path, changes = _found(path), list(overrides)
    content = {"name": path.stem, **read_layers(path, ())}
    content = _with(content, [override(change, Recipe) for change in changes])
    where = f"{path} with {' '.join(changes)}" if changes else str(path)
    return changed(Recipe, content, where, "")


def _with(content: dict[str, Any], changes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Values with changes; other training data are not evaluated on what the recipe names for its own."""
    together: dict[str, Any] = {}
    for change in changes:
        together = merged(together, change)
    data = together.get("data", {})
    if "annotations" in data and not any(key.startswith("evaluation_") for key in data):
        together = merged({"data": {"evaluation_annotations": None, "evaluation_images": None}}, together)
    return merged(content, together)


def names() -> list[str]:
    """Names of the recipes that come with the package.

    Example:
        >>> from keras_ehrnet import recipe
        >>> "h-4" in recipe.names()
        True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def _found(path: str | os.PathLike) -> Path:
    """The file, or that of a recipe's name."""
    given = Path(path)
    if given.suffix in (".yaml", ".yml") or given.exists():
        return given
    if str(path) not in names():
        raise FileNotFoundError(
            f"There is no such recipe, neither a file nor one of the package's. {suggestion(str(path), names())} "
            f"Received: {str(path)!r}"
        )
    return _FOLDER / f"{path}.yaml"


@reads(RecipeError)
def from_dict(content: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """A recipe from plain values, as YAML has them; see `read`.

    Example:
        >>> from keras_ehrnet import recipe
        >>> recipe.from_dict({"model": {"name": "h-3"}, "data": {"kind": "synthetic"}}).input_size
        (416, 416)
        >>> recipe.from_dict({"trainig": {"epochs": 3}})
        Traceback (most recent call last):
        keras_ehrnet.support.errors.RecipeError: ...
    """
    return changed(Recipe, content, where, "")


def with_changes(recipe: Recipe | str | os.PathLike | Mapping[str, Any], changes: Mapping[str, Any]) -> Recipe:
    """A recipe, however it is given, with changed values.

    Args:
        recipe: `Recipe`, or what `read` or `from_dict` takes.
        changes: mapping of keys, whole or their last part, to values.

    Raises:
        FileNotFoundError, RecipeError: as of `read`.

    Example:
        >>> from keras_ehrnet.training.recipe import with_changes
        >>> with_changes("synthetic-smoke", {"epochs": 2}).training.epochs
        2
    """
    if not isinstance(recipe, (Recipe, Mapping)):
        recipe = read(recipe)
    content = recipe.to_dict() if isinstance(recipe, Recipe) else dict(recipe)
    content = _with(content, [nested(key, plain(value), Recipe) for key, value in changes.items()])
    return recipe if isinstance(recipe, Recipe) and not changes else from_dict(content)


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
    free = (*_WITHOUT_EFFECT, *(() if first.schedule.kind == "triangular" else ("training.epochs",)))
    one, other = first.flat(), second.flat()
    return next((key for key in one if one[key] != other.get(key) and not key.startswith(free)), None)
