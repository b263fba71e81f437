"""Optimal assignment: which row gets which column at the least total cost."""

from __future__ import annotations

import numpy as np


def assign(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs rows with columns, each in one pair at most, so that the pairs' costs add up to the least.

    SciPy's solver where it is installed, else `assign_without_scipy`, which gives the same pairs.

    Args:
        costs: float array of shape `(R, C)`, finite.

    Returns:
        Rows and columns of the min(R, C) pairs, by rising row.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.decode.assignment import assign
        >>> rows, columns = assign(np.array([[1.0, 2.0], [1.0, 5.0]]))
        >>> rows, columns
        (array([0, 1]), array([1, 0]))
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        return assign_without_scipy(costs)
    return linear_sum_assignment(costs)


def assign_without_scipy(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`assign` in NumPy alone: successive shortest augmenting paths.

    Of equally good assignments it takes the one that SciPy takes: a device must find the people that a server finds.
    """
    costs = np.asarray(costs, np.float64)
    if costs.shape[0] > costs.shape[1]:
        columns, rows = assign_without_scipy(costs.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    rows, columns = costs.shape
    row_prices, column_prices = np.zeros(rows), np.zeros(columns)
    owners, taken = np.full(columns, -1), np.full(rows, -1)  # the row of every column, the column of every row
    for row in range(rows):
        distance, previous, seen = _shortest_path(row, costs, row_prices, column_prices, owners)
        *passed, reached = seen
        length = distance[reached]
        row_prices[row] += length
        row_prices[owners[passed]] += length - distance[passed]
        column_prices[seen] -= length - distance[seen]
        _augment(reached, row, previous, owners, taken)
    return np.arange(rows), taken


def _shortest_path(
    row: int, costs: np.ndarray, row_prices: np.ndarray, column_prices: np.ndarray, owners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """From a row to the nearest free column, changing rows wherever a column has an owner.

    Returns:
        Distance of every column, the row before every column, and the columns passed; the last of them is free.
    """
    distance, previous = np.full(costs.shape[1], np.inf), np.full(costs.shape[1], -1)
    # The order in which columns are looked at decides between equals.
    remaining = np.arange(costs.shape[1])[::-1].copy()
    seen: list[int] = []
    length, current = 0.0, row
    while current >= 0:
        step = length + costs[current, remaining] - row_prices[current] - column_prices[remaining]
        shorter = step < distance[remaining]
        previous[remaining[shorter]] = current
        distance[remaining[shorter]] = step[shorter]
        position = _nearest(distance[remaining], owners[remaining])
        seen.append(int(remaining[position]))
        remaining[position] = remaining[-1]
        remaining = remaining[:-1]
        length, current = distance[seen[-1]], int(owners[seen[-1]])
    return distance, previous, seen


def _nearest(distance: np.ndarray, owners: np.ndarray) -> int:
    """Position of the nearest column: of equals the last that is free, else the first."""
    nearest = np.flatnonzero(distance == distance.min())
    free = nearest[owners[nearest] < 0]
    return int(free[-1] if len(free) else nearest[0])


def _augment(column: int, row: int, previous: np.ndarray, owners: np.ndarray, taken: np.ndarray) -> None:
    """Gives the columns along the path that ends in `column` to the rows before them."""
    while True:
        owner = int(previous[column])
        owners[column] = owner
        column, taken[owner] = int(taken[owner]), column
        if owner == row:
            return
