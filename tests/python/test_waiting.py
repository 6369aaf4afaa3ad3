"""Intervals that wait for their labels: as a plain list of them, in a state that does not grow."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.drift.detectors import PageHinkley
from modyn.policies import DetectorTrigger, PerformanceTrigger, PlainContext, Trigger
from modyn.policies.batched import Interval
from modyn.policies.performance_criteria import StaticPerformanceThresholdCriterion
from modyn.policies.waiting import Waiting, WaitingLine, nobody_waits
from modyn.policies.windows import OLDEST
from tests.python.test_performance_trigger import fired, steady

SIZE = 5
STEPS = st.lists(
    st.tuples(
        st.integers(SIZE, SIZE + 2),  # how long the next interval is
        st.sampled_from([0, 0, 0, 2]),  # how much of it comes before its model
        st.integers(0, 2),  # how many models more there are by then
        st.integers(-30, 30),  # how far its newest sample is from where it should be
        st.integers(-5, 25),  # how late it is when it ends
        st.booleans(),  # whether the run dies after it
    ),
    max_size=30,
)


@settings(max_examples=200)
@given(steps=STEPS, start=st.integers(0, 9), disorder=st.booleans())
def test_a_line_is_the_list_that_its_rule_stands_for(
    steps: list[tuple[int, int, int, int, int, bool]], start: int, disorder: bool
) -> None:
    state, listed, latest = nobody_waits(), [], {}
    line, position, model = WaitingLine(state), 10 * start, 0
    for n, (length, skipped, more, off, late, dies) in enumerate(steps):
        interval = Interval(index=start + n, first=position, last=position + length)
        position, model = position + length, model + more
        newest = 10 * n + (off if disorder else 0)
        line.append(interval, skipped, model)
        listed.append(
            Waiting(start + n, interval.first + skipped, position, model, whole=skipped == 0)
        )
        latest[listed[-1]] = newest
        line.timed(newest)
        if dies:
            state = json.loads(json.dumps(state))
            line = WaitingLine(state)

        found = line.due(10 * n - late, latest.__getitem__)

        due = [one for one in listed if latest[one] <= 10 * n - late]
        listed = [one for one in listed if one not in due]
        assert found == due
        assert list(line) == listed
        assert len(line) == len(listed)


def test_what_was_erased_meanwhile_waits_no_more() -> None:
    line = WaitingLine(nobody_waits())
    for index in range(3):
        line.append(Interval(index=index, first=index, last=index + 1), 0, 0)
        line.timed(100)

    found = line.due(7, lambda one: 100 if one.index == 2 else OLDEST)

    assert [one.index for one in found] == [0, 1]


NEVER = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=-1.0)
MAKE: dict[str, Any] = {
    "performance": lambda: PerformanceTrigger(
        evaluation_interval_data_points=SIZE, decision_criteria={"never": NEVER}
    ),
    "detector": lambda: DetectorTrigger(
        evaluation_interval_data_points=SIZE, detector=PageHinkley(threshold=1e9)
    ),
}


def waited(trigger: Trigger, intervals: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, float]:
    """The size of the state with so many intervals waiting, and samples read per interval."""
    stream, models = steady(lambda interval: 0.5, size=SIZE, count=SIZE * (intervals + 1))
    read = 0
    whole = PlainContext.samples

    def counted(self: PlainContext, first: int, last: int) -> Any:
        nonlocal read
        read += last - first
        return whole(self, first, last)

    with monkeypatch.context() as patched:
        patched.setattr(PlainContext, "samples", counted)
        assert fired(trigger, stream, models, [10**6], label_delay=10**6) == [SIZE]
    return len(json.dumps(trigger.state_dict())), read / intervals


@pytest.mark.parametrize("name", MAKE)
def test_a_state_with_many_that_wait_is_as_small_and_a_look_reads_as_little(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = waited(MAKE[name](), 10, monkeypatch)
    many = waited(MAKE[name](), 2000, monkeypatch)

    assert many[0] <= few[0] + 100 < 1000
    assert many[1] <= few[1]


def test_lengths_that_differ_where_samples_are_erased_take_few_bytes_each() -> None:
    state, position = nobody_waits(), 0
    line = WaitingLine(state)
    for index, length in enumerate(np.random.default_rng(0).integers(250, 256, 1000).tolist()):
        line.append(Interval(index=index, first=position, last=position + length), 0, 0)
        position += length

    assert len(json.dumps(state)) < 12 * 1000
