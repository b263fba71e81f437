"""Skeletons: what the joints of a pose are called, and how they hang together.

A `Skeleton` travels with every model, annotation and result, so that no function has to guess which row of an array is
the left wrist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from keras_ehrnet.support.messages import cut, suggestion
from keras_ehrnet.support.typed import mistake

DEFAULT_SIGMA = 0.08
"""OKS constant of joints for which none was published; about the mean of COCO's."""


@dataclass(frozen=True)
class Skeleton:
    """Names and relations of the joints of a pose.

    Args:
        name: str. Short name, such as `"coco_17"`.
        joint_names: tuple of str. One name per joint, in the order of the heatmap channels.
        limbs: tuple of (int, int). Joint pairs; for drawing and, in this order, the part affinity fields.
        sigmas: tuple of float, or None. Per-joint constants of COCO's object keypoint similarity (OKS).
        grouping_order: tuple of int, or None. Order in which associative embedding visits the joints: torso and head
            first, extremities last. None means the order of `joint_names`.
        flip_pairs: tuple of (int, int), or None. Joints that change places when the image is mirrored; `()` if none
            do. None means what the names say: `left_eye`, `eye_left`, `L_Eye`, `EyeL`, `LeftEye`, `left-eye` and
            their right ones.

    Raises:
        ValueError: if limbs or pairs name joints that there are not, a joint is in two pairs, sigmas are not one
            positive number per joint, or the order of grouping does not name every joint once.

    Example:
        >>> from keras_ehrnet.skeletons import COCO_17
        >>> COCO_17.num_joints, COCO_17.joint_names[COCO_17.flip_permutation[5]]
        (17, 'right_shoulder')
    """

    name: str
    joint_names: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...] | None = None
    grouping_order: tuple[int, ...] | None = None
    flip_pairs: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        for field, pairs in (("limbs", self.limbs), ("flip_pairs", self.flip_pairs or ())):
            in_range = all(len(pair) == 2 and all(0 <= joint < self.num_joints for joint in pair) for pair in pairs)
            if not in_range or any(first == second for first, second in pairs):
                raise ValueError(
                    f"{field} of skeleton {self.name!r} must be pairs of its joints, 0 to {self.num_joints - 1}, "
                    f"each of two different ones. Received: {pairs}"
                )
        if self.sigmas is not None and (len(self.sigmas) != self.num_joints or not all(s > 0 for s in self.sigmas)):
            raise ValueError(
                f"sigmas of skeleton {self.name!r} must be {self.num_joints} positive numbers, one per joint. "
                f"Received: {self.sigmas}"
            )
        if self.grouping_order is not None and sorted(self.grouping_order) != list(range(self.num_joints)):
            raise ValueError(
                f"grouping_order of skeleton {self.name!r} must name each of its joints, 0 to {self.num_joints - 1}, "
                f"once. Received: {self.grouping_order}"
            )
        paired = [joint for pair in self.flip_pairs or () for joint in pair]
        if len(set(paired)) < len(paired):
            raise ValueError(
                f"flip_pairs of skeleton {self.name!r} must name each joint once. Received: {self.flip_pairs}"
            )

    @property
    def num_joints(self) -> int:
        """Number of joints, K."""
        return len(self.joint_names)

    @property
    def oks_sigmas(self) -> tuple[float, ...]:
        """The joints' constants of OKS: `sigmas`, or `DEFAULT_SIGMA` for each where there are none."""
        return self.sigmas or (DEFAULT_SIGMA,) * self.num_joints

    @cached_property
    def flip_permutation(self) -> tuple[int, ...]:
        """For every joint the one it becomes when the image is mirrored: left and right change places.

        Raises:
            ValueError: if a joint is called left or right, but there is no joint of the other side.
        """
        pairs = _pairs_by_name(self) if self.flip_pairs is None else self.flip_pairs
        permutation = list(range(self.num_joints))
        for first, second in pairs:
            permutation[first], permutation[second] = second, first
        return tuple(permutation)

    @property
    def knows_sides(self) -> bool:
        """Whether left and right are known, so that joints change places in a mirror; not where one side lacks a joint.

        Example:
            >>> from keras_ehrnet.skeletons import COCO_17, Skeleton
            >>> COCO_17.knows_sides, Skeleton("pirate", ("nose", "left_hook"), ()).knows_sides
            (True, False)
        """
        try:
            return self.flip_permutation != tuple(range(self.num_joints))
        except ValueError:
            return False

    def index(self, joint_name: str) -> int:
        """Position of a joint by name.

        Raises:
            ValueError: if this skeleton has no such joint.
        """
        if joint_name not in self.joint_names:
            hint = suggestion(joint_name, self.joint_names)
            raise ValueError(f"Skeleton {self.name!r} has no joint of that name. {hint} Received: {joint_name!r}")
        return self.joint_names.index(joint_name)

    def mapping_to(self, other: Skeleton) -> tuple[int | None, ...]:
        """For every joint of `other`, the joint of this skeleton with the same meaning, or None.

        Spelling does not matter: `Left-Eye`, `left eye`, `lefteye` and `eye_L` are `left_eye`.

        Example:
            >>> from keras_ehrnet.skeletons import COCO_17, LSP_14
            >>> COCO_17.mapping_to(LSP_14)[:2], COCO_17.mapping_to(LSP_14)[12]
            ((16, 14), None)
        """
        own = {_meaning(name): index for index, name in enumerate(self.joint_names)}
        # Two joints that differ in spelling alone are told apart by it.
        exact = {name: index for index, name in enumerate(self.joint_names)}
        return tuple(exact.get(name, own.get(_meaning(name))) for name in other.joint_names)

    def same_joints(self, other: Skeleton) -> bool:
        """Whether the joints of `other` are these, in this order, however they are spelt."""
        return [*map(_meaning, self.joint_names)] == [*map(_meaning, other.joint_names)]

    def part(self, rows: Sequence[int]) -> Skeleton:
        """The skeleton of some of its joints.

        Args:
            rows: sequence of int. Which, by number; their order is that of the new skeleton.

        Returns:
            `Skeleton` with the limbs and mirror pairs among them; this one where it is all of them.

        Example:
            >>> from keras_ehrnet.skeletons import MPII_16
            >>> MPII_16.part([13, 14, 15]).limbs
            ((0, 1), (1, 2))
        """
        if list(rows) == list(range(self.num_joints)):
            return self
        new = {row: number for number, row in enumerate(rows)}

        def among(pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
            return tuple((new[first], new[second]) for first, second in pairs if first in new and second in new)

        return Skeleton(
            f"{self.name}, {len(new)} joints",
            tuple(self.joint_names[row] for row in rows),
            among(self.limbs),
            None if self.sigmas is None else tuple(self.sigmas[row] for row in rows),
            None if self.grouping_order is None else tuple(new[row] for row in self.grouping_order if row in new),
            None if self.flip_pairs is None else among(self.flip_pairs),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Skeleton:
        """The skeleton of `to_dict`, also after JSON; fields that a later version may have added are left out.

        Raises:
            KeyError: if name, joints or limbs are missing.
            ValueError: if limbs or pairs name joints that there are not.

        Example:
            >>> from keras_ehrnet.skeletons import COCO_17, Skeleton
            >>> Skeleton.from_dict(COCO_17.to_dict()) == COCO_17
            True
        """
        known = {field.name for field in fields(cls)}
        required = {name: content[name] for name in ("name", "joint_names", "limbs")}
        values = {name: _as_tuples(value) for name, value in {**content, **required}.items() if name in known}
        if problem := mistake(cls, values):
            raise ValueError(f"The skeleton's {problem}. Received: {cut(content)}")
        return cls(**values)


SYNONYMS = {"neck": "upper_neck"}
"""Names of joints that some data sets use, and the names that stand for them here."""

_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_OTHER_SIDE = {"left": "right", "right": "left"}


def _words(joint_name: str) -> list[str]:
    """`LeftEye`, `left-eye` and `left eye` as `["left", "eye"]`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", joint_name)
    return [word for word in re.split(r"[\W_]+", apart.lower()) if word]


def _side(joint_name: str) -> tuple[str, str] | None:
    """Side and rest of a name that has a word for one: `("left", "eye")`; None of others."""
    words = _words(joint_name)
    places = [place for place, word in enumerate(words) if word in _SIDES]
    if len(places) != 1 or len(words) < 2:
        return None
    rest = words[: places[0]] + words[places[0] + 1 :]
    is_letter = len(words[places[0]]) == 1
    if is_letter and all(word.isdigit() for word in rest):  # Vertebrae are L 1 to L 5.
        return None
    return _SIDES[words[places[0]]], "_".join(rest)


def _unspaced_side(joint_name: str) -> tuple[str, str] | None:
    """Side and rest of `lefteye` or `eyeleft`; it may be another word, so that no mirror twin follows from it."""
    name = joint_name.lower()
    for side in _OTHER_SIDE:
        rest = name.removeprefix(side) if name.startswith(side) else name.removesuffix(side)
        if rest not in ("", name) and rest.isalpha():
            return side, rest
    return None


def _meaning(joint_name: str) -> str:
    """One spelling for all that mean the same joint."""
    side = _side(joint_name) or _unspaced_side(joint_name)
    name = "_".join(side) if side else "_".join(_words(joint_name))
    return SYNONYMS.get(name, name)


def _unspaced_twin(name: str, names: Sequence[str]) -> int | None:
    """The right joint of `lefteye`, `leye` or `eyeleft`; as words have such letters too, only where there is one."""
    lowered = [other.lower() for other in names]
    for left, right in (("left", "right"), ("l", "r")):
        candidates = [right + name.lower().removeprefix(left)] if name.lower().startswith(left) else []
        if left == "left" and name.lower().endswith(left):
            candidates.append(name.lower().removesuffix(left) + right)
        for candidate in candidates:
            if candidate in lowered and len(candidate) > len(right):
                return lowered.index(candidate)
    return None


def _pairs_by_name(skeleton: Skeleton) -> list[tuple[int, int]]:
    names = skeleton.joint_names
    sides = [_side(name) for name in names]
    pairs = []
    for joint, side in enumerate(sides):
        if side is None:
            twin = _unspaced_twin(names[joint], names)
            if twin is not None and sides[twin] is None:
                pairs.append((joint, twin))
            continue
        opposite = (_OTHER_SIDE[side[0]], side[1])
        if opposite not in sides:
            raise ValueError(
                f"Joint {names[joint]!r} of skeleton {skeleton.name!r} has no counterpart on the "
                f"{opposite[0]}, which mirrored images need: add the joint, name the pairs in "
                f"Skeleton(flip_pairs=...), or do not mirror. Received: {names}"
            )
        if side[0] == "left":
            pairs.append((joint, sides.index(opposite)))
    return pairs


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


COCO_17 = Skeleton(
    name="coco_17",
    joint_names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
    grouping_order=(0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16),
)  # fmt: skip
"""The 17 keypoints of COCO: EfficientHRNet and the COCO models of EfficientPose-A/B/C."""

MPII_16 = Skeleton(
    name="mpii_16",
    joint_names=(
        "head_top", "upper_neck", "right_shoulder", "right_elbow", "right_wrist", "thorax", "left_shoulder",
        "left_elbow", "left_wrist", "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
        "left_ankle",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (1, 6), (6, 7), (7, 8), (1, 5), (5, 10), (10, 11), (11, 12), (5, 13), (13, 14),
        (14, 15),
    ),
)  # fmt: skip
"""The 16 joints of MPII as the published EfficientPose models order them; their limbs leave out the pelvis."""

LSP_14 = Skeleton(
    name="lsp_14",
    joint_names=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11), (12, 13), (8, 2),
        (9, 3),
    ),
)  # fmt: skip
"""The 14 joints of Leeds Sports Pose (extended)."""

SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in (COCO_17, MPII_16, LSP_14)}


def generic(num_joints: int) -> Skeleton:
    """A skeleton for models with any number of keypoints: joints named by number, no limbs.

    Args:
        num_joints: int. Number of joints.

    Returns:
        `Skeleton`: the known skeleton with that many joints if there is one, else one named `keypoints_<n>`.

    Example:
        >>> from keras_ehrnet import skeletons
        >>> skeletons.generic(17).name, skeletons.generic(5).joint_names[-1]
        ('coco_17', 'keypoint_4')
    """
    for skeleton in SKELETONS.values():
        if skeleton.num_joints == num_joints:
            return skeleton
    names = tuple(f"keypoint_{index}" for index in range(num_joints))
    return Skeleton(name=f"keypoints_{num_joints}", joint_names=names, limbs=())
