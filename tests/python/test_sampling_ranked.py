"""Choices by rank, and samplers in parts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.sampling import Candidates, Sampler, balanced, band, newest, top, uniform, weighted
from tests.reference import weighted as reference


def values_of(rand, n, kind):
    if kind == "floats":
        return rand.numpy.standard_normal(n)
    if kind == "ties":
        return np.round(rand.numpy.standard_normal(n)) * 0.0 + rand.integers(-2, 3, n)
    if kind == "integers":
        return rand.integers(-(2**62), 2**62, n) | 1  # float64 cannot tell all of them apart
    assert kind == "extremes"
    return rand.numpy.choice([0.0, -0.0, math.inf, -math.inf, 5e-324, -1e308], n)


# Ranks ------------------------------------------------------------------------------------------

KINDS = ["floats", "ties", "integers", "extremes"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 40, 2999, 3000, 9000])
def test_top_equals_its_twin(rand, kind, count):
    keys, values = rand.keys(3000), values_of(rand, 3000, kind)

    for largest in (True, False):
        got = top(keys, count, values, largest=largest)
        want = reference.top(keys.tolist(), values.tolist(), count, largest=largest)
        assert got.tolist() == want


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [[0, 1], [0, 0, 0.1, 0.5, 0.5, 0.9, 1], [0.3, 0.30001, 0.7]])
def test_bands_equal_their_twin(rand, kind, cuts):
    keys, values = rand.keys(3000), values_of(rand, 3000, kind)
    ranked = reference.ranked(keys.tolist(), values.tolist())

    for low, high in itertools.pairwise(cuts):
        got = band(keys, low, high, values)
        want = ranked[math.floor(low * 3000) : math.floor(high * 3000)]
        assert got.tolist() == sorted(want)


def test_newest_takes_the_last_by_time_and_key(rand):
    keys, times = rand.keys(3000), rand.integers(0, 50, 3000)
    candidates = Candidates.from_arrays(keys, times)

    for count in (0, 1, 500, 2999, 4000):
        want = reference.newest(keys.tolist(), times.tolist(), count)
        assert newest(candidates, count).tolist() == want


def test_ranks_do_not_depend_on_order_or_threads(rand):
    n = 600_000
    keys, values = np.arange(n) * 7919, rand.integers(0, 5000, n)
    order = rand.numpy.permutation(n)

    for count in (10, 200_000):
        one = top(keys, count, values)
        assert one.tolist() == top(keys[order], count, values[order], threads=4).tolist()
    one = band(keys, 0.3, 0.4, values)
    assert one.tolist() == band(keys[order], 0.3, 0.4, values[order], threads=4).tolist()


def test_ranks_by_a_column_and_by_a_function(rand):
    keys, times, labels = rand.keys(2000), rand.integers(0, 9, 2000), rand.integers(0, 4, 2000)
    candidates = Candidates.from_arrays(keys, times, labels)

    assert top(candidates, 99, "timestamp").tolist() == top(keys, 99, times).tolist()
    assert band(candidates, 0.5, 1, "label").tolist() == band(keys, 0.5, 1, labels).tolist()
    asked = top(candidates, 99, lambda block: block.timestamps * 2.0 - block.labels)
    assert asked.tolist() == top(keys, 99, times * 2.0 - labels).tolist()


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="value of key 2 is not a number"):
        top([1, 2], 1, [0.5, math.nan])
    with pytest.raises(ValueError, match="value of key 2 is not a number"):
        band([1, 2], 0, 0.5, [0.5, math.nan])
    with pytest.raises(ValueError, match=r"0 <= low <= high <= 1, got 0.6 and 0.5"):
        band([1, 2], 0.6, 0.5, [0, 1])
    with pytest.raises(ValueError, match="comes more than once"):
        band([1, 1, 1], 0.4, 0.8, [0, 0, 0])
    with pytest.raises(ValueError, match="key 1 comes more than once"):
        top([1, 1, 1], 2, [0, 0, 0])
    with pytest.raises(ValueError, match="this sampler needs values"):
        top([1, 2], 1, None)


# Samplers in parts ------------------------------------------------------------------------------

MADE = {
    "uniform": lambda: Sampler.uniform(700, seed=3),
    "balanced": lambda: Sampler.balanced(700, seed=3, force_required_target_size=True),
    "equal": lambda: Sampler.balanced(700, seed=3, force_column_balancing=True),
    "level": lambda: Sampler.balanced(700, seed=3),
    "sequential": lambda: Sampler.weighted(700, seed=3),
    "priority": lambda: Sampler.weighted(700, seed=3, scheme="priority"),
    "with_replacement": lambda: Sampler.weighted(700, seed=3, scheme="with_replacement"),
    "top": lambda: Sampler.top(700),
    "newest": lambda: Sampler.newest(700),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("saved", [False, True])
def test_shards_that_are_merged_choose_what_one_sampler_chooses(rand, kind, saved):
    n = 9000
    keys, values = rand.keys(n), rand.integers(0, 500, n).astype(np.float64)
    labels = np.minimum(rand.integers(0, 40, n), 7)
    needs = None if kind in ("uniform", "balanced", "equal", "level") else values
    whole = MADE[kind]()
    whole.offer(keys, needs, labels=labels)

    merged = MADE[kind]()
    for part in np.array_split(rand.numpy.permutation(n), 7):
        shard = MADE[kind]()
        for rows in np.array_split(part, 3):
            shard.offer(keys[rows], None if needs is None else needs[rows], labels=labels[rows])
        merged.merge(Sampler.from_state(shard.state()) if saved else shard)

    want, got = whole.finish(), merged.finish()
    assert got.keys.tolist() == want.keys.tolist()
    assert (got.weights is None) == (want.weights is None)
    if want.weights is not None:
        assert got.weights.tolist() == want.weights.tolist()


def test_a_sampler_chooses_what_the_functions_choose(rand):
    keys, labels = rand.keys(5000), rand.integers(0, 9, 5000)
    for kind, want in {
        "uniform": uniform(keys, 700, seed=3),
        "level": balanced(keys, 700, seed=3, labels=labels),
        "sequential": weighted(keys, 700, weights=labels, seed=3, scheme="sequential").keys,
        "top": top(keys, 700, labels),
    }.items():
        sampler = MADE[kind]()
        sampler.offer(keys, None if kind in ("uniform", "level") else labels, labels=labels)
        assert sampler.finish().keys.tolist() == want.tolist()


def test_threads_choose_what_one_thread_chooses(rand):
    n = 600_000
    keys, labels = np.arange(n) * 7919, rand.integers(0, 1000, n)

    assert uniform(keys, 9000, seed=1).tolist() == uniform(keys, 9000, seed=1, threads=4).tolist()
    for force in (False, True):
        one, many = (
            balanced(
                keys,
                9000,
                seed=1,
                labels=labels,
                threads=threads,
                force_required_target_size=force,
            )
            for threads in (1, 4)
        )
        assert one.tolist() == many.tolist()


def test_threads_read_a_dataset_with_erased_samples_and_a_filter(tmp_path, rand):
    n = 400_000
    labels = rand.integers(0, 4, n)
    dataset = Dataset.create(tmp_path / "d", schema={"x": "uint8"})
    dataset.append({"x": np.zeros(n, np.uint8)}, timestamps=np.arange(n), labels=labels)
    dataset.erase(np.arange(0, n, 5), reason="test")
    candidates = Candidates.from_dataset(dataset, first=0, last=n)
    living = np.arange(n) % 5 != 0

    for some, mask in (
        (candidates, living),
        (candidates.where(labels=[1, 2]), living & np.isin(labels, [1, 2])),
    ):
        keys = np.flatnonzero(mask)
        assert uniform(some, 500, seed=1, threads=3).tolist() == uniform(keys, 500, seed=1).tolist()
        assert newest(some, 500, threads=3).tolist() == keys[-500:].tolist()
        weights = 1.0 + np.arange(keys.size) % 3
        drawn = weighted(some, 500, weights=weights, seed=1, threads=3)
        assert drawn.keys.tolist() == weighted(keys, 500, weights=weights, seed=1).keys.tolist()
        shares = balanced(some, 500, seed=1, threads=3)
        assert shares.tolist() == balanced(keys, 500, seed=1, labels=labels[keys]).tolist()


def test_what_is_no_state_is_refused(rand):
    sampler = MADE["balanced"]()
    sampler.offer(rand.keys(2000), labels=rand.integers(0, 5, 2000))
    state = sampler.state()

    for at in (0, 1, 2, 4, 5, 8, 9, 10, 11, 12, 200, -1):
        broken = state.copy()
        broken[at] += 1
        with pytest.raises(ValueError, match="not the state"):
            Sampler.from_state(broken)
    for size in (0, 5, state.size - 1):
        with pytest.raises(ValueError, match="not the state"):
            Sampler.from_state(state[:size])


def test_a_sampler_that_is_finished_or_failed_does_nothing_more():
    done, failed = Sampler.uniform(3, seed=1), Sampler.top(3)
    done.offer([1, 2])
    done.finish()
    with pytest.raises(ValueError, match="not a number"):
        failed.offer([1], [math.nan])

    for sampler in (done, failed):
        with pytest.raises(ValueError, match="has been finished, or has failed"):
            sampler.offer([1], [1])
        with pytest.raises(ValueError, match="has been finished, or has failed"):
            sampler.finish()
    with pytest.raises(ValueError, match="cannot be merged"):
        Sampler.uniform(3, seed=1).merge(Sampler.uniform(3, seed=2))
    one = Sampler.top(1)
    with pytest.raises(ValueError, match="another thread uses"):
        one.merge(one)
    with pytest.raises(ValueError, match="scheme must be one of sequential, priority"):
        Sampler.weighted(3, seed=1, scheme="pps")


def test_more_candidates_than_2_to_24(rand):
    """What torch.multinomial refuses; 2**24 + 2**20 candidates, 98 percent of the weight on few."""
    n = 2**24 + 2**20
    weights = np.ones(n, dtype=np.float64)
    weights[-1000:] = 1e6
    candidates = Candidates.from_arrays(np.arange(n, dtype=np.uint64), np.arange(n))

    for scheme in ("pps", "with_replacement"):
        drawn = weighted(candidates, 500, weights=weights, seed=0, scheme=scheme, threads=2)
        assert 350 < int((drawn.keys >= n - 1000).sum()) <= 500
        assert (drawn.keys[:-1] < drawn.keys[1:]).all()
    assert newest(candidates, 3).tolist() == [n - 3, n - 2, n - 1]
