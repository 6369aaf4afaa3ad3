"""What the lines of a benchmark share: contenders in turns, ratios, and a table."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# A contender does its work once, as number k of the repetitions, and returns the
# seconds that it took on the wall and of processor time; what it has to prepare, to
# check and to clear away is not in them.
Seconds = tuple[float, float]
Contender = Callable[[int], Seconds]


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure, and where."""

    folder: Path
    quick: bool = False
    times: int | None = None  # repetitions, where not as many as usual

    @property
    def repetitions(self) -> int:
        return self.times or (3 if self.quick else 9)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Bar:
    """What is asked for: that one contender is at least so many times as fast as another.

    A floor is to be reached by the median; a rival is to be left behind in every
    repetition (`always`).
    """

    of: str
    to: str
    least: float
    always: bool = False


@dataclass
class Outcome:
    """A line: seconds of every contender in every repetition, and what else was seen."""

    name: str
    bar: float  # 0: nothing is asked for
    floor: str  # the contender that the others are divided by
    ours: str  # the contender that the bar is for
    wall: dict[str, list[float]] = field(default_factory=dict)
    busy: dict[str, list[float]] = field(default_factory=dict)
    work: float = 0.0  # of one contender in one repetition
    unit: str = "MB"
    checked: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    missing: str = ""  # why there is nothing to see yet
    case: str = ""  # what tells this line from others of its workload
    bars: list[Bar] = field(default_factory=list)  # beside the one for ours to the floor
    kinds: dict[str, str] = field(default_factory=dict)  # "ours", "floor" or "rival"
    shares: dict[str, float] = field(default_factory=dict)  # of the work, where not all of it

    def ratio(self, name: str, *, by: str = "wall", to: str = "") -> dict[str, float]:
        """Compare with the floor, repetition by repetition: its seconds to ours."""
        table: dict[str, list[float]] = getattr(self, by)
        return spread([a / b for a, b in zip(table[to or self.floor], table[name], strict=True)])

    def verdict(self, bar: Bar) -> dict[str, Any]:
        """Hold a bar against what was seen."""
        seen = self.ratio(bar.of, to=bar.to)
        met = seen["min" if bar.always else "median"] >= bar.least
        return {**asdict(bar), "seen": seen, "met": met}

    def as_json(self) -> dict[str, Any]:
        if self.missing:
            return {"name": self.name, "bar": self.bar, "missing": self.missing}
        return {
            "name": self.name,
            "case": self.case,
            "bar": self.bar,
            "floor": self.floor,
            "ours": self.ours,
            "repetitions": len(self.wall[self.floor]),
            "rate": {name: self.rate(name) for name in self.wall},
            "rate_range": {name: self.rate_range(name) for name in self.wall},
            "unit": f"{self.unit}/s",
            "ratio_to_floor": {name: self.ratio(name) for name in self.wall},
            "ratio_to_floor_by_processor": {
                name: self.ratio(name, by="busy") for name in self.busy
            },
            "ours_to": {name: self.ratio(self.ours, to=name) for name in self.wall},
            "met": self.met,
            "bars": [self.verdict(bar) for bar in self.bars],
            "kinds": self.kinds,
            "shares": {name: significant(share) for name, share in self.shares.items()},
            "checked": self.checked,
            **self.facts,
        }

    def rate(self, name: str) -> float:
        return significant(self.work / statistics.median(self.wall[name]))

    def rate_range(self, name: str) -> list[float]:
        seconds = self.wall[name]
        return [significant(self.work / max(seconds)), significant(self.work / min(seconds))]

    @property
    def met(self) -> bool:
        return self.ratio(self.ours)["median"] >= self.bar


def significant(value: float) -> float:
    """Round to three digits, and to one after the point at least."""
    digits = 1 if value == 0 else max(1, 2 - math.floor(math.log10(abs(value))))
    return round(value, digits)


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def text_of(figure: dict[str, float]) -> str:
    return f"{figure['median']:.2f} ({figure['min']:.2f} - {figure['max']:.2f})"


class Stopwatch:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        gc.collect()
        self._wall, self._busy = time.perf_counter(), time.process_time()

    def stop(self) -> Seconds:
        return time.perf_counter() - self._wall, time.process_time() - self._busy


def in_turns(
    outcome: Outcome, contenders: dict[str, Contender], repetitions: int, memory: int = 0
) -> None:
    """Run all contenders in every repetition; the first, number -1, warms up only.

    Each of them finds that many bytes of memory that the machine has for real.
    """
    names = list(contenders)
    outcome.wall = {name: [] for name in names}
    outcome.busy = {name: [] for name in names}
    for repetition in range(-1, repetitions):
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            touch_memory(memory)
            wall, busy = contenders[name](repetition)
            if repetition >= 0:
                outcome.wall[name].append(wall)
                outcome.busy[name].append(busy)


def touch_memory(size: int) -> None:
    """Have the machine give that much memory for real.

    A virtual machine that has just been started, or gives back what it does not
    use, pays several times as much for a page that it has not, page cache included:
    who comes first would pay for all.  What is touched and freed is used next.
    """
    memory = np.empty(size, np.uint8)
    memory[::4096] = 1


def print_outcome(outcome: Outcome) -> None:
    print(f"\n{outcome.name}" + (f", {outcome.case}" if outcome.case else ""))
    if outcome.missing:
        print(f"    not there yet: {outcome.missing}")
        return
    unit = f"{outcome.unit}/s"
    print(f"    {'':30}{unit:>12}{'to the floor':>24}{'by processor':>24}")
    for name in outcome.wall:
        ratio, busy = outcome.ratio(name), outcome.ratio(name, by="busy")
        print(f"    {name:30}{outcome.rate(name):12,.1f}{text_of(ratio):>24}{text_of(busy):>24}")
    if outcome.bar > 0:
        verdict = "met" if outcome.met else "missed"
        print(f"    {outcome.ours} / {outcome.floor}: bar {outcome.bar}, {verdict}")
    for name, value in outcome.facts.items():
        print(f"    {name.replace('_', ' ')}: {value}")
