"""CSV text through the reader of the core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modyn import _core
from modyn.ingest.driver import BATCH_BYTES


def open_csv(
    path: Path,
    schema: str,
    elements: tuple[str | int, ...],
    *,
    timestamp: str | int | None,
    header: bool = True,
    quote: int = ord('"'),
    threads: int = 1,
    growing: bool = False,
    piece_size: int = 0,
    separator: str = ",",
) -> _core.Reader:
    return _core.read_csv(
        path,
        schema,
        header,
        ord(separator),
        quote,
        elements,
        None,
        timestamp,
        threads,
        growing,
        piece_size,
    )


def read_column(path: Path, dtype: str, cells: list[bytes]) -> Any:
    """Values of cells as one column of this type."""
    path.write_bytes(b"t,x\n" + b"".join(b"0,%s\n" % cell for cell in cells))
    reader = open_csv(path, f"x: {dtype}\n", ("x",), timestamp="t")
    return reader.read(BATCH_BYTES)[0][0]
