"""Runs whose ledger is in a database: opened, listed and reported on from there, and forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("psycopg", reason="psycopg is not installed")

from modyn import cli
from modyn.errors import BusyError, ConfigError, DatabaseError
from modyn.metadata.database import Database
from modyn.pipelines import Run, rundir
from modyn.pipelines.forget import forget
from modyn.pipelines.lease import Lease
from modyn.pipelines.ledger import Progress
from modyn.pipelines.ledger_postgres import PostgresLedger
from tests.python.plausible import plausible_run
from tests.python.postgres_server import PASSWORD, sql

AWAY = "postgresql://nobody@127.0.0.1:1/nothing"  # where nobody listens


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    with Database(database_url) as database:
        yield database


def in_database(database: Database, path: Path, name: str, finished: bool = True) -> Run:
    """A run that never ran, in a database and a directory; what it says is returned."""
    run = plausible_run(path, name=name, finished=finished)
    content = run._content
    start = Progress(position=0, trigger_state="{}", selection_state="{}")
    with Lease(database, database.pipeline_id(name)) as lease:
        ledger = PostgresLedger(database, name, lease)
        ledger.begin(content.identity, start)
        for row in content.transitions:
            ledger.commit(row, {})
        for training in content.trainings:
            ledger.train(training, {})
        ledger.plan(content.windows)
        ledger.evaluate(content.evaluations, {})
        for timing in content.timings:
            ledger.evaluate([], {timing.trigger: {timing.stage: timing.seconds}})
        if finished:
            ledger.finish()
    note(path, str(database.url))
    return run


def note(path: Path, url: str) -> None:
    (path / rundir.METADATA).write_text(f"{url}\n")


def modyn(*arguments: object):
    return CliRunner().invoke(cli.app, [str(one) for one in arguments])


def test_a_run_is_opened_from_the_database_that_its_directory_names(database, tmp_path):
    written = in_database(database, tmp_path / "monthly", "monthly")

    run = Run.open(tmp_path / "monthly")

    assert run.name == "monthly"
    assert run.finished
    for table in ("triggers", "windows", "evaluations"):
        assert getattr(run, table) == getattr(written, table)
    assert run.seconds == written.seconds
    assert len(run.digest()) == 64


def test_a_run_that_has_not_begun_is_none(database, tmp_path):
    plausible_run(tmp_path / "monthly")
    note(tmp_path / "monthly", str(database.url))

    with pytest.raises(FileNotFoundError, match=r"monthly: .*no run of a pipeline 'monthly' there"):
        Run.open(tmp_path / "monthly")
    assert "not begun" in modyn("ls", tmp_path).output


def test_a_database_that_is_away_is_named_with_the_run(tmp_path):
    plausible_run(tmp_path / "monthly")
    note(tmp_path / "monthly", AWAY)

    with pytest.raises(DatabaseError) as caught:
        Run.open(tmp_path / "monthly")
    said = modyn("report", tmp_path / "monthly")

    assert str(caught.value).startswith(f"{tmp_path / 'monthly'}: its metadata is in {AWAY}: ")
    assert said.exit_code == 1
    assert f"{tmp_path / 'monthly'}: its metadata is in {AWAY}: " in said.stderr


def test_a_password_in_a_note_is_refused_and_not_shown(tmp_path):
    plausible_run(tmp_path / "monthly")
    note(tmp_path / "monthly", f"postgresql://me:{PASSWORD}@127.0.0.1:1/nothing")

    with pytest.raises(ConfigError) as caught:
        Run.open(tmp_path / "monthly")
    listed = modyn("ls", tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / 'monthly' / 'metadata'}: metadata: take the")
    assert listed.exit_code == 0
    assert PASSWORD not in str(caught.value) + listed.output


def test_ls_lists_all_runs_whatever_happened_to_their_databases(database, tmp_path):
    in_database(database, tmp_path / "monthly", "monthly")
    in_database(database, tmp_path / "weekly", "weekly", finished=False)
    for name in ("lost", "gone"):
        plausible_run(tmp_path / name, name=name)
        note(tmp_path / name, AWAY)

    result = modyn("ls", tmp_path)

    assert result.exit_code == 0, result.output
    assert re.search(r"monthly +finished +4 ", result.output)
    assert re.search(r"weekly +unfinished +4 ", result.output)
    for name in ("lost", "gone"):
        assert re.search(rf"{name} +database not reached +- +- +- +its metadata", result.output)


def test_a_folder_of_that_name_makes_no_run(tmp_path):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "metadata").write_text("about a thesis")

    assert "no datasets and no runs" in modyn("ls", tmp_path).output


def test_report_reads_the_database_and_leaves_out_what_cannot_be_read(database, tmp_path):
    in_database(database, tmp_path / "monthly", "monthly")
    plausible_run(tmp_path / "lost", name="lost")
    note(tmp_path / "lost", AWAY)

    result = modyn("report", tmp_path)

    assert result.exit_code == 0, result.output
    assert f"left out: {tmp_path / 'lost'}: its metadata is in {AWAY}" in result.stderr
    assert "monthly" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "monthly" / "report.html").exists()


# Forgetting -------------------------------------------------------------------------------------


def partitions(database: Database, pipeline: int, triggers: int) -> None:
    """What training sets, streams and signals of a pipeline are made of, by their names."""
    url, p = str(database.url), f"p{pipeline}"
    for table in ("trainset_rows", "stream_rows", "signals"):
        sql(
            url,
            f"CREATE TABLE modyn.{table}_{p} PARTITION OF modyn.{table} FOR VALUES IN ({pipeline}) "
            f"PARTITION BY LIST ({'position' if table == 'stream_rows' else 'trigger'})",
        )
        for i in range(triggers):
            inner = f"modyn.{table}_{p}_{'l' if table == 'stream_rows' else 't'}{i}"
            split = "" if table == "stream_rows" else " PARTITION BY HASH (key)"
            sql(
                url,
                f"CREATE TABLE {inner} PARTITION OF modyn.{table}_{p} FOR VALUES IN ({i}){split}",
            )
            for h in range(2 if split else 0):
                sql(
                    url,
                    f"CREATE TABLE {inner}_h{h} PARTITION OF {inner} "
                    f"FOR VALUES WITH (MODULUS 2, REMAINDER {h})",
                )
    # Of a process that was killed while it recorded: attached to nothing.
    sql(url, f"CREATE TABLE modyn.signals_{p}_t{triggers} (x integer)")
    for batch in (f"trainset/{pipeline}/3/ab", f"signals/{pipeline}", f"stream:{pipeline}:ab"):
        sql(url, "INSERT INTO modyn.batches VALUES (%s)", batch)


def everything(database: Database) -> dict[str, object]:
    """All tables, and how many rows are in each."""
    names = database.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'modyn'::regnamespace "
        "AND relkind IN ('r', 'p') ORDER BY relname"
    )
    return {name: database.fetch_one(f"SELECT count(*) FROM modyn.{name}") for (name,) in names}


def test_a_pipeline_is_forgotten_with_all_that_it_has_and_nothing_else(database, tmp_path):
    in_database(database, tmp_path / "other", "other")
    partitions(database, database.pipeline_id("other"), 2)
    before = everything(database)
    in_database(database, tmp_path / "monthly", "monthly")
    partitions(database, database.pipeline_id("monthly"), 20)
    assert everything(database) != before

    result = modyn("db", "forget", database.url, "monthly", "--yes")

    assert result.exit_code == 0, result.output
    assert result.output == f"{database.url}: pipeline 'monthly' is forgotten\n"
    assert everything(database) == before
    assert Run.open(tmp_path / "other").finished
    with pytest.raises(FileNotFoundError):
        Run.open(tmp_path / "monthly")


def test_forgetting_goes_on_where_it_was_killed(database, tmp_path, monkeypatch):
    from modyn.pipelines import forget as module

    before = everything(database)
    in_database(database, tmp_path / "monthly", "monthly")
    partitions(database, database.pipeline_id("monthly"), 3)
    monkeypatch.setattr(module, "TABLES_AT_ONCE", 1)
    real, steps = module._drop, iter(range(4))

    def killed(*arguments):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "_drop", killed)
    with pytest.raises(KeyboardInterrupt):
        forget(database, "monthly")
    monkeypatch.setattr(module, "_drop", real)

    with pytest.raises(FileNotFoundError):
        Run.open(tmp_path / "monthly")  # half of it is never taken for a run
    in_database(database, tmp_path / "monthly", "monthly")  # its name is free again
    forget(database, "monthly")

    assert everything(database) == before


def test_what_runs_is_not_forgotten(database, tmp_path):
    in_database(database, tmp_path / "monthly", "monthly")
    before = everything(database)

    with Lease(database, database.pipeline_id("monthly")):
        with pytest.raises(BusyError, match="is running it"):
            forget(database, "monthly")
        assert modyn("db", "forget", database.url, "monthly", "-y").exit_code == 1

    assert everything(database) == before


def test_forgetting_asks_and_knows_what_there_is(database, tmp_path):
    in_database(database, tmp_path / "monthly", "monthly")

    asked = modyn("db", "forget", database.url, "monthly")
    unknown = modyn("db", "forget", database.url, "weekly", "--yes")

    assert asked.exit_code == 1
    assert "forget pipeline 'monthly' and its 4 triggers?" in asked.output
    assert unknown.exit_code == 2
    assert f"{database.url}: there is no pipeline 'weekly'" in unknown.stderr
    assert Run.open(tmp_path / "monthly").finished
