"""The newest candidates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modyn import sampling
from modyn.policies.base import Context, Selected
from modyn.policies.share import Share

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["MostRecent"]


@dataclass(kw_only=True)
class MostRecent(Share):
    """The newest candidates, by timestamp and then by key, in whatever order they came.

    Parameters
    ----------
    ratio, ratio_max : int
        The share to keep: floor(n * ratio / ratio_max) of n candidates; all of them unless given.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger (0), of the n before it too (n), or all so far
        (None).

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> candidates = Candidates.from_arrays([1, 2, 3, 4], timestamps=[30, 10, 20, 20])
    >>> MostRecent(limit=2).select(candidates, PlainContext()).keys.tolist()
    [1, 4]
    """

    ratio: int = 100
    tail_triggers: int | None = None

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the newest."""
        return Selected(sampling.newest(candidates, self.target(len(candidates))))
