"""What all Python tests share."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest

from tests.python.postgres_server import _server, database_url, guarded, own_server, server

__all__ = ["Rand", "_server", "database_url", "guarded", "own_server", "server"]

# In the background of a shell SIGINT is ignored, and would be in every process that a test starts
# in order to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)


# No test asserts on time; a machine may be busy with something else.
SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=SLOW)
hypothesis.settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    # An assertion of a helper shows its values, as one of a test does.
    helpers = {f"tests.python.{file.stem}" for file in Path(__file__).parent.glob("python/*.py")}
    pytest.register_assert_rewrite(*helpers - set(sys.modules))
    config.addinivalue_line("markers", "long: runs only with MODYN_LONG=1 (make check-long)")
    config.addinivalue_line("markers", "server: needs a Postgres server (has a fixture of it)")


@pytest.hookimpl(tryfirst=True)  # before -m decides
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"_server", "own_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
    if os.environ.get("MODYN_LONG"):
        return
    skip = pytest.mark.skip(reason="long campaign: set MODYN_LONG=1")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@dataclass
class Rand:
    """Random inputs of one seed, which a failing test shows."""

    seed: int
    numpy: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.numpy = np.random.default_rng(self.seed)

    def keys(self, count: int, *, below: int = 2**40) -> npt.NDArray[np.uint64]:
        """`count` different keys, ascending."""
        keys = np.unique(self.numpy.integers(0, below, size=2 * count, dtype=np.uint64))
        if len(keys) < count:
            raise ValueError(f"below must be well above {count}, got {below}")
        return np.sort(self.numpy.choice(keys, count, replace=False))

    def integers(self, low: int, high: int, count: int) -> npt.NDArray[np.int64]:
        return self.numpy.integers(low, high, size=count, dtype=np.int64)


@pytest.fixture
def rand() -> Rand:
    """Random inputs; MODYN_SEED repeats what a failing test printed."""
    seed = int(os.environ.get("MODYN_SEED", secrets.randbits(32)))
    print(f"MODYN_SEED={seed}")
    return Rand(seed)
