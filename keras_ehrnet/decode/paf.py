"""Part affinity fields: joints become people by the vectors that point along their limbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_ehrnet.decode.peaks import Peaks, checked_maps, find_peaks, parabola_shift
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import MPII_16, Skeleton

SAMPLES = 10
"""Points at which the field is looked at along a limb."""

SHARE_ALONG = 0.7
"""Of these points, how many the field must point along the limb."""

PEAK_THRESHOLD = 0.05
"""Peaks at or below it are no joints. It and the next were chosen on COCO's training people for EfficientPose RT, with
whose coarse maps distant people are faint."""

PAF_THRESHOLD = 0.02
"""What a field must reach along a limb, both as a mean and at most of the points."""

NMS_KERNEL = 3
"""Window of the peaks, in pixels of the maps."""

SEARCH_MARGIN = 0.25
"""A missing joint is looked for this far around a person's joints, as a part of the longer side of their box; chosen on
COCO's training people, too."""


@dataclass(frozen=True)
class Connection:
    """Two peaks that the field of a limb connects.

    Args:
        score: float. Mean of the field along the line between them.
        start: int. Index of one peak.
        end: int. Index of the other.
    """

    score: float
    start: int
    end: int


def pafs(
    heatmaps: np.ndarray,
    pafs: np.ndarray,
    *,
    skeleton: Skeleton = MPII_16,
    limbs: Sequence[tuple[int, int]] | None = None,
    max_people: int = 30,
    threshold: float = PEAK_THRESHOLD,
    paf_threshold: float = PAF_THRESHOLD,
    min_joints: int = 3,
    search_missing: bool = False,
    image_size: tuple[int, int] | None = None,
) -> Poses:
    """People from heatmaps and part affinity fields.

    Peaks are connected along each limb by the line integral of its field, the strongest connections first, and
    connected peaks are a person. A joint that is missing in the middle of the body parts a person in two. Joints that
    no limb reaches (the pelvis of the published models) go to the person around whose middle they lie.

    Args:
        heatmaps: float array of shape `(H, W, K)`.
        pafs: float array of shape `(H, W, 2L)`. x and y components of the field of every limb (see `limb_fields`),
            unit vectors from the limb's first joint to its second.
        skeleton: `Skeleton`. What the K joints are.
        limbs: sequence of (int, int), or None. The joints of each of the L limbs; None: the first L of the skeleton's.
        max_people: int. At most so many people, and peaks per joint; of more people, those with the best scores.
        threshold: float. Peaks at or below it are no joints.
        paf_threshold: float. What a field must reach along a limb, both as a mean and at most of the points.
        min_joints: int. People with fewer joints are left out.
        search_missing: bool. Whether a joint of which no peak belongs to a person is put where its heatmap is highest
            around them; its score there is at most `threshold`, for it is a guess. The person's score stays.
        image_size: (width, height) or None. Passed on to the result.

    Returns:
        `Poses`, best first, in pixels of the maps. A person's score is the mean of the K joints' peak values.

    Raises:
        ValueError: if shapes do not fit or values are not finite.

    References:
        - [OpenPose](https://arxiv.org/abs/1812.08008)

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import decode, skeletons
        >>> heatmaps, fields = np.zeros((24, 32, 16)), np.zeros((24, 32, 4))
        >>> heatmaps[4, 8, 0] = heatmaps[12, 8, 1] = heatmaps[12, 20, 2] = 0.9
        >>> fields[:, 8, 1] = 1.0  # head_top to upper_neck: downwards
        >>> fields[12, :, 2] = 1.0  # upper_neck to right_shoulder
        >>> decode.pafs(heatmaps, fields)[0].joint("right_shoulder")[:2]
        (20.5, 12.5)
    """
    heatmaps = checked_maps(heatmaps, "heatmaps", "HWK", skeleton.num_joints)
    fields = limb_fields(checked_maps(pafs, "pafs", "HWC"))
    if fields.shape[:2] != heatmaps.shape[:2]:
        raise ValueError(f"`heatmaps` and `pafs` must be of one size. Received: {heatmaps.shape} and {np.shape(pafs)}")
    limbs = tuple(skeleton.limbs[: fields.shape[2]] if limbs is None else limbs)
    if len(limbs) != fields.shape[2]:
        raise ValueError(f"There must be one field per limb. Received: {fields.shape[2]} fields, {len(limbs)} limbs")

    peaks = find_peaks(heatmaps, max_people, threshold, NMS_KERNEL, first_of_equals=True)
    xy = np.stack([peaks.columns, peaks.rows], axis=-1) + np.float32(0.5)
    xy += parabola_shift(heatmaps, peaks.rows, peaks.columns, peaks.joints)
    connections = [
        connection
        for number, limb in enumerate(limbs)
        for connection in _connect(peaks, xy, limb, fields[:, :, number], paf_threshold)
    ]
    people = [members for members in _assemble(peaks, connections) if len(members) >= min_joints]
    loose = np.flatnonzero(~np.isin(peaks.joints, limbs))
    _attach(loose, people, peaks, xy)
    keypoints = np.zeros((len(people), skeleton.num_joints, 3), np.float32)
    for person, members in zip(keypoints, people, strict=True):
        person[peaks.joints[members]] = np.column_stack([xy[members], peaks.scores[members]])
    scores = keypoints[..., 2].mean(axis=1)
    best = np.argsort(-scores, kind="stable")[:max_people]
    keypoints, scores = keypoints[best], scores[best]
    if search_missing:
        for person in keypoints:
            _search_missing(person, heatmaps, threshold)
    return Poses(keypoints, scores, skeleton, image_size)


