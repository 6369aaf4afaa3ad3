"""Sums over all pairs of rows, of a function of their distance: the typed face of the C core."""

import os

import numpy as np

from modyn import _core
from modyn.drift.windows import Floats, Window

__all__ = ["gaussian_sum", "norm_sum", "pair_squares"]

_GAUSSIAN, _NORM = 0, 1  # mdn_pair_kernel


def gaussian_sum(
    rows: Window, others: Window | None, gamma: float, *, threads: int | None = None
) -> float:
    """Return the sum of exp(-gamma * squared distance) over all pairs of a row and another.

    Sums are float64, in an order of their own: the bits depend neither on the number of threads
    nor on the machine.  Memory is some 2 MiB for each thread.

    Parameters
    ----------
    rows, others : float32 or float64, shapes (n, d) and (m, d), finite
        Without others: over all ordered pairs of different rows.
    gamma : float
        At least 0.
    threads : int or None
        At most that many; None: as many as the process may use.

    Examples
    --------
    >>> round(gaussian_sum(np.array([[0.0], [1.0]]), None, 1.0), 6)
    0.735759
    """
    return _core.kernelsum(rows, others, _GAUSSIAN, gamma, _threads(threads))


def norm_sum(rows: Window, others: Window | None, *, threads: int | None = None) -> float:
    """Return the sum of the Euclidean distances over all pairs, as `gaussian_sum` does.

    Examples
    --------
    >>> norm_sum(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    6.0
    """
    return _core.kernelsum(rows, others, _NORM, 0.0, _threads(threads))


def pair_squares(rows: Window, *, threads: int | None = None) -> Floats:
    """Return the squared distances of the pairs (0, 1), (0, 2), ..., (1, 2), ... of rows.

    Examples
    --------
    >>> pair_squares(np.array([[0.0], [1.0], [3.0]]))
    array([1., 9., 4.])
    """
    squares = np.empty(len(rows) * (len(rows) - 1) // 2)
    _core.pair_squares(rows, squares, _threads(threads))
    return squares


def _threads(threads: int | None) -> int:
    return len(os.sched_getaffinity(0)) if threads is None else threads
