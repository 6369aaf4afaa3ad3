"""The stages that a batch passes from the core to the loop.

    core fills -> [decode, collate] -> [copy to a device] -> the loop

Each is an iterator with close(), which closes the one before it, and with
read_waits(), which tells who waited for whom and does not refer to the iterator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modyn import _core
from modyn.loader.ahead import Source
from modyn.loader.batch import Batch, Parts
from modyn.loader.decode import Collate, Decode, Decoding
from modyn.loader.device import AHEAD, Backend, OnDevice, check_device, open_backend
from modyn.loader.pinned import Lender
from modyn.loader.stacking import Memory
from modyn.loader.waits import Waits

if TYPE_CHECKING:
    import torch

__all__ = ["Stages"]


class Filled:
    """The first stage: batches as the worker threads of the core fill them."""

    def __init__(self, core: _core.Epoch, parts: Parts, lender: Lender | None) -> None:
        self._core = core
        self._parts = parts
        self._lender = lender
        self.read_waits: Callable[[], Waits] = lambda: Waits.of(core.waits)

    def __next__(self) -> Batch:
        core = next(self._core)
        if self._lender is not None:
            self._lender.look_at(core)
        return Batch(core, self._parts)

    def close(self) -> None:
        self._core.close()


class Stages:
    """Which stages a loader has, checked when it is made.

    Parameters
    ----------
    decode, decode_workers, decode_processes, collate, device, prefetch
        As of the Loader.
    fields : tuple of str
        What a batch has.
    """

    def __init__(
        self,
        *,
        decode: Decode | None,
        decode_workers: int,
        decode_processes: bool,
        collate: Collate | None,
        device: str | torch.device | None,
        prefetch: int,
        fields: tuple[str, ...],
    ) -> None:
        self._decoding = Decoding.of(decode, decode_workers, decode_processes, collate, fields)
        self._device = check_device(device)
        self._prefetch = prefetch
        self._lender: Lender | None = None  # made when a device is first used

    def begin(
        self, loader: _core.Loader, core: _core.Epoch, parts: Parts, *, first: int, stride: int
    ) -> Source:
        """Return the last of the stages of an iteration of batches first, first + stride, ..."""
        if self._device is None:
            filled = Filled(core, parts, None)
            return self._decoded(filled, first=first, stride=stride, memory=None)
        backend = open_backend(self._device)
        filled = Filled(core, parts, self._lender_of(loader, parts, backend))
        decoded = self._decoded(filled, first=first, stride=stride, memory=backend.pinned)
        return OnDevice(decoded, backend, first=first, stride=stride)

    def _decoded(self, filled: Filled, *, first: int, stride: int, memory: Memory | None) -> Source:
        if self._decoding is None:
            return filled
        return self._decoding.begin(
            filled, depth=self._prefetch, first=first, stride=stride, memory=memory
        )

    def _lender_of(self, loader: _core.Loader, parts: Parts, backend: Backend) -> Lender:
        """Return who lends pinned memory to batches, but not for payloads that are decoded."""
        if self._lender is None or not self._lender.lends_to(loader):
            decoded = self._decoding.fields if self._decoding is not None else ()
            places = (parts.fields[name] for name in decoded)
            self._lender = Lender(
                loader,
                backend.pinned,
                most=2 * self._prefetch + 2 * AHEAD + 2,
                others=frozenset(1 + part for part, is_bytes in places if is_bytes),
            )
        return self._lender

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lender": None}  # memory does not travel
