"""How long opening a dataset takes, and how much memory, however large it is.

A dataset of a thousand million samples is made by writing only what opening and
a few fetches look at: the commits of its manifest, 64 Ki samples each, the
headers of its segments, and the checksums of some blocks.  All other bytes are
holes of sparse files.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import modyn
from benchmarks.measure import Settings, spread, text_of
from tests.reference.format import crc32c

SCHEMA = {"label": "int32", "dense": "float32[13]", "cat": "int32[26]"}
RECORD = 160
SHIFT = 20  # of a segment, which the schema leads to
BLOCK_SHIFT = (9, 12, 12)  # of records, timestamps, labels
BATCH = 1 << 16  # samples of a commit

# In a process of its own: resident set before, time of each open, resident set
# and address space after, and once more after fetching the keys.
PROBE = """
import json, sys, time, numpy, modyn
def kib(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1])
path, repetitions, keys = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
small = modyn.Dataset.open(sys.argv[4])     # all code is loaded, all paths are warm
small.fetch([0])
small.close()
out = {"before": kib("VmRSS"), "seconds": []}
for number in range(repetitions):
    started = time.perf_counter()
    dataset = modyn.Dataset.open(path)
    out["seconds"].append(time.perf_counter() - started)
    out.setdefault("opened", kib("VmRSS"))
    out.setdefault("address_space", kib("VmSize"))
    if number < repetitions - 1:
        dataset.close()
