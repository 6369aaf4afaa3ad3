"""The drift trigger with lists of samples instead of positions: the plain twin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from modyn.policies.drift import Metric
from tests.reference.permutation import draw, stream
from tests.reference.selection import uniform

POSITION = 40  # MDN_STREAM_POSITION of csrc/base/random.h


@dataclass(frozen=True)
class Sample:
    """What the twin knows of a sample; positions count those that were erased, too."""

    position: int
    key: int
    timestamp: int


Samples = list[Sample]


@dataclass
class Settings:
    """Parameters of a trigger, written out."""

    interval: int
    metrics: Mapping[str, Metric]
    row: Callable[[str, int, int], list[float]]  # of what, trigger of the model, key
    decide: Callable[[list[bool]], bool] = lambda votes: sum(votes) > len(votes) / 2
    amount: tuple[int, int] | None = None
    time: tuple[int, int] | None = None  # in units of timestamps
    overlap: bool = False
    sample_size: int | None = None
    warmup_intervals: int = 0
    warmup_every: int | None = None  # the warm-up policy fires after so many samples
    anew: bool = False  # reset_history_on_model
    cut: bool = False  # reset_windows_in_warmup
    seed: int = 0


@dataclass
class Outcome:
    """Where the trigger fired, and the distances by interval and metric."""

    fired: list[int] = field(default_factory=list)
    distances: dict[int, dict[str, float]] = field(default_factory=dict)
    windows: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)


def reference_of(before: Samples, how: Settings) -> Samples:
    """The newest of the samples before the last trigger."""
    if how.amount is not None:
        return [s for s in before if s.position > before[-1].position - how.amount[0]]
    assert how.time is not None
    return [s for s in before if s.timestamp >= before[-1].timestamp - how.time[0]]


def current_of(before: Samples, since: Samples, how: Settings) -> Samples:
    """The newest of all samples, or of those since the last trigger."""
    offered = before + since if how.overlap else since
    if how.amount is not None:
        return [s for s in offered if s.position > since[-1].position - how.amount[1]]
    assert how.time is not None
    return [s for s in offered if s.timestamp >= since[-1].timestamp - how.time[1]]


def distance(
    reference: Samples, current: Samples, name: str, model: int, how: Settings, end: int
) -> float:
    """The distance of two windows as a model sees them; `end` is where the reference ended."""
    seeds = stream(how.seed, POSITION)
    sides = []
    for window, last in ((reference, end), (current, current[-1].position + 1)):
        keys = [s.key for s in window]
        if how.sample_size is not None:
            keys = uniform(keys, how.sample_size, seed=draw(seeds, last))
        sides.append([how.row(how.metrics[name].of, model, key) for key in sorted(keys)])
    if not sides[0] or not sides[1]:
        return math.nan
    metric = how.metrics[name].metric
    return metric.distance(np.array(sides[0]), np.array(sides[1]), seed=draw(seeds, end)).value


def run(samples: Samples, how: Settings) -> Outcome:
    """Go through the stream interval by interval."""
    out = Outcome()
    before: Samples = []  # the last trigger, or where windows were cut
    since: Samples = []
    histories: dict[str, list[float]] = {name: [] for name in how.metrics}
    pairs: list[tuple[Samples, Samples, int]] = []
    warm: list[tuple[Samples, int]] = []
    last_warm: Samples | None = None
    scored_by = 0
    for index in range(len(samples) // how.interval):
        interval = samples[index * how.interval : (index + 1) * how.interval]
        since = since + interval
        last = interval[-1].position + 1
        end = before[-1].position + 1 if before else 0
        reference, current = reference_of(before, how), current_of(before, since, how)
        out.windows[index] = ([s.key for s in reference], [s.key for s in current])
        model = len(out.fired)
        if index < how.warmup_intervals or model == 0:
            every = how.warmup_every
            due = index < how.warmup_intervals and every is not None
            seen = index * how.interval
            fires = model == 0 or (due and seen // every != (seen + how.interval) // every)
            if index < how.warmup_intervals:
                warm.append((reference, end) if reference else (current, last))
                last_warm = current
        else:
            if last_warm is not None:  # calibration
                for window, where in warm:
                    if window != last_warm:
                        pairs.append((window, last_warm, where))
                        for name in how.metrics:
                            histories[name].append(
                                distance(window, last_warm, name, model, how, where)
                            )
                last_warm = None
            if how.anew and scored_by not in (0, model):
                for name, metric in how.metrics.items():
                    width = max(m.decision_criterion.window_size for m in how.metrics.values())
                    if metric.of in ("embeddings", "predictions"):
                        histories[name] = [
                            distance(one, other, name, model, how, where)
                            for one, other, where in pairs[-width:]
                        ]
            scored_by = model
            votes, scores = [], {}
            for name, metric in how.metrics.items():
                score = distance(reference, current, name, model, how, end)
                finite = [s for s in histories[name] if not math.isnan(s)]
                width = metric.decision_criterion.window_size
                history = finite[-width:] if width else []
                votes.append(metric.decision_criterion.verdict(score, history, lower=False).fires)
                histories[name].append(score)
                scores[name] = score
            pairs.append((reference, current, end))
            out.distances[index] = scores
            fires = not reference or how.decide(votes)
        cut = how.cut and index + 1 < how.warmup_intervals
        if fires:
            out.fired.append(last)
        if fires or cut:
            before, since = before + since, []
    return out
