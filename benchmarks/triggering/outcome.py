"""What the cells amount to: percent right for so many trainings, beside the fixed schedules."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.section import Cell, Table, Verdict
from benchmarks.selecting.cells import Result
from benchmarks.selecting.comparing import Curve
from benchmarks.triggering.families import INTERVAL, Entry
from benchmarks.triggering.streams import Stream

WITHIN = 0.3  # points, which count as the same
NEAR = INTERVAL  # samples; triggers of two seeds that are as near count as the same


@dataclass(frozen=True)
class Outcome:
    """What a policy got on a stream, by seed."""

    entry: Entry
    results: Sequence[Result]

    @property
    def name(self) -> str:
        return f"{self.entry.family} {self.entry.setting}"

    @property
    def values(self) -> list[float]:
        return [result.value for result in self.results]

    @property
    def counts(self) -> list[int]:
        return [len(result.more["positions"]) for result in self.results]

    @property
    def by_drift_or_cost(self) -> bool:
        starts = ("MMD", "KS,", "JS", "classifier", "latency", "avoidable latency")
        return self.entry.family.startswith(starts)

    @property
    def value(self) -> float:
        return statistics.mean(self.values)

    @property
    def count(self) -> float:
        return statistics.mean(self.counts)

    @property
    def shared(self) -> float:
        """The share of triggers that the other seeds have at nearly the same place."""
        places = [result.more["positions"][1:] for result in self.results]
        found = [
            any(abs(mine - other) <= NEAR for other in theirs)
            for i, here in enumerate(places)
            for j, theirs in enumerate(places)
            for mine in here
            if i != j
        ]
        return sum(found) / len(found) if found else 1.0


@dataclass(frozen=True)
class Race:
    """All policies on a stream."""

    stream: Stream
    outcomes: Sequence[Outcome]

    @cached_property
    def fixed(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.entry.fixed]

    @cached_property
    def adaptive(self) -> list[Outcome]:
        return [one for one in self.outcomes if not one.entry.fixed]

    @cached_property
    def best(self) -> Outcome:
        """The fixed schedule that is right most often."""
        return max(self.fixed, key=lambda one: one.value)

    def cheapest(self, outcomes: Iterable[Outcome]) -> Outcome | None:
        """Return who needs the fewest trainings among those about as right as the best."""
        good = [one for one in outcomes if one.value >= self.best.value - WITHIN]
        return min(good, key=lambda one: (one.count, -one.value), default=None)

    def gains(self, outcome: Outcome) -> list[float]:
        """Return points beyond a fixed schedule of as many trainings, by seed."""
        found = []
        for seed, (value, count) in enumerate(zip(outcome.values, outcome.counts, strict=True)):
            curve = Curve.through((one.counts[seed], one.values[seed]) for one in self.fixed)
            found.append(value - curve.at(count))
        return found

    def won(self, policy: Outcome) -> int:
        """Return in how many seeds a policy is as right with fewer trainings than any schedule."""
        found = 0
        for seed, (value, count) in enumerate(zip(policy.values, policy.counts, strict=True)):
            least = max(one.values[seed] for one in self.fixed) - WITHIN
            fewest = min(one.counts[seed] for one in self.fixed if one.values[seed] >= least)
            found += value >= least and count < fewest
        return found

    def verdict(self) -> Verdict:
        schedule = self.cheapest(self.fixed)
        policy = self.cheapest(one for one in self.adaptive if one.by_drift_or_cost)
        assert schedule is not None
        bar = f"{schedule.name}: {schedule.value:.2f} % with {schedule.count:.1f} trainings"
        what = f"{self.stream.name}: fewest trainings within {WITHIN} points of "
        what += f"{self.best.name} ({self.best.value:.2f} %, {self.best.count:.1f} trainings)"
        if policy is None:
            return Verdict(
                what, f"fewer than {bar}", "no policy by drift or cost is as right", False
            )
        gains = self.gains(policy)
        seen = f"{policy.name}: {policy.value:.2f} % with {policy.count:.1f}; "
        seen += f"{statistics.mean(gains):+.2f} points (at least {min(gains):+.2f}) beyond a "
        seen += f"schedule of as many; in {self.won(policy)} of {len(gains)} seeds"
        return Verdict(what, f"fewer than {bar}", seen, policy.count < schedule.count)

    def fixed_table(self) -> Table:
        rows: list[list[Cell]] = [
            [one.name, span(one.counts), spread(one.values)] for one in self.fixed
        ]
        return Table(
            title=f"{self.stream.name} ({self.stream.what}): fixed schedules",
            heads=["", "trainings", "percent right"],
            rows=rows,
        )

    def adaptive_table(self) -> Table:
        rows: list[list[Cell]] = []
        for one in self.adaptive:
            gains = self.gains(one)
            rows.append(
                [
                    one.name,
                    span(one.counts),
                    spread(one.values),
                    f"{statistics.mean(gains):+.2f} ({min(gains):+.2f} to {max(gains):+.2f})",
                    f"{100 * one.shared:.0f} %",
                ]
            )
        return Table(
            title=f"{self.stream.name}: policies that look",
            heads=[
                "",
                "trainings",
                "percent right",
                "points beyond a schedule of as many trainings",
                "triggers that other seeds share",
            ],
            rows=rows,
        )


def families(races: Sequence[Race]) -> Table:
    """Return each family's gain over schedules of as many trainings: mean over its settings."""
    names = list(dict.fromkeys(one.entry.family for race in races for one in race.adaptive))
    rows: list[list[Cell]] = []
    for name in names:
        row: list[Cell] = [name]
        for race in races:
            mine = [race.gains(one) for one in race.adaptive if one.entry.family == name]
            by_seed = [statistics.mean(gains) for gains in zip(*mine, strict=True)]
            row.append(f"{statistics.mean(by_seed):+.2f} ({min(by_seed):+.2f})" if mine else "")
        rows.append(row)
    return Table(
        title="Points beyond a fixed schedule of as many trainings: mean over the settings of a "
        "family, and in brackets the least of the seeds",
        heads=["", *(race.stream.name for race in races)],
        rows=rows,
    )


def span(counts: Sequence[int]) -> str:
    return f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def spread(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"
