"""What a backtest calls exact is what a run comes to, for every family of policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import modyn
from modyn import drift
from modyn.backtesting import AtPositions, Backtest, backtest
from modyn.backtesting.tape import Tape
from modyn.downsampling import RHOLoss
from modyn.drift.detectors import ADWIN, DDM, KSWIN, PageHinkley
from modyn.metrics import Accuracy
from modyn.pipelines import EvalDataset, EvalHandler, Evaluation, SlicingEvalStrategy
from modyn.policies import (
    ATC,
    CBPE,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    Context,
    Custom,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    DetectorTrigger,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    EnsembleTrigger,
    MajorityVote,
    NewData,
    PerformanceTrigger,
    Random,
    Selected,
    Selection,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    ThresholdDecisionCriterion,
    TimeTrigger,
    Trigger,
)
from modyn.policies.drift import Metric
from modyn.sampling import Candidates
from tests.python import streams

COUNT, EVERY = 240, 20


def measured(models: str) -> Evaluation:
    handler = EvalHandler(strategy=SlicingEvalStrategy(eval_every="30s"), models=models)
    return Evaluation(handlers=(handler,), datasets=(EvalDataset(metrics=(Accuracy(),)),))


@dataclass
class Recording:
    """A run with a model every 20 of 240 samples, and what is needed for others like it."""

    dataset: modyn.Dataset
    run: modyn.Run
    settings: dict[str, Any]
    folder: Any

    def judged(self, policies: dict[str, Trigger]) -> Backtest:
        return backtest(self.run, policies, dataset=self.dataset, without_model="zero")

    def replayed(self, name: str, policy: Trigger) -> modyn.Run:
        """The run of a policy; what was trained for another is not trained again."""
        pipeline = streams.pipeline(
            self.dataset, **{**self.settings, "trigger": policy, "evaluation": measured("active")}
        )
        return pipeline.replay(self.folder / name, models=self.folder / "models")


def erase(dataset, keys) -> None:
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(sorted({int(key) for key in keys}), reason="asked to")
    dataset.refresh()


def recording(folder, *, order="time", delay=0, erased=(), **more) -> Recording:
    late = "late" if order == "arrival" else "time"
    dataset = streams.drifting(folder / "stream", count=COUNT, order=late)
    if len(erased):
        erase(dataset, erased)
    settings = {
        "order": order,
        "label_delay": delay,
        "selection": NewData(tail_triggers=None),
        "training": modyn.Training(batch_size=32, optimizers=streams.sgd()),
        "trigger": DataAmountTrigger(num_samples=EVERY),
        "evaluation": measured("matrix"),
        **more,
    }
    run = streams.pipeline(dataset, **settings).replay(folder / "run", models=folder / "models")
    return Recording(dataset, run, settings, folder)


@pytest.fixture(
    scope="module",
    params=[("time", 0, 0), ("arrival", 0, 0), ("time", 35, 0), ("arrival", 35, 9)],
    ids=lambda which: "-".join(map(str, which)),
)
def recorded(request, tmp_path_factory) -> Recording:
    """In either order, labels late or not, and with every ninth sample erased before."""
    order, delay, every = request.param
    erased = range(7, COUNT, every) if every else ()
    return recording(tmp_path_factory.mktemp("exact"), order=order, delay=delay, erased=erased)


def below(threshold, every=EVERY, **more):
    low = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=threshold)
    return PerformanceTrigger(
        evaluation_interval_data_points=every, decision_criteria={"low": low}, **more
    )


def waiting(worth, **more):
    return DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=EVERY, incorporation_delay_per_training_second=worth, **more
    )


def avoidable(worth, **more):
    return AvoidableMisclassificationCostTrigger(
        evaluation_interval_data_points=EVERY,
        avoidable_misclassification_latency_per_training_second=worth,
        **more,
    )


def detecting(detector, **more):
    return DetectorTrigger(evaluation_interval_data_points=EVERY, detector=detector, **more)


def moved(threshold, of="predictions", every=2 * EVERY, **more):
    metric = Metric(
        metric=drift.KS(), decision_criterion=ThresholdDecisionCriterion(threshold=threshold), of=of
    )
    return DataDriftTrigger(
        evaluation_interval_data_points=every, metrics={"ks": metric}, sample_size=30, **more
    )


def together(rule, **subtriggers):
    return EnsembleTrigger(subtriggers=subtriggers, ensemble_strategy=rule)


WARM = {"warmup_intervals": 2, "warmup_policy": TimeTrigger(every="20s")}
RATE = {"training_samples_per_second": 40.0}
FAMILIES: dict[str, dict[str, Trigger]] = {
    "cost": {
        "waiting": waiting(300.0, **RATE),
        "waiting, warm": waiting(80.0, **RATE, **WARM),
        "waiting, measured": waiting(1e5, conversion="divide"),
        "multiplied": waiting(0.002, conversion="multiply", cost_tracking_window_size=2, **RATE),
        "avoidable": avoidable(60.0, expected_accuracy=0.9, **RATE),
        "avoidable, reduced": avoidable(30.0, expected_accuracy=0.8, allow_reduction=True, **RATE),
        "avoidable, forecast": avoidable(10.0, **RATE, **WARM),
        "avoidable, ahead": avoidable(90.0, expected_accuracy=0.95, mode="lookahead", **RATE),
    },
    "detectors": {
        "adwin": detecting(ADWIN(delta=0.3, clock=1, grace_period=5, min_window_length=2)),
        "ddm": detecting(DDM(warm_start=10, drift_threshold=1.5)),
        "page-hinkley": detecting(PageHinkley(threshold=2.0, min_instances=5), of="losses"),
        "kswin": detecting(
            KSWIN(alpha=0.05, window_size=30, stat_size=10), of="uncertainty", **WARM
        ),
        "kept": detecting(PageHinkley(threshold=3.0, min_instances=5), reset_on_model=False),
    },
    "ensembles": {
        "both": together(AtLeastN(n=2), amount=DataAmountTrigger(num_samples=40), low=below(0.9)),
        "most": together(
            MajorityVote(),
            time=TimeTrigger(every="60s"),
            low=below(0.85),
            cost=waiting(200.0, **RATE),
        ),
        "nested": together(
            AtLeastN(n=1),
            seldom=DataAmountTrigger(num_samples=5 * EVERY),
            inner=together(AtLeastN(n=2), drift=moved(0.3), low=below(0.95, every=2 * EVERY)),
        ),
        "own rule": together(
            Custom(aggregation_function=lambda votes: votes["a"] and not votes["b"]),
            a=DataAmountTrigger(num_samples=3 * EVERY),
            b=TimeTrigger(every="150s"),
        ),
    },
    "estimated": {
        "cbpe": below(0.75, estimator=CBPE(calibration_samples=30)),
        "plain": below(0.7, estimator=CBPE(calibrated=False)),
        "atc": below(0.8, estimator=ATC(calibration_samples=20)),
        "forecast": PerformanceTrigger(
            evaluation_interval_data_points=EVERY,
            decision_criteria={
                "number": StaticNumberAvoidableMisclassificationCriterion(
                    avoidable_misclassification_threshold=4
                )
            },
            mode="lookahead",
            **WARM,
        ),
        "conformal": PerformanceTrigger(
            evaluation_interval_data_points=EVERY,
            decision_criteria={
                "q": DynamicQuantilePerformanceThresholdCriterion(
                    metric="Accuracy", quantile=0.3, window_size=5, conformal=True
                )
            },
            **WARM,
        ),
    },
    "warmed by others": {
        "by drift": waiting(
            300.0, **RATE, warmup_intervals=5, warmup_policy=moved(0.3, every=EVERY)
        ),
        "by one that is warmed": below(
            0.8, warmup_intervals=5, warmup_policy=below(0.9, every=30, **WARM)
        ),
        "by an ensemble": detecting(
            PageHinkley(threshold=2.0, min_instances=5),
            warmup_intervals=5,
            warmup_policy=together(
                AtLeastN(n=2), amount=DataAmountTrigger(num_samples=EVERY), low=below(0.9)
            ),
        ),
        "in an ensemble": together(
            AtLeastN(n=1),
            drift=moved(0.4, every=EVERY, warmup_intervals=4, warmup_policy=below(0.9)),
            seldom=DataAmountTrigger(num_samples=5 * EVERY),
        ),
    },
    "plain": {
        "low": below(0.85),
        "drift": moved(0.3),
        "drift at once": moved(0.3, every=EVERY),
        "labels": moved(0.15, of="labels"),
        "scores anew": DataDriftTrigger(
            evaluation_interval_data_points=EVERY,
            metrics={
                "ks": Metric(
                    metric=drift.KS(),
                    decision_criterion=DynamicRollingAverageThresholdCriterion(
                        window_size=3, deviation=0.2
                    ),
                )
            },
            reset_history_on_model=True,
            **WARM,
        ),
    },
}


def compared(recorded, found, name):
    """Triggers, trainings and composite accuracy: of the backtest, and of the run."""
    entry = found[name]
    outcome = entry.outcomes[0]
    real = recorded.replayed(name, entry.trigger)
    tape = Tape.of(recorded.run, recorded.dataset)
    positions = [tape.position(place) for place in outcome.schedule.places.tolist()]
    trained = [row.model for row in real.trainings if row.model is not None]
    score = composite(real, since=begun(recorded.run)) if trained else 0.0
    theirs = ([row.position for row in real.transitions], trained, pytest.approx(score, abs=1e-12))
    return (positions, outcome.models, entry.score), theirs


def begun(run):
    """Up to which timestamp the first model that was recorded had learned."""
    models = {row.trigger for row in run.trainings if row.model is not None}
    return min(row.trained_until for row in run.transitions if row.trigger in models)


def composite(run, since):
    """The accuracy of the composite model after a time; 0 in windows without a model."""
    rows = [row for row in run.composite("accuracy") if row["start"] > since]
    weights = np.array([row["count"] for row in rows])
    return float(np.array([row["value"] or 0.0 for row in rows]) @ weights / weights.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_called_exact_is_what_a_run_comes_to(recorded, family):
    """Every other policy of a family, the rest in the other order or with other labels."""
    late, arrival = (recorded.settings[name] for name in ("label_delay", "order"))
    begin = int((late > 0) != (arrival == "arrival"))
    policies = dict(list(FAMILIES[family].items())[begin::2])
    found = recorded.judged(policies)

    exact = [entry.name for entry in found if entry.exact]
    assert len(exact) >= len(found) - 1
    for name in exact:
        ours, theirs = compared(recorded, found, name)
        assert ours == theirs, name


class EveryThird(Selection):
    """Of all so far, which the class says."""

    tail_triggers = None

    def select(self, candidates: Candidates, context: Context) -> Selected:
        return Selected(candidates.keys[::3])


def test_candidates_are_those_that_the_class_of_a_selection_asks_for(tmp_path):
    """Where no label became known since the last trigger, it trains on all before once more."""
    recorded = recording(
        tmp_path, delay=35, selection=EveryThird(), trigger=AtPositions(positions=[60, 60, 90])
    )

    outcome = recorded.judged({"it": recorded.settings["trigger"]})["it"].outcomes[0]

    assert outcome.exact
    assert outcome.models == [row.model for row in recorded.run.trainings]
    assert outcome.ask.first.tolist() == [0, 0, 0]


def test_a_training_is_as_large_as_it_was_without_what_was_held_out(tmp_path):
    """RHO-LOSS holds samples out, so that trainings are smaller and fall due sooner."""
    policy = waiting(300.0, **RATE)
    recorded = recording(
        tmp_path, trigger=policy, downsampling=RHOLoss(ratio=50, holdout_set_ratio=30)
    )

    found = recorded.judged({"it": policy})
    sizes = [row.samples for row in recorded.run.trainings]
    places = found["it"].outcomes[0].schedule.places

    assert found["it"].exact
    assert sizes == [place - place * 30 // 100 for place in places.tolist()]
    ours, theirs = compared(recorded, found, "it")
    assert ours == theirs


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_pipeline_what_is_called_exact_is(seed, tmp_path):
    """Draws, models that go on, tails, and erasures before the run and since."""
    rng = np.random.default_rng(seed)
    follows = bool(rng.integers(2))
    choices = [NewData(tail_triggers=t) for t in (None, 0, 1, 2)]
    choices += [Random(ratio=r, tail_triggers=None) for r in (50, 3)]
    choices += [NewData(tail_triggers=None, limit=50)]
    which = int(rng.integers(len(choices)))
    before = int(rng.choice([0, 15])) if which < 4 else 0  # of draws one cannot tell when
    recorded = recording(
        tmp_path,
        order=str(rng.choice(["time", "arrival"])),
        delay=int(rng.choice([0, 0, 35])),
        erased=rng.integers(0, COUNT, before),
        selection=choices[which],
        training=modyn.Training(
            batch_size=32, use_previous_model=follows, optimizers=streams.sgd()
        ),
        trigger=[DataAmountTrigger(num_samples=EVERY), below(0.85), waiting(300.0, **RATE)][
            rng.integers(3)
        ],
    )
    erase(recorded.dataset, rng.integers(COUNT // 2, COUNT, int(rng.choice([0, 0, 3]))))
    policies = {name: one for family in FAMILIES.values() for name, one in family.items()}
    found = recorded.judged({**policies, "as recorded": recorded.settings["trigger"]})

    for entry in found:
        if entry.exact:
            ours, theirs = compared(recorded, found, entry.name)
            assert ours[:2] == theirs[:2], entry.name  # windows have fewer samples since
