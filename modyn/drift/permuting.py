"""Sums over pairs for many permutations at once: every kernel value is computed once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modyn.drift.windows import Floats, Window, mean, permutation

__all__ = ["Sums", "permuted_sums"]

BLOCK = 1024  # rows


@dataclass(frozen=True, eq=False)
class Sums:
    """Of a kernel, over pairs of different rows of a window, and over pairs across both."""

    within_reference: float | Floats
    within_current: float | Floats
    across: float | Floats


def permuted_sums(
    reference: Window,
    current: Window,
    kernel: Callable[[Floats], Floats],
    count: int,
    seed: int,
) -> Sums:
    """Return the sums of `count` permutations of both windows, each of shape (count,).

    With z the 0-1 vector of the rows that a permutation deals to the reference and K the matrix
    of all kernel values, its diagonal 0, the sums are z'Kz, z'K(1 - z) and (1 - z)'K(1 - z); and
    Kz, for all z, is a product of K, which is there a block at a time.

    Parameters
    ----------
    kernel : callable
        The values for squared distances.
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
        row_sums, products = np.zeros(len(rows)), np.zeros((len(rows), count))
        for start in range(0, n + m, BLOCK):
            values = kernel(_squares(rows, _rows(reference, current, start) - center))
            if first == start:
                np.fill_diagonal(values, 0.0)
            row_sums += values.sum(axis=1)
            products += values @ dealt[start : start + BLOCK].astype(np.float64)
        inside += np.einsum("ij,ij->j", chosen, products)
        of_reference += row_sums @ chosen
        total += float(row_sums.sum())
    across = of_reference - inside
    return Sums(inside, total - of_reference - across, across)


def _rows(reference: Window, current: Window, first: int) -> Window:
    """Rows first to first + BLOCK of both windows, one after the other."""
    n = len(reference)
    return np.concatenate(
        [reference[first : first + BLOCK], current[max(0, first - n) : max(0, first + BLOCK - n)]]
    )


def _squares(rows: Floats, others: Floats) -> Floats:
    squares: Floats = np.sum(rows * rows, axis=1)[:, np.newaxis] + np.sum(others * others, axis=1)
    squares -= 2 * (rows @ others.T)
    np.maximum(squares, 0.0, out=squares)
    return squares
