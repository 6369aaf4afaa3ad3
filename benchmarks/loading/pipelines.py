"""Rivals that bring batches to a loop: torch's DataLoader, SPDL, and a thread that reads ahead.

All of them gather with np.take from the mapping of the floor.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.loading.data import RECORD, Fields, Keys
from benchmarks.loading.ground import Ground
from benchmarks.loading.race import Way
from benchmarks.loading.stores import as_tensors

AHEAD = 4  # batches, as our loader's prefetch
LIMIT_S = 120  # for a batch: workers that stand still end with an error


def read_ahead(items: Iterable[Any]) -> Iterator[Any]:
    """Yield what another thread finds in time."""
    found: queue.Queue[Any] = queue.Queue(AHEAD)
    end = object()

    def read() -> None:
        for item in items:
            found.put(item)
        found.put(end)

    threading.Thread(target=read, daemon=True).start()
    while (item := found.get()) is not end:
        yield item


class Ring:
    """A torch dataset of the mapping by whole batches, into arrays that are used again."""

    def __init__(self, ground: Ground) -> None:
        self._memmap, self._rows, self._turn = ground.memmap, ground.rows, 0

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        self._turn = (self._turn + 1) % len(self._rows)
        out = self._rows[self._turn]
        np.take(self._memmap, positions, out=out, mode="clip")
        return out


class Shared:
    """The same for a worker process: straight into memory that the process of the loop maps.

    As torch's own default_collate does; the batch is not copied on its way.
    """

    def __init__(self, ground: Ground) -> None:
        self._memmap = ground.memmap

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> Any:
        import torch

        count = len(positions) * RECORD.itemsize
        empty = torch.empty(0, dtype=torch.uint8)
        storage = empty._typed_storage()._new_shared(count, device="cpu")
        out = empty.new(storage).resize_(count)
        np.take(self._memmap, positions, out=out.numpy().view("V160"), mode="clip")
        return out


class Batches:
    """A sampler of whole batches, of a size and of keys that change from epoch to epoch."""

    def __init__(self, batch: int, keys: Keys) -> None:
        self.batch, self.keys = batch, keys

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        positions = self.keys.view(np.int64)
        for first in range(0, len(positions), self.batch):
            yield positions[first : first + self.batch]

    def __len__(self) -> int:
        return len(self.keys) // self.batch


def _last(keys: Keys, batch: int, tensors: dict[str, Any]) -> tuple[Keys, Fields]:
    return keys[-batch:], {name: tensor.numpy() for name, tensor in tensors.items()}


def thread_ahead(ground: Ground) -> Way:
    """np.take on a thread that reads ahead, without any library."""
    ring, batch = Ring(ground), ground.batch

    def run(keys: Keys) -> tuple[Keys, Fields]:
        sampler = Batches(batch, keys)
        for rows in read_ahead(ring[positions] for positions in sampler):
            tensors = as_tensors(rows)
        return _last(keys, batch, tensors)

    return Way(run)


def dataloader(ground: Ground, workers: int) -> Way:
    """torch's DataLoader over whole batches, batch_size=None.

    Without workers it runs on a thread that reads ahead.  Workers are forked once and stay.
    """
    from torch.utils.data import DataLoader

    sampler = Batches(256, np.arange(2048, dtype=np.uint64))
    dataset = Shared(ground) if workers else Ring(ground)
    loader = DataLoader(
        dataset,  # type: ignore[arg-type]
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        timeout=LIMIT_S if workers else 0,
        collate_fn=_as_it_is,
    )
    if workers:
        for _ in loader:  # now they are there, before this process has threads
            pass

    def prepare(keys: Keys) -> None:
        sampler.batch, sampler.keys = ground.batch, keys

    def run(keys: Keys) -> tuple[Keys, Fields]:
        for rows in loader if workers else read_ahead(loader):
            tensors = as_tensors(rows.numpy().view("V160") if workers else rows)
        return _last(keys, ground.batch, tensors)

    return Way(run, prepare)


def _as_it_is(batch: Any) -> Any:
    return batch


def spdl(ground: Ground, threads: int = 2) -> Way:
    """np.take as a stage of an SPDL pipeline, on so many threads."""
    from spdl.pipeline import PipelineBuilder

    batch = ground.batch

    def take(numbered: tuple[int, npt.NDArray[np.int64]]) -> npt.NDArray[Any]:
        number, positions = numbered
        out = ground.rows[number % len(ground.rows)]
        np.take(ground.memmap, positions, out=out, mode="clip")
        return out

    def run(keys: Keys) -> tuple[Keys, Fields]:
        sampler = Batches(batch, keys)
        pipeline = (
            PipelineBuilder()
            .add_source(enumerate(sampler))
            .pipe(take, concurrency=threads, output_order="input")
            .add_sink(AHEAD)
            .build(num_threads=threads)
        )
        with pipeline.auto_stop():
            for rows in pipeline:
                tensors = as_tensors(rows)
        return _last(keys, batch, tensors)

    return Way(run)
