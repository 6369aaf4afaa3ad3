"""Ways to fetch by position from memory that is mapped: the floors, ours, NumPy's and torch's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import modyn
from benchmarks.loading.data import SCHEMA, Fields, Keys
from benchmarks.loading.ground import Ground, split_rows
from benchmarks.loading.race import Way

Batch = Callable[[int, int], None]  # which output, where the keys begin


def _in_threads(ground: Ground, keys: Keys, one: Batch, threads: int) -> tuple[Keys, int]:
    """Do every batch; each thread every so manieth, into outputs that are its own.

    Return keys and output of the last.
    """
    count = len(keys) // ground.batch
    rotate = len(ground.outputs) // threads * threads

    def work(first: int) -> None:
        for number in range(first, count, threads):
            one(number % rotate, number * ground.batch)

    if threads == 1:
        work(0)
    else:
        team = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
    return keys[(count - 1) * ground.batch : count * ground.batch], (count - 1) % rotate


def floor(ground: Ground, threads: int = 1) -> Way:
    """Gather in C into three arrays (floor.c)."""
    gather, base, batch = ground.floor.floor_gather, ground.base, ground.batch

    def run(keys: Keys) -> tuple[Keys, Fields]:
        start = keys.ctypes.data

        def one(slot: int, at: int) -> None:
            gather(base, start + 8 * at, batch, *ground.addresses[slot])

        part, slot = _in_threads(ground, keys, one, threads)
        return part, ground.outputs[slot]

    return Way(run, kind="floor")


def floor_rows(ground: Ground, threads: int = 1) -> Way:
    """Gather in C, records as they are."""
    gather, base, batch = ground.floor.floor_gather_rows, ground.base, ground.batch
    targets = [rows.ctypes.data for rows in ground.rows]

    def run(keys: Keys) -> tuple[Keys, Fields]:
        start = keys.ctypes.data

        def one(slot: int, at: int) -> None:
            gather(base, start + 8 * at, batch, targets[slot])

        part, slot = _in_threads(ground, keys, one, threads)
        return part, split_rows(ground.rows[slot])

    return Way(run, kind="floor")


def fetch(ground: Ground, threads: int = 1, callers: int = 1) -> Way:
    """Dataset.fetch into arrays that are used again."""
    dataset, batch = ground.dataset, ground.batch

    def run(keys: Keys) -> tuple[Keys, Fields]:
        def one(slot: int, at: int) -> None:
            dataset.fetch(keys[at : at + batch], out=ground.outputs[slot], threads=threads)

        part, slot = _in_threads(ground, keys, one, callers)
        return part, ground.outputs[slot]

    return Way(run, kind="ours")


def take(ground: Ground, threads: int = 1) -> Way:
    """np.take of records as opaque items (void), into arrays that are used again."""
    memmap, batch = ground.memmap, ground.batch

    def run(keys: Keys) -> tuple[Keys, Fields]:
        positions = keys.view(np.int64)

        def one(slot: int, at: int) -> None:
            np.take(memmap, positions[at : at + batch], out=ground.rows[slot], mode="clip")

        part, slot = _in_threads(ground, keys, one, threads)
        return part, split_rows(ground.rows[slot])

    return Way(run)


def index(ground: Ground) -> Way:
    """NumPy's fancy index: memmap[keys]."""
    kept: list[Any] = [None]

    def run(keys: Keys) -> tuple[Keys, Fields]:
        positions = keys.view(np.int64)

        def one(slot: int, at: int) -> None:
            kept[0] = ground.memmap[positions[at : at + ground.batch]]

        part, _ = _in_threads(ground, keys, one, 1)
        return part, split_rows(kept[0])

    return Way(run)


def _as_tensor(ground: Ground) -> Any:
    """Return the mapping as a torch tensor of 40 floats a record."""
    from torch import from_numpy

    return from_numpy(ground.memmap.view(np.float32).reshape(-1, 40))


def torch_index(ground: Ground) -> Way:
    """The index of a tensor: tensor[keys]."""
    from torch import from_numpy

    tensor, kept = _as_tensor(ground), [None]

    def run(keys: Keys) -> tuple[Keys, Fields]:
        positions = from_numpy(keys.view(np.int64))

        def one(slot: int, at: int) -> None:
            kept[0] = tensor[positions[at : at + ground.batch]]

        part, _ = _in_threads(ground, keys, one, 1)
        return part, split_rows(kept[0].numpy().view("V160")[:, 0])  # type: ignore[attr-defined]

    return Way(run)


def torch_select(ground: Ground, threads: int = 1) -> Way:
    """torch.index_select into tensors that are used again; it may use so many threads."""
    import torch

    tensor = _as_tensor(ground)
    outputs = [torch.from_numpy(rows.view(np.float32).reshape(-1, 40)) for rows in ground.rows]

    def run(keys: Keys) -> tuple[Keys, Fields]:
        positions = torch.from_numpy(keys.view(np.int64))

        def one(slot: int, at: int) -> None:
            torch.index_select(tensor, 0, positions[at : at + ground.batch], out=outputs[slot])

        torch.set_num_threads(threads)
        part, slot = _in_threads(ground, keys, one, 1)
        torch.set_num_threads(1)
        return part, split_rows(ground.rows[slot])

    return Way(run)


def loader(ground: Ground, *, shuffle: bool = False, threads: int = 1, **more: Any) -> Way:
    """A Loader in a Python loop that takes the three tensors of each batch.

    One object for an epoch before, so that the memory of batches is used again, as it is from
    the second epoch on.
    """
    kept: list[Any] = []

    def prepare(keys: Keys) -> None:
        kept[:] = [
            modyn.Loader(
                ground.dataset,
                np.sort(keys) if shuffle else keys,
                batch_size=ground.batch,
                shuffle="global" if shuffle else False,
                threads=threads,
                **more,
            )
        ]
        for _, batch in zip(range(12), kept[0], strict=False):
            del batch
        kept[0].set_epoch(1)

    def run(keys: Keys) -> tuple[Keys, Fields]:
        for batch in kept[0]:
            tensors = batch["label"], batch["dense"], batch["cat"]
        fields = zip(SCHEMA, (tensor.numpy() for tensor in tensors), strict=True)
        return batch.numpy("keys"), dict(fields)

    return Way(run, prepare, kind="ours", close=kept.clear)
