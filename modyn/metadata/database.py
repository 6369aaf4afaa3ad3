"""A database with metadata: control statements by psycopg, with retries and without secrets.

A `Database` has one connection, made when it is first needed and made anew after it was lost.
Threads take turns.  What is done in `run` is done in one transaction, whole, and repeated whole
after whatever may go better the next time: lost connections, servers that start or stop, deadlocks,
timeouts (modyn/metadata/faults.py has the list).

No statement waits for ever.  The server ends those that take too long or wait too long for a lock;
should it not even do that, because it is stopped or its machine is gone, the connection is given
up some seconds later.

Messages name the database and the SQLSTATE.  No password is ever in the hands of this code (see
modyn/metadata/url.py), and what psycopg raises, which knows the connection's, is never passed on or
kept as a cause.

A forked child must make a `Database` of its own.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from modyn.errors import ClosedError, DatabaseError
from modyn.metadata import faults, schema
from modyn.metadata.faults import Backoff, error, retryable
from modyn.metadata.url import Url

if TYPE_CHECKING:
    import psycopg

    from modyn.postgres import Connection as BulkConnection

    Session = psycopg.Connection[tuple[Any, ...]]
    Cursor = psycopg.Cursor[tuple[Any, ...]]

__all__ = ["Database", "DatasetRow", "error", "retryable"]

T = TypeVar("T")
log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""How long the server may take to say that a statement took too long."""

# A peer that has gone is noticed within half a minute; what the URL says goes before.
ALIVE = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "fallback_application_name": "modyn",
    "client_encoding": "UTF8",
}
# Names are written in full, so that nobody can put a table or an operator of theirs in the way;
# what is committed is on the server's disk; and a session whose client's machine has lost its
# network does not keep its locks for hours.
SETTLE = """
SELECT set_config('statement_timeout', %s, false),
       set_config('lock_timeout', %s, false),
       set_config('idle_in_transaction_session_timeout', '120s', false),
       set_config('search_path', 'pg_catalog', false),
       set_config('timezone', 'UTC', false),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
           WHEN 'off' THEN 'on' WHEN 'local' THEN 'on'
           ELSE current_setting('synchronous_commit') END, false)
"""
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
BEGIN_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True)
class DatasetRow:
    """What modyn.datasets says of a dataset; the columns are explained in sql/001_control.sql."""

    id: int
    uuid: str
    name: str
    fields: str
    timestamp_unit: str
    has_labels: bool
    layout: str
    unlogged: bool
    leaf_samples: int
    count: int
    erased: int
    events: int
    ascending: bool
    last_timestamp: int | None


