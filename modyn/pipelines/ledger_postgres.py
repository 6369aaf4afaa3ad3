"""A ledger in the tables ledger_* of a database.

Each transaction begins with the fence: who has lost the lease writes nothing more.  Then it locks
the row of its pipeline's progress, and at its end it leaves an id of its own there.  Where the
answer to a COMMIT is lost nobody knows whether it happened; the retry waits at that row for the
first attempt, finds the id there or not, and so nothing is added twice.  The seconds are why: they
are added up, and another second would not be noticed by any key.

Statements are constants, or made from the names of fields; what comes from outside is bound.
"""

import json
import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from modyn.metadata.database import Database
from modyn.pipelines.ledger import (
    KEY_OF,
    TABLE_OF,
    Content,
    DecisionRow,
    DownsamplingRow,
    EvaluationRow,
    Progress,
    Row,
    RowT,
    TimingRow,
    TrainingRow,
    TransitionRow,
    WindowRow,
    canonical,
    check_identity,
    content_of,
)

if TYPE_CHECKING:
    from psycopg import Cursor

    from modyn.pipelines.lease import Lease

T = TypeVar("T")

_HAS_BEGUN = "SELECT 1 FROM modyn.ledger_progress WHERE pipeline = %s"
_BEGIN = """
    INSERT INTO modyn.ledger_progress
        (position, trigger_state, selection_state, finished, pipeline, written)
    VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (pipeline) DO NOTHING"""
_IDENTIFY = "INSERT INTO modyn.ledger_identity (pipeline, name, value) VALUES (%s, %s, %s)"
_FORGET_IDENTITY = "DELETE FROM modyn.ledger_identity WHERE pipeline = %s"
_IDENTITY = "SELECT name, value FROM modyn.ledger_identity WHERE pipeline = %s ORDER BY name"
_LAST = "SELECT written FROM modyn.ledger_progress WHERE pipeline = %s FOR UPDATE"
_WRITTEN = "UPDATE modyn.ledger_progress SET written = %s WHERE pipeline = %s"
_PROGRESS = """
    SELECT position, trigger_state, selection_state, finished
    FROM modyn.ledger_progress WHERE pipeline = %s"""
_ADVANCE = """
    UPDATE modyn.ledger_progress
    SET position = %s, trigger_state = %s, selection_state = %s, finished = %s
    WHERE pipeline = %s"""
_SECONDS = "SELECT trigger, seconds FROM modyn.ledger_timings WHERE pipeline = %s AND stage = %s"
_DECISIONS = "SELECT count(*) FROM modyn.ledger_decisions WHERE pipeline = %s"
_FINISH = "UPDATE modyn.ledger_progress SET finished = true WHERE pipeline = %s"
_ADD_SECONDS = """
    INSERT INTO modyn.ledger_timings AS known (pipeline, trigger, stage, seconds)
    VALUES (%s, %s, %s, %s) ON CONFLICT (pipeline, trigger, stage)
    DO UPDATE SET seconds = known.seconds + excluded.seconds"""


