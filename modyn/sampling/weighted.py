"""Choosing by weight, and weights that make estimates from the choice unbiased."""

import numpy.typing as npt

from modyn import _core
from modyn.sampling.candidates import Candidates, core_of
from modyn.sampling.numbers import number
from modyn.sampling.sampler import Drawn
from modyn.sampling.values import CoreValues, Values, core_values

__all__ = ["weighted"]

_SCHEMES = {"sequential": 5, "priority": 6, "with_replacement": 7}  # mdn_sampler_kind


def weighted(
    candidates: "Candidates | npt.ArrayLike",
    count: int,
    *,
    weights: Values,
    seed: int,
    scheme: str = "priority",
    floor: float = 0.0,
    threads: int = 1,
) -> Drawn:
    """Return `count` keys chosen with probabilities that follow their weights."""
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(_SCHEMES)}, got {scheme!r}")
    core, values = core_of(candidates, None), core_values("weights", weights)
    offset = _offset(core, values, floor)
    arguments = (number("count", count), number("seed", seed), number("threads", threads))
    drawn = _drawn(core, values, offset, scheme, *arguments)
    if scheme == "with_replacement" and count and len(core) and not len(drawn):
        return _drawn(core, values, 1.0, scheme, *arguments)  # all weights are 0
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
    sampler = _core.Sampler.new(_SCHEMES[scheme], count, seed, 0, False)
    sampler.offer(core, values, offset, threads)
    keys, made, _ = sampler.finish()
    return Drawn(keys, made)


def _offset(core: _core.Candidates, values: CoreValues, floor: float) -> float:
    """Return what to add to every weight so that a share `floor` of their sum is uniform."""
    if not 0 <= floor < 1:
        raise ValueError(f"floor must be at least 0 and below 1, got {floor}")
    if floor == 0:
        return 0.0
    total, count = core.total(values)
    if total == 0 or count == 0:
        return 1.0
    return floor / (1 - floor) * (total / count)
