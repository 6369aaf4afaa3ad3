"""What the datasets of this directory hold, and how they were made (see README.md).

Usage: make.py datasets.tar.xz
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SCALARS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64", "complex64", "complex128"]

# By name: schema, unit, labels, sizes of the commits.
DATASETS: dict[str, tuple[dict[str, str], str, bool, list[int]]] = {
    "fixed": ({"x": "int16[2]", "y": "float32"}, "s", True, [1, 60, 39]),
    "ragged": ({"s": "bytes", "n": "uint32", "t": "bytes"}, "ns", False, [17, 43]),
    "types": ({"b": "bool", **{t: t for t in SCALARS}, **{t: f"{t}[2]" for t in FLOATS}}, "ms",
              True, [5]),
    "two": ({"x": "uint8"}, "us", True, [8190, 7]),
    "empty": ({"x": "float32[3]"}, "s", True, []),
}  # fmt: skip


def samples(name: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Fields, labels and timestamps of all samples."""
    schema, _, _, sizes = DATASETS[name]
    keys = np.arange(sum(sizes), dtype=np.int64)
    fields: dict[str, Any] = {}
    for field, kind in schema.items():
        dtype, _, rest = kind.partition("[")
        extent = int(rest.rstrip("]")) if rest else 0
        if dtype == "bytes":
            fields[field] = [(field * int(key % 7)).encode() + bytes([key]) * (int(key) % 3)
                             for key in keys]  # fmt: skip
        elif dtype == "bool":
            fields[field] = keys % 2 == 0
        elif dtype in SCALARS:
            info = np.iinfo(dtype)
            ends = [info.min, info.max, 0, 1, 2]
            shape = (len(keys), extent) if extent else (len(keys),)
            values = [ends[i % 5] for i in range(int(np.prod(shape)))]
            fields[field] = np.array(values, dtype).reshape(shape)
        else:
            values = np.linspace(-3, 3, len(keys) * max(extent, 1)) * (
                1 + 2j if "c" in dtype else 1
            )
            shape = (len(keys), extent) if extent else (len(keys),)
            fields[field] = values.astype(dtype).reshape(shape)
    return fields, keys % 11 - 5, keys * 1000 - 3


def make(home: Path, name: str) -> None:
    import modyn

    schema, unit, has_labels, sizes = DATASETS[name]
    fields, labels, timestamps = samples(name)
    with modyn.Dataset.create(
        home / name, schema=schema, timestamp_unit=unit, labels=has_labels, segment_records=8192
    ) as dataset:
        first = 0
        for size in sizes:
            part = slice(first, first + size)
            dataset.append(
                {field: values[part] for field, values in fields.items()},
                labels=labels[part] if has_labels else None,
                timestamps=timestamps[part],
            )
            first += size
    manifest = (home / name / "manifest").read_bytes()
    for file in sorted((home / name).glob("*.seg")):
        full = file != max((home / name).glob("*.seg"))
        used = 8192 if full else int.from_bytes(manifest[-104:-96], "little")
        data = file.read_bytes()
        if full and name != "two":
            raise ValueError("only `two` has a full segment, of one byte for each record")
        file.write_bytes(data[:used])
    (home / name / "lock").unlink()


def main() -> None:
    with tempfile.TemporaryDirectory() as home, tarfile.open(sys.argv[1], "w:xz") as tar:
        for name in DATASETS:
            make(Path(home), name)
            tar.add(Path(home) / name, name)


if __name__ == "__main__":
    main()
