"""How well accuracy is estimated without labels, on real streams that drift.

    python -m benchmarks.estimating --data DIR [--json FILE] [--quick] [stream ...]

Labels come 1,000 samples late.  A model (one hidden layer of 64) is trained on the last 5,000
samples whose labels are known and used for 5,000 samples, in intervals of 250.  Then the next is
trained, and so on to the end.  At the end of each interval its accuracy is estimated, with what was
known then, as `PerformanceTrigger` does it:

    CBPE        mean confidence, with the temperature of the first 1,000 samples that the model has
                not learned from, once their labels are known; before that, with the temperature
                of the model before
    raw         mean confidence as the model gives it
    ATC         thresholded confidence, learned from the same samples
    last known  the accuracy on the newest interval whose labels are known: no estimate at all

What is shown is the mean absolute error in points of accuracy over all intervals in which all four
say something, and for each the bias; beside it, how much accuracy itself moves.  Sampling noise is
part of it: an interval of 250 samples at an accuracy of 0.8 has a standard deviation of 2.5 points.
`--data` is a folder with the originals (benchmarks/selecting/streams.py says which).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_line
from benchmarks.selecting.streams import STREAMS, NotThereError, Samples
from modyn.metrics import Accuracy
from modyn.policies import ATC, CBPE

NAMES = ("insects", "weather", "cve", "flights", "air")
TRAINED, INTERVAL, LATE, CALIBRATION = 5000, 250, 1000, 1000
EPOCHS, BATCH, RATE, HIDDEN = 10, 64, 0.01, 64
SEEDS = (0, 1, 2)
Floats = npt.NDArray[np.float32]


def trained(samples: Samples, first: int, last: int, classes: int, seed: int) -> Any:
    """Return what predicts: a model trained on a part of the stream."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    x = samples.dense[first:last]
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    inputs = torch.from_numpy((x - mean) / spread)
    labels = torch.from_numpy(samples.labels[first:last])
    model = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()

    def predict(one: int, other: int) -> Floats:
        with torch.no_grad():
            logits = model(torch.from_numpy((samples.dense[one:other] - mean) / spread))
        found: Floats = torch.softmax(logits, dim=1).numpy()
        return found

    return predict


def estimates(samples: Samples, classes: int, seed: int) -> list[dict[str, float]]:
    """Return, by interval, the accuracy and what was estimated of it."""
    rows: list[dict[str, float]] = []
    learned: dict[str, Any] = {"CBPE": None, "ATC": None}
    methods = {"CBPE": CBPE(), "ATC": ATC()}
    known: list[tuple[int, float]] = []  # the ends of intervals, and accuracies
    count = len(samples.labels)
    for start in range(TRAINED + LATE, count - TRAINED + 1, TRAINED):
        learned_until = start - LATE
        predict = trained(samples, learned_until - TRAINED, learned_until, classes, seed)
        own = False
        for first in range(start, start + TRAINED, INTERVAL):
            last = first + INTERVAL
            if not own and last >= learned_until + CALIBRATION + LATE:
                some = predict(learned_until, learned_until + CALIBRATION)
                labels = samples.labels[learned_until : learned_until + CALIBRATION]
                learned = {name: one.calibrate(some, labels) for name, one in methods.items()}
                own = True
            says = predict(first, last)
            true = float((says.argmax(axis=1) == samples.labels[first:last]).mean())
            row = {
                name: one.estimate(Accuracy(), says, learned[name]) for name, one in methods.items()
            }
            row["raw"] = CBPE(calibrated=False).estimate(Accuracy(), says, None)
            told = [accuracy for end, accuracy in known if end + LATE <= last]
            row["last known"] = told[-1] if told else float("nan")
            rows.append({"accuracy": true, **row})
            known.append((last, true))
    return [row for row in rows if np.isfinite(list(row.values())).all()]


def measured(name: str, folder: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return the errors on a stream."""
    stream = STREAMS[name]
    samples = stream.read(folder)
    classes = int(samples.labels.max()) + 1
    began = time.perf_counter()
    runs = [estimates(samples, classes, seed) for seed in seeds]
    found: dict[str, Any] = {
        "stream": name,
        "samples": len(samples.labels),
        "intervals": len(runs[0]),
        "seeds": len(seeds),
        "accuracy": round(float(np.mean([r["accuracy"] for run in runs for r in run])), 4),
        "accuracy_std": round(
            float(np.mean([np.std([r["accuracy"] for r in run]) for run in runs])), 4
        ),
        "seconds": round(time.perf_counter() - began, 1),
    }
    for method in ("CBPE", "raw", "ATC", "last known"):
        off = [np.array([r[method] - r["accuracy"] for r in run]) for run in runs]
        errors = [100 * float(np.abs(one).mean()) for one in off]
        found[method] = {
            "error": round(float(np.mean(errors)), 2),
            "error_std": round(float(np.std(errors)), 2),
            "bias": round(100 * float(np.mean([one.mean() for one in off])), 2),
        }
    return found


def main() -> None:
    """Measure, print, and write what was found."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("streams", nargs="*", default=[n for n in NAMES if n in STREAMS])
    given = parser.parse_args()
    seeds = SEEDS[:1] if given.quick else SEEDS
    print(machine_line(Path()))
    found = []
    for name in given.streams:
        try:
            found.append(measured(name, given.data, seeds))
        except NotThereError as error:
            print(f"{name}: left out: {error}")
            continue
        one = found[-1]
        print(
            f"{name}: accuracy {one['accuracy']:.3f}, moves by {100 * one['accuracy_std']:.1f}; "
            + ", ".join(
                f"{m} {one[m]['error']:.1f} ({one[m]['bias']:+.1f})"
                for m in ("CBPE", "raw", "ATC", "last known")
            ),
            flush=True,
        )
    if given.json is not None:
        result = {"machine": machine_line(Path()), "streams": found}
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
