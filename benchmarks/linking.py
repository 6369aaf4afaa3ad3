"""Files of fixed records that stay where they are, against copies of them.

`link` reads the file once, for its checksums and columns; `copy` reads it and writes
its samples.  Both leave everything durable.  Then the same random keys are fetched
from the linked dataset and from the copied one, all of it in the page cache.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.measure import Outcome, Seconds, Settings, Stopwatch, in_turns

SCHEMA = {"dense": "float32[13]", "cat": "int32[26]"}
RECORD = np.dtype([("label", "<i4"), ("dense", "<f4", 13), ("cat", "<i4", 26)])
FORMAT = modyn.formats.FixedRecord(record_size=160, label_size=4)
BATCH = 1 << 16
THREADS = 2
SEGMENT = 1 << 18  # records


def _write(path: Path, rows: int) -> None:
    """Make a file of records, every field of which says which record it is of."""
    with path.open("wb") as file:
        for first in range(0, rows, 1 << 18):
            keys = np.arange(first, min(first + (1 << 18), rows))
            records = np.zeros(len(keys), RECORD)
            records["label"] = keys % 7
            records["dense"] = keys[:, None] % 8191
            records["cat"] = keys[:, None]
            file.write(records.tobytes())


def _ingest(folder: Path, path: Path, mode: Any) -> modyn.Dataset:
    dataset = modyn.Dataset.create(folder, schema=SCHEMA, segment_records=SEGMENT)
    dataset.ingest(path, format=FORMAT, mode=mode, timestamps="mtime", threads=THREADS)
    return dataset


def _is_right(fields: Any, keys: npt.NDArray[np.uint64]) -> bool:
    cat, dense = fields["cat"], fields["dense"]
    return bool((cat == keys[:, None]).all() and (dense == keys[:, None] % 8191).all())


def link_line(settings: Settings) -> Outcome:
    outcome = Outcome("a large file of records of 160 bytes, linked", 1.0, "copy", "link")
    rows = settings.size(6_700_000, 400_000)
    path = settings.folder / "large.bin"
    _write(path, rows)
    every = np.arange(0, rows, 101, dtype=np.uint64)

    def run(mode: str, repetition: int) -> Seconds:
        folder = settings.folder / f"{mode}-{repetition}"
        watch = Stopwatch()
        dataset = _ingest(folder, path, mode)
        taken = watch.stop()
        assert _is_right(dataset.fetch(every), every)
        outcome.facts[f"{mode}_megabytes_on_disk"] = round(_used(folder) / 1e6, 1)
        dataset.close()
        shutil.rmtree(folder)
        return taken

    outcome.work = path.stat().st_size / 1e6
    contenders = {mode: lambda n, mode=mode: run(mode, n) for mode in ("copy", "link")}
    in_turns(outcome, contenders, settings.repetitions)
    outcome.checked = 2 * (settings.repetitions + 1)
    path.unlink()
    return outcome


def linked_line(settings: Settings) -> Outcome:
    outcome = Outcome("fetch by key of linked samples", 0.95, "copied", "linked", unit="M samples")
    rows, batches = settings.size(2_000_000, 400_000), 16
    path = settings.folder / "large.bin"
    _write(path, rows)
    datasets = {}
    for name, mode in (("copied", "copy"), ("linked", "link")):
        _ingest(settings.folder / name, path, mode).close()
        datasets[name] = modyn.Dataset.open(settings.folder / name)
        datasets[name].view.warm()
    rand = np.random.default_rng(5)
    out = {"dense": np.ones((BATCH, 13), np.float32), "cat": np.ones((BATCH, 26), np.int32)}
    # In the linked segments, so that nothing of the copied rest is measured.
    last = rows // SEGMENT * SEGMENT

    def run(name: str, repetition: int) -> Seconds:
        keys = rand.integers(0, last, (batches, BATCH), dtype=np.uint64)
        watch = Stopwatch()
        for batch in keys:
            datasets[name].fetch(batch, out=out)
        taken = watch.stop()
        assert _is_right(out, keys[-1])
        return taken

    for dataset in datasets.values():  # every block is verified once
        assert _is_right(dataset.fetch(np.arange(rows)), np.arange(rows))
    outcome.work = batches * BATCH / 1e6
    in_turns(
        outcome,
        {name: lambda n, name=name: run(name, n) for name in datasets},
        settings.repetitions,
    )
    outcome.checked = 2 * (settings.repetitions + 1)
    path.unlink()
    return outcome


def _used(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in os.scandir(folder))
