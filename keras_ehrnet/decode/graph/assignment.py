"""Optimal assignment in a TensorFlow graph: shortest augmenting paths, in loops that LiteRT runs by itself.

It takes the steps of SciPy's `linear_sum_assignment` in the same order, so that where several assignments are optimal
both take the same one. Costs are whole numbers because only without rounding do equal costs stay equal.

References:
    - Crouse, On implementing 2D rectangular assignment algorithms, 2016, doi 10.1109/TAES.2016.140952
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

_FAR = 2**29


class _Matching(NamedTuple):
    """What is matched so far, and the dual variables that prove it optimal. -1 stands for nobody."""

    row: tf.Tensor  # the next to match
    row_of: tf.Tensor  # (columns,)
    column_of: tf.Tensor  # (rows,)
    row_prices: tf.Tensor
    column_prices: tf.Tensor


class _Search(NamedTuple):
    """A search for the cheapest way from a row, over matched pairs, to a free column."""

    row: tf.Tensor  # that is left next; -1 once a free column is reached
    column: tf.Tensor  # that was reached last
    reached: tf.Tensor  # cost of getting there
    costs: tf.Tensor  # (columns,) of getting to each
    before: tf.Tensor  # (columns,): the row from which
    done: tf.Tensor  # (columns,)
    places: tf.Tensor  # (columns,): where the column stands, from 1, in the list of those to do
    left: tf.Tensor  # length of that list


def assign(cost: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The assignment of least total cost between the first so many rows and columns.

    Args:
        cost: int32 tensor of shape `(M, M)`. Not above 2**28.
        rows: int32 scalar. Number of rows in use.
        columns: int32 scalar. Number of columns in use.

    Returns:
        Bool tensor of shape `(M, M)`: true for pairs that belong together, `min(rows, columns)` of them.

    Example:
        >>> import tensorflow as tf
        >>> from keras_ehrnet.decode.graph.assignment import assign
        >>> cost = tf.constant([[1, 2, 9], [1, 5, 9], [9, 9, 9]])
        >>> assign(cost, 2, 2).numpy()[:2, :2].tolist()
        [[False, True], [True, False]]
    """
    number = np.arange(cost.shape[0], dtype=np.int32)
    lying = rows <= columns
    cost = tf.where(lying, cost, tf.transpose(cost))
    rows, columns = tf.minimum(rows, columns), tf.maximum(rows, columns)
    cost = tf.where(number < columns, cost, _FAR)
    matching = tf.while_loop(
        lambda *state: state[0] < rows,
        lambda *state: _augmented(cost, columns, _Matching(*state)),
        _undisputed(cost, rows),
    )
    pairs = matching.row_of == number[:, None]
    return tf.where(lying, pairs, tf.transpose(pairs))


def _undisputed(cost: tf.Tensor, rows: tf.Tensor) -> _Matching:
    """The first rows, up to one whose cheapest column is taken: as a rule, all of them."""
    number = np.arange(cost.shape[0], dtype=np.int32)
    cheapest = tf.argmin(cost, axis=1, output_type=tf.int32)
    wants = tf.cast(cheapest[:, None] == number, tf.int32)
    disputed = tf.reduce_max(wants * tf.cumsum(wants, exclusive=True), axis=1) > 0
    start = tf.reduce_min(tf.where(disputed, number, rows))
    row_of = tf.reduce_max(tf.where((wants > 0) & (number < start)[:, None], number[:, None], -1), axis=0)
    prices = tf.where(number < start, tf.reduce_min(cost, axis=1), 0)
    return _Matching(tf.minimum(start, rows), row_of, cheapest, prices, tf.zeros_like(prices))


def _augmented(cost: tf.Tensor, columns: tf.Tensor, matching: _Matching) -> _Matching:
    """One more row matched, along the cheapest path to a free column."""
    number = np.arange(cost.shape[0], dtype=np.int32)
    row, row_of, column_of, row_prices, column_prices = matching
    start = _Search(
        row=row,
        column=tf.constant(0),
        reached=tf.constant(0),
        costs=tf.fill(number.shape, 2 * _FAR),
        before=tf.fill(number.shape, -1),
        done=tf.fill(number.shape, False),
        places=columns - number,
        left=columns,
    )
    reduced = cost - row_prices[:, None] - column_prices
    free_first = tf.where(row_of < 0, 1, -1)
    found = tf.while_loop(
        lambda *state: state[0] >= 0,
        lambda *state: _searched(reduced, row_of, free_first, _Search(*state)),
        start,
    )
    saved = tf.where(found.done, found.reached - found.costs, 0)
    row_prices += tf.reduce_sum(tf.where(row_of == number[:, None], saved, 0), axis=1)
    row_prices += tf.where(number == row, found.reached, 0)

    def along_path(column: tf.Tensor, row_of: tf.Tensor, column_of: tf.Tensor) -> tuple[tf.Tensor, ...]:
        comes_from = tf.gather(found.before, column)
        onwards = tf.where(comes_from == row, -1, tf.gather(column_of, comes_from))
        row_of = tf.where(number == column, comes_from, row_of)
        return onwards, row_of, tf.where(number == comes_from, column, column_of)

    _, row_of, column_of = tf.while_loop(lambda column, *_: column >= 0, along_path, (found.column, row_of, column_of))
    return _Matching(row + 1, row_of, column_of, row_prices, column_prices - saved)


def _searched(reduced: tf.Tensor, row_of: tf.Tensor, free_first: tf.Tensor, search: _Search) -> _Search:
    """One more column reached: the nearest; of several a free one, then by the order of the list."""
    number = np.arange(reduced.shape[0], dtype=np.int32)
    here = search.reached + tf.gather(reduced, search.row)
    # Reduced costs are not negative, so that there is no cheaper way to a column that is done.
    before = tf.where(here < search.costs, search.row, search.before)
    costs = tf.minimum(search.costs, here)
    ahead = tf.where(search.done, 2 * _FAR, costs)
    reached = tf.reduce_min(ahead)
    preference = tf.where(ahead == reached, search.places * free_first, -number.size - 1)
    column = tf.argmax(preference, output_type=tf.int32)
    return _Search(
        row=tf.gather(row_of, column),
        column=column,
        reached=reached,
        costs=costs,
        before=before,
        done=search.done | (number == column),
        # The last of the list takes the place of the one that leaves it.
        places=tf.where(search.places == search.left, tf.gather(search.places, column), search.places),
        left=search.left - 1,
    )
