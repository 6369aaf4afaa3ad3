"""Choosing by rank: the first by a score, a band of ranks, and the newest."""

import math

import numpy as np
import numpy.typing as npt

from modyn.sampling.candidates import Candidates, core_of
from modyn.sampling.numbers import number
from modyn.sampling.sampler import Sampler
from modyn.sampling.values import Values, core_values

__all__ = ["band", "newest", "top"]


def top(
    candidates: "Candidates | npt.ArrayLike",
    count: int,
    by: Values,
    *,
    largest: bool = True,
    threads: int = 1,
) -> npt.NDArray[np.uint64]:
    """Return the `count` keys with the largest values, or all if there are fewer.

    Of equal values the smaller keys are chosen. Integers are compared as such.

    Parameters
    ----------
    candidates : Candidates, or integers >= 0 of shape (n,)
        Each key once.
    count : int
        At least 0.
    by : numbers of shape (n,), "timestamp", "label", or callable
        The value of each candidate, in stream order; a column; or a function from a block of
        candidates (`Arrivals`) to their values. None of them NaN.
    largest : bool
        False for the smallest values.
    threads : int
        At most that many, at least 1; the choice does not depend on it.

    Returns
    -------
    uint64, shape (min(count, n),)
        Ascending.

    Raises
    ------
    ValueError
        For NaN, for values that are not one for each candidate, for a column that the candidates
        do not have, and for a key that would be chosen twice.

    Examples
    --------
    >>> top([4, 7, 9, 11], 2, by=[0.5, 2.0, 0.5, 0.1]).tolist()
    [4, 7]
    >>> top([4, 7, 9, 11], 2, by=lambda block: -block.keys.astype(float)).tolist()
    [4, 7]
    """
    sampler = Sampler.top(count, largest=largest)
    sampler.offer(candidates, by, threads=threads)
    return sampler.finish().keys


def band(
    candidates: "Candidates | npt.ArrayLike",
    low: float,
    high: float,
    by: Values,
    *,
    threads: int = 1,
) -> npt.NDArray[np.uint64]:
    """Return the keys between two quantiles of a value: of ranks floor(low n) to floor(high n) - 1.

    Candidates are ranked by value, smallest first, of equal values the smaller key first; so bands
    that share a bound hold each candidate once. The candidates are read four times or so, in
    memory that does not depend on their number.

    Parameters
    ----------
    candidates : Candidates, or integers >= 0 of shape (n,)
        Each key once.
    low, high : float
        0 <= low <= high <= 1.
    by, threads
        As for `top`.

    Returns
    -------
    uint64, shape (floor(high n) - floor(low n),)
        Ascending.

    Raises
    ------
    ValueError
        For bounds out of range, and as `top`.

    Examples
    --------
    >>> band([4, 7, 9, 11], 0.25, 0.75, by=[0.5, 2.0, 0.5, 0.1]).tolist()
    [4, 9]
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"bounds must be 0 <= low <= high <= 1, got {low} and {high}")
    core = core_of(candidates, None)
    first, last = (min(math.floor(share * len(core)), len(core)) for share in (low, high))
    return core.band(core_values("by", by), first, last, number("threads", threads))


def newest(
    candidates: "Candidates | npt.ArrayLike", count: int, *, threads: int = 1
) -> npt.NDArray[np.uint64]:
    """Return the `count` keys with the largest timestamps; of equal ones the larger keys.

    Parameters
    ----------
    candidates : Candidates
        With timestamps; each key once.
    count : int
        At least 0.
    threads : int
        At most that many, at least 1; the choice does not depend on it.

    Returns
    -------
    uint64, shape (min(count, n),)
        Ascending.

    Examples
    --------
    >>> newest(Candidates.from_arrays([4, 7, 9], timestamps=[10, 20, 10]), 2).tolist()
    [7, 9]
    """
    sampler = Sampler.newest(count)
    sampler.offer(candidates, threads=threads)
    return sampler.finish().keys
