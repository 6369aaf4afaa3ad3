"""The lease of a pipeline: one controller at a time, whatever happens to processes and server."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

from modyn.errors import BusyError, DatabaseError, FencedError
from modyn.metadata.database import Database
from modyn.pipelines import ledger_postgres
from modyn.pipelines.lease import Lease
from modyn.pipelines.ledger import Progress
from tests.postgres.proxy import Fault, Proxy
from tests.python.postgres_server import backends, kill_server, sql

DRIVER = Path(__file__).with_name("controller.py")
PATIENCE = 60.0


class Controller:
    """A process of controller.py."""

    def __init__(self, url: str, *, seconds: float, directory: Path | None = None) -> None:
        command = [sys.executable, DRIVER, url, "a", str(seconds), directory or ""]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # also one that is paused
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def heard(self) -> str:
        """The next line that it says."""
        pipe: IO[str] = self.process.stdout  # type: ignore[assignment]
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            assert selector.select(PATIENCE), "the controller says nothing"
        return pipe.readline().strip()

    def told(self, command: str) -> str:
        """Its answer."""
        self.tell(command)
        return self.heard()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")


@pytest.fixture
def controllers(database_url) -> Iterator[Callable[..., Controller]]:
    """Starts controllers of the pipeline `a`; all end with the test."""
    with Database(database_url) as database:
        database.pipeline_id("a")  # and the tables are there
    with ExitStack() as stack:

        def start(seconds: float = 30.0, directory: Path | None = None) -> Controller:
            return stack.enter_context(
                Controller(database_url, seconds=seconds, directory=directory)
            )

        yield start


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    with Database(database_url) as database:
        yield database


@contextmanager
def deadline() -> Iterator[Callable[[], bool]]:
    """Whether to go on waiting; the test fails if it was for too long."""
    end = time.monotonic() + PATIENCE

    def more() -> bool:
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.02)
        return True

    yield more


def wait_until(condition: Callable[[], bool]) -> None:
    with deadline() as more:
        while not condition():
            more()


def token(database: Database) -> int:
    found = database.fetch_one("SELECT token FROM modyn.pipelines WHERE name = 'a'")
    assert found is not None
    return int(found[0])


def is_over(database: Database) -> bool:
    found = database.fetch_one(
        "SELECT expires < clock_timestamp() FROM modyn.pipelines WHERE name = 'a'"
    )
    return found == (True,)


# Who may ----------------------------------------------------------------------------------------


def test_a_second_controller_is_refused_and_told_who_runs_and_until_when(controllers, database):
    first = controllers()
    assert first.heard() == "held 1"

    said = controllers().heard()

    assert re.fullmatch(
        rf"BusyError: pipeline 'a': pid {first.process.pid} on \S+ is running it; its lease ends "
        r"at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC if it is not renewed",
        said,
    )
    assert token(database) == 1


def test_a_lease_that_is_given_back_is_free_at_once(controllers, database):
    first = controllers()
    first.heard()
    assert first.told("release") == "released"

    assert controllers().heard() == "held 2"
    assert first.process.wait(PATIENCE) == 0


def test_of_many_that_start_at_once_exactly_one_runs(controllers, database):
    all_of_them = [controllers() for _ in range(6)]

    said = [one.heard() for one in all_of_them]

    assert said.count("held 1") == 1
    assert sum(line.startswith("BusyError") for line in said) == 5


def test_of_many_that_wait_for_one_that_was_killed_exactly_one_takes_over(database):
    # In threads, each with a database of its own, so that they meet to the millisecond.
    pipeline = database.pipeline_id("a")
    Lease(database, pipeline, holder="the dead", seconds=0.05).acquire()
    sql(str(database.url), "UPDATE modyn.pipelines SET token = 7, expires = now()")
    barrier, outcomes = threading.Barrier(8), []

    def take() -> None:
        with Database(database.url) as own:
            own.check()
            lease = Lease(own, pipeline)
            barrier.wait(PATIENCE)
            try:
                lease.acquire()
                outcomes.append(lease.token)
            except BusyError:
                outcomes.append(None)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert sorted(outcomes, key=str) == [8, *[None] * 7]


# Who died ---------------------------------------------------------------------------------------


def test_after_a_killed_controller_the_next_takes_over_when_the_lease_is_over(
    controllers, database
):
    first = controllers(seconds=2)
    first.heard()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(PATIENCE)

    assert controllers().heard().startswith(f"BusyError: pipeline 'a': pid {first.process.pid} ")
    wait_until(lambda: is_over(database))
    assert controllers().heard() == "held 2"


def test_in_its_own_directory_the_next_need_not_wait(controllers, tmp_path, database):
    first = controllers(directory=tmp_path)
    first.heard()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(PATIENCE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert controllers(directory=elsewhere).heard().startswith("BusyError")
    assert controllers(directory=tmp_path).heard() == "held 2"
    assert list(elsewhere.iterdir()) == []


def test_a_copy_of_the_directory_takes_nothing_over(controllers, tmp_path, database):
    here, copy = tmp_path / "here", tmp_path / "copy"
    here.mkdir()
    first = controllers(directory=here)
    assert first.heard() == "held 1"
    shutil.copytree(here, copy)

    assert controllers(directory=copy).heard().startswith("BusyError")

    assert first.told("check") == "done"
    assert token(database) == 1


@pytest.mark.parametrize("place", ["noted, not committed", "committed, not noted"])
def test_one_that_is_killed_as_it_takes_the_lease_keeps_nobody_out(
    database, database_url, tmp_path, place
):
    number = database.pipeline_id("a")
    for last in (False, True):
        pid = os.fork()
        if pid == 0:  # the first is killed as it holds the lease, the second as it takes it
            try:
                with Database(database_url) as own:
                    lease = Lease(own, number, directory=tmp_path)
                    if last:
                        owner, name = (lease, "_write_note") if "not com" in place else (own, "run")
                        inner = getattr(owner, name)
                        setattr(
                            owner, name, lambda *a, inner=inner, **k: (inner(*a, **k), os._exit(0))
                        )
                    lease.acquire()
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    with Lease(database, number, directory=tmp_path) as lease:
        assert lease.token == (2 if "not com" in place else 3)


def test_a_lease_whose_directory_is_gone_is_not_taken(database, tmp_path):
    number = database.pipeline_id("a")

    with pytest.raises(FileNotFoundError), Lease(database, number, directory=tmp_path / "none"):
        pass

    with Lease(database, number) as lease:
        assert lease.token == 1


# Who was paused ---------------------------------------------------------------------------------


def test_a_controller_that_was_paused_for_too_long_writes_nothing_more(controllers, database):
    first = controllers(seconds=1)
    first.heard()
    first.told("begin")
    assert first.told("advance 5") == "done"
    first.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_over(database))
    second = controllers()
    assert second.heard() == "held 2"
    second.told("advance 6")

    first.process.send_signal(signal.SIGCONT)

    assert first.told("advance 7").startswith("FencedError: ")
    assert first.told("check").startswith("FencedError: ")
    assert ledger_postgres.read(database, "a").progress.position == 6
    assert second.told("advance 8") == "done"
    assert first.told("release") == "released"
    assert second.told("check") == "done"
    assert token(database) == 2


def test_one_that_was_paused_and_not_replaced_goes_on(controllers, database):
    first = controllers(seconds=1)
    first.heard()
    first.told("begin")
    first.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_over(database))

    first.process.send_signal(signal.SIGCONT)

    assert first.told("advance 7") == "done"
    assert first.told("check") == "done"
    assert ledger_postgres.read(database, "a").progress.position == 7


def test_one_that_is_paused_in_a_transaction_is_thrown_out_of_it(controllers, database):
    first = controllers(seconds=1)
    first.heard()
    first.told("begin")
    assert first.told("open") == "done"
    first.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_over(database))

    second = controllers()

    assert second.heard() == "held 2"
    assert second.told("advance 3") == "done"
    first.process.send_signal(signal.SIGCONT)
    assert first.told("advance 4").startswith("FencedError: ")


# The fence --------------------------------------------------------------------------------------


@pytest.fixture
def lease(database) -> Iterator[Lease]:
    with Lease(database, database.pipeline_id("a")) as lease:
        yield lease


def test_a_renewal_does_not_wait_for_writers(database):
    with (
        Lease(database, database.pipeline_id("a"), seconds=1) as lease,
        database.connect() as other,
    ):
        lease.fence.check(other.execute("BEGIN"))
        before = database.fetch_one("SELECT expires FROM modyn.pipelines")
        wait_until(lambda: database.fetch_one("SELECT expires FROM modyn.pipelines") != before)
        time.sleep(1.2)

        lease.check()
        other.execute("COMMIT")


def test_a_takeover_waits_for_writers_and_writers_for_a_takeover(database, lease):
    with database.connect() as writer, database.connect() as taker, database.connect() as late:
        lease.fence.check(writer.execute("BEGIN"))
        locked = threading.Event()

        def take_over() -> None:
            taker.execute("BEGIN")
            taker.execute("SELECT 1 FROM modyn.pipelines FOR UPDATE")
            taker.execute("UPDATE modyn.pipelines SET token = token + 1")
            locked.set()

        thread = threading.Thread(target=take_over)
        thread.start()
        assert not locked.wait(0.3)
        writer.execute("COMMIT")
        assert locked.wait(PATIENCE)
        thread.join(PATIENCE)

        outcome = []

        def write() -> None:
            try:
                lease.fence.check(late.execute("BEGIN"))
                outcome.append("passed")
            except FencedError:
                outcome.append("fenced")

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.3)
        assert outcome == []
        taker.execute("COMMIT")
        thread.join(PATIENCE)

        assert outcome == ["fenced"]


def test_the_fence_names_who_took_over(database, lease):
    sql(str(database.url), "UPDATE modyn.pipelines SET token = 9, holder = 'pid 7 on mars'")

    with pytest.raises(FencedError, match=r"pipeline 'a' was taken over by pid 7 on mars"):
        database.run(lease.fence.check)


def test_the_statement_for_bulk_writers_is_the_same(database, lease):
    text, values, rows = lease.fence.statement

    found = database.fetch(text.replace("$1", "%s").replace("$2", "%s"), values)

    assert len(found) == rows == 1


def test_a_pipeline_that_is_gone_is_said_to_be(database, lease):
    sql(str(database.url), "DELETE FROM modyn.pipelines")

    with pytest.raises(FencedError, match="is gone from the database"):
        database.run(lease.fence.check)
    with pytest.raises(DatabaseError, match="is gone from the database"):
        Lease(database, lease.pipeline).acquire()


# The database is away ---------------------------------------------------------------------------


def test_a_database_that_is_away_for_longer_than_the_lease_stops_the_run(own_server):
    with Database(own_server.url, retry_seconds=1) as database:
        lease = Lease(database, database.pipeline_id("a"), seconds=1)
        lease.acquire()
        ledger = ledger_postgres.PostgresLedger(database, "a", lease)
        own_server.stop()

        def check_until_it_fails() -> None:
            with deadline() as more:
                while more():
                    lease.check()

        with pytest.raises(DatabaseError, match="could not be renewed for 1 s") as caught:
            check_until_it_fails()
        assert not isinstance(caught.value, FencedError)
        own_server.start(child=True)
        with pytest.raises(DatabaseError, match="could not be renewed"):
            ledger.begin({}, Progress(position=0, trigger_state="", selection_state=""))
        lease.release()
        assert sql(own_server.url, "SELECT count(*) FROM modyn.ledger_progress") == [(0,)]


def test_one_that_is_away_for_less_does_not(own_server):
    with (
        Database(own_server.url) as database,
        Lease(database, database.pipeline_id("a"), seconds=18) as lease,
    ):
        before = database.fetch_one("SELECT expires FROM modyn.pipelines")
        kill_server(own_server)
        own_server.start(child=True)

        wait_until(lambda: database.fetch_one("SELECT expires FROM modyn.pipelines") != before)
        lease.check()


@pytest.mark.parametrize("kind", ["commit-lost", "reply-lost", "commit-late"])
def test_a_lease_whose_answer_is_lost_does_not_refuse_itself(server, database, kind):
    parameters = dict(database.url.parameters)
    pipeline = database.pipeline_id("a")
    faults = [None, Fault(kind)]  # the first connection looks at the tables
    with Proxy(
        server.folder / "socket" / ".s.PGSQL.5432",
        lambda i: faults[i] if i < len(faults) else None,
    ) as proxy:
        place = f"{parameters['user']}@127.0.0.1:{proxy.port}/{parameters['dbname']}"
        with Database(f"postgresql://{place}?sslmode=disable") as behind:
            behind.check()
            sql(str(database.url), ENDED)
            with Lease(behind, pipeline) as lease:
                assert proxy.hits == 1
                assert lease.token == token(database)
                lease.check()


ENDED = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""


# Small things -----------------------------------------------------------------------------------


def test_nothing_is_left_of_a_lease_that_was_given_back(database, database_url):
    threads, sessions = threading.active_count(), None
    for _ in range(3):
        with Lease(database, database.pipeline_id("a"), seconds=0.06) as lease:
            time.sleep(0.1)
            lease.check()
        lease.release()
        found = len(backends(database_url))
        sessions = found if sessions is None else sessions
        assert found <= sessions

    assert threading.active_count() == threads
    assert database.fetch("SELECT holder, expires FROM modyn.pipelines") == [(None, None)]


def test_a_lease_that_is_not_held_says_so(database, lease):
    other = Lease(database, lease.pipeline)
    for ask in (lambda: other.token, lambda: other.fence, other.check):
        with pytest.raises(RuntimeError, match="the lease is not held"):
            ask()
    with pytest.raises(RuntimeError, match="the lease is held already"):
        lease.acquire()
    with pytest.raises(ValueError, match="seconds must be above 0, got 0"):
        Lease(database, 1, seconds=0)
    assert f"pid {os.getpid()} on " in lease.holder
