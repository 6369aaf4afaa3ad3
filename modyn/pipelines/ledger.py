"""The ledger: what a run did, in one SQLite file; the only mutable truth of a pipeline.

    identity      what the run is: configuration, datasets, seed; written once
    progress      how far the stream was followed, and the policies' state there
    transitions   one row per trigger: where it fell, what was chosen, the state after it
    trainings     one row per trained trigger: the model's content key and facts
    windows       the evaluation windows of each handler
    evaluations   one row per (trigger, dataset, window, metric): counts and value
    timings       seconds by trigger and stage, the only wall clock; no part of the digest

One transition is one transaction: position, policy state, trigger and training set digest commit
together.  Everything else refers to a transition and can be done again with the same outcome, so
after a crash the run goes on from the last commit and there is nothing to mend.

There is one connection, with a rollback journal in TRUNCATE mode and synchronous=EXTRA: SQLite's
default (DELETE, FULL) loses acknowledged commits in a power cut, and its WAL has had a bug that
corrupts files up to version 3.51.2.  SQLite ignores a failed sync of the directory, so the
directory is synced here, once, after the file was made.

Names of tables and columns are constants of this file; what comes from outside is bound.

The digest covers all content but the timings: two runs that decided, trained and measured the
same have the same digest, wherever they were interrupted.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from modyn.errors import ConfigError, CorruptError
from modyn.pipelines import durable

APPLICATION_ID = 0x4D6F6479  # "Mody"
VERSION = 1
FILE = "ledger.sqlite"
WAIT_SECONDS = 60.0  # a reader holds the file only for the moment of copying it

TABLES = {
    "identity": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
    "progress": (
        "id INTEGER PRIMARY KEY CHECK (id = 0), position INTEGER NOT NULL, "
        "trigger_state TEXT NOT NULL, selection_state TEXT NOT NULL, finished INTEGER NOT NULL"
    ),
    "transitions": (
        'trigger INTEGER PRIMARY KEY, "first" INTEGER NOT NULL, position INTEGER NOT NULL, '
        "first_timestamp INTEGER, last_timestamp INTEGER, trained_until INTEGER, "
        "candidates_first INTEGER NOT NULL, candidates INTEGER NOT NULL, samples INTEGER NOT NULL, "
        "digest TEXT NOT NULL, trigger_state TEXT NOT NULL, selection_state TEXT NOT NULL"
    ),
    "trainings": (
        "trigger INTEGER PRIMARY KEY REFERENCES transitions, model TEXT, parent TEXT, "
        "epochs INTEGER NOT NULL, batches INTEGER NOT NULL, samples INTEGER NOT NULL, "
        "final_loss REAL, losses TEXT NOT NULL"
    ),
    "windows": (
        'dataset TEXT NOT NULL, handler INTEGER NOT NULL, "start" INTEGER NOT NULL, '
        '"end" INTEGER NOT NULL, anchor INTEGER NOT NULL, count INTEGER NOT NULL, '
        'PRIMARY KEY (dataset, handler, "start", "end", anchor)'
    ),
    "evaluations": (
        "trigger INTEGER NOT NULL REFERENCES trainings, dataset TEXT NOT NULL, "
        '"start" INTEGER NOT NULL, "end" INTEGER NOT NULL, metric TEXT NOT NULL, '
        "model TEXT NOT NULL, value REAL, count INTEGER NOT NULL, counts TEXT NOT NULL, "
        'PRIMARY KEY (trigger, dataset, "start", "end", metric)'
    ),
    "timings": (
        "trigger INTEGER NOT NULL, stage TEXT NOT NULL, seconds REAL NOT NULL, "
        "PRIMARY KEY (trigger, stage)"
    ),
}


def canonical(value: Any) -> str:
    """Return JSON that is equal for equal values: sorted keys, no blanks, ASCII.

    Examples
    --------
    >>> canonical({"b": 1, "a": [0.5, None]})
    '{"a":[0.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the stream was followed, and the policies' state there (JSON)."""

    position: int
    trigger_state: str
    selection_state: str
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class TransitionRow:
    """A trigger, as committed; `trained_until` is the last timestamp its model may have seen."""

    trigger: int
    first: int
    position: int
    first_timestamp: int | None
    last_timestamp: int | None
    trained_until: int | None
    candidates_first: int
    candidates: int
    samples: int
    digest: str
    trigger_state: str
    selection_state: str


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """A training: `model` is a content key, or None where there was nothing to train on."""

    trigger: int
    model: str | None
    parent: str | None
    epochs: int
    batches: int
    samples: int
    final_loss: float | None
    losses: str


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    """An evaluation window of a handler (by its place in the configuration)."""

    dataset: str
    handler: int
    start: int
    end: int
    anchor: int
    count: int


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One metric of one model on one window; `counts` is JSON and can be merged."""

    trigger: int
    dataset: str
    start: int
    end: int
    metric: str
    model: str
    value: float | None
    count: int
    counts: str