started = time.perf_counter()
fields = dataset.fetch(keys)
out["fetch_seconds"] = time.perf_counter() - started
out["fetched"] = kib("VmRSS")
out["samples"] = len(dataset)
out["zero"] = all(not values.any() for values in fields.values())
json.dump(out, sys.stdout)
"""


def _seed(uuid: bytes, kind: int, block: int) -> int:
    return crc32c(uuid + struct.pack("<IQ", kind, block))


def _tail(uuid: bytes, count: int) -> list[int]:
    """Return the checksums of the last, not full blocks, all of zeros."""
    checks = []
    for kind, shift in enumerate(BLOCK_SHIFT):
        rows = count % (1 << shift)
        size = rows * (RECORD if kind == 0 else 8)
        checks.append(crc32c(bytes(size), _seed(uuid, kind, count >> shift)) if rows else 0)
    return [*checks, 0]


def _write_commits(path: Path, samples: int) -> bytes:
    """Add the commits of all samples to the manifest; return the uuid."""
    manifest = path / "manifest"
    head = manifest.read_bytes()
    uuid, chain = head[16:32], struct.unpack_from("<I", head, 508)[0]
    of_uuid, now = crc32c(uuid), time.time_ns()
    records = bytearray()
    sequence = 0
    for first in range(0, samples, BATCH):
        count, sequence = min(first + BATCH, samples), sequence + 1
        last = count == samples or sequence == 1
        checks = _tail(uuid, count) if last or count % 4096 else [0] * 4
        open_bytes = count % (1 << SHIFT) * RECORD
        record = struct.pack("<4sIQQQ4IQ", b"MDNC", 1, sequence, count, open_bytes, *checks, now)
        record += bytes(120 - len(record)) + struct.pack("<I", chain)
        chain = crc32c(record, of_uuid)
        records += record + struct.pack("<I", chain)
    reach = struct.pack("<Q", sequence)
    slot = b"MDNR" + struct.pack("<I", crc32c(reach, of_uuid)) + reach
    with manifest.open("r+b") as file:
        file.seek(512 * (1 + sequence % 2))
        file.write(slot)
        file.seek(0, 2)
        file.write(records)
    return uuid


def _write_segment(path: Path, uuid: bytes, segment: int) -> None:
    column = 8 << SHIFT
    checks = sum(4 << (SHIFT - shift) for shift in BLOCK_SHIFT)
    head = b"MDNCOL\0\0" + struct.pack("<II", 1, 1) + uuid
    head += struct.pack("<QII", segment, SHIFT, BLOCK_SHIFT[0])
    head += bytes(4092 - len(head))
    with (path / f"{segment:06}.col").open("wb") as file:
        file.write(head + struct.pack("<I", crc32c(head)))
        file.truncate(65536 + 2 * column + (checks + 65535) // 65536 * 65536)
        # The first block of each kind, so that its first rows can be read.
        at = 65536 + 2 * column
        for kind, shift in enumerate(BLOCK_SHIFT):
            size = (RECORD if kind == 0 else 8) << shift
            if segment % 100 == 0:
                check = crc32c(bytes(size), _seed(uuid, kind, segment << (SHIFT - shift)))
                file.seek(at)
                file.write(struct.pack("<I", check))
            at += 4 << (SHIFT - shift)
    with (path / f"{segment:06}.seg").open("wb") as file:
        file.truncate(RECORD << SHIFT)


def write_sparse(path: Path, samples: int) -> list[int]:
    """Make a dataset of that many samples, all zero; return keys that can be read."""
    modyn.Dataset.create(path, schema=SCHEMA).close()
    uuid = _write_commits(path, samples)
    segments = (samples + (1 << SHIFT) - 1) >> SHIFT
    for segment in range(segments):
        _write_segment(path, uuid, segment)
    return [segment << SHIFT for segment in range(0, segments, 100)]


def probe(path: Path, keys: list[int], small: Path, repetitions: int) -> dict[str, Any]:
    """Open a dataset again and again in a process of its own, and fetch keys."""
    arguments = [str(path), str(repetitions), json.dumps(keys), str(small)]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    outcome: dict[str, Any] = json.loads(done.stdout)
    if not outcome["zero"]:
        raise AssertionError(f"{path}: the samples are not what was stored")
    return outcome


def _read_manifest(path: Path) -> float:
    """Read the commits, as anything that opens this dataset must: the floor, in seconds."""
    started = time.perf_counter()
    (path / "manifest").read_bytes()
    return time.perf_counter() - started


def open_report(settings: Settings) -> dict[str, Any]:
    """Compare a thousand million samples with a million."""
    small = settings.folder / "small"
    write_sparse(small, 1 << 12)
    sizes = (10**6, settings.size(10**9, 10**8))
    rows = []
    for samples in sizes:
        path = settings.folder / f"sparse-{samples}"
        keys = write_sparse(path, samples)
        seen = probe(path, keys, small, settings.repetitions)
        rows.append(
            {
                "samples": samples,
                "commits": (samples + BATCH - 1) // BATCH,
                "open_ms": spread([1e3 * s for s in seen["seconds"]]),
                "read_manifest_ms": spread(
                    [1e3 * _read_manifest(path) for _ in range(settings.repetitions)]
                ),
                "resident_kib_by_open": seen["opened"] - seen["before"],
                "address_space_mib": seen["address_space"] // 1024,
                "fetch_keys": len(keys),
                "fetch_ms": round(1e3 * seen["fetch_seconds"], 2),
                "resident_kib_by_fetch": seen["fetched"] - seen["opened"],
            }
        )
        shutil.rmtree(path)
    bar_ms = 50
    met = rows[-1]["open_ms"]["median"] <= bar_ms
    return {"name": "open", "bar_ms": bar_ms, "met": met, "sizes": rows}


def print_open(report: dict[str, Any]) -> None:
    print("\nopen")
    for row in report["sizes"]:
        print(
            f"    {row['samples']:13,} samples, {row['commits']:,} commits: opened in "
            f"{text_of(row['open_ms'])} ms (reading the manifest alone "
            f"{text_of(row['read_manifest_ms'])} ms), "
            f"resident {row['resident_kib_by_open']} KiB more, "
            f"{row['address_space_mib']:,} MiB of addresses; {row['fetch_keys']} keys of as "
            f"many segments fetched in {row['fetch_ms']} ms"
        )
    print(f"    bar {report['bar_ms']} ms, {'met' if report['met'] else 'missed'}")
