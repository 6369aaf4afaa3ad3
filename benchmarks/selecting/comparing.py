"""What the cells of all methods amount to: percent right and seconds, and gains at equal cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from benchmarks.section import Cell, Dot, Dots, Table
from benchmarks.selecting import streams
from benchmarks.selecting.cells import Kept, Name, Result
from benchmarks.selecting.methods import METHODS, WHOLE, Method

WORKLOAD, SEEDS = "policies", 3
SHARES = (500, 250, 125)
LEAST = -6.0  # points; what is below is out of the picture, and is said there
FULL, FEWER, UNIFORM = "all data", "all data, fewer epochs", "uniform"


def name_of(share: int) -> str:
    return f"{share / 10:g} %"


@dataclass(frozen=True)
class Cost:
    """What a method got on a stream for a share: percent right by seed, and its price."""

    values: list[float]
    seconds: float  # as a multiple of those of all data in the same round
    passes: float  # likewise

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)


def seconds_of(cost: Cost) -> float:
    return cost.seconds


def passes_of(cost: Cost) -> float:
    return cost.passes


Price = Callable[[Cost], float]


@dataclass(frozen=True)
class Curve:
    """What the plain ways get for their price: the best for as much or less."""

    points: list[tuple[float, float]]  # (log price, percent right), both ascending

    @classmethod
    def through(cls, found: Iterable[tuple[float, float]]) -> Curve:
        """Return the curve of these (price, percent right)."""
        points: list[tuple[float, float]] = []
        for price, right in sorted(found):
            if not points or right > points[-1][1]:
                points.append((math.log(price), right))
        return cls(points)

    def at(self, price: float) -> float:
        """Return percent right for a price; beyond the ends, that of the end."""
        x = math.log(price)
        if x <= self.points[0][0]:
            return self.points[0][1]
        for (left, low), (right, high) in pairwise(self.points):
            if x <= right:
                return low + (high - low) * (x - left) / (right - left)
        return self.points[-1][1]


@dataclass(frozen=True)
class Gain:
    """Percent right beyond what plain ways get, over streams and seeds."""

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Gain:
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        return cls(statistics.mean(values), error, len(values))

    @property
    def verdict(self) -> str:
        if self.count < 2:
            return "one run"
        if abs(self.mean) <= 2 * self.error:
            return "even"
        return "better" if self.mean > 0 else "worse"

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.error:.2f}"


class Comparison:
    """Cells of a campaign, which need not be complete."""

    def __init__(self, kept: Kept, seeds: Sequence[int], names: Sequence[str]) -> None:
        self._kept, self._seeds = kept, seeds
        self._streams = [name for name in names if self._cost(name, FULL, WHOLE)]

    @cached_property
    def methods(self) -> list[Method]:
        """Methods of which there are results."""
        return [m for m in METHODS if any(self._kept.of(workload=WORKLOAD, method=m.name))]

    def _results(self, stream: str, method: str, share: int) -> list[tuple[Result, Result]]:
        """Return results by seed, each beside that of all data in its round."""
        found = []
        for seed in self._seeds:
            mine = self._kept.get(Name(WORKLOAD, stream, method, name_of(share), seed))
            full = self._kept.get(Name(WORKLOAD, stream, FULL, name_of(WHOLE), seed))
            if mine is not None and full is not None:
                found.append((mine, full))
        return found

    def _cost(self, stream: str, method: str, share: int) -> Cost | None:
        pairs = self._results(stream, method, share)
        if not pairs:
            return None
        return Cost(
            values=[mine.value for mine, _ in pairs],
            seconds=statistics.median(mine.busy / full.busy for mine, full in pairs),
            passes=statistics.median(mine.passes / full.passes for mine, full in pairs),
        )

    @cached_property
    def _curves(self) -> dict[tuple[str, Price], Curve]:
        """Return what the plain ways get, by stream and kind of price."""
        ways = [(FULL, WHOLE), *((way, share) for way in (FEWER, UNIFORM) for share in SHARES)]
        curves = {}
        for stream in self._streams:
            found = [self._cost(stream, way, share) for way, share in ways]
            for price in (seconds_of, passes_of):
                points = [(price(cost), cost.mean) for cost in found if cost is not None]
                curves[(stream, price)] = Curve.through(points)
        return curves

    def _costs(self, method: str, share: int) -> dict[str, Cost]:
        found = {stream: self._cost(stream, method, share) for stream in self._streams}
        return {stream: cost for stream, cost in found.items() if cost is not None}

    def at_equal_seconds(self, method: str, share: int) -> Gain | None:
        """Return the gain over plain ways of the same seconds; None without results."""
        return self._at_equal(seconds_of, method, share)

    def at_equal_passes(self, method: str, share: int) -> Gain | None:
        """Return the gain over plain ways of as many passes; None without results."""
        return self._at_equal(passes_of, method, share)

    def _at_equal(self, price: Price, method: str, share: int) -> Gain | None:
        values = []
        for stream, cost in self._costs(method, share).items():
            even = self._curves[(stream, price)].at(price(cost))
            values += [value - even for value in cost.values]
        return Gain.of(values) if values else None

    def at_equal_steps(self, method: str, share: int) -> Gain | None:
        """Return the gain over a uniform draw of the same share and seed; None without results."""
        values = []
        for stream in self._streams:
            for seed in self._seeds:
                found = [
                    self._kept.get(Name(WORKLOAD, stream, name, name_of(share), seed))
                    for name in (method, UNIFORM)
                ]
                if found[0] is not None and found[1] is not None:
                    values.append(found[0].value - found[1].value)
        return Gain.of(values) if values else None

    def to_full(self, method: str, share: int) -> tuple[float, float] | None:
        """Return points beside all data, and seconds as a share of its, over the streams."""
        costs = self._costs(method, share)
        if not costs:
            return None
        full = {s: self._cost(s, FULL, WHOLE) for s in costs}
        points = [cost.mean - full[s].mean for s, cost in costs.items()]  # type: ignore[union-attr]
        return statistics.mean(points), statistics.geometric_mean(
            cost.seconds for cost in costs.values()
        )

    def summary(self) -> Table:
        """Return percent right and seconds of each method beside all data."""
        rows: list[list[Cell]] = []
        for method in self.methods:
            found = [
                None if share is None else self.to_full(method.name, share)
                for share in _shares(method)
            ]
            points = [f"{one[0]:+.2f}" if one else "" for one in found]
            seconds = [f"{one[1]:.2f}" if one else "" for one in found]
            rows.append([method.name, *points, *seconds, self._runs(method)])
        heads = [
            "",
            *(f"{name_of(share)}: points" for share in SHARES),
            *(f"{name_of(share)}: seconds" for share in SHARES),
            "runs",
        ]
        over = ", ".join(self._streams)
        title = f"Mean over {over}: points beside all data, and seconds as a multiple of its"
        return Table(title=title, heads=heads, rows=rows)

    def _runs(self, method: Method) -> str:
        """Return how many runs, streams times seeds, there are for each share."""
        counts = [
            sum(len(cost.values) for cost in self._costs(method.name, share).values())
            for share in method.shares
        ]
        return str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))

    def gains(self) -> Table:
        """Return what each method gains, by each way to compare."""
        rows: list[list[Cell]] = []
        for method in self._compared:
            gains = [gain(method.name, s) for gain in self._ways.values() for s in SHARES]
            rows.append(
                [method.name, *(f"{gain}, {gain.verdict}" if gain else "" for gain in gains)]
            )
        heads = ["", *(f"{name_of(share)}: {way}" for way in self._ways for share in SHARES)]
        return Table(title="Points gained over plain ways", heads=heads, rows=rows)

    @property
    def _ways(self) -> dict[str, Callable[[str, int], Gain | None]]:
        """The ways to compare; see EVEN of `benchmarks.selecting.races`."""
        return {
            "at equal steps": self.at_equal_steps,
            "at equal passes": self.at_equal_passes,
            "at equal seconds": self.at_equal_seconds,
        }

    @property
    def _compared(self) -> list[Method]:
        return [m for m in self.methods if m.name not in (FULL, FEWER, UNIFORM)]

    def tables(self) -> list[Table]:
        """Return percent right and seconds, a table for each stream."""
        return [self._table(stream) for stream in self._streams]

    def _table(self, stream: str) -> Table:
        rows: list[list[Cell]] = []
        for method in self.methods:
            right: list[Cell] = []
            seconds: list[Cell] = []
            for share in _shares(method):
                pairs = [] if share is None else self._results(stream, method.name, share)
                right.append(_mean([mine.value for mine, _ in pairs]) if pairs else "")
                busy = [mine.busy for mine, _ in pairs]
                seconds.append(f"{statistics.median(busy):.2f}" if busy else "")
            rows.append([method.name, *right, *seconds])
        stated = streams.STREAMS[stream]
        heads = ["", *(f"{name_of(s)}" for s in SHARES), *(f"{name_of(s)}, s" for s in SHARES)]
        return Table(
            title=f"{stream} ({stated.what}): percent right and seconds, by share",
            heads=heads,
            rows=rows,
        )

    def dots(self) -> list[Dots]:
        """Return the pictures of all gains."""
        unit = "percentage points right, mean over streams and seeds, with its standard error"
        titles = (
            "Gain over a uniform draw of as many samples",
            "Gain over plain ways of as many forward and backward passes",
            "Gain over plain ways of the same seconds, for this small model",
        )
        return [
            Dots(title=title, unit=unit, rows=self._rows(gain), least=LEAST)
            for title, gain in zip(titles, self._ways.values(), strict=True)
        ]

    def _rows(self, gain: Callable[[str, int], Gain | None]) -> list[tuple[str, str, list[Dot]]]:
        rows = []
        for method in self._compared:
            marks = []
            for share in SHARES:
                found = gain(method.name, share)
                if found is not None:
                    low, high = found.mean - found.error, found.mean + found.error
                    marks.append(Dot(name_of(share), found.mean, low, high))
            rows.append((method.kind, method.name, marks))
        return rows


def _shares(method: Method) -> Sequence[int | None]:
    """Return the shares of a method, one for each column."""
    return SHARES if len(method.shares) > 1 else (*method.shares, None, None)


def _mean(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"
