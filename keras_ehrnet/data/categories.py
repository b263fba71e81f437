"""Categories of COCO's files: which have keypoints, and what they say of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeAlias

from keras_ehrnet.data._checks import identity, load_json, need
from keras_ehrnet.skeletons import SKELETONS, Skeleton
from keras_ehrnet.support.errors import AnnotationError, reads
from keras_ehrnet.support.messages import cut

Pairs: TypeAlias = list[tuple[int | str, int | str]]


@reads(AnnotationError)
def category_skeleton(annotations: str | os.PathLike, category: int | str | None = None) -> Skeleton:
    """The skeleton that the category of a COCO file describes, without a look at its people.

    `keypoints` are the joints' names, `skeleton` the limbs. No part of COCO's format, but read: `flip_pairs`, which
    change places in a mirror, and `sigmas`, the joints' constants of OKS. Joints are counted from 1, or from 0 where
    `skeleton` has a joint 0; those of `flip_pairs` alike, or as the joints' names demand, or they are given by name.

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
    limbs = _pairs(category.get("skeleton") or [], "skeleton", (int,), where)
    pairs = category.get("flip_pairs")
    mirrored = None if pairs is None else _pairs(pairs, "flip_pairs", (int, str), where)
    # COCO counts from 1; only who counts from 0 has a joint 0.
    first = 0 if 0 in _numbers(limbs) else 1
    sigmas = category.get("sigmas")
    if sigmas is not None and not (isinstance(sigmas, list) and all(isinstance(one, (int, float)) for one in sigmas)):
        raise AnnotationError(f"{where} must have a number for each joint in 'sigmas'. Received: {cut(sigmas)}")
    try:
        return replace(
            named,
            limbs=_counted(limbs, first, "skeleton", named, where),
            sigmas=None if sigmas is None else tuple(map(float, sigmas)),
            flip_pairs=None if mirrored is None else _mirrored(mirrored, first, named, where),
        )
    except AnnotationError:
        raise
    except ValueError as error:
        raise AnnotationError(f"{where}: {error}") from error


def _mirrored(pairs: Pairs, first: int, named: Skeleton, where: str) -> tuple[tuple[int, int], ...]:
    """Mirror pairs, counted as limbs are, unless only the other way makes sense, by their range or the joints' names.

    MMPose counts them from 0 also where its limbs, as COCO's, are counted from 1.
    """
    numbers = _numbers(pairs)
    if 0 in numbers or named.num_joints in numbers:
        first = 0 if 0 in numbers else 1
        return _counted(pairs, first, "flip_pairs", named, where)
    as_limbs, otherwise = (_counted(pairs, start, "flip_pairs", named, where) for start in (first, 1 - first))
    return otherwise if _contradict(as_limbs, named) and not _contradict(otherwise, named) else as_limbs


def _contradict(pairs: Iterable[tuple[int, int]], named: Skeleton) -> bool:
    """Whether joints are paired of whose names at least one tells another counterpart."""
    try:
        by_name = named.flip_permutation
    except ValueError:  # The names alone do not tell.
        return False
    paired = (((first, second), by_name[first], by_name[second]) for first, second in pairs)
    return any(pair != (back, other) and pair != (other, back) for pair, other, back in paired)


def _pairs(pairs: Any, field: str, kinds: tuple[type, ...], where: str) -> Pairs:
    """Pairs of joints, by number or, if need be, by name, as they stand in the file."""
    are_lists = isinstance(pairs, (list, tuple)) and all(isinstance(pair, (list, tuple)) for pair in pairs)
    if not are_lists or not all(len(pair) == 2 and all(type(joint) in kinds for joint in pair) for pair in pairs):
        joints = "joint numbers or names" if str in kinds else "joint numbers"
        raise AnnotationError(f"{where} must have pairs of {joints} in {field!r}. Received: {cut(pairs)}")
    return [tuple(pair) for pair in pairs]


def _numbers(pairs: Pairs) -> set[int]:
    return {joint for pair in pairs for joint in pair if isinstance(joint, int)}


def _counted(pairs: Pairs, first: int, field: str, named: Skeleton, where: str) -> tuple[tuple[int, int], ...]:
    """Pairs by number from 0, of those that count from `first`."""
    if any(not first <= number < named.num_joints + first for number in _numbers(pairs)):
        raise AnnotationError(
            f"{where} must have joints 1 to {named.num_joints} (or, counted from 0, 0 to {named.num_joints - 1}) in "
            f"{field!r}. Received: {cut([*map(list, pairs)])}"
        )

    def index(joint: int | str) -> int:
        return joint - first if isinstance(joint, int) else named.index(joint)

    return tuple((index(start), index(end)) for start, end in pairs)
