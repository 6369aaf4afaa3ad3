"""A cell is one pipeline, run once: what it scored, and what it cost.

Results are kept in a file of JSON lines as they come, so that an interrupted campaign goes on where
it was, and cells of methods that were not there at the time are added later.  A file belongs to
one machine and one size; what a cell says follows from its name, its seed and the code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modyn import Pipeline
from modyn.pipelines.progress import Silent
from modyn.pipelines.run import Run

FREE = ("store", "evaluate")  # stages that all methods share


@dataclass(frozen=True, order=True)
class Name:
    """Which cell it is."""

    workload: str
    stream: str
    method: str
    ratio: str
    seed: int


@dataclass(frozen=True)
class Result:
    """What came of a cell.

    Parameters
    ----------
    value : float
        Percent of samples that the composite model has right.
    wall, busy : float
        Seconds on the wall and of processor time, all but the evaluation.
    steps, trained, scored : int
        Optimisation steps; samples that were trained on, each as often as it was, and that went
        forward through a model to be scored.
    more : mapping
        Whatever else a workload wants to know.
    """

    value: float
    wall: float
    busy: float
    steps: int
    trained: int = 0
    scored: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def passes(self) -> int:
        """Forward passes, of which a backward pass costs two."""
        return 3 * self.trained + self.scored


class Clock(Silent):
    """Knows how much processor time a run took before it was evaluated."""

    def __init__(self) -> None:
        self._begin = self.end = time.process_time()
        self.evaluated = False

    def batch(self, done: int, total: int, /) -> None:
        if not self.evaluated:
            self.end = time.process_time()

    def evaluate(self, done: int, total: int, /) -> None:
        self.evaluated = True

    @property
    def seconds(self) -> float:
        return self.end - self._begin


Score = Callable[[Run], tuple[float, dict[str, Any]]]


def run(pipeline: Pipeline, score: Score, folder: Path, models: Path | None = None) -> Result:
    """Run a pipeline in a directory that is removed afterwards; `models` may be shared."""
    with TemporaryDirectory(prefix="cell-", dir=folder) as directory:
        clock = Clock()
        done = pipeline.replay(Path(directory) / "run", clock, models=models)
        value, more = score(done)
        totals = done.totals
        spent = done.seconds
        return Result(
            value=round(value, 3),
            wall=round(sum(s for stage, s in spent.items() if stage not in FREE), 4),
            busy=round(clock.seconds, 4),
            steps=totals["batches"],
            trained=totals["samples_trained"],
            scored=totals["samples_scored"],
            more=more,
        )


class Kept:
    """Results, in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._results: dict[Name, Result] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self._results[Name(**entry["cell"])] = Result(**entry["result"])

    def __contains__(self, name: Name) -> bool:
        return name in self._results

    def __getitem__(self, name: Name) -> Result:
        return self._results[name]

    def get(self, name: Name) -> Result | None:
        return self._results.get(name)

    def add(self, name: Name, result: Result) -> None:
        self._results[name] = result
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"cell": asdict(name), "result": asdict(result)}) + "\n")

    def take_in(self, other: Kept) -> None:
        """Know the results of another file as well."""
        self._results |= other._results

    def of(self, **which: Any) -> Iterator[tuple[Name, Result]]:
        """Yield the results of the cells that these parts of their names fit."""
        for name, result in sorted(self._results.items()):
            if all(getattr(name, key) == value for key, value in which.items()):
                yield name, result
