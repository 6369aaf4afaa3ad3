"""Batches on a GPU: how near the copies come to the link, and whether the GPU waits for data.

    python -m benchmarks.cuda [--json] [--quick] [--records N]

W15 in two parts, with batches of 65,536 records of 160 bytes, whose fields are copied one by one:

copies  Pinned batches that are ready go to the GPU, and nothing else happens.

    one buffer        one pinned buffer of as many bytes, copied again and again: cudaMemcpyAsync
                      behind one another, the floor
    transfer stage    the last stage of a Loader over batches that are ready
    loader            a Loader with device="cuda", which gathers the records by random key, too
    DataLoader        torch's, by random key, with pin_memory=True and 2 workers

training  A DLRM trains on them.  The GPU's own clock (events on its stream) says how long a step
    takes and how long the stream stands still before the next one: "idle" is the second as a share
    of both.  "One batch" trains on one batch again and again: what is idle there is the loop's.

Without a GPU nothing is measured, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import modyn
from benchmarks.loading.data import RECORD, SCHEMA, check, keys_of
from benchmarks.loading.ground import Ground, split_rows
from benchmarks.loading.site import Site
from benchmarks.loading.training import Model, Tensors
from benchmarks.machine import machine_line
from benchmarks.measure import Bar, Outcome, Seconds, Stopwatch, in_turns, spread
from benchmarks.section import Section, Table, Verdict, print_section
from modyn.loader.batch import Batch
from modyn.loader.device import OnDevice, open_backend
from modyn.loader.waits import Waits

BATCH = 65_536
READY = 4  # batches that take turns where they are ready
WARM_UP = 8  # batches before the clock: pinned memory, kernels, allocators
DEVICE = "cuda"


class Repeated:
    """A stage of batches that are ready, as a Loader's stages see one."""

    def __init__(self, batches: list[Batch], count: int) -> None:
        self._batches = batches
        self._left = count
        self.read_waits: Callable[[], Waits] = Waits

    def __next__(self) -> Batch:
        if self._left == 0:
            raise StopIteration
        self._left -= 1
        return self._batches[self._left % len(self._batches)]

    def close(self) -> None:
        self._left = 0


