"""The database of runs that crash_driver.py lets die: empty before each, and looked at after it."""

from __future__ import annotations

from tests.python.postgres_server import sql

TABLES = (
    "datasets",
    "leaves",
    "samples",
    "sample_blocks",
    "streams",
    "stream_leaves",
    "stream_rows",
    "stream_blocks",
    "trainsets",
    "trainset_rows",
    "trainset_blocks",
    "ledger_transitions",
    "ledger_trainings",
    "ledger_windows",
    "ledger_evaluations",
    "ledger_decisions",
)
# Numbers that an attempt took and never used.
NUMBERS = "{id,dataset,pipeline,number}"
ROWS = """
    SELECT '{0}' AS of, to_jsonb(one) - %s::text[] AS row FROM modyn.{0} AS one
    UNION ALL """


def clear(url: str) -> None:
    """Take away all that is modyn's."""
    sql(url, "SET client_min_messages = warning; DROP SCHEMA IF EXISTS modyn CASCADE")


def left(url: str) -> str:
    """Return a digest of what is there, but for numbers, seconds and who it was."""
    rows = "".join(ROWS.format(table) for table in TABLES)
    tables = "SELECT 'tables', to_jsonb(count(*)) FROM pg_tables WHERE schemaname = 'modyn'"
    digest = "md5(string_agg(of || row::text, ',' ORDER BY of, row::text))"
    found = sql(url, f"SELECT {digest} FROM ({rows} {tables}) AS rows", *[NUMBERS] * len(TABLES))
    return str(found[0][0])
