"""Functions for tests of decode, at the top of a module: another process can import them."""

from __future__ import annotations

import os
import signal
import time
import zlib
from typing import Any

import numpy as np


def identity(payload: Any) -> bytes:
    return bytes(payload)


def unzip(payload: memoryview) -> np.ndarray[Any, Any]:
    return np.frombuffer(zlib.decompress(payload), np.uint8)


def length(payload: memoryview) -> int:
    return len(payload)


def doubled(row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return row * 2


def as_tensor(row: np.ndarray[Any, Any]) -> Any:
    import torch

    return torch.from_numpy(row.copy()).to(torch.bfloat16)


def nested(payload: memoryview) -> dict[str, Any]:
    import torch

    return {
        "array": np.frombuffer(payload, np.uint8),
        "tensor": torch.full((2, 1), len(payload), dtype=torch.bfloat16),
        "pair": (len(payload), [np.zeros((0, 3))]),
    }


def unlucky(row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Refuse sample 57, and every one from 70 on."""
    if int(row) == 57 or int(row) >= 70:
        raise LookupError(f"nothing for {int(row)}")
    return row


class OddError(Exception):
    """An exception that does not come back from a pickle."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"odd {a} {b}")


def odd(row: Any) -> Any:
    raise OddError(1, 2)


def not_portable(row: Any) -> Any:
    return lambda: row


def die_at_50(row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if int(row) == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return row


def sleep_long(row: Any) -> Any:
    # One write: what print() gives out piece by piece mixes with that of another process.
    os.write(1, b"sleeping %d\n" % os.getpid())
    time.sleep(3600)


def process_of(row: Any) -> Any:
    return np.int64(os.getpid())


def sums(batch: Any) -> dict[str, Any]:
    total = np.array([sum(payload) for payload in batch.numpy("text")], np.int64)
    return {"total": total, "n": batch.numpy("n") + 1, "keys_seen": batch.numpy("keys").copy()}


def no_mapping(batch: Any) -> Any:
    return [len(batch)]


def raise_on_batch(batch: Any) -> Any:
    raise EOFError("no more")


def send_first(loader: Any, name: str, pipe: Any) -> None:
    pipe.send(next(iter(loader))[name].tolist())
