"""Samples that differ from each other: graph cut, log determinant, D-optimal design."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.coresets.features import Features, features_of
from modyn.coresets.greedy import Greedy

__all__ = ["Greedily", "d_optimal", "graph_cut", "log_determinant"]

_WAYS = {"either": 0, "space": 1, "kernel": 2}  # mdn_volume_way


@dataclass(frozen=True, eq=False)
class Greedily:
    """The answer of a greedy method.

    Parameters
    ----------
    rows : uint64, shape (k,)
        In the order of choice.
    gains : float64, shape (k,)
        How much each added to the objective.
    """

    rows: npt.NDArray[np.uint64]
    gains: npt.NDArray[np.float64]


def graph_cut(
    features: "Features | npt.ArrayLike",
    count: int,
    *,
    coverage: float = 2.0,
    greedy: Greedy | None = None,
    threads: int = 1,
) -> Greedily:
    """Return `count` samples that are similar to all, and not to each other.

    Maximises f(S) = coverage * sum of s(i, j) over all i and j in S - sum of s(i, j) over i and j
    in S, with the similarity of directions of `facility_location`.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
    count : int
        0 to n.
    coverage : float
        From 2 on, a further sample never makes f smaller.
    greedy : Greedy, or None
        All gains are brought up to date at each choice, in one pass over the features: naive and
        lazy are the same here, and approximate-lazy is as good.
    threads : int
        At least 1.

    Raises
    ------
    ValueError
        For features that are not finite, or a count out of range.

    References
    ----------
    R. Iyer et al., "Submodular combinatorial information measures", ALT 2021. Other code leaves
    out s(x, x), which is the same for all, and has coverage 1.

    Examples
    --------
    >>> graph_cut([[1, 0], [1, 0], [0, 1], [-1, 0.1]], 2).rows.tolist()
    [2, 0]
    """
    given = _checked(features, count)
    numbers = _numbers(greedy)
    found = _core.graph_cut(given.rows, given.embeddings, coverage, numbers, count, threads)
    return Greedily(*found)


def log_determinant(
    features: "Features | npt.ArrayLike",
    count: int,
    *,
    ridge: float = 1e-6,
    greedy: Greedy | None = None,
    threads: int = 1,
    way: str = "either",
) -> Greedily:
    """Return `count` samples that are as different as can be.

    Maximises f(S) = ln det(K + ridge I), where K holds the similarities of those chosen, as in
    `facility_location`. The next sample is the one of which most is left beside those chosen; so
    one that equals another comes last.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
    count : int
        0 to n.
    ridge : float
        Above 0.
    greedy : Greedy, or None
        None: lazy, which naive is too.
    threads : int
        At least 1.
    way : str
        "space" computes in the space of the features, in n * d steps a choice and with (d + 1)**2
        numbers; "kernel" with a factor of k**2 / 2 numbers; "either" takes the space, unless
        there are embeddings or d > 2048.

    Raises
    ------
    ValueError
        For features that are not finite, or a count or ridge out of range.

    References
    ----------
    A. Kulesza and B. Taskar, "Determinantal point processes for machine learning", 2012; gains by
    Cholesky: L. Chen, G. Zhang, H. Zhou, "Fast greedy MAP inference for determinantal point
    process", NeurIPS 2018. Some code maximises what is subtracted here, and takes the most
    redundant sample.

    Examples
    --------
    >>> log_determinant([[1, 0], [1, 0], [0, 1], [-1, 0.1]], 3).rows.tolist()
    [0, 3, 2]
    """
    return _volume(_checked(features, count), count, False, ridge, way, greedy, threads)


def d_optimal(
    features: "Features | npt.ArrayLike",
    count: int,
    *,
    ridge: float = 1.0,
    greedy: Greedy | None = None,
    threads: int = 1,
    way: str = "either",
) -> Greedily:
    """Return `count` samples from which a linear model learns most.

    Maximises f(S) = ln det(I + sum over S of h h^T / ridge), which is ln det(ridge I + sum) but
    for a constant. The gain of a sample is ln(1 + h^T M^-1 h), with M = ridge I + sum.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
        Embeddings h.
    count, ridge, greedy, threads, way
        As in `log_determinant`.

    Raises
    ------
    ValueError
        For features that are not finite, or a count or ridge out of range.

    References
    ----------
    F. Pukelsheim, "Optimal design of experiments", 1993; M. Bouhtou, S. Gaubert, G. Sagnol,
    "Submodularity and randomized rounding techniques for optimal experimental design", 2010.

    Examples
    --------
    >>> d_optimal([[1, 0], [2, 0], [0, 1], [1.9, 0.1]], 2).rows.tolist()
    [1, 2]
    """
    return _volume(_checked(features, count), count, True, ridge, way, greedy, threads)


def _volume(
    given: Features,
    count: int,
    linear: bool,
    ridge: float,
    way: str,
    greedy: Greedy | None,
    threads: int,
) -> Greedily:
    if way not in _WAYS:
        raise ValueError(f"way must be one of {', '.join(_WAYS)}, got {way!r}")
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge must be above 0 and finite, got {ridge}")
    numbers = _numbers(greedy)
    rows, gains = _core.volume(
        given.rows, given.embeddings, linear, ridge, _WAYS[way], numbers, count, threads
    )
    return Greedily(rows, gains)


def _numbers(greedy: Greedy | None) -> tuple[int, int, float, float, int]:
    """As C reads it; naive greedy is lazy here, which looks at less and chooses the same."""
    asked = greedy or Greedy()
    return (replace(asked, how="LazyGreedy") if asked.how == "NaiveGreedy" else asked).numbers


def _checked(features: "Features | npt.ArrayLike", count: int) -> Features:
    given = features_of(features)
    if not 0 <= count <= len(given):
        raise ValueError(f"count must be 0 to {len(given)}, got {count}")
    return given
