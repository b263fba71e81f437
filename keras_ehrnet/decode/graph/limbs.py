"""Part affinity fields in a TensorFlow graph: the twin of `keras_ehrnet.decode.paf`.

K joints, P peaks per joint, L limbs. A peak is numbered joint * P + rank, over all joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_ehrnet.decode.graph.grouping import of_people
from keras_ehrnet.decode.graph.maxima import Peaks, by_joint
from keras_ehrnet.decode.graph.sides import Side, every_pixel, real, sides
from keras_ehrnet.decode.paf import SAMPLES, SEARCH_MARGIN, SHARE_ALONG

_NEVER = -1.0
"""Below every strength and every affinity that counts."""


def people(
    peaks: Peaks,
    x: tf.Tensor,
    y: tf.Tensor,
    fields: tf.Tensor,
    limbs: Sequence[tuple[int, int]],
    max_people: int,
    paf_threshold: float,
    min_joints: int,
) -> tf.Tensor:
    """Puts peaks together along limbs, as `keras_ehrnet.decode.pafs` does.

    Args:
        peaks: `Peaks`, P per joint.
        x: float32 tensor of shape `(K, P)`. In pixels of the fields.
        y: float32 tensor of shape `(K, P)`.
        fields: float32 tensor of shape `(1, H, W, 2L)`, see `decode.paf.limb_fields`.
        limbs: sequence of (int, int). The joints of each limb.
        max_people: int. At most so many people, N.
        paf_threshold: float. What a field must reach along a limb, both as a mean and at most of the points.
        min_joints: int. People with fewer joints are left out.

    Returns:
        Int32 tensor of shape `(N, K)`, best first: which of its joint's peaks each joint is, from 1; 0: missing.
    """
    joints, count = peaks.scores.shape
    first, second = (np.array([limb[end] for limb in limbs], np.int32) for end in (0, 1))
    strength = _strengths(peaks, x, y, fields, first, second, paf_threshold)
    starts, ends, scores = _matched(strength, count)
    owner = _assembled(first[:, None] * count + starts, second[:, None] * count + ends, scores, joints, count)
    members = _best(owner, peaks.scores, max_people, min_joints)
    loose = np.setdiff1d(np.arange(joints), np.array(limbs).ravel()).astype(np.int32)
    return _with_loose(members, loose, peaks, x, y) if len(loose) else members


def _strengths(
    peaks: Peaks,
    x: tf.Tensor,
    y: tf.Tensor,
    fields: tf.Tensor,
    first: np.ndarray,
    second: np.ndarray,
    threshold: float,
) -> tf.Tensor:
    """Mean of the field along the lines between the peaks of each limb; `_NEVER` for no limb. Shape `(L, P, P)`."""
    _, height, width, channels = sides(fields)
    dx, dy = (tf.gather(axis, second)[:, None, :] - tf.gather(axis, first)[:, :, None] for axis in (x, y))
    length = tf.maximum(tf.sqrt(dx * dx + dy * dy), 1e-6)
    part = np.linspace(0, 1, SAMPLES, dtype=np.float32)

    def pixels(start: tf.Tensor, difference: tf.Tensor, size: Side) -> tf.Tensor:
        place = tf.gather(start, first)[:, :, None, None] + difference[..., None] * part
        return tf.clip_by_value(tf.cast(place, tf.int32), 0, size - 1)

    limb = np.arange(len(first), dtype=np.int32)[:, None, None, None] * 2
    place = (pixels(y, dy, height) * width + pixels(x, dx, width)) * channels + limb
    flat = tf.reshape(fields, (-1,))
    along = tf.gather(flat, place) * (dx / length)[..., None] + tf.gather(flat, place + 1) * (dy / length)[..., None]
    strength = tf.reduce_mean(along, axis=-1)
    share = tf.reduce_mean(tf.cast(along > threshold, tf.float32), axis=-1)
    there = peaks.scores > 0
    both = tf.gather(there, first)[:, :, None] & tf.gather(there, second)[:, None, :]
    # Half a sample less: shares are sums of tenths, rounded.
    return tf.where(both & (strength > threshold) & (share > SHARE_ALONG - 0.5 / SAMPLES), strength, _NEVER)


def _matched(affinity: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Pairs of a row and a column of each of several tables, the highest value first, each in one pair only.

    Args:
        affinity: float32 tensor of shape `(T, R, C)`; values below 0 are no pairs.
        most: int. So many pairs per table are asked for, M.

    Returns:
        Row, column (int32) and value of the pairs, each `(T, M)`; the value is `_NEVER` where there are no more.
    """
    tables, rows, columns = affinity.shape
    row_numbers = np.arange(rows, dtype=np.int32)[:, None]
    column_numbers = np.arange(columns, dtype=np.int32)
    turns = np.arange(most, dtype=np.int32)

    def taken(turn: tf.Tensor, left: tf.Tensor, places: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, ...]:
        flat = tf.reshape(left, (tables, -1))
        place, value = tf.argmax(flat, axis=1, output_type=tf.int32)[:, None], tf.reduce_max(flat, axis=1)[:, None]
        now = tf.constant(turns) == turn
        used = (row_numbers == (place // columns)[..., None]) | (column_numbers == (place % columns)[..., None])
        return turn + 1, tf.where(used, _NEVER, left), tf.where(now, place, places), tf.where(now, value, values)

    nothing = tf.zeros((tables, most), tf.int32), tf.fill((tables, most), _NEVER)
    _, _, places, values = tf.while_loop(
        lambda turn, left, *_: (turn < most) & (tf.reduce_max(left) >= 0), taken, (tf.constant(0), affinity, *nothing)
    )
    return places // columns, places % columns, tf.where(values >= 0, values, _NEVER)


def _assembled(starts: tf.Tensor, ends: tf.Tensor, scores: tf.Tensor, joints: int, count: int) -> tf.Tensor:
    """Joins peaks into people, the strongest connections first, unless a joint would occur twice.

    Returns:
        Int32 tensor of shape `(K * P,)`: for every peak the number of the peak that stands for its person.
    """
    total = joints * count
    number = np.arange(total, dtype=np.int32)
    own_joint = (np.arange(joints) == (number // count)[:, None]).astype(np.float32)
    scores, order = tf.math.top_k(tf.reshape(scores, (-1,)), starts.shape[0] * starts.shape[1])
    starts, ends = (tf.gather(tf.reshape(peak, (-1,)), order) for peak in (starts, ends))
    connections = tf.reduce_sum(tf.cast(scores >= 0, tf.int32))

    def joined(turn: tf.Tensor, owner: tf.Tensor, has: tf.Tensor) -> tuple[tf.Tensor, ...]:
        one, other = tf.gather(owner, tf.gather(starts, turn)), tf.gather(owner, tf.gather(ends, turn))
        ours, theirs = tf.gather(has, one), tf.gather(has, other)
        apart = tf.reduce_max(ours * theirs) < 0.5
        owner = tf.where((owner == other) & apart, one, owner)
        return turn + 1, owner, tf.where((number[:, None] == one) & apart, ours + theirs, has)

    _, owner, _ = tf.while_loop(
        lambda turn, *_: turn < connections, joined, (tf.constant(0), tf.constant(number), tf.constant(own_joint))
    )
    return owner


def _best(owner: tf.Tensor, scores: tf.Tensor, max_people: int, min_joints: int) -> tf.Tensor:
    """The people with the best scores, who have joints enough, as `people` returns them."""
    joints, count = scores.shape
    total = joints * count
    found = tf.reshape(scores, (-1,))
    belongs = tf.constant(np.arange(total, dtype=np.int32)[:, None]) == owner
    sizes = tf.reduce_sum(tf.cast(belongs & (found > 0), tf.float32), axis=1)
    sums = tf.reduce_sum(tf.where(belongs, found, 0.0), axis=1)
    sums, person = tf.math.top_k(tf.where(sizes >= min_joints, sums, _NEVER), max_people)
    theirs = (tf.reshape(owner, (joints, count)) == person[:, None, None]) & (sums > 0)[:, None, None]
    rank = np.arange(1, count + 1, dtype=np.int32)
    return tf.reduce_max(tf.where(theirs & (scores > 0), rank, 0), axis=2)


def _with_loose(members: tf.Tensor, loose: np.ndarray, peaks: Peaks, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Adds joints that no limb reaches: the nearest to a person's middle first, if within its bounds."""
    joints, count = peaks.scores.shape
    here = members > 0
    size = tf.maximum(tf.reduce_sum(tf.cast(here, tf.float32), axis=1), 1.0)
    within, squared = (tf.gather(peaks.scores, loose) > 0)[..., None] & tf.reduce_any(here, axis=1), 0.0
    for axis in (x, y):
        own = of_people(axis, members)
        low, high = (
            tf.reduce_min(tf.where(here, own, 1e9), axis=1),
            tf.reduce_max(tf.where(here, own, -1e9), axis=1),
        )
        place = tf.gather(axis, loose)[..., None]
        within &= (place >= low) & (place <= high)
        squared += (place - tf.reduce_sum(own, axis=1) / size) ** 2
    affinity = tf.where(within, 1 / (1 + squared), _NEVER)
    ranks, persons, values = _matched(affinity, min(count, members.shape[0]))
    mine = (np.arange(members.shape[0], dtype=np.int32)[:, None] == persons[:, None]) & (values >= 0)[:, None]
    added = tf.reduce_max(tf.where(mine, ranks[:, None] + 1, 0), axis=2)
    is_loose = (np.arange(joints) == loose[:, None]).astype(np.int32)
    return members + tf.reduce_sum(added[..., None] * is_loose[:, None], axis=0)


def highest_around(heatmaps: tf.Tensor, y: tf.Tensor, x: tf.Tensor, there: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the heatmaps are highest in and around the box of each person's joints.

    Args:
        heatmaps: float32 tensor of shape `(1, H, W, K)`.
        y: float32 tensor of shape `(N, K)`. In pixels of the heatmaps.
        x: float32 tensor of shape `(N, K)`.
        there: bool tensor of shape `(N, K)`. Which joints the people have.

    Returns:
        Row and column, int32 tensors of shape `(N, K)`; of no meaning for people without joints.
    """
    _, height, width, joints = sides(heatmaps)
    people = there.shape[0]
    bounds = [
        (tf.reduce_min(tf.where(there, axis, 1e9), axis=1), tf.reduce_max(tf.where(there, axis, 0.0), axis=1))
        for axis in (y, x)
    ]
    margin = SEARCH_MARGIN * tf.maximum(*(high - low for low, high in bounds))
    within = []
    for (low, high), size in zip(bounds, (height, width), strict=True):
        ends = (
            tf.cast(tf.clip_by_value(end, 0.0, real(size) - 1.0), tf.int32) for end in (low - margin, high + margin)
        )
        first, last = (end[:, None] for end in ends)
        pixel = every_pixel(size)
        within.append((pixel >= first) & (pixel <= last))
    maps = by_joint(heatmaps)
    turns = np.arange(people, dtype=np.int32)[:, None]

    def searched(turn: tf.Tensor, places: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows, columns = (tf.gather(axis, turn) for axis in within)
        around = tf.reshape(rows[:, None] & columns, (1, -1))
        place = tf.argmax(tf.where(around, maps, _NEVER), axis=1, output_type=tf.int32)
        return turn + 1, tf.where(tf.constant(turns) == turn, place, places)

    # People come first, rows of nobody last.
    count = tf.reduce_sum(tf.cast(tf.reduce_any(there, axis=1), tf.int32))
    nothing = tf.zeros((people, joints), tf.int32)
    _, places = tf.while_loop(lambda turn, _: turn < count, searched, (tf.constant(0), nothing))
    return places // width, places % width
