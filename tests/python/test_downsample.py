"""Downsampling in the training loop: what it trains on, how it counts, what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modyn.downsampling import Chosen, Downsampler
from modyn.downsampling.base import highest
from modyn.pipelines.jobs import Job
from modyn.pipelines.settings import LrScheduler, Optimizer, ParamGroup
from modyn.pipelines.train import train
from tests.python.downsample_jobs import (
    COUNT,
    SIZE,
    ArrayBatches,
    ArraySamples,
    Blind,
    HighestLoss,
    Multiples,
    Noisy,
    Seen,
    job_of,
    made,
    part_of,
    same,
)


class HighestLossAtOnce(Downsampler):
    """The same by `choose` alone."""

    needs = ("losses", "outputs")

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(highest(pool.losses.double().numpy(), pool.keys, count))


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("kind", [HighestLoss, HighestLossAtOnce, Blind])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_share_of_all_is_plain_training_bit_for_bit(kind, stb, weights, drop_last):
    data = made(weights=weights)

    noisy = {"drop_last": drop_last, "make_model": Noisy}

    plain = train(job_of(data, None, **noisy))
    sampled = train(job_of(data, kind(sample_then_batch=stb), **noisy))

    assert same(sampled, plain)
    assert sampled.facts.batches == plain.facts.batches
    assert sampled.facts.final_loss == plain.facts.final_loss


def seen_in(job: Job) -> Seen:
    seen = Seen()
    train(job, watch=seen, observer=seen)
    return seen


def test_what_is_kept_is_collected_until_it_fills_a_batch():
    data = made()
    expected: list[int] = []
    for epoch in range(3):
        batches = ArrayBatches(data)
        batches.set_epoch(epoch)
        for batch in batches:
            kept = np.sort(batch.keys)[: len(batch) // 2]
            expected += [key for key in batch.keys.tolist() if key in kept]

    seen = seen_in(job_of(data, Multiples(ratio=50)))

    assert [len(keys) for keys in seen.keys] == [16] * 14 + [1]  # 75 samples in 3 epochs
    assert [key for keys in seen.keys for key in keys] == expected
    assert seen.done == (15, 15)


@pytest.mark.parametrize(
    ("count", "ratio", "lengths"),
    [
        (150, 50, [16] * 13),  # 9 batches of an epoch, 8 of each; 8 samples are left
        (150, 99, [16] * 25),  # 15 of 16
        (20, 50, [16]),  # one batch of an epoch
        (20, 10, [3]),  # one of each epoch: less than a batch, which is one all the same
        (5, 50, [6]),
    ],
)
def test_a_rest_is_dropped_with_drop_last_batch(count, ratio, lengths):
    seen = seen_in(job_of(made(count=count), Multiples(ratio=ratio), drop_last=True))

    assert [len(keys) for keys in seen.keys] == lengths
    assert seen.done == (len(lengths), len(lengths))


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("ratio", [1, 10, 37, 50, 99, 100])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 150])
def test_the_schedule_is_as_long_as_the_training(stb, ratio, drop_last, count):
    schedule = LrScheduler(
        name="OneCycleLR",
        step_every="batch",
        config={"max_lr": 0.1, "total_steps": "MODYN_NUM_BATCHES"},
    )
    downsampler = Multiples(ratio=ratio, sample_then_batch=stb)
    job = job_of(
        made(count=count),
        downsampler,
        drop_last=drop_last,
        lr_scheduler=schedule,
    )

    done, total = seen_in(job).done  # one step too many would raise

    assert done == total


@pytest.mark.parametrize("to_pass", [40, 150, 333])
def test_of_so_many_samples_a_share_is_trained_on(to_pass):
    data = made()
    batches = ArrayBatches(part_of(data, np.arange(to_pass) % COUNT), shuffled=False)
    job = job_of(data, Multiples(ratio=25), batches=batches, to_pass=to_pass)

    seen = seen_in(job)

    last = to_pass % SIZE
    kept = to_pass // SIZE * 4 + (max(last // 4, 1) if last else 0)
    assert sum(map(len, seen.keys)) == kept
    assert seen.done == (-(-kept // SIZE), -(-kept // SIZE))
    assert seen.epochs == list(range(-(-to_pass // COUNT)))


@pytest.mark.parametrize(
    ("period", "chosen_at"), [(0, [0]), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (7, [0])]
)
def test_the_training_set_is_chosen_from_every_so_many_epochs(period, chosen_at):
    data = made()
    at: list[tuple[int, int]] = []

    class Noting(HighestLoss):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            at.append((context.epoch, context.epochs))
            return super().choose(pool, count, context)

    job = job_of(
        data, Noting(ratio=20, sample_then_batch=True, period=period), epochs_per_trigger=5
    )

    seen = seen_in(job)

    assert at == [(epoch, 5) for epoch in chosen_at]
    assert [sorted(seen.keys[i] + seen.keys[i + 1]) for i in range(0, 10, 2)] == [
        job.pool.trained[sum(first <= epoch for first in chosen_at) - 1].tolist()
        for epoch in range(5)
    ]
    assert all(len(keys) == 30 for keys in job.pool.trained)


def test_scoring_by_pieces_and_all_at_once_choose_the_same():
    data = made()

    by_pieces = train(job_of(data, HighestLoss(ratio=40, sample_then_batch=True)))
    at_once = train(job_of(data, HighestLossAtOnce(ratio=40, sample_then_batch=True)))

    assert same(by_pieces, at_once)
    assert by_pieces.facts.downsampled == at_once.facts.downsampled
    assert vars(by_pieces.facts.downsampled) == {"scored": 450, "trained": 180}


def test_batches_and_the_whole_set_have_different_winners():
    data = made()

    of_batches = train(job_of(data, HighestLoss(ratio=40)))
    of_all = train(job_of(data, HighestLoss(ratio=40, sample_then_batch=True)))

    assert not same(of_batches, of_all)
    # 6 of each batch of 16, and 2 of the last, of 6.
    assert vars(of_batches.facts.downsampled) == {"scored": 450, "trained": 3 * (9 * 6 + 2)}


def test_what_looks_at_nothing_scores_nothing():
    facts = train(job_of(made(), Blind(ratio=50, sample_then_batch=True))).facts

    assert vars(facts.downsampled) == {"scored": 0, "trained": 225}
    assert train(job_of(made(), None)).facts.downsampled is None


@pytest.mark.parametrize("kind", [HighestLoss, HighestLossAtOnce, Blind])
def test_balance_gives_every_class_its_share(kind):
    data = made()
    rare = np.flatnonzero(data.labels == 2)[1:]  # one sample of class 2 is left
    data = part_of(data, np.setdiff1d(np.arange(COUNT), rare))
    job = job_of(data, kind(ratio=30, sample_then_batch=True, balance=True, period=0))

    train(job)

    classes, counts = np.unique(data.labels, return_counts=True)
    chosen = data.labels[np.searchsorted(data.keys, job.pool.trained[0])]
    assert {c: int((chosen == c).sum()) for c in classes.tolist()} == {
        c: max(int(n) * 30 // 100, 1) for c, n in zip(classes.tolist(), counts, strict=True)
    }


@pytest.mark.parametrize("pool_samples", [1, 7, 40, 150, 151])
def test_a_large_set_is_chosen_from_block_by_block(pool_samples):
    seen: list[tuple[int, int, int]] = []

    class Noting(HighestLossAtOnce):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            seen.append((len(pool), count, context.step))
            return super().choose(pool, count, context)

    noting = Noting(ratio=33, sample_then_batch=True, period=0, pool_samples=pool_samples)
    job = job_of(made(), noting)

    train(job)

    sizes, counts, steps = zip(*seen, strict=True)
    assert sum(counts) == 49 == len(job.pool.trained[0])
    assert max(sizes) <= pool_samples
    assert max(sizes) - min(sizes) <= 1
    assert list(steps) == list(range(len(steps)))


def test_choose_after_score_sees_scores_alone():
    class Curious(HighestLoss):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            assert pool.scores.shape == (len(pool),)
            assert pool.labels.shape == (len(pool),)
            return Chosen(pool.losses.argsort()[:count])

    with pytest.raises(ValueError, match="this pool has no losses: name them in needs"):
        train(job_of(made(), Curious(ratio=50)))


# Weights ------------------------------------------------------------------------------------------


class Weighing(Downsampler):
    """Keeps the lowest keys, and weighs each by its key."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        rows = np.argsort(pool.keys)[:count]
        return Chosen(rows, pool.keys[rows] / 100.0)


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_weights_reach_the_loss(stb, own, normalise):
    data = made(count=SIZE, weights=own)
    weighing = Weighing(ratio=50, sample_then_batch=stb, normalise=normalise)
    frozen = Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.0}),))
    job = job_of(
        data,
        weighing,
        epochs_per_trigger=2,
        optimizers=(frozen,),
        record_loss_every=1,
    )

    stored = train(job)

    kept = part_of(data, np.arange(8))
    model = nn.Linear(3, 3)
    model.load_state_dict(stored.weights)
    losses = nn.functional.cross_entropy(
        model(torch.from_numpy(kept.x)), torch.from_numpy(kept.labels), reduction="none"
    )
    losses = losses.detach().double().numpy()
    factors = kept.keys / 100.0
    weights = np.ones(8) if kept.weights is None else kept.weights
    below = (factors * weights).sum() if normalise else weights.sum()
    expected = (factors * weights * losses).sum() / below
    found = [loss for _, loss in stored.facts.losses]
    batches = [expected, expected] if stb else [expected]  # two halves make a batch
    assert found == pytest.approx(batches, rel=1e-5)


