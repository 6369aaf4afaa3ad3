"""What an estimate lacks is trained: each recipe once, none that no policy asks for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import modyn
from modyn.backtesting import AtPositions, Cost, backtest
from modyn.cli import app
from modyn.errors import ConfigError
from modyn.pipelines import SlicingEvalStrategy
from modyn.policies import (
    DataAmountTrigger,
    NewData,
    PerformanceTrigger,
    Random,
    StaticPerformanceThresholdCriterion,
    TimeTrigger,
    Trigger,
)
from tests.python import streams

EVERY = 60
ELSEWHERE = Path("/dev/shm")  # which is no folder of the disk


def recorded(folder, name="run", dataset=None, **changes):
    dataset = streams.drifting(folder / "stream", count=360) if dataset is None else dataset
    settings = {
        "trigger": DataAmountTrigger(num_samples=EVERY),
        "evaluation": streams.slices(strategy=SlicingEvalStrategy(eval_every="20s")),
        **changes,
    }
    return dataset, streams.pipeline(dataset, **settings).replay(folder / name)


def trained(folder):
    """How many models were trained in the runs of a folder, and under how many keys."""
    models = [path.name for path in folder.glob("*/*/models/*") if not path.name.startswith(".")]
    return len(models), len(set(models))


def below(threshold):
    criterion = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=threshold)
    return PerformanceTrigger(
        evaluation_interval_data_points=40, decision_criteria={"low": criterion}
    )


@pytest.mark.parametrize("tail", [None, 0, 1])
def test_trained_estimates_are_what_real_runs_come_to(tail, tmp_path):
    dataset, run = recorded(tmp_path, selection=NewData(tail_triggers=tail))
    policies = {"amount": DataAmountTrigger(num_samples=90), "asks": below(0.85)}

    found = backtest(run, policies, dataset=dataset, train_missing=tmp_path / "out")

    for name, policy in policies.items():
        _, real = recorded(
            tmp_path, name, dataset, selection=NewData(tail_triggers=tail), trigger=policy
        )
        outcome = found[name].outcomes[0]
        assert found[name].exact
        assert outcome.schedule.places.tolist() == [row.position for row in real.transitions]
        assert outcome.models == [row.model for row in real.trainings]


def test_each_missing_recipe_is_trained_once_and_no_other(tmp_path):
    dataset, run = recorded(tmp_path, selection=NewData(tail_triggers=0))
    policies = {
        "90": DataAmountTrigger(num_samples=90),  # [0, 90), [90, 180), ...: four
        "90 too": TimeTrigger(every="90s"),  # three of the four
        "180": DataAmountTrigger(num_samples=180),  # two more, across the others
    }

    backtest(run, policies, dataset=dataset, train_missing=tmp_path / "out")

    assert trained(tmp_path / "out") == (6, 6)


def test_what_was_trained_for_one_backtest_is_there_for_the_next(tmp_path):
    dataset, run = recorded(tmp_path, selection=NewData(tail_triggers=0))
    policies = {"90": DataAmountTrigger(num_samples=90)}
    out = tmp_path / "out"

    first = backtest(run, policies, dataset=dataset, train_missing=out)
    there = sorted(out.glob("*/*"))
    again = backtest(run, policies, dataset=dataset, train_missing=out, most=0)

    assert again["90"].exact
    assert again["90"].score == first["90"].score
    assert sorted(out.glob("*/*")) == there


def test_where_history_matters_the_recorded_beginning_is_not_trained_again(tmp_path):
    training = modyn.Training(batch_size=32, use_previous_model=True, optimizers=streams.sgd())
    dataset, run = recorded(tmp_path, training=training)
    policies = {"later": AtPositions(positions=[60, 120, 200])}
    before = {row.model for row in run.trainings}

    found = backtest(run, policies, dataset=dataset, train_missing=tmp_path / "out")
    _, real = recorded(tmp_path, "real", dataset, training=training, trigger=policies["later"])

    new = {path.name for path in (tmp_path / "out").glob("*/*/models/*")} - before
    assert found["later"].exact
    assert new == {real.trainings[2].model}


def test_policies_that_may_still_be_on_the_front_come_first(tmp_path):
    dataset, run = recorded(tmp_path, selection=NewData(tail_triggers=None))
    recorded_one = {"good": DataAmountTrigger(num_samples=EVERY)}
    late = {"hopeless": AtPositions(positions=[350, 351, 352, 353, 354, 355, 356])}
    maybe = {"maybe": DataAmountTrigger(num_samples=90)}

    found = backtest(
        run,
        {**recorded_one, **late, **maybe},
        dataset=dataset,
        cost=Cost(unit="trainings"),
        train_missing=tmp_path / "out",
        most=1,
    )

    assert found["maybe"].exact
    assert not found["hopeless"].exact


class Twice(Trigger):
    """Every 150 samples, and then once more, with nothing new."""

    def __init__(self):
        self._seen = 0

    def inform(self, arrivals, context):
        if context.position == context.triggered_at > 0 and self._seen == 0:
            self._seen = -1
            return 0
        due = 150 - max(self._seen, 0)
        self._seen = 0 if due <= len(arrivals) else 150 - due + len(arrivals)
        return due if due <= len(arrivals) else None

    def state_dict(self):
        return {"seen": self._seen}

    def load_state_dict(self, state):
        self._seen = state["seen"]


def test_a_policy_with_triggers_that_bring_nothing_is_trained_too(tmp_path):
    selection = Random(ratio=50, tail_triggers=1)
    dataset, run = recorded(tmp_path, selection=selection)

    found = backtest(run, {"twice": Twice()}, dataset=dataset, train_missing=tmp_path / "out")
    _, real = recorded(tmp_path, "real", dataset, selection=selection, trigger=Twice())

    outcome = found["twice"].outcomes[0]
    assert outcome.schedule.places.tolist() == [150, 150, 300, 300]
    assert outcome.schedule.places.tolist() == [row.position for row in real.transitions]
    assert outcome.exact
    assert outcome.models == [row.model for row in real.trainings]


def test_a_training_that_was_killed_before_it_began_is_done_again(tmp_path):
    dataset, run = recorded(tmp_path, selection=NewData(tail_triggers=None))
    policies = {"other": AtPositions(positions=[90])}
    backtest(run, policies, dataset=dataset, train_missing=tmp_path / "out")
    (done,) = (tmp_path / "out").glob("*/*")
    for path in done.glob("ledger.sqlite*"):
        path.unlink()

    found = backtest(run, policies, dataset=dataset, train_missing=tmp_path / "out")

    assert found["other"].exact


@pytest.mark.skipif(not ELSEWHERE.is_dir(), reason="there is one file system")
def test_trainings_can_go_to_another_file_system(tmp_path):
    dataset, run = recorded(tmp_path, selection=Random(ratio=50, tail_triggers=None))
    policies = {"other": AtPositions(positions=[EVERY, EVERY + 20])}

    with tempfile.TemporaryDirectory(dir=ELSEWHERE) as out:
        found = backtest(run, policies, dataset=dataset, train_missing=out)

    assert found["other"].exact


def test_a_dataset_that_has_grown_is_not_trained_on(tmp_path):
    dataset, run = recorded(tmp_path)
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        rows = np.zeros((1, 4), dtype=np.float32)
        writer.append({"dense": rows}, labels=np.array([0]), timestamps=np.array([9999]))

    with pytest.raises(ConfigError, match="record a run anew"):
        backtest(
            run,
            [DataAmountTrigger(num_samples=90)],
            dataset=modyn.Dataset.open(dataset.path),
            train_missing=tmp_path / "out",
        )


def test_another_pipeline_than_that_of_the_run_is_refused(tmp_path):
    dataset, run = recorded(tmp_path)
    other = streams.pipeline(dataset, selection=NewData(tail_triggers=None))

    with pytest.raises(ConfigError, match="differs from that of the run in selection_strategy"):
        backtest(
            run,
            [DataAmountTrigger(num_samples=90)],
            dataset=dataset,
            pipeline=other,
            train_missing=tmp_path / "out",
        )


def test_the_command_trains_what_is_missing(tmp_path):
    recorded(tmp_path / "runs", selection=NewData(tail_triggers=None))
    (tmp_path / "space.yaml").write_text(
        f"runs: ['{tmp_path / 'runs'}']\n"
        "policies:\n  - trigger: {id: DataAmountTrigger, num_samples: {any: [90, 120]}}\n"
    )
    command = ["backtest", str(tmp_path / "space.yaml"), "--datasets", str(tmp_path / "runs")]
    command += ["--train-missing"]

    without = CliRunner().invoke(app, command)
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])

    assert without.exit_code == 2
    assert "--train-missing needs --out" in without.output
    assert done.exit_code == 0, done.output
    assert "2 policies, 2 exact" in done.output
