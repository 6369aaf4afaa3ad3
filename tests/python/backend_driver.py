"""Runs pipelines with metadata in Postgres in processes that are killed at random.

Usage: backend_driver.py DIRECTORY URL LAYOUT RUNS

First one embedded run, left alone.  Then RUNS pipelines, each in processes that get SIGKILL after
a random time, again until one lives to the end.  Each result is a line of JSON.  Processes are
forked from this one, which has imported everything, started no thread and opened no connection.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import modyn
from modyn.pipelines import Metadata, Training
from modyn.policies import DataAmountTrigger, LabelBalanced
from tests.python.crash_driver import warm_up
from tests.python.postgres_server import sql
from tests.python.streams import pipeline, sgd

NAME = "run"
KILLS = 12  # of one run; then it is left alone
SLOW = 120.0


def run(directory: Path, metadata: Metadata | None) -> str:
    dataset = modyn.Dataset.open(directory.parent / "stream")
    return (
        pipeline(
            dataset,
            name=NAME,
            metadata=metadata,
            trigger=DataAmountTrigger(num_samples=60),
            selection=LabelBalanced(ratio=50, tail_triggers=1),
            training=Training(batch_size=32, optimizers=sgd(), use_previous_model=True),
        )
        .replay(directory)
        .digest()
    )


def in_a_process(directory: Path, metadata: Metadata | None, life: float) -> str | None:
    """Return what a run says at its end; None if it was killed before."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, run(directory, metadata).encode())
            os._exit(0)
        finally:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
    os.close(writer)
    end = time.monotonic() + life
    status: int | None = None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = code if done else None
        time.sleep(0.002)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{directory}: exit status {code}")
    return said if code == 0 else None


def main() -> None:
    base, url, layout, runs = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", file=sys.stderr)
    rng = random.Random(seed)
    warm_up()
    started = time.monotonic()
    said = in_a_process(base / "embedded", None, SLOW)
    whole = time.monotonic() - started
    print(json.dumps({"name": "embedded", "kills": 0, "run": said}), flush=True)
    metadata = Metadata(url=url, layout=layout, hash_partition_modulus=2, lease_seconds=60.0)
    for i in range(runs):
        kills, said = 0, None
        while said is None:
            life = rng.uniform(0.0, 0.7 * whole) if kills < KILLS else SLOW
            said = in_a_process(base / f"run-{i}", metadata, life)
            kills += said is None
        # The next one begins anew under the same name, which is a part of its digest.
        sql(url, "UPDATE modyn.pipelines SET name = %s WHERE name = %s", f"done {i}", NAME)
        print(json.dumps({"name": f"run-{i}", "kills": kills, "run": said}), flush=True)


if __name__ == "__main__":
    main()
