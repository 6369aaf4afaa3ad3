"""Distances of two windows: our kernel sums beside torch and NumPy, features beside scipy, memory.

    python -m benchmarks.drift [--json FILE] [--quick] [pairs] [features] [metrics] [large]

pairs     the sum of a Gaussian kernel over all pairs of 5,000 and 5,000 rows: in C with one thread
          and two, with torch (blocks of matrix product and exponential, in place, float32 and
          float64) and the same in NumPy; the difference is relative, to NumPy in float64.
features  KS, Cramer-von Mises and Wasserstein of 128 features, beside a loop over scipy's.
metrics   every metric with its defaults: of a new reference, and of one it has seen.
large     windows of 100,000 rows of 128 in a process of its own each: seconds, and how far its
          resident memory grew beyond the windows, of which at most 256 MiB are asked for.

torch and BLAS take their own threads: OMP_NUM_THREADS=1 for one. Seconds of the CPU are those of
all threads, the least of some repetitions; on a busy machine they say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_line
from modyn import drift
from modyn.drift import kernels
from modyn.drift.metric import WindowMetric

SECTIONS = ["pairs", "features", "metrics", "large"]
METRICS = {
    name: metric
    for name, metric in vars(drift).items()
    if isinstance(metric, type) and issubclass(metric, WindowMetric)
}
CATEGORICAL = ("ChiSquared", "GTest")
REMEMBERING = ("MMD", "Energy")  # sums over the pairs of a reference
BUDGET_MIB = 256


def windows(rows: int, width: int, dtype: str = "float32") -> tuple[Any, Any]:
    rng = np.random.default_rng(7)
    x, y = (rng.standard_normal((rows, width), dtype=np.float32) for _ in range(2))
    y += np.float32(0.1)
    return x.astype(dtype, copy=False), y.astype(dtype, copy=False)


def best_of(times: int, call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Return the least seconds by the clock and of the CPU, and the last answer."""
    wall, busy, answer = [], [], None
    for _ in range(times):
        started, worked = time.perf_counter(), time.process_time()
        answer = call()
        wall.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)
    return {"seconds": round(min(wall), 4), "cpu_seconds": round(min(busy), 4)}, answer


# Pairs ------------------------------------------------------------------------------------------


def numpy_sum(x: Any, y: Any, gamma: float, block: int = 1024) -> float:
    total = 0.0
    for i in range(0, len(x), block):
        a = x[i : i + block]
        for j in range(0, len(y), block):
            b = y[j : j + block]
            squares = a @ b.T
            squares *= -2
            squares += np.square(a).sum(1)[:, None]
            squares += np.square(b).sum(1)
            np.maximum(squares, 0, out=squares)
            squares *= -gamma
            total += float(np.exp(squares, out=squares).sum(dtype=np.float64))
    return total


def torch_sum(x: Any, y: Any, gamma: float, block: int = 1024) -> float:
    import torch

    x, y = torch.from_numpy(x), torch.from_numpy(y)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(0, len(x), block):
        a = x[i : i + block]
        for j in range(0, len(y), block):
            b = y[j : j + block]
            lengths = a.square().sum(1)[:, None] + b.square().sum(1)
            squares = torch.addmm(lengths, a, b.T, alpha=-2).clamp_(min=0)
            total += squares.mul_(-gamma).exp_().sum(dtype=torch.float64)
    return float(total)


def pairs(quick: bool) -> Iterator[dict[str, Any]]:
    rows, times = (300, 1) if quick else (5000, 5)
    for width in (16, 128, 1024):
        narrow, wide = windows(rows, width), windows(rows, width, "float64")
        gamma = 1 / (2 * width)
        contenders: dict[str, Callable[[], float]] = {
            "NumPy, float64": lambda w=wide, g=gamma: numpy_sum(*w, g),
            "NumPy, float32": lambda w=narrow, g=gamma: numpy_sum(*w, g),
        }
        for threads in (1, 2):
            contenders[f"C, float64, {threads} threads"] = lambda w=wide, g=gamma, t=threads: (
                kernels.gaussian_sum(*w, g, threads=t)
            )
            contenders[f"C of float32 in float64, {threads} threads"] = (
                lambda w=narrow, g=gamma, t=threads: kernels.gaussian_sum(*w, g, threads=t)
            )
        contenders["torch, float64"] = lambda w=wide, g=gamma: torch_sum(*w, g)
        contenders["torch, float32"] = lambda w=narrow, g=gamma: torch_sum(*w, g)
        truth = None
        for name, call in contenders.items():
            seconds, value = best_of(times, call)
            truth = truth or value
            line = {"rows": rows, "width": width, "of": name, **seconds}
            yield {**line, "difference": float(f"{abs(value / truth - 1):.1e}")}