@dataclass(frozen=True, kw_only=True)
class TimingRow:
    """Seconds of wall clock."""

    trigger: int
    stage: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that a ledger says, at one moment."""

    identity: Mapping[str, Any]
    progress: Progress
    transitions: Sequence[TransitionRow]
    trainings: Sequence[TrainingRow]
    windows: Sequence[WindowRow]
    evaluations: Sequence[EvaluationRow]
    timings: Sequence[TimingRow]
    digest: str


_Row = TypeVar("_Row", TransitionRow, TrainingRow, WindowRow, EvaluationRow, TimingRow)
_TABLE_OF: dict[type, str] = {
    TransitionRow: "transitions",
    TrainingRow: "trainings",
    WindowRow: "windows",
    EvaluationRow: "evaluations",
    TimingRow: "timings",
}


class Ledger:
    """The ledger of a run directory, open for writing; one process at a time (see rundir).

    Parameters
    ----------
    directory : path
        The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = Path(directory) / FILE
        self._db = _connect(self._path)
        self._new = _check_format(self._db, self._path)

    def begin(self, identity: Mapping[str, Any], start: Progress) -> None:
        """Write the identity of a new run, or hold the run that exists against it.

        Raises
        ------
        ConfigError
            When the run was made from other data or another configuration; says what differs.
        """
        if not self._new:
            _check_identity(self.identity(), identity, self._path.parent)
            return
        with self._transaction():
            for name, columns in TABLES.items():
                self._db.execute(f"CREATE TABLE {name} ({columns}) STRICT")
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            rows = [(name, canonical(value)) for name, value in identity.items()]
            self._db.executemany("INSERT INTO identity VALUES (?, ?)", rows)
            self._put_progress(start)
        durable.sync_directory(self._path.parent)
        self._new = False

    @property
    def new(self) -> bool:
        """Whether nothing was begun here yet."""
        return self._new

    def identity(self) -> dict[str, Any]:
        """Return what the run is, as it was begun."""
        return {name: json.loads(value) for name, value in self._all("identity", "name")}

    def progress(self) -> Progress:
        """Return how far the stream was followed."""
        row = self._db.execute(
            "SELECT position, trigger_state, selection_state, finished FROM progress"
        ).fetchone()
        position, trigger_state, selection_state, finished = row
        return Progress(
            position=position,
            trigger_state=trigger_state,
            selection_state=selection_state,
            finished=bool(finished),
        )

    def advance(self, progress: Progress) -> None:
        """Commit a position between triggers, and the policies' state there."""
        with self._transaction():
            self._put_progress(progress)

    def commit(self, row: TransitionRow, seconds: Mapping[str, float]) -> None:
        """Commit a trigger: position, state, choice; all or nothing, and once."""
        if row in self.transitions()[row.trigger :]:
            return  # the commit had happened when its answer was lost
        with self._transaction():
            self._insert(row)
            self._put_progress(
                Progress(
                    position=row.position,
                    trigger_state=row.trigger_state,
                    selection_state=row.selection_state,
                )
            )
            self._put_seconds(row.trigger, seconds)

    def train(self, row: TrainingRow, seconds: Mapping[str, float]) -> None:
        """Commit that a trigger's model is in the store."""
        with self._transaction():
            self._insert(row)
            self._put_seconds(row.trigger, seconds)

    def evaluate(
        self, rows: Sequence[EvaluationRow], seconds: Mapping[int, Mapping[str, float]]
    ) -> None:
        """Commit what models scored, and the seconds of each trigger's."""
        with self._transaction():
            for row in rows:
                self._insert(row)
            for trigger, stages in seconds.items():
                self._put_seconds(trigger, stages)

    def plan(self, windows: Sequence[WindowRow]) -> None:
        """Commit which windows there are; those that are known already stay as they are."""
        with self._transaction():
            for window in windows:
                self._insert(window, "OR IGNORE")

    def finish(self) -> None:
        """Commit that nothing is left to do."""
        with self._transaction():
            self._db.execute("UPDATE progress SET finished = 1")

    def transitions(self) -> list[TransitionRow]:
        """Return all triggers, first to last."""
        return self._rows(TransitionRow, "trigger")

    def trainings(self) -> list[TrainingRow]:
        """Return all trainings, first to last."""
        return self._rows(TrainingRow, "trigger")

    def evaluations(self) -> list[EvaluationRow]:
        """Return all results."""
        return self._rows(EvaluationRow, 'trigger, dataset, "start", "end", metric')

    def content(self) -> Content:
        """Return all that the ledger says, and its digest, as of one moment."""
        with self._transaction("DEFERRED"):
            return Content(
                identity=self.identity(),
                progress=self.progress(),
                transitions=self.transitions(),
                trainings=self.trainings(),
                windows=self._rows(WindowRow, 'dataset, handler, "start", "end", anchor'),
                evaluations=self.evaluations(),
                timings=self._rows(TimingRow, "trigger, stage"),
                digest=self._digest(),
            )

    def close(self) -> None:
        """Close the file; any number of times."""
        self._db.close()

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._commit()

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    def _put_progress(self, progress: Progress) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO progress VALUES (0, ?, ?, ?, ?)", astuple(progress)
        )

    def _put_seconds(self, trigger: int, seconds: Mapping[str, float]) -> None:
        self._db.executemany(
            "INSERT INTO timings VALUES (?, ?, ?) ON CONFLICT (trigger, stage) "
            "DO UPDATE SET seconds = seconds + excluded.seconds",
            [(trigger, stage, value) for stage, value in seconds.items()],
        )

    def _insert(
        self,
        row: TransitionRow | TrainingRow | WindowRow | EvaluationRow,
        how: str = "",
    ) -> None:
        names = ", ".join(f'"{field.name}"' for field in fields(row))
        marks = ", ".join("?" for _ in fields(row))
        table = _TABLE_OF[type(row)]
        insert = f"INSERT {how} INTO {table} ({names}) VALUES ({marks})"  # noqa: S608
        self._db.execute(insert, astuple(row))

    def _rows(self, kind: type[_Row], order: str) -> list[_Row]:
        names = [field.name for field in fields(kind)]
        quoted = ", ".join(f'"{name}"' for name in names)
        select = f"SELECT {quoted} FROM {_TABLE_OF[kind]} ORDER BY {order}"  # noqa: S608
        return [kind(**dict(zip(names, row, strict=True))) for row in self._db.execute(select)]

    def _all(self, table: str, order: str) -> list[tuple[Any, ...]]:
        return list(self._db.execute(f"SELECT * FROM {table} ORDER BY {order}"))  # noqa: S608

    def _digest(self) -> str:
        state = blake2b(digest_size=32)
        for table in TABLES:
            if table == "timings":
                continue
            columns = self._db.execute(f"PRAGMA table_info({table})").fetchall()
            order = ", ".join(str(i + 1) for i in range(len(columns)))
            for row in self._all(table, order):
                state.update(canonical([table, *row]).encode() + b"\n")
        return state.hexdigest()


