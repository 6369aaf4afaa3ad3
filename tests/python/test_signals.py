"""Signals of trainings: what is measured, that nothing is learned otherwise, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import modyn
from modyn.errors import ConfigError, CorruptError
from modyn.pipelines import Criterion
from modyn.pipelines.ledger_sqlite import SqliteLedger
from modyn.pipelines.models import ModelStore
from modyn.pipelines.replay import Replay
from modyn.pipelines.signal_files import SignalFiles
from modyn.pipelines.signals import Counting, Forgetting, measured
from modyn.policies import (
    NewData,
    Selected,
    Selection,
)
from modyn.signals import (
    NEVER_LEARNED,
    SIGNALS,
    Recording,
    Rows,
)
from tests.python.streams import drifting, keys_of, pipeline, training, tuples

ONE = Recording(trigger=3, model="ab", names=SIGNALS, classes=True)


def rows_of(rand: Any, count: int, *, epochs: int = 2, below: int = 10_000) -> list[Rows]:
    """Presentations of some samples, an epoch per chunk, each in another order."""
    keys = rand.keys(count, below=below)
    chunks = []
    for epoch in range(epochs):
        columns = {
            "loss": rand.numpy.exponential(size=count).astype(np.float32),
            "gradient_norm": rand.numpy.exponential(size=count).astype(np.float32),
            "prediction": rand.numpy.integers(0, 5, count).astype(np.int32),
            "forgetting": rand.numpy.integers(0, 2, count).astype(np.int32),
        }
        shuffled = rand.numpy.permutation(keys)
        chunks.append(Rows(shuffled, np.full(count, epoch, dtype=np.int32), columns))
    return chunks


def expected_of(chunks: list[Rows]) -> list[tuple[Any, ...]]:
    """The rows as tuples, ascending by key and epoch."""
    found = []
    for rows in chunks:
        columns = [rows.columns[name].tolist() for name in rows.columns]
        found += list(zip(rows.keys.tolist(), rows.epoch.tolist(), *columns, strict=True))
    return sorted(found)


# What is measured ---------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 7])
def test_gradient_norm_of_cross_entropy_is_that_of_the_closed_form(rand, classes):
    output = torch.from_numpy(rand.numpy.normal(size=(50, classes)).astype(np.float32))
    labels = torch.from_numpy(rand.numpy.integers(0, classes, 50))
    each = nn.CrossEntropyLoss(reduction="none")

    loss, norm, prediction, right = measured(output, labels, each, SIGNALS, None)

    closed = output.softmax(dim=1) - nn.functional.one_hot(labels, classes)
    torch.testing.assert_close(norm, closed.norm(dim=1), rtol=1e-5, atol=1e-6)
    assert torch.equal(loss, each(output, labels))
    assert torch.equal(prediction, output.argmax(dim=1).float())
    assert torch.equal(right, (output.argmax(dim=1) == labels).float())


@pytest.mark.parametrize(
    "smoothing", [{"label_smoothing": 0.2}, {"weight": torch.tensor([1.0, 3])}]
)
def test_a_criterion_with_options_is_differentiated_as_it_is(rand, smoothing):
    output = torch.from_numpy(rand.numpy.normal(size=(9, 2)).astype(np.float32))
    labels = torch.from_numpy(rand.numpy.integers(0, 2, 9))
    each = nn.CrossEntropyLoss(reduction="none", **smoothing)

    loss, norm = measured(output, labels, each, ("loss", "gradient_norm"), None)

    for i in range(9):  # one sample at a time
        leaf = output[i : i + 1].clone().requires_grad_()
        own = each(leaf, labels[i : i + 1])
        own.sum().backward()
        assert float(norm[i]) == pytest.approx(float(leaf.grad.norm()), rel=1e-5)
        assert float(loss[i]) == pytest.approx(float(own.detach()))


@pytest.mark.parametrize(
    ("criterion", "border", "closed"),
    [
        (nn.BCEWithLogitsLoss, 0.0, lambda z, y: (z.sigmoid() - y).abs()),
        (nn.BCELoss, 0.5, lambda p, y: ((p - y) / (p * (1 - p))).abs()),
        (nn.MSELoss, 0.0, lambda z, y: 2 * (z - y).abs()),
    ],
)
def test_one_output_is_its_own_prediction(rand, criterion, border, closed):
    output = torch.from_numpy(rand.numpy.uniform(0.1, 0.9, 30).astype(np.float32))
    if border == 0.0:
        output -= 0.5
    labels = torch.from_numpy(rand.numpy.integers(0, 2, 30).astype(np.float32))

    loss, norm, value, right = measured(
        output, labels, criterion(reduction="none"), SIGNALS, border
    )

    torch.testing.assert_close(norm, closed(output, labels), rtol=1e-4, atol=1e-5)
    assert torch.equal(value, output)
    assert torch.equal(right.bool(), (output > border) == (labels == 1.0))
    assert len(loss) == 30


def test_what_is_not_a_number_is_never_right():
    output = torch.tensor([[float("nan"), 1.0], [2.0, 1.0]])
    each = nn.CrossEntropyLoss(reduction="none")

    (right,) = measured(output, torch.tensor([0, 0]), each, ("forgetting",), None)
    (one,) = measured(torch.tensor([float("nan")]), torch.tensor([0.0]), each, ("forgetting",), 0.0)

    assert right.tolist() == [0, 1]
    assert one.tolist() == [0]


def test_forgetting_counts_are_those_of_a_plain_loop(rand):
    keys = rand.keys(40) if rand.seed % 2 else np.arange(70, 110, dtype=np.uint64)
    forgetting = Forgetting(keys)
    last: dict[int, bool] = {}
    counts: dict[int, int] = {}  # of those that were right once

    for _ in range(12):
        shown = rand.numpy.permutation(keys)[: rand.numpy.integers(1, 41)]
        right = rand.numpy.random(len(shown)) < 0.6
        expected = []
        for key, now in zip(shown.tolist(), right.tolist(), strict=True):
            if now:
                counts.setdefault(key, 0)
            elif last.get(key):
                counts[key] += 1
            last[key] = now
            expected.append(counts.get(key, NEVER_LEARNED))
        assert forgetting.counts(shown, right).tolist() == expected


def test_a_sample_that_comes_twice_in_a_chunk_is_counted_in_order():
    class Keep:
        def put(self, rows: Rows) -> None:
            self.found = rows.columns["forgetting"].tolist()

    keep, keys = Keep(), np.array([4, 9], dtype=np.uint64)
    counting = Counting(keep, keys)  # type: ignore[arg-type]
    right = np.array([True, False, False, False, True, True])
    epochs = np.repeat(np.arange(3, dtype=np.int32), 2)

    counting.put(Rows(np.tile(keys, 3), epochs, {"forgetting": right}))

    assert keep.found == [0, NEVER_LEARNED, 1, NEVER_LEARNED, 1, 0]


# Nothing is learned otherwise ---------------------------------------------------------------------


class WithDropout(nn.Module):
    """A model that draws random numbers in each step; one output on request."""

    def __init__(self, outputs: int = 2, last: str = "") -> None:
        super().__init__()
        layers = [nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs)]
        self.layers = nn.Sequential(*layers, *([nn.Sigmoid()] if last else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize(
    ("criterion", "model", "more", "names"),
    [
        ("CrossEntropyLoss", WithDropout, {}, SIGNALS),
        ("CrossEntropyLoss", WithDropout, {"use_previous_model": True}, ("loss",)),
        ("CrossEntropyLoss", WithDropout, {"num_samples_to_pass": (400, 70, 333)}, SIGNALS),
        ("MultiMarginLoss", WithDropout, {"shuffle": False}, SIGNALS),
        ("BCEWithLogitsLoss", lambda: WithDropout(1), {"drop_last_batch": False}, SIGNALS),
        ("BCELoss", lambda: WithDropout(1, "sigmoid"), {}, SIGNALS),
        ("MSELoss", lambda: WithDropout(1), {}, ("loss", "gradient_norm", "prediction")),
    ],
)
def test_weights_are_bit_equal_with_and_without(tmp_path, criterion, model, more, names):
    class Weighted(Selection):
        def select(self, candidates: Any, context: Any) -> Selected:
            keys = candidates.keys
            return Selected(keys, weights=1.0 + (keys % np.uint64(3)).astype(np.float64))

    stream = drifting(tmp_path / "stream")
    for selection in (NewData(), Weighted()):
        found = []
        for recorded in ((), names):
            out = tmp_path / f"{type(selection).__name__}-{len(recorded)}"
            settings = training(
                **more, optimization_criterion=Criterion(name=criterion), signals=recorded
            )
            given = {"model": model, "training": settings, "selection": selection}
            run = pipeline(stream, **given, evaluation=None).replay(out)
            store = ModelStore(out / "models")
            found.append([store.load(key) for key in run.triggers["model"]])
            keys = run.triggers["model"]
        assert len(keys) == 4
        for plain, recorded in zip(*found, strict=True):
            assert plain.facts == recorded.facts
            for name, weight in plain.weights.items():
                assert torch.equal(weight, recorded.weights[name])


def test_the_key_of_a_model_does_not_say_what_was_recorded(tmp_path):
    stream = drifting(tmp_path / "stream")

    plain = pipeline(stream, training=training(signals=())).replay(tmp_path / "plain")
    recorded = pipeline(stream, training=training()).replay(tmp_path / "recorded")

    assert plain.triggers["model"] == recorded.triggers["model"]
    assert "signals" not in pipeline(stream, training=training(signals=())).describe()["training"]
    assert recorded.config["training"]["signals"] == list(SIGNALS)
    with pytest.raises(ConfigError, match=r"config\.training\.signals is .*loss.* there and null"):
        pipeline(stream, training=training(signals=())).replay(tmp_path / "recorded")


# What is kept -------------------------------------------------------------------------------------


def test_each_presentation_is_one_row(tmp_path):
    stream = drifting(tmp_path / "stream")

    run = pipeline(stream, training=training()).replay(tmp_path / "run")

    for trigger in range(4):
        chosen = keys_of(run, trigger)
        found = run.signals(trigger)
        assert found.trigger == trigger
        assert found.names == SIGNALS
        pairs = list(zip(found.keys.tolist(), found.epoch.tolist(), strict=True))
        assert pairs == sorted(set(pairs))
        assert np.bincount(found.epoch).tolist() == [
            128,
            128,
        ]  # a batch that is not full is left out
        assert set(found.keys.tolist()) <= set(chosen)
        assert found.loss.dtype == found.gradient_norm.dtype == np.float32
        assert found.prediction.dtype == found.forgetting.dtype == np.int32
        assert set(np.unique(found.prediction)) <= {0, 1}
        right = found.prediction == stream.labels[found.keys.astype(np.int64)]
        assert not (found.loss[right] > np.log(2) + 1e-6).any()
        assert (found.forgetting[right] < 2).all()
        assert not found.loss.flags.writeable


def test_rows_say_which_time_round_it_was(tmp_path):
    stream = drifting(tmp_path / "stream")
    settings = training(num_samples_to_pass=(400, 70), drop_last_batch=False)

    run = pipeline(stream, training=settings).replay(tmp_path / "run")

    assert np.bincount(run.signals(0).epoch).tolist() == [150, 150, 100]
    assert np.bincount(run.signals(1).epoch).tolist() == [70]
    for trigger in (0, 1, 2):
        found = run.signals(trigger)
        pairs = list(zip(found.keys.tolist(), found.epoch.tolist(), strict=True))
        assert len(pairs) == len(set(pairs))


def test_losses_of_the_first_batch_are_those_of_a_fresh_model(tmp_path):
    stream = drifting(tmp_path / "stream")
    settings = training(epochs_per_trigger=1, batch_size=150)

    run = pipeline(stream, training=settings, model=nn.Linear, evaluation=None)
    run = replace(run, model=run.model.__class__(id="m", factory=lambda: nn.Linear(4, 2)))
    done = run.replay(tmp_path / "run")

    found = done.signals(0)
    assert len(found) == 150
    mean = done.triggers["final_loss"][0]
    assert float(found.loss.astype(np.float64).mean()) == pytest.approx(mean, rel=1e-5)


def test_chunks_come_back_as_columns(tmp_path, rand):
    chunks = rows_of(rand, 300, epochs=3)
    writer = SignalFiles(tmp_path / "signals").begin(ONE)
    for rows in chunks:
        writer.put(rows)
    writer.commit()

    store = SignalFiles(tmp_path / "signals")
    found = store.read(3)

    assert tuples(found) == expected_of(chunks)
    assert store.read(3, ["loss"]).names == ("loss",)
    assert store.ready(3, "ab")
    assert not store.ready(3, "ac")
    assert not store.ready(2, "ab")
    with pytest.raises(KeyError, match="no signals of trigger 2"):
        store.read(2)


def test_nothing_is_seen_of_a_training_that_is_not_over(tmp_path, rand):
    store = SignalFiles(tmp_path / "signals")
    writer = store.begin(ONE)
    for rows in rows_of(rand, 300):
        writer.put(rows)

    assert store.triggers() == []
    assert not store.ready(3, "ab")
    writer.abort()
    assert list((tmp_path / "signals").iterdir()) == []


def test_a_training_that_is_done_again_replaces_its_signals(tmp_path, rand):
    store = SignalFiles(tmp_path / "signals")
    for chunks in (rows_of(rand, 100), again := rows_of(rand, 80)):
        writer = store.begin(ONE)
        for rows in chunks:
            writer.put(rows)
        writer.commit()

    assert tuples(store.read(3)) == expected_of(again)


def test_any_damage_is_found(tmp_path, rand):
    store = SignalFiles(tmp_path / "signals")
    writer = store.begin(ONE)
    for rows in rows_of(rand, 7):
        writer.put(rows)
    writer.commit()
    path = tmp_path / "signals" / "3.sig"
    whole = path.read_bytes()

    for place in range(len(whole)):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        with pytest.raises(CorruptError, match=r"3\.sig: "):
            store.read(3)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptError, match=r"3\.sig: "):
            store.read(3)
    path.write_bytes(whole + b"x")
    with pytest.raises(CorruptError, match="checksum"):
        store.read(3)
    path.write_bytes(whole)
    assert len(store.read(3)) == 14


def test_signals_that_are_missing_are_made_by_training_again(tmp_path):
    stream = drifting(tmp_path / "stream")
    whole = pipeline(stream, training=training()).replay(tmp_path / "whole")
    cut = pipeline(stream, training=training())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Replay, "_measure", _dies)
        with pytest.raises(DiedError):
            cut.replay(tmp_path / "run")
    _forget_training(tmp_path / "run", 0)
    (tmp_path / "run" / "signals" / "0.sig").unlink()
    run = cut.replay(tmp_path / "run")

    assert run.digest() == whole.digest()
    assert tuples(run.signals(0)) == tuples(whole.signals(0))


class DiedError(Exception):
    """What a killed process would not say."""


def _dies(*_: object) -> None:
    raise DiedError


def _forget_training(directory: Path, trigger: int) -> None:
    """Take a training out of the ledger, as if the process had died before that commit."""
    ledger = SqliteLedger(directory)
    with ledger._transaction(), ledger._seals.changing("trainings"):
        ledger._db.execute("DELETE FROM trainings WHERE trigger = ?", (trigger,))
    ledger.close()


# Erased samples -----------------------------------------------------------------------------------


def erase(dataset: modyn.Dataset, keys: list[int]) -> None:
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(keys, reason="asked for")


def test_rows_of_erased_samples_go(tmp_path):
    stream = drifting(tmp_path / "stream")
    made = pipeline(stream, training=training())
    run = made.replay(tmp_path / "run")
    before = [run.signals(trigger) for trigger in range(4)]
    gone = [3, 160, 161, 599]

    erase(stream, gone)
    stream.refresh()
    hidden = run.signals(1, dataset=stream)
    made.replay(tmp_path / "run")

    assert not set(hidden.keys.tolist()) & set(gone)
    for trigger in range(4):
        kept = before[trigger].where(~np.isin(before[trigger].keys, gone))
        assert tuples(run.signals(trigger)) == tuples(kept)
    assert len(run.signals(1)) < len(before[1])


def test_policies_see_no_row_of_a_sample_that_is_erased_between_triggers(tmp_path):
    stream = drifting(tmp_path / "stream")
    seen = []

    class Looks(Selection):
        def select(self, candidates: Any, context: Any) -> Any:
            seen.append(context.signals().keys.tolist())
            if context.trigger == 1:
                erase(stream, [7])
                stream.refresh()
                seen.append(context.signals().keys.tolist())
            return candidates.keys

    settings = training(drop_last_batch=False)
    pipeline(stream, training=settings, selection=Looks()).replay(tmp_path / "run")

    assert 7 in seen[1]
    assert 7 not in seen[2]
    assert sorted({*seen[1]} - {7}) == sorted({*seen[2]})
