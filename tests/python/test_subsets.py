"""Downsamplers that need no forward pass: Uniform, RS2, InfoBatch and Forgetting."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from modyn.downsampling import RS2, Context, Forgetting, InfoBatch, Uniform
from modyn.downsampling.checks import check_downsampler
from modyn.downsampling.pool import ArrayPool
from modyn.signals import NEVER_LEARNED

Z = 3.9  # a two-sided p of 1e-4


def pool_of(count, *, keys=None, **history):
    keys = np.arange(count) if keys is None else keys
    arrays = {name: np.asarray(values) for name, values in history.items()}
    return ArrayPool(keys=keys, history=arrays)


def subsets(sampler, pool, count, epochs, *, seed=0):
    """The keys chosen in one epoch after the other."""
    return [
        pool.keys[sampler.choose(pool, count, Context(epoch=e, epochs=epochs, seed=seed)).rows]
        for e in range(epochs)
    ]


# Uniform ----------------------------------------------------------------------------------------


def test_each_sample_is_as_likely_as_every_other():
    counts = np.zeros(20)

    for step in range(4000):
        rows = Uniform().choose(pool_of(20), 5, Context(step=step)).rows
        assert len(set(rows.tolist())) == 5
        counts[rows] += 1

    # Without replacement the counts spread by a factor (20 - 5) / (20 - 1) less.
    chi2 = ((counts - 1000) ** 2).sum() / 1000 * 19 / 15
    assert chi2 < 50.8  # the 1e-4 quantile of 19 degrees of freedom


# RS2 --------------------------------------------------------------------------------------------

SIZES = [(12, 4), (10, 3), (10, 7), (7, 6), (5, 5), (9, 1), (1, 1)]


@pytest.mark.parametrize(("size", "count"), SIZES)
def test_without_replacement_no_sample_comes_twice_before_all_came_once(rand, size, count):
    pool = pool_of(size, keys=rand.keys(size))
    used = dict.fromkeys(pool.keys.tolist(), 0)

    for keys in subsets(RS2(with_replacement=False), pool, count, 40, seed=rand.seed):
        assert len(set(keys.tolist())) == count
        for key in keys.tolist():
            used[key] += 1
        assert max(used.values()) - min(used.values()) <= 1


@pytest.mark.parametrize(("size", "count"), SIZES)
def test_a_subset_depends_on_its_epoch_alone(rand, size, count):
    pool = pool_of(size, keys=rand.keys(size))
    expected = subsets(RS2(with_replacement=False), pool, count, 15)
    sampler = RS2(with_replacement=False)

    for epoch in [7, 3, 3, 14, 0, 8]:
        rows = sampler.choose(pool, count, Context(epoch=epoch, epochs=15)).rows
        assert pool.keys[rows].tolist() == expected[epoch].tolist()


@pytest.mark.parametrize("with_replacement", [True, False])
def test_a_subset_is_of_keys_wherever_they_lie(rand, with_replacement):
    keys = rand.keys(30)
    turned = keys[::-1].copy()
    sampler = RS2(with_replacement=with_replacement)

    there = subsets(sampler, pool_of(30, keys=keys), 8, 6)
    back = subsets(RS2(with_replacement=with_replacement), pool_of(30, keys=turned), 8, 6)

    if not with_replacement:
        assert [sorted(s.tolist()) for s in there] == [sorted(s.tolist()) for s in back]
    assert all(len(set(s.tolist())) == 8 for s in [*there, *back])


@pytest.mark.parametrize("with_replacement", [True, False])
def test_each_sample_is_as_likely_in_each_epoch(with_replacement):
    counts = np.zeros((4, 5))

    for seed in range(1500):
        found = subsets(RS2(with_replacement=with_replacement), pool_of(5), 3, 4, seed=seed)
        for epoch, keys in enumerate(found):
            counts[epoch, keys.astype(np.int64)] += 1

    spread = np.sqrt(1500 * 0.6 * 0.4)
    assert np.all(np.abs(counts - 900) <= 4.5 * spread)  # twenty counts, p of all of them 1e-4


def test_with_replacement_epochs_know_nothing_of_each_other():
    found = subsets(RS2(with_replacement=True), pool_of(10), 5, 400)
    again = [len(np.intersect1d(a, b)) for a, b in pairwise(found)]

    # Hypergeometric: mean 2.5, variance 25/36.
    assert abs(np.mean(again) - 2.5) < Z * np.sqrt(25 / 36 / len(again))


def test_classes_that_are_chosen_apart_have_passes_of_their_own():
    sampler = RS2(with_replacement=False, balance=True)
    pools = [pool_of(7), pool_of(4, keys=np.arange(100, 104))]
    used = [np.zeros(7), np.zeros(4)]

    for epoch in range(14):
        for step, pool in enumerate(pools):
            context = Context(epoch=epoch, epochs=14, step=step)
            used[step][sampler.choose(pool, len(pool) // 2, context).rows] += 1

    assert used[0].tolist() == [6.0] * 7
    assert used[1].tolist() == [7.0] * 4


# InfoBatch --------------------------------------------------------------------------------------

LOSSES = np.array([0.1, 5.0, 0.2, 0.3, 4.0, 0.4, 0.5, 9.0])  # mean 2.44, five below it


def test_what_is_above_the_mean_is_kept_with_weight_one():
    for step in range(20):
        chosen = InfoBatch().choose(pool_of(8, losses=LOSSES), 8, Context(epochs=10, step=step))
        weights = dict(zip(chosen.rows.tolist(), chosen.weights.tolist(), strict=True))
        assert [weights[row] for row in (1, 4, 7)] == [1.0] * 3
        assert len(weights) == 3 + 3
        assert [weights[row] for row in weights if row not in (1, 4, 7)] == [5 / 3] * 3


@pytest.mark.parametrize("prune", [0.3, 0.5, 0.9])
def test_the_weighted_sum_is_the_full_sum_on_average(prune):
    pool = pool_of(8, losses=LOSSES)
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    found = []

    for step in range(2000):
        chosen = InfoBatch(prune=prune).choose(pool, 8, Context(epochs=10, step=step))
        found.append(chosen.weights @ values[chosen.rows])

    z = abs(np.mean(found) - values.sum()) / (np.std(found) / np.sqrt(len(found)))
    assert z < Z


def test_of_many_samples_the_weight_is_one_over_the_share_that_stays():
    losses = np.concatenate([np.zeros(1000), np.ones(1000)])

    chosen = InfoBatch(prune=0.75).choose(pool_of(2000, losses=losses), 2000, Context(epochs=9))

    assert len(chosen.rows) == 250 + 1000
    assert set(chosen.weights.tolist()) == {4.0, 1.0}


def test_towards_the_end_all_samples_are_trained_on():
    pool = pool_of(8, losses=LOSSES)

    kept = [
        len(InfoBatch(delta=0.75).choose(pool, 8, Context(epoch=e, epochs=10)).rows)
        for e in range(10)
    ]

    assert kept == [6] * 8 + [8] * 2


def test_before_anything_is_known_all_samples_are_trained_on():
    chosen = InfoBatch().choose(pool_of(5, losses=[np.nan] * 5), 5, Context(epochs=10))

    assert chosen.rows.tolist() == [0, 1, 2, 3, 4]
    assert chosen.weights.tolist() == [1.0] * 5


def test_a_sample_without_a_loss_counts_as_if_it_had_the_first_one():
    losses = [np.nan, 0.1, 0.1, 2.9]  # mean 1.525 with a loss of 3

    rows = {
        row
        for step in range(20)
        for row in range(4)
        if row
        not in InfoBatch().choose(pool_of(4, losses=losses), 4, Context(epochs=9, step=step)).rows
    }

    assert rows == {1, 2}


def test_without_pruning_nothing_changes():
    chosen = InfoBatch(prune=0.0).choose(pool_of(8, losses=LOSSES), 8, Context(epochs=10))

    assert chosen.rows.tolist() == list(range(8))
    assert chosen.weights.tolist() == [1.0] * 8


# Forgetting -------------------------------------------------------------------------------------


def test_what_is_forgotten_most_often_is_kept():
    counts = [0, 3, NEVER_LEARNED, 1, 1, 0]
    pool = pool_of(6, keys=[5, 4, 3, 2, 1, 0], forgetting=np.array(counts, dtype=np.int32))

    def kept(count):
        return Forgetting().choose(pool, count, Context(epoch=5, epochs=10)).rows.tolist()

    assert kept(1) == [2]
    assert kept(2) == [1, 2]
    assert kept(3) == [1, 2, 4]  # of two counts of 1 the one with the smaller key


@pytest.mark.parametrize(("warmup", "first"), [(0.5, 5), (0.2, 2), (0.25, 3), (0.0, 1), (1.0, 10)])
def test_at_first_all_samples_are_trained_on(warmup, first):
    pool = pool_of(4, forgetting=np.array([0, 1, 0, 2], dtype=np.int32))

    kept = [
        len(Forgetting(warmup=warmup).choose(pool, 2, Context(epoch=e, epochs=10)).rows)
        for e in range(10)
    ]

    assert kept == [4] * first + [2] * (10 - first)


# All of them ------------------------------------------------------------------------------------

SAMPLERS = [
    Uniform(),
    RS2(with_replacement=True),
    RS2(with_replacement=False),
    InfoBatch(),
    Forgetting(warmup=0.5),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_they_keep_the_promises_of_a_downsampler(sampler):
    check_downsampler(sampler)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RS2(with_replacement=True, sample_then_batch=False), "sample_then_batch must be"),
        (lambda: RS2(with_replacement=True, period=2), "period must be 1, got 2"),
        (lambda: InfoBatch(sample_then_batch=False), "sample_then_batch must be true"),
        (lambda: InfoBatch(period=0), "period must be 1, got 0"),
        (lambda: InfoBatch(prune=1.0), "prune must be from 0 to below 1"),
        (lambda: InfoBatch(delta=1.1), "delta must be from 0 to 1"),
        (lambda: Forgetting(sample_then_batch=False), "sample_then_batch must be true"),
        (lambda: Forgetting(period=0), "period of at least 1"),
        (lambda: Forgetting(warmup=-0.1), "warmup must be from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
