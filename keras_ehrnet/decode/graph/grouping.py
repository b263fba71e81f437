"""Peaks to people in a TensorFlow graph: the twin of `keras_ehrnet.decode.associative`, one tag per pixel.

K joints, P peaks per joint and as many people at most, N = P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_ehrnet.decode.graph.assignment import assign
from keras_ehrnet.decode.graph.maxima import Peaks, by_joint, max_pool
from keras_ehrnet.decode.graph.sides import Side, sides, smaller

SIDE = 8  # pixels of the tag maps to a side of a block
BLOCKS = 16  # searched at once, for each of
AT_ONCE = 16  # missing joints
_FAR = 1e9
_UNIT = 2.0**-15  # of costs, which are whole numbers
_FARTHEST = 64.0


@dataclass(frozen=True)
class People:
    """The people with the best scores, best first; after the last, scores of 0.

    Args:
        peaks: int32 tensor of shape `(N, K)`. Which of its joint's peaks each joint is, from 1; 0: missing.
        scores: float32 tensor of shape `(N,)`. Mean of the K peaks.
        tags: float32 tensor of shape `(N,)`. Mean of the tags.
    """

    peaks: tf.Tensor
    scores: tf.Tensor
    tags: tf.Tensor


def of_people(table: tf.Tensor, people: tf.Tensor) -> tf.Tensor:
    """The rows of a table of peaks, `(K, P)`, as people have them: `(N, K)`; 0 where a joint is missing."""
    joints, count = table.shape
    flat = tf.reshape(tf.pad(table, ((0, 0), (1, 0))), (-1,))
    return tf.gather(flat, people + np.arange(joints, dtype=np.int32) * (count + 1))


def group(peaks: Peaks, tags: tf.Tensor, order: Sequence[int], tag_threshold: float) -> People:
    """Groups peaks into people joint by joint, as `keras_ehrnet.decode.grouping.match` does, and keeps the best.

    Args:
        peaks: `Peaks`, P per joint.
        tags: float32 tensor of shape `(K, P)`. The tag of each peak.
        order: sequence of int. The order of the joints.
        tag_threshold: float. Largest distance, excluded, between a joint's tag and a person's mean tag.

    Returns:
        `People`.
    """
    joints, count = tags.shape
    number = np.arange(count, dtype=np.int32)
    scores_in_order, tags_in_order = tf.gather(peaks.scores, order), tf.gather(tags, order)

    def joined(
        step: tf.Tensor, known: tf.Tensor, totals: tf.Tensor, sizes: tf.Tensor, members: tf.Tensor, alone: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        score, tag = tf.gather(scores_in_order, step), tf.gather(tags_in_order, step)
        is_peak = score > 0
        distance = tf.abs(tag[:, None] - totals / tf.maximum(sizes, 1.0))
        pairs = assign(
            _cost(distance, score),
            tf.reduce_sum(tf.cast(is_peak, tf.int32)),
            tf.minimum(known, count),
        )
        pairs &= distance < tag_threshold
        new = tf.cast(is_peak & ~tf.reduce_any(pairs, axis=1), tf.int32)
        person = tf.where(new > 0, known + tf.cumsum(new, exclusive=True), -1)
        pairs |= person[:, None] == number
        here = tf.constant(np.arange(joints, dtype=np.int32)[:, None]) == step
        return (
            step + 1,
            known + tf.reduce_sum(new),
            totals + tf.reduce_sum(tf.where(pairs, tag[:, None], 0.0), axis=0),
            sizes + tf.reduce_sum(tf.cast(pairs, tf.float32), axis=0),
            tf.where(here, tf.reduce_max(tf.where(pairs, number[:, None] + 1, 0), axis=0), members),
            tf.where(here, tf.where(person >= count, score, 0.0), alone),
        )

    nothing = tf.zeros((count,)), tf.zeros((count,)), tf.zeros((joints, count), tf.int32), tf.zeros((joints, count))
    *_, members, alone = tf.while_loop(
        lambda step, *_: step < joints, joined, (tf.constant(0), tf.constant(0), *nothing)
    )
    return _best(members, alone, peaks, tags, order)


def _cost(distance: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """round(distance) * 100 - score in units of `_UNIT`; far is far, however far."""
    far = tf.cast(tf.round(tf.minimum(distance, _FARTHEST)), tf.int32)
    return far * int(100 / _UNIT) - tf.cast(tf.round(score / _UNIT), tf.int32)[:, None]


def _best(members: tf.Tensor, alone: tf.Tensor, peaks: Peaks, tags: tf.Tensor, order: Sequence[int]) -> People:
    """The best of the people who gathered joints, and of the peaks that came when there were enough people."""
    joints, count = alone.shape
    members = tf.transpose(tf.gather(members, np.argsort(order).astype(np.int32)))
    single = np.zeros((joints, count, joints), np.int32)
    single[np.arange(joints), :, order] = np.arange(count) + 1
    totals = tf.reduce_sum(of_people(peaks.scores, members), axis=1)
    totals, best = tf.math.top_k(tf.concat([totals, tf.reshape(alone, (-1,))], axis=0), count)
    members = tf.gather(tf.concat([members, single.reshape(-1, joints)], axis=0), best)
    members = tf.where((totals > 0)[:, None], members, 0)
    sizes = tf.reduce_sum(tf.cast(members > 0, tf.float32), axis=1)
    means = tf.reduce_sum(of_people(tags, members), axis=1) / tf.maximum(sizes, 1.0)
    return People(members, totals / joints, means)


def search_missing(heatmaps: tf.Tensor, tags: tf.Tensor, means: tf.Tensor, missing: tf.Tensor) -> tf.Tensor:
    """For missing joints of people the pixel where heatmap - round(distance to the person's mean tag) is highest.

    Branch and bound, as in `keras_ehrnet.decode.grouping`: the highest value of a block of pixels and its range of
    tags bound what any of its pixels can reach. Blocks are searched from the most promising on, until none promises
    more than was found.

    Args:
        heatmaps: float32 tensor of shape `(1, H, W, K)`. The highest value for every pixel of the tags.
        tags: float32 tensor of shape `(1, H, W, K)`.
        means: float32 tensor of shape `(N,)`. Mean tags of people.
        missing: bool tensor of shape `(N, K)`. The joints to search for.

    Returns:
        Int32 tensor of shape `(N, K)`: row * W + column; of no meaning for other joints.
    """
    blocks = _Blocks.of(heatmaps, tags)
    questions = math.prod(missing.shape)
    wanted = tf.cast(tf.reshape(missing, (-1,)), tf.int32)
    _, first = tf.math.top_k(wanted, questions)
    first = tf.pad(first, ((0, -questions % AT_ONCE),))
    count = tf.reduce_sum(wanted)

    def answered(start: tf.Tensor, answers: tf.Tensor) -> tuple[tf.Tensor, ...]:
        turn = start + np.arange(AT_ONCE, dtype=np.int32)
        question = tf.gather(first, turn)
        person, joint = question // missing.shape[1], question % missing.shape[1]
        found = blocks.best_pixels(joint, tf.gather(means, person), turn < count)
        here = tf.constant(np.arange(0, first.shape[0], AT_ONCE, dtype=np.int32)[:, None]) == start
        return start + AT_ONCE, tf.where(here, found, answers)

    nothing = tf.zeros((first.shape[0] // AT_ONCE, AT_ONCE), tf.int32)
    _, answers = tf.while_loop(lambda start, _: start < count, answered, (tf.constant(0), nothing))
    turn = tf.cumsum(wanted, exclusive=True)
    return tf.reshape(tf.gather(tf.reshape(answers, (-1,)), turn), missing.shape)


@dataclass(frozen=True)
class _Blocks:
    """Maps of which square blocks of pixels lie side by side. Numbered by joint, then row by row; B per joint."""

    side: int
    across: Side
    heights: tf.Tensor  # (K * B, side * side)
    tags: tf.Tensor  # (K * B, side * side)
    highest: tf.Tensor  # (K, B)
    tag_range: tuple[tf.Tensor, tf.Tensor]  # (K, B), (K, B)

    @classmethod
    def of(cls, heatmaps: tf.Tensor, tags: tf.Tensor) -> _Blocks:
        _, height, width, _ = sides(heatmaps)
        # Sides of which nothing is known are multiples of it.
        side = math.gcd(SIDE, *(known for known in (height, width) if isinstance(known, int)))
        low, high = -by_joint(max_pool(-tags, side, side)), by_joint(max_pool(tags, side, side))
        highest = by_joint(max_pool(heatmaps, side, side))
        return cls(side, width // side, _blocked(heatmaps, side), _blocked(tags, side), highest, (low, high))

    def best_pixels(self, joint: tf.Tensor, mean: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        """The best pixels, row * W + column, for pairs of a joint and a mean tag. All of shape `(Q,)`."""
        mean, count, area = mean[:, None], sides(self.highest)[1], self.side**2
        at_once = smaller(BLOCKS, count)
        low, high = (tf.gather(table, joint) for table in self.tag_range)
        reach = tf.gather(self.highest, joint) - tf.round(tf.maximum(tf.maximum(low - mean, mean - high), 0.0))
        reach, order = tf.math.top_k(reach, count)

        def open_questions(start: tf.Tensor, best: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            promise = tf.gather(reach, tf.minimum(start, count - 1), axis=1)
            return (start < count) & tf.reduce_any(promise > best)

        def searched(start: tf.Tensor, best: tf.Tensor, pixel: tf.Tensor) -> tuple[tf.Tensor, ...]:
            block = tf.slice(order, (0, tf.minimum(start, count - at_once)), (order.shape[0], at_once))
            row = joint[:, None] * count + block
            penalty = tf.round(tf.abs(tf.gather(self.tags, row) - mean[..., None]))
            agreement = tf.reshape(tf.gather(self.heights, row) - penalty, (order.shape[0], -1))
            place = tf.argmax(agreement, axis=1, output_type=tf.int32)
            value = tf.reduce_max(agreement, axis=1)
            block = tf.gather(block, place // area, batch_dims=1)
            return (
                start + at_once,
                tf.maximum(best, value),
                tf.where(value > best, block * area + place % area, pixel),
            )

        nothing = tf.where(wanted, -_FAR, _FAR), tf.zeros_like(joint)
        *_, pixel = tf.while_loop(open_questions, searched, (tf.constant(0), *nothing))
        block, within = pixel // area, pixel % area
        row = block // self.across * self.side + within // self.side
        return row * self.across * self.side + block % self.across * self.side + within % self.side


def _blocked(maps: tf.Tensor, side: int) -> tf.Tensor:
    """`(1, H, W, K)` as `(K * blocks, side * side)`."""
    _, height, width, joints = sides(maps)
    split = tf.reshape(maps, (height // side, side, width // side, side, joints))
    return tf.reshape(tf.transpose(split, (4, 0, 2, 1, 3)), (-1, side**2))
