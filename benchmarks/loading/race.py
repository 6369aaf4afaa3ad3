"""Contenders that fetch the same keys, in turns, each compared with the truth.

In each repetition every contender fetches keys that no repetition repeats, in an order that
rotates.  Slow ones fetch a share of them, and their seconds are of the whole in proportion.
Before each repetition, arithmetic on one and on two threads tells how much of a second core
there is in that second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.loading.data import Fields, Keys, digest, truth
from benchmarks.machine import alu_control
from benchmarks.measure import Outcome, Seconds, Stopwatch, in_turns, spread

Run = Callable[[Keys], tuple[Keys, Fields]]


def nothing(*_: Any) -> None:
    """Do nothing."""


@dataclass
class Way:
    """A way to fetch: it returns its last batch and the keys of it.

    `prepare` is not measured: it gets the same keys before.
    """

    run: Run
    prepare: Callable[[Keys], None] = nothing
    share: float = 1.0
    kind: str = "rival"  # or "ours", "floor"
    close: Callable[[], None] = nothing


@dataclass
class Race:
    """A line of contenders over keys that are drawn anew in each repetition."""

    outcome: Outcome
    floor: ctypes.CDLL
    draw: Callable[[int], Keys]
    batch: int
    alu: list[float] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # rivals, and what they said
    _repetition: int = -2
    _keys: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    _truths: dict[tuple[int, int, bytes], str] = field(default_factory=dict)

    def run(self, ways: dict[str, Way], repetitions: int) -> Outcome:
        """Measure all ways in that many repetitions."""
        outcome = self.outcome
        contenders = {name: self._contender(name, way) for name, way in ways.items()}
        in_turns(outcome, contenders, repetitions)
        for name in self.failed:
            del outcome.wall[name], outcome.busy[name]
        outcome.bars = [bar for bar in outcome.bars if not {bar.of, bar.to} & set(self.failed)]
        outcome.facts.update({"failed": self.failed} if self.failed else {})
        outcome.work, outcome.unit = len(self._keys) / 1e6, "M records"
        outcome.kinds = {name: way.kind for name, way in ways.items()}
        outcome.facts["records_per_repetition"] = len(self._keys)
        outcome.facts["batch"] = self.batch
        outcome.facts["alu_two_threads_to_one"] = spread(self.alu[1:])
        return outcome

    def _contender(self, name: str, way: Way) -> Callable[[int], Seconds]:
        def run(repetition: int) -> Seconds:
            keys = self._part(way.share, repetition)
            share = len(keys) / len(self._keys)
            if share < 1:
                self.outcome.shares[name] = share
            if name in self.failed:
                return 0.0, 0.0
            try:
                way.prepare(keys)
                watch = Stopwatch()
                got, fields = way.run(keys)
                wall, busy = watch.stop()
            except Exception as error:
                if way.kind != "rival":
                    raise
                self.failed[name] = f"{type(error).__name__}: {error}"
                return 0.0, 0.0
            self._check(name, got, fields)
            return wall / share, busy / share

        return run

    def _part(self, share: float, repetition: int) -> Keys:
        if repetition != self._repetition:
            self._repetition = repetition
            self._keys = self.draw(repetition)
            self._truths.clear()
            self.alu.append(alu_control(self.floor))
        batches = max(1, round(share * len(self._keys) / self.batch))
        return self._keys[: batches * self.batch]

    def _check(self, name: str, keys: Keys, fields: Fields) -> None:
        keys = keys.view(np.uint64)
        known = (len(keys), int(keys.sum()), keys[:64].tobytes())
        if known not in self._truths:
            self._truths[known] = digest(truth(keys))
        if digest(fields) != self._truths[known]:
            raise AssertionError(f"{name}: the batch is not what was stored")
        self.outcome.checked += 1
