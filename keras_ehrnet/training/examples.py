"""What is trained on: the data set of a recipe, as examples."""

from __future__ import annotations

from dataclasses import replace

from keras_ehrnet.data import synthetic
from keras_ehrnet.data.annotations import Dataset
from keras_ehrnet.data.classification import LabelledExamples, LabelledImages
from keras_ehrnet.data.mixture import mix, one_of_many
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.training.recipe import Recipe
from keras_ehrnet.training.values import plain


def make_examples(recipe: Recipe) -> Examples | LabelledExamples:
    """The training data of a recipe: for pose models in their skeleton, for classifiers with labels.

    Raises:
        FileNotFoundError, ValueError: naming what is missing or wrong in the data.
    """
    if recipe.is_classifier:
        dataset = read_labelled(recipe, needed(recipe, "images"), "train").limited(recipe.data.limit)
        return LabelledExamples(dataset, recipe.input_size, recipe.augmentation, seed=recipe.training.seed)
    own = _read(recipe)
    dataset = own if own.skeleton.joint_names == recipe.skeleton.joint_names else _mapped(own, recipe)
    dataset = dataset.with_people()
    if recipe.data.limit is not None:
        dataset = replace(dataset, samples=dataset.samples[: recipe.data.limit])
    if recipe.parts:
        dataset = _mixture(dataset, recipe)
    return Examples(
        dataset,
        recipe.input_size,
        recipe.augmentation,
        top_down=recipe.top_down,
        max_people=recipe.data.max_people,
        seed=recipe.training.seed,
    )


def read_labelled(recipe: Recipe, place: str, split: str) -> LabelledImages:
    """Images for a classifier, of as many classes as it has."""
    if recipe.kind.labelled_reader is None:
        raise ValueError(f"Only classifiers have classes. Received: data.kind={recipe.data.kind!r}")
    dataset = recipe.kind.labelled_reader(place, split)
    if len(dataset.classes) != recipe.model.classes:
        raise ValueError(f"model.classes={recipe.model.classes} does not fit the data. Received: {dataset!r}")
    return dataset


def _mixture(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The data set together with those that the recipe mixes in."""
    parts = [(_other(replace(recipe, data=data)), share) for data, share in recipe.parts]
    own = 1 - sum(share for _, share in parts)
    return mix([(dataset, own), *parts], recipe.skeleton, seed=recipe.training.seed)


def _other(recipe: Recipe) -> Dataset:
    dataset = _read(recipe)
    if recipe.kind.shows_others and not recipe.top_down:
        dataset = one_of_many(dataset, recipe.skeleton)
    return _mapped(dataset, recipe).with_people()


def _mapped(dataset: Dataset, recipe: Recipe) -> Dataset:
    if all(joint is None for joint in dataset.skeleton.mapping_to(recipe.skeleton)):
        raise ValueError(
            f"None of the joints of model.skeleton, {plain(recipe.skeleton.joint_names)}, is annotated: leave it out, "
            f"and those of the data are learned. Received: {dataset.name} with {plain(dataset.skeleton.joint_names)}"
        )
    return dataset.in_skeleton(recipe.skeleton, stand_ins=recipe.data.stand_ins)


def _read(recipe: Recipe) -> Dataset:
    """The data set itself, in its own skeleton."""
    if recipe.kind.reader is None:
        scenes = synthetic_scenes(recipe, recipe.training.seed)
        samples = tuple(scenes.sample(index) for index in range(recipe.data.synthetic.length))
        return Dataset("synthetic", scenes.skeleton, samples)
    return recipe.kind.read(
        needed(recipe, "annotations"),
        recipe.data.images if recipe.kind.finds_images else needed(recipe, "images"),
        category=recipe.data.category,
        skip_missing=recipe.data.skip_missing,
    )


def needed(recipe: Recipe, key: str) -> str:
    """A path of the data that must have been given."""
    path = getattr(recipe.data, key)
    if path is None:
        raise ValueError(f"data.{key} is needed for data.kind={recipe.data.kind!r}. Received: None")
    return path


def synthetic_scenes(recipe: Recipe, seed: int) -> synthetic.Scenes:
    people = recipe.data.synthetic
    return synthetic.Scenes(
        people.image_size, people.people, people.height, people.occluders, recipe.skeleton, seed, people.turning
    )
