"""Skeletons: what the joints of a pose are called, and how they hang together.

A `Skeleton` travels with every model, annotation and result, so that no function has to guess which row of an array is
the left wrist.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property


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

    @property
    def num_joints(self) -> int:
        """Number of joints, K."""
        return len(self.joint_names)

    @cached_property
    def flip_permutation(self) -> tuple[int, ...]:
        """For every joint the one it becomes when the image is mirrored: left and right change places."""
        return tuple(self.index(_mirrored(name)) for name in self.joint_names)

    def index(self, joint_name: str) -> int:
        """Position of a joint by name.

        Raises:
            ValueError: if this skeleton has no such joint.
        """
        if joint_name not in self.joint_names:
            near = get_close_matches(joint_name, self.joint_names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"Skeleton {self.name!r} has no joint of that name.{hint} Received: {joint_name!r}")
        return self.joint_names.index(joint_name)

    def mapping_to(self, other: Skeleton) -> tuple[int | None, ...]:
        """For every joint of `other`, the joint of this skeleton with the same meaning, or None.

        Example:
            >>> from keras_ehrnet.skeletons import COCO_17, LSP_14
            >>> COCO_17.mapping_to(LSP_14)[:2], COCO_17.mapping_to(LSP_14)[12]
            ((16, 14), None)
        """
        own = {_SYNONYMS.get(name, name): index for index, name in enumerate(self.joint_names)}
        return tuple(own.get(_SYNONYMS.get(name, name)) for name in other.joint_names)


_SYNONYMS = {"neck": "upper_neck"}


def _mirrored(joint_name: str) -> str:
    if joint_name.startswith("left_"):
        return "right_" + joint_name.removeprefix("left_")
    if joint_name.startswith("right_"):
        return "left_" + joint_name.removeprefix("right_")
    return joint_name


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
