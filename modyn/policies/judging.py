"""Triggers that ask how well the newest model does on what came since: what they have in common.

Every interval of the stream is judged once: by the model that was the newest at its end, and on
samples that came after that model's trigger, so that it has not learned from them.  Where labels
come with a delay, an interval waits until the labels of all its samples are known; or its metrics
are estimated at once, where there is an estimator.

An interval that is judged when there is a newer model is overtaken: the model that did badly on it
is not in use any more, and what it got wrong is no reason to train again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modyn.metrics import Accuracy, Metric
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.checked import check_integer, check_stands_for
from modyn.policies.context import Context
from modyn.policies.estimation import Estimator
from modyn.policies.forecast import FORECASTS, ForecastingMethod
from modyn.policies.judged import Judged, noted, placed
from modyn.policies.performance_scores import Calibration, Performance
from modyn.policies.scores import score
from modyn.policies.time import PER_SECOND
from modyn.policies.waiting import Waiting, WaitingLine, nobody_waits
from modyn.policies.windows import OLDEST, last_timestamp

__all__ = ["JudgingTrigger", "Mode"]

Mode = Literal["hindsight", "lookahead"]


@dataclass(kw_only=True)
class JudgingTrigger(BatchedTrigger):
    """Judges the newest model on every interval; a subclass says what follows from that.

    Parameters
    ----------
    metrics : sequence of Metric
        What is measured.  Misclassifications are counted in any case.
    estimator : Estimator or None
        Estimates metrics of intervals whose labels are not known yet; None to wait for labels.
    mode : {"hindsight", "lookahead"}
        Whether avoidable misclassifications are those so far, or also those that are to be
        expected until the next interval is judged.
    forecasting_method : {"ridge_regression", "rolling_average"}
        How the accuracy of a new model, and the accuracy on the next interval, are forecast.
    data_density_window_size : int
        Over how many intervals the rate at which samples come is forecast; it is noted.
    performance_triggers_window_size : int
        Over how many values accuracies are forecast.
    """

    metrics: Sequence[Metric] = field(default_factory=lambda: (Accuracy(),))
    estimator: Estimator | None = None
    mode: Mode = "hindsight"
    forecasting_method: ForecastingMethod = "ridge_regression"
    data_density_window_size: int = 20
    performance_triggers_window_size: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.metrics = tuple(self.metrics)
        for metric in self.metrics:
            check_stands_for("each of metrics", metric, "measure", "modyn.metrics.Accuracy()")
        names = [metric.name for metric in self.metrics]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"metrics must be one or more, each once, got {names}")
        if self.mode not in ("hindsight", "lookahead"):
            raise ValueError(f"mode must be 'hindsight' or 'lookahead', got {self.mode!r}")
        if self.forecasting_method not in FORECASTS:
            raise ValueError(
                f"forecasting_method must be one of {', '.join(FORECASTS)}, "
                f"got {self.forecasting_method!r}"
            )
        check_integer("data_density_window_size", self.data_density_window_size, 1)
        check_integer("performance_triggers_window_size", self.performance_triggers_window_size, 1)
        if self.estimator is not None:
            check_stands_for("estimator", self.estimator, "estimate", "CBPE()")
            for metric in self.metrics:
                self.estimator.check(metric)
        self._sought = 0  # the trigger that was sought at the last look
        self._ended: int | None = None  # the clock at the end of the last interval
        self._waiting = nobody_waits()
        self._judged_trigger: int | None = None  # whose model was the last to be judged
        self._fresh: list[float] = []  # accuracies of models on the first interval after them
        self._recent: list[float] = []  # accuracies since the last trigger
        self._densities: list[float] = []  # samples per second of the last intervals
        self._newest: int | None = None  # timestamp up to the last look; for an estimator
        self._triggered: int | None = None  # the newest up to the last trigger
        self._calibration: dict[str, Any] = {"trigger": None, "learned": None}

    def weigh(self, judged: Judged, context: Context) -> Mapping[str, Any]:
        """Take in how well a model did, and return what to note of it; oldest interval first."""
        raise NotImplementedError(f"{type(self).__name__} does not define weigh()")

    def conclude(self, context: Context) -> tuple[bool, Mapping[str, Any]]:
        """Return whether a trigger is due after all that was judged now, and what to note."""
        raise NotImplementedError(f"{type(self).__name__} does not define conclude()")

    def forget(self) -> None:
        """Drop what does not outlive a trigger."""

    def decide(self, interval: Interval, context: Context) -> bool:
        """Return whether a trigger is due; see `BatchedTrigger`."""
        return self._attend(interval, context)

    def warm_up(self, interval: Interval, context: Context) -> None:
        """Judge intervals of the warm-up as well: their scores are what later ones are held to."""
        self._attend(interval, context)

    def forecast(self, values: Sequence[float]) -> float | None:
        """Return the next of a series of accuracies, from 0 to 1; None without any."""
        if not values:
            return None
        return min(max(FORECASTS[self.forecasting_method](values), 0.0), 1.0)

    def new_accuracy(self, given: float | None) -> float | None:
        """Return the accuracy that a new model is expected to have: as given, or forecast."""
        return self.forecast(self._fresh) if given is None else given

    def next_accuracy(self, judged: Judged) -> float | None:
        """Return the accuracy that is expected of the model that is in use on what comes next."""
        return self.forecast(_with(self._recent, judged.accuracy, self._few))

    @property
    def _few(self) -> int:
        return self.performance_triggers_window_size

    def _attend(self, interval: Interval, context: Context) -> bool:
        """Look at all that can be judged at the end of an interval."""
        if context.trigger != self._sought:
            self._sought, self._recent = context.trigger, []
            self._triggered = self._newest_in(interval.first, context.triggered_at, context)
            self.forget()
        self._measure_density(interval, context)
        if context.models:
            self._calibrate(context)
        self._newest = self._newest_in(interval.first, interval.last, context)
        notes = []
        for judged in self._judge(self._due(interval, context), context):
            notes.append({**noted(judged), **self.weigh(judged, context)})
            self._remember(judged)
        fires, more = self.conclude(context)
        fires = fires and not self.warming_up
        if self.warming_up or not context.models:
            fires = self._warmup_fired or not context.models
        context.note(
            type(self).__name__,
            {
                **placed(interval, context),
                "warmup": self.warming_up,
                "samples_per_second": self.density(),
                "waiting": len(self._line()),
                "judged": notes,
                **more,
                "fires": fires,
            },
        )
        return fires

    def _newest_in(self, first: int, last: int, context: Context) -> int | None:
        """Return the newest timestamp up to a position of the interval at hand."""
        if self.estimator is None or first >= last:
            return self._newest
        times = context.samples(first, last).timestamps.tolist()
        return max([*times, *([] if self._newest is None else [self._newest])], default=None)

    def _measure_density(self, interval: Interval, context: Context) -> None:
        """Take note of how many samples came per second in the interval."""
        ended = context.clock
        first = max(interval.first, context.triggered_at)
        timestamps = context.samples(first, interval.last).timestamps
        if ended is None or len(timestamps) == 0:
            return
        whole = first == interval.first and self._ended is not None
        begun = self._ended if whole and self._ended is not None else int(timestamps[0])
        passed = (ended - begun) / PER_SECOND[context.timestamp_unit]
        if passed > 0:
            density = len(timestamps) / passed
            self._densities = _with(self._densities, density, self.data_density_window_size)
        self._ended = ended

    def _line(self) -> WaitingLine:
        """Return the intervals that wait for their labels."""
        if not hasattr(self, "_cached_line"):
            self._cached_line = WaitingLine(self._waiting)
        return self._cached_line

    def _due(self, interval: Interval, context: Context) -> list[Waiting]:
        """Return all intervals that can be judged now, oldest first; the others go on waiting."""
        if not context.models:
            return []
        first = max(interval.first, context.triggered_at)
        trigger, skipped = context.models[-1].trigger, first - interval.first
        if self.estimator is not None or context.label_delay == 0:
            whole = skipped == 0
            return [Waiting(interval.index, first, interval.last, trigger, whole=whole)]

        def latest(one: Waiting) -> int:
            return int(context.samples(one.first, one.last).timestamps.max(initial=OLDEST))

        line = self._line()
        line.append(interval, skipped, trigger)
        line.timed(latest(Waiting(interval.index, first, interval.last, trigger, whole=True)))
        known = OLDEST if context.clock is None else context.clock - context.label_delay
        return line.due(known, latest)

    def _judge(self, due: list[Waiting], context: Context) -> list[Judged]:
        """Return how well models did on intervals, oldest first."""
        judged: list[Judged] = []
        for one in due:
            samples = context.samples(one.first, one.last)
            if len(samples) == 0:
                continue  # all of them were erased while they waited
            accuracy, scores, estimated = self.measure(samples.keys, one.trigger, context)
            maiden = one.trigger != self._judged_trigger
            self._judged_trigger = one.trigger
            judged.append(
                Judged(
                    index=one.index,
                    first=one.first,
                    last=one.last,
                    trigger=one.trigger,
                    begun=_begun(one, int(samples.timestamps[0]), context),
                    ended=int(samples.timestamps[-1]),
                    samples=len(samples),
                    accuracy=accuracy,
                    scores=scores,
                    estimated=estimated,
                    overtaken=one.trigger != context.models[-1].trigger,
                    maiden=maiden,
                    ahead=0,
                )
            )
        if judged:
            judged[-1] = replace(judged[-1], ahead=self._ahead(judged[-1], context))
        return judged

    def _ahead(self, one: Judged, context: Context) -> int:
        """Return how many samples come between the end of an interval and the next judgement."""
        return self.evaluation_interval_data_points + context.position - one.last

    def measure(
        self, keys: npt.NDArray[np.uint64], trigger: int, context: Context
    ) -> tuple[float, Mapping[str, float], bool]:
        """Return accuracy and metrics of a model on samples, and whether they are estimates."""
        found = score(self.question(keys, trigger, context), context)
        return found.accuracy, found.scores, found.estimated

    def question(self, keys: npt.NDArray[np.uint64], trigger: int, context: Context) -> Performance:
        """Return the question how well a model does on samples; see `modyn.policies.scores`."""
        estimator = self.estimator
        if estimator is not None and (context.label_delay == 0 or context.labelled(keys).all()):
            estimator = None
        learned = self._calibration["learned"]
        model = context.models[-1]
        if model.trigger != trigger:
            model = next(one for one in context.models if one.trigger == trigger)
        return Performance(
            model=model.model,
            keys=keys.tobytes(),
            metrics=tuple(self.metrics),
            estimator=estimator,
            calibration=None
            if learned is None or estimator is None
            else tuple(sorted(learned.items())),
            trigger=trigger,
        )

    def _calibrate(self, context: Context) -> None:
        """Let the estimator learn from samples that a model has not learned from, once it can.

        Those are the first whose labels were not known at the model's trigger.  Until they are, the
        estimator goes by what it learned of the model before.
        """
        model = context.models[-1]
        if self.estimator is None or self._calibration["trigger"] == model.trigger:
            return
        first = model.position
        if context.label_delay > 0 and self._triggered is not None:
            first = min(first, context.first_at(self._triggered - context.label_delay + 1))
        last = first + self.estimator.calibration_samples
        if last > context.position:
            return
        keys = context.samples(first, last).keys
        if len(keys) == 0 or not context.labelled(keys).all():
            return
        question = Calibration(model=model.model, keys=keys.tobytes(), estimator=self.estimator)
        learned = dict(score(question, context))
        self._calibration = {"trigger": model.trigger, "learned": learned}

    def _remember(self, judged: Judged) -> None:
        """Keep an accuracy for later forecasts."""
        if not np.isfinite(judged.accuracy):
            return
        if judged.maiden:
            self._fresh = _with(self._fresh, judged.accuracy, self._few)
        if not judged.overtaken:
            self._recent = _with(self._recent, judged.accuracy, self._few)

    def density(self) -> float | None:
        """Return the forecast of how many samples come per second; None without any."""
        if not self._densities:
            return None
        return max(FORECASTS[self.forecasting_method](self._densities), 0.0)


def _begun(one: Waiting, first_timestamp: int, context: Context) -> int:
    """Return the clock at the beginning of an interval: at the end of the one before it."""
    before = last_timestamp(context, one.first) if one.whole and one.index > 0 else None
    return first_timestamp if before is None else before


def _with(values: list[float], value: float, count: int) -> list[float]:
    """Return the last `count` of the values and one more."""
    return [*values, value][-count:]
