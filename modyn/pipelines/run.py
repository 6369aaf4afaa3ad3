"""A run as tables: what was decided, what it cost, and how the models did."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.dataset import Dataset
from modyn.errors import ConfigError, DatabaseError
from modyn.loader import Waits
from modyn.pipelines import ledger_sqlite, rundir, strict_yaml
from modyn.pipelines.composite import Trained, active, current, trained, weighted_mean
from modyn.pipelines.costs import STAGES, WORKERS, Costs
from modyn.pipelines.decisions import noted
from modyn.pipelines.ledger import (
    Content,
    EvaluationRow,
    TrainingRow,
    TransitionRow,
    WindowRow,
)
from modyn.pipelines.signal_files import SignalFiles
from modyn.pipelines.table import Table
from modyn.signals import Signals, of_keys

if TYPE_CHECKING:
    from modyn.provenance import Provenance


@dataclass(frozen=True)
class Run:
    """What a run directory said when it was opened; `Run.open` makes one.

    Attributes
    ----------
    path : Path
        The run directory.
    config : mapping
        The configuration, as in pipeline.yaml.
    """

    path: Path
    config: Mapping[str, Any]
    _content: Content

    @classmethod
    def open(cls, directory: str | Path) -> "Run":
        """Return the run in a directory, finished or not, as of now.

        Raises
        ------
        FileNotFoundError
            When there is no run.
        CorruptError
            When its ledger is damaged or of a version not known here.
        BusyError
            When a process did not let go of its ledger for a minute.
        DatabaseError
            When its metadata is in a database, and that cannot be reached.
        """
        path = Path(directory)
        url = rundir.metadata_url(path)
        content = ledger_sqlite.read(path) if url is None else None
        text = (path / rundir.CONFIG).read_bytes()
        config = strict_yaml.load(text, str(path / rundir.CONFIG))
        if content is None:
            content = _in_database(str(url), str(config["pipeline"]["name"]), path)
        return cls(path, config, content)

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self._content.identity["config"]["pipeline"]["name"])

    @property
    def timestamp_unit(self) -> str:
        """The unit of all timestamps: s, ms, us or ns."""
        return str(self._content.identity["dataset"]["timestamp_unit"])

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self._content.progress.finished

    def digest(self) -> str:
        """Return the digest of all that the ledger says but the wall clock."""
        return self._content.digest

    @cached_property
    def triggers(self) -> Table:
        """One row per trigger: where it fell, what was chosen, what the training came to."""
        trainings = {row.trigger: row for row in self._content.trainings}
        seconds = {(row.trigger, row.stage): row.seconds for row in self._content.timings}
        names = [
            *("trigger", "first", "position", "first_timestamp", "last_timestamp", "candidates"),
            *("samples", "digest", "model", "epochs", "batches", "final_loss"),
            *("samples_trained", "samples_scored"),
            *(f"seconds_{stage}" for stage in (*STAGES, *WORKERS)),
        ]
        rows = []
        for row in self._content.transitions:
            training = trainings.get(row.trigger)
            rows.append(
                (
                    *(row.trigger, row.first, row.position, row.first_timestamp),
                    *(row.last_timestamp, row.candidates, row.samples, row.digest),
                    *((training.model, training.epochs) if training else (None, 0)),
                    *((training.batches, training.final_loss) if training else (0, None)),
                    *(
                        (self._costs.passed(training), self._costs.scored(row.trigger))
                        if training
                        else (0, 0)
                    ),
                    *(seconds.get((row.trigger, stage), 0.0) for stage in (*STAGES, *WORKERS)),
                )
            )
        return Table.of(names, rows)

    @property
    def training_seconds(self) -> dict[int, float]:
        """How long the training of each trigger's model took when it was done, here or elsewhere.

        Of runs of before that was written down: how long it took here.
        """
        return self._costs.by_trigger

    @cached_property
    def decisions(self) -> Table:
        """One row per decision that a policy took note of, in order.

        `trigger` is the one that was sought at this position, and `fired` says whether it fell
        there; `values` is what the policy of this name looked at.
        """
        names = ["position", "timestamp", "trigger", "fired", "name", "values"]
        ends = {row.trigger: row.position for row in self._content.transitions}
        rows = [
            (
                *(row.position, row.timestamp, row.trigger),
                *(ends.get(row.trigger) == row.position, row.name, noted(row)),
            )
            for row in self._content.decisions
        ]
        return Table.of(names, rows)

    @cached_property
    def windows(self) -> Table:
        """One row per evaluation window of each handler, in a fixed order."""
        names = ["dataset", "window", "start", "end", "count", "handler", "anchor"]
        rows = [
            (row.dataset, i, row.start, row.end, row.count, row.handler, row.anchor)
            for i, row in enumerate(self._windows)
        ]
        return Table.of(names, rows)

    @cached_property
    def evaluations(self) -> Table:
        """One row per (trigger, window, metric), with the model's part in the composites."""
        names = [
            *("trigger", "model", "dataset", "window", "start", "end", "metric", "value"),
            *("count", "correct", "currently_active", "currently_trained"),
        ]
        models = self._models
        found: dict[tuple[str, int, int], list[EvaluationRow]] = {}
        for row in self._content.evaluations:
            found.setdefault((row.dataset, row.start, row.end), []).append(row)
        rows: list[tuple[Any, ...]] = []
        for i, window in enumerate(self._windows):
            now = active(models, window.anchor), trained(models, window.anchor)
            rows += [
                (
                    *(row.trigger, row.model, row.dataset, i, row.start, row.end, row.metric),
                    *(row.value, row.count, json.loads(row.counts).get("correct")),
                    *(row.trigger == now[0], row.trigger == now[1]),
                )
                for row in found.get((window.dataset, window.start, window.end), [])
            ]
        return Table.of(names, sorted(rows, key=lambda row: (row[0], row[3], row[6])))

    def composite(
        self,
        metric: str,
        kind: str = "active",
        *,
        dataset: str | None = None,
        handler: int | None = None,
    ) -> Table:
        """Return the composite model's value in each window.

        Parameters
        ----------
        metric : str
            A reported name ("Accuracy", "ROC-AUC"), in any case.
        kind : {"active", "trained"}
            Which model counts in a window.
        dataset, handler : optional
            Of which windows; those of the first dataset and handler that have any if None.

        Returns
        -------
        Table
            window, start, end, trigger, value, count; None where no model counts or the
            metric is undefined.

        Raises
        ------
        ValueError
            When there is no such metric.
        """
        name = self.metric_name(metric)
        found = {
            (row.trigger, row.dataset, row.start, row.end): row
            for row in self._content.evaluations
            if row.metric == name
        }
        rows = []
        for i, window in self._chosen(dataset, handler):
            trigger = current(self._models, window.anchor, kind)
            row = found.get((-1 if trigger is None else trigger, *_place(window)))
            value = row.value if row else None
            rows.append((i, window.start, window.end, trigger, value, window.count))
        return Table.of(["window", "start", "end", "trigger", "value", "count"], rows)

    def signals(
        self,
        trigger: int | None = None,
        names: Sequence[str] | None = None,
        *,
        dataset: Dataset | None = None,
    ) -> Signals:
        """Return what a model said of each sample while it was trained.

        Parameters
        ----------
        trigger : int, optional
            Of which trigger's training; the latest if None.
        names : sequence of str, optional
            Only these of the recorded signals.
        dataset : Dataset, optional
            The samples, to leave out those that were erased since the run was last at work.

        Raises
        ------
        ValueError
            When signals were not recorded, or nothing was trained at that trigger.
        KeyError
            When somebody has removed them.
        CorruptError
            When they are damaged, or rows are missing.
        """
        if not self._content.identity["config"]["training"].get("signals"):
            raise ValueError(f"{self.path}: the run has no signals: training.signals names none")
        trained = [row.trigger for row in self._content.trainings if row.model is not None]
        if trigger is None and trained:
            trigger = trained[-1]
        if trigger is None or trigger not in trained:
            raise ValueError(
                f"{self.path}: nothing was trained at trigger {trigger}; {trained} are"
            )
        found = self._read_signals(trigger, names)
        return found if dataset is None else found.where(~of_keys(dataset.erased, found.keys))

    def _read_signals(self, trigger: int, names: Sequence[str] | None) -> Signals:
        url = rundir.metadata_url(self.path)
        if url is None:
            return SignalFiles(self.path / rundir.SIGNALS).read(trigger, names)
        from modyn.metadata import signals
        from modyn.metadata.database import Database

        with Database(url) as database:
            found = database.fetch_one(
                "SELECT id FROM modyn.pipelines WHERE name = %s", [self.name]
            )
            if found is None:
                raise KeyError(f"{self.path}: there is no pipeline {self.name!r} in {url}")
            return signals.read(database, int(found[0]), trigger, names)

    @property
    def transitions(self) -> Sequence[TransitionRow]:
        """What the ledger says of each trigger, first to last."""
        return self._content.transitions

    @property
    def trainings(self) -> Sequence[TrainingRow]:
        """What the ledger says of each training, first to last."""
        return self._content.trainings

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the outcome: the configuration as it was understood, and the data."""
        return self._content.identity

    @property
    def window_rows(self) -> Sequence[WindowRow]:
        """What the ledger says of each evaluation window."""
        return self._content.windows

    @property
    def evaluation_rows(self) -> Sequence[EvaluationRow]:
        """What the ledger says of each model, window and metric."""
        return self._content.evaluations

    @property
    def dataset_uuid(self) -> str:
        """The dataset that was followed."""
        return str(self._content.identity["dataset"]["uuid"])

    def provenance(self, dataset: Dataset | None = None, *, threads: int = 2) -> "Provenance":
        """Return which model has seen which sample; see `modyn.Provenance`.

        Parameters
        ----------
        dataset : Dataset, optional
            The samples, to know of erasures.
        threads : int
            How many threads load.
        """
        from modyn.provenance import Provenance

        return Provenance.of([self], dataset, threads=threads)

    def score(self, metric: str, kind: str = "active", **which: Any) -> float | None:
        """Return the mean of a composite over its windows, each counting as its samples do."""
        table = self.composite(metric, kind, **which)
        return weighted_mean(table["value"], table["count"])

    @property
    def metrics(self) -> list[str]:
        """The reported names of all metrics."""
        return sorted({row.metric for row in self._content.evaluations})

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage: policy, select, write, load, train, store, evaluate.

        With downsampling also score, and irreducible, which is what RHO-LOSS takes before.
        """
        return self._costs.seconds

    @property
    def waits(self) -> Waits:
        """Who waited for whom in all trainings: the loop for batches, or workers for room."""
        return self._costs.waits

    @property
    def totals(self) -> dict[str, int]:
        """How many triggers, trainings, samples seen in training, batches, evaluations.

        `samples_scored` went forward through a model that was not trained on them then. Of the
        trainings, `found` were not done: another run had done them, or another trigger of this.
        """
        return self._costs.totals

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self._content)

    @cached_property
    def _windows(self) -> list[WindowRow]:
        entries = self._content.identity["evaluation_datasets"]
        order = {entry["id"]: i for i, entry in enumerate(entries)}

        def place(row: WindowRow) -> tuple[int, ...]:
            return order[row.dataset], row.handler, row.start, row.end, row.anchor

        return sorted(self._content.windows, key=place)

    @cached_property
    def _models(self) -> list[Trained]:
        until = {row.trigger: row.trained_until for row in self._content.transitions}
        models = []
        for row in self._content.trainings:
            last = until[row.trigger]
            if row.model is not None and last is not None:
                models.append(Trained(trigger=row.trigger, trained_until=last))
        return models

    def metric_name(self, name: str) -> str:
        """Return a metric's name as it is reported, given it in any case.

        Raises
        ------
        ValueError
            When there is no such metric.
        """
        folded = {_folded(known): known for known in self.metrics}
        if _folded(name) not in folded:
            raise ValueError(f"metric {name!r} was not measured; there are {self.metrics}")
        return folded[_folded(name)]

    def _chosen(self, dataset: str | None, handler: int | None) -> list[tuple[int, WindowRow]]:
        if not self._windows:
            return []
        first = self._windows[0]
        dataset = first.dataset if dataset is None else dataset
        of_dataset = [(i, w) for i, w in enumerate(self._windows) if w.dataset == dataset]
        if not of_dataset:
            raise ValueError(f"no windows of a dataset {dataset!r}")
        handler = of_dataset[0][1].handler if handler is None else handler
        return [(i, window) for i, window in of_dataset if window.handler == handler]


def _in_database(url: str, name: str, directory: Path) -> Content:
    """Return what the database in a run directory's note knows; nobody waits for one that is away.

    Errors name the run.
    """
    from modyn.metadata.database import Database
    from modyn.pipelines import ledger_postgres

    try:
        with Database(url, retry_seconds=0) as database:
            return ledger_postgres.read(database, name)
    except ConfigError as error:  # the URL is none, or has a password, and is not shown
        raise ConfigError(f"{directory / rundir.METADATA}: {error}") from None
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{directory}: {error}") from None
    except DatabaseError as error:
        raise DatabaseError(f"{directory}: its metadata is in {url}: {error}") from None


def _place(window: WindowRow) -> tuple[str, int, int]:
    return window.dataset, window.start, window.end


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
