"""Batches on a device: copied ahead of the loop, beside what the device computes.

    pinned batch --copy on a side stream--> batch on the device, event
                                                 |
    the loop's stream waits for the event, and then has the batch

One thread issues the copies, a few batches ahead, all on one stream of their own.
The host does not wait for a copy.  A pinned batch is let go when the event behind
its copy is done and not before, so that no worker fills it while it is read.

The memory of a batch on the device is of the side stream and used on the loop's:
it is recorded there, so that torch hands it out again only when the work that was
queued by then is done.

What a device can do is a Backend; all that has an order is here and tested with a
backend whose copies happen late.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from modyn.loader.ahead import Ahead, Source, Stopped
from modyn.loader.batch import Batch, RaggedTensor
from modyn.loader.stacking import is_tensor
from modyn.loader.waits import Waits

if TYPE_CHECKING:
    import torch

__all__ = ["AHEAD", "Backend", "OnDevice", "check_device", "open_backend"]

AHEAD = 2  # batches on the device, or being copied there, that the loop has not taken


class Backend(Protocol):
    """What a device can do; events and tensors of it are opaque."""

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        """Return pinned memory of that many bytes, aligned to 64."""

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Return whether a copy from this memory can go on beside the host's work."""

    def copy_async(self, tensor: torch.Tensor) -> Any:
        """Return a tensor on the device, filled after all copies issued before."""

    def record(self) -> Any:
        """Return an event that is done when all copies issued so far are."""

    def wait(self, event: Any, tensors: list[Any]) -> None:
        """Let the caller's stream wait for an event, and then use these tensors."""

    def is_done(self, event: Any) -> bool: ...

    def synchronize(self, event: Any) -> None:
        """Wait on the host until an event is done."""


def check_device(device: str | torch.device | None) -> str | None:
    """Return a device's name, checked; None for the processor's own memory."""
    if device is None or str(device) == "cpu":
        return None
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"torch is needed for device={str(device)!r} (pip install 'modyn[torch]')", name="torch"
        ) from error
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError):
        parsed = None
    if parsed is None or parsed.type not in ("cpu", "cuda"):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:N", got {str(device)!r}')
    if parsed.type == "cpu":
        return None
    if not torch.cuda.is_available():
        raise ValueError(
            f'device={str(device)!r}: torch finds no CUDA device here; leave it out, or use "cpu"'
        )
    count = torch.cuda.device_count()
    if parsed.index is not None and parsed.index >= count:
        raise ValueError(f"device={str(device)!r}: this machine has {count}, numbered from 0")
    return str(parsed)


def open_backend(device: str) -> Backend:
    """Return what a checked device can do."""
    return Cuda(device)


