"""Downsampling in a run: keys, warm-up, schedules, resuming, and what the run says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from modyn.downsampling import Chosen, Downsampler
from modyn.pipelines import Run, Training
from modyn.pipelines.models import ModelStore
from tests.python.streams import drifting, pipeline, sgd


class HighestLoss(Downsampler):
    needs = ("losses",)

    def score(self, pool: Any) -> torch.Tensor:
        return pool.losses


class Half(Downsampler):
    """A uniform draw with weights."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        rows = context.random().permutation(len(pool))[:count]
        return Chosen(rows, np.linspace(0.5, 1.5, count))


@pytest.fixture
def stream(tmp_path):
    return drifting(tmp_path / "stream")


def one(stream: Any, out: Any, downsampling: Any, **more: Any) -> Run:
    settings = {"batch_size": 32, "epochs_per_trigger": 2, "optimizers": sgd()}
    training = Training(
        **settings
        | {
            k: more.pop(k)
            for k in list(more)
            if k in ("signals", "drop_last_batch", "dataloader_workers")
        }
    )
    return pipeline(stream, training=training, downsampling=downsampling, **more).replay(out)


def weights_of(run: Run) -> list[dict[str, torch.Tensor]]:
    store = ModelStore(run.path / "models")
    return [store.load(key).weights for key in run.triggers["model"]]


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


@pytest.mark.parametrize("stb", [False, True])
def test_a_share_of_all_is_a_run_without(stream, tmp_path, stb):
    plain = one(stream, tmp_path / "plain", None)
    sampled = one(stream, tmp_path / "all", HighestLoss(sample_then_batch=stb))

    assert equal(weights_of(plain), weights_of(sampled))
    assert not set(plain.triggers["model"]) & set(sampled.triggers["model"])
    assert plain.triggers["digest"] == sampled.triggers["digest"]
