"""Pipelines end to end: what a run says, and that the same pipeline always says the same."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

import modyn
from modyn.errors import ConfigError
from modyn.pipelines import (
    Accuracy,
    BetweenTwoTriggersEvalStrategy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    OffsetEvalStrategy,
    Run,
    SlicingEvalStrategy,
    StaticEvalStrategy,
    Training,
)
from modyn.pipelines.costs import STAGES
from modyn.pipelines.models import ModelStore
from modyn.pipelines.warmup import Warmup
from modyn.policies import (
    DataAmountTrigger,
    LabelBalanced,
    Random,
    TimeTrigger,
    Trigger,
)
from tests.python.streams import drifting, keys_of, late, pipeline, sgd, slices, stream

__all__ = ["late", "stream"]  # fixtures


def test_a_run_says_what_was_decided_and_how_it_went(stream, tmp_path):
    run = pipeline(stream).replay(tmp_path / "run")

    assert run.finished
    assert run.name == "pipeline"
    assert run.timestamp_unit == "s"
    assert run.triggers["trigger"] == [0, 1, 2, 3]
    assert run.triggers["first"] == [0, 150, 300, 450]
    assert run.triggers["position"] == [150, 300, 450, 600]
    assert run.triggers["first_timestamp"] == [-100, 50, 200, 350]
    assert run.triggers["last_timestamp"] == [49, 199, 349, 499]
    assert run.triggers["samples"] == run.triggers["candidates"] == [150] * 4
    assert run.triggers["batches"] == [8] * 4  # 4 full batches, twice
    assert keys_of(run, 1) == list(range(150, 300))
    assert len(set(run.triggers["model"])) == 4
    assert run.totals["samples_trained"] == 1200
    assert run.windows.rows()[0] == {
        **{"dataset": "stream", "window": 0, "start": -100, "end": 0, "count": 100},
        **{"handler": 0, "anchor": -100},
    }
    assert len(run.evaluations) == 4 * 6 * 2
    assert run.seconds["train"] > 0
    assert run.config["pipeline"]["name"] == "pipeline"


def test_the_first_triggers_train_on_so_many_samples(stream, tmp_path):
    def one(name: str, **more: object) -> Run:
        training = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd(), **more)
        return pipeline(stream, training=training).replay(tmp_path / name)

    epochs = one("epochs")
    some = one("some", num_samples_to_pass=(400, 70), drop_last_batch=False)
    whole = one("whole", drop_last_batch=False)
    dropped = one("dropped", num_samples_to_pass=(400, 20))

    assert some.triggers["batches"] == [13, 3, 10, 10]  # 400 and 70 samples, then 150 twice
    assert some.triggers["epochs"] == [3, 1, 2, 2]
    assert some.totals["samples_trained"] == 400 + 70 + 300 + 300
    assert some.triggers["model"][2:] == whole.triggers["model"][2:]
    assert not set(some.triggers["model"][:2]) & set(whole.triggers["model"])
    assert dropped.triggers["batches"] == [12, 1, 8, 8]  # one batch, though it is not full
    assert dropped.totals["samples_trained"] == 12 * 32 + 20 + 300 + 300
    assert dropped.triggers["model"][2:] == epochs.triggers["model"][2:]


def test_partitions_are_shuffled_where_that_is_asked_for(stream, tmp_path):
    def models(name: str, **more: object) -> list[str]:
        training = Training(batch_size=32, optimizers=sgd(), **more)
        return pipeline(stream, training=training).replay(tmp_path / name).triggers["model"]

    by_forty = models("a", shuffle="partition", partition_size=40)

    again = {"dataloader_workers": 3, "num_prefetched_partitions": 2}
    assert models("b", shuffle="partition", partition_size=40, **again) == by_forty
    others = [models("c", shuffle="partition"), models("d"), models("e", shuffle=False)]
    assert len({*by_forty, *(key for keys in others for key in keys)}) == 16


def test_a_run_says_who_waited_for_whom(stream, tmp_path):
    run = pipeline(stream).replay(tmp_path / "run")

    waits = run.waits
    assert waits.batches == run.totals["batches"] == 32
    assert waits.rows == 1200
    assert (waits.consumer_waited, waits.consumer_held) == (
        run.seconds["load"],
        run.seconds["train"],
    )
    assert waits.workers_filling == sum(run.triggers["seconds_fill"]) > 0
    assert set(run.seconds) == set(STAGES)  # what threads do meanwhile is no stage of a run
    assert f"the loop waited {waits.consumer_share:.1%}".replace("%", " %") in str(waits)


def test_the_composite_follows_the_active_model(stream, tmp_path):
    run = pipeline(stream).replay(tmp_path / "run")

    active, trained = run.composite("accuracy"), run.composite("Accuracy", kind="trained")

    assert active["start"] == [-100, 0, 100, 200, 300, 400]
    assert active["trigger"] == [None, None, 0, 1, 1, 2]
    assert trained["trigger"] == [0, 0, 1, 2, 2, 3]
    flagged = [row for row in run.evaluations if row["currently_active"]]
    assert {(row["window"], row["trigger"]) for row in flagged} == {(2, 0), (3, 1), (4, 1), (5, 2)}
    values = [value for value in active["value"] if value is not None]
    assert run.score("accuracy") == pytest.approx(np.mean(values))
    assert run.score("accuracy", kind="trained") > 0.6
    correct = {(r["trigger"], r["window"]): r["correct"] for r in run.evaluations if r["correct"]}
    assert active["value"][2] == correct[0, 2] / 100
    with pytest.raises(ValueError, match="metric 'auc' was not measured; there are"):
        run.composite("auc")


def test_stored_models_score_what_the_ledger_says(stream, tmp_path):
    run = pipeline(stream).replay(tmp_path / "run")
    model = pipeline(stream).model
    fields = stream.fetch(np.arange(600, dtype=np.uint64))

    from modyn.pipelines.build import maker

    network = maker(model)()
    key = run.triggers["model"][2]
    network.load_state_dict(ModelStore(run.path / "models").load(key).weights)
    guesses = network.eval()(torch.from_numpy(fields["dense"])).argmax(dim=1).numpy()

    for row in run.evaluations:
        if row["model"] == key and row["metric"] == "Accuracy":
            inside = (stream.timestamps >= row["start"]) & (stream.timestamps < row["end"])
            assert row["correct"] == (guesses == stream.labels)[inside].sum()


def test_the_same_pipeline_says_the_same_in_every_run(stream, tmp_path):
    one = pipeline(stream)

    runs = [one.replay(tmp_path / name) for name in "ab"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd(), dataloader_workers=5)
    runs.append(pipeline(stream, training=training).replay(tmp_path / "c"))
    torch.set_num_threads(threads)

    assert len({run.digest() for run in runs}) == 1
    assert len({tuple(run.triggers["model"]) for run in runs}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"training": Training(batch_size=32, epochs_per_trigger=3, optimizers=sgd())},
        {"selection": Random(ratio=50, tail_triggers=0)},
        {"trigger": DataAmountTrigger(num_samples=149)},
        {"order": "arrival"},
        {"evaluation": None},
    ],
)
def test_another_pipeline_is_another_run(stream, tmp_path, change):
    run = pipeline(stream).replay(tmp_path / "run")
    other = pipeline(stream, **change)

    with pytest.raises(ConfigError, match="holds a run of another pipeline or dataset"):
        other.replay(tmp_path / "run")

    assert other.replay(tmp_path / "other").digest() != run.digest()
    assert pipeline(stream).replay(tmp_path / "run").digest() == run.digest()


def test_another_dataset_is_refused(stream, tmp_path):
    pipeline(stream).replay(tmp_path / "run")
    twin = drifting(tmp_path / "twin")

    with pytest.raises(ConfigError, match=r"dataset\.uuid is .* there and .* here"):
        pipeline(twin).replay(tmp_path / "run")


def test_a_dataset_may_move_and_grow(stream, tmp_path):
    run = pipeline(stream, maximum_triggers=2).replay(tmp_path / "run")
    stream.close()
    (tmp_path / "stream").rename(tmp_path / "moved")
    with modyn.Dataset.open(tmp_path / "moved", mode="w") as writer:
        x = np.zeros((5, 4), dtype=np.float32)
        writer.append({"dense": x}, labels=[0] * 5, timestamps=[10**6] * 5)
    grown = modyn.Dataset.open(tmp_path / "moved")
    evaluation = slices()
    named = EvalDataset(metrics=evaluation.datasets[0].metrics, dataset_id="stream")
    evaluation = Evaluation(handlers=evaluation.handlers, datasets=(named,))

    again = pipeline(grown, maximum_triggers=2, evaluation=evaluation).replay(tmp_path / "run")

    assert again.digest() == run.digest()


def test_a_finished_run_is_left_as_it_is(stream, tmp_path):
    run = pipeline(stream).replay(tmp_path / "run")
    files = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file() and p.name != "lock"}

    again = pipeline(stream).replay(tmp_path / "run")

    assert again.digest() == run.digest()
    assert {p: p.read_bytes() for p in files} == files


def test_a_users_own_policies_and_model_work(stream, tmp_path):
    class Doubling(Trigger):
        def __init__(self, *, first: int) -> None:
            self.first = first
            self._next = first

        def inform(self, arrivals, context):
            if context.position + len(arrivals) < self._next:
                return None
            due = self._next - context.position
            self._next *= 2
            return due

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 2))

    one = pipeline(stream, trigger=Doubling(first=100), model=make)
    run = one.replay(tmp_path / "run")

    assert run.triggers["position"] == [100, 200, 400]
    assert run.config["trigger"]["first"] == 100
    assert one.trigger._next == 100  # the pipeline's own objects stay fresh
    with pytest.raises(ConfigError, match=r"config\.trigger\.first is 100 there and 101 here"):
        pipeline(stream, trigger=Doubling(first=101), model=make).replay(tmp_path / "run")


def test_an_error_of_a_policy_surfaces_and_the_run_can_go_on(stream, tmp_path):
    class Failing(DataAmountTrigger):
        fail = True

        def inform(self, arrivals, context):
            if Failing.fail and context.trigger == 2:
                raise RuntimeError("no luck")
            return super().inform(arrivals, context)

    one = pipeline(stream, trigger=Failing(num_samples=150))
    with pytest.raises(RuntimeError, match="no luck"):
        one.replay(tmp_path / "run")
    assert not Run.open(tmp_path / "run").finished
    assert len(Run.open(tmp_path / "run").triggers) == 2

    Failing.fail = False
    run = one.replay(tmp_path / "run")

    assert run.digest() == one.replay(tmp_path / "other").digest()


def test_a_parameter_that_cannot_be_written_down_is_refused(stream, tmp_path):
    class Opaque(DataAmountTrigger):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.model = nn.Linear(1, 1)

    with pytest.raises(TypeError, match="parameter model of Opaque: a setting must be a plain"):
        pipeline(stream, trigger=Opaque(num_samples=1)).replay(tmp_path / "run")


def test_warm_up_takes_everything_first(stream, tmp_path):
    selection = Warmup(warmup_triggers=2, selection=LabelBalanced(ratio=50, tail_triggers=0))

    run = pipeline(stream, selection=selection).replay(tmp_path / "run")

    assert run.triggers["samples"] == [150, 150, 74, 74]  # 75 of two classes


def test_time_triggers_and_years_work_before_1970(tmp_path):
    dataset = modyn.Dataset.create(tmp_path / "old", schema={"x": "float32"}, timestamp_unit="ms")
    times = np.arange("1950-01-01", "1954-01-01", dtype="datetime64[D]").astype(np.int64)
    x = np.linspace(-1, 1, len(times), dtype=np.float32)
    dataset.append({"x": x}, labels=(x > 0).astype(int), timestamps=times * 86_400_000)
    handler = EvalHandler(
        strategy=SlicingEvalStrategy(eval_every="1y", eval_start_from="1950-01-01"),
        models="active",
    )

    run = pipeline(
        dataset,
        trigger=TimeTrigger(every="1y"),
        evaluation=Evaluation(handlers=(handler,), datasets=(EvalDataset(metrics=(Accuracy(),)),)),
    ).replay(tmp_path / "run")

    assert run.triggers["samples"] == [365] * 4
    assert run.composite("accuracy")["trigger"] == [None, 0, 1, 2, 3]
    assert run.timestamp_unit == "ms"


@pytest.mark.parametrize("models", ["active", "training"])
def test_only_the_current_models_are_measured_where_that_is_asked(stream, tmp_path, models):
    run = pipeline(stream, evaluation=slices(models=models)).replay(tmp_path / "run")
    matrix = pipeline(stream).replay(tmp_path / "matrix")

    kind = "active" if models == "active" else "trained"
    assert len(run.evaluations) == 2 * (4 if models == "active" else 6)
    assert all(run.evaluations[f"currently_{kind}"])
    assert run.composite("ROC-AUC", kind).rows() == matrix.composite("ROC-AUC", kind).rows()


def test_after_training_measures_each_model_on_its_own_windows(stream, tmp_path):
    offset = OffsetEvalStrategy(offsets=("-inf", "0s", "50s"))
    evaluation = slices(strategy=offset, execution_time="after_training")

    run = pipeline(stream, evaluation=evaluation).replay(tmp_path / "run")

    found = {(r["trigger"], r["start"], r["end"]) for r in run.evaluations}
    assert {place for place in found if place[0] == 1} == {
        *[(1, -100, 50), (1, 50, 200), (1, 200, 250)]
    }
    assert (0, -100, 50) in found  # its own time; before it there was nothing
    assert len(found) == 2 + 3 * 3


def test_several_handlers_share_results(stream, tmp_path):
    handlers = (
        EvalHandler(strategy=SlicingEvalStrategy(eval_every="100s"), models="matrix"),
        EvalHandler(strategy=StaticEvalStrategy(intervals=((-100, 0), (0, 600))), models="matrix"),
        EvalHandler(strategy=BetweenTwoTriggersEvalStrategy(), models="training"),
    )
    evaluation = Evaluation(handlers=handlers, datasets=slices().datasets)

    run = pipeline(stream, evaluation=evaluation).replay(tmp_path / "run")

    assert [w["handler"] for w in run.windows] == [0] * 6 + [1] * 2 + [2] * 4
    assert run.composite("accuracy", handler=2, kind="trained")["trigger"] == [0, 1, 2, 3]
    assert run.composite("accuracy", handler=1, kind="trained")["count"] == [100, 500]
    first = [r["value"] for r in run.evaluations if r["window"] == 0]
    shared = [r["value"] for r in run.evaluations if r["window"] == 6]
    assert first == shared


def test_another_dataset_can_be_measured_on(stream, late, tmp_path):
    evaluation = Evaluation(
        handlers=(EvalHandler(strategy=SlicingEvalStrategy(eval_every="1h"), models="matrix"),),
        datasets=(
            EvalDataset(metrics=(Accuracy(),)),
            EvalDataset(metrics=(Accuracy(),), dataset=late),
        ),
    )

    run = pipeline(stream, evaluation=evaluation).replay(tmp_path / "run")

    assert run.windows["dataset"] == ["stream", "late"]
    assert run.windows["count"] == [600, 600]
    assert len(run.composite("accuracy", dataset="late")) == 1


def test_progress_hears_of_everything(stream, tmp_path):
    heard = []

    class Ear:
        def __getattr__(self, name):
            return lambda *args: heard.append((name, *args))

    pipeline(stream).replay(tmp_path / "run", progress=Ear())

    assert heard[0] == ("pipeline", "pipeline", 600)
    assert heard[-1] == ("done",)
    assert [h[1] for h in heard if h[0] == "trigger"] == [0, 1, 2, 3]
    assert [h[1:] for h in heard if h[0] == "epoch"][:3] == [(0, 2), (1, 2), (0, 2)]
    assert [h[1:] for h in heard if h[0] == "batch"][:8] == [(n, 8) for n in range(1, 9)]
    assert [h for h in heard if h[0] == "evaluate"][-1] == ("evaluate", 2400, 2400)
    assert max(h[1] for h in heard if h[0] == "position") == 600


def test_tables_become_pandas_frames(stream, tmp_path, monkeypatch):
    class Pandas:
        DataFrame = dict  # what a frame is made of is enough

    run = pipeline(stream).replay(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "pandas", Pandas)

    assert run.triggers.to_pandas()["position"] == [150, 300, 450, 600]
