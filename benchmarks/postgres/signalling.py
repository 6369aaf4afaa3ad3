"""M7: signals of a training on their way into a file of the run, and into Postgres."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.measure import Outcome
from benchmarks.postgres.server import prepare_schema
from benchmarks.postgres.site import Site
from benchmarks.postgres.turns import Turns, Way
from benchmarks.section import Section
from modyn.pipelines.signals import CHUNK
from modyn.signals import SIGNALS, Recording, Rows, SignalStore

ABOUT = """\
What a training records of a sample each time that it comes (loss, gradient norm, prediction,
forgetting) goes in chunks of 65,536 rows to a thread beside the training; here nothing else runs,
so that the rates are those at which a training would have to wait. The floor is the file in the
run directory, which is what a run without a server writes. `1 partition` is
the default; `hash_partition_modulus: 16` cuts the rows of a trigger into 16 by key. Each is one
training: begun, filled, committed, durable. What was written is read back and compared."""

SAMPLES = 2 << 20
EPOCHS = 2


def make_rows(count: int) -> list[Rows]:
    """Return presentations in chunks: two epochs, each in an order of its own."""
    rng = np.random.default_rng(7)
    half = count // EPOCHS
    keys = np.concatenate([rng.permutation(half) for _ in range(EPOCHS)]).astype(np.uint64)
    epoch = np.repeat(np.arange(EPOCHS, dtype=np.int32), half)
    loss = rng.random(len(keys), dtype=np.float32)
    columns = {
        "loss": loss,
        "gradient_norm": np.sqrt(loss),
        "prediction": rng.integers(0, 10, len(keys), dtype=np.int32),
        "forgetting": rng.integers(0, 3, len(keys), dtype=np.int32),
    }
    chunks = [slice(first, first + CHUNK) for first in range(0, len(keys), CHUNK)]
    return [
        Rows(keys[at], epoch[at], {name: column[at] for name, column in columns.items()})
        for at in chunks
    ]


def into(store: SignalStore, chunks: list[Rows], kind: str, close: Any = lambda: None) -> Way:
    """Record one training, and read it back."""
    triggers = itertools.count()
    last = [0]

    def run(count: int) -> None:
        last[0] = next(triggers)
        what = Recording(trigger=last[0], model=f"{last[0]:064x}", names=SIGNALS, classes=True)
        writer = store.begin(what)
        for rows in chunks:
            writer.put(rows)
        writer.commit()

    def check(count: int, _: Any) -> None:
        found = store.read(last[0])
        keys = np.concatenate([rows.keys for rows in chunks])
        epoch = np.concatenate([rows.epoch for rows in chunks])
        order = np.lexsort((epoch, keys))
        assert np.array_equal(found.keys, keys[order])
        for name in SIGNALS:
            column = np.concatenate([rows.columns[name] for rows in chunks])
            assert np.array_equal(getattr(found, name), column[order]), name

    return Way(run, check, kind=kind, close=close)


def into_postgres(url: str, chunks: list[Rows], modulus: int) -> Way:
    from modyn.metadata.database import Database
    from modyn.metadata.signals import PostgresSignals
    from modyn.pipelines.lease import Lease

    database = Database(url)
    lease = Lease(database, database.pipeline_id(f"benchmark {modulus}"))
    lease.acquire()
    store = PostgresSignals(database, lease.fence, "0" * 32, hash_partition_modulus=modulus)

    def close() -> None:
        lease.release()
        database.close()

    return into(store, chunks, "ours", close)


def measure(site: Site) -> Section:
    """Record trainings."""
    from modyn.pipelines.signal_files import SignalFiles

    section = Section("M7", "Signals of a training", ABOUT)
    line = Outcome("signals", 0.0, "file", "Postgres", case="4 signals")
    count = min(site.size(SAMPLES, 1 << 16), SAMPLES) // EPOCHS * EPOCHS
    chunks = make_rows(count)
    with site.database("signalling") as url:
        prepare_schema(url)
        ways = {
            "file": into(SignalFiles(site.folder / "signals"), chunks, "floor"),
            "Postgres": into_postgres(url, chunks, 16),
            "Postgres, 1 partition": into_postgres(url, chunks, 1),
        }
        turns = Turns(site, line, count, lambda: None)
        section.lines = [turns.run(ways, site.repetitions)]
    return section
