"""A ledger in one SQLite file of the run directory.

There is one connection, with a rollback journal in TRUNCATE mode and synchronous=EXTRA: SQLite's
default (DELETE, FULL) loses acknowledged commits in a power cut, and its WAL has had a bug that
corrupts files up to version 3.51.2.  SQLite ignores a failed sync of the directory, so the
directory is synced here, once, after the file was made.  Nor has it checksums of what it stores:
those are here, too (see ledger_seals), and held against the content when the file is opened.

Names of tables and columns are constants; what comes from outside is bound.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from modyn.errors import RunCorruptError
from modyn.pipelines import durable
from modyn.pipelines.ledger import (
    KEY_OF,
    TABLE_OF,
    Content,
    DecisionRow,
    DownsamplingRow,
    EvaluationRow,
    Progress,
    RowT,
    TimingRow,
    TrainingRow,
    TransitionRow,
    WindowRow,
    canonical,
    check_identity,
    content_of,
)
from modyn.pipelines.ledger_seals import SCHEMA, Seals, blaming

APPLICATION_ID = 0x4D6F6479  # "Mody"
VERSION = 2  # 1 had no seals; such a ledger stays what it is
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


# Tables that only runs have that need them: the others are as they were before there were any.
LATER_TABLES = {
    "downsamplings": (
        "trigger INTEGER PRIMARY KEY REFERENCES trainings, "
        "scored INTEGER NOT NULL, trained INTEGER NOT NULL"
    ),
    "decisions": (
        "number INTEGER PRIMARY KEY, position INTEGER NOT NULL, trigger INTEGER NOT NULL, "
        "timestamp INTEGER, name TEXT NOT NULL, noted TEXT NOT NULL"
    ),
}


class SqliteLedger:
    """The ledger of a run directory, open for writing; its methods are those of `Ledger`.

    One process at a time has it open for writing, by the directory's lock (see rundir).

    Parameters
    ----------
    directory : path
        The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = Path(directory) / FILE
        with blaming(self._path), ExitStack() as stack:
            db = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None)
            self._db = stack.enter_context(closing(db))
            self._db.execute("PRAGMA journal_mode = TRUNCATE")
            self._db.execute("PRAGMA synchronous = EXTRA")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._seals = Seals(self._db, self._path, [*TABLES, *LATER_TABLES])
            version = _version(self._db, self._path)
            self._new = version is None
            if version is not None:
                self._seals.verify(there=version > 1)
            stack.pop_all()  # it stays open

    def begin(self, identity: Mapping[str, Any], start: Progress) -> None:
        if not self._new:
            check_identity(
                self.identity(),
                identity,
                where=str(self._path.parent),
                advice="Choose another output directory, or remove this one.",
            )
            return
        with self._transaction():
            self._seals.make()
            for name, columns in TABLES.items():
                self._create(name, columns)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._put_identity(identity)
            self._put_progress(start)
        durable.sync_directory(self._path.parent)
        self._new = False

    @property
    def new(self) -> bool:
        return self._new

    def identity(self) -> dict[str, Any]:
        rows = self._db.execute("SELECT name, value FROM identity ORDER BY name")
        return {name: json.loads(value) for name, value in rows}

    def settle(self, identity: Mapping[str, Any]) -> None:
        with self._transaction():
            with self._seals.changing("identity"):
                self._db.execute("DELETE FROM identity")
            self._put_identity(identity)

    def progress(self) -> Progress:
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

    def advance(self, progress: Progress, decisions: Sequence[DecisionRow] = ()) -> None:
        with self._transaction():
            self._put_progress(progress)
            self._put_decisions(decisions)

    def commit(
        self,
        row: TransitionRow,
        seconds: Mapping[str, float],
        decisions: Sequence[DecisionRow] = (),
    ) -> None:
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
            self._put_decisions(decisions)

    def train(
        self,
        row: TrainingRow,
        seconds: Mapping[str, float],
        downsampling: DownsamplingRow | None = None,
    ) -> None:
        with self._transaction():
            self._insert(row)
            if downsampling is not None:
                self._make("downsamplings")
                self._insert(downsampling)
            self._put_seconds(row.trigger, seconds)

    def evaluate(
        self, rows: Sequence[EvaluationRow], seconds: Mapping[int, Mapping[str, float]]
    ) -> None:
        with self._transaction():
            for row in rows:
                self._insert(row)
            for trigger, stages in seconds.items():
                self._put_seconds(trigger, stages)

    def plan(self, windows: Sequence[WindowRow]) -> None:
        with self._transaction():
            for window in windows:
                self._insert(window, "OR IGNORE")

    def finish(self) -> None:
        with self._transaction(), self._seals.changing("progress"):
            self._db.execute("UPDATE progress SET finished = 1")

    def transitions(self) -> list[TransitionRow]:
        return self._rows(TransitionRow)

    def trainings(self) -> list[TrainingRow]:
        return self._rows(TrainingRow)

    def evaluations(self, trigger: int | None = None) -> list[EvaluationRow]:
        where = {} if trigger is None else {"trigger": trigger}
        return self._rows(EvaluationRow, **where)

    def decision_count(self) -> int:
        if not self._has("decisions"):
            return 0
        (count,) = self._db.execute("SELECT count(*) FROM decisions").fetchone()
        return int(count)

    def seconds(self, stage: str) -> dict[int, float]:
        rows = self._db.execute("SELECT trigger, seconds FROM timings WHERE stage = ?", (stage,))
        return dict(rows.fetchall())

    def content(self) -> Content:
        with self._transaction("DEFERRED"):
            return content_of(
                identity=self.identity(),
                progress=self.progress(),
                transitions=self.transitions(),
                trainings=self.trainings(),
                windows=self._rows(WindowRow),
                evaluations=self.evaluations(),
                timings=self._rows(TimingRow),
                downsamplings=self._rows(DownsamplingRow) if self._has("downsamplings") else (),
                decisions=self._rows(DecisionRow) if self._has("decisions") else (),
            )

    def _has(self, table: str) -> bool:
        select = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return self._db.execute(select, (table,)).fetchone() is not None

    def _make(self, table: str) -> None:
        if not self._has(table):
            self._create(table, LATER_TABLES[table])

    def _create(self, table: str, columns: str) -> None:
        with self._seals.changing(SCHEMA):
            self._db.execute(f"CREATE TABLE {table} ({columns}) STRICT")

    def close(self) -> None:
        """Close the file; any number of times."""
        self._db.close()

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
            self._seals.write()
        except BaseException:
            self._seals.forget()
            self._db.execute("ROLLBACK")
            raise
        self._commit()

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    def _put_identity(self, identity: Mapping[str, Any]) -> None:
        rows = [(name, canonical(value)) for name, value in identity.items()]
        with self._seals.changing("identity"):
            self._db.executemany("INSERT INTO identity VALUES (?, ?)", rows)

    def _put_progress(self, progress: Progress) -> None:
        with self._seals.changing("progress"):
            self._db.execute(
                "INSERT OR REPLACE INTO progress VALUES (0, ?, ?, ?, ?)", astuple(progress)
            )

    def _put_decisions(self, decisions: Sequence[DecisionRow]) -> None:
        if decisions:
            self._make("decisions")
        for decision in decisions:
            self._insert(decision, "OR IGNORE")

    def _put_seconds(self, trigger: int, seconds: Mapping[str, float]) -> None:
        for stage, value in seconds.items():
            with self._seals.changing("timings", "trigger = ? AND stage = ?", (trigger, stage)):
                self._db.execute(
                    "INSERT INTO timings VALUES (?, ?, ?) ON CONFLICT (trigger, stage) "
                    "DO UPDATE SET seconds = seconds + excluded.seconds",
                    (trigger, stage, value),
                )

    def _insert(
        self,
        row: TransitionRow
        | TrainingRow
        | DownsamplingRow
        | WindowRow
        | EvaluationRow
        | DecisionRow,
        how: str = "",
    ) -> None:
        names = _quoted(field.name for field in fields(row))
        marks = ", ".join("?" for _ in fields(row))
        table = TABLE_OF[type(row)]
        insert = f"INSERT {how} INTO {table} ({names}) VALUES ({marks})"  # noqa: S608
        key = KEY_OF[type(row)]
        where = " AND ".join(f'"{name}" = ?' for name in key)
        with self._seals.changing(table, where, [getattr(row, name) for name in key]):
            self._db.execute(insert, astuple(row))

    def _rows(self, kind: type[RowT], **where: int) -> list[RowT]:
        names = [field.name for field in fields(kind)]
        columns, order = _quoted(names), _quoted(KEY_OF[kind])
        which = " AND ".join(f'"{name}" = ?' for name in where) or "TRUE"
        select = f"SELECT {columns} FROM {TABLE_OF[kind]} WHERE {which} ORDER BY {order}"  # noqa: S608
        found = self._db.execute(select, tuple(where.values()))
        return [kind(**dict(zip(names, row, strict=True))) for row in found]


def read(directory: Path) -> Content:
    """Return the content of a run directory's ledger; the file is closed again.

    Raises
    ------
    FileNotFoundError
        When there is no ledger.
    RunCorruptError
        When it is none of ours, or damaged.
    BusyError
        When a process did not let go of it for a minute.
    """
    path = Path(directory) / FILE
    if not path.is_file() or path.stat().st_size == 0:
        raise FileNotFoundError(f"{directory}: no run there (no {FILE})")
    with closing(SqliteLedger(Path(directory))) as ledger, blaming(path):
        if ledger.new:  # its process died before it had begun
            raise FileNotFoundError(f"{directory}: no run there (an empty {FILE})")
        return ledger.content()


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _version(db: sqlite3.Connection, path: Path) -> int | None:
    """Return which version a ledger is of, None for an empty file; refuse any other."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return None
    if application != APPLICATION_ID:
        raise RunCorruptError(f"{path}: not a ledger of modyn (application id {application:#x})")
    if version not in range(1, VERSION + 1):
        raise RunCorruptError(
            f"{path}: ledger of version {version}; this modyn reads those up to {VERSION}"
        )
    return int(version)
