"""What crowds of policies ask at the end of an interval, and which of them fire.

What they ask and by which rules they decide, `modyn.policies` says.  A policy without a model
always fires, and its scores are nan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.backtesting.lockstep import NEVER, Decider, Walk
from modyn.backtesting.play import Played, Player
from modyn.backtesting.tape import Tape
from modyn.policies import (
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    EnsembleTrigger,
    PerformanceTrigger,
)
from modyn.policies.scores import score
from modyn.policies.side_by_side import (
    ACCURACY,
    DriftRules,
    PerformanceRules,
    RegretRules,
    Votes,
    WaitingRules,
)

__all__ = ["Amounts", "Drift", "Ensembles", "Performance", "Regrets", "Waiting"]

Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def _without_model(at: Walk) -> Bools:
    """Return which policies have no model yet."""
    bare: Bools = at.row == NEVER
    return bare


class Performance:
    """What performance triggers decide."""

    def __init__(self, policies: Sequence[PerformanceTrigger], player: Player) -> None:
        self._rules = PerformanceRules(policies)
        self._names = [ACCURACY, *(metric.name for metric in policies[0].metrics)]
        self._judged = _Judged(policies[0], self._names, player)

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        found = self._judged.of(at, interval)
        fires = self._rules.verdicts(dict(zip(self._names, found.T, strict=True)))
        return _without_model(at) | fires

    def observe(self, interval: int, at: Walk) -> None:
        """Take in how well models do in the warm-up."""
        self.decide(interval, at)

    def forget(self, fired: Bools, at: Walk) -> None:
        """Begin to count anew."""
        self._rules.forget(fired)


class _Judged:
    """How well recorded models do on intervals."""

    def __init__(
        self,
        asker: PerformanceTrigger | AvoidableMisclassificationCostTrigger,
        names: Sequence[str],
        player: Player,
    ) -> None:
        self._asker, self._names, self._player = asker, names, player
        self._samples = asker.evaluation_interval_data_points

    def of(self, at: Walk, interval: int) -> Floats:
        """Return the metrics of the newest model of each policy, shape (p, names)."""
        rows, which = np.unique(at.row, return_inverse=True)
        return np.array([self._ask(int(row), interval) for row in rows])[which.reshape(-1)]

    def _ask(self, row: int, interval: int) -> list[float]:
        if row == NEVER:
            return [np.nan] * len(self._names)
        first, last = interval * self._samples, (interval + 1) * self._samples
        context = self._player.context_of(row, last)
        keys = self._player.matrix.tape.arrivals.keys[first:last]
        found = score(self._asker.question(keys, context.models[-1].trigger, context), context)
        values = {ACCURACY: found.accuracy, **found.scores}
        return [values[name] for name in self._names]


class Drift:
    """What drift triggers decide.

    Parameters
    ----------
    policies : sequence of DataDriftTrigger
    fresh : Played
        The first of them, as it is after the warm-up.
    player : Player
    """

    def __init__(self, policies: Sequence[DataDriftTrigger], fresh: Played, player: Player) -> None:
        self._asker, self._player = policies[0], player
        self._samples = self._asker.evaluation_interval_data_points
        self._rules = DriftRules(policies, self._histories(fresh))
        self._kept: dict[tuple[int, int], Any] = {}  # of the references of the last interval

    def _histories(self, fresh: Played) -> Sequence[Sequence[float]]:
        """Return the scores that each metric begins with, as the class finds them."""
        policy, warmup = fresh.policy, self._asker.warmup_intervals or 0
        first, last = warmup * self._samples, (warmup + 1) * self._samples
        if not warmup or last > len(self._player.matrix.tape):
            return [[] for _ in self._asker.metrics]
        if not isinstance(policy, DataDriftTrigger):
            raise TypeError(f"{type(policy).__name__} is not calibrated")
        context = self._player.context(fresh.models, first, last).at(self._samples)
        found = policy.calibrated(context)
        return [found[name] for name in policy.metrics]

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        pairs, which = np.unique(np.stack((at.row, at.last)), axis=1, return_inverse=True)
        before, self._kept = self._kept, {}  # a reference that nobody has is nobody's later
        asked = np.array([self._ask(row, last, interval, before) for row, last in pairs.T.tolist()])
        fires = self._rules.verdicts(asked[which.reshape(-1)])
        return _without_model(at) | fires

    def observe(self, interval: int, at: Walk) -> None:
        """Do nothing: the scores of the warm-up are there already."""

    def forget(self, fired: Bools, at: Walk) -> None:
        """Do nothing: scores outlive triggers."""

    def _ask(self, row: int, last: int, interval: int, before: Mapping[Any, Any]) -> list[float]:
        """Return the score of each metric, for the reference of a trigger and a model."""
        metrics = self._asker.metrics.values()
        if row == NEVER:
            return [np.nan] * len(metrics)
        context = self._player.context_of(row, (interval + 1) * self._samples)
        context = replace(context, triggered_at=last)
        windows, kept = self._asker.windows(context), before.get((row, last))
        question = self._asker.question(windows, context, kept=kept)
        found = score(question, context)
        self._kept[row, last] = question.rows.to_keep(windows.reference) or kept
        pairs = zip(metrics, found.distances, strict=True)
        return [metric.score_of(distance) for metric, distance in pairs]


class _Cost:
    """What triggers decide that weigh what waits against what a training takes."""

    _tape: Tape
    _samples: int
    _rules: WaitingRules | RegretRules

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        self.observe(interval, at)
        position = self._tape.position((interval + 1) * self._samples)
        return _without_model(at) | self._rules.verdicts(position)

    def observe(self, interval: int, at: Walk) -> None:
        """Let what an interval brings wait."""
        raise NotImplementedError

    def forget(self, fired: Bools, at: Walk) -> None:
        """Let nothing wait any more, and take note of what trainings took."""
        self._rules.forget(fired)
        self._rules.trained(fired, self._tape.position(at.place), at.samples, at.seconds)


class Waiting(_Cost):
    """What triggers decide that weigh how long samples wait."""

    _rules: WaitingRules

    def __init__(
        self, policies: Sequence[DataIncorporationLatencyCostTrigger], player: Player
    ) -> None:
        self._tape = player.matrix.tape
        self._samples = policies[0].evaluation_interval_data_points
        self._rules = WaitingRules(policies, self._tape.unit)

    def observe(self, interval: int, at: Walk) -> None:
        """Let samples wait."""
        first, last = interval * self._samples, (interval + 1) * self._samples
        self._rules.wait(self._tape.arrivals.timestamps[first:last])


class Regrets(_Cost):
    """What triggers decide that weigh how long avoidable misclassifications wait."""

    _rules: RegretRules

    def __init__(
        self, policies: Sequence[AvoidableMisclassificationCostTrigger], player: Player
    ) -> None:
        self._tape = player.matrix.tape
        self._samples = policies[0].evaluation_interval_data_points
        self._judged = _Judged(policies[0], [ACCURACY], player)
        self._rules = RegretRules(policies, self._tape.unit)

    def observe(self, interval: int, at: Walk) -> None:
        """Take in how well models do."""
        first, last = interval * self._samples, (interval + 1) * self._samples
        accuracy = self._judged.of(at, interval)[:, 0]
        self._rules.weigh(accuracy, self._tape.arrivals.timestamps[first:last])


class Amounts:
    """Where triggers vote every so many samples, all at ends of intervals."""

    def __init__(self, policies: Sequence[DataAmountTrigger], samples: int) -> None:
        self._every = np.array([policy.num_samples // samples for policy in policies])

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        due: Bools = (interval + 1) % self._every == 0
        return due

    def observe(self, interval: int, at: Walk) -> None:
        """Do nothing."""

    def forget(self, fired: Bools, at: Walk) -> None:
        """Do nothing: they go on counting."""


class Ensembles:
    """What ensembles decide, by the votes of their members.

    Parameters
    ----------
    policies : sequence of EnsembleTrigger
    members : sequence of Decider
        Of the sub-policies of all of them, in the order of each ensemble.
    """

    def __init__(self, policies: Sequence[EnsembleTrigger], members: Sequence[Decider]) -> None:
        self._votes, self._members = Votes(policies), members

    def decide(self, interval: int, at: Walk) -> Bools:
        """Return which policies fire."""
        votes = [member.decide(interval, at) for member in self._members]
        return self._votes.verdicts(np.stack(votes, axis=1))

    def observe(self, interval: int, at: Walk) -> None:
        """Do nothing: there is no warm-up."""

    def forget(self, fired: Bools, at: Walk) -> None:
        """Tell the members that there was a trigger."""
        for member in self._members:
            member.forget(fired, at)
