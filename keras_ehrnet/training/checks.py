"""What is looked at before the first step of a training, so that nothing that can be known fails hours later."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from keras_ehrnet.skeletons import DEFAULT_SIGMA, SKELETONS
from keras_ehrnet.support.messages import needing
from keras_ehrnet.training.recipe import Recipe


@needing("output.tensorboard")
def check_packages(recipe: Recipe) -> None:
    """MissingPackageError where the recipe asks for what no installed package does."""
    if recipe.output.tensorboard:
        for package in ("tensorboard", "tensorflow"):  # TensorFlow writes the logs, also of other backends.
            import_module(package)


def check_evaluation(recipe: Recipe) -> None:
    """What an evaluation will need, before the first step: files, images, category, joints.

    Raises:
        FileNotFoundError: if a file is missing.
        AnnotationError, ValueError: naming what is wrong.
    """
    from keras_ehrnet.training.scoring import check_data, has_evaluation

    if has_evaluation(recipe):
        check_data(recipe)


def check_keypoints(recipe: Recipe, say: Callable[[str], None]) -> None:
    """Tells of keypoints of one's own what was understood: their names, what changes places in a mirror, constants.

    Raises:
        ValueError: where examples would be mirrored, but a joint has no counterpart on the other side.
    """
    if recipe.is_classifier:
        return
    skeleton, is_mirrored = recipe.skeleton, recipe.augmentation.flip > 0
    swapped = skeleton.flip_permutation if is_mirrored else range(skeleton.num_joints)
    if skeleton in SKELETONS.values():
        return
    names = skeleton.joint_names
    pairs = [f"{names[joint]} - {names[other]}" for joint, other in enumerate(swapped) if joint < other]
    how = "as told" if skeleton.flip_pairs is not None else "by their names"
    mirror = f"left and right {how}: {', '.join(pairs)}" if pairs else f"none changes places in a mirror, {how}"
    constants = "given" if skeleton.sigmas else f"{DEFAULT_SIGMA} for all, as none are given"
    say(
        f"{skeleton.num_joints} keypoints of {skeleton.name!r}: {', '.join(names)}; "
        + (f"{mirror}; " if is_mirrored else "")
        + f"{len(skeleton.limbs)} limbs; constants of OKS: {constants}"
    )
