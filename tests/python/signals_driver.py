"""Runs a pipeline that records signals in processes that are killed; see test_signal_stores.py.

Usage: signals_driver.py DIRECTORY URL

The signals lie in files, or at URL.  Before and after each chunk, each begin and each commit a
process is killed with SIGKILL, one place per process; then the same pipeline runs again, and what
it recorded is held against an undisturbed run.  Processes are forked from this one, which has
imported everything and started no thread.
"""

from __future__ import annotations

import os
import signal
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import modyn
from modyn.metadata import signals as in_postgres
from modyn.metadata.database import Database
from modyn.metadata.fence import Fence
from modyn.metadata.signals import PostgresSignals
from modyn.pipelines import Training, backend, replay, signal_files, signals
from modyn.pipelines.models import ModelStore
from modyn.signals import SIGNALS, SignalStore
from tests.python.crash_driver import Steps, warm_up
from tests.python.streams import pipeline, sgd

TRIGGERS = 2


def watch() -> Steps:
    killer = Steps(lambda: os.kill(os.getpid(), signal.SIGKILL))
    for owner in (signal_files.SignalFile, in_postgres.PostgresWriter):
        killer.around(owner, "put")
        killer.around(owner, "commit")
    killer.around(signal_files.SignalFiles, "begin")
    killer.around(PostgresSignals, "begin")
    killer.around(ModelStore, "put")
    signals.CHUNK = 100
    return killer


def run(directory: Path, url: str) -> str:
    """Run the pipeline, or the rest of it, and return the digest of what it recorded."""
    dataset = modyn.Dataset.open(directory.parent / "stream")
    settings = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd(), signals=SIGNALS)
    store: SignalStore = signal_files.SignalFiles(directory / "signals")
    if url:
        database = Database(url)
        fence = Fence(database.pipeline_id(directory.name), 0)
        store = PostgresSignals(database, fence, dataset.uuid, hash_partition_modulus=2)
        embedded = backend.Embedded

        def with_signals(pipeline: Any, directory: Path) -> backend.Embedded:
            found = embedded(pipeline, directory)
            found.signals = store
            return found

        replay.backend_of = with_signals  # type: ignore[assignment]
    made = pipeline(dataset, training=settings, evaluation=None, maximum_triggers=TRIGGERS)
    state = blake2b(made.replay(directory).digest().encode())
    for trigger in range(TRIGGERS):
        found = store.read(trigger)
        for column in (found.keys, found.epoch, *found.columns.values()):
            state.update(column.tobytes())
    return state.hexdigest()[:32]


def in_a_process(killer: Steps, at: int, directory: Path, url: str) -> tuple[int, str]:
    """Return how a process ended that is killed at a place, and what it says at its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            killer.die_at = at
            digest = run(directory, url)
            os.write(writer, f"{killer.count} {digest}".encode())
            os._exit(0)
        finally:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
    os.close(writer)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def main() -> None:
    base, url = Path(sys.argv[1]), sys.argv[2]
    killer = watch()
    warm_up()
    _, said = in_a_process(killer, -1, base / "whole", url)
    places, _, expected = said.partition(" ")
    step = 1 if os.environ.get("MODYN_LONG") else 3  # which has places of all kinds in turn
    for place in range(0, int(places), step):
        directory = base / f"killed-{place}"
        status, _ = in_a_process(killer, place, directory, url)
        _, said = in_a_process(killer, -1, directory, url)
        same = status == -signal.SIGKILL and said.endswith(expected)
        print(f"killed at {place}:", "as if nothing had happened" if same else (status, said))


if __name__ == "__main__":
    main()
