"""Other ways to fill a leaf, each as its own documentation says is fastest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.postgres.ground import Ground
from benchmarks.postgres.samples import Blocks, Samples, leaf_name
from benchmarks.postgres.turns import Way

# Name, the module that has to be there, and what pip calls it.
RIVALS = {
    "psycopg": ("psycopg", "psycopg[binary]"),
    "SQLAlchemy": ("sqlalchemy", "sqlalchemy"),
    "asyncpg": ("asyncpg", "asyncpg"),
    "ADBC": ("adbc_driver_postgresql", "adbc-driver-postgresql"),
}
PACKED = np.dtype(
    [("fields", ">i2")]
    + [(f"{name}{end}", kind) for name in "ktl" for end, kind in (("size", ">i4"), ("", ">i8"))]
)
PACKED_ROWS = 1 << 16  # in a piece
HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
COLUMN_TYPES = {"rows": ["int8"] * 3, "blocks": ["int8", "int4", "int8", "int8", "bytea", "bytea"]}


def missing(name: str) -> str | None:
    """Return the line that says that a rival is not here; None if it is."""
    module, pip = RIVALS[name]
    if find_spec(module) is not None:
        return None
    return f"{name} is left out: not installed (pip install '{pip}')"


def packed(samples: Samples) -> Iterator[bytes]:
    """Yield the rows of samples as COPY takes them, in pieces, without head and end."""
    for first in range(0, len(samples), PACKED_ROWS):
        part = samples.part(first, first + PACKED_ROWS)
        rows = np.empty(len(part), PACKED)
        rows["fields"] = 3
        for name, column in zip("ktl", (part.keys, part.timestamps, part.labels), strict=True):
            rows[f"{name}size"] = 8
            rows[name] = column
        yield rows.tobytes()


def objects(ground: Ground, samples: Samples) -> Iterator[tuple[Any, ...]]:
    """Yield rows of Python objects."""
    columns = [
        column.tolist() if isinstance(column, np.ndarray) else [part.tobytes() for part in column]
        for column in ground.layout.columns(samples)
    ]
    return zip(*columns, strict=True)


def packed_blocks(ground: Ground, samples: Samples) -> Iterator[bytes]:
    """Yield the rows of blocks as COPY takes them."""
    for row in objects(ground, samples):
        yield b"\0\6"
        for value, size in zip(row, (8, 4, 8, 8, 0, 0), strict=True):
            body = value if isinstance(value, bytes) else value.to_bytes(size, "big", signed=True)
            yield len(body).to_bytes(4, "big") + body


def psql(ground: Ground, folder: Path, share: float = 1.0) -> Way:
    """psql, \\copy from a binary file, which is in the page cache."""
    files: dict[int, Path] = {}

    def prepare(count: int) -> None:
        if count in files:
            return
        files[count] = folder / f"{ground.layout.name}-{count}.copy"
        part = ground.samples.part(0, count)
        blocks = isinstance(ground.layout, Blocks)
        with files[count].open("wb") as file:
            file.write(HEAD)
            file.writelines(packed_blocks(ground, part) if blocks else packed(part))
            file.write(END)

    def run(count: int) -> None:
        copy = f"\\copy {leaf_name(1)} ({ground.layout.columns_sql}) from '{files[count]}'"
        statements = [
            "BEGIN",
            ground.create(1, ground.samples.part(0, count)),
            f"{copy} with (format binary, freeze)",
            "COMMIT",
        ]
        given = [word for statement in statements for word in ("-c", statement)]
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", ground.url, *given]
        subprocess.run(command, check=True, capture_output=True)

    def close() -> None:
        for file in files.values():
            file.unlink()

    return Way(run, ground.check(), prepare, share=share, close=close)


def with_psycopg(ground: Ground, send: Callable[[Any, Samples], None], share: float) -> Way:
    import psycopg

    connection = psycopg.connect(ground.url)

    def run(count: int) -> None:
        part = ground.samples.part(0, count)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(ground.create(1, part))
            with cursor.copy(ground.layout.copy_in(1)) as copy:
                send(copy, part)

    return Way(run, ground.check(), share=share, close=connection.close)


def psycopg_rows(ground: Ground, share: float = 1.0) -> Way:
    """Copy.write_row, with the types of the columns set."""

    def send(copy: Any, part: Samples) -> None:
        copy.set_types(COLUMN_TYPES[ground.layout.name])
        for row in objects(ground, part):
            copy.write_row(row)

    return with_psycopg(ground, send, share)


def psycopg_packed(ground: Ground, share: float = 1.0) -> Way:
    """Copy.write of bytes that NumPy has put in the form of the wire."""

    def send(copy: Any, part: Samples) -> None:
        copy.write(HEAD)
        for piece in packed(part):
            copy.write(piece)
        copy.write(END)

    return with_psycopg(ground, send, share)


def sqlalchemy(ground: Ground, share: float) -> Way:
    """Connection.execute(insert(table), a list of rows)."""
    import psycopg
    from sqlalchemy import BigInteger, Column, MetaData, Table, create_engine, text

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(ground.url))
    names = ("key", "timestamp", "label")
    table = Table(
        "leaf_1", MetaData(), *(Column(name, BigInteger) for name in names), schema="public"
    )

    def run(count: int) -> None:
        part = ground.samples.part(0, count)
        with engine.begin() as connection:
            connection.execute(text(ground.create(1, part)))
            rows = [dict(zip(names, row, strict=True)) for row in objects(ground, part)]
            connection.execute(table.insert(), rows)

    return Way(run, ground.check(), share=share, close=engine.dispose)


def asyncpg_connection(url: str) -> tuple[Any, Any]:
    """Return what runs coroutines, and a connection of asyncpg in it."""
    import asyncio

    import asyncpg as driver
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(url)
    runner = asyncio.Runner()
    place = {"host": given["host"], "user": given["user"], "database": given["dbname"]}
    return runner, runner.run(driver.connect(**place))


def asyncpg(ground: Ground, share: float = 1.0) -> Way:
    """Connection.copy_records_to_table."""
    runner, connection = asyncpg_connection(ground.url)
    names = [name.strip('" ') for name in ground.layout.columns_sql.split(",")]

    async def fill(part: Samples) -> None:
        async with connection.transaction():
            await connection.execute(ground.create(1, part))
            rows = objects(ground, part)
            await connection.copy_records_to_table(
                "leaf_1", schema_name="public", columns=names, records=rows
            )

    def run(count: int) -> None:
        runner.run(fill(ground.samples.part(0, count)))

    def close() -> None:
        runner.run(connection.close())
        runner.close()

    return Way(run, ground.check(), share=share, close=close)


def adbc(ground: Ground, share: float = 1.0) -> Way:
    """Cursor.adbc_ingest of an Arrow table."""
    import adbc_driver_postgresql.dbapi as driver
    import pyarrow

    connection = driver.connect(uri_of(ground.url))

    def run(count: int) -> None:
        part = ground.samples.part(0, count)
        columns = {
            "key": part.keys.view(np.int64),
            "timestamp": part.timestamps,
            "label": part.labels,
        }
        with connection.cursor() as cursor:
            cursor.execute(ground.create(1, part))
            cursor.adbc_ingest(
                "leaf_1", pyarrow.table(columns), mode="append", db_schema_name="public"
            )
        connection.commit()

    return Way(run, ground.check(), share=share, close=connection.close)


def uri_of(url: str) -> str:
    """Write a conninfo as a URI, which is what some drivers know."""
    from urllib.parse import urlencode

    from psycopg.conninfo import conninfo_to_dict

    given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    database = given.pop("dbname")
    return f"postgresql:///{database}?{urlencode(given)}"


def versions() -> str:
    """Say which rivals are here."""
    import psycopg

    said = [f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__})"]
    for name, package in (
        ("SQLAlchemy", "sqlalchemy"),
        ("asyncpg", "asyncpg"),
        ("ADBC", "adbc-driver-postgresql"),
    ):
        if missing(name) is None:
            said.append(f"{name} {version(package)}")
    return ", ".join(said)
