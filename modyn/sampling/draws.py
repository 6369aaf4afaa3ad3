"""Choosing at random: uniformly, and a fair share of each label.

Every key has a draw, a number that follows from the seed and the key alone, and the keys with the
smallest draws are chosen. So a choice depends on the seed and on the set of candidates, not on
their order, on how they are read, or on anything that was drawn before.
"""

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.sampling.candidates import Candidates, core_of
from modyn.sampling.numbers import column, number
from modyn.sampling.sampler import Sampler, mode_of

__all__ = ["balanced", "fair_shares", "target_size", "uniform"]


def uniform(
    candidates: "Candidates | npt.ArrayLike", count: int, *, seed: int, threads: int = 1
) -> npt.NDArray[np.uint64]:
    """Return `count` keys, every set of that size equally likely, or all if there are fewer.

    The choice of a smaller count with the same seed is part of that of a larger one, and a key
    that is chosen among some candidates is chosen among any part of them that holds it.

    Parameters
    ----------
    candidates : Candidates, or integers >= 0 of shape (n,)
        Or bare keys. A key that comes more than once counts once.
    count : int
        At least 0.
    seed : int
        0 to 2**64 - 1.
    threads : int
        At most that many, at least 1; the choice does not depend on it.

    Returns
    -------
    uint64, shape (min(count, n),)
        Ascending.

    Raises
    ------
    ValueError
        For a negative count, a seed out of range, or negative keys.

    References
    ----------
    Bottom-k sampling by hashing: E. Cohen and H. Kaplan, "Summarizing data using bottom-k
    sketches", PODC 2007; with weights it is the priority sampling of N. Duffield, C. Lund and
    M. Thorup, J. ACM 54(6), 2007. Here the hash is a bijection of 64-bit words, so that there
    are no ties and only draws need to be remembered.

    Examples
    --------
    >>> uniform(range(1000), 4, seed=7).tolist()
    [582, 736, 880, 908]
    >>> uniform(range(1000), 2, seed=7).tolist()
    [736, 908]
    """
    core = core_of(candidates, None)
    arguments = (number("count", count), number("seed", seed), 0)
    for merging in (False, True):  # the first is faster, and right unless keys come twice
        sampler = _core.Sampler.new(0, *arguments, merging)
        sampler.offer(core, None, 0.0, number("threads", threads))
        keys, _, repeated = sampler.finish()
        if not repeated:
            break
    return keys


def balanced(
    candidates: "Candidates | npt.ArrayLike",
    count: int,
    *,
    seed: int,
    labels: npt.ArrayLike | None = None,
    force_column_balancing: bool = False,
    force_required_target_size: bool = False,
    threads: int = 1,
) -> npt.NDArray[np.uint64]:
    """Return at most `count` keys, of every label a fair share, chosen uniformly inside it.

    The share of a label with n samples is min(n, s), with the largest s for which the shares do
    not exceed `count`: see `fair_shares`, also for the two options.

    Parameters
    ----------
    candidates : Candidates, or integers >= 0 of shape (n,)
        Samples with labels, or bare keys, then with `labels`. Each key once.
    count : int
        At least 0.
    seed : int
        0 to 2**64 - 1.
    labels : int64, shape (n,), or None
        Of bare keys.
    force_column_balancing : bool
        The same number of every label, even if the total shrinks.
    force_required_target_size : bool
        Exactly min(count, n) keys; wins if both are set.
    threads : int
        At most that many, at least 1; the choice does not depend on it.

    Returns
    -------
    uint64, shape (m,), m <= count
        Ascending.

    Raises
    ------
    ValueError
        Without labels, with more than 2**22 different ones, or for a key that would be chosen
        twice.

    References
    ----------
    As for `uniform` and `fair_shares`.

    Examples
    --------
    >>> labels = [0] * 6 + [1] * 94
    >>> balanced(range(100), 20, labels=labels, seed=7).tolist()[:7]
    [0, 1, 2, 3, 4, 5, 16]
    >>> len(balanced(range(100), 20, labels=labels, seed=7, force_column_balancing=True))
    12
    """
    sampler = Sampler.balanced(
        count,
        seed=seed,
        force_column_balancing=force_column_balancing,
        force_required_target_size=force_required_target_size,
    )
    sampler.offer(candidates, labels=labels, threads=threads)
    return sampler.finish().keys


def fair_shares(
    sizes: npt.ArrayLike,
    capacity: int,
    *,
    force_column_balancing: bool = False,
    force_required_target_size: bool = False,
    seed: int = 0,
) -> npt.NDArray[np.uint64]:
    """Return how many samples each group gives when `capacity` are to be shared fairly.

    Group i gives min(sizes[i], s); s, the same for all, is the largest integer for which the sum
    does not exceed `capacity`. What then is left over, less than one sample for each group that
    could give more, is not used, unless `force_required_target_size` is set.

    Parameters
    ----------
    sizes : integers >= 0, shape (groups,)
    capacity : int
        At least 0.
    force_column_balancing : bool
        Every group gives min(smallest size, capacity // groups).
    force_required_target_size : bool
        What is left over goes one each to groups that could give more, all of them equally
        likely, so that the sum is min(capacity, sum of sizes). Wins if both are set.
    seed : int
        Of that choice. Group i has draw i; the groups with the smallest draws are chosen. Nothing
        else is random.

    Returns
    -------
    uint64, shape (groups,)

    References
    ----------
    Water-filling, or max-min fairness: D. Bertsekas and R. Gallager, "Data Networks", 2nd
    edition, 1992, section 6.5.2. Here in whole samples.

    Examples
    --------
    >>> fair_shares([5, 400, 5], 100).tolist()
    [5, 90, 5]
    >>> fair_shares([50, 50, 50], 100).tolist()
    [33, 33, 33]
    >>> sum(fair_shares([50, 50, 50], 100, force_required_target_size=True).tolist())
    100
    """
    mode = mode_of(force_column_balancing, force_required_target_size)
    groups = column("sizes", sizes, np.dtype(np.uint64))
    return _core.fair_shares(groups, number("capacity", capacity), mode, number("seed", seed))


def target_size(n: int, ratio: int, ratio_max: int = 100, limit: int = -1) -> int:
    """Return how many of `n` candidates to choose: floor(n * ratio / ratio_max), at most `limit`.

    Parameters
    ----------
    n : int
        Number of candidates, at least 0.
    ratio, ratio_max : int
        0 <= ratio <= ratio_max, ratio_max >= 1.
    limit : int
        At least 1, or -1 for none.

    Raises
    ------
    ValueError
        For a number outside of its range.

    Examples
    --------
    >>> target_size(999, 50)
    499
    >>> target_size(999, 50, limit=10)
    10
    """
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    if ratio_max < 1:
        raise ValueError(f"ratio_max must be at least 1, got {ratio_max}")
    if not 0 <= ratio <= ratio_max:
        raise ValueError(f"ratio must be 0 to {ratio_max} (ratio_max), got {ratio}")
    if limit != -1 and limit < 1:
        raise ValueError(f"limit must be at least 1, or -1 for none, got {limit}")
    size = n * ratio // ratio_max
    return size if limit == -1 else min(size, limit)
