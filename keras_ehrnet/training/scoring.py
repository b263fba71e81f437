"""How good it is: scores on the recipe's evaluation data while training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_ehrnet import evaluation
from keras_ehrnet.data import read_coco, synthetic
from keras_ehrnet.data.annotations import Dataset
from keras_ehrnet.data.classification import LabelledExamples
from keras_ehrnet.families import FAMILIES
from keras_ehrnet.poses import draw
from keras_ehrnet.prediction import PosePredictor
from keras_ehrnet.skeletons import COCO_17, Skeleton
from keras_ehrnet.support.files import write_file
from keras_ehrnet.training.examples import needed, read_labelled, synthetic_scenes
from keras_ehrnet.training.folder import SYNTHETIC_PEOPLE
from keras_ehrnet.training.pictures import predictions_picture
from keras_ehrnet.training.recipe import Recipe
from keras_ehrnet.training.values import plain

_EVALUATION_SEED = 1_000_003  # Added to the seed of a training: no image of the evaluation is trained on.


Figures = dict[str, float]


def has_evaluation(recipe: Recipe) -> bool:
    """Whether a recipe asks for evaluations, and has data for them."""
    data = recipe.data
    given = data.evaluation_images if recipe.is_classifier else data.evaluation_annotations
    return recipe.evaluation.every > 0 and (data.kind == "synthetic" or given is not None)


def check_data(recipe: Recipe) -> None:
    """Reads what an evaluation will read, so that what is wrong with it is told before anything is trained.

    Raises:
        FileNotFoundError: if a file is missing.
        AnnotationError, ValueError: naming what is wrong.
    """
    data = recipe.data
    if recipe.is_classifier:
        read_labelled(recipe, str(data.evaluation_images), "test")
    elif data.kind == "synthetic":
        _require_coco_joints(recipe)
    else:
        dataset = _evaluated(recipe)
        learned = _joints_of(recipe.data_skeleton, recipe)
        # Scores are of the joints that both have; what is learned must be among them. PCK tells each by itself.
        if recipe.kind.metric != "pck" and not (learned and learned <= _joints_of(dataset.skeleton, recipe)):
            raise ValueError(
                "data.evaluation_annotations must have the joints that are learned, "
                f"{[name for name in recipe.skeleton.joint_names if name in learned]}. "
                f"Received: {data.evaluation_annotations} with {plain(dataset.skeleton.joint_names)}"
            )
        if recipe.kind.metric == "pckh" and not FAMILIES[recipe.variant.family].top_down:
            raise ValueError(
                "PCKh is of people who are cut out, and this network takes whole images: set evaluation.every=0. "
                f"Received: model.name={recipe.model.name!r} with data.kind={data.kind!r}"
            )
        if not dataset.with_people().samples:
            raise ValueError(f"There is nobody to evaluate on. Received: {data.evaluation_annotations}")


def _joints_of(annotated: Skeleton, recipe: Recipe) -> set[str]:
    """Those of the model's joints that annotations in another skeleton have."""
    origins = annotated.mapping_to(recipe.skeleton)
    return {name for name, origin in zip(recipe.skeleton.joint_names, origins, strict=True) if origin is not None}


def _evaluated(recipe: Recipe) -> Dataset:
    """The evaluation data of a pose recipe."""
    return recipe.kind.read(
        needed(recipe, "evaluation_annotations"),
        recipe.data.evaluation_images,
        category=recipe.data.category,
        skip_missing=recipe.data.skip_missing,
    )


def _require_coco_joints(recipe: Recipe) -> None:
    if recipe.skeleton is not COCO_17:
        raise ValueError(
            "Synthetic people are scored with COCO's joints: set evaluation.every=0 for others. "
            f"Received: model.skeleton={recipe.model.skeleton!r}"
        )


def _by_box(recipe: Recipe) -> bool:
    """Whether the network is given people one by one, by their boxes, when it is scored."""
    return recipe.top_down and FAMILIES[recipe.variant.family].top_down


