"""How else records of varying length reach one buffer: the rivals of W5.

Each is used as its documentation, or its source, says is fastest:

    memmap slices    a memoryview of the mapping, slice by slice into a block used again
    memmap join      the same slices, b"".join
    pyarrow take     a large_binary array over the same bytes, its take
    LMDB             one read transaction, buffers=True, into a block used again
    one file each    open, readv into a block used again, close; the sizes are known
    files, DataLoader 2    two workers of a torch DataLoader that read a file per sample
    WebDataset       tars, front to back, whatever the keys are
    Lance take       one large_binary column, by row
    MosaicML         raw shards of 64 MiB on the disk, dataset[k]
"""

from __future__ import annotations

import importlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.loading.data import Keys
from benchmarks.loading.payloads import Ragged, Run, Store, Taking
from benchmarks.loading.rivals import missing, streaming_base
from benchmarks.loading.training_rivals import Given

SHARD = 1 << 26  # bytes
TARRED = 50_000  # records at most


def memmap_slices(store: Store) -> Run:
    packed = memoryview(store.packed)

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for (values, offsets), part in store.parts(keys):
            room, starts = memoryview(values), store.payloads.starts
            np.cumsum(store.payloads.sizes[part], out=offsets[1:])
            firsts, lasts = starts[part].tolist(), starts[part + 1].tolist()
            ends = offsets.tolist()
            for first, last, at, end in zip(firsts, lasts, ends, ends[1:], strict=False):
                room[at:end] = packed[first:last]
        return part, (values[: offsets[-1]], offsets)

    return run


def memmap_join(store: Store) -> Run:
    packed = memoryview(store.packed)

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for _, part in store.parts(keys):
            starts, offsets = store.payloads.starts, store.payloads.offsets(part)
            firsts, lasts = starts[part].tolist(), starts[part + 1].tolist()
            joined = b"".join([packed[a:b] for a, b in zip(firsts, lasts, strict=True)])
        return part, (np.frombuffer(joined, np.uint8), offsets)

    return run


def arrow_take(store: Store) -> Run:
    arrow = importlib.import_module("pyarrow")
    arrow.set_cpu_count(1)
    offsets = arrow.py_buffer(store.payloads.starts.astype(np.int64))
    buffers = [None, offsets, arrow.py_buffer(store.packed)]
    column = arrow.Array.from_buffers(arrow.large_binary(), store.payloads.count, buffers)

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for _, part in store.parts(keys):
            got = _of_arrow(column.take(arrow.array(part)))
        return part, got

    return run


def _of_arrow(column: Any) -> Ragged:
    _, ends, values = column.buffers()
    offsets = np.frombuffer(ends, np.int64)[column.offset :][: len(column) + 1]
    return np.frombuffer(values, np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0]


def lmdb_join(store: Store) -> Run:
    lmdb = importlib.import_module("lmdb")
    path = str(store.folder / "lmdb")
    size = 2 * int(store.payloads.starts[-1]) + (64 << 20)
    with lmdb.open(path, map_size=size, sync=False) as env, env.begin(write=True) as txn:
        names = (key.to_bytes(8, "big") for key in range(store.payloads.count))
        rows = ((name, bytes(part)) for name, part in zip(names, store.payloads, strict=True))
        txn.cursor().putmulti(rows, append=True)
    env = lmdb.open(path, map_size=size, readonly=True, readahead=False, lock=False)
    txn = env.begin(buffers=True)
    for value in txn.cursor().iternext(keys=False, values=True):
        bytes(value)  # every page is mapped from now on, as everybody's are

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for (values, offsets), part in store.parts(keys):
            room, get, end = memoryview(values), txn.get, 0
            raw = part.astype(">u8").tobytes()
            ends = [0]
            for at in range(0, len(raw), 8):
                found = get(raw[at : at + 8])
                start, end = end, end + len(found)
                room[start:end] = found
                ends.append(end)
            offsets[:] = ends
        return part, (values[:end], offsets)

    return run


def write_files(store: Store) -> list[str]:
    """Write one file for each record, at most a thousand to a directory."""
    paths = []
    for key, payload in enumerate(store.payloads):
        folder = store.folder / "files" / f"{key // 1000:04}"
        if key % 1000 == 0:
            folder.mkdir(parents=True)
        paths.append(str(folder / f"{key:09}.bin"))
        with open(paths[-1], "wb") as file:
            file.write(payload)
    return paths


def one_file_each(store: Store) -> Run:
    paths = write_files(store)

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for (values, offsets), part in store.parts(keys):
            room = memoryview(values)
            np.cumsum(store.payloads.sizes[part], out=offsets[1:])
            ends = offsets.tolist()
            for key, at, end in zip(part.tolist(), ends, ends[1:], strict=False):
                fd = os.open(paths[key], os.O_RDONLY)
                os.readv(fd, [room[at:end]])
                os.close(fd)
        return part, (values[: offsets[-1]], offsets)

    return run


def webdataset(store: Store) -> Run:
    module = importlib.import_module("webdataset")
    shards = write_tars(store)

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        size = store.kind.batch
        source = module.WebDataset(shards, shardshuffle=False, empty_check=False)
        rows: Iterator[Any] = iter(source.repeat())
        for _ in range(0, len(keys), size):
            got = [next(rows) for _ in range(size)]
            joined = b"".join([row["bin"] for row in got])
        part = np.array([int(row["__key__"]) for row in got], np.uint64)
        return part, (np.frombuffer(joined, np.uint8), store.payloads.offsets(part))

    return run


