"""A fair share of the data of each trigger."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modyn import sampling
from modyn.policies.base import Context, Selected, seed_of
from modyn.policies.share import Share

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["TriggerBalanced"]


@dataclass(kw_only=True)
class TriggerBalanced(Share):
    """A uniform draw from the data of each trigger, of as even a number as the triggers allow.

    A trigger with n candidates gives min(n, s), with the largest s for which these do not exceed
    the budget of floor(all * ratio / ratio_max); see `modyn.sampling.fair_shares`. Triggers without
    candidates do not count.

    Parameters
    ----------
    ratio, ratio_max : int
        The share to keep: floor(n * ratio / ratio_max) of n candidates.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger and of the n before it, at least 1, or all so far
        (None).
    force_column_balancing : bool
        Every trigger gives equally many, also where that leaves budget unused.
    force_required_target_size : bool
        The budget is used exactly: what is left over goes, one each, to randomly drawn triggers
        that have more. Wins over `force_column_balancing`.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> arrivals = example_arrivals(100)
    >>> candidates = Candidates.from_arrays(
    ...     arrivals.keys, arrivals.timestamps, starts=[(0, 0), (1, 80), (2, 95)]
    ... )
    >>> keys = TriggerBalanced(ratio=35, tail_triggers=2).select(candidates, PlainContext()).keys
    >>> [int(((keys >= a) & (keys < b)).sum()) for a, b in ((0, 80), (80, 95), (95, 100))]
    [15, 15, 5]
    """

    tail_triggers: int | None = None
    force_column_balancing: bool = False
    force_required_target_size: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tail_triggers == 0:
            raise ValueError(
                "tail_triggers must be at least 1, or None: with 0 there is one trigger to balance"
            )

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the draw for this trigger."""
        parts = [part for _, part in candidates.parts if len(part) > 0]
        shares = sampling.fair_shares(
            [len(part) for part in parts],
            self.target(len(candidates)),
            force_column_balancing=self.force_column_balancing,
            force_required_target_size=self.force_required_target_size,
            seed=seed_of(context),
        )
        drawn = [
            sampling.uniform(part, share, seed=seed_of(context))
            for part, share in zip(parts, shares.tolist(), strict=True)
        ]
        return Selected(np.sort(np.concatenate(drawn)))
