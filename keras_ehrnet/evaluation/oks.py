"""COCO's average precision of keypoints (OKS), by pycocotools, with errors that say what is wrong."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from keras_ehrnet.data._checks import Ids, identity, need_unique, numbers
from keras_ehrnet.data.coco import CocoContent, check_coco
from keras_ehrnet.support.messages import cut, needing

MAX_DETECTIONS = 20
"""COCO scores the best 20 persons of each image."""


@dataclass(frozen=True)
class CocoScores:
    """COCO's ten figures, as fractions; NaN where no person of that size is annotated.

    Args:
        ap: float. Average precision, mean over OKS thresholds 0.50, 0.55 ... 0.95.
        ap50: float. Average precision at OKS 0.50.
        ap75: float. Average precision at OKS 0.75.
        ap_medium: float. `ap` of persons of 32 x 32 to 96 x 96 pixels.
        ap_large: float. `ap` of larger persons.
        ar: float. Average recall, mean over the same thresholds.
        ar50: float. Recall at OKS 0.50.
        ar75: float. Recall at OKS 0.75.
        ar_medium: float. `ar` of medium persons.
        ar_large: float. `ar` of large persons.
        images: int. Number of images scored.
        persons: int. Number of annotated persons that count: no crowds, at least one labelled joint.
        detections: int. Number of results in those images.
        notes: tuple of str. What is to be told of them: joints that were not scored, what the annotations lacked.
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float
    ar50: float
    ar75: float
    ar_medium: float
    ar_large: float
    images: int
    persons: int
    detections: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a figure is not defined."""
        values = asdict(self)
        undefined = dict.fromkeys(name for name in _FIGURES if math.isnan(values[name]))
        return {**values, **undefined, "notes": list(self.notes)}

    def rows(self) -> list[tuple[str, str]]:
        """A table as text: a header, then one row for each figure, in percent."""
        names = [field.name for field in fields(self)][: len(_FIGURES)]
        return [("figure", "percent"), *((_FIGURES[name], _percent(getattr(self, name))) for name in names)]


_FIGURES = {
    "ap": "AP",
    "ap50": "AP 50",
    "ap75": "AP 75",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "ar": "AR",
    "ar50": "AR 50",
    "ar75": "AR 75",
    "ar_medium": "AR medium",
    "ar_large": "AR large",
}  # In the order of pycocotools.


def oks_average_precision(
    results: Sequence[dict],
    annotations: str | os.PathLike | dict | CocoContent,
    image_ids: Iterable[int | str] | None = None,
    sigmas: Sequence[float] | None = None,
) -> CocoScores:
    """Average precision and recall of poses against COCO annotations.

    The scoring is pycocotools', unchanged: every pair of person and result is measured on the annotation's `area`,
    crowds and persons without joints excuse results that fall on them, 20 results count in each image.

    Args:
        results: list of dict. COCO's result format: `image_id`, `category_id`, `keypoints` (flat x, y, score), `score`.
            May be empty.
        annotations: path of COCO's keypoint JSON, its content, or what `data.coco.check_coco` made of it.
        image_ids: iterable of int or str. Score only these images; by default all of the file, with people or
            without.
        sigmas: sequence of float. The joints' constants; by default those of the file's skeleton.

    Returns:
        `CocoScores`.

    Raises:
        FileNotFoundError: if there is no such annotation file.
        ValueError: if annotations or results lack a field, name an unknown image or category, or are not finite; or if
            the skeleton has no sigmas and none are given.

    Example:
        >>> from keras_ehrnet.evaluation import oks_average_precision
        >>> scores = oks_average_precision(results, "person_keypoints_val2017.json")  # doctest: +SKIP
        >>> f"{100 * scores.ap:.1f}"  # doctest: +SKIP
        '64.8'
    """
    content = annotations if isinstance(annotations, CocoContent) else check_coco(annotations)
    sigmas = content.skeleton.sigmas if sigmas is None else sigmas
    if sigmas is None or len(sigmas) != content.skeleton.num_joints:
        raise ValueError(
            f"The skeleton {content.skeleton.name!r} of {content.name} needs sigmas, one for each of its "
            f"{content.skeleton.num_joints} joints. Received: {cut(sigmas)}"
        )
    known = [image["id"] for image in content.images]
    known_ids = Ids(known, f"{content.name}: images")
    chosen = known if image_ids is None else _chosen_images(image_ids, known_ids, content.name)
    if not chosen:
        raise ValueError(
            f"There must be at least one image to score. Received: none of the {len(known)} in {content.name}"
        )
    checked = _checked_results(results, content, known_ids)
    stats = _stats(checked, content, chosen, np.asarray(sigmas, np.float64))
    inside = set(chosen)
    targets = np.any(content.keypoints[..., 2] > 0, axis=1)
    persons = sum(
        entry["image_id"] in inside and bool(is_target) and not entry["iscrowd"]
        for entry, is_target in zip(content.persons, targets, strict=True)
    )
    figures: dict[str, Any] = {
        name: math.nan if value < 0 else float(value) for name, value in zip(_FIGURES, stats, strict=True)
    }
    detections = sum(result["image_id"] in inside for result in checked)
    return CocoScores(**figures, images=len(inside), persons=persons, detections=detections)


def _chosen_images(image_ids: Iterable[int | str], known: Ids, name: str) -> list[int | str]:
    found = [(image_id, known.find(image_id)) for image_id in image_ids]
    unknown = {image_id for image_id, own in found if own is None}
    if unknown:
        raise ValueError(f"{name} has no images of these ids. Received: {cut(sorted(unknown, key=str))}")
    chosen = [own for _, own in found if own is not None]
    need_unique(chosen, "id", "The list of images to score")
    return chosen


def _checked_results(results: Sequence[dict], content: CocoContent, known: Ids) -> list[dict]:
    """Copies of the results with just the fields that count: pycocotools would write into the caller's own."""

    def where(row: int) -> str:
        return f"Result {row}"

    category_ids = Ids(content.category_ids, f"{content.name}: categories")
    ids = []
    for row, result in enumerate(results):
        image_id = known.find(identity(result, "image_id", where(row)))
        if image_id is None:
            raise ValueError(
                f"{where(row)} has an 'image_id' that {content.name} has not. Received: {result['image_id']}"
            )
        category_id = category_ids.find(identity(result, "category_id", where(row)))
        if category_id is None:
            expected = f"must have one of {content.category_ids} as 'category_id'"
            raise ValueError(f"{where(row)} {expected}. Received: {cut(result['category_id'])}")
        ids.append({"image_id": image_id, "category_id": category_id})
    keypoints = numbers(results, "keypoints", (content.skeleton.num_joints, 3), where)
    scores = numbers(results, "score", (), where)
    return [
        {**ids[row], "keypoints": keypoints[row].reshape(-1).tolist(), "score": float(scores[row])}
        for row in range(len(results))
    ]


