"""A ledger in Postgres whose connection, server or lease is lost: each step once, or not at all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

from modyn.errors import ConfigError, DatabaseError, FencedError
from modyn.metadata.database import Database
from modyn.pipelines import ledger_postgres
from modyn.pipelines.lease import Lease
from modyn.pipelines.ledger import Content, Ledger
from modyn.pipelines.ledger_postgres import PostgresLedger
from tests.postgres.proxy import Fault, Proxy
from tests.python.postgres_server import (
    PASSWORD,
    kill_server,
    new_database,
    sql,
    terminate_backends,
)
from tests.python.test_ledger import (
    IDENTITY,
    START,
    WINDOW,
    evaluation,
    training,
    transition,
)

PATIENCE = 60.0
Step = Callable[[Ledger], None]

# A run of two triggers; the seconds are added up, so that no step may happen twice.
STEPS: dict[str, Step] = {
    "begin": lambda ledger: ledger.begin(IDENTITY, START),
    "advance": lambda ledger: ledger.advance(replace(START, position=3)),
    "commit": lambda ledger: ledger.commit(transition(0), {"policy": 1.0, "select": 0.5}),
    "train": lambda ledger: ledger.train(training(0), {"policy": 0.25}),
    "plan": lambda ledger: ledger.plan([WINDOW]),
    "evaluate": lambda ledger: ledger.evaluate([evaluation(0)], {0: {"policy": 2.0}}),
    "nothing": lambda ledger: ledger.evaluate([], {0: {"policy": 4.0}}),
    "again": lambda ledger: ledger.commit(transition(1), {}),
    "finish": lambda ledger: ledger.finish(),
}


def run(ledger: Ledger) -> None:
    for step in STEPS.values():
        step(ledger)


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    with Database(database_url) as database:
        yield database


@pytest.fixture
def expected(database) -> Content:
    """What is there when nothing happens."""
    with Lease(database, database.pipeline_id("undisturbed")) as lease:
        ledger = PostgresLedger(database, "undisturbed", lease)
        run(ledger)
        content = ledger.content()
    assert [row.seconds for row in content.timings] == [7.25, 0.5]
    return content


@pytest.fixture
def through(server, database) -> Iterator[Callable[..., tuple[Database, Proxy]]]:
    """Makes a database behind a proxy of its own; `choose` says which connection breaks how."""
    opened: list[Database | Proxy] = []
    socket = server.folder / "socket" / ".s.PGSQL.5432"

    def make(choose: Callable[[int], Fault | None] = lambda i: None) -> tuple[Database, Proxy]:
        proxy = Proxy(socket, choose)
        parameters = dict(database.url.parameters)
        user, name = parameters["user"], parameters["dbname"]
        url = f"postgresql://{user}@127.0.0.1:{proxy.port}/{name}?sslmode=disable"
        behind = Database(url)
        opened.extend([behind, proxy])
        return behind, proxy

    try:
        yield make
    finally:
        for one in opened:
            one.close()


@contextmanager
def attempted(step: Step, ledger: Ledger) -> Iterator[Future[None]]:
    """A step is tried in a thread, and has been done at the end."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(step, ledger)
        yield future
        future.result(PATIENCE)


def arm(proxy: Proxy, kind: str) -> None:
    for link in proxy._links:
        link.fault = Fault(kind)


# Whatever happens to the connection ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["commit-lost", "reply-lost", "commit-late"])
@pytest.mark.parametrize("broken", STEPS)
def test_a_commit_whose_answer_is_lost_is_done_once(through, database, expected, broken, kind):
    with Lease(database, database.pipeline_id("a")) as lease:
        behind, proxy = through()
        ledger = PostgresLedger(behind, "a", lease)
        for name, step in STEPS.items():
            if name == broken:
                arm(proxy, kind)
            step(ledger)

        assert proxy.hits == 1
        assert ledger_postgres.read(database, "a") == expected