def evaluator(recipe: Recipe, network: keras.Model) -> Callable[[], Figures] | None:
    """A function that scores the network on the recipe's evaluation data and draws `predictions.png`; None without."""
    if not has_evaluation(recipe):
        return None
    if recipe.is_classifier:
        return _classification(recipe, network)
    kind, annotations = recipe.data.kind, recipe.data.evaluation_annotations
    finds_several = recipe.kind.metric == "ap" and not _by_box(recipe) and recipe.data.max_people > 1
    settings = {"flip": recipe.evaluation.flip, "skeleton": recipe.skeleton, "input_size": recipe.input_size}
    predictor = PosePredictor.load(network, multi_person=finds_several and "pafs" in network.output, **settings)
    if kind == "synthetic":
        _require_coco_joints(recipe)
        scenes = synthetic_scenes(recipe, recipe.training.seed + _EVALUATION_SEED)
        people = recipe.folder / SYNTHETIC_PEOPLE
        if not people.exists():
            synthetic.write_coco(people.parent, scenes, recipe.data.synthetic.evaluation_length, suffix=".png")
        annotations, images = str(people), str(people.parent / "images")
    else:
        images = recipe.data.evaluation_images

    def evaluate() -> Figures:
        figures = _SCORES[recipe.kind.metric](predictor, images, annotations, recipe)
        if recipe.evaluation.pictures:
            dataset = read_coco(str(annotations), images) if kind == "synthetic" else _evaluated(recipe)
            samples = dataset.with_people().samples[: recipe.evaluation.pictures]
            picture = predictions_picture(predictor, samples, _by_box(recipe))
            write_file(recipe.folder / "predictions.png", draw.encode_png(picture))
        return figures

    return evaluate


def _classification(recipe: Recipe, network: keras.Model) -> Callable[[], Figures]:
    dataset = read_labelled(recipe, str(recipe.data.evaluation_images), "test").limited(recipe.evaluation.limit)
    examples = LabelledExamples(dataset, recipe.input_size, crop=recipe.kind.crop)
    return partial(top_accuracy, network, examples, recipe.training.batch_size, recipe.evaluation.flip)


def top_accuracy(network: keras.Model, examples: LabelledExamples, batch_size: int, flip: bool = False) -> Figures:
    """Parts of the images whose class is the likeliest (top-1), or one of the five likeliest (top-5).

    Args:
        network: `keras.Model` of the probabilities of classes.
        examples: `LabelledExamples`, taken in order.
        batch_size: int. Images at a time.
        flip: bool. Whether to average with the mirrored image.

    Returns:
        dict of `"top1"` and, where there are more than five classes, `"top5"`.
    """
    ranks = []
    for first in range(0, len(examples), batch_size):
        numbers = [(0, index) for index in range(first, min(first + batch_size, len(examples)))]
        images, labels, _ = examples.batch(numbers)
        scores = np.asarray(network.predict_on_batch(images))
        if flip:
            scores = scores + np.asarray(network.predict_on_batch(images[:, :, ::-1]))
        own = np.take_along_axis(scores, labels.astype(np.int64), axis=1)
        # Classes that are as likely count as likelier: a network that tells nothing apart finds nothing.
        ranks.append((scores >= own).sum(axis=1) - 1)
    rank = np.concatenate(ranks)
    tops = (1, 5) if len(examples.dataset.classes) > 5 else (1,)
    return {f"top{top}": float((rank < top).mean()) for top in tops}


def _coco_scores(predictor: PosePredictor, images: str, annotations: str, recipe: Recipe) -> Figures:
    category = None if recipe.data.kind == "synthetic" else recipe.data.category
    options = {"boxes": _by_box(recipe), "category": category, "limit": recipe.evaluation.limit, "progress": False}
    scores = evaluation.coco(predictor, images, annotations, **options)
    return {"ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75, "ar": scores.ar}


def _mpii_scores(predictor: PosePredictor, images: str, annotations: str, recipe: Recipe) -> Figures:
    options = {"limit": recipe.evaluation.limit, "skip_missing": recipe.data.skip_missing, "progress": False}
    return _shares(evaluation.mpii(predictor, images, annotations, **options))


def _lspet_scores(predictor: PosePredictor, images: str | None, annotations: str, recipe: Recipe) -> Figures:
    options = {"limit": recipe.evaluation.limit, "progress": False}
    return _shares(evaluation.lspet(predictor, images, annotations, **options))


def _shares(scores: Any) -> Figures:
    shares = zip(scores.thresholds, scores.mean, strict=True)
    return {f"{scores.name.lower()}@{threshold:g}": float(mean) for threshold, mean in shares}


_SCORES = {"ap": _coco_scores, "pckh": _mpii_scores, "pck": _lspet_scores}
