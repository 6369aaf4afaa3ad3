"""The tables of a database: made once, whole, by whoever comes first; against a private server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modyn.errors import DatabaseError
from modyn.metadata import schema
from modyn.metadata.database import Database
from modyn.metadata.schema import Step, steps
from tests.python.postgres_server import sql

psycopg = pytest.importorskip("psycopg")

ROOT = Path(__file__).parents[2]
FIRST = Step(1, "first", "CREATE TABLE modyn.a (b int); INSERT INTO modyn.a VALUES (1);")
SECOND = Step(2, "second", "ALTER TABLE modyn.a ADD c int DEFAULT 7;")
BROKEN = Step(3, "broken", "CREATE TABLE modyn.d (); SELECT 1 / 0;")


@pytest.fixture
def prepare(database_url):
    def prepare(known=None, user="modyn"):
        url = database_url.replace("user=modyn", f"user={user}")
        with psycopg.connect(url, autocommit=True) as connection:
            return schema.prepare(connection, known)

    return prepare


@pytest.fixture
def role(server, database_url):
    """The name of a role that may do nothing."""
    sql(database_url, "CREATE ROLE nothing LOGIN")
    yield "nothing"
    sql(database_url, "REASSIGN OWNED BY nothing TO modyn")
    sql(database_url, "DROP OWNED BY nothing")
    sql(database_url, "DROP ROLE nothing")


def versions(url: str) -> list[tuple[int, str]]:
    return sql(url, "SELECT version, name FROM modyn.schema_version ORDER BY version")


def database_name(url: str) -> str:
    return url.split("///")[1].split("?")[0]


def test_the_numbers_of_the_files_are_consecutive():
    assert [step.version for step in steps()] == list(range(1, len(steps()) + 1))


def test_a_new_database_gets_all_and_an_old_one_nothing(prepare, database_url):
    assert prepare() == steps()[-1].version
    made = sql(database_url, "SELECT version, applied FROM modyn.schema_version ORDER BY version")
    assert prepare() == steps()[-1].version

    assert [version for version, _ in made] == [step.version for step in steps()]
    assert made == sql(
        database_url, "SELECT version, applied FROM modyn.schema_version ORDER BY version"
    )
    assert sql(database_url, "SELECT * FROM modyn.pipelines") == []


def test_a_later_version_adds_what_is_new(prepare, database_url):
    prepare((FIRST,))
    prepare((FIRST, SECOND))

    assert versions(database_url) == [(1, "first"), (2, "second")]
    assert sql(database_url, "SELECT * FROM modyn.a") == [(1, 7)]


def test_a_file_that_fails_leaves_nothing_of_any(prepare, database_url):
    with pytest.raises(psycopg.errors.DivisionByZero):
        prepare((FIRST, SECOND, BROKEN))

    assert sql(database_url, "SELECT 1 FROM pg_namespace WHERE nspname = 'modyn'") == []

    prepare((FIRST,))
    with pytest.raises(psycopg.errors.DivisionByZero):
        prepare((FIRST, SECOND, BROKEN))

    assert versions(database_url) == [(1, "first")]
    assert sql(database_url, "SELECT * FROM modyn.a") == [(1,)]


def test_eight_first_users_at_once(database_url):
    code = (
        "import sys; from modyn.metadata.database import Database\n"
        "database = Database(sys.argv[1]); sys.stdin.read(1); database.check()\n"
        "print(database.pipeline_id('one'))"
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-c", code, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        for user in users:
            user.stdin.write("x")
            user.stdin.flush()
        answers = [user.communicate(timeout=120) for user in users]
    finally:
        for user in users:
            user.kill()
            user.wait()

    assert [error for _, error in answers] == [""] * 8
    assert len({out for out, _ in answers}) == 1
    assert len(versions(database_url)) == len(steps())


def test_a_newer_schema_is_refused(prepare, database_url):
    prepare((FIRST, SECOND))

    with pytest.raises(
        DatabaseError, match="the database has schema 2, this modyn knows 1: update modyn"
    ):
        prepare((FIRST,))

    assert versions(database_url) == [(1, "first"), (2, "second")]


@pytest.mark.parametrize(
    "changed", [Step(1, "first", FIRST.text + " "), Step(1, "renamed", FIRST.text)]
)
def test_a_file_that_was_changed_is_refused(prepare, changed):
    prepare((FIRST,))

    with pytest.raises(DatabaseError, match=r"step 1 .* was applied from another file"):
        prepare((changed, SECOND))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE modyn.pipelines (id int)",
        "CREATE TABLE modyn.schema_version (version int)",
        "CREATE VIEW modyn.v AS SELECT 1",
    ],
)
def test_a_schema_of_somebody_else_is_refused(prepare, database_url, statement):
    sql(database_url, "CREATE SCHEMA modyn")
    sql(database_url, statement)

    with pytest.raises(DatabaseError, match=r"was not made by this program.*another database"):
        prepare()


def test_an_empty_schema_was_made_for_us(prepare, database_url, role):
    sql(database_url, f"CREATE SCHEMA modyn AUTHORIZATION {role}")

    assert prepare(user=role) == steps()[-1].version
    assert prepare() == steps()[-1].version


def test_who_may_not_create_hears_which_grant_is_needed(prepare, database_url, role):
    with pytest.raises(DatabaseError, match="role nothing may not create") as caught:
        prepare(user=role)
    grant = f"GRANT CREATE ON DATABASE {database_name(database_url)} TO nothing"
    assert str(caught.value).endswith(grant)

    sql(database_url, grant)

    assert prepare(user=role) == steps()[-1].version


def test_who_may_not_read_hears_which_grant_is_needed(prepare, database_url, role):
    prepare()
    with pytest.raises(DatabaseError, match="role nothing may not read") as caught:
        prepare(user=role)
    grants = str(caught.value).split("as modyn: ")[1].split("; ")

    for grant in grants:
        sql(database_url, grant)

    assert len(grants) == 2
    assert prepare(user=role) == steps()[-1].version
    with Database(database_url.replace("user=modyn", f"user={role}")) as database:
        assert database.fetch("SELECT * FROM modyn.pipelines") == []
        with pytest.raises(DatabaseError, match="42501"):
            database.pipeline_id("a")


def test_a_reader_of_an_old_schema_hears_who_must_update_it(prepare, database_url, role):
    prepare((FIRST,))
    sql(database_url, f"GRANT USAGE ON SCHEMA modyn TO {role}")
    sql(database_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA modyn TO {role}")

    with pytest.raises(DatabaseError, match=r"version 2, .* nothing may not: run this once as mod"):
        prepare((FIRST, SECOND), user=role)


def test_names_that_need_quotes_are_quoted(prepare, database_url):
    sql(database_url, 'CREATE ROLE "No""body" LOGIN')
    try:
        with pytest.raises(DatabaseError, match=r'TO "No""body"$'):
            prepare(user="No%22body")
    finally:
        sql(database_url, 'DROP ROLE "No""body"')


def test_an_old_server_is_named():
    schema.check_server(130000)
    with pytest.raises(DatabaseError, match=r"is PostgreSQL 12\.22, and modyn needs 13 or newer"):
        schema.check_server(120022)


def test_the_files_are_installed(tmp_path):
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    packed = sorted(path.name for path in (tmp_path / "modyn/metadata/sql").glob("*.sql"))
    assert packed == sorted(path.name for path in (ROOT / "modyn/metadata/sql").glob("*.sql"))
