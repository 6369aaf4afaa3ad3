"""The lease of a pipeline in a database: one controller at a time, and a stale one is fenced.

    acquire   when the lease is free or over: the token grows by one, and it says whose it is
    renew     every third of its time, by a thread with a connection of its own
    release   at the end, so that the next need not wait

Whether a lease is over, the server's clock says.  The holder counts for itself from before a
renewal was sent, on a clock that goes on while the process is paused or the machine sleeps: it
knows first.  One that could not renew in time stops.  One that was paused asks before it goes on;
if somebody took over it is fenced, and if nobody did it still has its lease.

What keeps the writes of a stale holder out is not the time but the token (modyn.metadata.fence).

A process that is killed leaves its lease behind, and the next would wait until it is over.  In the
same run directory it need not: the directory's lock has passed to it, so the process that left its
token there is gone.  The token says which directory that is: whoever has a copy has another lock.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modyn.errors import BusyError, DatabaseError, FencedError
from modyn.metadata import faults
from modyn.metadata.database import Database
from modyn.metadata.fence import Fence
from modyn.pipelines import durable, rundir

if TYPE_CHECKING:
    from psycopg import Cursor

SECONDS = 30.0
LOCK_SECONDS = 10.0  # what a takeover waits for transactions of the former holder
EVICT_SECONDS = 1.0  # after which they are ended: their process stands still
RELEASE_SECONDS = 5.0  # a database that is away is not waited for at the end
RETRY_SECONDS = 0.25  # between attempts to renew while the database is away

_STATE = """
    SELECT name, token, holder, expires, coalesce(expires > clock_timestamp(), false)
    FROM modyn.pipelines WHERE id = %s"""
_LOCK = _STATE + " FOR UPDATE"
_TAKE = """
    UPDATE modyn.pipelines
    SET token = token + 1, holder = %s, expires = clock_timestamp() + make_interval(secs => %s)
    WHERE id = %s RETURNING token, expires"""
_RENEW = """
    UPDATE modyn.pipelines SET expires = clock_timestamp() + make_interval(secs => %s)
    WHERE id = %s AND token = %s AND expires IS NOT NULL"""
_RELEASE = """
    UPDATE modyn.pipelines SET holder = NULL, expires = NULL WHERE id = %s AND token = %s"""
# Who holds the row that a takeover waits for, and is no takeover that waits itself.
_EVICT = """
    SELECT pg_terminate_backend(pid)
    FROM unnest(pg_blocking_pids(%s)) AS blocking (pid) JOIN pg_stat_activity USING (pid)
    WHERE application_name = 'modyn' AND coalesce(wait_event_type, '') <> 'Lock'"""

log = logging.getLogger(__name__)


def this_process() -> str:
    """Return who we are, as a lease says it: "pid 4711 on host"."""
    return f"pid {os.getpid()} on {socket.gethostname()}"


def now() -> float:
    """Return seconds of a clock that goes on while a process is paused or the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass(frozen=True)
class State:
    """What a pipeline's row says of its lease; `held` by the server's clock."""

    name: str
    token: int
    holder: str | None
    expires: datetime | None
    held: bool

    def busy(self) -> BusyError:
        """Return the error of who comes too early."""
        until = "" if self.expires is None else f"{self.expires.astimezone(UTC):%F %T} UTC"
        return BusyError(
            f"pipeline {self.name!r}: {self.holder} is running it; "
            f"its lease ends at {until} if it is not renewed"
        )


