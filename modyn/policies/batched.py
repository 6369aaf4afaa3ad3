"""Triggers that look at the stream every so many samples: the base of drift, performance and cost.

The stream is cut into intervals of `evaluation_interval_data_points` samples, and a decision falls
at the last sample of each, as of that sample.  The first interval always fires while there is no
model.  In the first `warmup_intervals` intervals another policy decides: an interval fires where
that policy would have fired anywhere in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from modyn.arrivals import Arrivals
from modyn.policies.base import Trigger
from modyn.policies.checked import check_integer
from modyn.policies.context import Context
from modyn.policies.noting import Noting

__all__ = ["BatchedTrigger", "Interval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """So many samples, at whose end a decision falls.

    Parameters
    ----------
    index : int
        How many intervals came before.
    first, last : int
        Its positions in the stream, the last exclusive.
    """

    index: int
    first: int
    last: int


@dataclass(kw_only=True)
class BatchedTrigger(Trigger):
    """Decides at the end of every interval of so many samples; a subclass says how.

    Parameters
    ----------
    evaluation_interval_data_points : int
        Samples of an interval, at least 1.
    warmup_intervals : int or None
        In how many intervals at the start `warmup_policy` decides; none if None.
    warmup_policy : Trigger or None
        What decides then; needed where there are such intervals. Any policy, also one that looks
        at intervals of its own; it notes as "warmup_policy.DataDriftTrigger", say.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.context import PastModel, PlainContext
    >>> from modyn.policies.history import HeldHistory
    >>> class WhenLabelZeroIsRare(BatchedTrigger):
    ...     def decide(self, interval, context):
    ...         keys = context.samples(interval.first, interval.last).keys
    ...         return bool((context.labels(keys) == 0).mean() < 0.3)
    >>> trigger = WhenLabelZeroIsRare(evaluation_interval_data_points=5)
    >>> stream = example_arrivals(20)
    >>> model = PastModel(
    ...     trigger=0, model="a", position=0, last_timestamp=None, samples=9, seconds=1.0
    ... )
    >>> context = PlainContext(models=[model], history=HeldHistory(stream), informed=20)
    >>> trigger.inform(stream, context)  # labels 0 1 2 0 1 | 2 0 1 2 0 | 1 2 0 1 2
    15
    """

    evaluation_interval_data_points: int
    warmup_intervals: int | None = None
    warmup_policy: Trigger | None = None

    def __post_init__(self) -> None:
        check_integer("evaluation_interval_data_points", self.evaluation_interval_data_points, 1)
        if self.warmup_intervals is not None:
            check_integer("warmup_intervals", self.warmup_intervals, 0)
        if self.warmup_intervals and self.warmup_policy is None:
            raise ValueError(f"warmup_intervals is {self.warmup_intervals}: name a warmup_policy")
        if self.warmup_policy is not None and not isinstance(self.warmup_policy, Trigger):
            raise TypeError(f"warmup_policy must be a Trigger, got {self.warmup_policy!r:.80}")
        self._check_nesting()
        self._begun = 0  # where the interval at hand began
        self._gathered = 0  # samples of it so far
        self._intervals = 0  # that are over
        self._warmup_fired = False  # in the interval at hand

    def _check_nesting(self) -> None:
        """Refuse a warm-up policy that never decides itself while it is asked."""
        inner = self.warmup_policy
        asked = (self.warmup_intervals or 0) * self.evaluation_interval_data_points
        if asked == 0 or not isinstance(inner, BatchedTrigger):
            return
        each, kind = inner.evaluation_interval_data_points, type(inner).__name__
        if each > asked:
            raise ValueError(
                f"warmup_policy: {kind} looks every {each} samples, and never does in a warm-up of "
                f"{asked}"
            )
        if (inner.warmup_intervals or 0) * each >= asked:
            raise ValueError(
                f"warmup_policy: {kind} warms up itself as long as it is asked, for {asked} "
                "samples: name its warmup_policy instead"
            )

    @property
    def warming_up(self) -> bool:
        """Whether `warmup_policy` decides at the end of the interval at hand."""
        return self._intervals < (self.warmup_intervals or 0)

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        """Return after how many of `arrivals` a trigger is due, or None."""
        done, here = 0, context
        while done < len(arrivals):
            if self._gathered == 0:
                self._begun = here.position
            taken = min(self.evaluation_interval_data_points - self._gathered, len(arrivals) - done)
            if self.warming_up:
                self._ask_warmup_policy(arrivals[done : done + taken], here)
            self._gathered += taken
            done += taken
            here = here.at(taken, len(arrivals) - done)
            if self._gathered == self.evaluation_interval_data_points and self._end(here.at(0)):
                return done
        return None

    def decide(self, interval: Interval, context: Context) -> bool:
        """Return whether a trigger is due at the end of an interval; there is a model.

        Parameters
        ----------
        interval : Interval
        context : Context
            As of the end of the interval.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define decide()")

    def warm_up(self, interval: Interval, context: Context) -> None:
        """Take note of an interval in which `decide` is not asked: the first, and in the warm-up.

        Called before the trigger, if there is one; `context.models` may be empty.
        """

    def _end(self, context: Context) -> bool:
        """Return whether a trigger is due at the end of the interval at hand."""
        interval = Interval(index=self._intervals, first=self._begun, last=context.position)
        warm = self.warming_up
        if warm or not context.models:
            fired = self._warmup_fired or not context.models
            self.warm_up(interval, context)
        else:
            fired = self.decide(interval, context)
        self._gathered, self._warmup_fired = 0, False
        self._intervals += 1
        return fired

    def _ask_warmup_policy(self, arrivals: Arrivals, context: Context) -> None:
        """Inform the warm-up policy of some arrivals."""
        policy, context = self.warmup_policy, cast(Context, Noting(context, _note_in_warmup))
        first = 0
        stuck = 0  # answers of 0 in a row
        while policy is not None and first < len(arrivals):
            due = policy.inform(arrivals[first:], context.at(first, len(arrivals) - first))
            self._warmup_fired |= due is not None
            if due is None:
                return
            stuck = stuck + 1 if due == 0 else 0
            if stuck > 1:
                raise RuntimeError(
                    f"warmup_policy {type(policy).__name__} answers 0 again and again: it must "
                    "consume a sample first"
                )
            first += due


def _note_in_warmup(context: Context, name: str, values: Mapping[str, Any]) -> None:
    context.note(f"warmup_policy.{name}", values)
