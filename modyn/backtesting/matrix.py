"""What runs of one seed recorded: every model on every window, and what each training cost.

The windows are those of one handler whose models are a matrix, and whose windows do not depend on
the triggers: then what another policy would have scored with the same models can be read off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.backtesting.recipes import Ask, Recipes
from modyn.backtesting.tape import Tape
from modyn.errors import ConfigError

if TYPE_CHECKING:
    from modyn.pipelines.run import Run

__all__ = ["Matrix", "Training", "Trainings", "Windows"]

Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Evaluation windows, in the order of their anchors.

    Parameters
    ----------
    start, end, anchor, count : int64, shape (w,)
        As in `Run.windows`.
    dataset : str
        What was measured on.
    uuid : str
        Of that dataset.
    handler : int
        By which handler.
    """

    start: Places
    end: Places
    anchor: Places
    count: Places
    dataset: str
    uuid: str
    handler: int

    def __len__(self) -> int:
        return len(self.anchor)

    @cached_property
    def spans(self) -> dict[tuple[int, int], list[int]]:
        """Which windows have which start and end."""
        found: dict[tuple[int, int], list[int]] = {}
        for i, span in enumerate(zip(self.start.tolist(), self.end.tolist(), strict=True)):
            found.setdefault(span, []).append(i)
        return found

    @classmethod
    def of(cls, run: "Run", dataset: str | None = None, handler: int | None = None) -> "Windows":
        """Return the windows of a run that a backtest can go by; the first such handler's.

        Raises
        ------
        ConfigError
            When no handler has such windows; says why.
        """
        evaluation = run.identity["config"].get("evaluation") or {"handlers": []}
        why = "it measured nothing"
        for place, described in enumerate(evaluation["handlers"]):
            if handler is not None and place != handler:
                continue
            name = described["strategy"]["class"]
            if described["models"] != "matrix":
                why = f"handler {described['name']!r} measures {described['models']} models"
                continue
            if name in ("BetweenTwoTriggersEvalStrategy", "OffsetEvalStrategy"):
                why = f"the windows of {name} depend on the triggers"
                continue
            rows = [row for row in run.window_rows if row.handler == place]
            names = [row.dataset for row in rows]
            chosen = dataset if dataset is not None else next(iter(names), None)
            rows = [row for row in rows if row.dataset == chosen]
            if rows and chosen is not None:
                uuids = {
                    entry["id"]: entry["uuid"] for entry in run.identity["evaluation_datasets"]
                }
                return cls._of_rows(rows, chosen, uuids[chosen], place)
            why = f"there are no windows of handler {described['name']!r}"
        raise ConfigError(
            f"{run.path}: a backtest needs every model on windows that are known beforehand "
            f"(models: matrix, with slices, static or periodic intervals): {why}"
        )

    @classmethod
    def _of_rows(cls, rows: Sequence[Any], dataset: str, uuid: str, handler: int) -> "Windows":
        rows = sorted(rows, key=lambda row: (row.anchor, row.start, row.end))
        columns = {
            name: np.array([getattr(row, name) for row in rows], dtype=np.int64)
            for name in ("start", "end", "anchor", "count")
        }
        return cls(**columns, dataset=dataset, uuid=uuid, handler=handler)

    def same(self, other: "Windows") -> bool:
        """Return whether two runs measured on the same windows."""
        measured_on = (self.dataset, self.uuid)
        return measured_on == (other.dataset, other.uuid) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("start", "end", "anchor", "count")
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A training that was done, and what its model scored.

    Parameters
    ----------
    name : int
        What tells it apart, see `Ask`.
    first, last : int
        The range of its candidates, in places.
    until : int
        The last timestamp that it may have learned from.
    samples, passed : int
        The size of its training set, and how many samples went through the training.
    seconds : float
        Of training.
    model : str
        The content key.
    run : Path
        The run directory that has the model.
    values : float64, shape (w,)
        The metric in each window; nan where it was not measured or is undefined.
    """

    name: int
    first: int
    last: int
    until: int
    samples: int
    passed: int
    seconds: float
    model: str
    run: Path
    values: Floats


@dataclass(kw_only=True, eq=False)
class Matrix:
    """The trainings of one seed.

    Parameters
    ----------
    tape : Tape
        The stream.
    windows : Windows
    recipes : Recipes
        What tells trainings apart.
    metric : str
        As reported, such as "Accuracy".
    run : Run
        The first run of this seed.
    first : int
        The name of its first training.
    begun : int
        The last timestamp that its model had learned from: what comes after is compared.
    nothing : set of int
        The names of trainings for which nothing was chosen, so that there is no model.
    """

    tape: Tape
    windows: Windows
    recipes: Recipes
    metric: str
    run: "Run"
    trainings: list[Training] = field(default_factory=list)
    first: int = 0
    begun: int = 0
    nothing: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, run: "Run", tape: Tape, windows: Windows, metric: str) -> "Matrix":
        """Return what a run recorded."""
        recipes = Recipes.of(run.identity["config"], tape)
        found = cls(tape=tape, windows=windows, recipes=recipes, metric=metric, run=run)
        found.add(run)
        if not found.trainings:
            raise ConfigError(
                f"{run.path}: the run trained nothing, or on samples of which some are erased by "
                "now, so there is nothing to go by"
            )
        first = min(found.trainings, key=lambda training: (training.last, training.first))
        found.first, found.begun = first.name, first.until
        return found

    def add(self, run: "Run") -> None:
        """Take in what another run of the same pipeline, but for its trigger, recorded."""
        first, last = (
            np.array([self.tape.place(place) for place in places], dtype=np.int64)
            for places in (
                [row.candidates_first for row in run.transitions],
                [row.position for row in run.transitions],
            )
        )
        values = self._values(run)
        known = {training.name for training in self.trainings}
        names = self.recipes.names(first, last).tolist()
        models = {row.trigger: row.model for row in run.trainings}
        for trigger, name in enumerate(names):
            if not self._is_whole(run, trigger):  # samples that it was chosen from are gone
                if self.recipes.by_range:
                    continue
                break  # and all that come later depend on it
            if trigger not in models or name in known:
                continue
            if models[trigger] is not None:
                ends = int(first[trigger]), int(last[trigger])
                self.trainings.append(self._training(run, trigger, name, ends, values))
                known.add(name)
            elif not self.recipes.by_range:
                self.nothing.add(name)
        self.__dict__.pop("table", None)

    def ask(self, places: Places) -> Ask:
        """Return the trainings of a schedule, but those that are known to come to nothing."""
        ask = self.recipes.ask(places)
        if not self.nothing:
            return ask
        return ask.where(~np.isin(ask.name, sorted(self.nothing)))

    def _is_whole(self, run: "Run", trigger: int) -> bool:
        """Return whether for certain nothing was erased since of what decides on a training.

        That are its candidates, the sample that it fell at, and those that said which labels were
        known there.
        """
        row, tape = run.transitions[trigger], self.tape
        first, place = tape.place(row.candidates_first), tape.place(row.position)
        last = tape.place(row.candidates_first + row.candidates)
        living = last - first
        if living != row.candidates and not (self.recipes.takes_all and living == row.samples):
            return False
        known = int(self.recipes.known_at(np.array([place]))[0])
        return tape.position(place) == row.position and last == known

    def _training(
        self,
        run: "Run",
        trigger: int,
        name: int,
        ends: tuple[int, int],
        values: dict[int, Floats],
    ) -> Training:
        row = {column: found[trigger] for column, found in run.triggers.columns.items()}
        until = run.transitions[trigger].trained_until
        samples = next(one.samples for one in run.trainings if one.trigger == trigger)
        nothing = np.full(len(self.windows), np.nan)
        return Training(
            name=name,
            first=ends[0],
            last=ends[1],
            until=int(until if until is not None else self.tape.newest[ends[1] - 1]),
            samples=samples,
            passed=int(row["samples_trained"]) + int(row["samples_scored"]),
            seconds=run.training_seconds.get(trigger, 0.0),
            model=str(row["model"]),
            run=run.path,
            values=values.get(trigger, nothing),
        )

    def _values(self, run: "Run") -> dict[int, Floats]:
        """Return the metric of each trigger's model in each window."""
        found: dict[int, Floats] = {}
        spans, dataset, metric = self.windows.spans, self.windows.dataset, self.metric
        for row in run.evaluation_rows:
            if row.metric != metric or row.dataset != dataset or row.value is None:
                continue
            places = spans.get((row.start, row.end))
            if places is None:
                continue
            if row.trigger not in found:
                found[row.trigger] = np.full(len(self.windows), np.nan)
            found[row.trigger][places] = row.value
        return found

    @cached_property
    def table(self) -> "Trainings":
        """The trainings as columns, in the order of where they end, then begin."""
        return Trainings.of(self.trainings)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainings:
    """Trainings as columns, ordered by (last, first).

    Parameters
    ----------
    first, last, until, samples, passed : int64, shape (m,)
    seconds : float64, shape (m,)
    values : float64, shape (m, w)
    rows : sequence of Training
        The same, one by one.
    """

    first: Places
    last: Places
    until: Places
    samples: Places
    passed: Places
    seconds: Floats
    values: Floats
    names: Places
    rows: Sequence[Training]
    _order: Places

    @classmethod
    def of(cls, trainings: Sequence[Training]) -> "Trainings":
        """Return trainings as columns."""
        rows = sorted(trainings, key=lambda one: (one.last, one.first, one.name))
        names = np.array([row.name for row in rows], dtype=np.int64)
        columns = {
            name: np.array([getattr(row, name) for row in rows], dtype=np.int64)
            for name in ("first", "last", "until", "samples", "passed")
        }
        return cls(
            **columns,
            seconds=np.array([row.seconds for row in rows], dtype=np.float64),
            values=np.stack([row.values for row in rows]),
            names=names,
            rows=rows,
            _order=np.argsort(names),
        )

    def __len__(self) -> int:
        return len(self.last)

    def exact(self, names: Places) -> Places:
        """Return the row of the training with each name, or -1 where it was not done."""
        places = np.searchsorted(self.names, names, sorter=self._order)
        rows = self._order[np.minimum(places, len(self) - 1)]
        found: Places = np.where(self.names[rows] == names, rows, -1)
        return found

    def nearest(self, first: Places, last: Places) -> Places:
        """Return the row of the training that comes nearest to each range, from before its end.

        It is the last one that ends no later; of several with one end, the one that begins
        nearest. Where all end later it is the first one.
        """
        ends = np.searchsorted(self.last, last, side="right") - 1
        ends = np.maximum(ends, 0)
        begins = np.searchsorted(self.last, self.last[ends], side="left")
        if np.array_equal(begins, ends):
            return ends
        found = ends.copy()
        for i in np.flatnonzero(begins != ends).tolist():
            away = np.abs(self.first[begins[i] : ends[i] + 1] - first[i])
            found[i] = begins[i] + int(away.argmin())
        return found

    @cached_property
    def _pace(self) -> tuple[float, float, float]:
        """Slope, mean size and mean seconds of a straight line through (size, seconds)."""
        size, seconds = self.passed.astype(np.float64), self.seconds
        around = size - size.mean()
        slope = float(around @ seconds) / (float(around @ around) + 1.0)
        return slope, float(size.mean()), float(seconds.mean())

    def facts(
        self, rows: Places, done: npt.NDArray[np.bool_], size: Places
    ) -> tuple[Places, Floats]:
        """Return samples and seconds of trainings: as recorded, or guessed where others stand in.

        Parameters
        ----------
        rows : int64, shape (n,)
            Which recorded training is, or stands in for, each.
        done : bool, shape (n,)
            Whether it is that very training.
        size : int64, shape (n,)
            How many candidates each has.
        """
        samples = np.where(done, self.samples[rows], size)
        passed = self.passed[rows] / np.maximum(self.samples[rows], 1) * samples
        return samples, np.where(done, self.seconds[rows], self.guess_seconds(passed))

    def guess_seconds(self, passed: Floats) -> Floats:
        """Return how long trainings would take in which so many samples go through, at least 0.

        A straight line through what was measured, by least squares with a ridge of 1.
        """
        slope, size, seconds = self._pace
        return np.maximum(seconds + slope * (passed - size), 0.0)
