"""Greedy methods over feature vectors: C with one thread and two, and what others take.

    python -m benchmarks.coresets [--json] [--quick] [--rows 10000 100000] [--only kcenter]
    python -m benchmarks.coresets --json --only facility_location --rows 10000 20000 --width 64

A tenth of the rows is chosen (of gradient matching a hundredth) of a mixture of 50 Gaussians.
Beside each method stands the same with NumPy, as one would write it, and facility location with
apricot where that is installed (MIT licence; pip install apricot-select). Facility location by
others needs the matrix of all similarities in float64, so that they are asked only for as many
rows as fit. torch takes its own threads: OMP_NUM_THREADS=1 for one. Answers are compared; CPU
seconds of all threads stand beside those of the clock.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_line
from modyn import coresets

DENSE = 20_000  # rows whose matrix of similarities takes about three gigabytes
PLAIN = 2_000  # rows up to which all gains are computed before each choice
SLOW = 25_000  # rows up to which the NumPy way is asked for

Rows = Any


def mixture(count: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    centers = 2.0 * rng.normal(size=(50, width))
    drawn = centers[rng.integers(0, 50, count)] + rng.normal(size=(count, width))
    return drawn.astype(np.float32)


# As one would write it --------------------------------------------------------------------------


def numpy_kcenter(x: np.ndarray, count: int) -> Rows:
    x = x.astype(np.float64)
    rows, nearest = [0], np.square(x - x[0]).sum(1)
    while len(rows) < count:
        rows.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(x - x[rows[-1]]).sum(1))
    return rows


def similarities(x: np.ndarray) -> np.ndarray:
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
    matrix = 0.5 + 0.5 * (unit @ unit.T)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def numpy_facility_location(x: np.ndarray, count: int) -> Rows:
    """Lazy, over the matrix of similarities."""
    import heapq

    matrix = similarities(x)
    current = np.zeros(len(x))
    heap = [(-gain, row, 0) for row, gain in enumerate(matrix.sum(0))]
    heapq.heapify(heap)
    rows: list[int] = []
    while len(rows) < count:
        _, row, when = heap[0]
        if when == len(rows):
            heapq.heappop(heap)
            rows.append(row)
            current = np.maximum(current, matrix[row])
        else:
            gain = np.maximum(matrix[row] - current, 0).sum()
            heapq.heapreplace(heap, (-gain, row, len(rows)))
    return rows


def numpy_graph_cut(x: np.ndarray, count: int) -> Rows:
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
    gains = len(x) + unit @ unit.sum(0) - 1.0
    rows: list[int] = []
    for _ in range(count):
        rows.append(int(gains.argmax()))
        gains -= 1.0 + unit @ unit[rows[-1]]
        gains[rows] = -np.inf
    return rows


def numpy_design(v: np.ndarray, count: int, ridge: float) -> Rows:
    inverse = np.eye(v.shape[1]) / ridge
    q = np.square(v).sum(1).round(12) / ridge  # equal ones tie
    rows: list[int] = []
    for _ in range(count):
        rows.append(int(q.argmax()))
        w = inverse @ v[rows[-1]]
        rest = 1.0 + v[rows[-1]] @ w
        inverse -= np.outer(w, w) / rest
        q -= np.square(v @ w) / rest
        q[rows] = -np.inf
    return rows


def numpy_log_determinant(x: np.ndarray, count: int) -> Rows:
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
    v = np.hstack([np.ones((len(x), 1)), unit]) * np.sqrt(0.5)
    return numpy_design(v, count, 1e-6)


def numpy_d_optimal(x: np.ndarray, count: int) -> Rows:
    return numpy_design(x.astype(np.float64), count, 1.0)


def numpy_herding(x: np.ndarray, count: int) -> Rows:
    x = x.astype(np.float64)
    mean, squares = x.mean(0), np.square(x).sum(1)
    wanted, rows = np.zeros_like(mean), []
    for _ in range(count):
        wanted += mean
        values = 2.0 * (x @ wanted) - squares
        values[rows] = -np.inf
        rows.append(int(values.argmax()))
        wanted -= x[rows[-1]]
    return rows


def numpy_gradient_match(x: np.ndarray, count: int) -> Rows:
    """The fit over the columns so far, anew in each step."""
    x = x.astype(np.float64)
    ridge = 0.5 * float(np.square(x).sum(1).mean())
    target, rows = x.mean(0), []
    residual = target
    for _ in range(count):
        along = x @ residual
        along[rows] = -np.inf
        rows.append(int(along.argmax()))
        a = x[rows]
        w = np.linalg.solve(a @ a.T + ridge * np.eye(len(rows)), a @ target)
        if (w <= 0).any():
            raise ValueError("here the fit without constraints is not that with them")
        residual = target - w @ a
    return sorted(rows)


def torch_facility_location(x: np.ndarray, count: int) -> Rows:
    """Every gain anew before each choice, in float32, without a matrix of similarities."""
    import torch

    unit = torch.nn.functional.normalize(torch.from_numpy(x), dim=1)
    current = torch.zeros(len(x))
    rows: list[int] = []
    while len(rows) < count:
        gains = torch.empty(len(x))
        for first in range(0, len(x), 256):
            similar = 0.5 + 0.5 * (unit[first : first + 256] @ unit.T)
            gains[first : first + 256] = (similar - current).clamp_(min=0).sum(1)
        gains[rows] = -torch.inf
        rows.append(int(gains.argmax()))
        current = torch.maximum(current, 0.5 + 0.5 * (unit @ unit[rows[-1]]))
    return rows


def apricot_facility_location(x: np.ndarray, count: int) -> Rows:
    from apricot import FacilityLocationSelection

    selection = FacilityLocationSelection(count, metric="precomputed", optimizer="lazy")
    return selection.fit(similarities(x)).ranking.tolist()


# What is measured -------------------------------------------------------------------------------

METHODS = (
    "kcenter herding graph_cut log_determinant d_optimal gradient_match facility_location craig"
).split()


def others(name: str, count: int) -> dict[str, Callable[[np.ndarray, int], Rows]]:
    found: dict[str, Callable[[np.ndarray, int], Rows]] = {}
    most = DENSE if name == "facility_location" else SLOW
    if count <= most and f"numpy_{name}" in globals():
        found["numpy"] = globals()[f"numpy_{name}"]
    if name == "facility_location" and count <= PLAIN:
        torch_facility_location(mixture(50, 4), 5)  # imports
        found["torch"] = torch_facility_location
    if name == "facility_location" and count <= DENSE:
        try:
            import apricot  # noqa: F401
        except ImportError:
            return found
        apricot_facility_location(mixture(50, 4), 5)  # compiles
        found["apricot"] = apricot_facility_location
    return found


def best_of(times: int, call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the least seconds by the clock and of the CPU, and the last answer."""
    seconds, busy, answer = [], [], None
    for _ in range(times):
        started, worked = time.perf_counter(), time.process_time()
        answer = call()
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)
    return min(seconds), min(busy), answer


