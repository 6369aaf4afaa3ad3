"""Crowds of policies of one family: which can walk side by side, what they ask, and when they fire.

What they ask and by which rules they decide, `modyn.policies` says.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from modyn.backtesting.families import FAMILIES
from modyn.backtesting.lockstep import Decider, Walk, walk
from modyn.backtesting.play import Played, Player
from modyn.backtesting.scoring import Schedule
from modyn.policies import (
    AvoidableMisclassificationCostTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    PerformanceTrigger,
    Trigger,
)
from modyn.policies.batched import BatchedTrigger
from modyn.policies.context import PastModel
from modyn.policies.scores import score
from modyn.policies.side_by_side import (
    ACCURACY,
    DriftRules,
    PerformanceRules,
    RegretRules,
    WaitingRules,
)

__all__ = ["kind", "walked"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Some = TypeVar("Some", bound=Trigger)
Judging = PerformanceTrigger | AvoidableMisclassificationCostTrigger


def kind(policy: Trigger, player: Player) -> tuple[object, ...] | None:
    """Return what policies of one crowd have in common; None for one that walks alone."""
    if player.delay or player.matrix.nothing:  # after a trigger there may be no model
        return None
    about: tuple[object, ...] | None = None
    if type(policy) is PerformanceTrigger:
        about = PerformanceRules.kind(policy)
    elif type(policy) is DataDriftTrigger and player.matrix.tape.positions is None:
        about = DriftRules.kind(policy)  # of erased samples a window may be empty
    elif type(policy) is DataIncorporationLatencyCostTrigger:
        tape = player.matrix.tape
        about = () if WaitingRules.fits(tape.arrivals.timestamps, tape.unit) else None
    elif type(policy) is AvoidableMisclassificationCostTrigger:
        about = RegretRules.kind(policy)
    if about is None or not isinstance(policy, BatchedTrigger):
        return None
    found = (
        type(policy),
        policy.evaluation_interval_data_points,
        *_warmup(policy),
        about,
    )
    try:
        hash(found)
    except TypeError:  # somebody's own metric or strategy
        return None
    return found


def _warmup(policy: BatchedTrigger) -> tuple[object, ...]:
    """Return what tells the warm-up of a policy apart."""
    first = policy.warmup_policy
    if not policy.warmup_intervals or first is None:
        return ()
    if type(first) in FAMILIES:
        values = {name: value for name, value in vars(first).items() if not name.startswith("_")}
        return (
            policy.warmup_intervals,
            type(first),
            *(str(np.ravel(v).tolist()) for v in values.values()),
        )
    return (policy.warmup_intervals, id(first))


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
    return walk(
        player.matrix,
        _decider(policies, fresh, player),
        count=len(policies),
        samples=samples,
        warm=warm,
        most=player.most,
    )


def _decider(policies: Sequence[Trigger], fresh: Played, player: Player) -> Decider:
    first = policies[0]
    if isinstance(first, PerformanceTrigger):
        return _Performance(_all(PerformanceTrigger, policies), player)
    if isinstance(first, DataDriftTrigger):
        return _Drift(_all(DataDriftTrigger, policies), fresh, player)
    if isinstance(first, DataIncorporationLatencyCostTrigger):
        return _Waiting(_all(DataIncorporationLatencyCostTrigger, policies), player)
    return _Regrets(_all(AvoidableMisclassificationCostTrigger, policies), player)


def _all(of: type[Some], policies: Sequence[Trigger]) -> list[Some]:
    return [policy for policy in policies if isinstance(policy, of)]


class _Performance:
    """What performance triggers decide."""

    def __init__(self, policies: Sequence[PerformanceTrigger], player: Player) -> None:
        self._rules = PerformanceRules(policies)
        self._asked = _Judged(policies[0], player)
        self._names = [ACCURACY, *(metric.name for metric in policies[0].metrics)]

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        found = self._asked.of(at.row, interval, self._names)
        return self._rules.verdicts(dict(zip(self._names, found.T, strict=True)))

    def observe(self, interval: int, at: Walk) -> None:
        """Take in how well models do in the warm-up."""
        if interval > 0:
            self.decide(interval, at)

    def forget(self, fired: Bools, at: Walk) -> None:
        """Begin to count anew."""
        self._rules.forget(fired)


class _Judged:
    """How well recorded models do on intervals."""

    def __init__(self, asker: Judging, player: Player) -> None:
        self._asker, self._player = asker, player
        self._samples = asker.evaluation_interval_data_points
        self._found: dict[tuple[int, int], list[float]] = {}

    def of(self, rows: npt.NDArray[np.int64], interval: int, names: Sequence[str]) -> Floats:
        """Return the metrics of each model, shape (p, names)."""
        known, which = np.unique(rows, return_inverse=True)
        asked = [self._ask(int(row), interval, names) for row in known]
        return np.array(asked)[which.reshape(-1)]

    def _ask(self, row: int, interval: int, names: Sequence[str]) -> list[float]:
        first, last = interval * self._samples, (interval + 1) * self._samples
        context = self._player.context_of(row, last)
        keys = self._player.matrix.tape.arrivals.keys[first:last]
        found = score(self._asker.question(keys, context.models[-1].trigger, context), context)
        values = {ACCURACY: found.accuracy, **found.scores}
        return [values[name] for name in names]


class _Drift:
    """What drift triggers decide."""

    def __init__(self, policies: Sequence[DataDriftTrigger], fresh: Played, player: Player) -> None:
        self._asker, self._player = policies[0], player
        self._samples = self._asker.evaluation_interval_data_points
        self._rules = DriftRules(policies, self._histories(fresh))
        self._kept: dict[tuple[int, int], Any] = {}

    def _histories(self, fresh: Played) -> Sequence[Sequence[float]]:
        """Return the scores that each metric begins with, as the class finds them."""
        policy, warmup = fresh.policy, self._asker.warmup_intervals or 0
        if not isinstance(policy, DataDriftTrigger):
            raise TypeError(f"{type(policy).__name__} is not calibrated")
        first, last = warmup * self._samples, (warmup + 1) * self._samples
        if not warmup or last > len(self._player.matrix.tape):
            return [[] for _ in policy.metrics]
        context = self._player.context(fresh.models, first, last).at(self._samples)
        found = policy.calibrated(context)
        return [found[name] for name in policy.metrics]

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        pairs, which = np.unique(np.stack((at.row, at.last)), axis=1, return_inverse=True)
        asked = np.array([self._ask(int(row), int(last), interval) for row, last in pairs.T])
        return self._rules.verdicts(asked[which.reshape(-1)])

    def observe(self, interval: int, at: Walk) -> None:
        """Do nothing: the scores of the warm-up are there already."""

    def forget(self, fired: Bools, at: Walk) -> None:
        """Do nothing: scores outlive triggers."""

    def _ask(self, row: int, last: int, interval: int) -> list[float]:
        """Return the score of each metric, for the reference of a trigger and a model."""
        context = self._player.context_of(row, (interval + 1) * self._samples)
        context = replace(context, triggered_at=last)
        windows = self._asker.windows(context)
        kept = self._kept.get((row, last))
        question = self._asker.question(windows, context, kept=kept)
        found = score(question, context)
        self._kept[row, last] = question.rows.to_keep(windows.reference) or kept
        metrics = self._asker.metrics.values()
        pairs = zip(metrics, found.distances, strict=True)
        return [metric.score_of(distance) for metric, distance in pairs]


class _Models:
    """The models that each policy of a crowd has got so far."""

    def __init__(self, count: int) -> None:
        self._of: list[list[PastModel]] = [[] for _ in range(count)]

    def after(self, fired: Bools, at: Walk) -> list[tuple[int, Sequence[PastModel]]]:
        """Return the models of the policies that have one more."""
        found: list[tuple[int, Sequence[PastModel]]] = []
        for which in np.flatnonzero(fired).tolist():
            models = self._of[which]
            models.append(at.model_of(which, len(models)))
            found.append((which, models))
        return found


class _Waiting:
    """What triggers decide that weigh how long samples wait."""

    def __init__(
        self, policies: Sequence[DataIncorporationLatencyCostTrigger], player: Player
    ) -> None:
        tape = player.matrix.tape
        self._tape, self._samples = tape, policies[0].evaluation_interval_data_points
        self._rules, self._models = WaitingRules(policies, tape.unit), _Models(len(policies))

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        self.observe(interval, at)
        return self._rules.verdicts(self._tape.position((interval + 1) * self._samples))

    def observe(self, interval: int, at: Walk) -> None:
        """Let samples wait."""
        first, last = interval * self._samples, (interval + 1) * self._samples
        self._rules.wait(self._tape.arrivals.timestamps[first:last])

    def forget(self, fired: Bools, at: Walk) -> None:
        """Let nothing wait any more, and take note of what trainings took."""
        self._rules.forget(fired)
        for which, models in self._models.after(fired, at):
            self._rules.trained(which, models)


class _Regrets:
    """What triggers decide that weigh how long avoidable misclassifications wait."""

    def __init__(
        self, policies: Sequence[AvoidableMisclassificationCostTrigger], player: Player
    ) -> None:
        tape = player.matrix.tape
        self._tape, self._samples = tape, policies[0].evaluation_interval_data_points
        self._asked = _Judged(policies[0], player)
        self._rules, self._models = RegretRules(policies, tape.unit), _Models(len(policies))

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        self.observe(interval, at)
        return self._rules.verdicts(self._tape.position((interval + 1) * self._samples))

    def observe(self, interval: int, at: Walk) -> None:
        """Take in how well models do; in the first interval there is none."""
        first, last = interval * self._samples, (interval + 1) * self._samples
        accuracy = np.full(len(at.row), np.nan)
        if interval > 0:
            accuracy = self._asked.of(at.row, interval, [ACCURACY])[:, 0]
        self._rules.weigh(accuracy, self._tape.arrivals.timestamps[first:last])

    def forget(self, fired: Bools, at: Walk) -> None:
        """Let nothing wait any more, and take note of what trainings took."""
        self._rules.forget(fired)
        for which, models in self._models.after(fired, at):
            self._rules.trained(which, models)
