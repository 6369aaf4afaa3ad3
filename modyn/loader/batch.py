"""The samples of one training step: memory of its own, shown as tensors or arrays.

A batch belongs to whoever took it: its tensors may be written to, and stay valid as long as any
of them is referred to, also when the loader and the dataset are gone.

What lies in the core's memory is shown when it is asked for.  What a function of the user made of
a field, or a copy on a device, is held beside it and comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.inputs import Ragged
from modyn.loader.ragged import RaggedTensor

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Parts", "RaggedTensor"]


class Batch:
    """The samples of one training step: one tensor per field.

    ``batch["dense"]`` is a torch tensor over the memory of the batch, without a
    copy; a bytes field is a `RaggedTensor`.  ``len(batch)`` is how many samples
    it holds.  Batches come from a `Loader`.

    What `decode` made of a field stands in its place: a tensor where the values
    of all samples are alike, else the list of them, or what a function of whole
    batches returned.
    """

    __slots__ = ("_core", "_count", "_own", "_parts", "_tensors", "_values")

    def __init__(self, core: _core.Batch, parts: Parts) -> None:
        self._core: _core.Batch | None = core
        self._parts = parts
        self._count = len(core)
        self._tensors: dict[int | str, Any] = {}  # by part, or by name in _values
        self._own: Mapping[str, Any] = _NOTHING  # keys, labels, weights that are no parts
        self._values: Mapping[str, Any] = _NOTHING  # likewise, of fields

    @classmethod
    def of_values(cls, count: int, own: Mapping[str, Any], values: Mapping[str, Any]) -> Batch:
        """Return a batch without memory of the core.

        `own` has the keys and may have labels and weights, `values` the fields: arrays, tensors,
        ragged ones of both kinds, or whatever else there is to hand on.
        """
        batch = cls.__new__(cls)
        batch._core = None
        batch._parts = _NO_PARTS
        batch._count = count
        batch._tensors = {}
        batch._own = own
        batch._values = values
        return batch

    def with_values(self, values: Mapping[str, Any]) -> Batch:
        """Return these samples with values in place of fields of that name, or beside them."""
        batch = Batch.of_values(self._count, self._own, {**self._values, **values})
        batch._core = self._core
        batch._parts = self._parts
        batch._tensors = {k: t for k, t in self._tensors.items() if k not in values}
        return batch

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Batch({len(self)} samples: {', '.join(self.fields)})"

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in the order of the loader, then those that decode added."""
        if not self._values:
            return tuple(self._parts.fields)
        return tuple({**self._parts.fields, **self._values})

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in self._parts.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __getitem__(self, name: str) -> Any:
        """Return a field: a tensor of n rows, a `RaggedTensor`, or what decode made of it."""
        if name in self._values:
            return self._shown(name, self._values[name])
        part, is_bytes = self._part_of(name)
        if is_bytes:
            return RaggedTensor(self._tensor(part), self._tensor(part + 1))
        return self._tensor(part)

    def tensors(self) -> dict[str, Any]:
        """Return all fields by name, as for ``model(**batch.tensors())``."""
        return {name: self[name] for name in self}

    @property
    def keys(self) -> torch.Tensor:
        """The keys of the samples, uint64, shape (n,)."""
        keys: torch.Tensor = self._own_tensor("keys")
        return keys

    @property
    def labels(self) -> torch.Tensor | None:
        """The labels, int64, shape (n,); None if the dataset has none."""
        labels: torch.Tensor | None = self._own_tensor("labels")
        return labels

    @property
    def weights(self) -> torch.Tensor | None:
        """The weights, float64, shape (n,); None if the loader has none."""
        weights: torch.Tensor | None = self._own_tensor("weights")
        return weights

    def numpy(self, name: str) -> Any:
        """Return a field as an array, without torch and without a copy.

        Parameters
        ----------
        name : str
            A field; or "keys", "labels" or "weights", unless a field has that
            name.

        Returns
        -------
        ndarray, or modyn.dataset.Ragged for a bytes field
            What decode made that is neither array nor tensor comes as it is.
        """
        if name in self._values:
            return _as_array(name, self._values[name])
        if name not in self._parts.fields:
            if name in self._own:
                return _as_array(name, self._own[name])
            if name in self._parts.own:
                return self._array(self._parts.own[name])
        part, is_bytes = self._part_of(name)
        if is_bytes:
            return Ragged(self._array(part), self._array(part + 1))
        return self._array(part)

    def own(self) -> dict[str, npt.NDArray[Any]]:
        """Return keys, labels and weights, as far as there are any, as arrays."""
        parts = {name: self._array(part) for name, part in self._parts.own.items()}
        return {**parts, **{name: _as_array(name, value) for name, value in self._own.items()}}

    def own_tensors(self) -> dict[str, torch.Tensor]:
        """Return keys, labels and weights, as far as there are any, as tensors."""
        return {name: self._own_tensor(name) for name in {**self._parts.own, **self._own}}

    def _part_of(self, name: str) -> tuple[int, bool]:
        if name not in self._parts.fields:
            raise KeyError(f"no field {name!r} in this batch; it has {', '.join(self.fields)}")
        return self._parts.fields[name]

    def _own_tensor(self, name: str) -> Any:
        if name in self._own:
            return as_shown(self._own[name])
        part = self._parts.own.get(name)
        return None if part is None else self._tensor(part)

    def _array(self, part: int) -> npt.NDArray[Any]:
        assert self._core is not None  # there is a part  # noqa: S101
        return np.asarray(self._core.part(part))

    def _tensor(self, part: int) -> torch.Tensor:
        tensor: torch.Tensor | None = self._tensors.get(part)
        if tensor is None:
            assert self._core is not None  # there is a part  # noqa: S101
            tensor = self._tensors[part] = _from_dlpack(self._core.part(part))
        return tensor

    def _shown(self, name: str, value: Any) -> Any:
        if not isinstance(value, np.ndarray | Ragged):
            return value
        if name not in self._tensors:
            self._tensors[name] = as_shown(value)
        return self._tensors[name]


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


