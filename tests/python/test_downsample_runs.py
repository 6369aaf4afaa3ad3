"""Downsampling in a run: keys, warm-up, schedules, signals, and what the run says of it."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch

from modyn.dataset import Dataset
from modyn.downsampling import EL2N, Chosen, Downsampler, Forgetting, Schedule, Uncertainty
from modyn.pipelines import Pipeline, Run, Training
from modyn.pipelines.models import ModelStore
from modyn.pipelines.progress import Silent
from modyn.pipelines.settings import Criterion
from modyn.pipelines.warmup import Warmup
from modyn.policies import NewData
from modyn.report.runpage import write_run
from tests.python.streams import pipeline, sgd, stream

__all__ = ["stream"]  # fixtures


class HighestLoss(Downsampler):
    needs = ("losses",)

    def score(self, pool: Any) -> torch.Tensor:
        return pool.losses


class WithReplacement(Downsampler):
    """A uniform draw with replacement."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(context.random().integers(len(pool), size=count), np.ones(count))


def planned(stream: Dataset, downsampling: Any, **more: Any) -> Pipeline:
    """A pipeline of few batches; what is no setting of training is one of the pipeline."""
    names = set(Training.__dataclass_fields__)
    settings = {"batch_size": 32, "epochs_per_trigger": 2, "optimizers": sgd()}
    settings |= {name: more.pop(name) for name in list(more) if name in names}
    training = Training(**settings)
    more = {"evaluation": None, "maximum_triggers": 3, **more}
    return pipeline(stream, training=training, downsampling=downsampling, **more)


def weights_of(run: Run) -> list[dict[str, torch.Tensor]]:
    store = ModelStore(run.path / "models")
    return [store.load(key).weights for key in run.triggers["model"]]


def equal(one: Run, other: Run) -> bool:
    pairs = zip(weights_of(one), weights_of(other), strict=True)
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in a)


@pytest.mark.parametrize("stb", [False, True])
def test_a_share_of_all_is_a_run_without(stream, tmp_path, stb):
    plain = planned(stream, None).replay(tmp_path / "plain")
    sampled = planned(stream, HighestLoss(sample_then_batch=stb)).replay(tmp_path / "all")

    assert equal(plain, sampled)
    assert not set(plain.triggers["model"]) & set(sampled.triggers["model"])
    assert plain.triggers["digest"] == sampled.triggers["digest"]


def test_a_pipeline_without_downsampling_is_described_as_it_always_was(stream):
    assert "downsampling" not in planned(stream, None).describe()


def test_class_and_parameters_decide_the_key_of_a_model(stream, tmp_path):
    found = {
        str(downsampler): planned(stream, downsampler, maximum_triggers=1)
        .replay(tmp_path / str(i))
        .triggers["model"][0]
        for i, downsampler in enumerate(
            [
                None,
                HighestLoss(ratio=50),
                HighestLoss(ratio=5, ratio_max=10),
                HighestLoss(ratio=50, sample_then_batch=True),
                WithReplacement(ratio=50),
            ]
        )
    }

    assert len(set(found.values())) == len(found)
    again = planned(stream, HighestLoss(ratio=50), maximum_triggers=1).replay(tmp_path / "again")
    assert again.triggers["model"][0] == found[str(HighestLoss(ratio=50))]
    described = planned(stream, HighestLoss(ratio=50)).describe()["downsampling"]
    assert described["strategy"].endswith("test_downsample_runs.HighestLoss")
    assert described["ratio"] == 50


def test_the_warm_up_has_no_downsampling_and_a_schedule_counts_from_its_end(stream, tmp_path):
    schedule = Schedule(
        downsamplers=[HighestLoss(ratio=50), None, WithReplacement(ratio=25)], thresholds=[1, 2]
    )
    warm = Warmup(warmup_triggers=1, selection=NewData(tail_triggers=0))
    settings = {"selection": warm, "maximum_triggers": 4, "drop_last_batch": False}
    scheduled = planned(stream, schedule, **settings)

    run = scheduled.replay(tmp_path / "scheduled")

    names = [type(scheduled.downsampler_at(t)).__name__ for t in range(5)]
    assert names == ["NoneType", "HighestLoss", "NoneType", "WithReplacement", "WithReplacement"]
    # 4 batches of 32 and one of 22 in each of two epochs.
    assert run.triggers["samples_trained"] == [300, 150, 300, 2 * (4 * 8 + 5)]
    assert run.triggers["samples_scored"] == [0, 300, 0, 0]
    assert run.totals["samples_scored"] == 300
    plain = planned(stream, None, **settings).replay(tmp_path / "plain")
    same = [a == b for a, b in zip(run.triggers["model"], plain.triggers["model"], strict=True)]
    assert same == [True, False, True, False]


@pytest.mark.parametrize("downsampler", [HighestLoss(ratio=40), WithReplacement(ratio=40)])
@pytest.mark.parametrize("stb", [False, True])
def test_threads_change_nothing(stream, tmp_path, downsampler, stb):
    sampler = type(downsampler)(ratio=40, sample_then_batch=stb)

    runs = [
        planned(stream, sampler, dataloader_workers=threads).replay(tmp_path / str(threads))
        for threads in (1, 3)
    ]

    assert runs[0].digest() == runs[1].digest()
    assert equal(*runs)


