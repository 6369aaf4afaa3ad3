"""Triggers that weigh what waiting costs against what a training costs.

What waits are regrets: samples that no model has learned from, or misclassifications that a new
model would have avoided.  R regrets that wait for dt seconds add R * dt to the regret latency L,
in regret-seconds.  A training is due where L, over what a second of training is worth, reaches
the seconds that it is predicted to take.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.checked import check_flag, check_integer, check_number
from modyn.policies.context import Context
from modyn.policies.judged import Judged, placed
from modyn.policies.judging import JudgingTrigger
from modyn.policies.price import Conversion, NextTraining, Price
from modyn.policies.time import PER_SECOND

__all__ = [
    "AvoidableMisclassificationCostTrigger",
    "DataIncorporationLatencyCostTrigger",
]


class _Weighing:
    """What both triggers do with a regret latency; see `Price`."""

    cost_tracking_window_size: int
    conversion: Conversion
    training_samples_per_second: float | None

    @property
    def worth(self) -> float:
        """How many regret-seconds of waiting a second of training is worth."""
        raise NotImplementedError

    @property
    def price(self) -> Price:
        """What the regret latency is held against."""
        rate = self.training_samples_per_second
        return Price(
            worth=self.worth,
            divide=self.conversion == "divide",
            rate=float("nan") if rate is None else rate,
        )

    def weighed(self, latency: float, context: Context) -> tuple[bool, dict[str, Any]]:
        """Return whether a training is due for a regret latency, and what to note of it."""
        if not context.models:
            return False, {}
        price = self.price
        measured = self.training_samples_per_second is None
        window = self.cost_tracking_window_size if measured else None
        training = NextTraining.after(context.models, window)
        samples = training.samples(context.position)
        seconds, accepted = price.seconds(training, samples), price.converted(latency)
        return bool(accepted >= seconds), {
            "regret_latency": latency,
            "converted": float(accepted),
            "training_samples": samples,
            "training_seconds": float(seconds),
        }


def _check(trigger: Any, worth: str) -> None:
    check_number(worth, getattr(trigger, worth), 0)
    if getattr(trigger, worth) == 0:
        raise ValueError(f"{worth} must be above 0")
    check_integer("cost_tracking_window_size", trigger.cost_tracking_window_size, 1)
    if trigger.conversion not in ("divide", "multiply"):
        raise ValueError(f"conversion must be 'divide' or 'multiply', got {trigger.conversion!r}")
    rate = trigger.training_samples_per_second
    if rate is not None:
        check_number("training_samples_per_second", rate, 0)
        if rate == 0:
            raise ValueError("training_samples_per_second must be above 0")


@dataclass(kw_only=True)
class DataIncorporationLatencyCostTrigger(_Weighing, BatchedTrigger):
    """A trigger is due where samples have waited for as long as a training is worth.

    Every sample that no trigger has taken waits from its timestamp on.  At the end of every
    interval, let L be the sum of these times in seconds; a trigger is due where
    L / incorporation_delay_per_training_second is at least the seconds that a training is
    predicted to take.  With samples at a constant rate a and trainings of T seconds the time
    between triggers is about sqrt(2 * delay_per_second * T / a).

    Parameters
    ----------
    evaluation_interval_data_points : int
        Samples of an interval.
    warmup_intervals, warmup_policy
        As in `BatchedTrigger`.
    incorporation_delay_per_training_second : float
        How many sample-seconds of waiting a second of training is worth; above 0.
    cost_tracking_window_size : int
        From how many of the last trainings the seconds of the next are predicted.
    conversion : {"divide", "multiply"}
        "multiply" is for files in which the key is meant the other way round.
    training_samples_per_second : float or None
        A fixed rate at which trainings go, so that decisions are the same on every machine; None
        for the seconds that trainings took.

    References
    ----------
    H. Tian, M. Yu, W. Wang: Continuum: A Platform for Cost-Aware, Low-Latency Continual Learning,
    SoCC 2018, DOI 10.1145/3267809.3267817.  Its policy compares the same two costs; the size of
    the next training set is predicted here from earlier ones.

    Examples
    --------
    Samples every second, and trainings of 5 seconds each: 10 samples have waited for 45 seconds.

    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.context import PastModel, PlainContext
    >>> from modyn.policies.history import HeldHistory
    >>> trigger = DataIncorporationLatencyCostTrigger(
    ...     evaluation_interval_data_points=1, incorporation_delay_per_training_second=9.0
    ... )
    >>> stream = example_arrivals(40)
    >>> model = PastModel(
    ...     trigger=0, model="a", position=0, last_timestamp=None, samples=9, seconds=5.0
    ... )
    >>> context = PlainContext(models=[model], history=HeldHistory(stream), informed=40)
    >>> trigger.inform(stream, context)
    10
    """

    incorporation_delay_per_training_second: float
    cost_tracking_window_size: int = 1000
    conversion: Conversion = "divide"
    training_samples_per_second: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "incorporation_delay_per_training_second")
        self._sought = 0  # the trigger that was sought at the last look
        self._regrets = 0  # samples that wait
        self._latency = 0  # for how long in all, in units of timestamps: exact
        self._clock: int | None = None  # at the last look, the latest timestamp so far

    @property
    def worth(self) -> float:
        """How many sample-seconds of waiting a second of training is worth."""
        return self.incorporation_delay_per_training_second

    def warm_up(self, interval: Interval, context: Context) -> None:
        """Let samples wait in the warm-up as well."""
        self._wait(interval, context)
        fires = self._warmup_fired or not context.models
        self._note(interval, context, {"fires": fires})

    def decide(self, interval: Interval, context: Context) -> bool:
        """Return whether waiting costs as much as a training."""
        self._wait(interval, context)
        fires, weighed = self.weighed(self._latency / PER_SECOND[context.timestamp_unit], context)
        self._note(interval, context, {**weighed, "fires": fires})
        return fires

    def _note(self, interval: Interval, context: Context, values: Mapping[str, Any]) -> None:
        place = placed(interval, context)
        waits = {"warmup": self.warming_up, "regrets": self._regrets}
        context.note(type(self).__name__, {**place, **waits, **values})

    def _wait(self, interval: Interval, context: Context) -> None:
        """Let time pass until now, and take in the samples that came since."""
        if context.trigger != self._sought:
            self._sought, self._regrets, self._latency = context.trigger, 0, 0
        first = max(interval.first, context.triggered_at)
        timestamps = context.samples(first, interval.last).timestamps
        if len(timestamps) == 0:
            return
        now = int(timestamps.max())
        now = now if self._clock is None else max(now, self._clock)
        passed = 0 if self._clock is None else now - self._clock
        # Python's integers: the sums of many waits in nanoseconds are beyond 64 bits.
        newest = len(timestamps) * now - sum(timestamps.tolist())
        self._latency += self._regrets * passed + newest
        self._regrets += len(timestamps)
        self._clock = now


@dataclass(kw_only=True)
class AvoidableMisclassificationCostTrigger(_Weighing, JudgingTrigger):
    """A trigger is due where misclassifications that were avoidable cost as much as a training.

    An interval of n samples with m misclassified adds m - (1 - expected accuracy) * n regrets, at
    least 0 unless `allow_reduction`, which wait from the middle of the interval on.  At the end of
    every interval, let L be how long regrets have waited in all, in seconds; a trigger is due
    where L / avoidable_misclassification_latency_per_training_second is at least the seconds that
    a training is predicted to take.

    Parameters
    ----------
    evaluation_interval_data_points : int
        Samples of an interval.
    warmup_intervals, warmup_policy
        As in `BatchedTrigger`.
    avoidable_misclassification_latency_per_training_second : float
        How many regret-seconds of waiting a second of training is worth; above 0.
    expected_accuracy : float or None
        What a new model would reach, from 0 to 1.  None for a forecast from how well earlier
        models did on the first interval after their trigger; there are no regrets until there is
        one.
    allow_reduction : bool
        Whether intervals that were better than expected take regrets away; never below 0.
    cost_tracking_window_size, conversion, training_samples_per_second
        As in `DataIncorporationLatencyCostTrigger`.
    metrics, estimator, mode, forecasting_method, data_density_window_size
        As in `JudgingTrigger`; with "lookahead" the latency is the one that is to be expected when
        the next interval is judged.
    performance_triggers_window_size : int
        As in `JudgingTrigger`.
    """

    avoidable_misclassification_latency_per_training_second: float
    expected_accuracy: float | None = None
    allow_reduction: bool = False
    cost_tracking_window_size: int = 1000
    conversion: Conversion = "divide"
    training_samples_per_second: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "avoidable_misclassification_latency_per_training_second")
        if self.expected_accuracy is not None:
            check_number("expected_accuracy", self.expected_accuracy, 0, 1)
        check_flag("allow_reduction", self.allow_reduction)
        self._regrets = 0.0  # misclassifications that wait
        self._latency = 0.0  # for how long in all, in units of timestamps
        self._coming = 0.0  # the latency to be expected until the next judgement
        self._clock: int | None = None  # up to which waiting is counted

    @property
    def worth(self) -> float:
        """How many regret-seconds of waiting a second of training is worth."""
        return self.avoidable_misclassification_latency_per_training_second

    def forget(self) -> None:
        """Let nothing wait any more."""
        self._regrets = self._latency = self._coming = 0.0

    def weigh(self, judged: Judged, context: Context) -> Mapping[str, Any]:
        """Take in the regrets of an interval, which have waited since its middle."""
        self._pass(context)
        expected = self.new_accuracy(self.expected_accuracy)
        regrets = judged.avoidable(expected, self.allow_reduction)
        if judged.overtaken:
            return {"expected_accuracy": expected, "avoidable": regrets}
        regrets = max(regrets, -self._regrets)
        now = judged.ended if self._clock is None else self._clock
        self._regrets += regrets
        middle = (judged.begun + judged.ended) / 2
        self._latency = max(0.0, self._latency + regrets * (now - middle))
        self._coming = self._expect(expected, judged, context)
        return {"expected_accuracy": expected, "avoidable": regrets}

    def conclude(self, context: Context) -> tuple[bool, Mapping[str, Any]]:
        """Return whether waiting costs as much as a training."""
        self._pass(context)
        latency, self._coming = self._latency + self._coming, 0.0
        fires, noted = self.weighed(latency / PER_SECOND[context.timestamp_unit], context)
        return fires and self._regrets > 0, {"regrets": self._regrets, **noted}

    def _pass(self, context: Context) -> None:
        """Let time pass until now."""
        now = context.clock
        if now is None:
            return
        if self._clock is not None and now > self._clock:
            self._latency += self._regrets * (now - self._clock)
        self._clock = now if self._clock is None else max(now, self._clock)

    def _expect(self, expected: float | None, judged: Judged, context: Context) -> float:
        """Return the latency that comes on top until the next interval is judged."""
        accuracy, density = self.next_accuracy(judged), self.density()
        if self.mode == "hindsight" or expected is None or accuracy is None or not density:
            return 0.0
        units = judged.ahead / density * PER_SECOND[context.timestamp_unit]
        coming = max(0.0, expected - accuracy) * judged.ahead
        return (self._regrets + coming / 2) * units