def read(directory: Path) -> Content:
    """Return the content of a run directory's ledger; the file is closed again.

    Raises
    ------
    FileNotFoundError
        When there is no ledger.
    CorruptError
        When it is none of ours, or damaged.
    """
    path = Path(directory) / FILE
    if not path.is_file() or path.stat().st_size == 0:
        raise FileNotFoundError(f"{directory}: no run there (no {FILE})")
    ledger = Ledger(Path(directory))
    try:
        if ledger.new:  # its process died before it had begun
            raise FileNotFoundError(f"{directory}: no run there (an empty {FILE})")
        return ledger.content()
    except sqlite3.DatabaseError as error:
        raise CorruptError(f"{path}: {error}") from error
    finally:
        ledger.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
        db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute("PRAGMA foreign_keys = ON")
    except sqlite3.DatabaseError as error:
        raise CorruptError(f"{path}: {error}") from error
    return db


def _check_format(db: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file is empty; refuse what is not a ledger of a version known here."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != APPLICATION_ID:
        raise CorruptError(f"{path}: not a ledger of modyn (application id {application:#x})")
    if version != VERSION:
        raise CorruptError(f"{path}: ledger of version {version}; this modyn reads {VERSION}")
    return False


def _check_identity(old: Mapping[str, Any], new: Mapping[str, Any], directory: Path) -> None:
    new = json.loads(canonical(new))
    differences = list(_differences("", old, new))
    if differences:
        shown = "; ".join(differences[:5])
        raise ConfigError(
            f"{directory} holds a run of another pipeline or dataset: {shown}. "
            "Choose another output directory, or remove this one."
        )


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    """Yield what differs, by its place in the configuration."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            place = f"{path}.{name}" if path else str(name)
            yield from _differences(place, old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{i}]", one, other)
    elif old != new:
        yield f"{path} is {canonical(old)} there and {canonical(new)} here"
