"""A bytes field of a batch as tensors: payloads of varying length, back to back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["RaggedTensor"]


@dataclass(frozen=True)
class RaggedTensor:
    """A bytes field of a batch: all payloads back to back, and where they end.

    Attributes
    ----------
    values : torch.Tensor, uint8, shape (total,)
        The payloads, one after the other.
    offsets : torch.Tensor, int64, shape (n + 1,)
        Payload i is ``values[offsets[i]:offsets[i + 1]]``.

    Examples
    --------
    >>> import torch
    >>> words = RaggedTensor.pack([torch.tensor([7, 8, 9]), torch.tensor([5])])
    >>> words.lengths
    tensor([3, 1])
    >>> words[0]
    tensor([7, 8, 9])
    >>> words.to_padded(value=-1)
    tensor([[ 7,  8,  9],
            [ 5, -1, -1]])
    >>> words.to_padded(2)
    tensor([[7, 8],
            [5, 0]])
    """

    values: torch.Tensor
    offsets: torch.Tensor

    @classmethod
    def pack(cls, payloads: Sequence[Any]) -> RaggedTensor:
        """Return one-dimensional tensors or arrays of one dtype, laid back to back."""
        import torch

        tensors = [torch.as_tensor(payload) for payload in payloads]
        for index, tensor in enumerate(tensors):
            if tensor.ndim != 1 or tensor.dtype != tensors[0].dtype:
                raise ValueError(
                    f"payload {index} must be one-dimensional and {tensors[0].dtype} as the "
                    f"first, got shape {tuple(tensor.shape)} and {tensor.dtype}"
                )
        offsets = torch.zeros(len(tensors) + 1, dtype=torch.int64)
        torch.cumsum(torch.tensor([len(t) for t in tensors]), 0, out=offsets[1:])
        return cls(torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return payload `index`, a view of `values`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"payload {index} of {len(self)}")
        first = index % len(self)
        return self.values[int(self.offsets[first]) : int(self.offsets[first + 1])]

    def __iter__(self) -> Iterator[torch.Tensor]:
        ends = self.offsets.tolist()  # one transfer where they lie on a device
        return (self.values[a:b] for a, b in itertools.pairwise(ends))

    @property
    def lengths(self) -> torch.Tensor:
        """How long each payload is: int64, shape (n,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> RaggedTensor:
        """Return the same payloads on this device."""
        return RaggedTensor(
            self.values.to(device, non_blocking=non_blocking),
            self.offsets.to(device, non_blocking=non_blocking),
        )

    def to_padded(self, length: int | None = None, value: float = 0) -> torch.Tensor:
        """Return one row per payload, cut or filled up to the same length.

        Parameters
        ----------
        length : int, optional
            Of a row; by default that of the longest payload.
        value : number
            What stands behind the end of a payload.

        Returns
        -------
        torch.Tensor, dtype of `values`, shape (n, length)
        """
        import torch

        if length is None:
            length = int(self.lengths.max()) if len(self) else 0
        if length < 0:
            raise ValueError(f"length must be at least 0, got {length}")
        columns = torch.arange(length, device=self.offsets.device)
        is_there = columns < self.lengths[:, None]
        padded = self.values.new_full((len(self), length), value)
        padded[is_there] = self.values[(self.offsets[:-1, None] + columns)[is_there]]
        return padded

    def to_nested(self) -> torch.Tensor:
        """Return a nested tensor of jagged layout over the same memory."""
        import torch

        return torch.nested.nested_tensor_from_jagged(self.values, self.offsets)