@needing("COCO's score")
def _stats(results: list[dict], content: CocoContent, image_ids: list[Any], sigmas: np.ndarray) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # pycocotools takes a match with id 0 for none, and sorts ids, which fails for numbers beside texts. The numbers
    # keep the order of the ids: it decides between equal scores.
    images = _numbered([image["id"] for image in content.images])
    categories = _numbered(content.category_ids)
    persons = _numbered([entry["id"] for entry in content.persons])
    results = [
        {**result, "image_id": images[result["image_id"]], "category_id": categories[result["category_id"]]}
        for result in results
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress.
        truth: Any = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number} for number in images.values()],
            "categories": [{"id": number, "name": str(category)} for category, number in categories.items()],
            "annotations": [
                {
                    "id": persons[entry["id"]],
                    "image_id": images[entry["image_id"]],
                    "category_id": categories[entry["category_id"]],
                    "iscrowd": entry["iscrowd"],
                    "keypoints": content.keypoints[row].reshape(-1).tolist(),
                    # Counted here, so that files without `num_keypoints`, or with a wrong one, score the same.
                    "num_keypoints": int(np.count_nonzero(content.keypoints[row, :, 2])),
                    "bbox": content.boxes[row].tolist(),
                    "area": float(content.areas[row]),
                }
                for row, entry in enumerate(content.persons)
            ],
        }
        truth.createIndex()
        found: Any = truth.loadRes(results) if results else COCO()
        if not results:  # pycocotools cannot load an empty list.
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        scorer = COCOeval(truth, found, iouType="keypoints")
        scorer.params.imgIds = [images[image_id] for image_id in image_ids]
        scorer.params.catIds = list(categories.values())
        scorer.params.maxDets = [MAX_DETECTIONS]
        scorer.params.kpt_oks_sigmas = sigmas
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer.stats


def _numbered(ids: Iterable[int | str]) -> dict[int | str, int]:
    """Numbers from 1 on for ids, in their order: whole numbers, then texts."""
    ordered = sorted(ids, key=lambda value: (isinstance(value, str), value))
    return {value: number for number, value in enumerate(ordered, start=1)}


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
