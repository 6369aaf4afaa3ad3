"""W10: opening a dataset, however large, and what a key costs in memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loading.ground import Ground
from benchmarks.loading.rivals import present
from benchmarks.loading.site import Site
from benchmarks.loading.stores import STORES
from benchmarks.measure import spread
from benchmarks.opening import probe, write_sparse
from benchmarks.section import Chart, Mark, Section, Table, Verdict

ABOUT = """\
In a process of its own, with all code loaded before, each store is opened and a few records are
fetched by key; the memory that this took is that of the process before and after. The small
datasets are whole; the large ones are sparse files, whose manifest and checksums are real. The
rivals open what they hold of the same records; pandas makes an index of keys, as one has to
that has none."""

# What opens a store and fetches the first records by key; `path` is where it is.
OPENERS = {
    "LMDB": """
import lmdb
env = lmdb.open(path, readonly=True, lock=False, readahead=False)
transaction = env.begin(buffers=True)
records = [bytes(transaction.get(key.to_bytes(8))) for key in keys]
""",
    "Lance": """
import lance
dataset = lance.dataset(path)
records = dataset.take(keys, columns=["record"])["record"].to_pylist()
""",
    "Hugging Face datasets": """
import datasets
dataset = datasets.Dataset.from_file(path + "/data.arrow")
records = [numpy.array(dataset[key]["record"], "<i4").tobytes() for key in keys]
""",
    "pandas": """
import pandas
index = pandas.Index(numpy.load(path))
index.get_indexer(numpy.array(keys, "uint64"))
records = []
""",
}
IMPORTS = {
    "LMDB": "lmdb",
    "Lance": "lance",
    "Hugging Face datasets": "datasets",
    "pandas": "pandas",
}

PROBE = """
import json, sys, time, numpy, {module}
def kib():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
path, keys = sys.argv[1], json.loads(sys.argv[2])
before, started = kib(), time.perf_counter()
{opener}
taken = time.perf_counter() - started
print(json.dumps([1e3 * taken, kib() - before, [record.hex() for record in records]]))
"""


def open_rival(name: str, path: Path, keys: list[int], rows: Any, times: int) -> tuple[Any, int]:
    """Return the spread of milliseconds, and the median of the memory, KiB."""
    code = PROBE.format(module=IMPORTS[name], opener=OPENERS[name])
    command = [sys.executable, "-c", code, str(path), json.dumps(keys)]
    seen = []
    for _ in range(times):
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        taken, memory, records = json.loads(done.stdout.splitlines()[-1])
        if records and [bytes.fromhex(record) for record in records] != [
            rows[k].tobytes() for k in keys
        ]:
            raise AssertionError(f"{name}: the records are not what was stored")
        seen.append((taken, memory))
    return spread([taken for taken, _ in seen]), sorted(memory for _, memory in seen)[times // 2]


def modyn_rows(site: Site) -> list[list[Any]]:
    small = site.folder / "small"
    write_sparse(small, 1 << 12)
    rows = []
    for samples in (site.size(25_000_000, 1_000_000), site.size(250_000_000, 10_000_000)):
        path = site.folder / f"sparse-{samples}"
        keys = write_sparse(path, samples)
        seen = probe(path, keys, small, site.repetitions)
        figure = spread([1e3 * seconds for seconds in seen["seconds"]])
        memory = seen["opened"] - seen["before"]
        rows.append(["modyn", samples, figure, memory])
        shutil.rmtree(path)
    shutil.rmtree(small)
    return rows


def rival_rows(site: Site, names: list[str]) -> list[list[Any]]:
    ground = Ground(site.dataset, 1 << 10)
    keys, rows, times = [1, 77, 4242], [], site.size(5, 1)
    some = site.size(1_000_000, 50_000)
    for name in names:
        if name == "pandas":
            path, records = site.folder / "keys.npy", ground.records
            np.save(path, np.arange(records, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        else:
            store = STORES[name](site.folder, ground.memmap, some)
            path, records = store.path, store.records
            store.close()
        figure, memory = open_rival(name, path, keys, ground.memmap, times)
        rows.append([name, records, figure, memory])
    ground.close()
    return rows


def measure(site: Site) -> Section:
    section = Section("W10", "Opening, and memory per key", " ".join(ABOUT.split()))
    here, section.skipped = present(*OPENERS)
    rows = [*modyn_rows(site), *rival_rows(site, here)]
    section.tables.append(
        Table(
            "Opening",
            ["who", "records", "ms", "min", "max", "KiB more", "bytes per key"],
            [
                [
                    who,
                    count,
                    f["median"],
                    f["min"],
                    f["max"],
                    memory,
                    round(1024 * memory / count, 3),
                ]
                for who, count, f, memory in rows
            ],
        )
    )
    marks = [
        Mark(
            f"{who}, {count / 1e6:g} M",
            f["median"],
            f["min"],
            f["max"],
            "ours" if who == "modyn" else "rival",
        )
        for who, count, f, _ in rows
    ]
    section.charts.append(Chart("Opening", "ms", [("", marks)]))
    worst = max(row[2]["median"] for row in rows if row[0] == "modyn")
    section.verdicts.append(Verdict("opening", "50 ms", f"{worst:.2f} ms", worst <= 50))
    heavy = max(1024 * row[3] / row[1] for row in rows if row[0] == "modyn")
    section.verdicts.append(
        Verdict("memory per key", "26 bytes", f"{heavy:.2f} bytes", heavy <= 26)
    )
    return section