class Database:
    """A metadata database.

    Nothing is connected before the first statement. The first connection checks the version of
    the server and makes or updates the tables.

    Parameters
    ----------
    url : str or Url
        Where it is, without a password.
    connect_seconds : float
        How long one attempt to connect may take. The first contact also waits this long for a
        server that is just starting.
    statement_seconds : float
        How long one statement may take.
    lock_seconds : float
        How long a statement may wait for a lock.
    retry_seconds : float
        How long to go on trying after a failure.
    prepare : bool
        Make or update the tables, if need be; else the database is taken as it is.

    Raises
    ------
    ConfigError
        The URL is none, or holds a password.
    """

    def __init__(
        self,
        url: str | Url,
        *,
        connect_seconds: float = 10.0,
        statement_seconds: float = 60.0,
        lock_seconds: float = 30.0,
        retry_seconds: float = 60.0,
        prepare: bool = True,
    ) -> None:
        for name, seconds in (
            ("connect_seconds", connect_seconds),
            ("statement_seconds", statement_seconds),
            ("lock_seconds", lock_seconds),
        ):
            if not 0 < seconds < 1e6:
                raise ValueError(f"{name} must be above 0, got {seconds}")
        if not 0 <= retry_seconds < 1e6:
            raise ValueError(f"retry_seconds must be at least 0 and below 1e6, got {retry_seconds}")
        _psycopg_error()  # without psycopg it says what to install
        self.url = Url.parse(url)
        self.connect_seconds = connect_seconds
        self.statement_seconds = statement_seconds
        self.lock_seconds = lock_seconds
        self.retry_seconds = retry_seconds
        self._prepare = prepare
        self._pid = os.getpid()
        self._turn = threading.RLock()  # guards all below
        self._session: Session | None = None
        self._busy = False
        self._closed = False
        self._ready = False  # was connected once, and our tables are there

    def __repr__(self) -> str:
        return f"Database({str(self.url)!r})"

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        if os.getpid() != self._pid:
            return  # the connection is the parent's
        with self._turn:
            self._closed = True
            self._drop()

    # Statements -----------------------------------------------------------------------------------

    def run(
        self,
        work: Callable[[Cursor], T],
        *,
        retry_seconds: float | None = None,
        read_only: bool = False,
    ) -> T:
        """Do something in one transaction, and again if that may go better; return its result.

        Parameters
        ----------
        work : callable
            Gets a cursor. May run several times, each time from the start; and once more after a
            COMMIT whose answer was lost, so it must be able to see that it is done already.
        retry_seconds : float, optional
            How long to go on trying, if not as long as usual.
        read_only : bool
            Read everything as of one moment, and write nothing.

        Raises
        ------
        DatabaseError
            The server refuses, or does not recover in time. Whatever else `work` raises comes
            out as it is, after a ROLLBACK.
        """
        begin = BEGIN_READ_ONLY if read_only else BEGIN

        def attempt(session: Session) -> T:
            session.execute(begin)
            with session.cursor() as cursor:
                result = work(cursor)
            _commit(session)
            return result

        with self._my_turn():
            return self._repeat(attempt, retry_seconds)

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[Cursor]:
        """Run the body in one transaction, once: it cannot be repeated. See `run`."""
        begin = BEGIN_READ_ONLY if read_only else BEGIN

        def started(session: Session) -> Session:
            session.execute(begin)
            return session

        failure = None
        with self._my_turn():
            session = self._repeat(started)
            try:
                with _tidied(session), session.cursor() as cursor:
                    yield cursor
                    _commit(session)
            except _psycopg_error() as exc:
                failure = faults.error(exc, self.url.place)
        if failure is not None:
            raise failure

    def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one statement that only reads, which is repeated like `run`."""
        with self._my_turn():
            return self._repeat(lambda session: session.execute(sql, parameters).fetchall())

    def fetch_one(self, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """Return the first row of one statement that only reads, or None."""
        with self._my_turn():
            return self._repeat(lambda session: session.execute(sql, parameters).fetchone())

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement that may be run twice; return how many rows it affected."""
        return self.run(lambda cursor: cursor.execute(sql, parameters).rowcount)

    # What is there --------------------------------------------------------------------------------

    def pipeline_id(self, name: str) -> int:
        """Return the number of a pipeline; a new name gets one."""
        look = "SELECT id FROM modyn.pipelines WHERE name = %s"
        insert = "INSERT INTO modyn.pipelines (name) VALUES (%s) ON CONFLICT DO NOTHING"
        row = self.fetch_one(look, [name])
        while row is None:
            self.execute(insert, [name])
            row = self.fetch_one(look, [name])
        return int(row[0])

    def dataset(self, uuid: str) -> DatasetRow | None:
        """Return what is known of a published dataset, or None."""
        row = self.fetch_one(
            "SELECT id, uuid, name, fields, timestamp_unit, has_labels, layout, unlogged, "
            "leaf_samples, count, erased, events, ascending, last_timestamp "
            "FROM modyn.datasets WHERE uuid = %s",
            [uuid],
        )
        return None if row is None else DatasetRow(*row)

    # Connections ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Connect, if not done yet, and see to it that the server and its tables are ours."""
        with self._my_turn():
            self._repeat(lambda session: None)

    def connect(self, *, retry_seconds: float | None = None) -> Session:
        """Return another connection, the caller's own: in autocommit, set up as ours is.

        It does not wait for other threads, except where the database was never connected yet.
        """
        if not self._ready:
            self.check()
        return self._until(
            self._connected, self.retry_seconds if retry_seconds is None else retry_seconds
        )

    def bulk(
        self,
        *,
        connect_seconds: float | None = None,
        statement_seconds: float = 0.0,
        lock_seconds: float | None = None,
        settings: Mapping[str, str] | None = None,
        retry_seconds: float | None = None,
    ) -> BulkConnection:
        """Return a connection for bulk data, the caller's own; see `modyn.postgres.Connection`.

        Parameters
        ----------
        connect_seconds, lock_seconds, retry_seconds : float, optional
            As those of the database, if not given.
        statement_seconds : float
            How long one statement may take; 0 stands for any time.
        settings : mapping, optional
            Settings of the session.
        """
        from modyn.postgres import Connection

        if not self._ready:
            self.check()
        backoff = Backoff(self.retry_seconds if retry_seconds is None else retry_seconds)
        while True:
            try:
                return Connection(
                    self.conninfo,
                    connect_seconds=connect_seconds or self.connect_seconds,
                    statement_seconds=statement_seconds,
                    lock_seconds=self.lock_seconds if lock_seconds is None else lock_seconds,
                    settings={"search_path": "pg_catalog", "timezone": "UTC", **(settings or {})},
                )
            except (DatabaseError, TimeoutError) as failure:
                if not backoff.wait():
                    raise
                log.warning("%s; trying again", failure)
            # This connects when that is possible again, and raises what is final.
            self.connect(retry_seconds=retry_seconds).close()

    @property
    def conninfo(self) -> str:
        """The URL in libpq's other form, with what notices a peer that has gone; no secrets."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo("", **{**ALIVE, **dict(self.url.parameters)})

    def _connected(self) -> Session:
        """Connect once and set up the session."""
        said = dict(self.url.parameters).get("connect_timeout") or os.getenv("PGCONNECT_TIMEOUT")
        timeout = {} if said else {"connect_timeout": max(2, round(self.connect_seconds))}
        session: Session = _session_class().connect(
            self.conninfo, autocommit=True, prepare_threshold=None, **timeout
        )
        session.patience_seconds = (  # type: ignore[attr-defined]
            self.statement_seconds + GRACE_SECONDS
        )
        try:
            with _placed(self.url.place):
                schema.check_server(session.info.server_version)
            times = [f"{round(1000 * s)}ms" for s in (self.statement_seconds, self.lock_seconds)]
            session.execute(SETTLE, times)
        except BaseException:
            session.close()
            raise
        return session

    def _open(self) -> Session:
        """Return the connection, making one if there is none."""
        if self._session is None or self._session.closed:
            session = self._connected()
            try:
                if not self._ready and self._prepare:
                    with _placed(self.url.place):
                        schema.prepare(session)
            except BaseException:
                session.close()
                raise
            self._session, self._ready = session, True
        return self._session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # Attempts -------------------------------------------------------------------------------------

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        """Keep other threads, and callbacks of our own, from the connection."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this Database belongs to the process that made it: make one in each process"
            )
        with self._turn:
            if self._closed:
                raise ClosedError("the database is closed")
            if self._busy:
                raise RuntimeError("a transaction of this Database is open: use its cursor")
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def _repeat(self, attempt: Callable[[Session], T], retry_seconds: float | None = None) -> T:
        """Attempt something with the connection until it goes well or cannot any more."""

        def once() -> T:
            session = self._open()
            try:
                with _tidied(session):
                    return attempt(session)
            except _psycopg_error() as exc:
                if faults.lost(exc, session):
                    self._drop()
                raise

        return self._until(once, self.retry_seconds if retry_seconds is None else retry_seconds)

    def _until(self, once: Callable[[], T], retry_seconds: float) -> T:
        first_contact = not self._ready
        backoff = Backoff(self.connect_seconds if first_contact else retry_seconds)
        while True:
            try:
                return once()
            except _psycopg_error() as exc:
                failure = faults.error(exc, self.url.place)
                again = faults.retryable(exc) and (self._ready or not faults.unreachable(exc))
            if first_contact and self._ready:
                first_contact, backoff = False, Backoff(retry_seconds)
            # Raised outside of the except: what psycopg raises knows the password.
            if not again or not backoff.wait():
                raise failure
            log.warning("%s; trying again", failure)


