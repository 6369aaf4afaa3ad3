"""Draws from a pool with unequal probabilities, and the weights that make up for them.

What is wanted is the mean of f over N samples, of which k are looked at:

    (1/k) * sum of w * f over the draw,  with  E[that] = (1/N) * sum of f over all

    pps                w = k / (N * pi),  pi = min(1, c * s) with c so that pi sums to k
                       Every sample is drawn with probability pi exactly, none twice, k in all.
    with replacement   w = 1 / (N * p),  p = s / sum of s
                       k draws; a sample may come several times.

The shares s that both start from are a mixture of the scores and of what is uniform, so that a
sample with score 0 is drawn as well, and no weight is more than 1 / floor.

References
----------
D. G. Horvitz and D. J. Thompson, "A generalization of sampling without replacement from a finite
universe", JASA 47 (1952).  W. G. Madow, "On the theory of systematic sampling, II", Annals of
Mathematical Statistics 20 (1949); here on a random permutation.  T. Hesterberg, "Weighted average
importance sampling and defensive mixture distributions", Technometrics 37 (1995).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Drawn", "inclusion", "pps", "shares", "successive", "systematic", "with_replacement"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What was drawn.

    Parameters
    ----------
    rows : int64, shape (k,), ascending
        With replacement, one that was drawn twice is there twice.
    weights : float64, shape (k,)
    """

    rows: Rows
    weights: Floats


def shares(scores: npt.ArrayLike, floor: float) -> Floats:
    """Return (1 - floor) * s / sum of s + floor / n: shares that sum to 1.

    Scores that are all 0 give equal shares.  A score that is not a number counts as 0; where some
    are infinite, they are equal, and all others count as 0 beside them.

    Parameters
    ----------
    scores : float, shape (n,)
        At least 0.
    floor : float
        The share of what is uniform in the mixture, from 0 to 1.

    Raises
    ------
    ValueError
        When a score is below 0.

    Examples
    --------
    >>> shares([3.0, 1.0, 0.0, 0.0], floor=0.5).tolist()
    [0.5, 0.25, 0.125, 0.125]
    """
    found = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(found).all():
        endless = np.isposinf(found)
        found = endless.astype(np.float64) if endless.any() else np.nan_to_num(found, nan=0.0)
    if found.min(initial=0.0) < 0.0:
        raise ValueError(f"scores to draw by must be at least 0, got {found.min()}")
    top = found.max(initial=0.0)
    if top == 0.0:
        return np.full(len(found), 1.0 / max(len(found), 1))
    found = found / top
    mixed: Floats = (1.0 - floor) / found.sum() * found + floor / len(found)
    return mixed


def inclusion(weights: npt.ArrayLike, count: int) -> Floats:
    """Return probabilities min(1, c * weight) that sum to `count`.

    Where fewer than `count` weights are above 0, those samples are certain, and the others share
    what is left alike.

    Parameters
    ----------
    weights : float, shape (n,)
        Finite and at least 0.
    count : int
        1 <= count <= n.

    Examples
    --------
    >>> inclusion([1.0, 1.0, 2.0, 16.0], 2).tolist()
    [0.25, 0.25, 0.5, 1.0]
    >>> inclusion([0.0, 5.0, 0.0], 2).tolist()
    [0.5, 1.0, 0.5]
    """
    size = np.asarray(weights, dtype=np.float64)
    total = size.sum()
    if count * size.max() < total:
        uncapped: Floats = count / total * size
        return uncapped
    positive = int(np.count_nonzero(size))
    if positive <= count:
        rest = len(size) - positive
        spread = (count - positive) / rest if rest else 0.0
        return np.where(size > 0.0, 1.0, spread)
    # With the m largest certain, the others have c = (count - m) / (their sum); m is the first
    # for which the largest of them stays below 1.
    falling = np.sort(size)[::-1]
    tails = np.cumsum(falling[::-1])[::-1][:count]
    factors = (count - np.arange(count)) / tails
    below = factors * falling[:count] < 1.0
    below[-1] = True  # but for rounding
    factor = factors[np.argmax(below)]
    found: Floats = np.minimum(size * factor, 1.0)
    return found


def systematic(inclusion: Floats, count: int, random: np.random.Generator) -> Rows:
    """Return `count` different rows, each with its probability, ascending.

    The probabilities are laid end to end in a random order, on a line of length `count`; a point
    u is drawn uniformly from [0, 1), and the rows that hold u, u + 1, u + 2, ... are taken.

    Parameters
    ----------
    inclusion : float64, shape (n,)
        Each at most 1; their sum is `count`.
    count : int
    random : numpy.random.Generator
    """
    order = random.permutation(len(inclusion))
    ends = np.cumsum(inclusion[order])
    ends[-1] = count
    passed = np.floor(np.minimum(ends, count) + random.random()).astype(np.int64)
    # 0 or 1, and 2 where rounding made a certain row longer than 1; then another one is left out.
    held = passed.astype(np.int8)
    held[1:] = passed[1:] - passed[:-1]
    return np.sort(order[np.argsort(-held, kind="stable")[:count]])


def pps(shares: Floats, count: int, random: np.random.Generator) -> Drawn:
    """Return a draw without replacement with probabilities proportional to shares, capped at 1.

    Parameters
    ----------
    shares : float64, shape (n,)
    count : int
        1 <= count <= n.
    random : numpy.random.Generator

    Examples
    --------
    >>> drawn = pps(np.array([1.0, 1.0, 2.0, 16.0]), 2, np.random.default_rng(0))
    >>> len(drawn.rows), 3 in drawn.rows
    (2, True)
    """
    probability = inclusion(shares, count)
    rows = systematic(probability, count, random)
    return Drawn(rows, count / (len(shares) * probability[rows]))


def with_replacement(shares: Floats, count: int, random: np.random.Generator) -> Drawn:
    """Return `count` independent draws with probabilities proportional to shares.

    Parameters
    ----------
    shares : float64, shape (n,)
    count : int
        At least 1.
    random : numpy.random.Generator
    """
    probability = shares / shares.sum()
    ends = np.cumsum(probability)
    points = random.random(count) * ends[-1]
    rows = np.sort(np.minimum(np.searchsorted(ends, points, side="right"), _last(probability)))
    return Drawn(rows, 1.0 / (len(shares) * probability[rows]))


def successive(shares: Floats, count: int, random: np.random.Generator) -> Drawn:
    """Return draws without replacement, one after the other, weighed as if with replacement.

    A sample's chance to be in the draw is then not proportional to its share, and the weights do
    not make up for it: the estimate is biased.  It is here to compare with (`upstream_weights`).

    Parameters
    ----------
    shares : float64, shape (n,)
    count : int
        1 <= count <= n.
    random : numpy.random.Generator

    References
    ----------
    P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir", Information
    Processing Letters 97 (2006): the smallest draws of exponentials with these rates.
    """
    probability = shares / shares.sum()
    with np.errstate(divide="ignore"):
        times = random.exponential(size=len(shares)) / probability
        weights = 1.0 / (len(shares) * probability)
    rows = np.sort(np.argsort(times, kind="stable")[:count])
    return Drawn(rows, np.where(probability[rows] > 0.0, weights[rows], 0.0))


def _last(probability: Floats) -> int:
    """Return the last row that can be drawn."""
    return int(np.flatnonzero(probability)[-1])
