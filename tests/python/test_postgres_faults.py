"""What a server and a network do to writers: a campaign, and proof that it can find something."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.errors import DatabaseError

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


@pytest.mark.parametrize("interruptions", [60, pytest.param(1000, marks=pytest.mark.long)])
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


# What cannot be repaired is said, and leaves nothing behind ---------------------------------------


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[Path]:
    """A file system of 8 MB that is full soon, as the place of all new tables."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder = cluster.server.folder.parent / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0755", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        shutil.chown(folder, cluster.server.data.owner(), cluster.server.data.group())
        cluster.sql(f"CREATE TABLESPACE small LOCATION '{folder}'")
        database = psycopg.conninfo.conninfo_to_dict(cluster.conninfo)["dbname"]
        cluster.sql(f"ALTER DATABASE {database} SET default_tablespace = small")
        cluster.sql("DROP SCHEMA modyn CASCADE")  # what the cluster has put elsewhere
        yield folder
    finally:
        cluster.server.stop()
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("layout", ["rows", "blocks"])
def test_a_full_disk_is_said_and_what_is_there_stays(cluster, small_disk, tmp_path, layout):
    count = 500_000
    dataset = modyn.Dataset.create(tmp_path / "data", schema={"n": "uint8"})
    for first in range(0, count, count // 2):
        times = np.arange(first, first + count // 2)
        dataset.append({"n": np.zeros(len(times), np.uint8)}, labels=times % 7, timestamps=times)
        if first == 0 and layout == "blocks":  # 16 bytes a sample: this much there is room for
            dataset.publish(cluster.conninfo, layout=layout, leaf_samples=2**18)

    with pytest.raises(DatabaseError, match=r"[Nn]o space left") as caught:
        dataset.publish(cluster.conninfo, layout=layout, leaf_samples=2**18)
    assert "disk" in str(caught.value)

    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    report = dataset.publish(cluster.conninfo, layout=layout, leaf_samples=2**18)

    assert report.total == count
    counts = cluster.sql("SELECT count, (SELECT sum(count) FROM modyn.leaves) FROM modyn.datasets")
    assert counts == [(count, count)]
    if layout == "rows":
        truth = "SELECT count(*), count(DISTINCT key), count(*) FILTER (WHERE label <> key % 7)"
        assert cluster.sql(f"{truth} FROM modyn.samples") == [(count, count, 0)]
