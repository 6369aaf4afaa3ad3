"""Crowds of performance and drift policies: which can walk side by side, and how they decide."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.backtesting.columns import Column, column_of, kind_of
from modyn.backtesting.lockstep import Walk, walk
from modyn.backtesting.play import Played, Player
from modyn.backtesting.scoring import Schedule
from modyn.policies import DataDriftTrigger, PerformanceTrigger, Trigger
from modyn.policies.aggregation import AtLeastN, MajorityVote
from modyn.policies.batched import BatchedTrigger
from modyn.policies.drawing import position_seed
from modyn.policies.performance_criteria import (
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
)
from modyn.policies.window_rows import WindowRows

__all__ = ["kind", "walked"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

THRESHOLDS = (
    StaticPerformanceThresholdCriterion,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
)
ROUNDING = 1e-9  # of PerformanceTrigger


def kind(policy: Trigger, player: Player) -> tuple[object, ...] | None:
    """Return what policies of one crowd have in common; None for one that walks alone."""
    if type(policy) is PerformanceTrigger:
        about = _performance_kind(policy, player)
    elif type(policy) is DataDriftTrigger:
        about = _drift_kind(policy, player)
    else:
        return None
    if about is None:
        return None
    batched = (policy.evaluation_interval_data_points, policy.warmup_intervals or 0)
    warmup = repr(policy.warmup_policy) if policy.warmup_intervals else ""
    return (type(policy).__name__, *batched, warmup, about)


def walked(policies: Sequence[Trigger], player: Player) -> list[Schedule]:
    """Return where the policies of one crowd fire."""
    first = policies[0]
    if not isinstance(first, BatchedTrigger):
        raise TypeError(f"{type(first).__name__} has no crowd")
    samples, warmup = first.evaluation_interval_data_points, first.warmup_intervals or 0
    fresh = player.fresh(first)
    player.follow(fresh, until=warmup * samples)
    fired = set(fresh.models.fired)
    warm = [(interval + 1) * samples in fired for interval in range(warmup)]
    decider: _Performance | _Drift
    if isinstance(first, PerformanceTrigger):
        decider = _Performance([p for p in policies if isinstance(p, PerformanceTrigger)], player)
    else:
        history = _calibrated(fresh, player, samples, warmup)
        some = [policy for policy in policies if isinstance(policy, DataDriftTrigger)]
        decider = _Drift(some, player, history)
    return walk(
        player.matrix,
        decider,
        count=len(policies),
        samples=samples,
        warm=warm,
        most=player.most,
    )


# Performance -------------------------------------------------------------------------------------


def _performance_kind(policy: PerformanceTrigger, player: Player) -> tuple[object, ...] | None:
    if policy.estimator is not None or policy.mode != "hindsight" or player.delay:
        return None
    kinds: list[object] = []
    for criterion in policy.decision_criteria.values():
        if isinstance(criterion, StaticNumberAvoidableMisclassificationCriterion):
            if criterion.expected_accuracy is None:
                return None
            kinds.append(("avoidable", criterion.allow_reduction))
        elif type(criterion) in THRESHOLDS:
            column = kind_of(criterion.stands_for())
            if column is None:
                return None
            kinds.append((criterion.metric, column))
        else:
            return None
    return (repr(policy.metrics), *kinds)


class _Performance:
    """What performance triggers decide: any criterion fires."""

    def __init__(self, policies: Sequence[PerformanceTrigger], player: Player) -> None:
        self._asker = policies[0]
        self._player = player
        self._about = (self._asker.evaluation_interval_data_points, repr(self._asker.metrics))
        self._columns: list[tuple[str, Column]] = []
        for name, criterion in self._asker.decision_criteria.items():
            place = list(self._asker.decision_criteria).index(name)
            all_of_them: list[Any] = [list(p.decision_criteria.values())[place] for p in policies]
            if isinstance(criterion, StaticNumberAvoidableMisclassificationCriterion):
                self._columns.append(("", _Avoidable(all_of_them, self._about[0])))
            else:
                inner = [one.stands_for() for one in all_of_them]
                self._columns.append((criterion.metric, column_of(inner, lower=True)))

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        rows, which = np.unique(at.row, return_inverse=True)
        asked = [self._ask(int(row), interval) for row in rows]
        fires = np.zeros(len(which), dtype=np.bool_)
        for metric, column in self._columns:
            scores = np.array([found[metric] for found in asked])[which]
            fires |= column.verdicts(scores)
        return fires

    def observe(self, interval: int, at: Walk) -> None:
        """Take in how well models do in the warm-up."""
        self.decide(interval, at)

    def forget(self, fired: Bools) -> None:
        """Begin to count anew."""
        for _, column in self._columns:
            if isinstance(column, _Avoidable):
                column.number[fired] = 0.0

    def _ask(self, row: int, interval: int) -> Mapping[str, float]:
        """Return the metrics of a model on an interval, and its accuracy under the name ""."""
        place = ("performance", *self._about, self._player.matrix.table.rows[row].model, interval)
        found = self._player.answered.get(place)
        if found is None:
            samples = self._about[0]
            first, last = interval * samples, (interval + 1) * samples
            context = self._player.context_of(row, last)
            keys = self._player.matrix.tape.arrivals.keys[first:last]
            accuracy, scores, _ = self._asker.measure(keys, context.models[-1].trigger, context)
            found = self._player.answered[place] = {**scores, "": accuracy}
        return found


class _Avoidable:
    """The number of avoidable misclassifications of each policy."""

    def __init__(
        self, criteria: Sequence[StaticNumberAvoidableMisclassificationCriterion], samples: int
    ) -> None:
        thresholds = [one.avoidable_misclassification_threshold for one in criteria]
        self._least = np.array([one * (1 - ROUNDING) for one in thresholds], dtype=np.float64)
        self._wrong = np.array([(1 - float(one.expected_accuracy or 0)) for one in criteria])
        self._samples, self._reduce = samples, criteria[0].allow_reduction
        self.number = np.zeros(len(criteria))

    def verdicts(self, accuracy: Floats) -> Bools:
        """Add what was avoidable, and return where the number is reached."""
        more = self._samples * (1 - accuracy) - self._wrong * self._samples
        if not self._reduce:
            more = np.maximum(0.0, more)
        more = np.where(np.isfinite(accuracy), more, 0.0)
        self.number = np.maximum(0.0, self.number + more)
        reached: Bools = self.number >= self._least
        return reached


# Drift -------------------------------------------------------------------------------------------


def _drift_kind(policy: DataDriftTrigger, player: Player) -> tuple[object, ...] | None:
    if policy.reset_history_on_model or policy.reset_windows_in_warmup:
        return None
    if player.matrix.tape.positions is not None:  # a window may be empty
        return None
    if type(policy.aggregation_strategy) not in (MajorityVote, AtLeastN):
        return None
    kinds: list[object] = []
    for metric in policy.metrics.values():
        criterion = kind_of(metric.decision_criterion)
        if criterion is None or (metric.look.of == "labels" and player.delay):
            return None
        kinds.append((repr(metric.metric), metric.look, metric.score, criterion))
    return (repr(policy.windowing_strategy), policy.sample_size, *kinds)


def _calibrated(
    fresh: Played, player: Player, samples: int, warmup: int
) -> Sequence[Sequence[float]]:
    """Return the scores that each metric begins with, as the class finds them."""
    last, policy = (warmup + 1) * samples, fresh.policy
    if not isinstance(policy, DataDriftTrigger):
        raise TypeError(f"{type(policy).__name__} is not calibrated")
    if warmup and last <= len(player.matrix.tape):
        policy._calibrate(player.context(fresh.models, warmup * samples, last).at(samples))
    return [policy._scores[name] for name in policy.metrics]


class _Drift:
    """What drift triggers decide: enough metrics say so."""

    def __init__(
        self,
        policies: Sequence[DataDriftTrigger],
        player: Player,
        histories: Sequence[Sequence[float]],
    ) -> None:
        self._asker, self._player = policies[0], player
        self._samples = self._asker.evaluation_interval_data_points
        self._metrics = list(self._asker.metrics.values())
        self._about = (
            *(self._samples, repr(self._asker.windowing_strategy), self._asker.sample_size),
            *((repr(one.metric), one.look, one.score) for one in self._metrics),
        )
        self._columns = [
            column_of(
                [list(policy.metrics.values())[place].decision_criterion for policy in policies],
                lower=metric.score == "p_value",
                history=history,
            )
            for place, (metric, history) in enumerate(zip(self._metrics, histories, strict=True))
        ]
        self._needed = np.array([_needed(policy) for policy in policies])
        self._kept: dict[tuple[int, int], Any] = {}

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        pairs, which = np.unique(np.stack((at.row, at.last)), axis=1, return_inverse=True)
        asked = np.array([self._ask(int(row), int(last), interval) for row, last in pairs.T])
        scores = asked[which.reshape(-1)]
        votes = np.zeros(len(scores), dtype=np.int64)
        for place, column in enumerate(self._columns):
            votes += column.verdicts(scores[:, place])
        enough: Bools = votes >= self._needed
        return enough

    def observe(self, interval: int, at: Walk) -> None:
        """Do nothing: the scores of the warm-up are there already."""

    def forget(self, fired: Bools) -> None:
        """Do nothing: scores outlive triggers."""

    def _ask(self, row: int, last: int, interval: int) -> Sequence[float]:
        """Return the score of each metric, for the reference of a trigger and a model."""
        model = self._player.matrix.table.rows[row].model
        place = ("drift", *self._about, model, last, interval)
        found = self._player.answered.get(place)
        if found is None:
            context = self._player.context_of(row, (interval + 1) * self._samples)
            context = replace(context, triggered_at=last)
            windows = self._asker.windowing_strategy.windows(context, last)
            kept = self._kept.get((row, last), {})
            rows = WindowRows(context, self._asker.sample_size, self._samples, kept)
            found = [_score(metric, windows, rows) for metric in self._metrics]
            self._kept[row, last] = rows.to_keep(windows.reference)
            self._player.answered[place] = found
        return found


def _score(metric: Any, windows: Any, rows: WindowRows) -> float:
    """Return the score of a metric, as DataDriftTrigger has it."""
    reference, current = (rows.of(w, metric.look) for w in (windows.reference, windows.current))
    if len(reference) == 0 or len(current) == 0:
        return float("nan")
    seed = position_seed(rows.context, windows.reference.last)
    score: float = metric.score_of(metric.metric.distance(reference, current, seed=seed))
    return score


def _needed(policy: DataDriftTrigger) -> int:
    """Return how many votes are enough."""
    if isinstance(policy.aggregation_strategy, AtLeastN):
        return policy.aggregation_strategy.n
    return len(policy.metrics) // 2 + 1
