"""Triggers where the data have changed: windows, distances, and what to make of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modyn.drift.base import Distance
from modyn.policies.aggregation import AggregationStrategy, MajorityVote, check_votes
from modyn.policies.base import Context
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.checked import check_flag, check_integer, check_named, check_stands_for
from modyn.policies.drift_metric import Metric
from modyn.policies.drift_scores import DriftScores
from modyn.policies.judged import placed
from modyn.policies.scores import score
from modyn.policies.window_rows import Kept, WindowRows
from modyn.policies.windows import (
    AmountWindowingStrategy,
    State,
    Window,
    WindowingStrategy,
    Windows,
)

__all__ = ["DataDriftTrigger", "Metric"]


@dataclass(kw_only=True)
class DataDriftTrigger(BatchedTrigger):
    """A trigger is due at the end of an interval whose data are far from those of the last trigger.

    At the end of each interval two windows are compared: a reference, which ends where the last
    trigger fell, and a current one, which ends with the newest sample.  Of each, at most
    `sample_size` samples are drawn, uniformly.  Each metric gives a distance, its criterion says
    whether that is drift, and the votes of all metrics are aggregated.

    A criterion that compares with earlier scores keeps those of its metric, oldest first.  They
    begin with a calibration: the references of all warm-up intervals (of the first, its current
    window) are compared with the current window of the last, as the first model after the warm-up
    sees them, oldest first; a window is not compared with itself.

    Where there is nothing left to compare with, a trigger is due: that is so while there is no
    model, and where the reference holds no samples.  A distance that is not defined never fires.

    Parameters
    ----------
    evaluation_interval_data_points, warmup_intervals, warmup_policy
        As in `BatchedTrigger`. A criterion with `needs_calibration` needs a `warmup_policy`.
    metrics : mapping of str to Metric
        At least one.
    windowing_strategy : WindowingStrategy
        What is compared with what.
    sample_size : int or None
        How many samples of a window are looked at, at least 2; all if None.
    aggregation_strategy : AggregationStrategy
        How votes become a decision.
    reset_history_on_model : bool
        Scores of embeddings and predictions depend on the model. With this, the windows of earlier
        scores are compared anew when there is another model; else scores stay as they were.
    reset_windows_in_warmup : bool
        Whether the end of every warm-up interval but the last moves the end of the reference, as
        a trigger does.

    References
    ----------
    M. Boether et al., "Modyn: Data-Centric Machine Learning Pipeline Orchestration", Proc. ACM
    Manag. Data 3(1), 2025, describe such policies.  Here windows follow from positions, so that
    nothing is lost or seen twice however large intervals are; relative deviations are of |mean|;
    distances are exact, and no tests of hypotheses decide unless `score` asks for it.

    Examples
    --------
    The numbers of the records move at sample 300:

    >>> import numpy as np
    >>> from modyn import drift
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies import HeldHistory, PastModel, PlainContext
    >>> from modyn.policies.criteria import ThresholdDecisionCriterion
    >>> class Records:
    ...     def fields(self, keys):
    ...         return {"dense": np.sin(keys.astype(float)) + (keys >= 300)}
    >>> trigger = DataDriftTrigger(
    ...     evaluation_interval_data_points=100,
    ...     metrics={
    ...         "moved": Metric(
    ...             metric=drift.KS(),
    ...             decision_criterion=ThresholdDecisionCriterion(threshold=0.3),
    ...             of="features",
    ...         )
    ...     },
    ...     windowing_strategy=AmountWindowingStrategy(amount_ref=200, amount_cur=100),
    ... )
    >>> stream = example_arrivals(600)
    >>> model = PastModel(
    ...     trigger=0, model="a", position=100, last_timestamp=99, samples=100, seconds=1.0
    ... )
    >>> context = PlainContext(
    ...     position=100, triggered_at=100, informed=500, models=[model],
    ...     history=HeldHistory(stream), answers=Records(),
    ... )
    >>> trigger.inform(stream[100:], context)  # at position 100 + 300
    300
    """

    metrics: Mapping[str, Metric]
    windowing_strategy: WindowingStrategy = field(default_factory=AmountWindowingStrategy)
    sample_size: int | None = 5000
    aggregation_strategy: AggregationStrategy = field(default_factory=MajorityVote)
    reset_history_on_model: bool = False
    reset_windows_in_warmup: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named("metrics", self.metrics)
        if not self.metrics:
            raise ValueError("metrics needs at least one entry")
        for name, metric in self.metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(
                    f"metrics.{name} must be a Metric(metric=..., decision_criterion=...), "
                    f"got {metric!r:.80}"
                )
            if metric.decision_criterion.needs_calibration and self.warmup_policy is None:
                kind = type(metric.decision_criterion).__name__
                raise ValueError(f"metrics.{name}: {kind} needs a warmup_policy to be calibrated")
        if self.sample_size is not None:
            check_integer("sample_size", self.sample_size, 2)
        check_votes("aggregation_strategy", self.aggregation_strategy, len(self.metrics))
        example = "AmountWindowingStrategy()"
        check_stands_for("windowing_strategy", self.windowing_strategy, "windows", example)
        self._check_windows()
        for flag in ("reset_history_on_model", "reset_windows_in_warmup"):
            check_flag(flag, getattr(self, flag))
        self._reset_at = 0  # where windows were cut anew, as at a trigger
        self._references: list[State] = []  # of warm-up intervals, until calibration
        self._warmed_up: State | None = None  # the current window of the last of them, until then
        self._scores: dict[str, list[float]] = {name: [] for name in self.metrics}
        self._compared: list[State] = []  # pairs of windows that were, to do it anew
        self._scored_by: str | None = None  # the model

    def _check_windows(self) -> None:
        """Refuse windows that are always too small for a metric."""
        strategy = self.windowing_strategy
        if not isinstance(strategy, AmountWindowingStrategy):
            return
        for name, metric in self.metrics.items():
            least = getattr(metric.metric, "least_rows", 1)
            for size in ("amount_ref", "amount_cur"):
                if getattr(strategy, size) < least:
                    raise ValueError(
                        f"metrics.{name}: {type(metric.metric).__name__} needs {least} samples in "
                        f"each window, but {size} is {getattr(strategy, size)}"
                    )

    def warm_up(self, interval: Interval, context: Context) -> None:
        """Keep the windows that scores begin with; see `BatchedTrigger`."""
        windows = self.windows(context)
        fires = self._warmup_fired or not context.models
        seen: dict[str, Any] = {"warmup": self.warming_up, "metrics": {}, "fires": fires}
        context.note(type(self).__name__, {**_placed(interval, windows, context), **seen})
        if not self.warming_up:
            return
        length = self._longest()
        if length > 0:
            first = windows.reference.first == windows.reference.last
            reference = windows.current if first else windows.reference
            self._references = [*self._references, reference.state()][-length:]
            self._warmed_up = windows.current.state()
        if self.reset_windows_in_warmup and interval.index + 1 < (self.warmup_intervals or 0):
            self._reset_at = interval.last

    def decide(self, interval: Interval, context: Context) -> bool:
        """Return whether a trigger is due at the end of an interval; see `BatchedTrigger`."""
        self._calibrate(context)
        self._compare_anew(context)
        windows = self.windows(context)
        question = self.question(windows, context, kept=getattr(self, "_cached_rows", {}))
        compared = score(question, context)
        self._cached_rows = question.rows.to_keep(windows.reference) or question.rows.kept
        found = {
            name: self._vote(name, compared.distances[i], compared.counts[i])
            for i, name in enumerate(self.metrics)
        }
        self._remember(windows)
        votes = {name: vote for name, (vote, _) in found.items()}
        fires = compared.alone or self.aggregation_strategy.decide(votes)
        metrics = {name: values for name, (_, values) in found.items()}
        seen: dict[str, Any] = {"warmup": False, "metrics": metrics, "fires": fires}
        context.note(type(self).__name__, {**_placed(interval, windows, context), **seen})
        return fires

    def windows(self, context: Context) -> Windows:
        """Return what is compared with what at the end of an interval."""
        since = max(context.triggered_at, self._reset_at)
        return self.windowing_strategy.windows(context, since)

    def question(
        self,
        windows: Windows,
        context: Context,
        *,
        names: Sequence[str] | None = None,
        kept: Kept | None = None,
    ) -> DriftScores:
        """Return the question how far windows are apart; see `modyn.policies.scores`.

        Parameters
        ----------
        windows : Windows
        context : Context
            With a model.
        names : sequence of str, optional
            By which metrics; by all if None.
        kept : mapping, optional
            What `DriftScores.rows` kept of an earlier question.
        """
        names = tuple(self.metrics if names is None else names)
        looks = tuple((self.metrics[name].metric, self.metrics[name].look) for name in names)
        labels = context.label_delay > 0 and any(look.of == "labels" for _, look in looks)
        return DriftScores(
            metrics=looks,
            windows=windows,
            sample_size=self.sample_size,
            model=context.models[-1].model,
            known=context.position if labels else None,
            names=names,
            rows=WindowRows(
                context, self.sample_size, self.evaluation_interval_data_points, kept or {}
            ),
        )

    def calibrated(self, context: Context) -> Mapping[str, Sequence[float]]:
        """Return the scores that each metric has when it is first asked, oldest first.

        Parameters
        ----------
        context : Context
            As of the end of the first interval after the warm-up.
        """
        self._calibrate(context)
        return self._scores

    def _longest(self) -> int:
        """Return how many scores the criterion that looks at most of them looks at."""
        return max(metric.decision_criterion.window_size for metric in self.metrics.values())

    def _vote(
        self, name: str, distance: Distance, counts: tuple[int, int]
    ) -> tuple[bool, dict[str, Any]]:
        """Return whether a metric says drift, and what it saw."""
        metric = self.metrics[name]
        value = metric.score_of(distance)
        verdict = metric.verdict(value, self._scores[name])
        self._keep(name, value)
        return bool(verdict.fires), {
            "distance": _number(distance.value),
            "p_value": _number(distance.p_value),
            "score": _number(value),
            "threshold": _number(verdict.threshold),
            "fires": bool(verdict.fires),
            "reference_samples": counts[0],
            "current_samples": counts[1],
            "details": {key: _number(value) for key, value in distance.details.items()},
        }

    def _keep(self, name: str, score: float) -> None:
        """Add a score to those of a metric, and drop what is too old to matter."""
        length = self.metrics[name].decision_criterion.window_size
        if length > 0 and math.isfinite(score):
            self._scores[name] = [*self._scores[name], score][-length:]

    def _remember(self, windows: Windows) -> None:
        """Take note of windows whose scores are kept."""
        if self.reset_history_on_model and self._longest() > 0:
            pair = windows.reference.state() + windows.current.state()
            self._compared = [*self._compared, pair][-self._longest() :]

    def _calibrate(self, context: Context) -> None:
        """Begin the scores, once, with the windows of the warm-up."""
        if self._warmed_up is None:
            return
        current = Window.of(self._warmed_up)
        for state in self._references:
            reference = Window.of(state)
            if reference != current:
                windows = Windows(reference=reference, current=current)
                self._compare(windows, list(self.metrics), context)
                self._remember(windows)
        self._references, self._warmed_up = [], None

    def _compare_anew(self, context: Context) -> None:
        """Replace earlier scores that a model gave by those that the newest model gives."""
        newest = context.models[-1].model
        if self.reset_history_on_model and self._scored_by not in (None, newest):
            names = [name for name, metric in self.metrics.items() if metric.look.asks_a_model]
            for name in names:
                self._scores[name] = []
            for state in self._compared:
                reference, current = Window.of(state[:3]), Window.of(state[3:])
                self._compare(Windows(reference=reference, current=current), names, context)
        self._scored_by = newest

    def _compare(self, windows: Windows, names: list[str], context: Context) -> None:
        """Add the scores of two windows, about which nothing is decided."""
        names = [name for name in names if self.metrics[name].decision_criterion.window_size > 0]
        if not names:
            return
        found = score(self.question(windows, context, names=names), context)
        for name, distance in zip(names, found.distances, strict=True):
            self._keep(name, self.metrics[name].score_of(distance))


def _placed(interval: Interval, windows: Windows, context: Context) -> dict[str, Any]:
    """Return what a note says of any interval."""
    return {
        **placed(interval, context),
        "reference": windows.reference.state(),
        "current": windows.current.state(),
    }


def _number(value: float | None) -> float | None:
    """Return a number as JSON has it."""
    return float(value) if value is not None and math.isfinite(value) else None
