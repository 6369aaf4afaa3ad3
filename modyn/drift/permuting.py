"""Sums over pairs for many permutations at once: every kernel value is computed once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modyn.drift.windows import Floats, Window, mean, permutation

__all__ = ["Sums", "permuted_sums"]

BLOCK = 1024  # rows
ROUNDING = 1e-14  # of the squared lengths


@dataclass(frozen=True, eq=False)
class Sums:
    """Of a kernel, over pairs of different rows of a window, and over pairs across both."""

    within_reference: float | Floats
    within_current: float | Floats
    across: float | Floats


def permuted_sums(
    reference: Window,
    current: Window,
    kernel: Callable[[Floats], object],
    count: int,
    seed: int,
) -> Sums:
    """Return the sums of `count` permutations of both windows, each of shape (count,).

    With z the 0-1 vector of the rows that a permutation deals to the reference and K the matrix
    of all kernel values, its diagonal 0, the sums are z'Kz, z'K(1 - z) and (1 - z)'K(1 - z); and
    Kz, for all z, is a product with K, which is there a block at a time.

    Parameters
    ----------
    kernel : callable
        Puts its values in the place of squared distances.
    """
    n, m = len(reference), len(current)
    dealt = np.zeros((n + m, count), np.bool_)
    for index in range(count):
        dealt[permutation(n, m, seed=seed, index=index)[:n], index] = True
    inside, of_reference = np.zeros(count), np.zeros(count)
    total, center = 0.0, mean(reference)
    for first in range(0, n + m, BLOCK):
        rows = _rows(reference, current, first) - center
        chosen = dealt[first : first + BLOCK].astype(np.float64)
        for start in range(first, n + m, BLOCK):
            others = rows if start == first else _rows(reference, current, start) - center
            also = dealt[start : start + BLOCK].astype(np.float64)
            values = _squares(rows, others)
            kernel(values)
            if start == first:  # half of the pairs; the other blocks come once, for both sides
                np.fill_diagonal(values, 0.0)
                values /= 2
            inside += 2 * np.einsum("ij,ij->j", chosen, values @ also)
            of_reference += values.sum(axis=1) @ chosen + values.sum(axis=0) @ also
            total += 2 * float(values.sum())
    across = of_reference - inside
    return Sums(inside, total - of_reference - across, across)


def _rows(reference: Window, current: Window, first: int) -> Window:
    """Return rows first to first + BLOCK of both windows, one after the other."""
    n = len(reference)
    return np.concatenate(
        [reference[first : first + BLOCK], current[max(0, first - n) : max(0, first + BLOCK - n)]]
    )


def _squares(rows: Floats, others: Floats) -> Floats:
    """Return squared distances; of equal rows 0, whatever was rounded."""
    one, two = np.sum(rows * rows, axis=1), np.sum(others * others, axis=1)
    squares: Floats = one[:, np.newaxis] + two
    squares -= 2 * (rows @ others.T)
    squares[squares < ROUNDING * (one.max() + two.max())] = 0.0
    return squares
