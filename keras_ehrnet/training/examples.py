"""What is trained on: the data set of a recipe, as examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from keras_ehrnet.data import read_coco, read_lspet, read_mpii, synthetic
from keras_ehrnet.data.annotations import Dataset
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.recipe import Recipe

if TYPE_CHECKING:
    pass


def make_examples(recipe: Recipe) -> Examples:
    """The training data of a recipe, in the model's skeleton.

    Raises:
        FileNotFoundError, ValueError: naming what is missing or wrong in the annotations.
    """
    own = _read_dataset(recipe)
    dataset = own if own.skeleton.joint_names == recipe.skeleton.joint_names else _mapped(own, recipe)
    dataset = dataset.with_people()
    if recipe.data.limit is not None:
        dataset = replace(dataset, samples=dataset.samples[: recipe.data.limit])
    return Examples(
        dataset,
        recipe.input_size,
        recipe.augmentation,
        top_down=recipe.top_down,
        max_people=recipe.data.max_people,
        seed=recipe.training.seed,
    )


def _mapped(dataset: Dataset, recipe: Recipe) -> Dataset:
    return dataset.in_skeleton(recipe.skeleton, stand_ins=recipe.data.stand_ins)


def _read_dataset(recipe: Recipe) -> Dataset:
    data = recipe.data
    return _READERS[data.kind](recipe)


def _read_lspet(recipe: Recipe) -> Dataset:
    return read_lspet(recipe.data.annotations, recipe.data.images, skip_missing=recipe.data.skip_missing)


def _read_mpii(recipe: Recipe) -> Dataset:
    return read_mpii(recipe.data.annotations, _needed_images(recipe), skip_missing=recipe.data.skip_missing)


def _read_coco(recipe: Recipe) -> Dataset:
    return read_coco(recipe.data.annotations, _needed_images(recipe), skip_missing=recipe.data.skip_missing)


def _needed_images(recipe: Recipe) -> str:
    if recipe.data.images is None:
        raise ValueError(f"data.images is needed for data.kind={recipe.data.kind!r}. Received: None")
    return recipe.data.images


def _read_synthetic(recipe: Recipe) -> Dataset:
    scenes = synthetic_scenes(recipe, recipe.training.seed)
    samples = tuple(scenes.sample(index) for index in range(recipe.data.synthetic.length))
    return Dataset("synthetic", scenes.skeleton, samples)


_READERS: dict[str, Callable[[Recipe], Dataset]] = {
    "coco": _read_coco,
    "mpii": _read_mpii,
    "lspet": _read_lspet,
    "synthetic": _read_synthetic,
}


def synthetic_scenes(recipe: Recipe, seed: int) -> synthetic.Scenes:
    people = recipe.data.synthetic
    return synthetic.Scenes(
        people.image_size, people.people, people.height, people.occluders, recipe.skeleton, seed=seed
    )
