"""Functions that decode, and loaders that call them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.loader import Loader

COUNT = 100
SCHEMA = {"text": "bytes", "zipped": "bytes", "n": "int64", "x": "float32[3]"}


def text_of(key: int) -> bytes:
    return b"%d" % key * (key % 5)


def zipped_of(key: int) -> bytes:
    return bytes([key % 251]) * 40


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decode") / "data"
    dataset = modyn.Dataset.create(path, schema=SCHEMA)
    keys = np.arange(COUNT)
    fields = {
        "text": [text_of(key) for key in keys],
        "zipped": [zlib.compress(zipped_of(key)) for key in keys],
        "n": keys,
        "x": (keys[:, None] * 3 + np.arange(3)).astype(np.float32),
    }
    dataset.append(fields, labels=keys % 7, timestamps=keys)
    dataset.close()
    return path


def loader(dataset: modyn.Dataset, **options: Any) -> Loader:
    good: dict[str, Any] = {"samples": np.arange(COUNT), "batch_size": 16, "shuffle": "global"}
    return Loader(dataset, **(good | options))
