"""The samples of one training step: memory of its own, shown as tensors or arrays.

A batch belongs to whoever took it: its tensors may be written to, and stay valid as long as any
of them is referred to, also when the loader and the dataset are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn import _core

if TYPE_CHECKING:
    import torch

    from modyn.dataset import Ragged

__all__ = ["Batch", "Parts", "RaggedTensor"]


@dataclass(frozen=True)
class RaggedTensor:
    """A bytes field of a batch: all payloads back to back, and where they end.

    Attributes
    ----------
    values : torch.Tensor, uint8, shape (total,)
        The payloads, one after the other.
    offsets : torch.Tensor, int64, shape (n + 1,)
        Payload i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: torch.Tensor
    offsets: torch.Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return payload `index`, a view of `values`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"payload {index} of {len(self)}")
        first = index % len(self)
        return self.values[int(self.offsets[first]) : int(self.offsets[first + 1])]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[index] for index in range(len(self)))


class Batch:
    """The samples of one training step: one tensor per field.

    ``batch["dense"]`` is a torch tensor over the memory of the batch, without a
    copy; a bytes field is a `RaggedTensor`.  ``len(batch)`` is how many samples
    it holds.  Batches come from a `Loader`.
    """

    __slots__ = ("_core", "_parts", "_tensors")

    def __init__(self, core: _core.Batch, parts: Parts) -> None:
        self._core = core
        self._parts = parts
        self._tensors: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        return f"Batch({len(self)} samples: {', '.join(self.fields)})"

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in the order of the loader."""
        return tuple(self._parts.fields)

    def __contains__(self, name: object) -> bool:
        return name in self._parts.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts.fields)

    def __getitem__(self, name: str) -> torch.Tensor | RaggedTensor:
        """Return a field as a tensor: n rows of the shape of the field."""
        part, is_bytes = self._parts.field(name)
        if is_bytes:
            return RaggedTensor(self._tensor(part), self._tensor(part + 1))
        return self._tensor(part)

    def tensors(self) -> dict[str, torch.Tensor | RaggedTensor]:
        """Return all fields by name, as for ``model(**batch.tensors())``."""
        return {name: self[name] for name in self}

    @property
    def keys(self) -> torch.Tensor:
        """The keys of the samples, uint64, shape (n,)."""
        return self._tensor(self._parts.own["keys"])

    @property
    def labels(self) -> torch.Tensor | None:
        """The labels, int64, shape (n,); None if the dataset has none."""
        part = self._parts.own.get("labels")
        return None if part is None else self._tensor(part)

    @property
    def weights(self) -> torch.Tensor | None:
        """The weights, float64, shape (n,); None if the loader has none."""
        part = self._parts.own.get("weights")
        return None if part is None else self._tensor(part)

    def numpy(self, name: str) -> npt.NDArray[Any] | Ragged:
        """Return a field as an array, without torch and without a copy.

        Parameters
        ----------
        name : str
            A field; or "keys", "labels" or "weights", unless a field has that
            name.

        Returns
        -------
        ndarray, or modyn.dataset.Ragged for a bytes field
        """
        if name not in self._parts.fields and name in self._parts.own:
            return np.asarray(self._core.part(self._parts.own[name]))
        part, is_bytes = self._parts.field(name)
        array = np.asarray(self._core.part(part))
        if not is_bytes:
            return array
        from modyn.dataset import Ragged

        return Ragged(array, np.asarray(self._core.part(part + 1)))

    def _tensor(self, part: int) -> torch.Tensor:
        tensor = self._tensors.get(part)
        if tensor is None:
            tensor = self._tensors[part] = _from_dlpack(self._core.part(part))
        return tensor


@dataclass(frozen=True)
class Parts:
    """Where the arrays of a batch are: its part numbers by name."""

    own: dict[str, int]  # keys, labels, weights
    fields: dict[str, tuple[int, bool]]  # of the first part; whether it is bytes

    @classmethod
    def of(cls, core: _core.Loader, names: list[str]) -> Parts:
        parts = cls({}, {})
        for index, (kind, field) in enumerate(core.parts):
            if kind in ("field", "payloads"):
                parts.fields[names[field]] = index, kind == "payloads"
            elif kind != "offsets":  # they follow their payloads
                parts.own[kind] = index
        return parts

    def field(self, name: str) -> tuple[int, bool]:
        if name not in self.fields:
            raise KeyError(f"no field {name!r} in this batch; it has {', '.join(self.fields)}")
        return self.fields[name]


def _from_dlpack(part: _core.Tensor) -> torch.Tensor:
    try:
        from torch.utils.dlpack import from_dlpack
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "torch is needed for the tensors of a batch (pip install 'modyn[torch]'); "
            "batch.numpy(name) gives arrays without it",
            name="torch",
        ) from error
    tensor: torch.Tensor = from_dlpack(part)
    return tensor
