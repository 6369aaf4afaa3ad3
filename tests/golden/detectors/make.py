"""Write river.json: series, and where river's detectors see drifts in them."""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import lzma
import random
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from river import drift

from benchmarks.selecting import streams

HERE = Path(__file__).parent
MANY = 6000  # of those values, KSWIN sees only so many: it is slow there


def packed(values: np.ndarray) -> dict[str, str]:
    """A series as text: integers of 16 bits."""
    whole = values.astype("<i2")
    assert (whole == values).all()
    return {"int16": base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode()}


def errors(samples: streams.Samples, rate: float = 0.05) -> np.ndarray:
    """Whether a linear model, tested and then trained on one sample after the other, is wrong."""
    x = (samples.dense - samples.dense.mean(0)) / (samples.dense.std(0) + 1e-6)
    x = np.c_[x, np.ones(len(x))]
    weights = np.zeros((samples.labels.max() + 1, x.shape[1]))
    wrong = np.zeros(len(x))
    for n, (row, label) in enumerate(zip(x, samples.labels, strict=True)):
        scores = weights @ row
        wrong[n] = scores.argmax() != label
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        shares[label] -= 1
        weights -= rate / np.sqrt(x.shape[1]) * np.outer(shares, row)
    return wrong


def made_up(draws: random.Random, kind: str, count: int = 12_000) -> np.ndarray:
    """Values whose mean changes at three places."""
    found = []
    for n in range(count):
        level = (0.1, 0.35, 0.2, 0.6)[4 * n // count]
        if kind == "errors":
            found.append(float(draws.random() < level))
        else:
            found.append(float(round(1000 * (level + draws.random() + draws.random()))))
    return np.array(found)


def delays(folder: Path) -> np.ndarray:
    """Every tenth delay of a departure, in minutes."""
    text = lzma.decompress((folder / "flights/nycflights13_flights.csv.xz").read_bytes()).decode()
    found = [row["dep_delay"] for row in csv.DictReader(io.StringIO(text))]
    return np.array([float(delay) for delay in found if delay][::20])


def series(folder: Path) -> dict[str, np.ndarray]:
    """All series by name."""
    weather = streams.read_weather(folder)
    return {
        "weather errors": errors(weather),
        "flights errors": errors(streams.read_flights(folder)),
        "cve errors": errors(streams.read_cve(folder)),
        "weather temperature": np.round(weather.dense[:, 0].astype(np.float64)),
        "flights delay": delays(folder),
        "made up errors": made_up(random.Random(1), "errors"),
        "made up values": made_up(random.Random(2), "values"),
        "still errors": np.array([float(random.Random(n).random() < 0.2) for n in range(9000)]),
    }


def answers(name: str, values: np.ndarray) -> list[dict[str, Any]]:
    """What river says of a series."""
    spread = float(values.std())
    asked: list[tuple[str, dict[str, Any], Any]] = [
        ("ADWIN", {}, drift.ADWIN),
        ("ADWIN", {"delta": 0.2, "clock": 1, "max_buckets": 2, "grace_period": 0}, drift.ADWIN),
        ("PageHinkley", {"threshold": round(50 * spread, 1)}, drift.PageHinkley),
        ("PageHinkley", {"threshold": round(9 * spread, 1), "mode": "up"}, drift.PageHinkley),
        ("PageHinkley", {"threshold": round(9 * spread, 1), "mode": "down"}, drift.PageHinkley),
        ("KSWIN", {"seed": 7}, drift.KSWIN),
        ("KSWIN", {"alpha": 1e-3, "window_size": 200, "stat_size": 50, "seed": 3}, drift.KSWIN),
    ]
    if "errors" in name:
        asked += [
            ("DDM", {}, drift.binary.DDM),
            ("DDM", {"warm_start": 100, "drift_threshold": 2.5}, drift.binary.DDM),
            ("EDDM", {}, drift.binary.EDDM),
            ("EDDM", {"alpha": 0.8, "beta": 0.7, "warm_start": 20}, drift.binary.EDDM),
        ]
    found = []
    for detector, parameters, make in asked:
        count = MANY if detector == "KSWIN" else len(values)
        running, drifts, warnings = make(**parameters), [], 0
        for n, value in enumerate(values[:count].tolist()):
            running.update(value)
            warnings += getattr(running, "warning_detected", False)
            if running.drift_detected:
                drifts.append(n)
        found.append(
            {
                "series": name,
                "detector": detector,
                "parameters": parameters,
                "count": count,
                "drifts": drifts,
                "warnings": warnings,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    found = series(folder)
    document = {
        "library": "river",
        "version": version("river"),
        "licence": "BSD-3-Clause",
        "series": {name: packed(values) for name, values in found.items()},
        "answers": [one for name, values in found.items() for one in answers(name, values)],
    }
    text = json.dumps(document, separators=(",", ":"))
    (HERE / "river.json").write_text(text.replace('{"series"', '\n{"series"') + "\n")


if __name__ == "__main__":
    main()
