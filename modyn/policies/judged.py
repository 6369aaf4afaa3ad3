"""How well a model did on an interval, and what notes of decisions say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modyn.policies.batched import Interval
from modyn.policies.context import Context
from modyn.policies.performance_scores import avoidable

__all__ = ["Judged", "noted", "placed", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How well a model did on an interval.

    Parameters
    ----------
    index, first, last : int
        Which interval, and the positions of the samples that count: those of it that came after
        the model's trigger.
    trigger : int
        Whose model.
    begun, ended : int
        The clock at both ends, in units of timestamps.
    samples : int
        That count and are not erased; at least 1.
    accuracy : float
        Of the best class; nan where it could not be estimated.
    scores : mapping of str to float
        By the reported names of the metrics; nan where one is undefined.
    estimated : bool
        Whether they are estimates.
    overtaken : bool
        Whether there is a newer model by now.
    maiden : bool
        Whether it is the first that this model is judged on.
    ahead : int
        How many samples will have come, from its end, when the next interval is judged; 0 unless
        it is the newest of those that are judged now.
    """

    index: int
    first: int
    last: int
    trigger: int
    begun: int
    ended: int
    samples: int
    accuracy: float
    scores: Mapping[str, float]
    estimated: bool
    overtaken: bool
    maiden: bool
    ahead: int

    @property
    def misclassifications(self) -> float:
        """How many samples the model got wrong, a whole number, or is estimated to."""
        wrong = self.samples * (1 - self.accuracy)
        return wrong if self.estimated else round(wrong)

    def avoidable(self, expected_accuracy: float | None, allow_reduction: bool) -> float:
        """Return how many of them a model of this accuracy would have got right."""
        if expected_accuracy is None:
            return 0.0
        found = avoidable(
            self.accuracy,
            self.samples,
            expected_accuracy,
            reduce=allow_reduction,
            estimated=self.estimated,
        )
        return float(found)


def noted(judged: Judged) -> dict[str, Any]:
    """Return what is noted of an interval that was judged."""
    return {
        "interval": judged.index,
        "first": judged.first,
        "last": judged.last,
        "model_trigger": judged.trigger,
        "samples": judged.samples,
        "misclassifications": plain(judged.misclassifications),
        "scores": {name: plain(score) for name, score in judged.scores.items()},
        "estimated": judged.estimated,
        "overtaken": judged.overtaken,
    }


def placed(interval: Interval, context: Context) -> dict[str, Any]:
    """Return what a note says of the place of a decision."""
    newest = context.models[-1] if context.models else None
    return {
        "interval": interval.index,
        "first": interval.first,
        "last": interval.last,
        "model": None if newest is None else newest.model,
        "model_trigger": None if newest is None else newest.trigger,
    }


def plain(value: float) -> float | None:
    """Return a number as JSON has it: None for what is not finite."""
    return value if np.isfinite(value) else None
