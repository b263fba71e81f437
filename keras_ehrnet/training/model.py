"""What is trained: the network of a recipe, its first weights, its losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ehrnet import losses, weights
from keras_ehrnet.data.classification import LabelledExamples
from keras_ehrnet.data.loader import as_training_data
from keras_ehrnet.data.targets import Batch, Examples
from keras_ehrnet.families import part_of
from keras_ehrnet.training.lean import training_clone
from keras_ehrnet.training.optimizers import make_optimizer
from keras_ehrnet.training.recipe import Recipe

_CLASSES = "predictions"


def compiled_model(
    recipe: Recipe, steps_per_epoch: int, say: Callable[[str], None] = print
) -> tuple[keras.Model, keras.Model]:
    """The model of a recipe, twice with the same weights: as it is saved, and compiled for training.

    Args:
        recipe: `Recipe`.
        steps_per_epoch: int. For the learning rate's schedule.
        say: callable of a text. Where to tell which weights were taken.

    Returns:
        Two `keras.Model`s. The second has only the outputs that are supervised, and a built optimizer.

    Raises:
        ValueError: if the weights to start from do not fit.
    """
    network = _network(recipe)
    if recipe.model.weights is not None:
        _initialise(network, recipe, recipe.model.weights, say)
    rates = recipe.optimizer.rates
    factors = {id(weight): rates.get(part_of(layer.name), 1.0) for layer in network.layers for weight in layer.weights}
    frozen = [layer for layer in network.layers if rates.get(part_of(layer.name)) == 0]
    for layer in frozen:
        layer.trainable = False
    if rates:
        listed = ", ".join(f"{part} {factor:g}" for part, factor in rates.items())
        say(f"factors of the learning rate: {listed}; {_count(network.trainable_variables):,} weights are trained")
    clone = training_clone(network, freeze_statistics=recipe.model.freeze_batch_norm)
    maps = {_CLASSES: clone.output} if recipe.is_classifier else clone.output
    supervised = _losses(recipe, network)
    outputs = {name: tensor for name, tensor in maps.items() if name in supervised}
    model = keras.Model(clone.input, outputs, name=f"{network.name}-training".replace("--", "-"))
    jit = "auto" if recipe.training.jit is None else recipe.training.jit
    each = [factors[id(weight)] for weight in model.trainable_variables] if rates else ()
    model.compile(optimizer=make_optimizer(recipe, steps_per_epoch, each), loss=supervised, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    return network, model


@contextmanager
def all_trainable(network: keras.Model) -> Iterator[None]:
    """For writing a file: nothing in it is frozen, whatever a recipe froze in the network while it is trained."""
    frozen = [layer for layer in network.layers if not layer.trainable]
    unfreeze(network)
    try:
        yield
    finally:
        for layer in frozen:
            layer.trainable = False


def unfreeze(network: keras.Model) -> None:
    """Lets all layers of a network be trained."""
    for layer in network.layers:
        layer.trainable = True


def _count(variables: Sequence[keras.Variable]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def build_losses(model: keras.Model, examples: Examples | LabelledExamples) -> None:
    """Makes the means of a compiled model's losses, which Keras otherwise makes in the first training step.

    TensorFlow traces a step that makes variables twice, which takes half a minute for EfficientHRNet.
    """
    if keras.backend.backend() != "tensorflow":
        return
    images, truth, _ = as_training_data(Batch(*map(np.zeros_like, examples.empty(1))), list(model.output))
    # The maps' sides do not matter here.
    maps = {name: ops.zeros([side or 1 for side in tensor.shape]) for name, tensor in model.output.items()}
    model.compute_loss(images, truth, maps)
    model.reset_metrics()


def _network(recipe: Recipe) -> keras.Model:
    variant = recipe.variant
    options: dict[str, Any] = (
        {"classes": recipe.model.classes} if recipe.is_classifier else {"num_keypoints": recipe.skeleton.num_joints}
    )
    if recipe.input_size != variant.input_size:
        # Made for this size alone, so that whoever loads the file needs no telling.
        options["input_shape"] = (*recipe.input_size, 3)
    if recipe.model.drop_rate is not None:
        options["drop_rate"] = recipe.model.drop_rate
    if variant.family == "efficientpose":
        options["num_limbs"] = len(_limbs(recipe))
    return variant.build(**options)


def _limbs(recipe: Recipe) -> Sequence[Sequence[int]]:
    if not recipe.skeleton.limbs:
        raise ValueError(
            "EfficientPose learns limbs: give pairs of joints as 'skeleton' of the category in the annotations, or as "
            f"'limbs' of model.skeleton, or train h-4. Received: {recipe.skeleton.name!r} without limbs"
        )
    return recipe.skeleton.limbs


def _initialise(network: keras.Model, recipe: Recipe, source: str, say: Callable[[str], None]) -> None:
    if recipe.model.transfer == "whole":
        weights.load(network, source)
        say(f"weights of {source}")
        return
    taken = weights.load(network, source, transfer="fitting" if recipe.is_classifier else recipe.skeleton)
    say(f"weights of {source}: {taken}")


def _losses(recipe: Recipe, network: keras.Model) -> dict[str, keras.losses.Loss]:
    loss, family = recipe.loss, recipe.variant.family
    if recipe.is_classifier:
        return {_CLASSES: keras.losses.SparseCategoricalCrossentropy()}
    sigma = {} if loss.sigma is None else {"sigma": loss.sigma}
    ignore = {} if loss.ignore_unlabelled is None else {"ignore_unlabelled": loss.ignore_unlabelled}
    if family == "efficienthrnet":
        lacks_joints = None in recipe.data_skeleton.mapping_to(recipe.skeleton)
        return losses.efficienthrnet_losses(
            tag_weight=loss.tag_weight, **sigma, **({"ignore_unlabelled": lacks_joints} | ignore)
        )
    if family == "efficientpose":
        supervised = [name for name in losses.EFFICIENTPOSE_STRIDES if name in network.output]
        if not recipe.model.train_upscaling:
            supervised.remove("heatmaps")
        return losses.efficientpose_losses(
            _limbs(recipe), limb_width=loss.limb_width, outputs=supervised, **sigma, **ignore
        )
    return losses.efficientpose_nas_losses(**sigma)
