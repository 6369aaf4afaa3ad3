"""All that is new, or the newest part of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

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
            return Selected(_newest(candidates, self.limit))
        return Selected(sampling.uniform(candidates, self.limit, seed=seed_of(context)))


def _newest(candidates: "Candidates", count: int) -> npt.NDArray[np.uint64]:
    """Return the `count` newest by (timestamp, key), holding 2 * count and a block at most."""
    keys = np.empty(0, dtype=np.uint64)
    timestamps = np.empty(0, dtype=np.int64)
    oldest = None  # what is older than this is out already
    for block in candidates.blocks():
        fresh = slice(None) if oldest is None else block.timestamps >= oldest
        keys = np.concatenate((keys, block.keys[fresh]))
        timestamps = np.concatenate((timestamps, block.timestamps[fresh]))
        if len(keys) > 2 * count:
            keep = np.lexsort((keys, timestamps))[-count:]
            keys, timestamps = keys[keep], timestamps[keep]
            oldest = timestamps[0]
    return np.sort(keys[np.lexsort((keys, timestamps))[-count:]])
