"""Regions of an image that a loss is to leave out: crowds, and people nobody labelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ehrnet.data._checks import need
from keras_ehrnet.data.annotations import Person, Sample
from keras_ehrnet.support.errors import AnnotationError
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import cut, needing

_FURTHEST, _LARGEST_SIDE = 2, 16384


def crowd_mask(sample: Sample) -> np.ndarray:
    """Which pixels of an image count in the loss: all but crowds and persons without labelled joints.

    Those regions are taken from segmentations (polygons or run lengths) where there are any, else from boxes.

    Args:
        sample: `Sample` with a known image size.

    Returns:
        Bool array of shape `(H, W)`. True counts.

    Raises:
        ValueError: if the image size is not known.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data import Person, Sample, crowd_mask
        >>> unlabelled = Person(np.zeros((17, 3)), box=[1, 0, 3, 1], area=2.0)
        >>> print(crowd_mask(Sample(7, None, (4, 2), (unlabelled,))).astype(int))
        [[1 0 0 1]
         [1 1 1 1]]
    """
    if sample.image_size is None:
        raise AnnotationError(
            f"A mask needs the size of the image. Received: image {sample.image_id!r} of unknown size"
        )
    width, height = sample.image_size
    check_size(width * height, f"image {sample.image_id!r}", AnnotationError, "The mask")
    mask = np.ones((height, width), bool)
    for person in sample.ignored:
        if person.segmentation:
            mask &= ~_decoded(person.segmentation, width, height)
        else:
            left, top = np.floor(person.box[:2]).astype(int)
            right, bottom = np.ceil(person.box[2:]).astype(int)
            mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
    return mask


def check_segmentation(person: Person, size: tuple[int, int] | None, where: str) -> None:
    """Masks are made in the middle of a training run; what would fail there is found out at reading."""
    where = f"{where}: 'segmentation'"
    if person.segmentation is None or person.is_target:
        return
    if isinstance(person.segmentation, dict):
        need(person.segmentation, "counts", where, (list, str, bytes))
        expected = None if size is None else [size[1], size[0]]
        if need(person.segmentation, "size", where, list) != expected:
            received = f"{person.segmentation['size']}, image {expected or 'of unknown size'}"
            raise AnnotationError(f"{where} must be of the size of the image. Received: {received}")
        runs = _run_lengths(person.segmentation["counts"])
        if runs is None or size is None or sum(runs) != size[0] * size[1]:
            counts = cut(person.segmentation["counts"])
            raise AnnotationError(f"{where} must be run lengths that fill the image. Received: {counts}")
    elif not isinstance(person.segmentation, list) or not all(_is_polygon(polygon) for polygon in person.segmentation):
        raise AnnotationError(
            f"{where} must be a list of flat lists x, y, x, y ... Received: {cut(person.segmentation)}"
        )
    else:
        # Polygons are drawn point by point, however far away.
        furthest = max(abs(value) for polygon in person.segmentation for value in polygon)
        if furthest > _FURTHEST * max(size or (_LARGEST_SIDE,)):
            raise AnnotationError(
                f"{where} must lie in the image, or near it: {size or 'of unknown size'}. Received: {furthest:g}"
            )


def _is_polygon(polygon: Any) -> bool:
    if not isinstance(polygon, Sequence) or len(polygon) < 6 or len(polygon) % 2:
        return False
    return all(isinstance(value, (int, float)) and np.isfinite(value) for value in polygon)


@needing("A mask of polygons")
def _decoded(segmentation: list | dict, width: int, height: int) -> np.ndarray:
    """The region of a segmentation that `check_segmentation` has passed, as a bool array of shape `(H, W)`."""
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
    else:
        from pycocotools import mask

        counts = mask.merge(mask.frPyObjects(segmentation, height, width))["counts"]
    runs = _run_lengths(counts) or []
    inside = np.arange(len(runs)) % 2 == 1  # Outside and inside take turns, column by column.
    return np.repeat(inside, runs).reshape(width, height).T


def _run_lengths(counts: list | str | bytes) -> list[int] | None:
    """Run lengths as numbers, None if they are not valid.

    In COCO's compressed form each is written in digits of base 32, the lowest first, as characters from "0" on; bit 5
    says that more digits follow, bit 4 of the last is the sign; from the fourth on it is the difference to the one
    before the last. pycocotools can expand it too, but fills masks of broken ones with whatever lies in memory.
    """
    if isinstance(counts, list):
        return counts if all(isinstance(count, int) and count >= 0 for count in counts) else None
    runs, value, shift = [], 0, 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        digit = character - 48
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs if shift == 0 and min(runs, default=0) >= 0 else None