class Stopped(Silent):
    """Fails at some batch."""

    def __init__(self, at: int) -> None:
        self._left = at

    def batch(self, done: int, total: int, /) -> None:
        """Count down."""
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_like_one_that_was_not(stream, tmp_path):
    sampled = planned(
        stream, HighestLoss(ratio=50, sample_then_batch=True), use_previous_model=True
    )
    whole = sampled.replay(tmp_path / "whole")

    for at in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            sampled.replay(tmp_path / "stopped", Stopped(at))

    assert sampled.replay(tmp_path / "stopped").digest() == whole.digest()


def test_a_model_that_is_missing_is_trained_again_as_it_was(stream, tmp_path):
    sampled = planned(stream, HighestLoss(ratio=50), use_previous_model=True)
    whole = sampled.replay(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        sampled.replay(tmp_path / "moved", Stopped(6))  # in the second of the trainings
    shutil.rmtree(tmp_path / "moved" / "models")

    moved = sampled.replay(tmp_path / "moved")

    assert moved.digest() == whole.digest()
    assert equal(moved, whole)


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("kind", [HighestLoss, WithReplacement])
def test_signals_are_those_of_what_was_trained_on(stream, tmp_path, kind, stb):
    sampled = planned(
        stream,
        kind(ratio=50, sample_then_batch=stb),
        signals=("loss", "forgetting"),
        maximum_triggers=1,
        epochs_per_trigger=3,
        drop_last_batch=False,
    )

    run = sampled.replay(tmp_path / "run")

    signals = run.signals(0)
    pairs = list(zip(signals.keys.tolist(), signals.epoch.tolist(), strict=True))
    trained = run.triggers["samples_trained"][0]
    assert len(set(pairs)) == len(pairs)
    assert set(signals.epoch.tolist()) == {0, 1, 2}
    assert signals.keys.max() < 150
    if kind is HighestLoss:
        assert len(pairs) == trained == 3 * (75 if stb else 4 * 16 + 11)
    else:  # some were drawn twice
        assert 0.6 * trained < len(pairs) < trained
    again = planned(stream, kind(ratio=50, sample_then_batch=stb), maximum_triggers=1,
                    epochs_per_trigger=3, drop_last_batch=False)  # fmt: skip
    assert equal(run, again.replay(tmp_path / "without"))


def test_a_run_says_what_scoring_cost(stream, tmp_path):
    run = planned(stream, HighestLoss(ratio=50)).replay(tmp_path / "run")

    assert run.triggers["samples_trained"] == [128] * 3  # 4 batches of 32 are kept by halves
    assert run.triggers["samples_scored"] == [256] * 3
    assert run.totals["samples_trained"] == 384
    assert run.totals["samples_scored"] == 768
    assert run.seconds["score"] > 0
    page = write_run(run).read_text()
    assert "samples scored, and perhaps not trained on" in page
    assert "scoring" in page
    store = ModelStore(run.path / "models")
    facts = store.facts(run.triggers["model"][0])
    assert vars(facts.downsampled) == {"scored": 256, "trained": 128}


def test_a_run_without_says_nothing_of_it(stream, tmp_path):
    run = planned(stream, None).replay(tmp_path / "run")

    assert run.totals["samples_scored"] == 0
    assert "scoring" not in write_run(run).read_text()


@pytest.mark.parametrize(
    ("downsampling", "more", "message"),
    [
        (HighestLoss, {}, "downsampling must be a Downsampler or a Schedule"),
        (
            HighestLoss(sample_then_batch=True),
            {"num_samples_to_pass": (100,)},
            "HighestLoss with sample_then_batch trains whole epochs",
        ),
        (
            Schedule(downsamplers=[None, HighestLoss(sample_then_batch=True)], thresholds=[3]),
            {"num_samples_to_pass": (100,)},
            "HighestLoss with sample_then_batch trains whole epochs",
        ),
        (
            Forgetting(ratio=50),
            {"optimization_criterion": Criterion(name="MSELoss")},
            "Forgetting goes by classes, and MSELoss knows numbers alone",
        ),
        (
            Uncertainty(ratio=50, score_metric="Margin"),
            {"optimization_criterion": Criterion(name="BCELoss")},
            "Uncertainty.probabilities is False, but BCELoss takes probabilities",
        ),
        (
            EL2N(ratio=50, probabilities=True),
            {"optimization_criterion": Criterion(name="BCEWithLogitsLoss")},
            "EL2N.probabilities is True, but BCEWithLogitsLoss takes no probabilities",
        ),
    ],
)
def test_downsampling_that_cannot_be_is_refused(stream, downsampling, more, message):
    with pytest.raises((TypeError, ValueError), match=message):
        planned(stream, downsampling, **more)


def test_settings_are_checked_of_a_class_that_forgot_to(stream):
    class Own(HighestLoss):
        def __init__(self, *, ratio: int) -> None:
            self.ratio = ratio

    planned(stream, Own(ratio=50))
    with pytest.raises(ValueError, match="ratio must be from 0 to ratio_max"):
        planned(stream, Own(ratio=500))
