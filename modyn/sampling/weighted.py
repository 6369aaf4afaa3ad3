"""Choosing by weight, and weights that make estimates from the choice unbiased."""

import numpy.typing as npt

from modyn import _core
from modyn.sampling.candidates import Candidates, core_of
from modyn.sampling.numbers import number
from modyn.sampling.sampler import Drawn
from modyn.sampling.values import CoreValues, Values, core_values

__all__ = ["weighted"]

_SCHEMES = {"pps": -1, "sequential": 5, "priority": 6, "with_replacement": 7}  # mdn_sampler_kind


def weighted(
    candidates: "Candidates | npt.ArrayLike",
    count: int,
    *,
    weights: Values,
    seed: int,
    scheme: str = "pps",
    floor: float = 0.0,
    threads: int = 1,
) -> Drawn:
    """Return `count` keys, chosen with probabilities that follow their weights.

    With s the weight of a candidate, N their number and k = `count`, or N if that is less:

    =================  ==================================================  ======================
    scheme             what is chosen                                      weight in an estimate
    =================  ==================================================  ======================
    pps                k keys, each with probability exactly               k / (N pi)
                       pi = min(1, c s), c such that their sum is k
    priority           k keys, with probabilities near those of pps; one   k / (N min(1, c s)),
                       reading instead of two or three                     c a random number
    with_replacement   k independent draws, each of a key with             1 / (N p), times how
                       probability p = s / (sum of s)                      often it was drawn
    sequential         k keys, one after the other, each with probability  none
                       s / (sum of s of the keys that are left)
    =================  ==================================================  ======================

    With the weights w, (1 / k) * sum of w f over the keys estimates the mean of f over the
    candidates without bias. Keys of weight 0 are chosen, uniformly, only where the others do not
    suffice, and never with replacement, unless all weights are 0: then the choice is uniform.

    Parameters
    ----------
    candidates : Candidates, or integers >= 0 of shape (n,)
        Each key once.
    count : int
        At least 0.
    weights : numbers of shape (n,), "timestamp", "label", or callable
        The weight of each candidate, in stream order; a column; or a function from a block of
        candidates (`Arrivals`) to their weights. Each is 0, or 2**-500 to 2**500.
    seed : int
        0 to 2**64 - 1.
    scheme : str
        As above.
    floor : float
        At least 0, below 1: this share of the sum of weights is spread evenly, so that no p is
        below floor / N (a defensive mixture). One more reading.
    threads : int
        At most that many, at least 1; the choice does not depend on it.

    Returns
    -------
    Drawn
        With replacement, fewer keys than draws where a key was drawn more than once.

    Raises
    ------
    ValueError
        For weights that are none or not one for each candidate, a column that the candidates do
        not have, a key that would be chosen twice, and arguments out of range.

    References
    ----------
    pps: systematic sampling, W. G. Madow, "On the theory of systematic sampling, II", Ann. Math.
    Stat. 20(3), 1949, and the estimator of D. G. Horvitz and D. J. Thompson, J. ASA 47, 1952.
    Here the order is that of a hash of the keys, and light candidates first send one of each
    bucket, so that memory is O(k). From about 2**20 light candidates on, each stays by a draw of
    its own instead, with a probability that follows its weight, and of those that stay as many as
    points fall on light candidates are chosen uniformly; pi is then exact to about 2**-40 of it
    (csrc/selector/thinned.h). priority: N. Duffield, C. Lund and M. Thorup, "Priority sampling for
    estimation of arbitrary subset sums", J. ACM 54(6), 2007. sequential: P. S. Efraimidis and P.
    G. Spirakis, "Weighted random sampling with a reservoir", Inf. Process. Lett. 97(5), 2006.
    with_replacement: the first k points of a superposition of Poisson processes; J. F. C. Kingman,
    "Poisson Processes", 1993. Floor: T. Hesterberg, "Weighted average importance sampling and
    defensive mixture distributions", Technometrics 37(2), 1995.

    Examples
    --------
    >>> drawn = weighted(range(8), 3, weights=[2, 1, 1, 1, 1, 1, 1, 20], seed=4)
    >>> drawn.keys.tolist(), drawn.weights.round(3).tolist()
    ([0, 6, 7], [0.75, 1.5, 0.375])
    """
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(_SCHEMES)}, got {scheme!r}")
    core, values = core_of(candidates, None), core_values("weights", weights)
    offset = _offset(core, values, floor)
    numbers = number("count", count), number("seed", seed), number("threads", threads)
    drawn = _drawn(core, values, offset, scheme, *numbers)
    if scheme == "with_replacement" and count and len(core) and not len(drawn):
        return _drawn(core, values, 1.0, scheme, *numbers)  # all weights are 0
    return drawn


def _drawn(
    core: _core.Candidates,
    values: CoreValues,
    offset: float,
    scheme: str,
    count: int,
    seed: int,
    threads: int,
) -> Drawn:
    if scheme == "pps":
        keys, made, _ = core.systematic(values, offset, count, seed, threads)
        return Drawn(keys, made)
    sampler = _core.Sampler.new(_SCHEMES[scheme], count, seed, 0, False)
    sampler.offer(core, values, offset, threads)
    keys, made, _ = sampler.finish()
    return Drawn(keys, made)


def _offset(core: _core.Candidates, values: CoreValues, floor: float) -> float:
    """Return what to add to every weight so that a share `floor` of their sum is even."""
    if not 0 <= floor < 1:
        raise ValueError(f"floor must be at least 0 and below 1, got {floor}")
    if floor == 0:
        return 0.0
    total, count = core.total(values)
    if total == 0:
        return 1.0
    return floor / (1 - floor) * (total / count)