@cache
def _psycopg_error() -> type[psycopg.Error]:
    try:
        import psycopg
    except ImportError:
        raise ModuleNotFoundError(
            "metadata in Postgres needs psycopg: pip install 'modyn[postgres]'", name="psycopg"
        ) from None
    return psycopg.Error


@cache
def _session_class() -> Any:
    """Return psycopg's Connection, with an end to its patience."""
    import psycopg

    class Session(psycopg.Connection[tuple[Any, ...]]):
        patience_seconds = GRACE_SECONDS

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().wait(_within(gen, self.patience_seconds), *args, **kwargs)
            except TimeoutError as exc:
                message = str(exc)
            self.close()
            raise psycopg.OperationalError(message)

    return Session


def _within(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """Drive a generator of psycopg, which yields what it waits for, until its time is over."""
    deadline = time.monotonic() + seconds
    ready = None
    while True:
        try:
            waits_for = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value
        ready = yield waits_for
        if not ready and time.monotonic() > deadline:
            raise TimeoutError(f"the server has not answered for {seconds:.0f} seconds")


@contextmanager
def _tidied(session: Session) -> Iterator[None]:
    """After a failure leave the connection idle, or closed where that cannot be."""
    try:
        yield
    except BaseException:
        from psycopg import Error
        from psycopg.pq import TransactionStatus

        status = session.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(Error):
                session.execute("ROLLBACK")
        if session.info.transaction_status != TransactionStatus.IDLE:
            session.close()
        raise


def _commit(session: Session) -> None:
    # A transaction that failed answers COMMIT with ROLLBACK, and with no error.
    if session.execute("COMMIT").statusmessage != "COMMIT":
        raise DatabaseError("the transaction was undone: an error in it was not looked at")


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Put the database in front of what schema.py finds wrong with it."""
    try:
        yield
    except DatabaseError as exc:
        raise DatabaseError(f"{where}: {exc}") from None
