"""A share of the candidates in which classes are as equal as they can be."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modyn import sampling
from modyn.policies.base import Context, Selected, seed_of
from modyn.policies.share import Share

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["LabelBalanced"]


@dataclass(kw_only=True)
class LabelBalanced(Share):
    """A class-balanced draw without replacement from the budget floor(n * ratio / ratio_max).

    Each class gives a uniform draw of min(its size, s), where s is the largest number for which
    the draws fit the budget.

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
    force_column_balancing : bool
        Every class gives equally many, also where that leaves budget unused.
    force_required_target_size : bool
        The budget is used exactly: what is left over goes, one each, to randomly drawn classes
        that have more. Wins over `force_column_balancing`.

    Examples
    --------
    Of 30 samples, a third each of the classes 0, 1 and 2, half are kept:

    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> arrivals = example_arrivals(30, classes=3)
    >>> candidates = Candidates.from_arrays(arrivals.keys, arrivals.timestamps, arrivals.labels)
    >>> keys = LabelBalanced(ratio=50).select(candidates, PlainContext()).keys
    >>> sorted((keys % 3).tolist())
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    """

    force_column_balancing: bool = False
    force_required_target_size: bool = False

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the draw for this trigger.

        Raises
        ------
        ValueError
            For a dataset without labels.
        """
        count = self.target(len(candidates))
        keys = sampling.balanced(
            candidates,
            count,
            seed=seed_of(context),
            force_column_balancing=self.force_column_balancing,
            force_required_target_size=self.force_required_target_size,
        )
        return Selected(keys)
