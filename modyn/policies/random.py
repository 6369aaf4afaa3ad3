"""A uniform share of the candidates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modyn import sampling
from modyn.policies.base import Context, Selected, seed_of
from modyn.policies.share import Share

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["Random"]


@dataclass(kw_only=True)
class Random(Share):
    """A uniform draw without replacement: floor(n * ratio / ratio_max) of n candidates.

    Parameters
    ----------
    ratio : int
        The share to keep, in parts of `ratio_max`; from 0 to `ratio_max`.
    ratio_max : int
        How many parts make the whole; 100 for percent.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger (0), of the n before it too (n), or all so far
        (None).

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> arrivals = example_arrivals(1000)
    >>> candidates = Candidates.from_arrays(arrivals.keys, arrivals.timestamps)
    >>> len(Random(ratio=25).select(candidates, PlainContext(seed=3)).keys)
    250
    """

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the draw for this trigger."""
        count = self.target(len(candidates))
        return Selected(sampling.uniform(candidates, count, seed=seed_of(context)))
