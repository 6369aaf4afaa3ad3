"""Triggers by performance: against their plain twin, with late labels, and by estimates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.arrivals import Arrivals
from modyn.policies import (
    DataAmountTrigger,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    HeldHistory,
    Note,
    PastModel,
    PerformanceTrigger,
    PlainContext,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    Trigger,
)
from tests.reference import triggers_performance as twin

AMOUNT = DataAmountTrigger(num_samples=1)
STATIC = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.5)
QUANTILE = DynamicQuantilePerformanceThresholdCriterion(
    metric="Accuracy", window_size=6, quantile=0.2
)
ROLLING = DynamicRollingAveragePerformanceThresholdCriterion(
    metric="Accuracy", window_size=4, deviation=0.15
)


def budget(most: int, **more: Any) -> StaticNumberAvoidableMisclassificationCriterion:
    return StaticNumberAvoidableMisclassificationCriterion(
        avoidable_misclassification_threshold=most, **more
    )


class Forgetful:
    """Models of two classes that are right with a share which sinks from their trigger on.

    `rights[trigger]` is a number from 0 to 1 per position; a model is right where it is below the
    share, and as sure as that.
    """

    def __init__(
        self, stream: Arrivals, rights: npt.NDArray[np.float64], fall: float = 0.004
    ) -> None:
        self._stream, self._rights, self._fall = stream, rights, fall

    def share(self, start: int, position: int) -> float:
        return max(0.95 - self._fall * (position - start), 0.1)

    def guess(self, start: int, position: int) -> int:
        label = int(self._stream.labels[position])
        right = self._rights[(start + position) % len(self._rights)] < self.share(start, position)
        return label if right else 1 - label

    def predictions(
        self, model: PastModel, keys: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.float32]:
        found = []
        for key in keys.tolist():
            sure = max(self.share(model.position, key), 0.51)
            ones = sure if self.guess(model.position, key) == 1 else 1 - sure
            found.append([1 - ones, ones])
        return np.array(found, dtype=np.float32).reshape(-1, 2)


def stream_of(count: int, seed: int, *, gap: int = 10) -> Arrivals:
    """Samples in time order; keys are positions."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(0, gap, count)).astype(np.int64)
    return Arrivals(np.arange(count, dtype=np.uint64), times, rng.integers(0, 2, count))


def fired(
    trigger: Trigger,
    stream: Arrivals,
    models: Any,
    cuts: list[int],
    notes: list[Note] | None = None,
    **known: Any,
) -> list[int]:
    """Where a policy fires, informed of blocks of these sizes in turn; trainings take a second."""
    found: list[int] = []
    position = block = 0
    history = HeldHistory(stream)
    while position < len(stream):
        end = min(position + cuts[block % len(cuts)], len(stream))
        block += 1
        while position < end:
            starts = [0, *found]
            context = PlainContext(
                clock=int(stream.timestamps[position - 1]) if position else None,
                position=position,
                trigger=len(found),
                triggered_at=starts[-1],
                models=tuple(
                    PastModel(
                        trigger=i,
                        model=f"model {i}",
                        position=at,
                        last_timestamp=int(stream.timestamps[at - 1]),
                        samples=at - starts[i],
                        seconds=1.0,
                    )
                    for i, at in enumerate(found)
                ),
                informed=end - position,
                history=history,
                answers=models,
                notes=None if notes is None else notes.append,
                **known,
            )
            due = trigger.inform(stream[position:end], context)
            position = end if due is None else position + due
            if due is not None:
                found.append(position)
    return found


def both(
    seed: int,
    size: int,
    rules: dict[str, dict[str, Any]],
    cuts: list[int],
    *,
    delay: int = 0,
    warm: int = 0,
    mode: str = "hindsight",
    count: int = 400,
) -> tuple[list[int], list[int]]:
    """What the policy does, and what its twin does."""
    stream = stream_of(count, seed)
    models = Forgetful(stream, np.random.default_rng(seed + 1).random(997))
    world = twin.World(
        stream.timestamps.tolist(), stream.labels.tolist(), lambda trigger, position: 0, delay
    )
    world.guess = lambda trigger, position: models.guess(world.start_of(trigger), position)
    expected = twin.performance_positions(
        world,
        size,
        [{**rule, "lookahead": mode == "lookahead"} for rule in rules.values()],
        warm=warm,
    )
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=size,
        warmup_intervals=warm,
        warmup_policy=AMOUNT,
        decision_criteria={name: CRITERIA[rule["kind"]](rule) for name, rule in rules.items()},
        mode=mode,
    )
    return fired(trigger, stream, models, cuts, label_delay=delay), expected


CRITERIA = {
    "static": lambda rule: StaticPerformanceThresholdCriterion(
        metric="Accuracy", metric_threshold=rule["threshold"]
    ),
    "quantile": lambda rule: DynamicQuantilePerformanceThresholdCriterion(
        metric="Accuracy", window_size=rule["window"], quantile=rule["q"]
    ),
    "rolling": lambda rule: DynamicRollingAveragePerformanceThresholdCriterion(
        metric="Accuracy",
        window_size=rule["window"],
        deviation=rule["deviation"],
        absolute=rule["absolute"],
    ),
    "budget": lambda rule: budget(
        rule["budget"], expected_accuracy=rule["expected"], allow_reduction=rule["reduction"]
    ),
}
RULES = st.one_of(
    st.fixed_dictionaries({"kind": st.just("static"), "threshold": st.sampled_from([0.45, 0.7])}),
    st.fixed_dictionaries(
        {
            "kind": st.just("quantile"),
            "window": st.integers(1, 6),
            "q": st.sampled_from([0.0, 0.05, 0.3]),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("rolling"),
            "window": st.integers(1, 6),
            "deviation": st.sampled_from([0.13, 0.31]),
            "absolute": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("budget"),
            "budget": st.integers(1, 20),
            "expected": st.sampled_from([None, 0.83]),
            "reduction": st.booleans(),
        }
    ),
)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(7, 40),
    rules=st.dictionaries(st.sampled_from("abc"), RULES, min_size=1, max_size=2),
    cuts=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    delay=st.sampled_from([0, 0, 1, 77, 300]),
    warm=st.integers(0, 3),
    mode=st.sampled_from(["hindsight", "lookahead"]),
)
def test_it_fires_where_its_twin_does(
    seed: int,
    size: int,
    rules: dict[str, dict[str, Any]],
    cuts: list[int],
    delay: int,
    warm: int,
    mode: str,
) -> None:
    found, expected = both(seed, size, rules, cuts, delay=delay, warm=warm, mode=mode)

    assert found == expected
