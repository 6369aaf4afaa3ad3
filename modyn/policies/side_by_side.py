"""The rules of many policies of a family at once, an entry of each array per policy.

Each does what the class of its policies does, in the same order of operations, so that decisions
are the same bit for bit; tests hold one against the other.  Whoever uses them goes through the
intervals of the stream, hands in the scores, and says which policies fired.  A score that a policy
does not have (it has no model yet) is nan.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from modyn.policies.aggregation import AtLeastN, MajorityVote
from modyn.policies.columns import Column, Kind, column_of, kind_of
from modyn.policies.cost import (
    AvoidableMisclassificationCostTrigger,
    DataIncorporationLatencyCostTrigger,
)
from modyn.policies.drift import DataDriftTrigger, Metric
from modyn.policies.ensemble import EnsembleTrigger
from modyn.policies.forecast import TrainingTime
from modyn.policies.performance import PerformanceTrigger, reached
from modyn.policies.performance_criteria import (
    StaticNumberAvoidableMisclassificationCriterion,
    ThresholdCriterion,
)
from modyn.policies.performance_scores import avoidable
from modyn.policies.price import RECENT, NextTraining, Price, sized
from modyn.policies.time import PER_SECOND

__all__ = [
    "ACCURACY",
    "DriftRules",
    "PerformanceRules",
    "RegretRules",
    "Votes",
    "WaitingRules",
    "counts",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
CostTrigger = DataIncorporationLatencyCostTrigger | AvoidableMisclassificationCostTrigger
ACCURACY = ""  # among scores, under a name that no metric has


class PerformanceRules:
    """The criteria of performance triggers: any of them fires.

    Parameters
    ----------
    policies : sequence of PerformanceTrigger
        Of one kind.
    """

    def __init__(self, policies: Sequence[PerformanceTrigger]) -> None:
        samples = policies[0].evaluation_interval_data_points
        self._columns: list[tuple[str, Column]] = []
        self._numbers: list[_Number] = []
        for place, first in enumerate(policies[0].decision_criteria.values()):
            every: list[Any] = [list(one.decision_criteria.values())[place] for one in policies]
            if isinstance(first, StaticNumberAvoidableMisclassificationCriterion):
                self._numbers.append(_Number(every, samples))
                self._columns.append((ACCURACY, self._numbers[-1]))
            else:
                column = column_of([one.stands_for() for one in every], lower=True)
                self._columns.append((first.metric, column))

    @staticmethod
    def kind(policy: PerformanceTrigger) -> tuple[object, ...] | None:
        """Return what policies of one kind have in common; None for one that stands alone."""
        if policy.estimator is not None or policy.mode != "hindsight":
            return None
        kinds: list[Kind] = []
        for criterion in policy.decision_criteria.values():
            if type(criterion) is StaticNumberAvoidableMisclassificationCriterion:
                if criterion.expected_accuracy is None:
                    return None
                kinds.append(("avoidable",))
                continue
            known = type(criterion) in get_args(ThresholdCriterion)
            inner = kind_of(criterion.stands_for()) if known else None  # type: ignore[union-attr]
            if inner is None:
                return None
            kinds.append((criterion.metric, *inner))  # type: ignore[union-attr]
        return tuple(policy.metrics), tuple(kinds)

    def verdicts(self, scores: Mapping[str, Floats]) -> Bools:
        """Return which policies fire, by their metrics and by accuracy, under the name ""."""
        found = [column.verdicts(scores[name]) for name, column in self._columns]
        fires: Bools = np.any(found, axis=0)
        return fires

    def forget(self, fired: Bools) -> None:
        """Begin to count anew where policies fired."""
        for number in self._numbers:
            number.counted[fired] = 0.0


class _Number:
    """The number of avoidable misclassifications of each policy."""

    def __init__(
        self, criteria: Sequence[StaticNumberAvoidableMisclassificationCriterion], samples: int
    ) -> None:
        thresholds = [one.avoidable_misclassification_threshold for one in criteria]
        self._least = np.array(thresholds, dtype=np.float64)
        self._expected = np.array([one.expected_accuracy for one in criteria], dtype=np.float64)
        self._reduce = np.array([one.allow_reduction for one in criteria])
        self._samples = samples
        self.counted = np.zeros(len(criteria))

    def verdicts(self, scores: Floats) -> Bools:
        """Add what was avoidable at these accuracies, and return where the number is reached."""
        more = avoidable(scores, self._samples, self._expected, reduce=self._reduce)
        self.counted = np.maximum(0.0, self.counted + more)
        found: Bools = reached(self.counted, self._least)
        return found


def counts(strategy: object) -> bool:
    """Return whether a rule over votes goes by their number alone."""
    return type(strategy) in (MajorityVote, AtLeastN)


def _needed(strategies: Sequence[tuple[Any, int]]) -> npt.NDArray[np.int64]:
    """Return how many votes of how many are enough, by rules that count."""
    return np.array([strategy.needed(voters) for strategy, voters in strategies], dtype=np.int64)


class Votes:
    """The votes that the members of ensembles have cast since each ensemble fired.

    Parameters
    ----------
    policies : sequence of EnsembleTrigger
        With as many members each, and rules that count.
    """

    def __init__(self, policies: Sequence[EnsembleTrigger]) -> None:
        members = len(policies[0].subtriggers)
        self._cast = np.zeros((len(policies), members), dtype=np.bool_)
        self._needed = _needed([(one.ensemble_strategy, members) for one in policies])

    def verdicts(self, votes: Bools) -> Bools:
        """Return which ensembles fire with these new votes, shape (p, members)."""
        self._cast |= votes
        fires: Bools = votes.any(axis=1) & (self._cast.sum(axis=1) >= self._needed)
        self._cast[fires] = False
        return fires


class DriftRules:
    """The criteria of drift triggers, and how many of them must say so.

    Parameters
    ----------
    policies : sequence of DataDriftTrigger
        Of one kind.
    histories : sequence of sequence of float
        The scores that each metric begins with.
    """

    def __init__(
        self, policies: Sequence[DataDriftTrigger], histories: Sequence[Sequence[float]]
    ) -> None:
        self._columns = [
            column_of(
                [list(policy.metrics.values())[place].decision_criterion for policy in policies],
                lower=metric.score == "p_value",
                history=history,
            )
            for place, (metric, history) in enumerate(
                zip(policies[0].metrics.values(), histories, strict=True)
            )
        ]
        self._needed = _needed([(one.aggregation_strategy, len(one.metrics)) for one in policies])

    @staticmethod
    def kind(policy: DataDriftTrigger) -> tuple[object, ...] | None:
        """Return what policies of one kind have in common; None for one that stands alone."""
        if policy.reset_history_on_model or policy.reset_windows_in_warmup:
            return None
        if not counts(policy.aggregation_strategy):
            return None
        kinds: list[object] = []
        for metric in policy.metrics.values():
            criterion = kind_of(metric.decision_criterion)
            if criterion is None or type(metric) is not Metric:
                return None
            kinds.append((metric.metric, metric.look, metric.score, criterion))
        return (policy.windowing_strategy, policy.sample_size, *kinds)

    def verdicts(self, scores: Floats) -> Bools:
        """Return which policies fire, by their scores, shape (p, metrics)."""
        votes = np.zeros(len(scores), dtype=np.int64)
        for place, column in enumerate(self._columns):
            votes += column.verdicts(scores[:, place])
        enough: Bools = votes >= self._needed
        return enough


class _Prices:
    """What the next training of each policy is predicted to take, against what waits."""

    def __init__(self, policies: Sequence[CostTrigger], unit: str) -> None:
        prices = [policy.price for policy in policies]
        self._price = Price(
            worth=np.array([price.worth for price in prices], dtype=np.float64),
            divide=np.array([price.divide for price in prices]),
            rate=np.array([price.rate for price in prices], dtype=np.float64),
        )
        self._windows = [policy.cost_tracking_window_size for policy in policies]
        self._per_second = PER_SECOND[unit]
        count = len(policies)
        self._count = np.zeros(count, dtype=np.int64)  # trainings, of the last RECENT
        self._ends = np.zeros((count, RECENT + 1), dtype=np.int64)
        self._sizes = np.zeros((count, RECENT), dtype=np.int64)
        self._all: list[tuple[list[int], list[float]]] = [([], []) for _ in policies]
        self._lines = np.zeros((3, count))
        self._next = np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64)

    def trained(self, fired: Bools, position: int, samples: Any, seconds: Any) -> None:
        """Hear of the trainings of the policies that fired at a position.

        Parameters
        ----------
        fired : bool, shape (p,)
        position : int
        samples, seconds : arrays of shape (p,)
            What they had and took.
        """
        self._count[fired] = np.minimum(self._count[fired] + 1, RECENT)
        for held, newest in ((self._ends, position), (self._sizes, samples[fired])):
            held[fired, :-1] = held[fired, 1:]
            held[fired, -1] = newest
        found = sized(self._ends[fired], self._sizes[fired], self._count[fired])
        for kept, values in zip(self._next, found, strict=True):
            kept[fired] = values
        for which in np.flatnonzero(fired & np.isnan(self._price.rate)).tolist():
            sizes, took = self._all[which]
            sizes.append(int(samples[which]))
            took.append(float(seconds[which]))
            window = self._windows[which]
            line = TrainingTime.of(sizes[-window:], took[-window:])
            self._lines[:, which] = line.slope, line.samples, line.seconds

    def due(self, latency: Any, position: int) -> Bools:
        """Return for which policies a regret latency is worth a training, shape (p,)."""
        share, per_position, offset = self._next
        slope, samples, seconds = self._lines
        training = NextTraining(
            share=share,
            per_position=per_position,
            offset=offset,
            line=TrainingTime(slope=slope, samples=samples, seconds=seconds),  # type: ignore[arg-type]  # arrays
        )
        takes = self._price.seconds(training, training.samples(position))
        worth: Bools = self._price.converted(latency / self._per_second) >= takes
        return worth & (self._count > 0)


class WaitingRules(_Prices):
    """The rule of `DataIncorporationLatencyCostTrigger`.

    Parameters
    ----------
    policies : sequence of DataIncorporationLatencyCostTrigger
    unit : str
        Of timestamps.
    """

    def __init__(self, policies: Sequence[DataIncorporationLatencyCostTrigger], unit: str) -> None:
        super().__init__(policies, unit)
        self._regrets = np.zeros(len(policies), dtype=np.int64)
        self._latency = np.zeros(len(policies), dtype=np.int64)
        self._clock: int | None = None

    @staticmethod
    def fits(samples: int, span: int, unit: str) -> bool:
        """Return whether all latencies of a stream are exact in arrays, as in the class.

        Parameters
        ----------
        samples, span : int
            How many there are, and how far their timestamps are apart at most.
        unit : str
            Of timestamps.
        """
        return samples * span < (1 << (62 if PER_SECOND[unit] == 1 else 53))

    def wait(self, timestamps: npt.NDArray[np.int64]) -> None:
        """Let time pass until the end of an interval of these samples, and take them in."""
        now = int(timestamps.max())
        now = now if self._clock is None else max(now, self._clock)
        passed = 0 if self._clock is None else now - self._clock
        self._latency += self._regrets * passed + int((now - timestamps).sum())
        self._regrets += len(timestamps)
        self._clock = now

    def verdicts(self, position: int) -> Bools:
        """Return which policies fire."""
        return self.due(self._latency, position)

    def forget(self, fired: Bools) -> None:
        """Let nothing wait any more where policies fired."""
        self._regrets[fired] = self._latency[fired] = 0


class RegretRules(_Prices):
    """The rule of `AvoidableMisclassificationCostTrigger` in hindsight, with what to expect given.

    Parameters
    ----------
    policies : sequence of AvoidableMisclassificationCostTrigger
        Of one kind.
    unit : str
        Of timestamps.
    """

    def __init__(
        self, policies: Sequence[AvoidableMisclassificationCostTrigger], unit: str
    ) -> None:
        super().__init__(policies, unit)
        self._expected = np.array([one.expected_accuracy for one in policies], dtype=np.float64)
        self._reduce = np.array([one.allow_reduction for one in policies])
        self._regrets = np.zeros(len(policies))
        self._latency = np.zeros(len(policies))
        self._clock: int | None = None
        self._ended: int | None = None

    @staticmethod
    def kind(policy: AvoidableMisclassificationCostTrigger) -> tuple[object, ...] | None:
        """Return what policies of one kind have in common; None for one that stands alone."""
        given = policy.expected_accuracy is not None and policy.estimator is None
        return (tuple(policy.metrics),) if given and policy.mode == "hindsight" else None

    def weigh(self, accuracy: Floats, timestamps: npt.NDArray[np.int64]) -> None:
        """Take in the regrets of an interval of these samples."""
        ended = int(timestamps[-1])
        begun = int(timestamps[0]) if self._ended is None else self._ended
        if self._clock is not None and ended > self._clock:
            self._latency += self._regrets * (ended - self._clock)
        self._clock = ended if self._clock is None else max(ended, self._clock)
        more = avoidable(accuracy, len(timestamps), self._expected, reduce=self._reduce)
        more = np.maximum(more, -self._regrets)
        self._regrets += more
        middle = (begun + ended) / 2
        self._latency = np.maximum(0.0, self._latency + more * (self._clock - middle))
        self._ended = ended

    def verdicts(self, position: int) -> Bools:
        """Return which policies fire."""
        fires: Bools = self.due(self._latency, position) & (self._regrets > 0)
        return fires

    def forget(self, fired: Bools) -> None:
        """Let nothing wait any more where policies fired."""
        self._regrets[fired] = self._latency[fired] = 0.0
