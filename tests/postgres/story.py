"""Batches that are written under faults, and the oracle that says what must be there.

Batch b holds the keys from b * ROWS on, and values that follow from the keys, so that whoever reads
knows what is right: all rows of an acknowledged batch once, of the last other one all or none, and
at no moment a part of a batch.  The table has no unique index: a double must be prevented, not
masked.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg

from modyn import postgres
from modyn.errors import DatabaseError

TABLE = """
DROP TABLE IF EXISTS faults;
CREATE TABLE faults (key bigint NOT NULL, batch bigint NOT NULL, value double precision NOT NULL);
"""
COPY = "COPY faults (key, batch, value) FROM STDIN (FORMAT binary)"
PARTS = "SELECT batch, count(*) FROM faults GROUP BY batch HAVING count(*) <> %s"
TRUTH = """
SELECT count(*), count(DISTINCT key), coalesce(max(key) + 1, 0),
       count(*) FILTER (WHERE batch <> key / %s OR value <> key / 2.0) FROM faults
"""


def columns(batch: int, rows: int) -> tuple[np.ndarray, ...]:
    keys = np.arange(batch * rows, (batch + 1) * rows, dtype=np.int64)
    return keys, np.full(rows, batch, np.int64), keys / 2.0


@dataclass
class Story:
    """What was begun and what was acknowledged; `conninfo` reaches the server directly."""

    conninfo: str
    rows: int
    begun: int = 0  # batches; the last may be there or not
    acknowledged: int = 0

    def create(self) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(TABLE)

    def write(self, conninfo: str, batches: int) -> None:
        """Write so many batches over this connection string, each exactly once."""
        with self.connect(conninfo) as connection:
            for _ in range(batches):
                batch, self.begun = self.begun, self.begun + 1
                self.add(connection, batch)
                self.acknowledged = batch + 1

    def connect(self, conninfo: str) -> AbstractContextManager[Any]:
        """Connect; that is tried once only, so where the fault is then already there, again."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return postgres.Connection(conninfo, connect_seconds=5.0, statement_seconds=10.0)
            except (DatabaseError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def add(self, connection: Any, batch: int) -> None:
        """Write one batch, once, whatever happens."""
        copy = (COPY, columns(batch, self.rows), self.rows)
        connection.batch(f"faults/{batch}", copies=[copy], retry_seconds=60.0)

    def parts(self) -> list[tuple[int, int]]:
        """Batches of which there is a part, at this moment: (batch, rows)."""
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(PARTS, (self.rows,)).fetchall()

    def problems(self) -> list[str]:
        """Say what is not as it must be; what was begun last may still be on its way in."""
        with psycopg.connect(self.conninfo) as connection:
            count, keys, end, wrong = connection.execute(TRUTH, (self.rows,)).fetchone() or ()
        whole = [self.acknowledged * self.rows, self.begun * self.rows]
        if count in whole and keys == count and end == count and wrong == 0:
            return []
        return [
            f"{count} rows with {keys} keys up to {end}, {wrong} of them wrong; "
            f"acknowledged {whole[0]} rows, begun {whole[1]}"
        ]


class Writing(threading.Thread):
    """A writer on a thread of its own; `end()` waits for it and raises what it raised."""

    def __init__(self, story: Story, conninfo: str, batches: int) -> None:
        super().__init__(daemon=True)
        self._arguments = (story, conninfo, batches)
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        story, conninfo, batches = self._arguments
        try:
            story.write(conninfo, batches)
        except BaseException as error:
            self._error = error

    def end(self, seconds: float) -> None:
        self.join(seconds)
        if self.is_alive():
            raise TimeoutError(f"the writer hangs: nothing for {seconds:.0f} s")
        if self._error is not None:
            raise self._error
