"""RHO-LOSS in a run: what is trained on what, crashes, erasure, and who has seen a sample."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import modyn
from modyn.downsampling import RHOLoss, Schedule
from modyn.errors import ConfigError
from modyn.pipelines import Model, Run, Training
from modyn.pipelines.progress import Silent
from modyn.pipelines.warmup import Warmup
from modyn.policies import Random
from modyn.trainset import TrainingSet
from tests.python.streams import drifting, pipeline, sgd, stream
from tests.python.test_resume import drive

__all__ = ["stream"]  # fixtures

TRAINING = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd())
SIMPLE = RHOLoss(ratio=50, holdout_set_ratio=30)


def rho(dataset: modyn.Dataset, out: Path, downsampling: Any = SIMPLE, **more: Any) -> Run:
    progress = more.pop("progress", None)
    settings = {"training": TRAINING, "downsampling": downsampling, "evaluation": None, **more}
    return pipeline(dataset, **settings).replay(out, progress)


def recipe(run: Run, key: str) -> dict[str, Any]:
    found = json.loads((run.path / "models" / key / "model.json").read_bytes())["recipe"]
    assert isinstance(found, dict)
    return found


def il_keys(run: Run, trigger: int) -> list[str]:
    """The IL models of a trigger, as the model that it resulted in names them."""
    named = recipe(run, run.triggers["model"][trigger])["training"]["downsampling"]["irreducible"]
    return list(named)


def keys_of(run: Run, digest: str) -> set[int]:
    return set(TrainingSet.open(run.path / "trainsets" / f"{digest}.set").keys.tolist())


def holdout(run: Run, key: str) -> set[int]:
    return keys_of(run, recipe(run, key)["training_set"])


def models(run: Run) -> set[str]:
    return {path.name for path in (run.path / "models").iterdir()}


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("strategy", ["Simple", "Twin"])
def test_il_models_learn_from_parts_of_what_was_chosen(stream, tmp_path, strategy, stb):
    share = {"Simple": 30, "Twin": 50}[strategy]
    settings = RHOLoss(
        ratio=50,
        sample_then_batch=stb,
        holdout_set_strategy=strategy,
        holdout_set_ratio=share,
    )

    run = rho(stream, tmp_path / "run", settings)

    count = {"Simple": 1, "Twin": 2}[strategy]
    for trigger, digest in enumerate(run.triggers["digest"]):
        chosen = keys_of(run, digest)
        parts = [holdout(run, key) for key in il_keys(run, trigger)]
        assert [len(part) for part in parts] == [150 * share // 100] * count
        assert all(part < chosen for part in parts)
        assert len(set.union(*parts)) == sum(map(len, parts))
    assert len(models(run)) == len(run.triggers) * (1 + count)


def test_the_holdout_follows_presampling_tails_and_warm_up(stream, tmp_path):
    selection = Warmup(warmup_triggers=1, selection=Random(ratio=50, tail_triggers=1))

    run = rho(stream, tmp_path / "run", selection=selection)

    assert run.triggers["samples"] == [150, 150, 150, 150]
    assert "downsampling" not in recipe(run, run.triggers["model"][0])["training"]
    for trigger in (1, 2, 3):
        (key,) = il_keys(run, trigger)
        chosen = keys_of(run, run.triggers["digest"][trigger])
        assert len(holdout(run, key)) == 45
        assert holdout(run, key) < chosen
        assert min(chosen) < 150 * trigger <= max(chosen)  # also of the trigger before


def test_a_schedule_has_il_models_where_it_says_so(stream, tmp_path):
    schedule = Schedule(downsamplers=(None, SIMPLE, None), thresholds=(1, 3))

    run = rho(stream, tmp_path / "run", schedule)

    assert len(models(run)) == 4 + 2
    assert [holdout(run, il_keys(run, trigger)[0]) != set() for trigger in (1, 2)] == [True, True]


def test_a_held_out_sample_counts_as_seen(stream, tmp_path):
    run = rho(stream, tmp_path / "run")

    for trigger, digest in enumerate(run.triggers["digest"]):
        assert holdout(run, il_keys(run, trigger)[0]) <= keys_of(run, digest)


def test_a_run_is_the_same_anywhere_and_what_decides_changes_it(stream, tmp_path):
    one = rho(stream, tmp_path / "one")
    again = rho(stream, tmp_path / "again")
    other = rho(stream, tmp_path / "other", replace(SIMPLE, holdout_set_ratio=31))

    assert one.digest() == again.digest()
    assert models(one) == models(again)
    assert not set(one.triggers["model"]) & set(other.triggers["model"])


# Crashes -----------------------------------------------------------------------------------------


class DiedError(Exception):
    """What a killed process would not say."""


class DiesAt(Silent):
    """Dies after so many batches of all trainings of a process, IL models among them."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def batch(self, done: int, total: int, /) -> None:
        self.left -= 1
        if self.left == 0:
            raise DiedError


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(("ledger", "lock", "clock"))
    }


