"""Presampling policies in runs: the same from a database, after a crash, and without the erased."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.pipelines import Metadata, Run, Training
from modyn.pipelines.trainer import Trainer
from modyn.pipelines.warmup import Warmup
from modyn.policies import (
    ClassBalancedReservoir,
    DataAmountTrigger,
    FreshnessSampling,
    GDumb,
    RandomNoReplacement,
    Reservoir,
    Selection,
    TimeStratified,
    TopBySignal,
    TriggerBalanced,
    Weighted,
)
from modyn.trainset import TrainingSet
from tests.python.streams import drifting, pipeline, sgd
from tests.reference import presampling as twin

COUNT, EVERY, SEED = 300, 60, 3
POLICIES: dict[str, Selection] = {
    "no replacement": RandomNoReplacement(ratio=45),
    "freshness": FreshnessSampling(unused_data_ratio=40, limit=70),
    "reservoir": Reservoir(size=40),
    "balanced buffer": GDumb(size=20),
    "balanced reservoir": ClassBalancedReservoir(size=20),
    "top": TopBySignal(signal="loss", ratio=30, unseen="last", trainings=2),
    "triggers": TriggerBalanced(ratio=40, tail_triggers=2, force_required_target_size=True),
    "time": TimeStratified(every="1m", ratio=40, tail_triggers=None),
    "weighted": Weighted(ratio=30, by="timestamp", half_life="1m", tail_triggers=1),
    "warm-up": Warmup(warmup_triggers=2, selection=Reservoir(size=30)),
    "warm-up of a buffer": Warmup(warmup_triggers=2, selection=GDumb(size=30)),
}
CHANGING = ["no replacement", "freshness", "reservoir", "balanced buffer", "balanced reservoir"]


def replay(data: modyn.Dataset, out: Path, policy: Selection, **changes: Any) -> Run:
    signals = ("loss",) if isinstance(policy, TopBySignal) else ()
    return pipeline(
        data,
        selection=policy,
        trigger=DataAmountTrigger(num_samples=EVERY),
        training=Training(batch_size=32, optimizers=sgd(), signals=signals),
        evaluation=None,
        seed=SEED,
        **changes,
    ).replay(out)


class DiedError(Exception):
    """What a killed process would not say."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, trigger: int) -> Iterator[None]:
    """Let a run end before it trains on a trigger that it has committed."""
    train = Trainer.train

    def die(self: Trainer, row: Any) -> Any:
        if row.trigger == trigger:
            raise DiedError
        return train(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", die)
        with pytest.raises(DiedError):
            yield


def chosen(run: Run) -> list[list[int]]:
    digests = run.triggers["digest"]
    files = (run.path / "trainsets" / f"{digest}.set" for digest in digests)
    return [TrainingSet.open(path).keys.tolist() for path in files]


@pytest.mark.parametrize("name", POLICIES)
def test_a_run_that_died_in_files_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = drifting(tmp_path / "stream", count=COUNT, order="late")
    expected = replay(data, tmp_path / "whole", POLICIES[name])

    with dying(monkeypatch, 3):
        replay(data, tmp_path / "run", POLICIES[name])
    run = replay(data, tmp_path / "run", POLICIES[name])

    assert run.finished
    assert run.digest() == expected.digest()
    assert len(run.triggers) == COUNT // EVERY


@pytest.mark.parametrize(
    ("name", "layout"),
    [("no replacement", "rows"), ("reservoir", "blocks"), ("triggers", "rows"), ("time", "blocks")],
)
def test_what_was_chosen_comes_back_from_a_database_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    layout: Any,
    name: str,
) -> None:
    """Also where a run goes on in another directory: earlier choices are read from the server."""
    data = drifting(tmp_path / "stream", count=COUNT, order="late")
    data.publish(database_url, layout=layout, leaf_samples=128)
    expected = replay(data, tmp_path / "embedded", POLICIES[name])
    place = {"metadata": Metadata(url=database_url, layout=layout, hash_partition_modulus=2)}

    with dying(monkeypatch, 3):
        replay(data, tmp_path / "run", POLICIES[name], **place)
    shutil.rmtree(tmp_path / "run")
    run = replay(data, tmp_path / "other", POLICIES[name], **place)

    assert run.finished
    assert run.triggers["digest"] == expected.triggers["digest"]
    assert run.digest() == expected.digest()


@pytest.mark.parametrize("name", CHANGING)
def test_what_is_erased_leaves_what_a_policy_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = drifting(tmp_path / "stream", count=COUNT)
    with dying(monkeypatch, 2):
        replay(data, tmp_path / "run", POLICIES[name])
    before = chosen(Run.open(tmp_path / "run"))
    gone = before[1][::2] + before[2][1::2]
    with modyn.Dataset.open(data.path, mode="w") as writer:
        writer.erase(gone, reason="asked for")
    data.refresh()

    run = replay(data, tmp_path / "run", POLICIES[name])

    assert run.finished
    later = chosen(run)[3:]
    assert len(later) >= 1  # erased samples bring no trigger
    assert not {key for keys in later for key in keys} & set(gone)
    if name == "reservoir":  # others come in, and so it is full
        living = [key for key in range(COUNT) if key not in gone]
        for keys, position in zip(later, run.triggers["position"][3:], strict=True):
            assert keys == twin.reservoir([[key for key in living if key < position]], 40, SEED)[0]


def test_after_a_warm_up_a_reservoir_is_what_it_would_be(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream", count=COUNT)

    warm = chosen(replay(data, tmp_path / "warm", POLICIES["warm-up"]))
    cold = chosen(replay(data, tmp_path / "cold", Reservoir(size=30)))

    assert [len(keys) for keys in warm] == [60, 120, 30, 30, 30]
    assert warm[2:] == cold[2:]


def test_a_buffer_that_was_warmed_up_has_looked_at_all(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream", count=COUNT)

    warm = chosen(replay(data, tmp_path / "warm", POLICIES["warm-up of a buffer"]))
    cold = chosen(replay(data, tmp_path / "cold", GDumb(size=30)))

    assert warm[2:] == cold[2:]
    assert np.bincount(data.labels[warm[-1]]).tolist() == [15, 15]


def twice(block: Any) -> Any:
    """A weight of one's own."""
    return np.full(len(block), 2.0)


def test_a_function_among_the_parameters_is_described_by_its_name(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream", count=130)
    described = pipeline(data, selection=Weighted(ratio=50, by=twice)).describe()
    assert described["selection_strategy"]["by"] == f"{__name__}:twice"

    run = replay(data, tmp_path / "run", Weighted(ratio=50, by=twice))

    assert run.triggers["samples"] == [30, 30]