def test_a_class_counts_as_much_as_it_has_samples_whatever_is_chosen_of_it():
    class Halves(Downsampler):
        needs = ()

        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(np.arange(count), np.full(count, 0.5))

    class Noting(ArraySamples):
        def to_train(self, keys: np.ndarray, weights: np.ndarray | None) -> ArrayBatches:
            noted.append(weights)
            return super().to_train(keys, weights)

    noted: list[np.ndarray | None] = []
    data = replace(made(count=14), labels=np.array([0] * 10 + [1] * 3 + [2]))
    halves = Halves(ratio=25, sample_then_batch=True, balance=True, period=0)

    train(job_of(data, halves, pool=Noting(data)))

    # 2 of 10 samples, 1 of 3 and 1 of 1; a sample chosen stands for 14 / 4 of them in the mean.
    assert noted[0] == pytest.approx(0.5 * np.array([5, 5, 3, 1]) / 3.5)


def test_weights_of_one_are_none():
    class Ones(Multiples):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(super().choose(pool, count, context).rows, torch.ones(count))

    data = made()

    assert same(train(job_of(data, Ones(ratio=50))), train(job_of(data, Multiples(ratio=50))))


def test_a_sample_that_is_chosen_twice_counts_twice():
    class Twice(Downsampler):
        needs = ()

        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(np.repeat(np.arange(count // 2), 2))

    class Once(Multiples):
        exact = False

        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(np.arange(count // 2), np.full(count // 2, 1.0))

    data = made(count=32)
    settings = {"batch_size": 32, "epochs_per_trigger": 1}

    twice = train(job_of(data, Twice(ratio=50, sample_then_batch=True), **settings))
    once = train(job_of(data, Once(ratio=50, sample_then_batch=True), **settings))

    for name, value in twice.weights.items():
        assert torch.allclose(value, once.weights[name], atol=1e-6)
