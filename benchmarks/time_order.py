"""What the time order of samples that arrived late costs.

    python -m benchmarks.time_order [--json] [--samples 10000000] [--where DIRECTORY]

A dataset of one-byte records without labels, timestamps in seconds, random within 34 years, all of
it in the page cache. One after the other in one process:

    argsort       numpy.argsort(timestamps, kind="stable"): in memory, not stored
    1 thread      the first time_order: sorted, written, synced, mapped and checked
    2 threads     the same again, after time.order was deleted
    stored        time_order from the file: mapped and checked
    late          1 percent more samples arrive, at random times: sorted and merged, a new file
    behind        1 percent more arrive, later than all before: put behind in the file
    numpy late    argsort of all, which is what each of the last two would cost without the file

Every order is compared with that of numpy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.machine import machine_line
from modyn.dataset import Dataset

APPEND = 1 << 20
SPAN = 34 * 365 * 86_400


def append(dataset: Dataset, times: np.ndarray) -> None:
    for first in range(0, len(times), APPEND):
        part = times[first : first + APPEND]
        dataset.append({"x": np.zeros(len(part), np.uint8)}, timestamps=part)


def report(folder: Path, count: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    dataset = Dataset.create(folder / "late", schema={"x": "uint8"}, labels=False)
    append(dataset, rng.integers(0, SPAN, size=count))
    stored = Path(dataset.path) / "time.order"
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], np.ndarray | None]) -> np.ndarray:
        started = time.perf_counter()
        order = work()
        seconds[name] = round(time.perf_counter() - started, 3)
        assert order is not None
        return order

    def right(order: np.ndarray) -> bool:
        return bool((order == expected.view(np.uint64)).all())

    dataset.timestamps.sum()  # verified, and in the page cache
    expected = timed("argsort", lambda: np.argsort(dataset.timestamps, kind="stable"))
    assert right(timed("1 thread", dataset.time_order))
    stored.unlink()
    assert right(timed("2 threads", lambda: dataset.time_order(threads=2)))
    assert right(timed("stored", lambda: dataset.time_order(threads=2)))
    append(dataset, rng.integers(0, SPAN, size=count // 100))
    expected = timed("numpy late", lambda: np.argsort(dataset.timestamps, kind="stable"))
    assert right(timed("late", lambda: dataset.time_order(threads=2)))
    append(dataset, SPAN + np.arange(count // 100))
    order = timed("behind", lambda: dataset.time_order(threads=2))
    assert right(order[: len(expected)])
    return {"machine": machine_line(folder), "samples": count, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--where", help="a directory for the dataset")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.where) as folder:
        found = report(Path(folder), given.samples)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(found["machine"])
    for name, taken in found["seconds"].items():
        print(f"{name:12s} {taken:8.3f} s   {given.samples / taken / 1e6:8.1f} M samples/s")


if __name__ == "__main__":
    main()
