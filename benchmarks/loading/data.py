"""The records of the workloads: 160 bytes each, computed from their keys alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn

SCHEMA = {"label": "int32", "dense": "float32[13]", "cat": "int32[26]"}
RECORD = np.dtype([("label", "<i4"), ("dense", "<f4", 13), ("cat", "<i4", 26)])
APPEND = 1 << 18  # records per append

_FACTOR, _STEP = 0x9E3779B1, 0x85EBCA6B

Keys = npt.NDArray[np.uint64]
Fields = dict[str, npt.NDArray[Any]]


def truth(keys: Keys) -> Fields:
    """Compute what the samples of these keys hold."""
    words = keys.astype(np.uint32)[:, None] * np.uint32(_FACTOR)
    words = words + np.arange(40, dtype=np.uint32) * np.uint32(_STEP)
    words ^= words >> np.uint32(15)
    return {
        "label": words[:, 0].view(np.int32).copy(),
        "dense": (words[:, 1:14] >> np.uint32(8)).astype(np.float32),
        "cat": words[:, 14:].copy().view(np.int32),
    }


def rows_of(keys: Keys) -> npt.NDArray[Any]:
    """Compute the samples of these keys as records."""
    rows = np.empty(len(keys), RECORD)
    for name, values in truth(keys).items():
        rows[name] = values
    return rows


def keys_of(labels: npt.NDArray[np.int32]) -> Keys:
    """Return the keys (below 2**32) of samples: a label is a function of one key only."""
    words = labels.view(np.uint32).copy()
    words ^= words >> np.uint32(15)
    words ^= words >> np.uint32(30)
    words *= np.uint32(pow(_FACTOR, -1, 1 << 32))
    return words.astype(np.uint64)


def digest(fields: Fields) -> str:
    """Return a hash over the three fields."""
    total = hashlib.blake2b(digest_size=16)
    for name in SCHEMA:
        total.update(np.ascontiguousarray(fields[name]).data)
    return total.hexdigest()


def check(name: str, keys: Keys, fields: Fields) -> None:
    """Compare a batch with the truth."""
    if digest(fields) != digest(truth(keys.view(np.uint64))):
        raise AssertionError(f"{name}: the batch is not what was stored")


def blocks(records: int) -> Iterator[Keys]:
    """Yield all keys, some at a time."""
    for first in range(0, records, APPEND):
        yield np.arange(first, min(first + APPEND, records), dtype=np.uint64)


def write_dataset(path: Path, records: int) -> None:
    """Create the dataset of the workloads."""
    dataset = modyn.Dataset.create(path, schema=SCHEMA, labels=False)
    for keys in blocks(records):
        dataset.append(truth(keys), timestamps=keys.astype(np.int64))
    dataset.close()


def user_ids(records: int) -> Keys:
    """Return the ids that the users of a dataset may have given their samples."""
    random = np.random.default_rng(41)
    ids = np.unique(random.integers(1, 1 << 62, size=records + records // 64 + 64))
    return np.asarray(random.permutation(ids)[:records], np.uint64)
