"""Functions that decode, and loaders that call them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import modyn
from modyn.loader import Loader

COUNT = 100
SCHEMA = {"text": "bytes", "zipped": "bytes", "n": "int64", "x": "float32[3]"}


def text_of(key: int) -> bytes:
    return b"%d" % key * (key % 5)


def zipped_of(key: int) -> bytes:
    return bytes([key % 251]) * 40


def loader(dataset: modyn.Dataset, **options: Any) -> Loader:
    good: dict[str, Any] = {"samples": np.arange(COUNT), "batch_size": 16, "shuffle": "global"}
    return Loader(dataset, **(good | options))


def key_list(batches: Any) -> list[list[int]]:
    return [batch.numpy("keys").tolist() for batch in batches]


def joined(lists: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))
