"""The worked pictures of docs/triggers: what policies saw on real streams, where they fired."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.picture import CURVES
from benchmarks.section import Section
from benchmarks.triggering import families, models, picture, races
from benchmarks.triggering.families import INTERVAL, avoidable, by_detector, by_drift, over
from benchmarks.triggering.picture import BOUND, Line, Panel
from benchmarks.triggering.site import Site, seconds_apart
from benchmarks.triggering.streams import MICRO, STREAMS
from modyn import drift
from modyn.drift import detectors
from modyn.pipelines import Run
from modyn.policies import (
    AtLeastN,
    DataAmountTrigger,
    EnsembleTrigger,
    MajorityVote,
    PerformanceTrigger,
    StaticPerformanceThresholdCriterion,
    TimeTrigger,
    Trigger,
)

NOBODY = "watch"
YEAR = 365.25 * 86_400


def watched(policy: Trigger) -> Trigger:
    """A policy, and one that never fires and notes how right the model is."""
    watch = PerformanceTrigger(
        evaluation_interval_data_points=INTERVAL,
        decision_criteria={
            "one": StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=-1.0)
        },
    )
    return EnsembleTrigger(
        subtriggers={"policy": policy, NOBODY: watch}, ensemble_strategy=AtLeastN(n=1)
    )


def run(site: Site, name: str, policy: Trigger) -> Run:
    """Run a policy on a stream with the first seed; the run is read before it is removed."""
    stream = STREAMS[name]
    dataset = site.dataset(stream)
    with TemporaryDirectory(dir=site.folder) as directory:
        made = models.pipeline(dataset, stream, policy, seed=0)
        found = made.replay(Path(directory) / "run", models=site.folder / "models")
        found.decisions, found.transitions  # noqa: B018  (read while they are there)
        return found


def notes(found: Run, ending: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield position and values of what a policy noted."""
    table = found.decisions
    for name, position, values in zip(
        table["name"], table["position"], table["values"], strict=True
    ):
        if name.endswith(ending):
            yield position, values


def fired(found: Run) -> list[float]:
    """Return where a run trained, but for the first time."""
    return [float(row.position) for row in found.transitions][1:]


def right(found: Run, colour: str, name: str) -> Line:
    """Return percent right by interval, as the watch of a run noted it."""
    rows = [
        (one["last"], 100 * one["scores"]["Accuracy"])
        for _, values in notes(found, f"{NOBODY}.PerformanceTrigger")
        for one in values["judged"]
    ]
    return Line(name, [p for p, _ in rows], [v for _, v in rows], colour)


def number(value: float | None) -> float:
    return math.nan if value is None else value


def schedules(site: Site) -> str:
    """When reports come, and where schedules by time and by amount train."""
    by_time = run(site, "cve", TimeTrigger(every="1y"))
    by_amount = run(site, "cve", DataAmountTrigger(num_samples=2000))
    times = site.dataset(STREAMS["cve"]).timestamps / MICRO / YEAR + 1970
    begin, end = times[models.FIRST], times[-1]
    edges = np.arange(math.floor(4 * begin) / 4, end + 0.25, 0.25)
    counts = np.histogram(times, edges)[0]
    panels = [
        Panel(
            "reports in a quarter of a year (every 5th report is in the stream)",
            [Line("", (edges[:-1] + 0.125).tolist(), counts.astype(float).tolist())],
            least=0.0,
        ),
        Panel(
            "trainings",
            rows={
                "every: 1y": [float(times[int(p) - 1]) for p in fired(by_time)],
                "2,000 each": [float(times[int(p) - 1]) for p in fired(by_amount)],
            },
        ),
    ]
    return picture.series(
        "A schedule by time and one by amount",
        "vulnerability reports: where data come in bursts the two part",
        "year",
        panels,
    )


def drifting(site: Site) -> str:
    policy = by_drift("features", drift.KS(), over(0.07))
    found = run(site, "insects", watched(policy))
    count = len(fired(found))
    each = max(round((24_150 - models.FIRST) / (count + 1)), 1)
    even = run(site, "insects", watched(DataAmountTrigger(num_samples=each)))
    rows = [(p, v["metrics"]["one"]) for p, v in notes(found, "policy.DataDriftTrigger")]
    places = [float(p) for p, _ in rows]
    panels = [
        Panel(
            "KS distance of the last 500 samples or fewer from the 1,000 before the training",
            [
                Line("threshold", places, [v["threshold"] for _, v in rows], BOUND, True),
                Line("distance", places, [number(v["distance"]) for _, v in rows]),
            ],
            fired(found),
            least=0.0,
        ),
        Panel(
            f"percent right: {count} trainings by drift, {len(fired(even))} evenly spread",
            [right(even, CURVES[3], "every " + f"{each:,}"), right(found, CURVES[2], "by drift")],
        ),
    ]
    return picture.series(
        "DataDriftTrigger: KS on features, threshold 0.07",
        "insects: it trains where the features move, and rests where they do not",
        "samples",
        panels,
    )


