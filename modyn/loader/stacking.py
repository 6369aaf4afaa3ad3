"""One array of values that are alike, for what a function made sample by sample."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Memory", "Stacked", "is_tensor", "join", "stack"]

Memory = Callable[[int], npt.NDArray[np.uint8]]  # that many writable bytes


@dataclass(frozen=True)
class Stacked:
    """Values that are alike, stacked: an array or tensor with one row for each."""

    rows: Any

    def __len__(self) -> int:
        return len(self.rows)


def is_tensor(value: Any) -> bool:
    """Return whether this is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _kind(value: Any) -> tuple[Any, ...] | None:
    """Return what two values have in common that can be stacked; None for all others."""
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return "array", value.dtype, value.shape
    if is_tensor(value) and value.is_cpu and str(value.layout) == "torch.strided":
        return "tensor", value.dtype, tuple(value.shape)
    return None


def _common_kind(values: Sequence[Any]) -> tuple[Any, ...] | None:
    if not values:
        return None
    first = _kind(values[0])
    if first is None or any(_kind(value) != first for value in values[1:]):
        return None
    return first


def plain_memory(size: int) -> npt.NDArray[np.uint8]:
    """Return that many bytes of memory."""
    return np.empty(size, np.uint8)


def stack(values: list[Any]) -> Stacked | list[Any]:
    """Return values stacked, if they are alike, or as they are."""
    kind = _common_kind(values)
    if kind is None:
        return values
    rows = _empty(kind, len(values), plain_memory)
    _copy(values, kind, rows)
    return Stacked(rows)


def join(pieces: Sequence[Stacked | list[Any]], memory: Memory = plain_memory) -> Any:
    """Return all values of the pieces: one array or tensor where all are alike, else a list."""
    samples: list[Any] = []  # one of each stacked piece, all of the others
    for piece in pieces:
        if len(piece) > 0:
            samples += [piece.rows[0]] if isinstance(piece, Stacked) else piece
    kind = _common_kind(samples)
    if kind is None:
        return [value for p in pieces for value in (p.rows if isinstance(p, Stacked) else p)]
    if len(pieces) == 1 and isinstance(pieces[0], Stacked) and memory is plain_memory:
        return pieces[0].rows
    rows = _empty(kind, sum(map(len, pieces)), memory)
    first = 0
    for piece in pieces:
        part = rows[first : first + len(piece)]
        first += len(piece)
        if isinstance(piece, Stacked):
            part[...] = piece.rows
        elif piece:
            _copy(piece, kind, part)
    return rows


def _empty(kind: tuple[Any, ...], count: int, memory: Memory) -> Any:
    which, dtype, shape = kind
    cells = count * int(np.prod(shape, dtype=np.int64))
    held = memory(cells * dtype.itemsize)
    if which == "array":
        return (
            held.view(dtype).reshape(count, *shape)
            if held.size
            else np.empty((count, *shape), dtype)
        )
    import torch

    if not held.size:
        return torch.empty((count, *shape), dtype=dtype)
    return torch.from_numpy(held).view(dtype).reshape(count, *shape)


def _copy(values: list[Any], kind: tuple[Any, ...], rows: Any) -> None:
    if kind[0] == "array":
        np.stack(values, out=rows)
        return
    import torch

    torch.stack([value.detach() for value in values], out=rows)
