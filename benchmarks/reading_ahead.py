"""How much of the reading of arrivals hides behind a policy that takes its time.

    python -m benchmarks.reading_ahead [--json] [--samples 8000000] [--repetitions 5] [--where DIR]

The loop of a pipeline goes along a stream of samples that takes time to be read, and a policy in
Python takes as long over each block (of 65,536 or, from rows of 16,384, of as many) as it takes to
be read:

    rows, blocks  from Postgres, a row per sample, or in rows of 16,384 samples
    time order    gathered from the columns of a dataset by an order that is a random one
    new           mapped columns in the page cache, of which nothing is verified yet
    cold          the same, none of them in memory: the page cache is emptied of them before

The policy either waits (it sleeps, as one does that asks a GPU or a service), which needs no core;
or it works (passes over labels and timestamps), which needs one beside those of the reading and of
the server. In each repetition three loops run, in processes of their own where columns are new:

    reading       with a policy that looks at nothing
    policy        the policy on as many blocks that are in memory
    together      that policy on that stream

Without reading ahead, together would take reading + policy; at best it takes the longer of them.
`hidden` is how much of the shorter one is gone: (reading + policy - together) / shorter, the
median over the repetitions with its least and greatest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import machine_line
from benchmarks.orchestrator import BLOCK, Steps, make_dataset
from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.orchestrator import Orchestrator
from modyn.policies import Trigger

if TYPE_CHECKING:
    from modyn.metadata.source import Source

LEAF = 1 << 20  # samples in a table
TIMES = ("reading", "policy", "together")
STREAMS = ("rows", "blocks", "time order", "new", "cold")


class Busy(Trigger):
    """Goes over each block so many times, sleeps so long per sample, and never fires."""

    def __init__(self, passes: int = 0, seconds: float = 0.0) -> None:
        self._passes, self._seconds = passes, seconds
        self._sum = 0.0

    def inform(self, arrivals: Arrivals, context: object) -> int | None:
        assert arrivals.labels is not None
        for _ in range(self._passes):
            self._sum += float(np.bincount(arrivals.labels, minlength=10)[0])
            self._sum += float(arrivals.timestamps.mean())
        if self._seconds:
            time.sleep(self._seconds * len(arrivals))
        return None


IDLE = Busy()


@dataclass(frozen=True)
class Ground:
    """A dataset in memory, and what streams of it are made of."""

    path: str
    order: np.ndarray
    sources: dict[str, Source]

    @property
    def fresh(self) -> tuple[str, ...]:
        """What needs a process to which the columns are new."""
        return ("new", "cold")


def seconds_along(ground: Ground, stream: str | None, policy: Busy) -> float:
    """Return how long the loop takes; None is the stream that is in memory."""
    steps = Steps(policy)
    with Dataset.open(ground.path) as dataset, tempfile.TemporaryDirectory() as folder:
        if stream not in ground.fresh:
            dataset.timestamps.sum(), dataset.labels.sum()  # verified
        more: dict[str, Any] = {"order": ground.order} if stream == "time order" else {}
        if stream in ground.sources:
            more = {"source": ground.sources[stream]}
        if stream == "cold":
            forget(ground.path)
        started = time.perf_counter()
        steps.loop = Orchestrator(
            dataset, steps=steps, tail_triggers=0, trainset_directory=folder, **more
        )
        assert steps.loop.next() is None
        assert steps.loop.position == len(ground.order)
        return time.perf_counter() - started


def forget(path: str) -> None:
    """Empty the page cache of a dataset that nobody has mapped and touched."""
    for file in Path(path).rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_of(ground: Ground, stream: str | None, policy: Busy) -> float:
    """Do the same, in a new process where it has to be."""
    if stream not in ground.fresh:
        return seconds_along(ground, stream, policy)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(seconds_along, (Ground(ground.path, ground.order, {}), stream, policy))


def policies_for(ground: Ground, stream: str) -> dict[str, Busy]:
    """Return policies that take as long over a block as reading it."""
    reading = min(seconds_of(ground, stream, IDLE) for _ in range(3))
    idle = min(seconds_along(ground, None, IDLE) for _ in range(3))
    four = min(seconds_along(ground, None, Busy(passes=4)) for _ in range(3))
    return {
        "waits": Busy(seconds=reading / len(ground.order)),
        "works": Busy(passes=max(1, round(reading / (max(four - idle, 1e-3) / 4)))),
    }


def measure(ground: Ground, stream: str, policy: Busy, repetitions: int) -> dict[str, Any]:
    taken: list[tuple[float, float, float]] = []
    for _ in range(repetitions):
        reading = seconds_of(ground, stream, IDLE)
        alone = seconds_along(ground, None, policy)
        taken.append((reading, alone, seconds_of(ground, stream, policy)))
    hidden = sorted((r + p - both) / min(r, p) for r, p, both in taken)
    return {
        **{n: round(statistics.median(t[i] for t in taken), 3) for i, n in enumerate(TIMES)},
        "hidden": round(statistics.median(hidden), 2),
        "hidden_from_to": [round(hidden[0], 2), round(hidden[-1], 2)],
    }


def publish(url: str, dataset: Dataset, layout: str) -> Source:
    """Fill tables with the columns of a dataset; return the source over them."""
    from benchmarks.postgres.floor import Floor
    from benchmarks.postgres.samples import BLOCK as SAMPLES_OF_A_ROW
    from benchmarks.postgres.samples import Blocks, Rows, Samples, leaf_name
    from benchmarks.postgres.server import make_database, prepare_schema
    from modyn.metadata.source import Source

    own = make_database(url, layout)
    prepare_schema(own)
    kind = {"rows": Rows, "blocks": Blocks}[layout]()
    columns = Samples(np.arange(len(dataset), dtype=np.uint64), dataset.timestamps, dataset.labels)
    floor, parts = Floor(own), []
    for statement in kind.blank:
        floor.execute(statement)
    for leaf, first in enumerate(range(0, len(columns), LEAF)):
        part = columns.part(first, min(first + LEAF, len(columns)))
        floor.execute(f"BEGIN; {kind.create(leaf, part)}")
        if isinstance(kind, Blocks):
            copied = (part.first, part.timestamps, part.labels, SAMPLES_OF_A_ROW)
            floor.copy_blocks(kind.copy_in(leaf), *copied)
        else:
            keys = part.keys.view("int64")
            floor.copy_rows(kind.copy_in(leaf), keys, part.timestamps, part.labels)
        floor.execute("COMMIT")
        parts.append((leaf_name(leaf), first, len(part), 0))
    floor.execute("CHECKPOINT")
    floor.close()
    return Source(own, parts=parts, layout=layout, position="key", has_labels=True)


@contextmanager
def served(folder: Path, dataset: Dataset) -> Iterator[dict[str, Source]]:
    """The sources of a server of our own; none where there is none to be had."""
    try:
        from benchmarks.postgres.server import private_server
        from modyn.metadata import source as _  # noqa: F401
    except ImportError:
        yield {}
        return
    with private_server(folder / "server", {}) as server:
        yield {layout: publish(server.url, dataset, layout) for layout in ("rows", "blocks")}


def report(folder: Path, count: int, repetitions: int) -> dict[str, Any]:
    folder.chmod(0o711)  # the server's user has to get through
    dataset = make_dataset(folder / "stream", count)
    order = np.random.default_rng(1).permutation(count).astype(np.uint64)
    path = str(dataset.path)
    with served(folder, dataset) as sources:
        ground = Ground(path, order, sources)
        dataset.close()
        seconds = {}
        for stream in STREAMS:
            if stream in ("rows", "blocks") and stream not in sources:
                continue
            for name, policy in policies_for(ground, stream).items():
                seconds[f"{stream}, {name}"] = measure(ground, stream, policy, repetitions)
    return {
        "machine": machine_line(folder),
        "samples": count,
        "block": BLOCK,
        "load_after": round(os.getloadavg()[0], 2),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=int, default=8_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--where", help="a directory for dataset and server")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.where) as folder:
        found = report(Path(folder), given.samples, given.repetitions)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(found["machine"])
    print(f"{'':18s} {'reading':>9s} {'policy':>9s} {'together':>9s}   hidden")
    for name, row in found["seconds"].items():
        times = " ".join(f"{row[n]:8.3f}s" for n in TIMES)
        least, most = row["hidden_from_to"]
        print(f"{name:18s} {times} {row['hidden']:8.0%} ({least:.0%} to {most:.0%})")


if __name__ == "__main__":
    main()
