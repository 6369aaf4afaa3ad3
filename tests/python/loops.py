"""Loops over a dataset, with policies and steps made for the occasion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.orchestrator import Orchestrator, Transition
from modyn.policies import (
    DataAmountTrigger,
    LabelBalanced,
    PlainContext,
    Random,
    Selection,
    TimeTrigger,
    Trigger,
)

COUNT = 500


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Samples that come late now and then, three labels."""
    rng = np.random.default_rng(3)
    times = np.arange(COUNT) * 10 + rng.integers(-40, 40, size=COUNT)
    dataset = Dataset.create(tmp_path_factory.mktemp("data") / "set", schema={"x": "int64"})
    dataset.append({"x": np.arange(COUNT)}, labels=np.arange(COUNT) % 3, timestamps=times)
    return dataset


@pytest.fixture(scope="module")
def order(dataset: Dataset) -> np.ndarray:
    """Time order: by timestamp, then key."""
    return np.argsort(dataset.timestamps, kind="stable").astype(np.uint64)


class CrashError(Exception):
    """What a test raises in a step."""


class Ledger:
    """What a run commits: transitions, and the state of the policies at the last place."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        self.position = 0
        self.states = "[{}, {}]"

    def resume(self) -> dict[str, object]:
        return {
            "position": self.position,
            "trigger": len(self.transitions),
            "trigger_starts": [0, *(row.position for row in self.transitions)],
        }


class Steps:
    """A pipeline over a ledger in memory; `fail` is called with the name of each step."""

    def __init__(
        self,
        trigger: Trigger,
        selection: Selection,
        ledger: Ledger,
        fail: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.trigger, self.selection, self.ledger, self.fail = trigger, selection, ledger, fail
        self.loop: Orchestrator
        if ledger.position > 0:
            for policy, state in zip((trigger, selection), json.loads(ledger.states), strict=True):
                policy.load_state_dict(state)

    def context(self) -> PlainContext:
        return PlainContext(
            clock=self.loop.clock,
            position=self.loop.position,
            trigger=self.loop.trigger,
            seed=11,
        )

    def inform(self, arrivals: Arrivals) -> int | None:
        self.fail("inform")
        return self.trigger.inform(arrivals, self.context())

    def select(self, transition: Transition, candidates: object) -> object:
        self.fail("select")
        assert len(candidates) <= transition.candidates  # some may be erased
        return self.selection.select(candidates, self.context())

    def save(self, position: int) -> None:
        self.ledger.position = position
        self.ledger.states = json.dumps([self.trigger.state_dict(), self.selection.state_dict()])

    def commit(self, transition: Transition) -> None:
        self.fail("commit")
        self.ledger.transitions.append(transition)
        self.save(transition.position)

    def advance(self, position: int) -> None:
        self.fail("advance")
        self.save(position)


Policies = Callable[[], tuple[Trigger, Selection]]


def start(
    dataset: Dataset,
    policies: Policies,
    directory: Path,
    ledger: Ledger,
    fail: Callable[[str], None] = lambda step: None,
    **more: object,
) -> Orchestrator:
    """A loop that goes on from what the ledger says."""
    trigger, selection = policies()
    steps = Steps(trigger, selection, ledger, fail)
    usual = {"tail_triggers": selection.tail_triggers, "block_count": 64, **ledger.resume()}
    steps.loop = Orchestrator(
        dataset,
        steps=steps,
        trainset_directory=directory,
        trigger_name=type(trigger).__name__,
        selection_name=type(selection).__name__,
        **{**usual, **more},
    )
    return steps.loop


def finish(loop: Orchestrator) -> list[Transition]:
    transitions = []
    while (transition := loop.next()) is not None:
        transitions.append(transition)
    return transitions


def by_amount() -> tuple[Trigger, Selection]:
    return DataAmountTrigger(num_samples=37), LabelBalanced(ratio=50, tail_triggers=1)


def by_time() -> tuple[Trigger, Selection]:
    return TimeTrigger(every="5m"), Random(ratio=30, tail_triggers=None)
