"""All candidates at first, a selection later."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from modyn.policies import Context, Selected, Selection

if TYPE_CHECKING:
    from modyn.sampling import Candidates


@dataclass(kw_only=True)
class Warmup(Selection):
    """Select all candidates at the first `warmup_triggers` triggers, then as `selection` does.

    Parameters
    ----------
    warmup_triggers : int
        How many triggers take everything.
    selection : Selection
        What decides after them; its `tail_triggers` holds from the start.
    """

    warmup_triggers: int
    selection: Selection
    tail_triggers: int | None = field(init=False)

    def __post_init__(self) -> None:
        if self.warmup_triggers < 0:
            raise ValueError(f"warmup_triggers must be at least 0, got {self.warmup_triggers}")
        self.tail_triggers = self.selection.tail_triggers

    def select(self, candidates: "Candidates", context: Context) -> Any:
        """Return all of `candidates`, or what the selection takes."""
        if context.trigger < self.warmup_triggers:
            return Selected(np.sort(candidates.keys))
        return self.selection.select(candidates, context)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the selection, which is the only one."""
        return self.selection.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Go on with the state of the selection."""
        self.selection.load_state_dict(state)
