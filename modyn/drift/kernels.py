"""Sums over pairs of rows, a block at a time."""

from typing import Literal

import numpy as np

from modyn.drift.windows import Floats, Window, mean

__all__ = ["gaussian_sum", "norm_sum", "pair_squares"]

BLOCK = 1024  # rows


def gaussian_sum(rows: Window, others: Window | None, gamma: float) -> float:
    """Return the sum of exp(-gamma * squared distance) over all pairs.

    Without others, of different rows.

    Parameters
    ----------
    rows, others : float32 or float64, shapes (n, d) and (m, d)
        Of the same dtype.
    gamma : float
        At least 0.
    """
    return _pair_sum("gaussian", rows, others, gamma)


def norm_sum(rows: Window, others: Window | None) -> float:
    """Return the sum of the Euclidean distances over all pairs."""
    return _pair_sum("norm", rows, others, 0.0)


def pair_squares(rows: Window) -> Floats:
    """Return the squared distances of all n (n - 1) / 2 pairs of different rows."""
    at = np.triu_indices(len(rows), 1)
    return _squares(rows, rows, mean(rows))[at]


def _pair_sum(
    kernel: Literal["gaussian", "norm"], rows: Window, others: Window | None, gamma: float
) -> float:
    center, total = mean(rows), 0.0
    columns = rows if others is None else others
    for first in range(0, len(rows), BLOCK):
        for start in range(0, len(columns), BLOCK):
            squares = _squares(rows[first : first + BLOCK], columns[start : start + BLOCK], center)
            values = np.exp(-gamma * squares) if kernel == "gaussian" else np.sqrt(squares)
            if others is None and first == start:
                np.fill_diagonal(values, 0.0)
            total += float(values.sum())
    return total


def _squares(rows: Window, others: Window, center: Floats) -> Floats:
    one, two = rows - center, others - center
    squares: Floats = np.sum(one * one, axis=1)[:, np.newaxis] + np.sum(two * two, axis=1)
    squares -= 2 * (one @ two.T)
    np.maximum(squares, 0.0, out=squares)
    return squares
