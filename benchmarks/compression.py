"""What compressed payloads cost and save.

    python -m benchmarks.compression FILE [--column description] [--lines 32] [--json]

FILE is a table of texts, tab separated with a header (or .xz of one); its column of texts becomes
two datasets of one bytes field: a text per record, and `lines` texts per record, as of a longer
document. Each is written plain and compressed, and read in random order in batches of 1024, one
thread, all of it in the page cache and verified: bytes of the records on disk, and MB of payload
per second, the median of five rounds that take turns.
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import machine_line
from modyn.dataset import Dataset

BATCH, ROUNDS = 1024, 5


def texts(path: Path, column: str) -> list[bytes]:
    content = path.read_bytes()
    if path.suffix == ".xz":
        content = lzma.decompress(content)
    header, *lines = content.rstrip(b"\n").split(b"\n")
    place = header.split(b"\t").index(column.encode())
    return [line.split(b"\t")[place] for line in lines]


def write(path: Path, payloads: list[bytes], compression: str | None) -> float:
    times = np.zeros(len(payloads), np.int64)
    with Dataset.create(
        path, schema={"text": "bytes"}, labels=False, compression=compression
    ) as dataset:
        started = time.perf_counter()
        dataset.append({"text": payloads}, timestamps=times)
        return time.perf_counter() - started


def read(dataset: Dataset, keys: np.ndarray) -> float:
    started = time.perf_counter()
    for first in range(0, len(keys), BATCH):
        dataset.fetch(keys[first : first + BATCH])
    return time.perf_counter() - started


def stored(path: Path) -> int:
    """Bytes of the records that are committed: the end of the last one."""
    return int.from_bytes((path / "manifest").read_bytes()[-104:-96], "little")


def report(folder: Path, payloads: list[bytes]) -> dict[str, object]:
    rng = np.random.default_rng(0)
    size = sum(map(len, payloads))
    kinds: tuple[str | None, ...] = (None, "zstd")
    taken: dict[str, dict[str, list[float]]] = {
        name: {str(kind): [] for kind in kinds} for name in ("write", "read")
    }
    bytes_stored = {}
    for turn in range(ROUNDS):
        keys = rng.permutation(len(payloads)).astype(np.uint64)
        for kind in kinds:
            path = folder / f"{len(payloads)}-{kind}-{turn}"
            taken["write"][str(kind)].append(write(path, payloads, kind))
            bytes_stored[str(kind)] = stored(path)
            with Dataset.open(path) as dataset:
                read(dataset, keys)
                taken["read"][str(kind)].append(read(dataset, keys))
    return {
        "records": len(payloads),
        "mean_bytes": round(size / len(payloads)),
        "stored": bytes_stored,
        "megabytes_per_second": {
            name: {kind: round(size / statistics.median(t) / 1e6) for kind, t in times.items()}
            for name, times in taken.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--column", default="description")
    parser.add_argument("--lines", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lines = texts(given.file, given.column)
    longer = [
        b"\n".join(lines[first : first + given.lines])
        for first in range(0, len(lines), given.lines)
    ]
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "machine": machine_line(Path(folder)),
            "datasets": [report(Path(folder), payloads) for payloads in (lines, longer)],
        }
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(found["machine"])
    for row in found["datasets"]:
        print(f"{row['records']} records of {row['mean_bytes']} bytes on average")
        for kind, size in row["stored"].items():
            speed = row["megabytes_per_second"]
            print(
                f"  {kind:5s} {size / 1e6:7.1f} MB stored   write {speed['write'][kind]:6d} MB/s"
                f"   read {speed['read'][kind]:6d} MB/s"
            )


if __name__ == "__main__":
    main()
