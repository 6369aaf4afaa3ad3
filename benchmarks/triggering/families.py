"""The policies that are compared: fixed schedules, and each family over a few settings.

All look at the stream every 250 samples. Those that compare with earlier scores are calibrated on
the first eight intervals, in which nobody trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.triggering.streams import Stream
from modyn import drift
from modyn.drift import detectors
from modyn.policies import (
    AmountWindowingStrategy,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    DetectorTrigger,
    DynamicQuantileThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    EnsembleTrigger,
    MajorityVote,
    PerformanceTrigger,
    StaticNumberAvoidableMisclassificationCriterion,
    ThresholdDecisionCriterion,
    TimeTrigger,
    Trigger,
)
from modyn.policies.drift import Metric
from modyn.policies.estimation import CBPE

INTERVAL = 250
WARMUP = 8
NEVER = 10**9
LATE = 1000  # samples, after which labels are known where they are late
RATE = 20_000.0  # samples a second, by which cost triggers reckon: the same on every machine
AMOUNTS = (250, 375, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000, 8000, NEVER)

CHOSEN = {  # a setting for each family, the same on all streams
    "MMD, embeddings": ("0.02", "quantile 0.05"),
    "KS, features": ("0.09",),
    "JS, predictions": ("0.1",),
    "classifier, features": ("0.6",),
    "accuracy falls": ("0.03",),
    "avoidable": ("20",),
    "avoidable latency": ("20",),
    "ADWIN": ("0.002",),
    "Page-Hinkley": ("20",),
    "DDM": ("3",),
    "EDDM": ("0.7",),
    "KSWIN": ("0.005",),
    "ADWIN, uncertainty": ("0.002",),
    "ensemble": ("any", "majority"),
}


@dataclass(frozen=True)
class Entry:
    """A policy with its settings."""

    family: str
    setting: str
    make: Callable[[], Trigger]
    labels: bool = True  # whether it needs any
    late: int = 0  # after how many samples a label is known

    @property
    def fixed(self) -> bool:
        return self.family in ("amount", "time")


def never() -> Trigger:
    return DataAmountTrigger(num_samples=NEVER)


def by_drift(of: str, metric: drift.DriftMetric, criterion: object) -> Trigger:
    """A drift trigger over the last 1,000 samples of the training, and up to 500 since."""
    needs = bool(getattr(criterion, "needs_calibration", False))
    return DataDriftTrigger(
        evaluation_interval_data_points=INTERVAL,
        metrics={"one": Metric(metric=metric, decision_criterion=criterion, of=of)},  # type: ignore[arg-type]
        windowing_strategy=AmountWindowingStrategy(amount_ref=1000, amount_cur=500),
        warmup_intervals=WARMUP if needs else None,
        warmup_policy=never() if needs else None,
        reset_history_on_model=needs,
    )


def over(threshold: float) -> ThresholdDecisionCriterion:
    return ThresholdDecisionCriterion(threshold=threshold)


def beyond(quantile: float) -> DynamicQuantileThresholdCriterion:
    return DynamicQuantileThresholdCriterion(window_size=15, quantile=quantile)


def by_performance(criterion: object, estimated: bool = False) -> Trigger:
    return PerformanceTrigger(
        evaluation_interval_data_points=INTERVAL,
        decision_criteria={"one": criterion},  # type: ignore[dict-item]
        warmup_intervals=WARMUP,
        warmup_policy=never(),
        estimator=CBPE() if estimated else None,
    )


def falls(deviation: float) -> DynamicRollingAveragePerformanceThresholdCriterion:
    return DynamicRollingAveragePerformanceThresholdCriterion(
        metric="Accuracy", deviation=deviation, absolute=True
    )


def avoidable(count: int) -> StaticNumberAvoidableMisclassificationCriterion:
    return StaticNumberAvoidableMisclassificationCriterion(
        avoidable_misclassification_threshold=count
    )


def by_detector(detector: detectors.Detector, of: str = "errors") -> Trigger:
    return DetectorTrigger(
        evaluation_interval_data_points=INTERVAL,
        detector=detector,
        of=of,  # type: ignore[arg-type]
    )


def fixed(stream: Stream) -> Iterator[Entry]:
    for amount in AMOUNTS:
        name = "never" if amount == NEVER else f"{amount:,}"
        yield Entry("amount", name, lambda n=amount: DataAmountTrigger(num_samples=n), False)
    for period in stream.periods:
        yield Entry("time", period, lambda every=period: TimeTrigger(every=every), False)


def drifting() -> Iterator[Entry]:
    for level in (0.005, 0.01, 0.02):
        yield Entry(
            "MMD, embeddings",
            f"{level:g}",
            lambda t=level: by_drift("embeddings", drift.MMD(), over(t)),
            False,
        )
    for quantile in (0.05,):
        yield Entry(
            "MMD, embeddings",
            f"quantile {quantile:g}",
            lambda q=quantile: by_drift("embeddings", drift.MMD(), beyond(q)),
            False,
        )
    for level in (0.06, 0.07, 0.09):
        yield Entry(
            "KS, features",
            f"{level:g}",
            lambda t=level: by_drift("features", drift.KS(), over(t)),
            False,
        )
    for level in (0.1,):
        yield Entry(
            "JS, predictions",
            f"{level:g}",
            lambda t=level: by_drift("predictions", drift.JensenShannon(), over(t)),
            False,
        )
    for level in (0.6, 0.7):
        yield Entry(
            "classifier, features",
            f"{level:g}",
            lambda t=level: by_drift("features", drift.ClassifierAUC(), over(t)),
            False,
        )


def judging() -> Iterator[Entry]:
    for deviation in (0.01, 0.03):
        yield Entry(
            "accuracy falls", f"{deviation:g}", lambda d=deviation: by_performance(falls(d))
        )
    for count in (10, 20):
        yield Entry("avoidable", str(count), lambda n=count: by_performance(avoidable(n)))


def costing(seconds: float) -> Iterator[Entry]:
    """Cost triggers, for a stream with a sample every so many seconds."""
    for amount in (1000,):
        worth = amount * amount * seconds / 2 / (1000 / RATE)
        yield Entry(
            "latency",
            f"about {amount:,}",
            lambda w=worth: DataIncorporationLatencyCostTrigger(
                evaluation_interval_data_points=INTERVAL,
                incorporation_delay_per_training_second=w,
                training_samples_per_second=RATE,
            ),
            False,
        )
    for count in (10, 20, 40):
        worth = count * 1000 * seconds / (1000 / RATE)
        yield Entry(
            "avoidable latency",
            str(count),
            lambda w=worth: AvoidableMisclassificationCostTrigger(
                evaluation_interval_data_points=INTERVAL,
                warmup_intervals=WARMUP,
                warmup_policy=never(),
                avoidable_misclassification_latency_per_training_second=w,
                training_samples_per_second=RATE,
            ),
        )


def detecting() -> Iterator[Entry]:
    for delta in (0.002, 0.3):
        yield Entry("ADWIN", f"{delta:g}", lambda d=delta: by_detector(detectors.ADWIN(delta=d)))
    for threshold in (5, 10, 20):
        yield Entry(
            "Page-Hinkley",
            str(threshold),
            lambda t=threshold: by_detector(detectors.PageHinkley(threshold=float(t), mode="up")),
        )
    for level in (2.0, 3.0):
        yield Entry(
            "DDM", f"{level:g}", lambda t=level: by_detector(detectors.DDM(drift_threshold=t))
        )
    for beta in (0.7,):
        yield Entry("EDDM", f"{beta:g}", lambda b=beta: by_detector(detectors.EDDM(beta=b)))
    yield Entry("KSWIN", "0.005", lambda: by_detector(detectors.KSWIN()))
    yield Entry(
        "ADWIN, uncertainty",
        "0.002",
        lambda: by_detector(detectors.ADWIN(), of="uncertainty"),
        False,
    )


def together() -> Iterator[Entry]:
    def parts() -> dict[str, Trigger]:
        return {
            "drift": by_drift("embeddings", drift.MMD(), over(0.02)),
            "performance": by_performance(avoidable(20)),
            "detector": by_detector(detectors.ADWIN()),
        }

    for name, rule in (("any", AtLeastN(n=1)), ("majority", MajorityVote())):
        yield Entry(
            "ensemble",
            name,
            lambda r=rule: EnsembleTrigger(subtriggers=parts(), ensemble_strategy=r),
        )


def lately() -> Iterator[Entry]:
    """Policies with and without labels, where these are known late."""
    policies: list[tuple[str, str, Callable[[], Trigger], bool]] = [
        ("amount", "1,000", lambda: DataAmountTrigger(num_samples=1000), False),
        ("accuracy falls", "0.03", lambda: by_performance(falls(0.03)), True),
        ("estimated accuracy falls", "0.03", lambda: by_performance(falls(0.03), True), False),
        ("KS, features", "0.07", lambda: by_drift("features", drift.KS(), over(0.07)), False),
        ("ADWIN", "0.3", lambda: by_detector(detectors.ADWIN(delta=0.3)), True),
        (
            "ADWIN, uncertainty",
            "0.3",
            lambda: by_detector(detectors.ADWIN(delta=0.3), of="uncertainty"),
            False,
        ),
    ]
    for family, setting, make, labels in policies:
        yield Entry(family, setting, make, labels, LATE)


def adaptive(seconds: float) -> list[Entry]:
    """All policies that look, for a stream with a sample every so many seconds."""
    return [*drifting(), *judging(), *costing(seconds), *detecting(), *together()]


def chosen(seconds: float) -> list[Entry]:
    """One or two settings of each family, the same for all streams."""
    return [e for e in adaptive(seconds) if e.setting in CHOSEN.get(e.family, ())]


def entries(stream: Stream, seconds: float) -> list[Entry]:
    """All policies for a stream with a sample every so many seconds."""
    return [*fixed(stream), *(chosen if stream.brief else adaptive)(seconds)]
