"""`modyn db info`: what lies in a database, read without changing it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from modyn.cli import app
from modyn.metadata.contents import contents
from modyn.metadata.database import Database
from tests.python.postgres_server import sql

pytest.importorskip("psycopg")


def info(*arguments: str):
    return CliRunner().invoke(app, ["db", "info", *arguments])


@pytest.fixture
def filled(database_url):
    with Database(database_url) as database:
        first, second = database.pipeline_id("[bold]"), database.pipeline_id("other")
    sql(
        database_url,
        "INSERT INTO modyn.datasets (uuid, name, fields, timestamp_unit, has_labels, layout, "
        "unlogged, leaf_samples, count, erased) "
        "VALUES (%s, 'weather', '{}', 's', true, 'rows', true, 1024, 12345, 5)",
        "a" * 32,
    )
    hold = "UPDATE modyn.pipelines SET holder = %s, expires = now() + %s * interval '1 s' "
    sql(database_url, hold + "WHERE id = %s", "host one", 1000, first)
    sql(database_url, hold + "WHERE id = %s", "host two", -1000, second)
    return database_url


def test_the_contents_are_what_is_there(filled):
    with Database(filled, prepare=False) as database:
        found = contents(database)

    assert [(data.name, data.count, data.erased) for data in found.datasets] == [
        ("weather", 12345, 5)
    ]
    assert [(one.name, one.holder) for one in found.pipelines] == [
        ("[bold]", "host one"),
        ("other", None),
    ]
    assert found.size_bytes > 0


def test_the_command_shows_it(filled):
    done, machine = info(filled), info(filled, "--json")

    assert done.exit_code == machine.exit_code == 0
    for part in ("weather", "12,345", "rows, unlogged", "[bold]", "host one", "nobody", filled):
        assert part in done.output
    assert json.loads(machine.output)["datasets"][0]["uuid"] == "a" * 32


def test_a_database_without_metadata_stays_so(database_url):
    done = info(database_url)

    assert done.exit_code == 2
    assert "holds no metadata yet" in done.output
    assert sql(database_url, "SELECT 1 FROM pg_namespace WHERE nspname = 'modyn'") == []


def test_an_older_schema_is_said_and_left(filled):
    sql(filled, "DELETE FROM modyn.schema_version WHERE version > 1")

    done = info(filled)

    assert done.exit_code == 1
    assert "the database has schema 1" in done.output


def test_a_password_is_refused():
    done = info("postgresql://me:s3cret@h/d")

    assert done.exit_code == 2
    assert "s3cret" not in done.output
