"""The hand-off between workers and loop: every interleaving of its threads, tried."""

from __future__ import annotations

import pytest

from tests.reference.handoff import (
    GRANTED,
    READY,
    ROOM,
    WORKERS,
    Plan,
    State,
    is_over,
    start,
    steps,
)


def dead_ends(plan: Plan) -> tuple[int, list[State]]:
    """Return how many states there are, and those that go nowhere before the end."""
    found: set[State] = {start(plan)}
    stuck = []
    front = list(found)
    while front:
        state = front.pop()
        after = list(steps(plan, state))
        if not after and not is_over(state):
            stuck.append(state)
        front += [other for other in after if other not in found]
        found.update(after)
    return len(found), stuck


@pytest.mark.parametrize("consumers", [1, 2])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_no_interleaving_ends_before_the_last_batch(workers, consumers, depth):
    states, stuck = dead_ends(Plan(tickets=5, depth=depth, workers=workers, consumers=consumers))

    assert states > 40
    assert not stuck, stuck[0]


@pytest.mark.parametrize("fail_at", [0, 2, 3])
@pytest.mark.parametrize("memory", [0, 3])
def test_a_failure_ends_it_in_every_interleaving(fail_at, memory):
    plan = Plan(tickets=4, depth=3, workers=2, memory=memory, sizes=(1, 2, 1), fail_at=fail_at)
    states, stuck = dead_ends(plan)

    assert states > 40
    assert not stuck, stuck[0]


@pytest.mark.parametrize("sizes", [(1,), (2, 1), (3, 1, 2), (5, 1)])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_interleaving_waits_for_memory_for_ever(workers, sizes):
    plan = Plan(tickets=4, depth=3, workers=workers, memory=3, sizes=sizes)
    states, stuck = dead_ends(plan)

    assert states > 40
    assert not stuck, stuck[0]


@pytest.mark.parametrize(
    "plan",
    [
        Plan(tickets=4, depth=2, workers=2, drop=ROOM),
        Plan(tickets=4, depth=2, workers=2, drop=READY),
        Plan(tickets=4, depth=2, workers=2, memory=3, sizes=(2, 1), drop=GRANTED),
        Plan(tickets=4, depth=1, workers=3, fail_at=0, drop=WORKERS),
    ],
    ids=lambda plan: plan.drop,
)
def test_a_wake_up_that_is_left_out_is_found(plan):
    _, stuck = dead_ends(plan)

    assert stuck
