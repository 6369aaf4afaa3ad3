"""Waiting for what other threads and processes do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

DEADLINE = 60  # seconds, for what would otherwise hang


def eventually(is_so: Callable[[], bool]) -> bool:
    """Whether something becomes true before the deadline."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.005)
    return False


def threads_now() -> int:
    """How many threads this process has; one that was joined may still be among them."""
    return len(os.listdir("/proc/self/task"))
