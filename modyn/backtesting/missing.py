"""The trainings that estimates lack, done: each once, and none that no policy asks for.

    (1) policies are judged by what is recorded
    (2) of those that may still be on the front, the trainings that they would do for certain and
        that are missing are done and measured, by replays with scripted triggers
    (3) again, until all of these are exact; then the same for all others

What a policy does after it looked at a stand-in is not certain, so its trainings after that come
in a later round, if they come.  Whether a policy may still be on the front is judged by what it
would score if each missing model were the best of all recorded ones in each window: a hope, which
only decides on the order.

A scripted replay is an ordinary run, in a folder that is named by what it does: who is interrupted
goes on where it was, and what was trained for one backtest is there for the next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from modyn.backtesting.matrix import Matrix, Windows
from modyn.backtesting.result import Backtest, Entry
from modyn.backtesting.scoring import Outcome, Scorer
from modyn.backtesting.scripted import AtPositions, OnlyAt
from modyn.errors import ConfigError
from modyn.pipelines import rundir
from modyn.pipelines.ledger import canonical
from modyn.pipelines.pipeline import Pipeline
from modyn.pipelines.progress import Progress
from modyn.pipelines.run import Run
from modyn.pipelines.sharing import link_file

__all__ = ["Trainer", "complete", "recall"]

Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What trains for one recording.

    Parameters
    ----------
    matrix : Matrix
        The recording; what is trained is added to it.
    pipeline : Pipeline
        Its pipeline.
    folder : Path
        Where runs go.
    progress : Progress or None
        Who is told how it goes.
    """

    matrix: Matrix
    pipeline: Pipeline
    folder: Path
    progress: Progress | None = None

    def __post_init__(self) -> None:
        recorded = int(self.matrix.run.identity["dataset"]["count"])
        if len(self.pipeline.dataset) != recorded:
            raise ConfigError(
                f"{self.pipeline.dataset.path}: the run {self.matrix.run.path} began with "
                f"{recorded} samples, now there are {len(self.pipeline.dataset)}: record a run anew"
            )

    def train(self, outcomes: Sequence[Outcome]) -> int:
        """Do what these outcomes lack for certain, and return how many trainings that were."""
        before = len(self.matrix.trainings) + len(self.matrix.nothing)
        scripts = self._by_range(outcomes) if self.matrix.recipes.by_range else _long(outcomes)
        for places, wanted in scripts:
            self._run(places, wanted)
        return len(self.matrix.trainings) + len(self.matrix.nothing) - before

    def _by_range(self, outcomes: Sequence[Outcome]) -> list[tuple[list[int], list[int] | None]]:
        """Return as few schedules as have all missing ranges between triggers, and where these end.

        Ranges that do not overlap can share a schedule.
        """
        ranges: set[Range] = set()
        for outcome in outcomes:
            first, last = outcome.ask.first, outcome.ask.last
            begin = self.matrix.recipes.begin
            ranges |= {(begin(int(first[i])), int(last[i])) for i in outcome.missing}
        if self.matrix.recipes.tail is None:
            places = sorted(last for _, last in ranges)
            return [(places, None)] if places else []
        paths: list[list[Range]] = []
        for one in sorted(ranges):
            fitting = [path for path in paths if path[-1][1] <= one[0]]
            if fitting:
                max(fitting, key=lambda path: path[-1][1]).append(one)
            else:
                paths.append([one])
        scripts: list[tuple[list[int], list[int] | None]] = []
        for path in paths:
            places = sorted({place for one in path for place in one if place > 0})
            scripts.append((places, [places.index(last) for _, last in path]))
        return scripts

    def _run(self, places: list[int], wanted: list[int] | None) -> None:
        """Train at these places, or at some of them only, and add what comes of it."""
        pipeline = self.pipeline
        selection = pipeline.selection
        if wanted is not None:
            selection = OnlyAt(selection=selection, triggers=wanted)
        scripted = replace(
            pipeline,
            trigger=AtPositions(positions=places),
            selection=selection,
            evaluation=_measured(pipeline, self.matrix.windows),
            maximum_triggers=None,
        )
        directory = self.folder / _digest([places, wanted])
        if not self.matrix.recipes.by_range:
            _link(self.matrix, directory / rundir.MODELS)
        self.matrix.add(scripted.replay(directory, progress=self.progress))


