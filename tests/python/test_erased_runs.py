"""A run passes over what is erased: before it begins, and while it is under way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import modyn
from modyn.pipelines.trainer import Trainer
from modyn.policies import DataAmountTrigger
from modyn.trainset import TrainingSet
from tests.python.streams import drifting, pipeline

SAMPLES = 60
"""From one trigger to the next."""


def erase(dataset: modyn.Dataset, keys: set[int], *, compact: bool = False) -> None:
    """As another process would."""
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(sorted(keys), reason="asked for")
        if compact:
            writer.compact()
    dataset.refresh()


def replay(dataset: modyn.Dataset, out: Path, **changes: object) -> modyn.Run:
    trigger = DataAmountTrigger(num_samples=SAMPLES)
    return pipeline(dataset, trigger=trigger, **changes).replay(out=out)


class DiedError(Exception):
    """What a killed process would not say."""


def trained_keys(directory: Path, digest: str) -> set[int]:
    return set(TrainingSet.open(directory / "trainsets" / f"{digest}.set").keys.tolist())


def all_trained(directory: Path) -> set[int]:
    sets = (directory / "trainsets").glob("*.set")
    return {int(key) for path in sets for key in TrainingSet.open(path).keys}


@pytest.mark.parametrize("order", ["time", "late"])
def test_what_is_erased_before_a_run_is_in_no_training_set(tmp_path: Path, order: str) -> None:
    data = drifting(tmp_path / "stream", count=330, order=order)
    erased = set(range(20, 330, 7))
    erase(data, erased)

    run = replay(data, tmp_path / "run")

    assert run.finished
    trained = all_trained(tmp_path / "run")
    assert not trained & erased
    assert [row["samples"] for row in run.triggers] == [SAMPLES] * ((330 - len(erased)) // SAMPLES)
    assert len(trained) == SAMPLES * len(run.triggers)


@pytest.mark.parametrize("order", ["time", "late"])
@pytest.mark.parametrize("compact", [False, True])
def test_what_is_erased_during_a_run_is_in_no_later_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, compact: bool
) -> None:
    whole = replay(drifting(tmp_path / "whole", count=330, order=order), tmp_path / "undisturbed")
    data = drifting(tmp_path / "stream", count=330, order=order)
    train, died_at = Trainer.train, 1

    def dying(self: Trainer, row: object) -> None:
        if row.trigger == died_at:  # type: ignore[attr-defined]
            raise DiedError
        train(self, row)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", dying)
        with pytest.raises(DiedError):
            replay(data, tmp_path / "run")
    # Trigger 1 is committed and not trained: some of its samples go, and some of later ones.
    before = len(all_trained(tmp_path / "run"))
    erased = set(range(3, 330, 5))
    erase(data, erased, compact=compact)

    run = replay(data, tmp_path / "run")

    assert run.finished
    assert before == 2 * SAMPLES
    # What was committed before stays as it was, and positions are those of the same stream.
    for first, second in zip(list(whole.triggers)[:2], list(run.triggers)[:2], strict=True):
        for name in ("first", "position", "candidates", "last_timestamp"):
            assert first[name] == second[name]
    # What is chosen from there on has nothing of it, and what was chosen is trained without it.
    later = [row["digest"] for row in run.triggers if row["trigger"] > died_at]
    assert len(later) >= 2
    for digest in later:
        assert not erased & trained_keys(tmp_path / "run", digest)
    chosen = trained_keys(tmp_path / "run", list(run.triggers)[1]["digest"])
    assert any(
        TrainingSet.open(path).keys.tolist() == sorted(chosen - erased)
        for path in (tmp_path / "run" / "trainsets").glob("*.set")
    )
    # All living samples of the stream were consumed, each once.
    consumed = [key for digest in later for key in trained_keys(tmp_path / "run", digest)]
    assert len(consumed) == len(set(consumed)) == SAMPLES * len(later)


def test_a_policy_that_selects_what_is_erased_is_refused(tmp_path: Path) -> None:
    class FromMemory(modyn.policies.Selection):
        tail_triggers = None

        def select(self, candidates: object, context: object) -> object:
            return np.array([5], np.uint64)

    data = drifting(tmp_path / "stream", count=330)
    erase(data, {5})

    with pytest.raises(ValueError, match="selected sample 5, which is erased"):
        replay(data, tmp_path / "run", selection=FromMemory())