class PostgresLedger:
    """The ledger of a pipeline in a database, open for writing; its methods are those of `Ledger`.

    Parameters
    ----------
    database : Database
        Where; stays the caller's, who closes it.
    pipeline_name : str
        What the pipeline is called.
    lease : Lease
        Ours, of the pipeline.
    """

    def __init__(self, database: Database, pipeline_name: str, lease: "Lease") -> None:
        self._database = database
        self._name = pipeline_name
        self._lease = lease
        self._pipeline = lease.pipeline
        self._new = database.run(self._is_new, read_only=True)

    @property
    def new(self) -> bool:
        return self._new

    def begin(self, identity: Mapping[str, Any], start: Progress) -> None:
        rows = [(self._pipeline, name, canonical(value)) for name, value in identity.items()]

        def begin(cursor: "Cursor[Any]") -> None:
            self._lease.fence.check(cursor)
            cursor.execute(_BEGIN, (*_of_progress(start), self._pipeline, ""))
            if cursor.rowcount == 0:  # by another process, or by an attempt whose answer was lost
                check_identity(
                    _identity(cursor, self._pipeline),
                    identity,
                    where=f"pipeline {self._name!r} in {self._database.url}",
                    advice="Choose another name, or `modyn db forget` this one.",
                )
                return
            cursor.executemany(_IDENTIFY, rows)

        self._commit(begin)
        self._new = False

    def identity(self) -> dict[str, Any]:
        return self._read(_identity)

    def settle(self, identity: Mapping[str, Any]) -> None:
        rows = [(self._pipeline, name, canonical(value)) for name, value in identity.items()]

        def write(cursor: "Cursor[Any]") -> None:
            cursor.execute(_FORGET_IDENTITY, (self._pipeline,))
            cursor.executemany(_IDENTIFY, rows)

        self._write(write)

    def progress(self) -> Progress:
        return self._read(_progress)

    def advance(self, progress: Progress, decisions: Sequence[DecisionRow] = ()) -> None:
        def write(cursor: "Cursor[Any]") -> None:
            self._put_progress(cursor, progress)
            self._insert(cursor, decisions, "ON CONFLICT DO NOTHING")

        self._write(write)

    def commit(
        self,
        row: TransitionRow,
        seconds: Mapping[str, float],
        decisions: Sequence[DecisionRow] = (),
    ) -> None:
        def write(cursor: "Cursor[Any]") -> None:
            if row in _rows(cursor, self._pipeline, TransitionRow, trigger=row.trigger):
                return  # the commit had happened when its process was killed
            self._insert(cursor, [row])
            progress = Progress(
                position=row.position,
                trigger_state=row.trigger_state,
                selection_state=row.selection_state,
            )
            self._put_progress(cursor, progress)
            self._add_seconds(cursor, {row.trigger: seconds})
            self._insert(cursor, decisions, "ON CONFLICT DO NOTHING")

        self._write(write)

    def train(
        self,
        row: TrainingRow,
        seconds: Mapping[str, float],
        downsampling: DownsamplingRow | None = None,
    ) -> None:
        def write(cursor: "Cursor[Any]") -> None:
            self._insert(cursor, [row])
            self._insert(cursor, [] if downsampling is None else [downsampling])
            self._add_seconds(cursor, {row.trigger: seconds})

        self._write(write)

    def evaluate(
        self, rows: Sequence[EvaluationRow], seconds: Mapping[int, Mapping[str, float]]
    ) -> None:
        def write(cursor: "Cursor[Any]") -> None:
            self._insert(cursor, rows)
            self._add_seconds(cursor, seconds)

        self._write(write)

    def plan(self, windows: Sequence[WindowRow]) -> None:
        self._write(lambda cursor: self._insert(cursor, windows, "ON CONFLICT DO NOTHING"))

    def finish(self) -> None:
        def write(cursor: "Cursor[Any]") -> None:
            cursor.execute(_FINISH, (self._pipeline,))

        self._write(write)

    def transitions(self) -> list[TransitionRow]:
        return self._read(lambda cursor, pipeline: _rows(cursor, pipeline, TransitionRow))

    def trainings(self) -> list[TrainingRow]:
        return self._read(lambda cursor, pipeline: _rows(cursor, pipeline, TrainingRow))

    def evaluations(self, trigger: int | None = None) -> list[EvaluationRow]:
        where = {} if trigger is None else {"trigger": trigger}
        return self._read(lambda cursor, pipeline: _rows(cursor, pipeline, EvaluationRow, **where))

    def decision_count(self) -> int:
        def read(cursor: "Cursor[Any]", pipeline: int) -> int:
            (count,) = cursor.execute(_DECISIONS, (pipeline,)).fetchone() or (0,)
            return int(count)

        return self._read(read)

    def seconds(self, stage: str) -> dict[int, float]:
        def read(cursor: "Cursor[Any]", pipeline: int) -> dict[int, float]:
            return dict(cursor.execute(_SECONDS, (pipeline, stage)).fetchall())

        return self._read(read)

    def content(self) -> Content:
        return self._read(_content)

    def close(self) -> None:
        """Do nothing: database and lease are the caller's to close and release."""

    def _write(self, write: Callable[["Cursor[Any]"], None]) -> None:
        """Commit what `write` does, once, however often it is tried; nothing if we are fenced."""
        written = secrets.token_hex(16)

        def attempt(cursor: "Cursor[Any]") -> None:
            self._lease.fence.check(cursor)
            last = cursor.execute(_LAST, (self._pipeline,)).fetchone()
            if last == (written,):
                return  # it was committed, and only the answer was lost
            write(cursor)
            cursor.execute(_WRITTEN, (written, self._pipeline))

        self._commit(attempt)

    def _commit(self, attempt: Callable[["Cursor[Any]"], None]) -> None:
        """Attempt it for as long as nobody else may take over."""
        self._lease.check()
        seconds = min(self._lease.seconds, self._database.retry_seconds)
        self._database.run(attempt, retry_seconds=seconds)

    def _read(self, read: "Callable[[Cursor[Any], int], T]") -> T:
        return self._database.run(lambda cursor: read(cursor, self._pipeline), read_only=True)

    def _is_new(self, cursor: "Cursor[Any]") -> bool:
        return cursor.execute(_HAS_BEGUN, (self._pipeline,)).fetchone() is None

    def _put_progress(self, cursor: "Cursor[Any]", progress: Progress) -> None:
        cursor.execute(_ADVANCE, (*_of_progress(progress), self._pipeline))

    def _insert(self, cursor: "Cursor[Any]", rows: Sequence[Row], how: str = "") -> None:
        if not rows:
            return
        names = [field.name for field in fields(rows[0])]
        marks = ", ".join("%s" for _ in names)
        cursor.executemany(
            f"INSERT INTO modyn.ledger_{TABLE_OF[type(rows[0])]} (pipeline, {_quoted(names)}) "  # noqa: S608
            f"VALUES (%s, {marks}) {how}",
            [(self._pipeline, *(_stored(getattr(row, name)) for name in names)) for row in rows],
        )

    def _add_seconds(
        self, cursor: "Cursor[Any]", seconds: Mapping[int, Mapping[str, float]]
    ) -> None:
        cursor.executemany(
            _ADD_SECONDS,
            [
                (self._pipeline, trigger, stage, value)
                for trigger, stages in seconds.items()
                for stage, value in stages.items()
            ],
        )


