"""Batches of picked samples: on the device of the training, each with what it counts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.pipelines.jobs import Batch

if TYPE_CHECKING:
    import torch

__all__ = ["Gathering", "Picked"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Picked:
    """A batch of samples that a downsampler picked.

    Parameters
    ----------
    keys : uint64, shape (n,)
    labels : tensor, shape (n,)
    fields : dict of str to tensor
        Of n rows, on the device of the training.
    weights : float64, shape (n,), or None
        Those of the selection.
    factors : float64, shape (n,), or None
        Those of the downsampler, by which they are multiplied.
    epochs : int32, shape (n,)
        In which epoch each was picked; a surplus is trained on in the next one.
    """

    keys: npt.NDArray[np.uint64]
    labels: "torch.Tensor"
    fields: "dict[str, torch.Tensor]"
    epochs: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64] | None = None
    factors: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> "torch.Tensor":
        return self.fields[name]

    @classmethod
    def of(
        cls, batch: Batch, fields: tuple[str, ...], device: "torch.device", epoch: int
    ) -> "Picked":
        """Return all of a batch of this epoch, on the device."""
        import torch

        def placed(value: Any) -> torch.Tensor:
            return torch.as_tensor(value).to(device, non_blocking=True)

        return cls(
            keys=np.asarray(batch.keys).astype(np.uint64, copy=False),
            labels=placed(batch.labels),
            fields={name: placed(batch[name]) for name in fields},
            epochs=np.full(len(batch), epoch, dtype=np.int32),
            weights=None if batch.weights is None else np.asarray(batch.weights, dtype=np.float64),
        )

    def first(self, count: int) -> "Picked":
        """Return the first so many rows."""
        return Picked(
            keys=self.keys[:count],
            labels=self.labels[:count],
            fields={name: value[:count] for name, value in self.fields.items()},
            epochs=self.epochs[:count],
            weights=None if self.weights is None else self.weights[:count],
            factors=None if self.factors is None else self.factors[:count],
        )


class Gathering:
    """Rows of several batches, collected until they fill a batch; each is copied once.

    Parameters
    ----------
    size : int
        Samples of a batch.

    Attributes
    ----------
    waiting : int
        Rows that wait, fewer than `size`.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._batch: Picked | None = None  # of `size` rows, the first `waiting` of which are set
        self.waiting = 0

    def add(
        self,
        batch: Picked,
        rows: npt.NDArray[np.int64],
        factors: npt.NDArray[np.float64] | None,
    ) -> Iterator[Picked]:
        """Take these rows of a batch, and yield what is full."""
        done = 0
        while done < len(rows):
            room = self._size - self.waiting
            part = slice(done, done + room)
            self._copy(batch, rows[part], None if factors is None else factors[part])
            done += room
            if self.waiting == self._size:
                yield self._taken()

    def flush(self) -> Picked | None:
        """Return what waits, or None."""
        return self._taken() if self.waiting else None

    def _taken(self) -> Picked:
        assert self._batch is not None  # noqa: S101
        full = self._batch.first(self.waiting)
        if full.factors is not None and (full.factors == 1.0).all():
            full = replace(full, factors=None)
        self._batch, self.waiting = None, 0
        return full

    def _copy(
        self,
        batch: Picked,
        rows: npt.NDArray[np.int64],
        factors: npt.NDArray[np.float64] | None,
    ) -> None:
        import torch

        if self._batch is None:
            self._batch = _empty_like(batch, self._size)
        mine, first = self._batch, self.waiting
        last = self.waiting = first + len(rows)
        index = torch.from_numpy(rows).to(batch.labels.device, non_blocking=True)
        torch.index_select(batch.labels, 0, index, out=mine.labels[first:last])
        for name, value in batch.fields.items():
            torch.index_select(value, 0, index, out=mine.fields[name][first:last])
        mine.keys[first:last] = batch.keys[rows]
        mine.epochs[first:last] = batch.epochs[rows]
        if mine.weights is not None and batch.weights is not None:
            mine.weights[first:last] = batch.weights[rows]
        if mine.factors is not None:
            mine.factors[first:last] = 1.0 if factors is None else factors


def _empty_like(batch: Picked, size: int) -> Picked:
    def rows(value: "torch.Tensor") -> "torch.Tensor":
        return value.new_empty((size, *value.shape[1:]))

    return Picked(
        keys=np.empty(size, dtype=np.uint64),
        labels=rows(batch.labels),
        fields={name: rows(value) for name, value in batch.fields.items()},
        epochs=np.empty(size, dtype=np.int32),
        weights=None if batch.weights is None else np.empty(size),
        factors=np.empty(size),
    )
