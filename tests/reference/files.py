"""Twins of the readers of binary files: csrc/ingest/fixed.c, npy.c, tar.c, written for clarity."""

from __future__ import annotations

import ast
import io
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Samples:
    """What a file holds: a list of values per field, labels and timestamps or None."""

    fields: dict[str, list[Any]]
    labels: list[int] | None
    timestamps: list[int] | None


def fixed(
    data: bytes,
    schema: dict[str, tuple[str, tuple[int, ...]]],
    *,
    first_record: int,
    record_size: int,
    offsets: dict[str, int],
    orders: dict[str, str],
    label: tuple[int, int, bool, str] | None,
    timestamp: tuple[int, int, bool, str] | None,
    growing: bool,
) -> Samples:
    """Read records one at a time; ValueError if the last one is not whole."""
    body = data[first_record:]
    if len(data) < first_record and not growing:
        raise ValueError("header")
    if len(body) % record_size and not growing:
        raise ValueError("partial record")
    out = Samples({name: [] for name in schema}, [] if label else None, [] if timestamp else None)
    for at in range(0, len(body) - record_size + 1, record_size):
        record = body[at : at + record_size]
        for name, (dtype, shape) in schema.items():
            out.fields[name].append(_array(record, dtype, shape, offsets[name], orders[name]))
        for place, values in ((label, out.labels), (timestamp, out.timestamps)):
            if place is not None and values is not None:
                values.append(_integer(record, *place))
    return out


def _array(record: bytes, dtype: str, shape: tuple[int, ...], offset: int, order: str) -> Any:
    stored = np.dtype(dtype).newbyteorder(">" if order == "big" else "<")
    count = int(np.prod(shape, dtype=int))
    raw = record[offset : offset + count * stored.itemsize]
    if stored.kind == "b" and max(raw, default=0) > 1:
        raise ValueError("bool")
    return np.frombuffer(raw, stored).astype(dtype).reshape(shape).tolist()


def _integer(record: bytes, offset: int, size: int, signed: bool, order: str) -> int:
    raw = record[offset : offset + size]
    value = int.from_bytes(raw, "big" if order == "big" else "little", signed=signed)
    if value >= 2**63:
        raise ValueError("label")
    return value


def npy_header(data: bytes) -> tuple[dict[str, Any], int]:
    """Return the dictionary of an .npy file, and where its array begins."""
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("magic")
    form, start = ("<H", 10) if data[6] == 1 else ("<I", 12)
    (length,) = struct.unpack(form, data[8:start])
    if start + length > len(data):
        raise ValueError("header")
    header = ast.literal_eval(data[start : start + length].decode("latin1").strip())
    if set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("keys")
    return header, start + length


def npy(data: bytes) -> np.ndarray:
    """Return the array of an .npy file that is whole and has nothing behind it."""
    header, start = npy_header(data)
    descr = header["descr"]
    dtype = np.dtype(descr if isinstance(descr, str) else [tuple(entry) for entry in descr])
    if dtype.hasobject or header["fortran_order"]:
        raise ValueError("type or order")
    if len(data) - start != int(np.prod(header["shape"], dtype=int)) * dtype.itemsize:
        raise ValueError("size")
    return np.frombuffer(data[start:], dtype).reshape(header["shape"])


def npz(data: bytes, names: list[str]) -> list[np.ndarray]:
    """Return arrays of a stored archive, with their checksums verified."""
    arrays = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in names:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("compressed")
            content = archive.read(info)
            if zlib.crc32(content) != info.CRC:
                raise ValueError("checksum")
            arrays.append(npy(content))
    return arrays


def tar(
    data: bytes,
    extensions: dict[str, list[str]],
    *,
    integers: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """Return per sample its contents by what they are for, and "mtime_ns" of the first member."""
    samples: list[dict[str, Any]] = []
    name = None
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise ValueError("kind")
            folder, slash, base = member.name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not stem or not dot or not extension:
                continue
            if folder + slash + stem != name:
                name = folder + slash + stem
                samples.append({"mtime_ns": _mtime_ns(member)})
            for what, given in extensions.items():
                if extension.lower() not in [one.lower() for one in given]:
                    continue
                if what in samples[-1]:
                    raise ValueError("twice")
                file = archive.extractfile(member)
                assert file is not None
                content = file.read()
                samples[-1][what] = int(content.decode()) if what in integers else content
    for sample in samples:
        if set(sample) != set(extensions) | {"mtime_ns"}:
            raise ValueError("missing")
    return samples


def _mtime_ns(member: tarfile.TarInfo) -> int:
    text = member.pax_headers.get("mtime")
    if text is None:
        return int(member.mtime) * 10**9
    whole, _, fraction = text.lstrip("-").partition(".")
    value = int(whole) * 10**9 + int((fraction + "0" * 9)[:9])
    return -value if text.startswith("-") else value