_NOTHING: Mapping[str, Any] = {}
_NO_PARTS = Parts({}, {})


def as_shown(value: Any) -> Any:
    """Return an array as a tensor over its memory, where torch knows its dtype."""
    if isinstance(value, Ragged):
        return RaggedTensor(_from_numpy(value.values), _from_numpy(value.offsets))
    if isinstance(value, np.ndarray):
        return _from_numpy(value)
    return value


def _as_array(name: str, value: Any) -> Any:
    if isinstance(value, RaggedTensor):
        return Ragged(_as_array(name, value.values), _as_array(name, value.offsets))
    if hasattr(value, "is_cpu") and hasattr(value, "numpy"):  # a tensor, without torch
        if not value.is_cpu:
            raise ValueError(
                f"{name!r} lies on {value.device}, and arrays lie in main memory: "
                f"take batch[{name!r}].cpu() for a copy"
            )
        return value.numpy()
    return value


def _torch() -> Any:
    try:
        import torch
        import torch.utils.dlpack
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "torch is needed for the tensors of a batch (pip install 'modyn[torch]'); "
            "batch.numpy(name) gives arrays without it",
            name="torch",
        ) from error
    return torch


def _from_dlpack(part: _core.Tensor) -> torch.Tensor:
    tensor: torch.Tensor = _torch().utils.dlpack.from_dlpack(part)
    return tensor


def _from_numpy(array: npt.NDArray[Any]) -> Any:
    """Return a tensor over an array; over a copy where torch would not write, or step back."""
    torch = _torch()
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()
    try:
        return torch.from_numpy(array)
    except TypeError:  # text, dates, records: torch has nothing for them
        return array
