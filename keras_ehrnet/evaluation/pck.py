"""The share of correct keypoints (PCK): of MPII with the head as the measure (PCKh), of LSP with the torso."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ehrnet.skeletons import LSP_14, MPII_16, Skeleton

GROUPS = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
"""The columns of the papers' tables. The neck is in the mean only."""

_NECKS = ("neck", "upper_neck")

NOT_IN_MEAN = ("pelvis", "thorax")
"""Joints that MPII's evaluation leaves out of the mean: they are midpoints of others."""


@dataclass(frozen=True, eq=False)
class PckScores:
    """Shares of correct joints, as fractions; NaN for a joint that nobody has labelled.

    Args:
        name: str. What was measured, such as `"PCKh"`.
        thresholds: tuple of float, T of them. A joint is correct if its distance is at most threshold * reference.
        joint_names: tuple of str, K of them.
        per_joint: float64 array of shape `(T, K)`.
        counts: int array of shape `(K,)`. Number of labelled joints behind each share.
        mean: float64 array of shape `(T,)`. Share over all labelled joints, pelvis and thorax left out: a joint that is
            labelled less often weighs less, as in MPII's evaluation.
        persons: int. Number of persons measured.
        left_out: int. Number of persons without a reference length.
        notes: tuple of str. What is to be told of them: joints that were not scored, what the annotations lacked.
    """

    name: str
    thresholds: tuple[float, ...]
    joint_names: tuple[str, ...]
    per_joint: np.ndarray
    counts: np.ndarray
    mean: np.ndarray
    persons: int
    left_out: int
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Shares under the names of the papers' tables, shape `(T,)` each: the plain mean of left and right."""
        rows = {
            group: [self.joint_names.index(joint) for joint in joints if joint in self.joint_names]
            for group, joints in GROUPS.items()
        }
        return {group: self.per_joint[:, columns].mean(axis=1) for group, columns in rows.items() if columns}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a share is not defined."""
        groups = self.groups
        scores = [
            {
                "threshold": threshold,
                "mean": _plain(self.mean[row]),
                "groups": {group: _plain(shares[row]) for group, shares in groups.items()},
                "joints": {
                    joint: _plain(share) for joint, share in zip(self.joint_names, self.per_joint[row], strict=True)
                },
            }
            for row, threshold in enumerate(self.thresholds)
        ]
        counts = dict(zip(self.joint_names, self.counts.tolist(), strict=True))
        return {
            "name": self.name,
            "persons": self.persons,
            "left_out": self.left_out,
            "counts": counts,
            "scores": scores,
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """A table as text, in percent: a header, then a row for each threshold with the columns of the papers.

        Of joints that the papers do not have it is a row for each joint with a column for each threshold.
        """
        titles = [f"{self.name}@{threshold:g}" for threshold in self.thresholds]
        in_papers = {*(joint for joints in GROUPS.values() for joint in joints), *NOT_IN_MEAN, *_NECKS}
        if not set(self.joint_names) <= in_papers:
            shares = [*self.per_joint.T, self.mean]
            body = zip((*self.joint_names, "Mean"), shares, strict=True)
            return [("joint", *titles), *((name, *map(_percent, row)) for name, row in body)]
        groups = self.groups
        body = [
            (title, *(_percent(shares[row]) for shares in groups.values()), _percent(mean))
            for row, (title, mean) in enumerate(zip(titles, self.mean, strict=True))
        ]
        return [("", *groups, "Mean"), *body]


def pckh(
    predicted: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    head_sizes: np.ndarray,
    thresholds: Sequence[float] = (0.5, 0.1),
    skeleton: Skeleton = MPII_16,
) -> PckScores:
    """MPII's PCKh: the share of joints no further from the truth than a part of the head size.

    Args:
        predicted: float array of shape `(N, K, 2)`. x and y; NaN for a joint that was not found, which counts as wrong.
        truth: float array of shape `(N, K, 2)`.
        labelled: array of shape `(N, K)`. Non-zero where the joint is labelled; others are not measured.
        head_sizes: float array of shape `(N,)`. 0.6 times the diagonal of the head box, which is what the `head_size`
            of the annotation files holds.
        thresholds: sequence of float. Parts of the head size.
        skeleton: `Skeleton`. What the K joints are.

    Returns:
        `PckScores`.

    Raises:
        ValueError: if shapes do not fit each other, or a head size is not positive.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.evaluation import pckh
        >>> truth = np.zeros((1, 16, 2))
        >>> scores = pckh(truth + [3, 4], truth, np.ones((1, 16)), head_sizes=[20.0])
        >>> print(scores.mean)
        [1. 0.]
    """
    sizes = np.asarray(head_sizes, np.float64)
    if not (sizes > 0).all():
        row = int(np.argmax(~(sizes > 0)))
        raise ValueError(f"Head sizes must be positive. Received: {sizes.reshape(-1)[row]} for person {row}")
    return _shares("PCKh", predicted, truth, labelled, sizes, thresholds, skeleton)


def pck(
    predicted: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    reference_lengths: np.ndarray | None = None,
    threshold: float | Sequence[float] = 0.2,
    skeleton: Skeleton = LSP_14,
) -> PckScores:
    """PCK: the share of joints no further from the truth than a part of a reference length, by default the torso's.

    Args:
        predicted: float array of shape `(N, K, 2)`. x and y; NaN for a joint that was not found, which counts as wrong.
        truth: float array of shape `(N, K, 2)`.
        labelled: array of shape `(N, K)`. Non-zero where the joint is labelled; others are not measured.
        reference_lengths: float array of shape `(N,)`; by default `torso_lengths`. Persons whose length is NaN or zero
            are left out, and counted.
        threshold: float, or a sequence of them. Part of the reference length.
        skeleton: `Skeleton`. What the K joints are.

    Returns:
        `PckScores`.

    Raises:
        ValueError: if shapes do not fit each other.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.evaluation import pck
        >>> truth = np.tile([[[10.0, 10.0]], [[50.0, 50.0]]], (1, 14, 1))
        >>> scores = pck(truth + 2, truth, np.ones((2, 14)), reference_lengths=[20.0, np.nan])
        >>> scores.persons, scores.left_out, float(scores.mean[0])
        (1, 1, 1.0)
    """
    if reference_lengths is None:
        reference_lengths = torso_lengths(truth, labelled, skeleton)
    lengths = np.asarray(reference_lengths, np.float64)
    thresholds = tuple(threshold) if isinstance(threshold, Iterable) else (threshold,)
    return _shares("PCK", predicted, truth, labelled, lengths, thresholds, skeleton)


def torso_lengths(truth: np.ndarray, labelled: np.ndarray, skeleton: Skeleton = LSP_14) -> np.ndarray:
    """Distance from left shoulder to right hip of each person, shape `(N,)`; NaN where one is not labelled."""
    shoulder, hip = skeleton.index("left_shoulder"), skeleton.index("right_hip")
    truth, labelled = np.asarray(truth, np.float64), np.asarray(labelled) > 0
    lengths = np.linalg.norm(truth[:, shoulder] - truth[:, hip], axis=-1)
    return np.where(labelled[:, shoulder] & labelled[:, hip], lengths, np.nan)


def efficiency(ap: float, fps: float, watts: float) -> float:
    """The accuracy-efficiency figure of the EfficientHRNet paper: AP x FPS / watt.

    Args:
        ap: float. Average precision, in the unit the result is wanted in (percent to compare with papers' tables).
        fps: float. Frames per second.
        watts: float. Power drawn while running.

    Returns:
        float.

    Raises:
        ValueError: if the power is not positive, or one of the others negative.

    Example:
        >>> from keras_ehrnet.evaluation import efficiency
        >>> efficiency(ap=50.0, fps=20.0, watts=10.0)
        100.0
    """
    if not (watts > 0 and ap >= 0 and fps >= 0):
        raise ValueError(f"Watts must be positive, AP and FPS not negative. Received: {ap=}, {fps=}, {watts=}")
    return ap * fps / watts


def _shares(
    name: str,
    predicted: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    lengths: np.ndarray,
    thresholds: Sequence[float],
    skeleton: Skeleton,
) -> PckScores:
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    labelled = np.asarray(labelled) > 0
    people, joints = len(truth), skeleton.num_joints
    expected = [(people, joints, 2), (people, joints, 2), (people, joints), (people,)]
    received = [array.shape for array in (predicted, truth, labelled, lengths)]
    if expected != received:
        raise ValueError(
            f"Predicted and true joints must have shape (N, {joints}, 2), labels (N, {joints}) and reference lengths "
            f"(N,). Received: {', '.join(map(str, received))}"
        )
    measured = lengths > 0  # False for NaN.
    labelled = labelled & measured[:, None]
    distances = np.linalg.norm(predicted - truth, axis=-1) / np.where(measured, lengths, 1.0)[:, None]
    limits = np.asarray(thresholds, np.float64)[:, None, None]
    correct = ((distances <= limits) & labelled).sum(axis=1)
    counts = labelled.sum(axis=0)
    in_mean = np.array([joint not in NOT_IN_MEAN for joint in skeleton.joint_names])
    return PckScores(
        name=name,
        thresholds=tuple(float(threshold) for threshold in thresholds),
        joint_names=skeleton.joint_names,
        per_joint=_ratio(correct, counts),
        counts=counts,
        mean=_ratio(correct[:, in_mean].sum(axis=1), counts[in_mean].sum()),
        persons=int(measured.sum()),
        left_out=int(people - measured.sum()),
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
