"""Rivals that keep records in files of their own, each read as its documentation says is fastest.

A store holds the first records of the dataset, fewer where it takes long to write, which is to
its advantage, and returns a batch of them by key.  Its files are read in anew in huge pages.
Those that like their keys sorted get to sort them and return the batch in that order: a training
loop would not mind.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.loading.cache import read_in_huge
from benchmarks.loading.data import RECORD, Fields, Keys, keys_of
from benchmarks.loading.ground import split_rows
from benchmarks.loading.race import Way

SIZE = RECORD.itemsize
Rows = npt.NDArray[Any]


class Store:
    """Records in the files of somebody else."""

    name = ""
    share = 1.0  # of the keys of a repetition that it fetches, at its speed
    times = 1  # so many times as many records as those that take long to write

    def __init__(self, folder: Path, rows: Rows, some: int) -> None:
        self.rows = rows[: self.times * some]
        self.records = len(self.rows)
        self.path = folder / f"{type(self).__name__.lower()}-{self.records}"
        self.build_s = 0.0
        done = Path(f"{self.path}.seconds")
        if done.exists():
            self.build_s = float(done.read_text())
        else:
            started = time.perf_counter()
            self.build()
            self.build_s = time.perf_counter() - started
            done.write_text(f"{self.build_s}")
        read_in_huge(self.path)
        self.open()

    def pieces(self, size: int = 1 << 18) -> Iterator[Rows]:
        """Yield all rows, some at a time."""
        for first in range(0, self.records, size):
            yield self.rows[first : first + size]

    def build(self) -> None:
        """Write the store."""
        raise NotImplementedError

    def open(self) -> None:
        """Open it for reading."""
        raise NotImplementedError

    def batch(self, keys: Keys) -> tuple[Keys, Rows]:
        """Return rows of 160 bytes, and their keys in the same order."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is open."""

    def way(self, batch: int) -> Way:
        """Fetch batch by batch, each shown as three tensors."""

        def run(keys: Keys) -> tuple[Keys, Fields]:
            wanted = keys % np.uint64(self.records)
            for first in range(0, len(keys), batch):
                part, rows = self.batch(wanted[first : first + batch])
                tensors = as_tensors(rows)
            return part, {name: tensor.numpy() for name, tensor in tensors.items()}

        return Way(run, share=self.share, close=self.close)


def as_tensors(rows: Rows) -> dict[str, Any]:
    """Show rows as three tensors, interleaved as they are."""
    from torch import from_numpy

    return {name: from_numpy(values) for name, values in split_rows(rows).items()}