class Cuda:
    """A CUDA device, through torch."""

    def __init__(self, device: str) -> None:
        import torch

        self._torch: Any = torch  # whose streams and events have no types
        is_numbered = ":" in device  # else the one that is the current one now
        self._device = torch.device(
            device if is_numbered else f"{device}:{torch.cuda.current_device()}"
        )
        self._stream = self._torch.cuda.Stream(self._device)

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        array: npt.NDArray[np.uint8] = self._torch.empty(
            size, dtype=self._torch.uint8, pin_memory=True
        ).numpy()
        return array

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.is_pinned()

    def copy_async(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._torch.cuda.stream(self._stream):
            copied: torch.Tensor = tensor.to(self._device, non_blocking=True)
        return copied

    def record(self) -> Any:
        event = self._torch.cuda.Event()
        event.record(self._stream)
        return event

    def wait(self, event: Any, tensors: list[Any]) -> None:
        stream = self._torch.cuda.current_stream(self._device)
        stream.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(stream)

    def is_done(self, event: Any) -> bool:
        is_done: bool = event.query()
        return is_done

    def synchronize(self, event: Any) -> None:
        event.synchronize()


class _Flying:
    """Host memory that is being copied, in the order of the copies: event and memory."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._held: deque[tuple[Any, Any]] = deque()

    def add(self, event: Any, host: Any) -> None:
        self._held.append((event, host))

    def let_go(self) -> None:
        """Drop what has been copied."""
        while self._held and self._backend.is_done(self._held[0][0]):
            self._held.popleft()

    def land(self) -> None:
        """Wait until all has been copied, and drop it."""
        while self._held:
            self._backend.synchronize(self._held[0][0])
            self._held.popleft()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the device may be gone at the interpreter's end
            self.land()


@dataclass
class _Arrived:
    """What the loop gets, and what its stream has to wait for."""

    value: Any
    event: Any
    tensors: list[Any]


@dataclass
class _Transfer:
    """The copy of one batch."""

    backend: Backend
    flying: _Flying
    number: int
    host: Any
    pieces: int = 1
    tensors: list[Any] = field(default_factory=list)
    staged: list[Any] = field(default_factory=list)  # pinned copies of what was not pinned
    arrived: _Arrived | None = None

    def do(self, piece: int, worker: Any, stopped: Stopped) -> None:
        self.flying.let_go()
        host, self.host = self.host, None
        try:
            value = moved(host, self.copy)
        except BaseException as error:
            error.add_note(f"while batch {self.number} was copied to the device")
            raise
        finally:  # some copies may be under way in any case
            event = self.backend.record()
            self.flying.add(event, (host, self.staged))
        self.arrived = _Arrived(value, event, self.tensors)

    def result(self) -> _Arrived | None:
        return self.arrived

    def copy(self, tensor: torch.Tensor) -> Any:
        if not tensor.is_contiguous() or not self.backend.is_pinned(tensor):
            tensor = self.pin(tensor)
            self.staged.append(tensor)
        arrived = self.backend.copy_async(tensor)
        self.tensors.append(arrived)
        return arrived

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        size = tensor.numel() * tensor.element_size()
        if size == 0:
            return tensor
        pinned = torch.from_numpy(self.backend.pinned(size)).view(tensor.dtype)
        return pinned.reshape(tensor.shape).copy_(tensor)


def moved(value: Any, copy: Callable[[Any], Any]) -> Any:
    """Return value with a copy of each tensor of main memory in it.

    Looked for in batches, ragged tensors, dictionaries, lists and tuples, also named ones; all
    else is handed on.
    """
    if isinstance(value, Batch):
        own = {name: copy(tensor) for name, tensor in value.own_tensors().items()}
        fields = {name: moved(value[name], copy) for name in value}
        return Batch.of_values(len(value), own, fields)
    if isinstance(value, RaggedTensor):
        return RaggedTensor(moved(value.values, copy), moved(value.offsets, copy))
    if is_tensor(value):
        return copy(value) if value.is_cpu and str(value.layout) == "torch.strided" else value
    if type(value) is dict:
        return {name: moved(item, copy) for name, item in value.items()}
    if type(value) is list:
        return [moved(item, copy) for item in value]
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(moved(item, copy) for item in value)
    if type(value) is tuple:
        return tuple(moved(item, copy) for item in value)
    return value


class OnDevice:
    """The last stage: batches on a device, in order, copied ahead of the loop."""

    def __init__(self, source: Source, backend: Backend, *, first: int, stride: int) -> None:
        flying = _Flying(backend)
        self._backend = backend
        self._flying = flying
        self._ahead = Ahead(
            "transfer",
            source,
            lambda number, host: _Transfer(backend, flying, first + stride * number, host),
            workers=1,
            depth=AHEAD,
        )

    @property
    def read_waits(self) -> Callable[[], Waits]:
        """What tells who waited for whom so far."""
        return self._ahead.read_waits

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            arrived = next(self._ahead)
        except StopIteration:
            self._flying.land()
            raise
        self._backend.wait(arrived.event, arrived.tensors)
        return arrived.value

    def close(self) -> None:
        """Stop, close the stages before, and wait for the copies that are under way."""
        self._ahead.close()
        self._flying.land()
