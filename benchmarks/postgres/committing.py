"""M6: transitions of a pipeline, in a ledger in Postgres and in one in SQLite."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Outcome
from benchmarks.postgres.server import connect
from benchmarks.postgres.site import Site
from benchmarks.postgres.turns import Turns, Way
from benchmarks.section import Section
from modyn.pipelines.ledger import Progress, TransitionRow

ABOUT = """\
One transition after the other is committed: position, states of the policies, trigger, digest of
the training set, seconds. Each is a transaction of its own and is durable when it returns. The
floor writes 4 KiB to a file and has them on disk (fdatasync), once for each. `INSERT` is one row
and one COMMIT, by psycopg, in one statement: what a round trip and a commit of this server take.
The ledger in Postgres begins with the fence of the lease and can tell, after a lost answer,
whether it was committed; that in SQLite is the embedded one. A pipeline commits a transition for
each training, so that what counts is that this is little beside a training. What was committed is
read back and compared."""

COUNT = 200
STATE = '{"count":123456,"mean":0.5,"window":[1,2,3,4,5,6,7,8]}'
SECONDS = {"select": 0.25, "store": 0.125}


def row_of(trigger: int) -> TransitionRow:
    return TransitionRow(
        trigger=trigger,
        first=1000 * trigger,
        position=1000 * (trigger + 1),
        first_timestamp=10 * trigger,
        last_timestamp=10 * trigger + 9,
        trained_until=10 * trigger + 9,
        candidates_first=0,
        candidates=1000 * (trigger + 1),
        samples=1000,
        digest=f"{trigger:064x}",
        trigger_state=STATE,
        selection_state=STATE,
    )


def of_ledger(ledger: Any, close: Callable[[], None]) -> Way:
    """Commit to a ledger, by its own methods."""
    ledger.begin({"run": "benchmark"}, Progress(position=0, trigger_state="", selection_state=""))
    triggers = itertools.count()
    rows: list[TransitionRow] = []

    def prepare(count: int) -> None:
        rows[:] = [row_of(next(triggers)) for _ in range(count)]

    def run(count: int) -> None:
        for row in rows:
            ledger.commit(row, SECONDS)

    def check(count: int, _: Any) -> None:
        if ledger.transitions()[-count:] != rows:
            raise AssertionError("other transitions were read back")

    return Way(run, check, prepare, kind="ours", close=close)


def sqlite(folder: Path) -> Way:
    from modyn.pipelines.ledger_sqlite import SqliteLedger

    directory = folder / "ledger"
    directory.mkdir()
    ledger = SqliteLedger(directory)
    return of_ledger(ledger, ledger.close)


def postgres(url: str) -> Way:
    from modyn.metadata.database import Database
    from modyn.pipelines.lease import Lease
    from modyn.pipelines.ledger_postgres import PostgresLedger

    database = Database(url)
    lease = Lease(database, database.pipeline_id("benchmark"))
    lease.acquire()

    def close() -> None:
        lease.release()
        database.close()

    return of_ledger(PostgresLedger(database, "benchmark", lease), close)


def synced(folder: Path) -> Way:
    """Write 4 KiB and have them on disk."""
    path = folder / "synced"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.pwrite(file, bytes(COUNT * 4096), 0)
    os.fsync(file)

    def run(count: int) -> None:
        for number in range(count):
            os.pwrite(file, bytes(4096), number % COUNT * 4096)
            os.fdatasync(file)

    def close() -> None:
        os.close(file)
        path.unlink()

    return Way(run, lambda count, left: None, kind="floor", close=close)


def inserted(url: str) -> Way:
    """One row, one statement, one commit."""
    connection = connect(url)
    connection.execute("CREATE TABLE public.plain (id bigint, state text)")

    def run(count: int) -> None:
        for number in range(count):
            connection.execute("INSERT INTO public.plain VALUES (%s, %s)", (number, STATE))

    def check(count: int, _: Any) -> None:
        (found,) = connection.execute("SELECT count(*) FROM public.plain").fetchone()
        assert found == count
        connection.execute("TRUNCATE public.plain")

    return Way(run, check, close=connection.close)


def measure(site: Site) -> Section:
    """Commit transitions."""
    section = Section("M6", "Transitions of a pipeline", ABOUT)
    line = Outcome("ledger", 0.0, "fdatasync", "modyn, Postgres", case="one at a time")
    with site.database("committing") as url:
        ways = {
            "fdatasync": synced(site.folder),
            "INSERT": inserted(url),
            "modyn, Postgres": postgres(url),
            "modyn, SQLite": sqlite(site.folder),
        }
        count = min(site.size(COUNT, 20), 20 if site.quick else COUNT)
        turns = Turns(site, line, count, lambda: None, unit="transitions", scale=1)
        section.lines = [turns.run(ways, site.repetitions)]
    return section
