"""What docs/postgres.md says is so: its commands run, its roles suffice, its tables exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from modyn.errors import DatabaseError
from modyn.metadata import programs
from modyn.metadata.database import Database
from modyn.metadata.server import LocalServer
from modyn.metadata.url import Url
from tests.python.postgres_server import PASSWORD, sql

psycopg = pytest.importorskip("psycopg")
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "postgres.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def statements(block: str) -> list[str]:
    return [line.strip() for line in block.split(";") if line.strip()]


@pytest.fixture
def folder(server):
    """A folder that the user of a server can enter."""
    base = Path(tempfile.mkdtemp(prefix="modyn-pg-"))
    base.chmod(0o755)
    yield base
    try:
        LocalServer(base / "metadata").stop(seconds=10)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_the_commands_run(folder):
    """Also what the first chapter leaves behind: a server whose database can be dumped."""
    program = folder / "bin" / "modyn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m modyn.cli "$@"\n')
    program.chmod(0o755)
    postgres = programs.find().folder
    path = os.pathsep.join([str(program.parent), str(postgres), os.environ["PATH"]])
    server = LocalServer(folder / "metadata")
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "URL": server.url}
    first, *others = blocks("sh")

    def run(script: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run(first)
    with Database(server.url) as database:
        database.pipeline_id("p")
    for script in others:
        run(script)
    info = run('modyn db info "$URL"; modyn db info "$URL" --json')

    (line,) = re.findall(r"```yaml\n(.*)\n```", PAGE)
    form = server.url.replace(str(folder), "/home/me")
    assert line == f"metadata: {form}"
    assert said.splitlines()[-1].strip() == f"metadata: {server.url}"
    assert (folder / "metadata.dump").stat().st_size > 1000
    assert '"name": "p"' in info
    assert "nobody" in info


def test_the_roles_suffice(database_url):
    admin, joining, reading, queries = map(statements, blocks("sql"))
    trainer = database_url.replace("user=modyn", "user=trainer")
    alice = database_url.replace("user=modyn", "user=alice")
    reader = database_url.replace("user=modyn", "user=reader")
    try:
        for statement in admin:
            sql(database_url, statement)
        with Database(trainer) as database:
            database.pipeline_id("p")
            for statement in [*joining, *reading]:
                sql(database_url, statement)
        sql(alice, "CREATE TABLE modyn.trainset_rows_p1 AS SELECT 1")
        sql(trainer, "ALTER TABLE modyn.trainset_rows_p1 SET LOGGED")
        with Database(reader) as database:
            for statement in queries:
                database.fetch(statement)
            assert database.fetch("SELECT * FROM modyn.trainset_rows_p1") == [(1,)]
            with pytest.raises(DatabaseError, match="permission denied"):
                database.pipeline_id("q")
    finally:
        for role in ("reader", "alice", "trainer"):
            if sql(database_url, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
                sql(database_url, f"DROP OWNED BY {role} CASCADE")
                sql(database_url, f"DROP ROLE {role}")


def test_the_tables_are_those_of_the_page(database_url):
    with Database(database_url) as database:
        tables = database.fetch(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'modyn'::regnamespace "
            "AND relkind IN ('r', 'p')"
        )
    chapter = PAGE.split("## What lies in the schema")[1].split("## ")[0]
    rows = [line.split("|")[1] for line in chapter.splitlines() if line.startswith("| `")]

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {
        name for (name,) in tables
    }


def test_the_service_file_is_one(server, guarded, tmp_path, monkeypatch):
    (text,) = blocks("ini")
    text = text.replace("db.example.org", str(server.socket_folder)).replace("trainer", guarded)
    text = text.replace("sslmode=verify-full\n", f"password={PASSWORD}\n")
    service = tmp_path / "service.conf"
    service.write_text(text)
    monkeypatch.setenv("PGSERVICEFILE", str(service))

    with Database("service=metadata", prepare=False) as database:
        assert database.fetch("SELECT current_user::text") == [(guarded,)]
    assert PASSWORD not in repr(database)


def test_the_urls_of_the_page_are_urls():
    for text in re.findall(
        r"postgresql://[^\s`]+", PAGE.replace(":port/", "/").replace("name=value", "")
    ):
        assert Url.parse(text).conninfo == text
