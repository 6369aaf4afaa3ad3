"""Rounds from what the database says of a dataset to what the dataset says itself.

    (1) the dataset gets its row, and a partition, if it has none
    (2) unlogged leaves that a crash of the server has emptied are filled again
    (3) erasures since the last time are applied to what is there
    (4) keys from the published count on are sent, leaf by leaf, over several connections

Every step is a few transactions, each of which holds what it was planned on against the database.
So after a crash anywhere, or where somebody else publishes at the same time, the next round begins
with what was committed.  In particular nothing is committed by who knows of fewer erasures than the
database: an old view of the dataset never brings an erased sample back.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from modyn.errors import ConfigError, DatabaseError
from modyn.metadata import state as states
from modyn.metadata.columns import Columns, first_late
from modyn.metadata.erasures import apply_erasures
from modyn.metadata.filling import Job, batch, lost, work
from modyn.metadata.state import State
from modyn.metadata.tables import LAYOUTS, sample_parts

if TYPE_CHECKING:
    import psycopg

    from modyn.erasure import Event
    from modyn.metadata.database import Database
    from modyn.postgres import Connection

LEAF_SAMPLES = 1 << 22
LOOK_SECONDS = 0.05  # at what the threads have done

_GONE = (
    "{parts}: modyn.batches says that samples were sent which modyn.leaves does not know: rows of "
    "one of the two were deleted"
)
_NEW_DATASET = """
INSERT INTO modyn.datasets
    (uuid, name, fields, timestamp_unit, has_labels, layout, unlogged, leaf_samples)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING RETURNING id
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a dataset lies in the database; None: as it does, or the default for a new one."""

    layout: str | None = None
    unlogged: bool | None = None
    leaf_samples: int | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {LAYOUTS}, got {self.layout!r}")
        size = self.leaf_samples
        if size is not None and (size < 1 or size & (size - 1)):
            raise ValueError(f"leaf_samples must be a power of two, got {size}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What makes a directory the dataset that was published."""

    uuid: str
    name: str
    fields: str
    timestamp_unit: str
    has_labels: bool
    where: str


class Followed(Protocol):
    """A dataset as of its last commit; `refresh` looks for a later one."""

    identity: Identity
    view: Columns
    events: "Sequence[Event]"

    def refresh(self) -> None: ...


