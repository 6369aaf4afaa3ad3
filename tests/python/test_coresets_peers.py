"""Facility location beside another library, and all methods beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coresets as benchmark
from modyn import coresets
from tests.conftest import Rand


def value(matrix: np.ndarray, rows: list[int]) -> float:
    return float(matrix[:, rows].max(1).sum())


def test_facility_location_is_worth_what_apricot_finds(rand: Rand) -> None:
    pytest.importorskip("apricot")
    rows = rand.numpy.normal(size=(400, 12)).astype(np.float32)
    matrix = benchmark.similarities(rows)

    found = coresets.facility_location(rows, 60)

    theirs = benchmark.apricot_facility_location(rows, 60)
    ours = found.rows.astype(int).tolist()
    assert value(matrix, ours) == pytest.approx(value(matrix, theirs), rel=1e-9)


@pytest.mark.parametrize("name", benchmark.METHODS)
def test_the_benchmark_finds_what_numpy_does(name: str) -> None:
    line = benchmark.measure(name, 300, 8, 1)

    assert line["chosen"] == len(range(0, 300, 100 if name == "gradient_match" else 10))
    assert all(share == 1.0 for key, share in line.items() if key == "same as numpy")
