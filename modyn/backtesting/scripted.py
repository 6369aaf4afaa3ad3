"""A trigger at places that are known beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modyn.arrivals import Arrivals
from modyn.policies import Context, Selected, Selection, Trigger
from modyn.sampling import Candidates

__all__ = ["AtPositions"]


@dataclass(kw_only=True)
class AtPositions(Trigger):
    """A trigger is due after so many samples each, and nowhere else.

    Parameters
    ----------
    positions : sequence of int
        Samples from the start of the stream, at least 1, ascending; a place that comes twice is
        that of a trigger without new samples.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> trigger = AtPositions(positions=[3, 5])
    >>> arrivals = example_arrivals(10)
    >>> trigger.inform(arrivals, None), trigger.inform(arrivals[3:], None)
    (3, 2)
    >>> trigger.inform(arrivals[5:], None)
    """

    positions: Sequence[int]

    def __post_init__(self) -> None:
        before = 1
        for position in self.positions:
            if position < before:
                raise ValueError(f"positions must ascend from 1 on, got {position} after {before}")
            before = position
        self._seen = 0
        self._next = 0  # of `positions`

    def inform(self, arrivals: Arrivals, context: Context | None) -> int | None:
        """Return after how many of `arrivals` a trigger is due, or None."""
        if self._next == len(self.positions):
            return None
        due = self.positions[self._next] - self._seen
        if due > len(arrivals):
            self._seen += len(arrivals)
            return None
        self._seen += due
        self._next += 1
        return due


@dataclass(kw_only=True)
class OnlyAt(Selection):
    """What another selection chooses at some triggers, and nothing at others: no training there.

    Parameters
    ----------
    selection : Selection
        Which draws nothing by the number of a trigger, and keeps no state.
    triggers : sequence of int
        Where it chooses.
    tail_triggers : int or None
        Its candidates, in place of those of the other selection.
    """

    selection: Selection
    triggers: Sequence[int]
    tail_triggers: int | None = 0

    def select(self, candidates: Candidates, context: Context) -> Selected:
        """Return the choice, or no keys."""
        if context.trigger not in self.triggers:
            return Selected(np.zeros(0, dtype=np.uint64))
        return self.selection.select(candidates, context)
