"""What a server and a network do to writers: a campaign, and proof that it can find something."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")

from tests.postgres import faults  # noqa: E402
from tests.postgres.cluster import Cluster  # noqa: E402
from tests.postgres.story import Story, columns  # noqa: E402

SEED = int(os.environ.get("MODYN_SEED", secrets.randbits(32)))
COPY = "COPY faults (key, batch, value) FROM STDIN"


@pytest.fixture
def cluster(own_server: Any) -> Iterator[Cluster]:
    with Cluster(own_server) as made:
        yield made


@pytest.mark.parametrize("interruptions", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_no_fault_loses_or_doubles_a_row(cluster, interruptions):
    campaign = faults.run(cluster, interruptions, SEED, [*faults.CONNECTION, *faults.SERVER])

    assert not campaign.problems, campaign
    assert campaign.met.total() == interruptions


class Naive(Story):
    """A writer with a mistake: what would it be like without ours?"""

    def connect(self, conninfo: str) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(conninfo)

    def add(self, conninfo: str, batch: int) -> None:
        deadline = time.monotonic() + 60
        for attempt in range(1000):
            with contextlib.suppress(psycopg.OperationalError, psycopg.errors.QueryCanceled):
                with psycopg.connect(conninfo) as connection:
                    if not self.is_known(connection, batch, attempt):
                        self.copy(connection, batch)
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        raise TimeoutError("the naive writer gives up")

    def is_known(self, connection: Any, batch: int, attempt: int) -> bool:
        return False

    def copy(self, connection: Any, batch: int) -> None:
        with connection.cursor().copy(COPY) as copy:
            for row in zip(*columns(batch, self.rows), strict=True):
                copy.write_row(row)


class Looks(Naive):
    """Looks whether the batch is there, and then writes it: the first attempt may come between."""

    def is_known(self, connection: Any, batch: int, attempt: int) -> bool:
        found = connection.execute("SELECT 1 FROM faults WHERE batch = %s LIMIT 1", (batch,))
        return attempt > 0 and found.fetchone() is not None


class Splits(Looks):
    """Writes a batch in two transactions."""

    def copy(self, connection: Any, batch: int) -> None:
        rows = list(zip(*columns(batch, self.rows), strict=True))
        for half in (rows[: self.rows // 2], rows[self.rows // 2 :]):
            with connection.cursor().copy(COPY) as copy:
                for row in half:
                    copy.write_row(row)
            connection.commit()


@pytest.mark.parametrize(
    ("mistake", "cells"),
    [(Naive, ["reply-lost"]), (Looks, ["commit-late"]), (Splits, ["reset", "terminate"])],
)
def test_the_campaign_finds_a_planted_mistake(cluster, mistake, cells):
    campaign = faults.run(cluster, 40, SEED, cells, mistake)

    assert campaign.problems