def write_tars(store: Store) -> list[str]:
    """Pack the first records into tars of some 64 MiB each: as many as are read, and more."""
    paths: list[str] = []
    per_tar = max(1, 2 * SHARD // (store.kind.least + store.kind.most))
    for first in range(0, min(store.payloads.count, TARRED), per_tar):
        paths.append(str(store.folder / f"{len(paths):06}.tar"))
        with tarfile.open(paths[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            for key in range(first, min(first + per_tar, store.payloads.count)):
                member = tarfile.TarInfo(f"{key:09}.bin")
                member.size = len(store.payloads[key])
                tar.addfile(member, io.BytesIO(store.payloads[key]))
    return paths


def lance_take(store: Store) -> Run:
    lance, arrow = importlib.import_module("lance"), importlib.import_module("pyarrow")
    starts = store.payloads.starts.astype(np.int64)

    def table(first: int, last: int) -> Any:
        ends = arrow.py_buffer(starts[first : last + 1] - starts[first])
        values = arrow.py_buffer(store.packed[starts[first] : starts[last]])
        column = arrow.Array.from_buffers(arrow.large_binary(), last - first, [None, ends, values])
        return arrow.record_batch([column], ["payload"])

    step = max(1, SHARD // store.kind.most)
    cuts = range(0, store.payloads.count, step)
    parts = (table(first, min(first + step, store.payloads.count)) for first in cuts)
    schema = arrow.schema([("payload", arrow.large_binary())])
    path = str(store.folder / "lance")
    dataset = lance.write_dataset(parts, path, schema=schema, data_storage_version="2.1")

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for _, part in store.parts(keys):
            column = dataset.take(part.tolist(), columns=["payload"]).column(0)
            got = [_of_arrow(chunk) for chunk in column.chunks]
        (payload,) = got
        return part, payload

    return run


def mosaicml(store: Store) -> Run:
    streaming = streaming_base()
    path = str(store.folder / "mds")
    with streaming.MDSWriter(out=path, columns={"payload": "bytes"}, size_limit=SHARD) as writer:
        for payload in store.payloads:
            writer.write({"payload": bytes(payload)})
    dataset = streaming.StreamingDataset(local=path, shuffle=False, batch_size=store.kind.batch)

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for _, part in store.parts(keys):
            joined = b"".join([dataset[key]["payload"] for key in part.tolist()])
        return part, (np.frombuffer(joined, np.uint8), store.payloads.offsets(part))

    return run


class Files(Dataset[bytes]):
    """One file per sample, as a torch dataset."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def __getitem__(self, key: int) -> bytes:
        with open(self._paths[key], "rb") as file:
            return file.read()


def joined(samples: list[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one block of the samples of a batch, and offsets."""
    values = torch.from_numpy(np.frombuffer(bytearray(b"".join(samples)), np.uint8))
    ends = np.cumsum([0, *map(len, samples)])
    return values, torch.from_numpy(ends)


def files_through_workers(store: Store) -> Run:
    """The way of most training scripts: a DataLoader whose workers read a file per sample."""
    given = Given()
    loader: DataLoader[Any] = DataLoader(
        Files(sorted(map(str, store.folder.glob("files/*/*.bin")))),
        batch_sampler=given,
        num_workers=2,
        collate_fn=joined,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    list(loader)  # the workers are forked now, before other rivals have threads

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        given.keys = [part.tolist() for _, part in store.parts(keys)]
        for values, offsets in loader:
            got = values.numpy(), offsets.numpy()
        return keys[-len(got[1]) + 1 :], got

    return run


@dataclass(frozen=True)
class Rival:
    """How to make it, what has to be installed, and how much of the work it does."""

    make: Callable[[Store], Run]
    needs: str = ""
    share: tuple[float, float] = (1.0, 1.0)  # of large records, and of small ones


RIVALS = {
    "memmap slices": Rival(memmap_slices),
    "memmap join": Rival(memmap_join),
    "pyarrow take": Rival(arrow_take, "pyarrow"),
    "LMDB": Rival(lmdb_join, "LMDB"),
    "one file each": Rival(one_file_each),
    "files, DataLoader 2": Rival(files_through_workers, "torch DataLoader", (0.5, 0.5)),
    "WebDataset": Rival(webdataset, "WebDataset", (0.25, 0.1)),
    "Lance take": Rival(lance_take, "Lance", (0.25, 0.1)),
    "MosaicML Streaming": Rival(mosaicml, "MosaicML Streaming", (0.25, 0.1)),
}


def rivals(store: Store) -> tuple[dict[str, Taking], list[str]]:
    """Return the rivals that are here, and a line for each of those that are not."""
    found: dict[str, Taking] = {}
    skipped: list[str] = []
    for name, rival in RIVALS.items():
        if "file" in name and not store.kind.as_files:
            continue
        absent = missing(rival.needs) if rival.needs else None
        if absent is not None:
            skipped.append(absent)
            continue
        share = rival.share[0 if store.kind.as_files else 1]
        found[name] = Taking(rival.make(store), share=share)
    os.sync()  # so that nobody is measured while the files of others are written back
    return found, skipped