class Stage:
    """The records, and batches of them in pinned memory."""

    def __init__(self, site: Site) -> None:
        self.ground = Ground(site.dataset, BATCH)
        self.records = self.ground.records
        self.batches = site.size(64, 16)
        self.backend = open_backend(DEVICE)
        self._random = np.random.default_rng(43)
        self.ready = [self._ready() for _ in range(READY)]
        # What the Loader brings along, too: the keys.
        self.bytes = BATCH * (RECORD.itemsize + 8)

    def draw(self, batches: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
        return self._random.integers(self.records, size=batches * BATCH, dtype=np.uint64)

    def _ready(self) -> Batch:
        keys = self.draw(1)
        fetched = self.ground.dataset.fetch(keys)
        fields = {name: self._pinned(np.asarray(fetched[name])) for name in SCHEMA}
        return Batch.of_values(BATCH, {"keys": self._pinned(keys)}, fields)

    def _pinned(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        pinned = self.backend.pinned(array.nbytes).view(array.dtype).reshape(array.shape)
        pinned[...] = array
        return pinned

    def loader(self, batches: int, threads: int) -> Iterator[Any]:
        samples = self.draw(batches)
        return iter(
            modyn.Loader(
                self.ground.dataset, samples, batch_size=BATCH, threads=threads, device=DEVICE
            )
        )

    def transfers(self, batches: int) -> Iterator[Any]:
        return OnDevice(Repeated(self.ready, batches), self.backend, first=0, stride=1)

    def data_loader(self, batches: int) -> Iterator[Tensors]:
        """Yield what torch's DataLoader brings, by its own advice for batches of arrays."""
        from torch.utils.data import DataLoader, Dataset

        rows = self.ground.memmap

        class Rows(Dataset[Any]):
            def __len__(self) -> int:
                return len(rows)

            def __getitem__(self, index: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
                taken = split_rows(rows[index])
                return [torch.from_numpy(np.ascontiguousarray(taken[name])) for name in SCHEMA]

        # Whole batches of keys as arrays: nothing is cheaper to send to a worker.
        sampler = list(self.draw(batches).astype(np.int64).reshape(batches, BATCH))
        feed = DataLoader(Rows(), sampler=sampler, batch_size=None, num_workers=2, pin_memory=True)
        for tensors in feed:
            label, dense, cat = (tensor.to(DEVICE, non_blocking=True) for tensor in tensors)
            yield label, dense, cat


def tensors_of(batches: Iterable[Batch]) -> Iterator[Tensors]:
    for batch in batches:
        yield batch["label"], batch["dense"], batch["cat"]


def check_last(name: str, last: Tensors) -> None:
    """Compare a batch on the GPU with the truth."""
    label, dense, cat = (tensor.cpu().numpy() for tensor in last)
    check(name, keys_of(label), {"label": label, "dense": dense, "cat": cat})


# Copies ------------------------------------------------------------------------------------------


def measure_copies(stage: Stage, repetitions: int) -> Outcome:
    buffer = torch.from_numpy(stage.backend.pinned(stage.bytes))

    def one_buffer(count: int) -> None:
        stream = torch.cuda.Stream()
        target = torch.empty(stage.bytes, dtype=torch.uint8, device=DEVICE)
        with torch.cuda.stream(stream):
            for _ in range(count):
                target.copy_(buffer, non_blocking=True)

    def contender(name: str, feed: Callable[[int], Iterator[Tensors]]) -> Callable[[int], Seconds]:
        def run(repetition: int) -> Seconds:
            batches = feed(stage.batches + WARM_UP)
            for _ in range(WARM_UP):
                last = next(batches)
            torch.cuda.synchronize()
            watch = Stopwatch()
            for batch in batches:
                last = batch
            torch.cuda.synchronize()
            seconds = watch.stop()
            check_last(name, last)
            return seconds

        return run

    def floor(repetition: int) -> Seconds:
        one_buffer(WARM_UP)
        torch.cuda.synchronize()
        watch = Stopwatch()
        one_buffer(stage.batches)
        torch.cuda.synchronize()
        return watch.stop()

    outcome = Outcome("copies to the GPU", 0.9, "one buffer", "transfer stage", unit="GB")
    outcome.work = stage.batches * stage.bytes / 1e9
    outcome.kinds = {"one buffer": "floor", "transfer stage": "ours", "loader": "ours"}
    outcome.bars = [Bar("loader", "DataLoader", 1.5, always=True)]
    # The transfers ahead of the clock are a part of it that the floor has not got: AHEAD of them.
    in_turns(
        outcome,
        {
            "one buffer": floor,
            "transfer stage": contender("stage", lambda n: tensors_of(stage.transfers(n))),
            "loader": contender("loader", lambda n: tensors_of(stage.loader(n, 4))),
            "DataLoader": contender("DataLoader", stage.data_loader),
        },
        repetitions,
    )
    return outcome


# Training ----------------------------------------------------------------------------------------


class Training:
    """A DLRM on the GPU, and the clock of its stream."""

    def __init__(self) -> None:
        self.model = Model().to(DEVICE)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def step(self, batch: Tensors) -> None:
        label, dense, cat = batch
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            self.model(dense, cat), (label & 1).float()
        )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def run(self, batches: Iterator[Tensors]) -> tuple[float, float]:
        """Train on all batches; return the share of idle time, and milliseconds of a step."""
        for _ in range(WARM_UP):
            self.step(next(batches))
        marks = []
        for batch in batches:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()  # behind the wait for the copy
            self.step(batch)
            end.record()
            marks.append((begin, end))
        torch.cuda.synchronize()
        steps = [begin.elapsed_time(end) for begin, end in marks]
        gaps = [a[1].elapsed_time(b[0]) for a, b in itertools.pairwise(marks)]
        return sum(gaps) / (sum(gaps) + sum(steps)), statistics.median(steps)


def measure_training(stage: Stage, repetitions: int) -> tuple[Table, Verdict]:
    training = Training()
    one = next(tensors_of(stage.transfers(1)))
    feeds: dict[str, Callable[[int], Iterator[Tensors]]] = {
        "one batch": lambda count: iter([one] * count),
        "loader, 1 thread": lambda count: tensors_of(stage.loader(count, 1)),
        "loader, 4 threads": lambda count: tensors_of(stage.loader(count, 4)),
        "DataLoader, 2 workers": stage.data_loader,
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in feeds}
    for repetition in range(repetitions):
        names = list(feeds)
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            seen[name].append(training.run(feeds[name](stage.batches + WARM_UP)))
    rows: list[list[Any]] = []
    for name, pairs in seen.items():
        idle = spread([share for share, _ in pairs])
        step = statistics.median(milliseconds for _, milliseconds in pairs)
        rows.append([name, f"{idle['median']:.1%}", f"{idle['max']:.1%}", f"{step:.3f}"])
    table = Table("a DLRM at batch 65,536", ["", "GPU idle", "at most", "step, ms"], rows)
    beyond = [
        ours - loop
        for (ours, _), (loop, _) in zip(seen["loader, 4 threads"], seen["one batch"], strict=True)
    ]
    share = statistics.median(beyond)
    verdict = Verdict(
        "idle with the loader, beyond that of one batch", "<= 5 %", f"{share:.1%}", share <= 0.05
    )
    return table, verdict


# All of it ---------------------------------------------------------------------------------------


def measure(site: Site) -> Section:
    """Measure W15 on the GPU that is there."""
    stage = Stage(site)
    name = torch.cuda.get_device_name()
    section = Section("W15", "Batches on a GPU", f"{name}; {__doc__.split(chr(10) * 2, 1)[1]}")
    started = time.perf_counter()
    section.lines.append(measure_copies(stage, site.repetitions))
    table, verdict = measure_training(stage, site.repetitions)
    section.tables.append(table)
    section.verdicts.append(verdict)
    section.notes.append(f"on {name}, torch {torch.__version__}")
    section.seconds = round(time.perf_counter() - started, 1)
    stage.ground.close()
    return section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--records", type=int)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), options.quick, options.records)
        section = measure(site)
        if not options.json:
            print(machine_line(site.folder))
            print_section(section)
            return
        document = {
            "benchmark": "cuda",
            "command": " ".join(["python -m benchmarks.cuda", *sys.argv[1:]]),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine_line(site.folder),
            "quick": options.quick,
            "sections": [section.as_json()],
        }
        print(json.dumps(document))


if __name__ == "__main__":
    main()
