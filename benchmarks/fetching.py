"""Fetch by key while the dataset changes.

With erased samples: the views of one handle from before and after each erasure share
one mapping, and fetch the same keys, all of them of samples that are still there.

While another process appends: the same handle and view, with and without a process
that appends batches of 64 Ki records to the same dataset without a pause.  Two
processes share the memory, the disk and a core or two, so that the same fetch next
to a process that writes the same bytes to a file is what is possible (`beside writes`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.appending import SCHEMA, batch_of
from benchmarks.loading.cache import forget as read_in_again
from benchmarks.machine import mapping_state
from benchmarks.measure import Outcome, Seconds, Settings, Stopwatch, in_turns

BATCH = 1 << 16
ROTATE = 4
SHARES = (0.0, 0.01, 0.1, 0.5)

# Appends, or writes, while a line of input says so; answers a line when it has begun
# or ended.
WRITER = """
import os, select, sys, numpy, modyn
from benchmarks.appending import Appending, batch_of, load_floor, succeed
what, path = sys.argv[1:]
batch = batch_of(9)
if what == "append":
    dataset = modyn.Dataset.open(path, mode="w")
else:
    floor, size = load_floor(), 176 << 16
    content = numpy.ones(size, numpy.uint8)
    os.mkdir(path)
done, fd = 0, -1
def work():
    global done, fd
    if what == "append":
        dataset.append(**batch)
    else:
        if done % 16 == 0:
            if fd >= 0:
                os.close(fd)
            fd = succeed(floor.floor_create(os.fsencode(f"{path}/{done}"), 16 * size))
        succeed(floor.floor_write(fd, content.ctypes.data, size, done % 16 * size, 1 << 20, 1))
    done += 1
for line in sys.stdin:
    work()
    print("begun", flush=True)
    before = done
    while not select.select([sys.stdin], [], [], 0)[0]:
        work()
    sys.stdin.readline()
    print(done - before, flush=True)
"""

View = Any
Keys = npt.NDArray[np.uint64]


class Writer:
    """A process that works between `begin` and `end`."""

    def __init__(self, what: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, what, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.batches = 0

    def _ask(self) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def begin(self) -> None:
        assert self._ask() == "begun\n", "the writing process has died"

    def end(self) -> None:
        self.batches += int(self._ask())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Fetching:
    """A dataset whose samples are known, and outputs that take turns."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.folder / "fetched"
        self.count = settings.size(4 << 20, 1 << 20)
        self.batches = settings.size(40, 8)
        batch = batch_of(7)
        with modyn.Dataset.create(self.path, schema=SCHEMA) as dataset:
            for _ in range(self.count // BATCH):
                dataset.append(**batch)
        read_in_again(self.path)
        self.truth = batch["fields"]
        self.dataset = modyn.Dataset.open(self.path)
        self.dataset.view.warm()
        self.outputs = [
            {name: np.zeros_like(values) for name, values in self.truth.items()}
            for _ in range(ROTATE)
        ]
        self.random = np.random.default_rng(8)
        self.keys = np.zeros(0, np.uint64)
        self.checked = 0

    def draw(self, among: Keys | None = None) -> None:
        """Choose the keys of a repetition."""
        size = self.batches * BATCH
        if among is None:
            self.keys = self.random.integers(self.count, size=size, dtype=np.uint64)
        else:
            self.keys = among[self.random.integers(len(among), size=size)]

    def run(self, view: View) -> Seconds:
        watch = Stopwatch()
        for number in range(self.batches):
            part = self.keys[number * BATCH : (number + 1) * BATCH]
            out = self.outputs[number % ROTATE]
            targets = tuple((i, out[name], None) for i, name in enumerate(SCHEMA))
            view.fetch(part, targets, None, None, 1)
        taken = watch.stop()
        for name, values in self.truth.items():
            assert np.array_equal(out[name], values[part % BATCH]), name
        self.checked += 1
        return taken

    def close(self) -> None:
        self.dataset.close()
        shutil.rmtree(self.path)


def _views(bench: Fetching) -> tuple[dict[str, View], Keys]:
    """Erase more and more; return the view after each step, and the keys that are left."""
    bench.dataset.close()
    bench.dataset = modyn.Dataset.open(bench.path, mode="w")
    order = np.random.default_rng(6).permutation(bench.count).astype(np.uint64)
    views, done = {}, 0
    for share in SHARES:
        wanted = int(share * bench.count)
        if wanted > done:
            bench.dataset.erase(np.sort(order[done:wanted]), reason="benchmark")
        done = wanted
        views["none erased" if share == 0 else f"{share:.0%} erased"] = bench.dataset.view
    views["none erased"].warm()
    return views, np.sort(order[done:])


def erased_line(settings: Settings) -> Outcome:
    outcome = Outcome("fetch by key, samples erased", 0.95, "none erased", "1% erased")
    bench = Fetching(settings)
    views, left = _views(bench)

    def contender(name: str) -> Any:
        def run(repetition: int) -> Seconds:
            if seen.setdefault("repetition", None) != repetition:
                bench.draw(left)
                seen["repetition"] = repetition
            return bench.run(views[name])

        return run

    seen: dict[str, Any] = {}
    in_turns(outcome, {name: contender(name) for name in views}, settings.repetitions)
    outcome.work, outcome.unit = bench.batches * BATCH / 1e6, "M records"
    outcome.checked = bench.checked
    outcome.facts["mapped_mib"] = mapping_state(bench.path, ".seg")
    bench.close()
    return outcome


def appending_line(settings: Settings) -> Outcome:
    outcome = Outcome(
        "fetch by key while another process appends", 0.95, "beside writes", "beside appends"
    )
    bench = Fetching(settings)
    writers = {
        "beside writes": Writer("write", settings.folder / "beside"),
        "beside appends": Writer("append", bench.path),
    }
    view, seen = bench.dataset.view, {"repetition": -2}

    def contender(name: str) -> Any:
        def run(repetition: int) -> Seconds:
            if seen["repetition"] != repetition:
                bench.draw()
                seen["repetition"] = repetition
            writer = writers.get(name)
            if writer is None:
                return bench.run(view)
            writer.begin()
            try:
                return bench.run(view)
            finally:
                writer.end()

        return run

    names = ("beside writes", "alone", "beside appends")
    in_turns(outcome, {name: contender(name) for name in names}, settings.repetitions)
    outcome.work, outcome.unit = bench.batches * BATCH / 1e6, "M records"
    outcome.checked = bench.checked
    for name, writer in writers.items():
        writer.close()
        outcome.facts[f"batches_{name.replace(' ', '_')}"] = writer.batches
    shutil.rmtree(settings.folder / "beside")
    bench.close()
    return outcome
