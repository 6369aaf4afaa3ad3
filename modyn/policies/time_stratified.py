"""A fair share of each period of time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn import sampling
from modyn.policies.base import Context, Selected, seed_of
from modyn.policies.drawing import Draw
from modyn.policies.share import Share
from modyn.policies.time import seconds_of, units_of

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["TimeStratified"]


@dataclass(kw_only=True)
class TimeStratified(Share):
    """A uniform draw from each period of time, of as even a number as the periods allow.

    Periods have the same length and are counted from timestamp 0 on, so that they stay where they
    are while the stream grows. A period with n candidates gives min(n, s), with the largest s for
    which these do not exceed the budget; see `modyn.sampling.fair_shares`. Periods without
    candidates do not count.

    Parameters
    ----------
    every : str
        The length of a period: an integer and one of s m h d w y (a year has 365 days).
    ratio, ratio_max : int
        The share to keep: floor(n * ratio / ratio_max) of n candidates.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger (0), of the n before it too (n), or all so far
        (None).
    force_column_balancing : bool
        Every period gives equally many, also where that leaves budget unused.
    force_required_target_size : bool
        The budget is used exactly: what is left over goes, one each, to randomly drawn periods
        that have more. Wins over `force_column_balancing`.

    Examples
    --------
    Of nine samples in the first minute and three in the second, a half:

    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> candidates = Candidates.from_arrays(range(12), [*range(9), 60, 61, 62])
    >>> policy = TimeStratified(every="1m", ratio=50)
    >>> (policy.select(candidates, PlainContext(seed=2)).keys >= 9).tolist()
    [False, False, False, True, True, True]
    """

    every: str
    force_column_balancing: bool = False
    force_required_target_size: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            seconds_of(self.every)
        except ValueError as error:
            raise ValueError(f"every: {error}") from None

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the draw for this trigger; reads the candidates twice."""
        period = units_of(self.every, context.timestamp_unit)
        sizes: dict[int, int] = {}
        for block in candidates.blocks():
            for stratum, keys in _strata(block.keys, block.timestamps // period):
                sizes[stratum] = sizes.get(stratum, 0) + len(keys)
        strata = sorted(sizes)
        shares = sampling.fair_shares(
            [sizes[stratum] for stratum in strata],
            self.target(len(candidates)),
            force_column_balancing=self.force_column_balancing,
            force_required_target_size=self.force_required_target_size,
            seed=seed_of(context),
        )
        draws = {
            stratum: Draw(share, seed=seed_of(context))
            for stratum, share in zip(strata, shares.tolist(), strict=True)
        }
        for block in candidates.blocks():
            for stratum, keys in _strata(block.keys, block.timestamps // period):
                draws[stratum].offer(keys)
        return Selected(np.sort(np.concatenate([draw.keys() for draw in draws.values()])))


def _strata(
    keys: npt.NDArray[np.uint64], periods: npt.NDArray[np.int64]
) -> list[tuple[int, npt.NDArray[np.uint64]]]:
    """Return the keys of each period that occurs."""
    if np.any(periods[1:] < periods[:-1]):
        order = np.argsort(periods, kind="stable")
        keys, periods = keys[order], periods[order]
    begins = np.flatnonzero(np.append(True, periods[1:] != periods[:-1]))
    ends = np.append(begins[1:], len(keys))
    return [
        (int(periods[begin]), keys[begin:end])
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]
