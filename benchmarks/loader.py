"""How fast samples reach a training loop by key, and how fast they could.

    python -m benchmarks.loader [--json] [--records 10000000] [--batch 65536]
                                [--threads 1] [--repetitions 9]

Records of 160 bytes (label int32, dense float32[13], cat int32[26]), all of
them in the page cache (read in by the view's warm()), are fetched by random
keys that no repetition repeats, in batches of three arrays.  In each repetition
every contender fetches the same keys, one after the other, in an order that
rotates:

    floor           a gather in C for this one record, from one mapping (floor.c)
    fetch           Dataset.fetch into arrays that are used again
    loader          Loader over the keys, shuffle=False, in a Python loop that
                    takes the three tensors of each batch
    loader shuffle  Loader over the same keys sorted, shuffle="global"
    numpy index     memmap[keys], then torch.from_numpy of the three fields
    numpy take      np.take(memmap, keys, out=, mode="clip"), then the same

The rivals read the floor's mapping, which is in the best state there is, leave
the three fields interleaved, and are asked for nothing else; `loader` also
delivers the keys, and `loader shuffle` draws the order and looks the keys up.
All outputs were written to before, so that nobody pays for the first touch.

A figure is the median over the repetitions of the ratio within a repetition,
with its least and greatest.  "by processor" is the same ratio of processor time
(all threads of the process) instead of time on the wall, for machines on which
others run, too: there a loop that waits for a worker waits for its core.

The last batch of every contender in every repetition is compared with the
truth, which is computed from the keys alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.machine import alu_control, compile_floor, machine_line, mapping_state

SCHEMA = {"label": "int32", "dense": "float32[13]", "cat": "int32[26]"}
RECORD = np.dtype([("label", "<i4"), ("dense", "<f4", 13), ("cat", "<i4", 26)])
ROTATE = 6  # outputs that take turns, so that none stays in a near cache
BATCHES = 64  # per contender and repetition
APPEND = 1 << 18  # records per append

Keys = npt.NDArray[np.uint64]
Fields = dict[str, npt.NDArray[Any]]


def truth(keys: Keys) -> Fields:
    """Compute what the samples of these keys hold."""
    words = keys.astype(np.uint32)[:, None] * np.uint32(0x9E3779B1)
    words = words + np.arange(40, dtype=np.uint32) * np.uint32(0x85EBCA6B)
    words ^= words >> np.uint32(15)
    return {
        "label": words[:, 0].view(np.int32).copy(),
        "dense": (words[:, 1:14] >> np.uint32(8)).astype(np.float32),
        "cat": words[:, 14:].copy().view(np.int32),
    }


def digest(fields: Fields) -> str:
    """Return a hash over the three fields."""
    total = hashlib.blake2b(digest_size=16)
    for name in SCHEMA:
        total.update(np.ascontiguousarray(fields[name]).tobytes())
    return total.hexdigest()


def write_dataset(path: Path, records: int) -> None:
    """Create the dataset of the benchmark."""
    dataset = modyn.Dataset.create(path, schema=SCHEMA, labels=False)
    for first in range(0, records, APPEND):
        keys = np.arange(first, min(first + APPEND, records), dtype=np.uint64)
        dataset.append(truth(keys), timestamps=keys.astype(np.int64))
    dataset.close()


def read_in_again(path: Path) -> None:
    """Let the page cache forget the records, so that they come back in huge pages.

    A file that was just written lies in pages as small as its writes were.
    """
    for file in path.glob("*.seg"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Bench:
    """The dataset, its mapping for the floor, and outputs that take turns."""

    def __init__(self, path: Path, batch: int, threads: int) -> None:
        self.floor = compile_floor()
        self.dataset = modyn.Dataset.open(path)
        self.records = len(self.dataset)
        self.batch = batch
        self.threads = threads
        read_in_again(path)
        self.dataset.view.warm()
        self.base = self._map(sorted(path.glob("*.seg")))
        self.outputs = [self._output() for _ in range(ROTATE)]
        self.rows = [self._rows() for _ in range(ROTATE)]
        data = (ctypes.c_char * (self.records * RECORD.itemsize)).from_address(self.base)
        self.memmap = np.frombuffer(data, dtype="V160")

    def _map(self, segments: list[Path]) -> int:
        """Map the records of all segments one after the other."""
        total = self.records * RECORD.itemsize
        sizes = [file.stat().st_size for file in segments]
        at = base = self.floor.floor_reserve(sum(sizes), 0)
        for file, size in zip(segments, sizes, strict=True):
            left = base + total - at
            if self.floor.floor_map(at, str(file).encode(), min(size, left)) != 0:
                raise OSError(f"{file} could not be mapped")
            at += size
        return base

    def _memory(self, size: int) -> npt.NDArray[np.uint8]:
        address = self.floor.floor_reserve(size, 1)
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype=np.uint8)

    def _output(self) -> Fields:
        memory = self._memory(self.batch * RECORD.itemsize)
        ends = np.cumsum([self.batch * RECORD[name].itemsize for name in SCHEMA])
        label, dense, cat = np.split(memory, ends[:-1])
        return {
            "label": label.view(np.int32),
            "dense": dense.view(np.float32).reshape(-1, 13),
            "cat": cat.view(np.int32).reshape(-1, 26),
        }

    def _rows(self) -> npt.NDArray[Any]:
        return self._memory(self.batch * RECORD.itemsize).view("V160")

    def batches(self, keys: Keys) -> Iterator[tuple[int, Keys]]:
        for number, first in enumerate(range(0, len(keys), self.batch)):
            yield number % ROTATE, keys[first : first + self.batch]


# A contender fetches these keys batch by batch and returns the last batch, with
# the keys it holds.
Contender = Callable[[Bench, Keys], tuple[Keys, Fields]]


def run_floor(bench: Bench, keys: Keys) -> tuple[Keys, Fields]:
    for slot, part in bench.batches(keys):
        out = bench.outputs[slot]
        bench.floor.floor_gather(
            bench.base, part.ctypes.data, len(part), *(out[name].ctypes.data for name in SCHEMA)
        )
    return part, {name: out[name][: len(part)] for name in SCHEMA}


def run_fetch(bench: Bench, keys: Keys) -> tuple[Keys, Fields]:
    for slot, part in bench.batches(keys):
        out = {name: array[: len(part)] for name, array in bench.outputs[slot].items()}
        bench.dataset.fetch(part, out=out, threads=bench.threads)
    return part, out


def run_numpy_index(bench: Bench, keys: Keys) -> tuple[Keys, Fields]:
    from torch import from_numpy

    for _, part in bench.batches(keys):
        rows = bench.memmap[part].view(RECORD)
        tensors = {name: from_numpy(rows[name]) for name in SCHEMA}
    return part, {name: tensor.numpy() for name, tensor in tensors.items()}


def run_numpy_take(bench: Bench, keys: Keys) -> tuple[Keys, Fields]:
    from torch import from_numpy

    for slot, part in bench.batches(keys.view(np.int64)):
        out = bench.rows[slot][: len(part)]
        np.take(bench.memmap, part, out=out, mode="clip")
        rows = out.view(RECORD)
        tensors = {name: from_numpy(rows[name]) for name in SCHEMA}
    return part, {name: tensor.numpy() for name, tensor in tensors.items()}


class LoaderContender:
    """A Loader in a Python loop; one object, so that its memory is used again."""

    def __init__(self, *, shuffle: bool) -> None:
        self.shuffle = shuffle
        self.kept: list[Any] = []

    def __call__(self, bench: Bench, keys: Keys) -> tuple[Keys, Fields]:
        (loader,) = self.kept
        for batch in loader:
            tensors = batch["label"], batch["dense"], batch["cat"]
        fields = zip(SCHEMA, (tensor.numpy() for tensor in tensors), strict=True)
        return batch.numpy("keys"), dict(fields)

    def prepare(self, bench: Bench, keys: Keys, repetition: int) -> None:
        self.kept[:] = [
            modyn.Loader(
                bench.dataset,
                np.sort(keys) if self.shuffle else keys,
                batch_size=bench.batch,
                shuffle="global" if self.shuffle else False,
                epoch=repetition,
                threads=bench.threads,
            )
        ]
        for _, batch in zip(range(2 * ROTATE), self.kept[0], strict=False):
            del batch  # its memory is warm from now on, as in a second epoch


CONTENDERS: dict[str, Contender] = {
    "floor": run_floor,
    "fetch": run_fetch,
    "loader": LoaderContender(shuffle=False),
    "loader shuffle": LoaderContender(shuffle=True),
    "numpy index": run_numpy_index,
    "numpy take": run_numpy_take,
}


@dataclass
class Results:
    """What was measured in every repetition, and how much was checked."""

    rates: dict[str, list[float]]  # million records per second on the wall
    busy: dict[str, list[float]]  # and per second of processor time
    alu: list[float] = field(default_factory=list)
    checked: int = 0


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def ratios(rates: dict[str, list[float]], name: str, to: str) -> dict[str, float]:
    """Compare two contenders, repetition by repetition."""
    return spread([a / b for a, b in zip(rates[name], rates[to], strict=True)])


def check(name: str, keys: Keys, fields: Fields) -> None:
    if digest(fields) != digest(truth(keys.view(np.uint64))):
        raise AssertionError(f"{name}: the batch is not what was stored")


def check_order(bench: Bench, keys: Keys) -> None:
    """A loader delivers each of its keys once, shuffled or not."""
    for name in ("loader", "loader shuffle"):
        (loader,) = CONTENDERS[name].kept  # type: ignore[attr-defined]
        got = np.concatenate([batch.numpy("keys").copy() for batch in loader])
        if name == "loader shuffle":
            assert not np.array_equal(got, np.sort(got)), "it was not shuffled"
            got, keys = np.sort(got), np.sort(keys)
        assert np.array_equal(got, keys), f"{name}: not the keys that were asked for"


def measure(bench: Bench, repetitions: int) -> Results:
    """Run all contenders in every repetition; the first warms up only."""
    results = Results({name: [] for name in CONTENDERS}, {name: [] for name in CONTENDERS})
    random = np.random.default_rng(20)
    names = list(CONTENDERS)
    for repetition in range(-1, repetitions):
        keys = random.integers(bench.records, size=BATCHES * bench.batch, dtype=np.uint64)
        for contender in CONTENDERS.values():
            if isinstance(contender, LoaderContender):
                contender.prepare(bench, keys, repetition + 1)
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            started, busy = time.perf_counter(), time.process_time()
            got, fields = CONTENDERS[name](bench, keys)
            seconds, busy = time.perf_counter() - started, time.process_time() - busy
            check(name, got, fields)
            results.checked += 1
            if repetition >= 0:
                results.rates[name].append(len(keys) / seconds / 1e6)
                results.busy[name].append(len(keys) / busy / 1e6)
        if repetition < 0:
            check_order(bench, keys)
        else:
            results.alu.append(alu_control(bench.floor))
    return results


def report(bench: Bench, results: Results, path: Path) -> dict[str, Any]:
    from_map = mapping_state(path, ".seg")
    return {
        "machine": machine_line(path),
        "records": bench.records,
        "record_bytes": RECORD.itemsize,
        "batch": bench.batch,
        "threads": bench.threads,
        "repetitions": len(results.alu),
        "records_per_repetition": BATCHES * bench.batch,
        "mapping_mib": from_map,
        "alu_two_threads_to_one": spread(results.alu),
        "batches_checked": results.checked,
        "million_records_per_second": {
            name: round(statistics.median(rates), 2) for name, rates in results.rates.items()
        },
        "ratio_to_floor": {name: ratios(results.rates, name, "floor") for name in CONTENDERS},
        "ratio_to_floor_by_processor": {
            name: ratios(results.busy, name, "floor") for name in CONTENDERS
        },
        "loader_to": {
            name: ratios(results.rates, "loader", name)
            for name in CONTENDERS
            if not name.startswith("loader")
        },
    }


def text_of(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['median']:.2f} ({figure['min']:.2f} - {figure['max']:.2f})"


def print_table(outcome: dict[str, Any]) -> None:
    alu, mapping = outcome["alu_two_threads_to_one"], outcome["mapping_mib"]
    print(outcome["machine"])
    print(
        f"{outcome['records']:,} records of {outcome['record_bytes']} bytes, "
        f"batches of {outcome['batch']:,}, {outcome['threads']} thread(s), "
        f"{outcome['repetitions']} repetitions of {outcome['records_per_repetition']:,}"
    )
    print(
        f"mapped {mapping['Rss']:,.0f} MiB (floor and dataset), "
        f"{mapping['FilePmdMapped']:,.0f} of them by huge pages; "
        f"two threads compute {alu['median']} ({alu['min']} - {alu['max']}) times one"
    )
    columns = ("ratio_to_floor", "ratio_to_floor_by_processor", "loader_to")
    heads = ("to the floor", "by processor", "loader to it")
    print(f"\n{'':16}{'M records/s':>12}" + "".join(f"{head:>22}" for head in heads))
    for name, rate in outcome["million_records_per_second"].items():
        cells = (outcome[column].get(name) for column in columns)
        print(f"{name:16}{rate:12.1f}" + "".join(f"{text_of(cell):>22}" for cell in cells))
    print(f"\n{outcome['batches_checked']} batches compared with the truth: all equal")


@contextlib.contextmanager
def dataset_path(chosen: Path | None, records: int) -> Iterator[Path]:
    """Yield a dataset of the benchmark: the chosen one, or one that goes away."""
    with tempfile.TemporaryDirectory(prefix="modyn-benchmark-") as folder:
        path = chosen or Path(folder) / "clicks"
        if not path.exists():
            write_dataset(path, records)
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--dataset", type=Path, help="keep the dataset here, or use it again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    with dataset_path(options.dataset, options.records) as path:
        bench = Bench(path, options.batch, options.threads)
        outcome = report(bench, measure(bench, options.repetitions), path)
    if options.json:
        print(json.dumps(outcome, indent=2))
    else:
        print_table(outcome)


if __name__ == "__main__":
    main()
