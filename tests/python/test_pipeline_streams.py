"""Which part of a stream a run follows, in which order, and from which model it goes on."""

from __future__ import annotations

import numpy as np
import pytest

from modyn.errors import ConfigError
from modyn.pipelines import (
    Training,
)
from modyn.pipelines.models import ModelStore
from modyn.policies import (
    DataAmountTrigger,
    NewData,
    Selected,
    Selection,
)
from tests.python.streams import keys_of, late, pipeline, sgd, slices, stream

__all__ = ["late", "stream"]  # fixtures


def test_time_order_follows_timestamps_and_arrival_order_keys(late, tmp_path):
    by_time = pipeline(late).replay(tmp_path / "time")
    by_key = pipeline(late, order="arrival").replay(tmp_path / "arrival")

    order = np.lexsort((np.arange(600), late.timestamps))
    assert keys_of(by_time, 0) == sorted(order[:150].tolist())
    assert keys_of(by_key, 0) == list(range(150))
    assert by_time.triggers["last_timestamp"][0] == late.timestamps[order[149]]


def test_no_active_model_saw_anything_of_its_window(late, tmp_path):
    run = pipeline(late, order="arrival", evaluation=slices(models="active")).replay(
        tmp_path / "run"
    )

    used = [row for row in run.composite("accuracy") if row["trigger"] is not None]
    assert used
    for row in used:
        assert late.timestamps[keys_of(run, row["trigger"])].max() < row["start"]


def test_a_range_of_time_is_half_open(late, tmp_path):
    run = pipeline(
        late,
        start_replay_at=0,
        stop_replay_at=300,
        trigger=DataAmountTrigger(num_samples=1),
        selection=NewData(tail_triggers=None),
        evaluation=None,
        training=Training(batch_size=1024, optimizers=sgd()),
        maximum_triggers=3,
    ).replay(tmp_path / "run")
    inside = (late.timestamps >= 0) & (late.timestamps < 300)

    with pytest.raises(ConfigError, match="no samples to follow"):
        pipeline(late, start_replay_at="2300-01-01").replay(tmp_path / "none")

    assert late.timestamps[keys_of(run, 2)].min() == late.timestamps[inside].min() >= 0
    whole = pipeline(
        late,
        start_replay_at=0,
        stop_replay_at=300,
        trigger=DataAmountTrigger(num_samples=int(inside.sum())),
        evaluation=None,
    ).replay(tmp_path / "whole")
    assert keys_of(whole, 0) == np.flatnonzero(inside).tolist()


def test_a_run_ends_after_so_many_triggers(stream, tmp_path):
    run = pipeline(stream, maximum_triggers=1).replay(tmp_path / "run")

    assert run.finished
    assert run.totals["triggers"] == 1
    assert run.totals["position"] == 150
    assert run.composite("accuracy")["trigger"] == [None, None, 0, 0, 0, 0]


def test_a_run_without_any_trigger_ends_cleanly(stream, tmp_path):
    run = pipeline(stream, trigger=DataAmountTrigger(num_samples=10_000)).replay(tmp_path / "run")

    assert run.finished
    assert len(run.triggers) == len(run.evaluations) == 0
    assert run.totals["position"] == 600
    assert len(run.windows) == 6


def test_a_trigger_with_nothing_selected_trains_nothing(stream, tmp_path):
    class OddTriggers(Selection):
        tail_triggers = 0

        def select(self, candidates, context):
            return Selected(candidates.keys[: 150 * (context.trigger % 2)])

    run = pipeline(stream, selection=OddTriggers()).replay(tmp_path / "run")

    assert [model is None for model in run.triggers["model"]] == [True, False, True, False]
    assert run.composite("accuracy")["trigger"] == [None, None, None, 1, 1, 1]


def test_a_set_smaller_than_a_batch_is_trained_all_the_same(stream, tmp_path):
    training = Training(batch_size=1024, optimizers=sgd())

    run = pipeline(stream, training=training).replay(tmp_path / "run")

    assert run.triggers["batches"] == [1] * 4


def test_the_previous_model_is_gone_on_from(stream, tmp_path):
    training = Training(batch_size=32, optimizers=sgd(), use_previous_model=True)

    run = pipeline(stream, training=training, maximum_triggers=2).replay(tmp_path / "run")

    folder = run.path / "models"
    recipe = ModelStore(folder)._description(run.triggers["model"][1])["recipe"]
    assert recipe["parent"] == run.triggers["model"][0]
    assert (folder / run.triggers["model"][1] / "optimizer.safetensors").exists()


def test_weights_of_a_selection_reach_the_loss(stream, tmp_path):
    class Weighted(Selection):
        tail_triggers = 0

        def select(self, candidates, context):
            weights = (candidates.labels == 1).astype(np.float64)
            return Selected(candidates.keys, weights)

    run = pipeline(stream, selection=Weighted()).replay(tmp_path / "run")

    f = [r["value"] for r in run.evaluations if r["metric"] == "Accuracy"]
    share = (stream.labels == 1).mean()
    assert np.mean(f) == pytest.approx(share, abs=0.1)  # it has learned to say 1 always