class Publisher:
    """Publishes one dataset into one database.

    Parameters
    ----------
    dataset : Followed
    database : Database
    settings : Settings
    connections : int
        How many fill leaves side by side.
    progress : function
        Called with how many samples are published, and how many there are.
    """

    def __init__(
        self,
        dataset: Followed,
        database: "Database",
        settings: Settings,
        connections: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._dataset = dataset
        self._database = database
        self._settings = settings
        self._connections = connections
        self._progress = progress
        self.refilled = 0
        self.erasures = 0
        self.first: State | None = None
        """What was there before."""

    def run(self) -> State:
        """Publish, and return what the database says then."""
        self._database.run(self._register)
        with ExitStack() as stack:
            bulk = [stack.enter_context(self._database.bulk()) for _ in range(self._connections)]
            before: State | None = None
            failed: DatabaseError | None = None
            while True:
                state = self._state()
                self.first = self.first or state
                jobs, events = self._jobs(state)
                if not jobs and state.events == events:
                    return state
                if state == before:  # nobody has changed anything: the same would come of it
                    raise failed or DatabaseError(_GONE.format(parts=state.parts.name))
                before, failed = state, self._round(state, jobs, bulk)

    def _jobs(self, state: State) -> tuple[list[Job], int]:
        """Return what is left to be sent, and how many events the dataset has."""
        jobs = lost(state) or work(state, self._dataset.view.count)
        return jobs, len(self._dataset.events)

    def _round(
        self, state: State, jobs: list[Job], bulk: "list[Connection]"
    ) -> DatabaseError | None:
        """Do what can be done on this state; return what went wrong with it."""
        view, events = self._dataset.view, self._dataset.events
        try:
            if jobs and jobs[0].again:
                self._fill(state, jobs, bulk, state.first_late)
                self.refilled += sum(job.last - job.first for job in jobs)
            elif state.events < len(events):
                late = self._late(state, anew=True)
                apply_erasures(self._database, bulk[0], state, view, events, late)
                self.erasures += len(events) - state.events
            else:
                self._fill(state, jobs, bulk, self._late(state, anew=False))
        except DatabaseError as error:
            return error
        return None

    # What is there ------------------------------------------------------------------------------

    def _register(self, cursor: "psycopg.Cursor[Any]") -> None:
        """Give the dataset a row and a partition, if it has none."""
        identity, asked = self._dataset.identity, self._settings
        if states.read(cursor, identity.uuid) is not None:
            return
        layout, size = asked.layout or "rows", asked.leaf_samples or LEAF_SAMPLES
        facts = (
            *(identity.uuid, identity.name, identity.fields, identity.timestamp_unit),
            *(identity.has_labels, layout, bool(asked.unlogged), size),
        )
        made = cursor.execute(_NEW_DATASET, facts).fetchone()
        if made is None:
            return  # by somebody else, just now
        for statement in sample_parts(layout, made[0], leaf_samples=size).create():
            cursor.execute(statement.encode())

    def _state(self) -> State:
        """Return what is there, which this dataset agrees with."""
        uuid = self._dataset.identity.uuid
        state = self._database.run(lambda cursor: states.read(cursor, uuid), read_only=True)
        if state is None:
            raise DatabaseError("the row of the dataset in modyn.datasets has been deleted")
        if self._is_behind(state):
            self._dataset.refresh()
        self._check(state)
        return state

    def _is_behind(self, state: State) -> bool:
        """Return whether the database knows more than what we see of the dataset."""
        end = max((leaf.end for leaf in state.leaves), default=0)
        return self._dataset.view.count < end or len(self._dataset.events) < state.events

    def _check(self, state: State) -> None:
        """Refuse another dataset with the same uuid, and settings other than those that are."""
        here, asked = self._dataset.identity, self._settings
        for what, mine, theirs in (
            ("schema", here.fields, state.fields),
            ("timestamp_unit", here.timestamp_unit, state.timestamp_unit),
            ("labels", here.has_labels, state.has_labels),
        ):
            if mine != theirs:
                raise ConfigError(
                    f"{here.where}: {what} is {mine}; a dataset with this uuid ({here.uuid}) was "
                    f"published with {theirs}: it is another one"
                )
        if self._is_behind(state):
            raise ConfigError(
                f"{here.where}: it has {self._dataset.view.count} samples and "
                f"{len(self._dataset.events)} events; {state.stored} samples and {state.events} "
                f"events of the dataset {here.uuid} are published: is it an old copy?"
            )
        for what, wanted, is_so in (
            ("layout", asked.layout, state.layout),
            ("unlogged", asked.unlogged, state.unlogged),
            ("leaf_samples", asked.leaf_samples, state.leaf_samples),
        ):
            if wanted is not None and wanted != is_so:
                raise ConfigError(
                    f"{here.where}: it is published with {what}={is_so!r}, which stays: leave "
                    f"{what}={wanted!r} out, or publish into another database"
                )

    def _late(self, state: State, *, anew: bool) -> int | None:
        """Return the first sample that is late, looking at new ones only unless `anew`."""
        if anew:
            return first_late(self._dataset.view, 0, None)
        if state.first_late is not None:
            return state.first_late
        return first_late(self._dataset.view, state.count, state.last_timestamp)

    # Sending ------------------------------------------------------------------------------------

    def _fill(
        self, state: State, jobs: list[Job], bulk: "list[Connection]", late: int | None
    ) -> None:
        """Do jobs on all connections; the first error ends the others behind their leaves."""
        total = self._dataset.view.count
        done = _Done(self._progress, total - sum(job.last - job.first for job in jobs), total)
        queue, stop = deque(jobs), threading.Event()

        def fill(connection: "Connection") -> None:
            while not stop.is_set():
                try:
                    job = queue.popleft()
                except IndexError:
                    return
                parts = batch(state, self._dataset.view, job, state.events, late)
                try:
                    connection.batch(
                        parts.id,
                        before=parts.before,
                        copies=parts.copies,
                        after=parts.after,
                        retry_seconds=self._database.retry_seconds,
                    )
                except BaseException:
                    stop.set()
                    raise
                done.samples += job.last - job.first

        with ThreadPoolExecutor(len(bulk)) as pool:
            futures = [pool.submit(fill, connection) for connection in bulk[: len(jobs)]]
            try:
                while wait(futures, LOOK_SECONDS).not_done:
                    done.show()
            except BaseException:
                stop.set()
                for connection in bulk:
                    connection.cancel()
                raise
        done.show()
        for future in futures:
            future.result()


@dataclass
class _Done:
    """How far it is; counted by threads, shown by the one that waits."""

    progress: Callable[[int, int], None]
    samples: int
    total: int

    def show(self) -> None:
        self.progress(self.samples, self.total)