def test_a_connection_that_is_reset_anywhere_loses_and_doubles_nothing(through, database, expected):
    bytes_in_all, every = 12_000, 397
    hits = 0
    for at in range(0, bytes_in_all, every):
        name = f"a{at}"
        with Lease(database, database.pipeline_id(name)) as lease:
            behind, proxy = through(lambda i, at=at: Fault("reset", at) if i == 0 else None)
            make_ready(behind)
            run(PostgresLedger(behind, name, lease))

            assert ledger_postgres.read(database, name) == expected, at
        hits += proxy.hits
        behind.close()

    assert hits > bytes_in_all // every // 2


def make_ready(database: Database) -> None:
    """A first contact is not repeated for long; here all contacts shall be like later ones."""
    database._ready = True


@pytest.mark.parametrize("broken", STEPS)
def test_a_session_that_is_ended_between_steps_is_replaced(database, expected, broken):
    with Lease(database, database.pipeline_id("a")) as lease:
        ledger = PostgresLedger(database, "a", lease)
        for name, step in STEPS.items():
            if name == broken:
                terminate_backends(str(database.url))
            step(ledger)

        assert ledger.content() == expected


@pytest.mark.parametrize("broken", [name for name in STEPS if name != "begin"])
def test_a_session_that_is_ended_in_a_step_does_it_again(database, expected, broken):
    url = str(database.url)
    with Lease(database, database.pipeline_id("a")) as lease, database.connect() as other:
        ledger = PostgresLedger(database, "a", lease)
        for name, step in STEPS.items():
            if name != broken:
                step(ledger)
                continue
            # It waits for this row, behind the fence, and dies there.
            other.execute("BEGIN")
            other.execute("SELECT 1 FROM modyn.ledger_progress FOR UPDATE")
            with attempted(step, ledger) as future:
                while not terminate_backends(url, "SELECT written FROM modyn.ledger_progress%"):
                    assert not future.done()
                other.execute("ROLLBACK")

        assert ledger.content() == expected


@pytest.mark.parametrize("broken", ["begin", "commit", "evaluate"])
def test_a_server_that_is_killed_and_started_again_is_waited_for(own_server, broken):
    with (
        Database(own_server.url) as database,
        Lease(database, database.pipeline_id("a")) as lease,
    ):
        ledger = PostgresLedger(database, "a", lease)
        for name, step in STEPS.items():
            if name != broken:
                step(ledger)
                continue
            kill_server(own_server)
            with attempted(step, ledger):
                own_server.start(child=True)  # not by a thread: the server would end with it
        content = ledger.content()
    assert [row.seconds for row in content.timings] == [7.25, 0.5]
    assert content.progress.finished


# Who lost the lease -----------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_a_fenced_ledger_writes_nothing(database, step):
    with Lease(database, database.pipeline_id("a")) as lease:
        ledger = PostgresLedger(database, "a", lease)
        for name, before in STEPS.items():
            if name == step:
                break
            before(ledger)
        sql(str(database.url), "UPDATE modyn.pipelines SET token = token + 1, holder = 'another'")
        found = dump(database)

        with pytest.raises(FencedError, match="'a' was taken over by another; this process"):
            STEPS[step](ledger)

        assert dump(database) == found


def dump(database: Database) -> list[list[tuple[object, ...]]]:
    """All rows of all tables of ledgers, with where they lie: an update moves a row."""
    tables = [
        *["identity", "progress", "transitions", "trainings"],
        *["windows", "evaluations", "timings"],
    ]
    return [
        database.fetch(f"SELECT ctid::text, t::text FROM modyn.ledger_{table} AS t ORDER BY 1")
        for table in tables
    ]


def test_what_cannot_be_done_leaves_nothing_and_the_next_step_works(database, expected):
    with Lease(database, database.pipeline_id("a")) as lease:
        ledger = PostgresLedger(database, "a", lease)
        STEPS["begin"](ledger)
        before = dump(database)

        with pytest.raises(DatabaseError, match="ledger_trainings"):
            ledger.train(training(0), {"train": 1.0})
        with pytest.raises(DatabaseError, match="ledger_evaluations"):
            ledger.evaluate([evaluation(0)], {})

        assert dump(database) == before
        run(ledger)
        assert ledger.content() == expected


