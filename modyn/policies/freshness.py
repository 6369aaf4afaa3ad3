"""A fixed ratio between samples that were never used and samples that were."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modyn.policies.base import Context, Selected, Selection, seed_of
from modyn.policies.checked import check_all_data, check_integer, check_limit
from modyn.policies.drawing import Draw
from modyn.policies.used import Used

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["FreshnessSampling", "freshness_counts"]


def freshness_counts(unused: int, used: int, percent: int, limit: int = -1) -> tuple[int, int]:
    """Return how many unused and how many used samples make the largest set of that ratio.

    Parameters
    ----------
    unused, used : int
        How many there are.
    percent : int
        1 to 99: of 100 samples, so many unused ones.
    limit : int
        How many at most; -1 for no limit.

    Examples
    --------
    >>> freshness_counts(1000, 90, 40)
    (60, 90)
    >>> freshness_counts(1000, 90, 40, limit=99)
    (39, 60)
    >>> freshness_counts(5, 0, 40), freshness_counts(0, 7, 40)
    ((5, 0), (0, 7))
    """
    if unused == 0 or used == 0:
        both = unused + used if limit == -1 else min(unused + used, limit)
        return (both, 0) if used == 0 else (0, both)
    total = min(100 * unused // percent, 100 * used // (100 - percent))
    if limit != -1 and limit <= total:
        fresh = limit * percent // 100
        return fresh, min(limit - fresh, used)
    fresh = (2 * total * percent + 100) // 200
    return fresh, total - fresh


@dataclass(kw_only=True)
class FreshnessSampling(Selection):
    """A uniform draw of which `unused_data_ratio` percent were in no training set before.

    The draw is as large as the ratio and the limit allow. At the first trigger, and as long as
    nothing was used, all samples are unused ones. Which samples were used follows from the
    training sets of the run and is no state: it is a bit per key in memory.

    Parameters
    ----------
    unused_data_ratio : int
        Percent, 1 to 99.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : None
        All data so far; what is used once it left a window would never come again.
    without_unused : {"used", "nothing"}
        What to choose where every sample was used before.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> policy, stream = FreshnessSampling(unused_data_ratio=80), example_arrivals(300)
    >>> first = policy.select(
    ...     Candidates.from_arrays(stream.keys[:100], stream.timestamps[:100]), PlainContext()
    ... )
    >>> second = policy.select(
    ...     Candidates.from_arrays(stream.keys, stream.timestamps),
    ...     PlainContext(trigger=1, training_sets={0: first}),
    ... )
    >>> len(first.keys), len(second.keys), int((second.keys < 100).sum())
    (100, 250, 50)
    """

    unused_data_ratio: int
    limit: int = -1
    tail_triggers: int | None = None
    without_unused: Literal["used", "nothing"] = "used"

    def __post_init__(self) -> None:
        check_integer("unused_data_ratio", self.unused_data_ratio)
        if not 1 <= self.unused_data_ratio <= 99:
            raise ValueError(f"unused_data_ratio must be 1 to 99, got {self.unused_data_ratio}")
        check_limit(self.limit)
        check_all_data(self.tail_triggers, "which samples were used")
        if self.without_unused not in ("used", "nothing"):
            raise ValueError(
                f"without_unused must be 'used' or 'nothing', got {self.without_unused!r}"
            )

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the draw for this trigger; reads the candidates twice."""
        if getattr(self, "_cached_used", None) is None:
            self._cached_used = Used()
        used = self._cached_used.before(context)
        old = sum(int(used.contains(block.keys).sum()) for block in candidates.blocks())
        new = len(candidates) - old
        if new == 0 and self.without_unused == "nothing":
            return Selected(np.empty(0, dtype=np.uint64))
        counts = freshness_counts(new, old, self.unused_data_ratio, self.limit)
        fresh, again = (Draw(count, seed=seed_of(context)) for count in counts)
        for block in candidates.blocks():
            known = used.contains(block.keys)
            fresh.offer(block.keys[~known])
            again.offer(block.keys[known])
        return Selected(np.sort(np.concatenate((fresh.keys(), again.keys()))))