def measure(name: str, rows: int, width: int, times: int) -> dict[str, Any]:
    x = mixture(rows, width)
    count = max(rows // (100 if name == "gradient_match" else 10), 1)
    method = getattr(coresets, name)
    line: dict[str, Any] = {"method": name, "rows": rows, "width": width, "chosen": count}
    base = None
    for threads in (1, 2):
        taken, busy, answer = best_of(
            times, lambda threads=threads: method(x, count, threads=threads)
        )
        line[f"{threads} threads"] = round(taken, 6)
        line[f"CPU of {threads} threads"] = round(busy, 6)
        assert base is None or np.array_equal(answer.rows, base.rows)
        base = answer
    for other, call in others(name, rows).items():
        taken, busy, chosen = best_of(1, lambda call=call: call(x, count))
        line[other] = round(taken, 6)
        line[f"CPU of {other}"] = round(busy, 6)
        line[f"same as {other}"] = round(len(set(chosen) & set(base.rows.tolist())) / count, 4)
    return line


def report(sizes: list[int], widths: list[int], names: list[str], times: int) -> dict[str, Any]:
    lines = [measure(n, rows, width, times) for n in names for rows in sizes for width in widths]
    with tempfile.TemporaryDirectory() as folder:
        return {"machine": machine_line(Path(folder)), "lines": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--width", type=int, nargs="+")
    parser.add_argument("--only", choices=METHODS, nargs="+", default=METHODS)
    given = parser.parse_args()
    sizes = given.rows or ([500] if given.quick else [10_000, 100_000])
    widths = given.width or ([16] if given.quick else [64, 128])
    found = report(sizes, widths, given.only, 1 if given.quick else 3)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(found["machine"])
    for line in found["lines"]:
        print("  ".join(f"{key} {value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