def limb_fields(pafs: np.ndarray) -> np.ndarray:
    """The channels of part affinity maps by limb: `(H, W, 2L)` to `(H, W, L, 2)`, x then y.

    This is the one place that knows the order of the channels: x of the first limb, its y, x of the second, ...
    """
    height, width, channels = pafs.shape
    if channels % 2:
        raise ValueError(f"`pafs` must have two channels per limb. Received: {channels} channels")
    return pafs.reshape(height, width, channels // 2, 2)


def _connect(
    peaks: Peaks, xy: np.ndarray, limb: tuple[int, int], field: np.ndarray, threshold: float
) -> list[Connection]:
    """Pairs of peaks along one limb, the strongest first, each peak in one pair only."""
    starts, ends = (np.arange(len(peaks))[peaks.of(joint)] for joint in limb)
    values = _along(xy[starts][:, None], xy[ends][None], field)
    strength = values.mean(axis=-1)
    valid = (strength > threshold) & ((values > threshold).mean(axis=-1) >= SHARE_ALONG)
    connections = []
    for flat in np.argsort(-strength, axis=None, kind="stable"):
        start, end = np.unravel_index(flat, strength.shape)
        if valid[start, end]:
            connections.append(Connection(float(strength[start, end]), int(starts[start]), int(ends[end])))
            valid[start, :] = valid[:, end] = False
    return connections


def _along(start: np.ndarray, end: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The field's component along the lines from start to end, at `SAMPLES` points. Shape `(A, B, SAMPLES)`."""
    height, width, _ = field.shape
    difference = end - start
    direction = difference / np.maximum(np.linalg.norm(difference, axis=-1, keepdims=True), 1e-6)
    points = start[..., None, :] + difference[..., None, :] * np.linspace(0, 1, SAMPLES)[:, None]
    column, row = (np.clip(points[..., axis].astype(int), 0, size - 1) for axis, size in enumerate((width, height)))
    return np.einsum("absc,abc->abs", field[row, column], direction)


def _assemble(peaks: Peaks, connections: list[Connection]) -> list[list[int]]:
    """People as lists of peaks: connections join them, the strongest first, unless a joint would occur twice."""
    people: dict[int, list[int]] = {}
    for connection in sorted(connections, key=lambda connection: -connection.score):
        one = people.get(connection.start, [connection.start])
        other = people.get(connection.end, [connection.end])
        if not set(peaks.joints[one]) & set(peaks.joints[other]):
            merged = one + other
            people.update(dict.fromkeys(merged, merged))
    return list({id(members): members for members in people.values()}.values())


def _attach(loose: np.ndarray, people: list[list[int]], peaks: Peaks, xy: np.ndarray) -> None:
    """Adds peaks of joints without limbs to people: the nearest to a person's middle first, if within its bounds."""
    if not people or len(loose) == 0:
        return
    low, middle, high = (
        np.array([reduce(xy[members], axis=0) for members in people]) for reduce in (np.min, np.mean, np.max)
    )
    distance = np.linalg.norm(xy[loose][:, None] - middle, axis=-1)
    within = np.all((xy[loose][:, None] >= low) & (xy[loose][:, None] <= high), axis=-1)
    taken: set[int] = set()
    for flat in np.argsort(distance, axis=None, kind="stable"):
        number, person = np.unravel_index(flat, distance.shape)
        peak = int(loose[number])
        if within[number, person] and peak not in taken and peaks.joints[peak] not in peaks.joints[people[person]]:
            people[person].append(peak)
            taken.add(peak)


def _search_missing(person: np.ndarray, heatmaps: np.ndarray, highest_score: float) -> None:
    """Puts joints that a person `(K, 3)` lacks where their heatmaps are highest in and around the box of the others."""
    missing = np.flatnonzero(person[:, 2] == 0)
    if not len(missing):
        return
    found = person[person[:, 2] > 0, :2]
    low, high = found.min(axis=0), found.max(axis=0)
    margin = SEARCH_MARGIN * (high - low).max()
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = (high + margin).astype(int) + 1
    around = heatmaps[top:bottom, left:right, missing]
    row, column = np.divmod(around.reshape(-1, len(missing)).argmax(axis=0), around.shape[1])
    row, column = row + top, column + left
    scores = heatmaps[row, column, missing]
    xy = np.stack([column, row], axis=-1) + np.float32(0.5) + parabola_shift(heatmaps, row, column, missing)
    there = scores > 0
    person[missing[there]] = np.column_stack([xy, np.minimum(scores, highest_score)])[there]
