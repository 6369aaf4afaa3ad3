"""Contenders that do the same work on the server, in turns, each with what it left compared.

Before each repetition, arithmetic on one and on two threads tells how much of a second core there
is in that second; before each contender, the server writes out what the last one left, so that
nobody pays for another's pages.  Slow ones do a share of the work, and their seconds are of the
whole in proportion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.machine import alu_control, compile_floor
from benchmarks.measure import Outcome, Seconds, in_turns, spread
from benchmarks.postgres.site import Site
from benchmarks.section import Chart, Mark


@dataclass
class Way:
    """A way to do it: `run` gets how many samples to do, and is measured.

    `prepare` and `check` are not: the one goes before, and the other gets what `run` returned,
    and raises AssertionError where that is not what it should be.
    """

    run: Callable[[int], Any]
    check: Callable[[int, Any], None]
    prepare: Callable[[int], None] = lambda count: None
    kind: str = "rival"  # or "ours", "floor"
    share: float = 1.0
    close: Callable[[], None] = lambda: None


@dataclass
class Turns:
    """A line of contenders, on so many samples each."""

    site: Site
    outcome: Outcome
    samples: int
    between: Callable[[], None]  # before each contender: drop what the last one left
    unit: str = "samples"
    scale: float = 1e6  # of the unit, in rates
    alu: list[float] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    _repetition: int = -2

    def run(self, ways: dict[str, Way], repetitions: int) -> Outcome:
        """Measure all ways in that many repetitions."""
        outcome = self.outcome
        try:
            in_turns(outcome, {n: self._contender(n, w) for n, w in ways.items()}, repetitions)
        finally:
            self.between()
            for way in ways.values():
                way.close()
        for name in self.failed:
            del outcome.wall[name], outcome.busy[name]
        outcome.bars = [bar for bar in outcome.bars if {bar.of, bar.to} <= set(outcome.wall)]
        outcome.facts.update({"failed": self.failed} if self.failed else {})
        outcome.work = self.samples / self.scale
        outcome.unit = f"M {self.unit}" if self.scale == 1e6 else self.unit
        outcome.kinds = {name: way.kind for name, way in ways.items()}
        outcome.facts[f"{self.unit}_per_repetition"] = self.samples
        outcome.facts["compared"] = "results"
        outcome.facts["alu_two_threads_to_one"] = spread(self.alu[1:])
        return outcome

    def _contender(self, name: str, way: Way) -> Callable[[int], Seconds]:
        def run(repetition: int) -> Seconds:
            count = max(1, round(way.share * self.samples))
            if count < self.samples:
                self.outcome.shares[name] = count / self.samples
            self._begin(repetition)
            if name in self.failed:
                return 0.0, 0.0
            try:
                self.between()
                way.prepare(count)
                watch = self.site.watch()
                left = way.run(count)
                wall, busy = watch.stop()
            except Exception as error:
                if way.kind != "rival":
                    raise
                self.failed[name] = f"{type(error).__name__}: {error}"
                return 0.0, 0.0
            way.check(count, left)
            self.outcome.checked += 1
            return wall * self.samples / count, busy * self.samples / count

        return run

    def _begin(self, repetition: int) -> None:
        if repetition != self._repetition:
            self._repetition = repetition
            self.alu.append(alu_control(compile_floor()))


def chart_of(title: str, lines: list[Outcome]) -> Chart:
    """Show rates, from nothing on: who is fifty times as slow may look like it."""
    groups = []
    for line in lines:
        marks = [
            Mark(name, line.rate(name), *line.rate_range(name), line.kinds[name])
            for name in line.wall
        ]
        groups.append((line.case, marks))
    return Chart(title, f"{lines[0].unit}/s", groups, linear=True)