# Features and metrics ---------------------------------------------------------------------------


def features(quick: bool) -> Iterator[dict[str, Any]]:
    from scipy import stats

    rows, width, times = (300, 8, 1) if quick else (5000, 128, 5)
    x, y = windows(rows, width, "float64")
    theirs = {
        "KS": lambda a, b: stats.ks_2samp(a, b, method="asymp").statistic,
        "CVM": lambda a, b: stats.cramervonmises_2samp(a, b, method="asymptotic").statistic,
        "Wasserstein": stats.wasserstein_distance,
    }
    for name, function in theirs.items():
        metric = METRICS[name](**({"normed": False} if name == "Wasserstein" else {}))
        ours, value = best_of(times, lambda metric=metric: metric.distance(x, y).value)
        scipys, answer = best_of(
            times, lambda f=function: np.mean([f(x[:, j], y[:, j]) for j in range(width)])
        )
        same = {"rows": rows, "width": width, "metric": name}
        yield {**same, "of": "modyn", **ours}
        difference = float(f"{abs(value - answer):.1e}")
        yield {**same, "of": "scipy, a loop", **scipys, "difference": difference}


def metrics(quick: bool) -> Iterator[dict[str, Any]]:
    rows, width, times = (300, 8, 1) if quick else (5000, 128, 5)
    for name, make in METRICS.items():
        x, y = windows(rows, width)
        if name in CATEGORICAL:
            x, y = np.round(2 * x), np.round(2 * y)
        line = {"rows": rows, "width": width, "metric": name}
        first, _ = best_of(1, lambda make=make, x=x, y=y: make().distance(x + 1, y + 1))
        again, _ = best_of(times, lambda make=make, x=x, y=y: make().distance(x + 1, y + 1))
        if name in REMEMBERING:
            yield {**line, "reference": "new", **first}
        yield {**line, **({"reference": "known"} if name in REMEMBERING else {}), **again}


# Memory -----------------------------------------------------------------------------------------


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def peak_mib() -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def large_one(name: str, rows: int) -> None:
    """Measure one metric in this process, and print what was seen."""
    make = METRICS[name]
    small = np.ones((40, 2), np.float32)
    make().distance(small, small)  # what is loaded once
    x, y = windows(rows, 128)
    if name in CATEGORICAL:
        np.round(x, out=x)
        np.round(y, out=y)
    before = resident_mib()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    seconds, _ = best_of(1, lambda: make().distance(x, y))
    grown = {"mib": round(peak_mib() - before, 1), "budget_mib": BUDGET_MIB}
    print(json.dumps({"rows": rows, "width": 128, "metric": name, **seconds, **grown}))


def large(quick: bool) -> Iterator[dict[str, Any]]:
    rows = 2000 if quick else 100_000
    for name in METRICS:
        command = [sys.executable, "-m", "benchmarks.drift", "--one", name, str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield json.loads(done.stdout)


# The whole --------------------------------------------------------------------------------------


def report(names: list[str], quick: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"benchmark": "drift", "quick": quick}
    with tempfile.TemporaryDirectory() as folder:
        found["machine"] = machine_line(Path(folder))
    found["load_before"] = round(os.getloadavg()[0], 1)
    for name in names:
        print(name)
        found[name] = []
        for line in globals()[name](quick):
            print("   ", "  ".join(f"{key} {value}" for key, value in line.items()), flush=True)
            found[name].append(line)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("METRIC", "ROWS"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        large_one(given.one[0], int(given.one[1]))
        return
    if unknown := set(given.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}")
    found = report(given.sections or SECTIONS, given.quick)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