# Pipelines beside each other --------------------------------------------------------------------


def test_pipelines_of_one_database_do_not_meet(database, expected):
    first = database.pipeline_id("first")
    with Lease(database, first) as one, Lease(database, database.pipeline_id("b")) as two:
        run(PostgresLedger(database, "first", one))
        ledger = PostgresLedger(database, "b", two)
        assert ledger.new
        ledger.begin(IDENTITY, replace(START, position=5))

        assert ledger_postgres.read(database, "first") == expected
        assert ledger.transitions() == []
        assert ledger.progress().position == 5


def test_a_pipeline_that_has_not_begun_is_no_run(database):
    database.pipeline_id("a")

    for name in ("a", "b"):
        with pytest.raises(FileNotFoundError, match=f"no run of a pipeline '{name}' there"):
            ledger_postgres.read(database, name)


def test_another_run_under_that_name_is_refused_with_what_differs_and_what_to_do(database):
    with Lease(database, database.pipeline_id("a")) as lease:
        PostgresLedger(database, "a", lease).begin(IDENTITY, START)
        ledger = PostgresLedger(database, "a", lease)

        with pytest.raises(ConfigError) as caught:
            ledger.begin({**IDENTITY, "config": {"training": None}}, START)

    said = str(caught.value)
    assert said.startswith(f"pipeline 'a' in {database.url} holds a run of another pipeline")
    assert 'config.training is {"batch_size":1,"sizes":[1,2]} there and null here' in said
    assert "modyn db forget" in said


def test_reading_is_of_one_moment_while_a_run_goes_on(database, database_url):
    with Lease(database, database.pipeline_id("a")) as lease:
        ledger = PostgresLedger(database, "a", lease)
        ledger.begin(IDENTITY, START)
        over = threading.Event()

        def write() -> None:
            for trigger in range(60):
                ledger.commit(transition(trigger), {"policy": 1.0})
            over.set()

        thread = threading.Thread(target=write)
        thread.start()
        seen = set()
        with Database(database_url) as reader:
            while not over.is_set():
                content = ledger_postgres.read(reader, "a")
                rows = content.transitions
                assert content.progress.position == (rows[-1].position if rows else 0)
                assert len(content.timings) == len(rows)
                seen.add(len(rows))
        thread.join(PATIENCE)

    assert len(seen) > 1


# Secrets ----------------------------------------------------------------------------------------


def test_no_secret_is_anywhere(server, guarded, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    with new_database(server) as url:
        sql(url, f"GRANT CREATE ON DATABASE {url_database(url)} TO {guarded}")
        with Database(url) as plain:
            user = dict(plain.url.parameters)["user"]
        said = []
        for password in (PASSWORD, f"{PASSWORD} wrong"):
            monkeypatch.setenv("PGPASSWORD", password)
            database = Database(url.replace(f"user={user}", f"user={guarded}"), retry_seconds=0)
            try:
                lease = Lease(database, database.pipeline_id("a"), directory=tmp_path)
                with lease:
                    ledger = PostgresLedger(database, "a", lease)
                    run(ledger)
                    said += [repr(ledger), repr(lease), repr(lease.fence), repr(ledger.content())]
                    terminate_backends(url)
                    ledger.finish()
            except DatabaseError as error:
                said += [str(error), repr(error.__context__), repr(error.__cause__)]
            finally:
                database.close()

    assert "password authentication failed" in "".join(said)
    assert PASSWORD not in "".join(said) + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["lease"]
    assert all(PASSWORD.encode() not in path.read_bytes() for path in files)


def url_database(url: str) -> str:
    return dict(Database(url).url.parameters)["dbname"]
