"""Ingest of files against what reads, or copies, the same files.

Everything that is read lies in the page cache.  What ingest has taken is durable
when it returns; pyarrow keeps it in memory, cp leaves it in the page cache, and
reading leaves it nowhere, so the floors do less.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import modyn
from benchmarks.appending import SCHEMA, batch_of, load_floor, succeed
from benchmarks.machine import alu_control, compile_floor
from benchmarks.measure import Contender, Outcome, Seconds, Settings, Stopwatch, in_turns, spread

THREADS = 2
FIXED = np.dtype(
    [("ts", "<i8"), ("y", "<i8"), ("label", "<i4"), ("dense", "<f4", 13), ("cat", "<i4", 26)]
)


def ingest_into(
    path: Path,
    schema: dict[str, str],
    files: Any,
    check: Callable[[modyn.Dataset], None],
    **options: Any,
) -> Seconds:
    """Ingest into a new dataset, which is checked and goes away."""
    dataset = modyn.Dataset.create(path, schema=schema, labels="content" not in schema)
    watch = Stopwatch()
    dataset.ingest(files, **options)
    taken = watch.stop()
    dataset.close()
    with modyn.Dataset.open(path) as again:
        check(again)
    shutil.rmtree(path)
    return taken


def is_taken(folder: Path, form: Any) -> bool:
    """Whether ingest knows this format yet, which it says before it looks for files."""
    path = folder / "probe"
    with modyn.Dataset.create(path, schema=SCHEMA) as dataset:
        try:
            dataset.ingest([], format=form)
        except TypeError:
            return False
        except (ValueError, OSError):
            return True
        finally:
            shutil.rmtree(path)
    return True


# CSV.


def _csv_columns(rows: int) -> dict[str, Any]:
    batch = batch_of(3, rows)
    columns = {"ts": batch["timestamps"], "y": batch["labels"]}
    for name, values in batch["fields"].items():
        if values.ndim == 1:
            columns[name] = values
        else:
            columns.update((f"{name}_{i}", values[:, i]) for i in range(values.shape[1]))
    return columns


def _controlled(contender: Contender, alu: list[float], threads: int) -> Contender:
    """Measure beside every repetition how much two threads do."""
    floor = compile_floor()

    def run(repetition: int) -> Seconds:
        if repetition >= 0 and threads > 1:
            alu.append(alu_control(floor))
        return contender(repetition)

    return run


def csv_line(settings: Settings) -> Outcome:
    import pyarrow
    import pyarrow.csv

    rows = settings.size(500_000, 50_000)
    path = settings.folder / "big.csv"
    table = pyarrow.table(_csv_columns(rows))
    pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style="none"))
    pyarrow.set_cpu_count(THREADS)
    types = pyarrow.csv.ConvertOptions(column_types=table.schema)
    every = np.arange(0, rows, 101)

    def run_pyarrow(_: int) -> Seconds:
        watch = Stopwatch()
        got = pyarrow.csv.read_csv(path, convert_options=types)
        taken = watch.stop()
        assert got.equals(table)
        return taken

    def check(dataset: modyn.Dataset) -> None:
        assert len(dataset) == rows
        fields = dataset.fetch(every)
        for name, values in fields.items():
            wanted = [
                table[column].to_numpy()[every]
                for column in table.column_names
                if column == name or column.startswith(f"{name}_")
            ]
            assert np.array_equal(values, wanted[0] if len(wanted) == 1 else np.stack(wanted, 1))
        assert np.array_equal(dataset.timestamps, table["ts"].to_numpy())

    def run_ingest(repetition: int) -> Seconds:
        target = settings.folder / f"csv-{repetition}"
        form = modyn.formats.CSV(timestamp="ts", label="y")
        return ingest_into(target, SCHEMA, path, check, format=form, threads=THREADS)

    alu: list[float] = []
    outcome = Outcome("CSV, 2 threads", 0.8, "pyarrow.csv", "ingest")
    outcome.work = path.stat().st_size / 1e6
    contenders = {"pyarrow.csv": _controlled(run_pyarrow, alu, THREADS), "ingest": run_ingest}
    in_turns(outcome, contenders, settings.repetitions, memory=path.stat().st_size)
    outcome.checked = settings.repetitions + 1
    outcome.facts["two_threads_to_one"] = spread(alu)
    outcome.facts["rows"] = rows
    path.unlink()
    return outcome


# Binary files of fixed records.


def binary_line(settings: Settings) -> Outcome:
    outcome = Outcome("fixed records of 176 bytes", 0.7, "cp --reflink=never", "ingest")
    rows = settings.size(2_000_000, 200_000)
    path = settings.folder / "records.bin"
    records = np.zeros(rows, FIXED)
    batch = batch_of(4, rows)
    records["ts"], records["y"] = batch["timestamps"], batch["labels"]
    for name in SCHEMA:
        records[name] = batch["fields"][name]
    records.tofile(path)
    every = np.arange(0, rows, 101)
    offsets = {name: FIXED.fields[name][1] for name in SCHEMA} if FIXED.fields else {}
    form = modyn.formats.FixedRecord(
        record_size=FIXED.itemsize, timestamp=(0, "int64"), label=(8, "int64"), fields=offsets
    )

    if not is_taken(settings.folder, form):
        outcome.missing = "ingest does not take modyn.formats.FixedRecord"
        return outcome

    def run_cp(repetition: int, *, sync: bool = False) -> Seconds:
        target = settings.folder / f"copy-{repetition}"
        watch = Stopwatch()
        subprocess.run(["cp", "--reflink=never", path, target], check=True)
        if sync:
            subprocess.run(["sync", "-d", target], check=True)
        taken = watch.stop()
        assert target.stat().st_size == path.stat().st_size
        target.unlink()
        return taken

    def check(dataset: modyn.Dataset) -> None:
        assert len(dataset) == rows
        fields = dataset.fetch(every)
        assert all(np.array_equal(fields[name], records[name][every]) for name in SCHEMA)
        assert np.array_equal(dataset.timestamps, records["ts"])

    def run_ingest(repetition: int) -> Seconds:
        target = settings.folder / f"binary-{repetition}"
        return ingest_into(target, SCHEMA, path, check, format=form, threads=THREADS)

    outcome.work = path.stat().st_size / 1e6
    in_turns(
        outcome,
        {
            "cp --reflink=never": run_cp,
            "cp, then sync": lambda repetition: run_cp(repetition, sync=True),
            "ingest": run_ingest,
        },
        settings.repetitions,
        memory=path.stat().st_size,
    )
    outcome.checked = settings.repetitions + 1
    path.unlink()
    return outcome


# Many small files.


def _write_small_files(folder: Path, count: int) -> int:
    """Make files of 2 to 8 KiB; each says its number at its beginning."""
    random = np.random.default_rng(5)
    filler = random.integers(0, 256, 16384, dtype=np.uint8).tobytes()
    folder.mkdir()
    total = 0
    for number, size in enumerate(random.integers(2048, 8193, count)):
        start = number % 4096
        content = number.to_bytes(8, "little") + filler[start : start + int(size) - 8]
        (folder / f"{number:06}.bin").write_bytes(content)
        total += len(content)
    return total


def _read_in_python(folder: Path) -> Seconds:
    watch = Stopwatch()
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            fd = os.open(entry.path, os.O_RDONLY)
            total += len(os.read(fd, 16384))
            os.close(fd)
    assert total > 0
    return watch.stop()


def files_line(settings: Settings) -> Outcome:
    count = settings.size(50_000, 2_000)
    outcome = Outcome(f"{count:,} files of 2 to 8 KiB", 0.7, "readdir + read in C", "ingest")
    form = modyn.formats.Files(extension=".bin", modification_time=True)
    if not is_taken(settings.folder, form):
        outcome.missing = "ingest does not take modyn.formats.Files"
        return outcome
    folder = settings.folder / "small"
    total = _write_small_files(folder, count)
    floor, room = load_floor(), np.empty(16384, np.uint8)

    def run_floor(_: int) -> Seconds:
        watch = Stopwatch()
        got = floor.floor_read_folder(os.fsencode(folder), room.ctypes.data, room.nbytes)
        taken = watch.stop()
        assert succeed(got) == total
        return taken

    def check(dataset: modyn.Dataset) -> None:
        assert len(dataset) == count
        for content in dataset.fetch(np.arange(0, count, 101))["content"]:
            number = int.from_bytes(content[:8], "little")
            assert content == (folder / f"{number:06}.bin").read_bytes()

    def run_ingest(repetition: int) -> Seconds:
        target = settings.folder / f"files-{repetition}"
        return ingest_into(
            target, {"content": "bytes"}, folder, check, format=form, threads=THREADS
        )

    outcome.work, outcome.unit = count / 1e3, "1000 files"
    in_turns(
        outcome,
        {
            "readdir + read in C": run_floor,
            "os.scandir + os.read": lambda _: _read_in_python(folder),
            "ingest": run_ingest,
        },
        settings.repetitions,
        memory=2 * total,
    )
    outcome.checked = settings.repetitions + 1
    shutil.rmtree(folder)
    return outcome