class Lmdb(Store):
    """LMDB by 8-byte keys: one read transaction, keys sorted per batch, buffers joined."""

    name = "LMDB"
    share = 1 / 16

    def names(self) -> tuple[Keys, Rows]:
        """Return what the records are called, ascending, and the records in that order."""
        return np.arange(self.records, dtype=np.uint64), self.rows

    def build(self) -> None:
        import lmdb

        names, rows = self.names()
        size = (16 << 20) + 4096 * (self.records // 8)  # eight to a page; fifteen fit
        env = lmdb.open(str(self.path), map_size=size, writemap=True, sync=False, lock=False)
        with env.begin(write=True) as transaction:
            cursor = transaction.cursor()
            for first in range(0, len(names), 1 << 18):
                part = slice(first, first + (1 << 18))
                pairs = zip(names[part].tolist(), rows[part], strict=True)
                cursor.putmulti(
                    [(name.to_bytes(8), row.tobytes()) for name, row in pairs], append=True
                )
        env.close()

    def open(self) -> None:
        import lmdb

        self._env = lmdb.open(str(self.path), readonly=True, lock=False, readahead=False)
        self._transaction = self._env.begin(buffers=True)

    def batch(self, keys: Keys) -> tuple[Keys, Rows]:
        keys = np.sort(keys)
        names, get = keys.astype(">u8").tobytes(), self._transaction.get
        rows = bytearray().join([get(names[i : i + 8]) for i in range(0, len(names), 8)])
        return keys, np.frombuffer(rows, "V160")

    def close(self) -> None:
        self._transaction.abort()
        self._env.close()


class Lance(Store):
    """Lance: one column of 160 bytes, take() of sorted positions."""

    name = "Lance"
    times = 4
    share = 1 / 8

    def build(self) -> None:
        import lance
        import pyarrow as pa

        schema = pa.schema([("record", pa.binary(SIZE))])

        def batches() -> Any:
            for piece in self.pieces():
                column = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(SIZE), len(piece), [None, pa.py_buffer(piece)]
                )
                yield pa.record_batch([column], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        lance.write_dataset(reader, str(self.path), data_storage_version="2.1")

    def open(self) -> None:
        import lance

        self._dataset = lance.dataset(str(self.path))

    def batch(self, keys: Keys) -> tuple[Keys, Rows]:
        keys = np.sort(keys)
        column = self._dataset.take(keys, columns=["record"])["record"]
        chunks = [
            np.frombuffer(c.buffers()[1], "V160", len(c), c.offset * SIZE) for c in column.chunks
        ]
        return keys, writable(chunks[0] if len(chunks) == 1 else np.concatenate(chunks))


class HuggingFace(Store):
    """Hugging Face datasets: one column of fixed length, and take() of the Arrow table under it.

    `dataset[keys]` in Arrow format is fifteen times slower for batches of 65,536.
    """

    name = "HF datasets, Arrow take"
    times = 4
    share = 1 / 4

    def build(self) -> None:
        import datasets
        import pyarrow as pa

        datasets.disable_progress_bars()
        words = SIZE // 4  # numbers of four bytes: an Arrow file has 2**31 of them at most
        values = pa.Int32Array.from_buffers(
            pa.int32(), words * self.records, [None, pa.py_buffer(self.rows)]
        )
        table = pa.table({"record": pa.FixedSizeListArray.from_arrays(values, words)})
        features = datasets.Features({"record": datasets.List(datasets.Value("int32"), words)})
        # One chunk: take() of a column in many copies all of it.
        with datasets.arrow_writer.ArrowWriter(
            features=features, path=str(self._file()), writer_batch_size=self.records
        ) as writer:
            writer.write_table(table)
            writer.finalize()

    def _file(self) -> Path:
        self.path.mkdir(exist_ok=True)
        return self.path / "data.arrow"

    def open(self) -> None:
        import datasets

        self._column = datasets.Dataset.from_file(str(self._file())).data.column("record")
        for chunk in self._column.chunks:  # have it mapped, as others have theirs
            np.asarray(chunk.flatten())[:: 4096 // 4].max()

    def batch(self, keys: Keys) -> tuple[Keys, Rows]:
        import pyarrow as pa

        taken = self._column.take(pa.array(keys.view(np.int64)))
        rows = [np.asarray(chunk.flatten()).view("V160") for chunk in taken.chunks]
        return keys, writable(rows[0] if len(rows) == 1 else np.concatenate(rows))


class ArrayRecord(Store):
    """ArrayRecord through Grain's source: a record to a group, whole batches per call."""

    name = "ArrayRecord + Grain"
    share = 1 / 64
    files = 2

    def build(self) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        self.path.mkdir()
        for number, piece in enumerate(self.pieces(-(-self.records // self.files))):
            writer = ArrayRecordWriter(str(self.path / f"{number}"), "group_size:1,uncompressed")
            for row in piece:
                writer.write(row.tobytes())
            writer.close()

    def open(self) -> None:
        from grain.sources import ArrayRecordDataSource

        self._source = ArrayRecordDataSource([str(path) for path in sorted(self.path.iterdir())])

    def batch(self, keys: Keys) -> tuple[Keys, Rows]:
        rows = bytearray().join(self._source.__getitems__(keys.tolist()))
        return keys, np.frombuffer(rows, "V160")

    def way(self, batch: int) -> Way:
        """A MapDataset over batches, read ahead by two threads."""
        import grain

        def run(keys: Keys) -> tuple[Keys, Fields]:
            wanted = keys % np.uint64(self.records)

            def fetch(number: int) -> tuple[Keys, Rows]:
                return self.batch(wanted[number * batch : (number + 1) * batch])

            options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
            batches = grain.MapDataset.range(len(keys) // batch).map(fetch).to_iter_dataset(options)
            for batch_of in batches:
                part, tensors = batch_of[0], as_tensors(batch_of[1])
            return part, {name: tensor.numpy() for name, tensor in tensors.items()}

        return Way(run, share=self.share)


class Mosaic(Store):
    """MosaicML Streaming: raw shards, one array column, StreamingDataLoader, its own shuffle.

    It has no batch by key: it draws an epoch from its own samples.  Which they were follows
    from their labels.
    """

    name = "MosaicML Streaming"
    share = 1 / 64
    workers = 2

    def build(self) -> None:
        from benchmarks.loading.rivals import streaming_base

        writer = streaming_base().MDSWriter(
            out=str(self.path), columns={"record": f"ndarray:uint8:{SIZE}"}, size_limit=1 << 26
        )
        with writer:
            for row in self.rows.view(np.uint8).reshape(-1, SIZE):
                writer.write({"record": row})

    def open(self) -> None:
        self._loaders: dict[int, Any] = {}

    def _loader(self, batch: int) -> Any:
        from benchmarks.loading.rivals import streaming_base

        base = streaming_base()
        if batch not in self._loaders:
            dataset = base.StreamingDataset(
                local=str(self.path), shuffle=True, batch_size=batch, num_canonical_nodes=1
            )
            self._loaders[batch] = base.StreamingDataLoader(
                dataset,
                batch_size=batch,
                num_workers=self.workers,
                persistent_workers=True,
                timeout=120,
            )
        return self._loaders[batch]

    def way(self, batch: int) -> Way:
        """Take batches of its epoch; drawing the epoch and the first batch are not measured."""
        kept: list[Any] = []

        def prepare(keys: Keys) -> None:
            kept[:] = [iter(self._loader(batch))]
            next(kept[0])

        def run(keys: Keys) -> tuple[Keys, Fields]:
            for _ in range(len(keys) // batch):
                rows = next(kept[0])["record"].numpy()
                tensors = as_tensors(rows.view("V160")[:, 0])
            fields = {name: tensor.numpy() for name, tensor in tensors.items()}
            return keys_of(fields["label"]), fields

        return Way(run, prepare, share=self.share, close=self.close)

    def close(self) -> None:
        self._loaders.clear()


class Files(Store):
    """The published system's way: a file, and for each sample seek, read and parse, in Python.

    Through torch's DataLoader, whose workers do it sample by sample and collate.
    """

    name = "per-sample Python"
    share = 1 / 64
    per_file = 100_000

    def build(self) -> None:
        self.path.mkdir()
        for number, piece in enumerate(self.pieces(self.per_file)):
            (self.path / f"{number}.bin").write_bytes(piece.tobytes())

    def open(self) -> None:
        self._samples = Samples(self.path, self.per_file)

    def way(self, batch: int, workers: int = 0) -> Way:
        from torch.utils.data import DataLoader

        def run(keys: Keys) -> tuple[Keys, Fields]:
            wanted = (keys % np.uint64(self.records)).tolist()
            loader = DataLoader(
                self._samples,  # type: ignore[arg-type]
                batch_sampler=[wanted[at : at + batch] for at in range(0, len(wanted), batch)],
                num_workers=workers,
                timeout=120 if workers else 0,
            )
            tensors = deque(loader, maxlen=1).pop()
            part = np.array(wanted[-batch:], np.uint64)
            return part, {name: tensor.numpy() for name, tensor in tensors.items()}

        return Way(run, share=self.share)

    def close(self) -> None:
        self._samples.close()


class Samples:
    """A torch dataset: a sample is sought, read and parsed when it is asked for."""

    def __init__(self, folder: Path, per_file: int) -> None:
        self._folder, self._per_file = folder, per_file
        self._files: dict[tuple[int, int], Any] = {}  # by process: a worker seeks in its own

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def __getitem__(self, key: int) -> dict[str, Any]:
        import torch

        number, row = divmod(key, self._per_file)
        mine = os.getpid(), number
        file = self._files.get(mine)
        if file is None:
            file = self._files[mine] = (self._folder / f"{number}.bin").open("rb")
        file.seek(row * SIZE)
        data = bytearray(file.read(SIZE))
        return {
            "label": torch.frombuffer(data, dtype=torch.int32, count=1)[0],
            "dense": torch.frombuffer(data, dtype=torch.float32, count=13, offset=4),
            "cat": torch.frombuffer(data, dtype=torch.int32, count=26, offset=56),
        }


def writable(rows: Rows) -> Rows:
    """Say that rows in memory that is shown read-only may be shown as tensors: nobody writes."""
    memory = (ctypes.c_char * rows.nbytes).from_address(rows.ctypes.data)
    memory.keep = rows  # type: ignore[attr-defined]
    return np.frombuffer(memory, "V160")


# By the name of the rival that has to be installed.
STORES: dict[str, type[Store]] = {
    "LMDB": Lmdb,
    "Lance": Lance,
    "Hugging Face datasets": HuggingFace,
    "ArrayRecord": ArrayRecord,
    "MosaicML Streaming": Mosaic,
    "torch DataLoader": Files,
}
