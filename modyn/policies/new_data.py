"""All that is new, or the newest part of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modyn import sampling
from modyn.policies.base import Context, Selected, Selection, seed_of
from modyn.policies.checked import check_limit, check_tail_triggers

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["NewData"]


@dataclass(kw_only=True)
class NewData(Selection):
    """All candidates, or at most `limit` of them.

    Parameters
    ----------
    tail_triggers : int or None
        Candidates are the data of this trigger (0), of the n before it too (n), or all so far
        (None).
    limit : int
        How many at most, at least 1; -1 for no limit.
    limit_reset : {"lastX", "sampleUAR"}
        What a limit does where `tail_triggers` is None: keep the newest by (timestamp, key), or
        draw uniformly. Where `tail_triggers` is a number, a limit always draws uniformly.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> arrivals = example_arrivals(10)
    >>> candidates = Candidates.from_arrays(arrivals.keys, arrivals.timestamps)
    >>> newest = NewData(tail_triggers=None, limit=3)
    >>> newest.select(candidates, PlainContext()).keys.tolist()
    [7, 8, 9]
    """

    tail_triggers: int | None = 0
    limit: int = -1
    limit_reset: Literal["lastX", "sampleUAR"] = "lastX"

    def __post_init__(self) -> None:
        check_tail_triggers(self.tail_triggers)
        check_limit(self.limit)
        if self.limit_reset not in ("lastX", "sampleUAR"):
            raise ValueError(
                f"limit_reset must be 'lastX' or 'sampleUAR', got {self.limit_reset!r}"
            )

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return all of `candidates`, or the part that the limit leaves."""
        if self.limit == -1 or len(candidates) <= self.limit:
            return Selected(np.sort(candidates.keys))
        if self.tail_triggers is None and self.limit_reset == "lastX":
            return Selected(sampling.newest(candidates, self.limit))
        return Selected(sampling.uniform(candidates, self.limit, seed=seed_of(context)))
