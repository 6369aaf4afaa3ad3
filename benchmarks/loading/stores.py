"""Rivals that keep records in files of their own, each read as its documentation says is fastest.

A store holds the first records of the dataset and returns a batch of them by key.  Those
that like their keys sorted get to sort them and return the batch in that order: a training
loop would not mind.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.loading.data import RECORD, Fields, Keys, blocks, keys_of, rows_of
from benchmarks.loading.ground import split_rows
from benchmarks.loading.race import Way

SIZE = RECORD.itemsize
Rows = npt.NDArray[Any]


class Store:
    """Records in the files of somebody else."""

    name = ""
    share = 1.0  # of the keys of a repetition that it fetches, at its speed

    def __init__(self, folder: Path, records: int) -> None:
        self.records = records
        self.path = folder / f"{type(self).__name__.lower()}-{records}"
        self.build_s = 0.0
        done = Path(f"{self.path}.seconds")
        if done.exists():
            self.build_s = float(done.read_text())
        else:
            started = time.perf_counter()
            self.build()
            self.build_s = time.perf_counter() - started
            done.write_text(f"{self.build_s}")
        self.open()

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

    def build(self) -> None:
        import lmdb

        env = lmdb.open(
            str(self.path), map_size=2 << 30, writemap=True, sync=False, lock=False
        )
        with env.begin(write=True) as transaction:
            cursor = transaction.cursor()
            for keys in blocks(self.records):
                names, rows = keys.astype(">u8").tobytes(), rows_of(keys).tobytes()
                cursor.putmulti(
                    [
                        (names[8 * i : 8 * i + 8], rows[SIZE * i : SIZE * i + SIZE])
                        for i in range(len(keys))
                    ],
                    append=True,
                )
        env.close()

    def open(self) -> None:
        import lmdb

        self._env = lmdb.open(
            str(self.path), map_size=2 << 30, readonly=True, lock=False, readahead=False
        )
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
    share = 1 / 8

    def build(self) -> None:
        import lance
        import pyarrow as pa

        schema = pa.schema([("record", pa.binary(SIZE))])

        def batches() -> Any:
            for keys in blocks(self.records):
                data = pa.py_buffer(rows_of(keys).tobytes())
                column = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(SIZE), len(keys), [None, data]
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
        chunks = [np.frombuffer(c.buffers()[1], "V160", len(c), c.offset * SIZE) for c in column.chunks]
        return keys, writable(chunks[0] if len(chunks) == 1 else np.concatenate(chunks))


class HuggingFace(Store):
    """Hugging Face datasets: one column of fixed length, Arrow format, a list of numbers."""

    name = "Hugging Face datasets"
    share = 1 / 8

    def build(self) -> None:
        import datasets

        datasets.disable_progress_bars()
        features = datasets.Features({"record": datasets.List(datasets.Value("uint8"), SIZE)})
        with datasets.arrow_writer.ArrowWriter(
            features=features, path=str(self._file()), writer_batch_size=1 << 18
        ) as writer:
            import pyarrow as pa

            for keys in blocks(self.records):
                values = pa.array(rows_of(keys).view(np.uint8))
                column = pa.FixedSizeListArray.from_arrays(values, SIZE)
                writer.write_table(pa.table({"record": column}))
            writer.finalize()

    def _file(self) -> Path:
        self.path.mkdir(exist_ok=True)
        return self.path / "data.arrow"

    def open(self) -> None:
        import datasets

        self._dataset = datasets.Dataset.from_file(str(self._file())).with_format("arrow")

    def batch(self, keys: Keys) -> tuple[Keys, Rows]:
        column = self._dataset[keys.tolist()]["record"].combine_chunks()
        column = column.chunk(0) if hasattr(column, "chunk") else column
        rows = np.asarray(column.flatten()).view("V160")
        return keys, writable(rows)


class ArrayRecord(Store):
    """ArrayRecord through Grain's source: a record to a group, whole batches per call."""

    name = "ArrayRecord + Grain"
    share = 1 / 64
    files = 2

    def build(self) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        self.path.mkdir()
        for number, part in enumerate(np.array_split(np.arange(self.records), self.files)):
            writer = ArrayRecordWriter(str(self.path / f"{number}"), "group_size:1,uncompressed")
            for row in rows_of(part.astype(np.uint64)).view("V160"):
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
            for part, rows in batches:
                tensors = as_tensors(rows)
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
            for keys in blocks(self.records):
                for row in rows_of(keys).view(np.uint8).reshape(-1, SIZE):
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
                dataset, batch_size=batch, num_workers=self.workers, persistent_workers=True
            )
        return self._loaders[batch]

    def way(self, batch: int) -> Way:
        def run(keys: Keys) -> tuple[Keys, Fields]:
            wanted, got = len(keys), 0
            for rows in self._loader(batch):
                tensors = as_tensors(rows["record"].numpy().view("V160")[:, 0])
                got += len(rows["record"])
                if got >= wanted:
                    break
            fields = {name: tensor.numpy() for name, tensor in tensors.items()}
            return keys_of(fields["label"]), fields

        return Way(run, share=self.share, close=self.close)

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
        for number, first in enumerate(range(0, self.records, self.per_file)):
            keys = np.arange(first, min(first + self.per_file, self.records), dtype=np.uint64)
            (self.path / f"{number}.bin").write_bytes(rows_of(keys).tobytes())

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
            )
            for tensors in loader:
                pass
            part = np.array(wanted[-batch:], np.uint64)
            return part, {name: tensor.numpy() for name, tensor in tensors.items()}

        return Way(run, share=self.share)


class Samples:
    """A torch dataset: a sample is sought, read and parsed when it is asked for."""

    def __init__(self, folder: Path, per_file: int) -> None:
        self._folder, self._per_file = folder, per_file
        self._files: dict[int, Any] = {}

    def __getitem__(self, key: int) -> dict[str, Any]:
        import torch

        number, row = divmod(key, self._per_file)
        file = self._files.get(number)
        if file is None:
            file = self._files[number] = (self._folder / f"{number}.bin").open("rb")
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


STORES: dict[str, Callable[[Path, int], Store]] = {
    "LMDB": Lmdb,
    "Lance": Lance,
    "Hugging Face datasets": HuggingFace,
    "ArrayRecord": ArrayRecord,
    "MosaicML Streaming": Mosaic,
}
