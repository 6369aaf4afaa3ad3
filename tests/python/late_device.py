"""A device whose copies happen late, for tests of what has to wait for them.

Copies are queued as on a stream and carried out one by one by a thread, after a while: each reads
its source at that moment.  Memory that is used again too early is thereby seen in the result.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import numpy as np
import torch


class Event:
    def __init__(self) -> None:
        self.done = threading.Event()


class LateDevice:
    """A backend of modyn.loader.device, with a record of what it was asked."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.pinned_blocks: list[tuple[int, int]] = []  # address, bytes
        self.copies = 0
        self.asked: list[bool] = []  # whether what was to be copied was pinned
        self.recorded = 0
        self.waited: list[tuple[Event, int]] = []
        self.gate = threading.Event()  # copies happen only while it is set
        self.gate.set()
        self.fail_at: int | None = None  # number of the copy that fails
        self._stream: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while (work := self._stream.get()) is not None:
            self.gate.wait()
            if isinstance(work, Event):
                work.done.set()
                continue
            time.sleep(self.delay_s)
            source, target = work
            target.copy_(source)

    def stop(self) -> None:
        self._stream.put(None)

    # The backend.

    def pinned(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        array = torch.empty(size, dtype=torch.uint8).numpy()
        self.pinned_blocks.append((array.ctypes.data, size))
        return array

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        first = tensor.data_ptr()
        last = first + tensor.numel() * tensor.element_size()
        self.asked.append(any(a <= first and last <= a + size for a, size in self.pinned_blocks))
        return self.asked[-1]

    def copy_async(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.fail_at == self.copies:
            raise MemoryError("the device is full")
        self.copies += 1
        target = torch.full(tensor.shape, 77).to(tensor.dtype)
        self._stream.put((tensor, target))
        return target

    def record(self) -> Event:
        self.recorded += 1
        event = Event()
        self._stream.put(event)
        return event

    def wait(self, event: Event, tensors: list[Any]) -> None:
        assert event.done.wait(60)
        self.waited.append((event, len(tensors)))

    def is_done(self, event: Event) -> bool:
        return event.done.is_set()

    def synchronize(self, event: Event) -> None:
        assert event.done.wait(60)
