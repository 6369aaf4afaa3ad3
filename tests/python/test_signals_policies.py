"""Signals that policies read: of which trainings, and by which samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modyn.errors import ConfigError
from modyn.pipelines import Criterion, config
from modyn.pipelines.trainer import Trainer
from modyn.policies import (
    PlainContext,
    Selected,
    Selection,
    Trigger,
)
from modyn.policies.checks import check_selection, check_trigger
from modyn.signals import (
    SIGNALS,
    Kept,
    Rows,
    example_signals,
    sorted_signals,
)
from tests.python.streams import drifting, keys_of, pipeline, training, tuples


class DiedError(Exception):
    """What a killed process would not say."""


class Hardest(Selection):
    """The candidates with the highest last loss; those without one come first."""

    tail_triggers = None

    def __init__(self, *, count: int = 100) -> None:
        self.count = count

    def select(self, candidates: Any, context: Any) -> Selected:
        keys = np.sort(candidates.keys)
        loss = np.nan_to_num(context.signals(names=["loss"]).of(keys).loss, nan=np.inf)
        return Selected(keys[np.argsort(-loss, kind="stable")[: self.count]])


class WhenForgotten(Trigger):
    """Every 50 samples, and every 100 once something was forgotten."""

    def __init__(self) -> None:
        self._count = 0

    def inform(self, arrivals: Any, context: Any) -> int | None:
        signals = context.signals()
        every = 100 if len(signals) and signals.prediction.max() > 0 else 50
        due = max(every - self._count, 0)
        if due > len(arrivals):
            self._count += len(arrivals)
            return None
        self._count = 0
        return due


def test_a_policy_trains_on_what_was_hard(tmp_path):
    stream = drifting(tmp_path / "stream")

    run = pipeline(stream, training=training(), selection=Hardest()).replay(tmp_path / "run")

    new = list(range(100, 200))  # whose loss nobody knows comes first
    assert keys_of(run, 1) == new
    known = run.signals(1).of(np.arange(100, 200))
    assert np.isnan(run.signals(1).of([0]).loss[0])
    assert (known.epoch >= 0).sum() == len(run.signals(1).last()) >= 96


def test_a_policy_sees_trainings_that_are_over_only(tmp_path):
    stream = drifting(tmp_path / "stream")
    seen: list[Any] = []

    class Looks(Selection):
        def select(self, candidates: Any, context: Any) -> Any:
            found = context.signals()
            assert len(found) == 0 or found is context.signals()  # read once
            seen.append((context.trigger, found.trigger, len(found), found.loss.sum()))
            with pytest.raises(ValueError, match=f"no signals of trigger {context.trigger} at"):
                context.signals(context.trigger)
            if context.trigger == 3:
                assert context.signals(0, ["loss"]).names == ("loss",)
            return candidates.keys

    run = pipeline(stream, training=training(), selection=Looks()).replay(tmp_path / "run")

    assert [one[:3] for one in seen] == [(0, None, 0), (1, 0, 256), (2, 1, 256), (3, 2, 256)]
    assert [one[3] for one in seen[1:]] == [run.signals(i).loss.sum() for i in range(3)]
    assert run.signals().trigger == 3


def test_a_resumed_policy_sees_what_it_would_have_seen(tmp_path):
    stream = drifting(tmp_path / "stream")
    given = {"training": training(), "selection": Hardest(), "trigger": WhenForgotten()}
    whole = pipeline(stream, **given).replay(tmp_path / "whole")
    train, died = Trainer.train, []

    def dying(self: Trainer, row: Any) -> Any:
        if row.trigger not in died:
            died.append(row.trigger)
            raise DiedError
        return train(self, row)

    deaths = 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train", dying)
        while True:
            try:
                run = pipeline(stream, **given).replay(tmp_path / "run")
            except DiedError:
                deaths += 1
                continue
            break

    assert deaths == len(run.triggers) > 4
    assert run.digest() == whole.digest()
    for trigger in range(len(run.triggers)):
        assert tuples(run.signals(trigger)) == tuples(whole.signals(trigger))


def test_what_is_not_recorded_is_refused_by_name(tmp_path):
    stream = drifting(tmp_path / "stream")

    with pytest.raises(
        ValueError, match=r"no signals are recorded: name them in training\.signals"
    ):
        pipeline(stream, selection=Hardest()).replay(tmp_path / "none")
    with pytest.raises(ValueError, match=r"loss is not recorded; training\.signals has prediction"):
        pipeline(stream, selection=Hardest(), training=training(signals=("prediction",))).replay(
            tmp_path / "other"
        )
    run = pipeline(stream).replay(tmp_path / "run")
    with pytest.raises(ValueError, match="no signals"):
        run.signals(0)


@pytest.mark.parametrize(
    ("names", "criterion", "message"),
    [
        (("loss", "lose"), "CrossEntropyLoss", "signals must be one of loss, .* got 'lose'"),
        (("loss", "loss"), "CrossEntropyLoss", "signals names one twice: loss, loss"),
        (("forgetting",), "MSELoss", "no right and wrong to forget with MSELoss"),
    ],
)
def test_signals_that_do_not_exist_are_refused(names, criterion, message):
    with pytest.raises(ValueError, match=message):
        training(signals=names, optimization_criterion=Criterion(name=criterion))


def test_the_order_of_names_does_not_matter():
    assert training(signals=("forgetting", "loss")) == training(signals=("loss", "forgetting"))


def test_policies_that_read_signals_pass_the_checks():
    check_selection(Hardest(count=5))
    check_trigger(WhenForgotten)


def test_signals_are_looked_up_by_key(rand):
    keys = rand.keys(20)
    found = example_signals(keys, trigger=1, epochs=3)
    wanted = rand.numpy.permutation(np.append(keys[::2], [1 << 41, 1 << 42]).astype(np.uint64))

    aligned = found.of(wanted)

    assert aligned.keys.tolist() == wanted.tolist()
    last = {row[0]: row for row in tuples(found.last())}
    for i, key in enumerate(wanted.tolist()):
        if key in last:
            assert tuples(aligned)[i] == last[key]
            assert aligned.epoch[i] == 2
        else:
            assert np.isnan([aligned.loss[i], aligned.gradient_norm[i]]).all()
            assert aligned.epoch[i] == aligned.prediction[i] == aligned.forgetting[i] == -1
    assert len(Kept({}).nothing().of(wanted)) == len(wanted)
    assert len(Kept({}).nothing().last()) == 0


@pytest.mark.parametrize("below", [60, 10**6])
@pytest.mark.parametrize("epochs", [1, 2, 70_000])
def test_rows_in_any_order_are_sorted(rand, below, epochs):
    pairs = {
        (int(rand.numpy.integers(below)), int(rand.numpy.integers(epochs))) for _ in range(300)
    }
    mixed = rand.numpy.permutation(sorted(pairs))
    keys, epoch = mixed[:, 0].astype(np.uint64), mixed[:, 1].astype(np.int32)

    found = sorted_signals(Rows(keys, epoch, {"loss": keys.astype(np.float32)}), 0)

    assert list(zip(found.keys.tolist(), found.epoch.tolist(), strict=True)) == sorted(pairs)
    assert found.loss.tolist() == found.keys.tolist()


def test_keys_too_large_for_one_number_are_sorted_too(rand):
    keys = rand.keys(50, below=2**63) | np.uint64(2**63)
    twice = np.tile(rand.numpy.permutation(keys), 2)
    epochs = np.repeat(np.array([0, 1], dtype=np.int32), 50)

    found = sorted_signals(Rows(twice, epochs, {"loss": np.zeros(100, np.float32)}), 0)

    pairs = list(zip(found.keys.tolist(), found.epoch.tolist(), strict=True))
    assert pairs == sorted(pairs)


def test_a_context_without_signals_says_so():
    with pytest.raises(ValueError, match="no signals are recorded"):
        PlainContext().signals()


def test_the_file_names_signals(tmp_path):
    stream = drifting(tmp_path / "stream")
    text = pipeline(stream, training=training()).config_text()

    assert config.parse(text).training.signals == SIGNALS
    with pytest.raises(ConfigError, match=r"training\.signals\[3\]: .*did you mean 'forgetting'"):
        config.parse(text.replace(b"- forgetting", b"- forgeting"))