@pytest.mark.parametrize("strategy", ["Simple", "Twin"])
def test_a_run_that_dies_in_any_training_ends_like_one_that_did_not(stream, tmp_path, strategy):
    share = {"Simple": 30, "Twin": 50}[strategy]
    settings = RHOLoss(ratio=50, holdout_set_strategy=strategy, holdout_set_ratio=share)
    whole = rho(stream, tmp_path / "whole", settings)

    deaths = 0
    for batches in (2, *[7] * 50):  # first in the middle of the first IL training
        try:
            rho(stream, tmp_path / "died", settings, progress=DiesAt(batches))
        except DiedError:
            deaths += 1
        else:
            break

    assert deaths > 4
    assert Run.open(tmp_path / "died").digest() == whole.digest()
    assert contents(tmp_path / "died") == contents(tmp_path / "whole")


def test_what_was_trained_and_scored_before_a_crash_is_not_done_again(stream, tmp_path):
    with pytest.raises(DiedError):
        rho(stream, tmp_path / "run", progress=DiesAt(4 + 1))  # in the first training after it

    def times() -> dict[Path, int]:
        files = [*tmp_path.glob("run/models/*/*"), *tmp_path.glob("run/irreducible/*")]
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    with pytest.raises(DiedError):
        rho(stream, tmp_path / "run", progress=DiesAt(1))

    assert times() == before
    assert len(before) == 3 + 1


@pytest.mark.long
def test_a_run_killed_at_any_step_ends_like_one_that_was_not(tmp_path):
    drifting(tmp_path / "stream", count=330).close()
    (whole,) = drive(tmp_path, "rho", "-1")
    points = [str(point) for point in range(0, int(whole["steps"]), 7)]

    killed = drive(tmp_path, "rho", *points)

    assert [one["deaths"] for one in killed] == [1] * len(points)
    for one in killed:
        assert one["run"] == whole["run"]
        assert contents(tmp_path / f"killed-{one['point']}") == contents(tmp_path / "killed--1")


# Erasure -----------------------------------------------------------------------------------------


def erase(dataset: modyn.Dataset, keys: set[int]) -> None:
    """As another process would."""
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(sorted(keys), reason="asked for")
    dataset.refresh()


def test_what_is_erased_is_in_no_holdout_and_is_not_trained_on(stream, tmp_path):
    erase(stream, set(range(0, 600, 7)))
    with pytest.raises(DiedError):
        rho(stream, tmp_path / "run", progress=DiesAt(1))  # the first trigger is committed
    (before,) = (TrainingSet.open(path) for path in largest(tmp_path / "run"))
    later = set(before.keys[::3].tolist())
    erase(stream, later)

    run = rho(stream, tmp_path / "run")

    erased = later | set(range(0, 600, 7))
    for trigger in range(len(run.triggers)):
        model = recipe(run, run.triggers["model"][trigger])
        assert not keys_of(run, model["training_set"]) & erased
        assert not holdout(run, il_keys(run, trigger)[0]) & erased
    assert len(holdout(run, il_keys(run, 0)[0])) == 30 * (150 - 50) // 100


def largest(directory: Path) -> list[Path]:
    sets = sorted((directory / "trainsets").glob("*.set"), key=lambda path: path.stat().st_size)
    return sets[-1:]


# Mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"il_model": Model(id="Nope")}, "model.id 'Nope' is unknown"),
        ({"il_model": "pickle:loads"}, "code of pickle runs only with --allow pickle"),
        (
            {"il_training": replace(TRAINING, device="cuda:99")},
            "il_training_config.device is 'cuda:99', but PyTorch sees",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_run_begins(
    stream, tmp_path, settings, message
):
    with pytest.raises(ConfigError, match=message):
        rho(stream, tmp_path / "run", replace(SIMPLE, **settings))

    assert not (tmp_path / "run" / "trainsets").exists()