def read(database: Database, pipeline_name: str) -> Content:
    """Return the content of a pipeline's ledger.

    Raises
    ------
    FileNotFoundError
        When the database knows no such pipeline, or it has not begun.
    DatabaseError
        When the database cannot be reached, or refuses.
    """

    def work(cursor: "Cursor[Any]") -> Content | None:
        found = cursor.execute(
            "SELECT id FROM modyn.pipelines JOIN modyn.ledger_progress ON pipeline = id "
            "WHERE name = %s",
            (pipeline_name,),
        ).fetchone()
        return None if found is None else _content(cursor, found[0])

    content = database.run(work, read_only=True)
    if content is None:
        raise FileNotFoundError(f"{database.url}: no run of a pipeline {pipeline_name!r} there")
    return content


def _content(cursor: "Cursor[Any]", pipeline: int) -> Content:
    return content_of(
        identity=_identity(cursor, pipeline),
        progress=_progress(cursor, pipeline),
        transitions=_rows(cursor, pipeline, TransitionRow),
        trainings=_rows(cursor, pipeline, TrainingRow),
        windows=_rows(cursor, pipeline, WindowRow),
        evaluations=_rows(cursor, pipeline, EvaluationRow),
        timings=_rows(cursor, pipeline, TimingRow),
        downsamplings=_rows(cursor, pipeline, DownsamplingRow),
        decisions=_rows(cursor, pipeline, DecisionRow),
    )


def _identity(cursor: "Cursor[Any]", pipeline: int) -> dict[str, Any]:
    rows = cursor.execute(_IDENTITY, (pipeline,)).fetchall()
    return {name: json.loads(value) for name, value in rows}


def _progress(cursor: "Cursor[Any]", pipeline: int) -> Progress:
    row = cursor.execute(_PROGRESS, (pipeline,)).fetchone()
    if row is None:
        raise FileNotFoundError(f"pipeline {pipeline}: no run there yet")
    names = [field.name for field in fields(Progress)]
    return Progress(**dict(zip(names, row, strict=True)))


def _rows(cursor: "Cursor[Any]", pipeline: int, kind: type[RowT], **where: int) -> list[RowT]:
    """Return the rows of a pipeline, by their keys; texts are compared byte by byte."""
    names = [field.name for field in fields(kind)]
    types = {field.name: field.type for field in fields(kind)}
    order = ", ".join(f'"{key}"' + ' COLLATE "C"' * (types[key] is str) for key in KEY_OF[kind])
    conditions = "".join(f' AND "{name}" = %s' for name in where)
    cursor.execute(
        f"SELECT {_quoted(names)} FROM modyn.ledger_{TABLE_OF[kind]} "  # noqa: S608
        f"WHERE pipeline = %s{conditions} ORDER BY {order}",
        (pipeline, *where.values()),
    )
    return [kind(**dict(zip(names, row, strict=True))) for row in cursor]


def _of_progress(progress: Progress) -> tuple[Any, ...]:
    return tuple(getattr(progress, field.name) for field in fields(progress))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _stored(value: Any) -> Any:
    """Return a number as SQLite would give it back: no NaN, and zero without a sign."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else value + 0.0
