"""Categories of COCO's files: which have keypoints, and what they say of them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from keras_ehrnet.data._checks import identity, load_json, need
from keras_ehrnet.skeletons import SKELETONS, Skeleton
from keras_ehrnet.support.errors import AnnotationError, reads
from keras_ehrnet.support.messages import cut


@reads(AnnotationError)
def category_skeleton(annotations: str | os.PathLike, category: int | str | None = None) -> Skeleton:
    """The skeleton that the category of a COCO file describes, without a look at its people.

    `keypoints` are the joints' names, `skeleton` the limbs (counted from 1 or from 0). No part of COCO's format, but
    read: `flip_pairs`, which change places in a mirror, and `sigmas`, the joints' constants of OKS.

    Args:
        annotations: path of the JSON file.
        category: name or id of the category, where several have keypoints.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if no category has keypoints, or they are not what they should be.
    """
    content = load_json(annotations, dict)
    return keypoint_categories(need(content, "categories", str(annotations), list), str(annotations), category)[1]


def keypoint_categories(
    categories: list[dict], name: str, wanted: int | str | None
) -> tuple[dict[int | str, dict], Skeleton]:
    """Those of a file's categories that have keypoints, by id, and the skeleton that they share."""
    found = {
        identity(category, "id", f"{name}: category {row}"): category
        for row, category in enumerate(categories)
        if isinstance(category, dict) and category.get("keypoints")
    }
    if not found:
        raise AnnotationError(f"{name}: none of the 'categories' has 'keypoints'. Received: {cut(categories)}")
    if wanted is not None:
        found = _chosen_category(found, name, wanted)
    joint_names = {
        tuple(need(category, "keypoints", f"{name}: category {number}", list)) for number, category in found.items()
    }
    if len(joint_names) > 1:
        raise AnnotationError(
            f"{name}: the 'categories' have different 'keypoints': choose one by category=, or data.category in a "
            f"recipe. Received: {cut({number: entry.get('name') for number, entry in found.items()})}"
        )
    names = joint_names.pop()
    number, category = next(iter(found.items()))
    where = f"{name}: category {number}"
    if not all(isinstance(joint, str) for joint in names) or len(set(names)) < len(names):
        raise AnnotationError(f"{where} must have names in 'keypoints', each once. Received: {cut(list(names))}")
    own = Skeleton(str(category.get("name", f"keypoints_{len(names)}")), names, ())
    known = next((skeleton for skeleton in SKELETONS.values() if own.same_joints(skeleton)), None)
    return found, known or _own_skeleton(own, category, where)


def _chosen_category(categories: dict[int | str, dict], name: str, chosen: int | str) -> dict[int | str, dict]:
    found = {
        number: category
        for number, category in categories.items()
        if str(chosen) in (str(number), str(category.get("name")))
    }
    if len(found) != 1:
        names = {number: category.get("name") for number, category in categories.items()}
        raise AnnotationError(
            f"{name}: one category with keypoints must have that name or id. Valid: {cut(names)}. "
            f"Received: category={chosen!r}"
        )
    return found


def _own_skeleton(named: Skeleton, category: dict, where: str) -> Skeleton:
    """What a category tells of its joints besides their names."""
    limbs = _limbs(category.get("skeleton") or [], named.num_joints, where)
    pairs = category.get("flip_pairs")
    try:
        return replace(
            named,
            limbs=limbs,
            sigmas=None if category.get("sigmas") is None else tuple(map(float, category["sigmas"])),
            flip_pairs=None if pairs is None else tuple(_named_pair(pair, named) for pair in pairs),
        )
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"{where}: {error}") from error


def _named_pair(pair: Any, skeleton: Skeleton) -> tuple[int, int]:
    """A mirror pair, by names or by numbers from 0."""
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ValueError(f"'flip_pairs' must hold pairs of joints, by name or by number from 0. Received: {pair!r}")
    first, second = (skeleton.index(joint) if isinstance(joint, str) else joint for joint in pair)
    return first, second


def _limbs(pairs: Any, num_joints: int, where: str) -> tuple[tuple[int, int], ...]:
    if not isinstance(pairs, (list, tuple)) or not all(_is_pair(pair) for pair in pairs):
        raise AnnotationError(f"{where} must have pairs of joint numbers in 'skeleton'. Received: {cut(pairs)}")
    joints = [joint for pair in pairs for joint in pair]
    first = min(1, min(joints, default=1))  # COCO counts from 1; only who counts from 0 has a joint 0.
    if first < 0 or max(joints, default=1) >= num_joints + first:
        raise AnnotationError(
            f"{where} must have joints 1 to {num_joints} (or, counted from 0, 0 to {num_joints - 1}) in 'skeleton'. "
            f"Received: {cut(pairs)}"
        )
    return tuple((int(start) - first, int(end) - first) for start, end in pairs)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and all(type(joint) is int for joint in pair)
