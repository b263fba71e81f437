"""What is set aside to evaluate on, where a recipe names nothing for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from keras_ehrnet.data._checks import identity, load_json
from keras_ehrnet.data.coco import check_coco
from keras_ehrnet.support.files import write_file
from keras_ehrnet.training.folder import PARTS
from keras_ehrnet.training.recipe import Recipe


def with_validation(recipe: Recipe, say: Callable[[str], None]) -> Recipe:
    """A recipe that has data to evaluate on: of annotations in COCO's format a share is set aside if none are named.

    The two parts are written into the output folder as files of their own, once; which images are set aside depends on
    the seed alone.

    Args:
        recipe: `Recipe`.
        say: callable of a text. Where to tell what was set aside.

    Returns:
        `Recipe`: the same one, where it names evaluation data, wants none, or has fewer than two images with people.

    Raises:
        FileNotFoundError, AnnotationError: if the annotations cannot be read.
        OSError: if the parts cannot be written.
    """
    data = recipe.data
    wanted = data.kind == "coco" and data.evaluation_annotations is None and data.validation_share > 0
    if not wanted or recipe.evaluation.every == 0:
        return recipe
    training, validation = (recipe.folder / name for name in PARTS)
    if not (training.exists() and validation.exists()):
        kept = _set_aside(recipe)
        if not kept:
            say("No validation: it takes two images with people to set one aside.")
            return recipe
        content = load_json(str(data.annotations), dict)
        images = [_image_id(image, "id") for image in content["images"]]
        write_file(validation, json.dumps(_part(content, kept)))
        write_file(training, json.dumps(_part(content, set(images) - kept)))
        say(f"{len(kept)} of {len(images)} images are set aside for validation (data.validation_share): {validation}")
    parts = {"annotations": str(training), "evaluation_annotations": str(validation), "evaluation_images": data.images}
    return replace(recipe, data=replace(data, **parts))


def _set_aside(recipe: Recipe) -> set[str]:
    """Ids of the images to evaluate on, as text: of those with people, at least one."""
    content = check_coco(str(recipe.data.annotations), category=recipe.data.category)
    labelled = np.any(content.keypoints[..., 2] > 0, axis=1).tolist()
    people = zip(content.persons, labelled, strict=True)
    chosen = sorted({str(entry["image_id"]) for entry, is_labelled in people if is_labelled})
    if len(chosen) < 2:
        return set()
    count = max(1, round(recipe.data.validation_share * len(chosen)))
    order = np.random.default_rng(recipe.training.seed).permutation(len(chosen))
    return {chosen[index] for index in order[: min(count, len(chosen) - 1)]}


def _part(content: dict[str, Any], image_ids: Iterable[str]) -> dict[str, Any]:
    """The annotations of some images."""
    ids = set(image_ids)
    return {
        **content,
        "images": [image for image in content["images"] if _image_id(image, "id") in ids],
        "annotations": [entry for entry in content["annotations"] if _image_id(entry, "image_id") in ids],
    }


def _image_id(entry: dict[str, Any], key: str) -> str:
    """The id of an image, which one list may write as a number and another as text."""
    return str(identity(entry, key, "annotations"))
