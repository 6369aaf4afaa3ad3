"""How else a training loop is fed by random key: the rivals of training.py.

    np.take             in the loop, into memory that takes turns
    np.take thread      the same in a thread that is up to 4 batches ahead
    DataLoader N        torch, whole batches of np.take (batch_size=None), N workers
    SPDL                a pipeline of np.take on two threads, 4 batches ahead
    a file at a time    the way of per-sample Python: a worker opens, seeks, reads and unpacks
                        each sample, two DataLoader workers collate them; a part of the work

Front-to-back formats (WebDataset, MosaicML shards) are not here: they unpack sample by sample,
and a record of 160 bytes costs them a hundred times what it costs to copy.
"""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.loading.data import RECORD
from benchmarks.loading.ground import split_rows
from benchmarks.loading.training import Feed, Stage, Tensors, tensors

AHEAD = 4
PART = 8  # of the batches, for who takes samples one by one

Rows = npt.NDArray[Any]


def take_inline(stage: Stage) -> Feed:
    def feed(repetition: int) -> Iterator[Tensors]:
        for number, part in enumerate(stage.keys()):
            out = stage.ground.rows[number % len(stage.ground.rows)]
            yield tensors(split_rows(np.take(stage.ground.memmap, part, out=out, mode="clip")))

    return feed


def take_thread(stage: Stage) -> Feed:
    """Outputs take turns: more of them than batches ahead and in the loop's hands."""
    rows = stage.ground.rows
    assert len(rows) >= AHEAD + 2

    def produce(keys: Rows, ready: queue.Queue[Rows | None]) -> None:
        for number, part in enumerate(keys):
            out = rows[number % len(rows)]
            ready.put(np.take(stage.ground.memmap, part, out=out, mode="clip"))
        ready.put(None)

    def feed(repetition: int) -> Iterator[Tensors]:
        ready: queue.Queue[Rows | None] = queue.Queue(AHEAD - 1)
        thread = threading.Thread(target=produce, args=(stage.keys(), ready))
        thread.start()
        while (got := ready.get()) is not None:
            yield tensors(split_rows(got))
        thread.join()

    return feed


class Rows160(Dataset[torch.Tensor]):
    """Whole batches of records by key, for a DataLoader with batch_size=None."""

    def __init__(self, memmap: Rows) -> None:
        self._memmap = memmap

    def __getitem__(self, keys: Any) -> torch.Tensor:
        rows = np.take(self._memmap, keys, mode="clip")
        return torch.from_numpy(rows.view(np.uint8).reshape(-1, RECORD.itemsize))


class Given:
    """A sampler that yields the keys of the repetition."""

    def __init__(self) -> None:
        self.keys: Any = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def data_loader(stage: Stage, workers: int) -> Feed:
    given = Given()
    loader: DataLoader[torch.Tensor] = DataLoader(
        Rows160(stage.ground.memmap),
        batch_size=None,
        sampler=given,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=AHEAD // workers if workers else None,
        multiprocessing_context="fork" if workers else None,
    )

    def feed(repetition: int) -> Iterator[Tensors]:
        given.keys = stage.keys()
        for rows in loader:
            yield tensors(split_rows(rows.numpy().view("V160")[:, 0]))

    return feed


def spdl(stage: Stage) -> Feed:
    pipeline = importlib.import_module("spdl.pipeline")
    rows = stage.ground.rows

    def take(job: tuple[int, Rows]) -> Rows:
        number, part = job
        out = rows[number % len(rows)]
        return np.take(stage.ground.memmap, part, out=out, mode="clip")

    def feed(repetition: int) -> Iterator[Tensors]:
        builder = pipeline.PipelineBuilder().add_source(enumerate(stage.keys()))
        built = builder.pipe(take, concurrency=2).add_sink(1).build(num_threads=2)
        with built.auto_stop():
            for got in built:
                yield tensors(split_rows(got))

    return feed


class Samples(Dataset[bytes]):
    """One sample at a time, read from its file as the published storage does."""

    def __init__(self, paths: list[Path], per_file: int) -> None:
        self._paths, self._per_file = paths, per_file

    def __getitem__(self, key: int) -> bytes:
        file, row = divmod(int(key), self._per_file)
        with self._paths[file].open("rb") as opened:
            opened.seek(row * RECORD.itemsize)
            return opened.read(RECORD.itemsize)


def unpack(samples: list[bytes]) -> Tensors:
    """Make a tensor of each sample, and stack them."""
    rows = torch.stack([torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in samples])
    return tensors(split_rows(rows.numpy().view("V160")[:, 0]))


def sample_by_sample(stage: Stage) -> Feed:
    given = Given()
    paths = sorted(stage.ground.path.glob("*.seg"))
    loader: DataLoader[Any] = DataLoader(
        Samples(paths, paths[0].stat().st_size // RECORD.itemsize),
        batch_sampler=given,
        num_workers=2,
        collate_fn=unpack,
        persistent_workers=True,
        prefetch_factor=AHEAD // 2,
        multiprocessing_context="fork",
    )
    list(loader)  # the workers are forked now, before other rivals have threads

    def feed(repetition: int) -> Iterator[Tensors]:
        given.keys = [part.tolist() for part in stage.keys()[: max(1, stage.batches // PART)]]
        yield from loader

    return feed


def rivals(stage: Stage) -> tuple[dict[str, Feed], list[str]]:
    """Return the rivals that are installed, and a line for each of the others."""
    makers: dict[str, Callable[[], Feed]] = {
        "np.take": lambda: take_inline(stage),
        "np.take thread": lambda: take_thread(stage),
        "DataLoader 0": lambda: data_loader(stage, 0),
        "DataLoader 2": lambda: data_loader(stage, 2),
        "SPDL": lambda: spdl(stage),
        "a file at a time": lambda: sample_by_sample(stage),
    }
    found: dict[str, Feed] = {}
    skipped: list[str] = []
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError as error:
            skipped.append(f"{name} is not here: {error}")
    return found, skipped