def recall(matrix: Matrix, folder: Path) -> None:
    """Take in what was trained for earlier backtests of the same recording."""
    for path in sorted(folder.glob("*")):
        if rundir.is_run(path):
            try:
                run = Run.open(path)
            except FileNotFoundError:  # it was interrupted before it had begun
                continue
            if run.finished and Windows.of(run).same(matrix.windows):
                matrix.add(run)


def folder_of(out: Path, pipeline: Pipeline, matrix: Matrix) -> Path:
    """Return where trainings for a recording go: another pipeline or seed has another folder."""
    described = pipeline.describe()
    for name in ("trigger", "evaluation", "data"):
        described.pop(name)
    described["pipeline"] = {**described["pipeline"], "name": "", "maximum_triggers": None}
    windows = [getattr(matrix.windows, name).tolist() for name in ("start", "end", "anchor")]
    measured = [matrix.metric, matrix.windows.dataset, matrix.windows.uuid, windows]
    return out / _digest([described, matrix.run.identity["dataset"], measured])


def complete(
    trainers: Sequence[Trainer],
    judge: Callable[[], Backtest],
    scorers: Callable[[], Sequence[Scorer]],
    *,
    most: int | None = None,
) -> Backtest:
    """Train until all policies are exact, or so many trainings were done; and judge them.

    Parameters
    ----------
    trainers : sequence of Trainer
        One per recording.
    judge : callable
        Judges all policies by what is recorded now.
    scorers : callable
        Returns what scores on each recording now.
    most : int, optional
        No further round begins once so many were done.
    """
    done, found = 0, judge()
    while most is None or done < most:
        left = [entry for entry in found if not entry.exact]
        if not left:
            break
        chosen = _hopeful(left, found, scorers()) or left
        new = sum(
            trainer.train([entry.outcomes[i] for entry in chosen])
            for i, trainer in enumerate(trainers)
        )
        if new == 0:
            break  # what is missing cannot be had: it was erased since
        done += new
        found = judge()
    return found


def _hopeful(left: Sequence[Entry], found: Backtest, scorers: Sequence[Scorer]) -> list[Entry]:
    """Return the estimated policies that may still be on the front, as far as one can say."""
    exact = [entry for entry in found.front if entry.exact]
    hopeful = []
    for entry in left:
        hope = np.mean(
            [scorer.hope(outcome) for scorer, outcome in zip(scorers, entry.outcomes, strict=True)]
        )
        if not any(one.cost <= entry.cost and one.score >= hope for one in exact):
            hopeful.append(entry)
    return hopeful


def _long(outcomes: Sequence[Outcome]) -> list[tuple[list[int], list[int] | None]]:
    """Return the schedules of outcomes, each up to its last missing training; no beginnings."""
    found: set[tuple[int, ...]] = set()
    for outcome in outcomes:
        if len(outcome.missing):
            last = int(outcome.ask.trigger[outcome.missing[-1]])
            found.add(tuple(outcome.schedule.places[: last + 1].tolist()))
    whole = [
        one
        for one in found
        if not any(len(other) > len(one) and other[: len(one)] == one for other in found)
    ]
    return [(list(one), None) for one in sorted(whole)]


def _measured(pipeline: Pipeline, windows: Windows) -> Any:
    """Return the evaluation of the windows alone, with every model."""
    evaluation = pipeline.evaluation
    if evaluation is None:
        raise AssertionError("a recording was measured")
    handler = evaluation.handlers[windows.handler]
    handler = replace(handler, execution_time="after_pipeline", datasets=(windows.dataset,))
    datasets = tuple(one for one in evaluation.datasets if one.dataset_id == windows.dataset)
    return replace(evaluation, handlers=(handler,), datasets=datasets)


def _link(matrix: Matrix, models: Path) -> None:
    """Have the recorded models in a run directory, so that none is trained once more."""
    for row in matrix.trainings:
        target = models / row.model
        if target.exists():
            continue
        models.mkdir(parents=True, exist_ok=True)
        building = models / f".tmp-{row.model}"
        building.mkdir(exist_ok=True)
        for file in (row.run / rundir.MODELS / row.model).iterdir():
            (building / file.name).unlink(missing_ok=True)
            link_file(file, building / file.name)
        building.rename(target)


def _digest(value: Any) -> str:
    plain: Mapping[str, Any] | list[Any] = value
    return blake2b(canonical(plain).encode(), digest_size=10).hexdigest()