class Lease:
    """The right to run a pipeline; `with Lease(...) as lease:` takes it and gives it back.

    Parameters
    ----------
    database : Database
        Where the pipeline is.
    pipeline : int
        Its id.
    holder : str, optional
        Who takes it; this process, "pid 4711 on host", if None.
    seconds : float
        How long it lasts if it is not renewed, above 0.
    directory : Path, optional
        The run directory, whose lock the caller holds: a lease that a process left there is over.
    """

    def __init__(
        self,
        database: Database,
        pipeline: int,
        *,
        holder: str | None = None,
        seconds: float = SECONDS,
        directory: Path | None = None,
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be above 0, got {seconds}")
        self.pipeline = pipeline
        self.holder = this_process() if holder is None else holder
        self.seconds = seconds
        self._database = database
        self._note = None if directory is None else directory / rundir.LEASE
        self._token: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread()  # of a lease that is not held
        # Guards what follows; the renewing thread writes it.
        self._renewed = threading.Condition()
        self._until = 0.0
        self._lost: tuple[type[DatabaseError], str] | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def token(self) -> int:
        """The number that our writes show; a later holder's is higher."""
        if self._token is None:
            raise RuntimeError("the lease is not held")
        return self._token

    @property
    def fence(self) -> Fence:
        """What each of our transactions begins with."""
        return Fence(self.pipeline, self.token)

    def acquire(self) -> None:
        """Take the lease and begin to renew it.

        Raises
        ------
        BusyError
            When another process has it; says which, and until when.
        """
        if self._token is not None:
            raise RuntimeError("the lease is held already")
        taken: list[tuple[int, datetime | None]] = []  # what attempts wrote whose answer was lost

        def refuse(state: State) -> None:
            ours = (state.token, state.expires) in taken
            if state.held and not ours and not self._is_gone(state):
                raise state.busy()

        def take(cursor: "Cursor[Any]") -> int:
            sent = now()
            refuse(_state(cursor, _STATE, self.pipeline))  # without waiting for writers
            with self._evicting(cursor):
                state = _state(cursor, _LOCK, self.pipeline)
            refuse(state)
            values = self.holder, self.seconds, self.pipeline
            token, expires = cursor.execute(_TAKE, values).fetchone() or (0, None)
            taken.append((token, expires))
            self._until = sent + self.seconds
            # Before the commit: one who is killed right after it is known all the same.
            self._write_note((token, self.holder), (state.token, state.holder))
            return token

        self._token = self._database.run(take)
        try:
            self._write_note((self._token, self.holder))
        except BaseException:
            self.release()
            raise
        self._stop, self._lost = threading.Event(), None
        self._thread = threading.Thread(
            target=self._renew, args=(self._token,), name="modyn lease", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Return if the lease is ours; the cost is that of reading a clock.

        Raises
        ------
        FencedError
            When another process has taken over.
        DatabaseError
            When the database could not be reached for as long as the lease lasts.
        """
        _ = self.token  # or it was never taken
        with self._renewed:
            # One that was paused hears from its thread whether the lease is still there.
            self._renewed.wait_for(self._is_settled, timeout=self.seconds)
            if self._lost is not None:
                kind, said = self._lost
                raise kind(said)
            if now() >= self._until:
                raise DatabaseError(self._silence("no answer"))

    def release(self) -> None:
        """Give the lease back; any number of times.  One that is lost is left alone."""
        if self._token is None:
            return
        token, self._token = self._token, None
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(RELEASE_SECONDS)

        def give_back(cursor: "Cursor[Any]") -> None:
            cursor.execute(_RELEASE, (self.pipeline, token))

        try:
            self._database.run(give_back, retry_seconds=RELEASE_SECONDS)
        except DatabaseError as error:
            log.warning("the lease ends by itself in %.0f s: %s", self.seconds, error)

    # Taking -------------------------------------------------------------------------------------

    def _is_gone(self, state: State) -> bool:
        """Return whether the holder was the process that had this run directory before us."""
        if self._note is None:
            return False
        try:
            said = self._note.read_text()
        except FileNotFoundError:
            return False
        noted = _noted(self._note.parent, self.pipeline, state.token, state.holder)
        return noted in said.splitlines(keepends=True)

    def _write_note(self, *leases: tuple[int, str | None]) -> None:
        """Write down whose lease one of these is (token, holder), if it is any process's here."""
        if self._note is not None:
            where = self._note.parent
            lines = [_noted(where, self.pipeline, token, holder) for token, holder in leases]
            durable.replace(self._note, "".join(lines).encode())

    @contextmanager
    def _evicting(self, cursor: "Cursor[Any]") -> Iterator[None]:
        """End transactions of the former holder that the locking of the row waits for.

        A process that is paused in the middle of one, or a connection that nobody is told is
        gone, would keep the row for ever.
        """
        from psycopg.errors import LockNotAvailable

        cursor.execute(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}")
        done = threading.Event()
        waiting = cursor.connection.info.backend_pid
        thread = threading.Thread(target=self._evict, args=(waiting, done), daemon=True)
        thread.start()
        try:
            yield
        except LockNotAvailable:
            raise BusyError(
                f"pipeline {self.pipeline}: its lease is over, but a transaction of its former "
                "holder is still open in the database, and could not be ended"
            ) from None
        finally:
            done.set()
            thread.join()

    def _evict(self, waiting: int, done: threading.Event) -> None:
        from psycopg import Error

        if done.wait(EVICT_SECONDS):
            return
        try:
            with self._database.connect(retry_seconds=0) as connection:
                while not done.is_set():
                    for _ in connection.execute(_EVICT, (waiting,)):
                        log.warning("pipeline %d: ended a transaction left open", self.pipeline)
                    done.wait(0.1)
        except (Error, DatabaseError) as exc:
            said = faults.error(exc) if isinstance(exc, Error) else exc
            log.warning("pipeline %d: a transaction left open: %s", self.pipeline, said)

    # Renewing -----------------------------------------------------------------------------------

    def _renew(self, token: int) -> None:
        """Renew until told to stop, or until the lease is lost; the thread's whole life."""
        third = self.seconds / 3
        pause = third
        with Database(
            self._database.url,
            connect_seconds=third,
            statement_seconds=third,
            lock_seconds=third,
            retry_seconds=0,
        ) as own:
            while not self._stop.wait(pause):
                sent, pause = now(), third
                try:
                    found = own.execute(_RENEW, (self.seconds, self.pipeline, token))
                except DatabaseError as error:
                    pause = min(third, RETRY_SECONDS)
                    if now() >= self._until:
                        return self._lose(DatabaseError, self._silence(str(error)))
                    continue
                if found == 0:
                    return self._lose(FencedError, self._taken_over())
                with self._renewed:
                    self._until = sent + self.seconds
                    self._renewed.notify_all()

    def _lose(self, kind: type[DatabaseError], said: str) -> None:
        with self._renewed:
            self._lost = kind, said
            self._renewed.notify_all()

    def _is_settled(self) -> bool:
        return self._lost is not None or now() < self._until

    def _silence(self, why: str) -> str:
        return (
            f"the lease of pipeline {self.pipeline} could not be renewed for {self.seconds:g} s, "
            f"so that another process may take over; this one stops ({why})"
        )

    def _taken_over(self) -> str:
        return (
            f"another process has taken over pipeline {self.pipeline}; this one writes nothing more"
        )


def _state(cursor: "Cursor[Any]", statement: str, pipeline: int) -> State:
    row = cursor.execute(statement, (pipeline,)).fetchone()
    if row is None:
        raise DatabaseError(f"pipeline {pipeline} is gone from the database")
    return State(*row)


def _noted(directory: Path, pipeline: int, token: int, holder: str | None) -> str:
    return f"pipeline {pipeline}, token {token}, {holder}, inode {directory.stat().st_ino}\n"