def performing(site: Site) -> str:
    found = run(site, "insects", families.by_performance(families.falls(0.03)))
    rows = [
        (one["last"], one["criteria"]["one"])
        for _, values in notes(found, "PerformanceTrigger")
        for one in values["judged"]
    ]
    places = [float(p) for p, _ in rows]
    thresholds = [100 * number(v["threshold"]) for _, v in rows]
    panels = [
        Panel(
            "accuracy on each interval, and the mean of the last ten less 3 points",
            [
                Line("threshold", places, thresholds, BOUND, True),
                Line("percent right", places, [100 * v["score"] for _, v in rows]),
            ],
            fired(found),
        )
    ]
    return picture.series(
        "PerformanceTrigger: accuracy falls by 3 points",
        "insects: intervals of 250 samples, judged by the newest model",
        "samples",
        panels,
    )


def costing(site: Site) -> str:
    apart = seconds_apart(site.dataset(STREAMS["insects"]))
    entry = next(
        e for e in families.costing(apart) if (e.family, e.setting) == ("avoidable latency", "40")
    )
    found = run(site, "insects", entry.make())
    rows = list(notes(found, "AvoidableMisclassificationCostTrigger"))
    rows = [(p, v) for p, v in rows if "converted" in v]
    places = [float(p) for p, _ in rows]
    panels = [
        Panel(
            "what waiting has cost since the last training, in seconds of training",
            [
                Line("a training", places, [v["training_seconds"] for _, v in rows], BOUND, True),
                Line("waiting", places, [v["converted"] for _, v in rows]),
            ],
            fired(found),
            least=0.0,
            most=0.12,
        )
    ]
    return picture.series(
        "AvoidableMisclassificationCostTrigger",
        "insects: mistakes that a new model would not make pile up until a training pays",
        "samples",
        panels,
    )


def detecting(site: Site) -> str:
    found = run(site, "elec2", by_detector(detectors.ADWIN()))
    rows = list(notes(found, "DetectorTrigger"))
    seen = [float(v["first"] + place) for _, v in rows for place in v["drifts"]]
    panels = [
        Panel(
            "mistakes of the newest model",
            [
                Line(
                    "percent wrong, by interval",
                    [float(p) for p, _ in rows],
                    [100 * number(v["mean"]) for _, v in rows],
                )
            ],
            fired(found),
        ),
        Panel("", rows={"drift seen": seen, "trigger": fired(found)}),
    ]
    return picture.series(
        "DetectorTrigger: ADWIN over mistakes",
        "electricity: each change of the mean by more than chance explains",
        "samples",
        panels,
    )


def voting(site: Site) -> str:
    parts = {
        "drift": by_drift("embeddings", drift.MMD(), over(0.02)),
        "performance": families.by_performance(avoidable(20)),
        "detector": by_detector(detectors.ADWIN()),
    }
    policy = EnsembleTrigger(subtriggers=parts, ensemble_strategy=MajorityVote())
    found = run(site, "insects", policy)
    rows: dict[str, list[float]] = {}
    for name, ending in (
        ("drift", "drift.DataDriftTrigger"),
        ("mistakes", "performance.PerformanceTrigger"),
        ("detector", "detector.DetectorTrigger"),
    ):
        rows[name] = [
            float(p) for p, v in notes(found, ending) if v.get("fires", v.get("triggered"))
        ]
    rows["trigger"] = fired(found)
    return picture.series(
        "EnsembleTrigger: two of three",
        "insects: votes stay until the ensemble fires",
        "samples",
        [Panel("votes, and what came of them", rows=rows)],
    )


PICTURES: dict[str, Callable[[Site], str]] = {
    "time-and-amount": schedules,
    "drift": drifting,
    "performance": performing,
    "cost": costing,
    "detectors": detecting,
    "ensembles": voting,
}


def raced(site: Site, name: str) -> str:
    one = next(race for race in races.races(site) if race.stream.name == name)
    return picture.race(one)


def measure(site: Site) -> Section:
    """Draw all pictures."""
    folder = site.folder if site.into is None else site.into
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {**PICTURES} | {
        f"race-{stream.name}": partial(raced, name=stream.name) for stream in site.streams()
    }
    for name, draw in drawn.items():
        (folder / f"{name}.svg").write_text(draw(site))
    return Section(
        id="T4",
        title="Pictures",
        about="What policies saw on a real stream, and where they fired.",
        notes=[f"drawn: {', '.join(drawn)}"],
    )
