"""Samples of one or many files that one commit adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.ingest.facts import Rejected
from modyn.ingest.sources import Entry

__all__ = ["Batch", "Column", "Columns", "Piece"]

Column = npt.NDArray[Any] | tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
Columns = Sequence[Column]


@dataclass
class Piece:
    """Samples as a reader gives them: a column per field, payloads with their offsets."""

    columns: Columns
    labels: npt.NDArray[np.int64] | None
    timestamps: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.timestamps)

    @property
    def nbytes(self) -> int:
        parts = [part for column in self.columns for part in _parts(column)]
        return sum(part.nbytes for part in parts) + 16 * self.count


@dataclass
class Batch:
    """Pieces on their way into the dataset, and what is to be written down about their files."""

    entry: Entry
    pieces: list[Piece] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    count: int = 0
    nbytes: int = 0

    def add(self, piece: Piece) -> None:
        if piece.count:
            self.pieces.append(piece)
            self.count += piece.count
            self.nbytes += piece.nbytes

    def joined(self) -> Piece:
        """Return all samples as one piece; there is at least one."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        labels = [piece.labels for piece in self.pieces if piece.labels is not None]
        return Piece(
            [_join(columns) for columns in zip(*(p.columns for p in self.pieces), strict=True)],
            np.concatenate(labels) if labels else None,
            np.concatenate([piece.timestamps for piece in self.pieces]),
        )


def _parts(column: Column) -> tuple[npt.NDArray[Any], ...]:
    return column if isinstance(column, tuple) else (column,)


def _join(columns: Sequence[Column]) -> Column:
    fixed = [column for column in columns if not isinstance(column, tuple)]
    if fixed:
        return np.concatenate(fixed)
    payloads = [column for column in columns if isinstance(column, tuple)]
    sizes = [np.diff(offsets) for _, offsets in payloads]
    offsets = np.zeros(sum(map(len, sizes)) + 1, np.int64)
    np.cumsum(np.concatenate(sizes), out=offsets[1:])
    values = [values[first[0] : first[-1]] for values, first in payloads]
    return np.concatenate(values), offsets
