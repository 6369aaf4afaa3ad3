"""Datasets for loaders, and what a pass over them must be."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.loader import Batch, RaggedTensor
from tests.python.waiting import DEADLINE

ROOT = Path(__file__).parents[2]
COUNT = 1000
SCHEMA = {"x": "float32[3]", "text": "bytes", "n": "int64", "b": "bool", "more": "bytes"}


def contents(keys: Any) -> dict[str, Any]:
    """What the samples of these keys hold."""
    keys = np.asarray(keys, dtype=np.int64)
    return {
        "x": (keys[:, None] * 3 + np.arange(3)).astype(np.float32),
        "text": [b"%d" % key * (key % 5) for key in keys],
        "n": keys * keys - 500,
        "b": keys % 3 == 0,
        "more": [bytes(int(key) % 50) for key in keys],
    }


def fill(path: Path, count: int = COUNT, **options: Any) -> Path:
    dataset = modyn.Dataset.create(path, schema=SCHEMA, **options)
    keys = np.arange(count)
    labels = keys % 7 if options.get("labels", True) else None
    dataset.append(contents(keys), labels=labels, timestamps=keys)
    dataset.close()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("loader") / "data")


@pytest.fixture
def dataset(path: Path) -> Iterator[modyn.Dataset]:
    """The dataset of the `path` of a file of tests, opened for one of them."""
    opened = modyn.Dataset.open(path)
    yield opened
    opened.close()


def key_list(batches: Any) -> list[list[int]]:
    return [batch.numpy("keys").tolist() for batch in batches]


def joined(lists: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def assert_right(batch: Batch) -> None:
    """All that a batch holds belongs to its keys, read in two ways."""
    keys = batch.numpy("keys")
    expected = contents(keys)
    assert len(batch) == len(keys)
    for name in ("x", "n", "b"):
        assert np.array_equal(batch.numpy(name), expected[name]), name
        assert np.array_equal(batch[name].numpy(), expected[name]), name
    for name in ("text", "more"):
        ragged = batch[name]
        assert isinstance(ragged, RaggedTensor)
        assert list(batch.numpy(name)) == expected[name]
        assert [bytes(payload.numpy()) for payload in ragged] == expected[name]
    assert np.array_equal(batch.labels.numpy(), keys.astype(np.int64) % 7)
    assert np.array_equal(batch.keys.numpy(), keys)


PREAMBLE = """
import os, signal, sys, threading, time
import modyn, numpy as np
from modyn.errors import ClosedError

def is_refused_in_a_fork(iterator):
    signal.alarm(30)
    try:
        next(iterator)
        os._exit(1)
    except ClosedError as error:
        if "fork" not in str(error):
            os._exit(2)
"""


def start(script: str, *arguments: Any, first: str = "") -> subprocess.Popen[str]:
    """Start a Python process with this script, and what comes first in it."""
    text = PREAMBLE + first + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it prints until its end, which must come before the deadline."""
    try:
        return process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def run(script: str, *arguments: Any) -> str:
    """Run it to its end, which must be a good one, and return what it printed."""
    with start(script, *arguments) as process:
        out, err = end_of(process)
    assert process.returncode == 0, (process.returncode, out, err)
    assert err == ""
    return out
