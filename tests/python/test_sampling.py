"""Candidates and the samplers over them, held against their twins."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.sampling import Candidates, balanced, fair_shares, target_size, uniform
from tests.reference import selection as reference

COUNTS = [0, 1, 2, 63, 64, 65, 1000]


def make(keys, labels=None, *, block_count=65536):
    return Candidates.from_arrays(keys, np.arange(len(keys)), labels, block_count=block_count)


# Uniform ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("below", [1500, 2**40, 2**64 - 1])
def test_uniform_equals_its_twin(rand, count, below):
    keys = rand.numpy.permutation(rand.keys(700, below=below))

    got = uniform(make(keys), count, seed=rand.seed)

    assert got.dtype == np.uint64
    assert got.tolist() == reference.uniform(keys.tolist(), count, seed=rand.seed)


def test_uniform_of_bare_keys_is_that_of_candidates(rand):
    keys = rand.keys(500)

    got = uniform(keys, 100, seed=1)

    assert got.tolist() == uniform(make(keys), 100, seed=1).tolist()
    assert got.tolist() == uniform(keys.tolist(), 100, seed=1).tolist()


def test_a_key_that_comes_more_than_once_counts_once(rand):
    keys = rand.keys(300)
    repeated = rand.numpy.permutation(np.concatenate([keys, keys, keys[:200], keys[:5]]))

    for count in (1, 100, 299, 300, 500):
        assert uniform(repeated, count, seed=3).tolist() == uniform(keys, count, seed=3).tolist()


def test_a_smaller_choice_is_part_of_a_larger_one(rand):
    keys = rand.keys(3000)

    choices = [set(uniform(keys, count, seed=5).tolist()) for count in (1, 10, 500, 2999)]

    assert all(small < large for small, large in itertools.pairwise(choices))


def test_another_seed_chooses_others():
    chosen = {tuple(uniform(range(1000), 10, seed=seed).tolist()) for seed in range(50)}

    assert len(chosen) == 50


def test_what_uniform_chooses_does_not_change_between_versions():
    """A seed means the same choice for ever: runs are repeated years later."""
    assert uniform(range(1000), 4, seed=7).tolist() == [582, 736, 880, 908]
    assert balanced(range(9), 3, labels=[0, 1, 2] * 3, seed=7).tolist() == [0, 4, 5]


def test_inclusion_is_uniform():
    """Counts of 200 keys over 2000 seeds: chi-squared with 199 degrees of freedom.

    Scaled by (n-1)/n for the fixed total. The bounds are its 1e-4 tails, 133 and 282; seeds are
    fixed, so that this is no matter of luck.
    """
    hits = np.zeros(200)
    for seed in range(2000):
        hits[uniform(np.arange(200), 50, seed=seed)] += 1

    chi2 = float(((hits - 500) ** 2 / (500 * 0.75)).sum()) * 199 / 200

    assert 133 < chi2 < 282


def test_two_keys_are_chosen_together_as_often_as_chance_has_it():
    """Probability 50/200 * 49/199 for neighbours; the bound is four standard deviations."""
    together = 0
    for seed in range(4000):
        chosen = uniform(np.arange(200), 50, seed=seed)
        together += bool(np.isin([100, 101], chosen).all())
    p = 50 / 200 * 49 / 199

    assert abs(together - 4000 * p) < 4 * (4000 * p * (1 - p)) ** 0.5


@pytest.mark.parametrize(
    ("count", "seed", "message"),
    [
        (-1, 0, "count must be 0 to 2[*][*]64 - 1, got -1"),
        (2**64, 0, "count must be"),
        (1, -1, "seed must be 0 to 2[*][*]64 - 1, got -1"),
        (1, 2**64, "seed must be"),
    ],
)
def test_numbers_out_of_range_are_refused(count, seed, message):
    with pytest.raises(ValueError, match=message):
        uniform([1, 2], count, seed=seed)
    with pytest.raises(ValueError, match=message):
        balanced([1, 2], count, labels=[0, 1], seed=seed)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ([0.5], TypeError, "keys must be integers, got float64"),
        ([True], TypeError, "keys must be integers, got bool"),
        ([3, -4], ValueError, "keys must be uint64 numbers, got -4"),
        ([[1, 2]], ValueError, "keys must have one dimension"),
    ],
)
def test_keys_that_are_none_are_refused(keys, error, message):
    with pytest.raises(error, match=message):
        uniform(keys, 1, seed=0)


def test_a_label_beyond_int64_is_refused():
    with pytest.raises(ValueError, match="labels must be int64 numbers, got 9223372036854775808"):
        balanced([1], 1, labels=np.array([2**63], dtype=np.uint64), seed=0)


# Balanced --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("equal", "exact"), [(False, False), (True, False), (False, True)])
def test_balanced_equals_its_twin(rand, count, equal, exact):
    keys = rand.numpy.permutation(rand.keys(700))
    labels = rand.integers(-3, 3, 700) * rand.integers(0, 2, 700) * 2**40

    got = balanced(
        make(keys, labels),
        count,
        seed=rand.seed,
        force_column_balancing=equal,
        force_required_target_size=exact,
    )

    want = reference.balanced(
        keys.tolist(), labels.tolist(), count, seed=rand.seed, equal=equal, exact=exact
    )
    assert got.tolist() == want


def test_balanced_of_bare_keys_is_that_of_candidates(rand):
    keys, labels = rand.keys(500), rand.integers(0, 5, 500)

    got = balanced(keys, 77, labels=labels, seed=1)

    assert got.tolist() == balanced(make(keys, labels), 77, seed=1).tolist()


def test_balanced_does_not_depend_on_the_order_of_candidates(rand):
    keys, labels = rand.keys(2000), rand.integers(0, 5, 2000)
    order = rand.numpy.permutation(2000)

    for exact in (False, True):
        one = balanced(keys, 777, labels=labels, seed=2, force_required_target_size=exact)
        other = balanced(
            keys[order], 777, labels=labels[order], seed=2, force_required_target_size=exact
        )
        assert one.tolist() == other.tolist()


def test_balanced_without_labels_is_refused():
    with pytest.raises(ValueError, match="no labels"):
        balanced(make([1, 2]), 1, seed=0)
    with pytest.raises(ValueError, match="no labels"):
        balanced([1, 2], 1, seed=0)


def test_labels_beside_candidates_are_refused():
    with pytest.raises(TypeError, match="have their own"):
        balanced(make([1, 2], [0, 1]), 1, labels=[0, 1], seed=0)


def test_a_repeated_key_is_refused_where_it_would_be_chosen_twice():
    with pytest.raises(ValueError, match="key 5 comes more than once"):
        balanced([5, 5, 6], 3, labels=[0, 1, 1], seed=0)


def test_nothing_is_chosen_from_nothing():
    assert uniform([], 5, seed=0).tolist() == []
    assert balanced([], 5, labels=[], seed=0).tolist() == []
    assert uniform([4], 0, seed=0).tolist() == []


def test_many_classes_with_few_samples(rand):
    keys = rand.keys(5000)
    labels = rand.integers(0, 4000, 5000)

    got = balanced(keys, 3500, labels=labels, seed=9, force_required_target_size=True)

    want = reference.balanced(keys.tolist(), labels.tolist(), 3500, seed=9, exact=True)
    assert got.tolist() == want


# The selector defects of other systems, by their numbers ----------------------------------------


def test_d17_a_limit_is_one_for_the_whole_choice_not_for_each_block():
    candidates = make(np.arange(100), block_count=4)

    assert len(list(candidates.blocks())) == 25
    assert len(uniform(candidates, target_size(100, 100, limit=10), seed=0)) == 10


def test_d18_what_is_chosen_does_not_depend_on_when_it_was_inserted(rand):
    keys = rand.keys(1000)

    late = rand.numpy.permutation(keys)

    assert uniform(late, 50, seed=1).tolist() == uniform(keys, 50, seed=1).tolist()


@pytest.mark.parametrize("limit", [0, -2])
def test_d19_a_limit_is_minus_one_or_at_least_one(limit):
    with pytest.raises(ValueError, match=f"limit must be at least 1, or -1 for none, got {limit}"):
        target_size(100, 50, limit=limit)


def test_d20_equal_small_groups_lose_no_capacity():
    sizes = [5, 5, 5, 5, 400, 5, 5, 5, 5]
    labels = np.repeat(np.arange(9), sizes)

    assert fair_shares(sizes, 100).tolist() == [5, 5, 5, 5, 60, 5, 5, 5, 5]
    assert len(balanced(np.arange(440), 100, labels=labels, seed=0)) == 100


def test_d20_shares_equal_the_twin_that_pours_one_by_one(rand):
    for trial in range(300):
        groups = int(rand.numpy.integers(0, 9))
        sizes = rand.integers(0, int(rand.numpy.choice([3, 30])), groups).tolist()
        capacity = int(rand.numpy.integers(0, 100))
        for equal, exact in [(False, False), (True, False), (False, True), (True, True)]:
            got = fair_shares(
                sizes,
                capacity,
                force_column_balancing=equal,
                force_required_target_size=exact,
                seed=trial,
            )
            want = reference.fair_shares(sizes, capacity, equal=equal, exact=exact, seed=trial)
            assert got.tolist() == want, (sizes, capacity, equal, exact)


def test_d21_the_required_size_is_hit_exactly_and_wins_over_equal_columns():
    labels = np.repeat([0, 1, 2], [10, 40, 50])

    for count in (0, 1, 2, 31, 32, 99, 100, 101):
        got = balanced(
            np.arange(100),
            count,
            labels=labels,
            seed=count,
            force_column_balancing=True,
            force_required_target_size=True,
        )
        assert len(got) == min(count, 100)


def test_d21_the_newest_samples_and_every_class_get_the_extra_ones():
    """Of 5 classes of 20, 7 samples: two extras each time. 1500 seeds, four standard deviations."""
    labels = np.arange(100) % 5
    hits = np.zeros(100)
    for seed in range(1500):
        hits[
            balanced(range(100), 7, labels=labels, seed=seed, force_required_target_size=True)
        ] += 1

    per_class = hits.reshape(20, 5).sum(axis=0) - 1500  # the extras of each
    assert np.abs(per_class - 600).max() < 4 * (1500 * 0.4 * 0.6) ** 0.5
    newest = hits[50:].sum()
    assert abs(newest - 1500 * 3.5) < 4 * (1500 * 7 * 0.25) ** 0.5


def test_force_column_balancing_gives_equal_counts():
    labels = np.repeat([0, 1, 2], [10, 40, 50])

    chosen = balanced(range(100), 60, labels=labels, seed=0, force_column_balancing=True)

    assert np.bincount(labels[chosen]).tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((0, 50), 0),
        ((1, 50), 0),
        ((999, 50), 499),
        ((10**18, 1, 3), 10**18 // 3),
        ((100, 0), 0),
        ((100, 100), 100),
        ((100, 100, 100, 7), 7),
        ((100, 5, 1000, 7), 0),
    ],
)
def test_target_size_is_rounded_down_and_limited(arguments, size):
    assert target_size(*arguments) == size


@pytest.mark.parametrize("arguments", [(-1, 50), (1, -1), (1, 101), (1, 0, 0)])
def test_target_size_refuses_what_is_out_of_range(arguments):
    with pytest.raises(ValueError, match="must be"):
        target_size(*arguments)


# Candidates ------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path, rand):
    """3000 samples whose timestamps are not in arrival order."""
    made = Dataset.create(tmp_path / "clicks", schema={"x": "float32[2]"})
    for count in (1000, 1, 1999):
        made.append(
            {"x": np.zeros((count, 2), np.float32)},
            labels=rand.integers(0, 4, count),
            timestamps=rand.integers(0, 10**9, count),
        )
    yield made
    made.close()


def test_candidates_of_a_dataset_in_arrival_order(dataset):
    candidates = Candidates.from_dataset(dataset, first=100, last=2500)

    assert len(candidates) == 2400
    assert candidates.keys.tolist() == list(range(100, 2500))
    assert candidates.timestamps.tolist() == dataset.timestamps[100:2500].tolist()
    assert candidates.labels.tolist() == dataset.labels[100:2500].tolist()


def test_candidates_of_a_dataset_in_time_order(dataset):
    order = np.lexsort((np.arange(3000), dataset.timestamps)).astype(np.uint64)

    candidates = Candidates.from_dataset(dataset, order=order, first=100, last=2500)

    assert candidates.keys.tolist() == order[100:2500].tolist()
    assert candidates.timestamps.tolist() == dataset.timestamps[order][100:2500].tolist()
    assert candidates.labels.tolist() == dataset.labels[order][100:2500].tolist()


@pytest.mark.parametrize("ordered", [False, True])
def test_sampling_from_a_dataset_is_sampling_from_its_arrays(dataset, ordered):
    order = np.lexsort((np.arange(3000), dataset.timestamps)).astype(np.uint64)
    positions = order if ordered else np.arange(3000, dtype=np.uint64)
    keys = positions[10:2990]

    candidates = Candidates.from_dataset(
        dataset, order=order if ordered else None, first=10, last=2990
    )

    labels = dataset.labels[keys]
    assert uniform(candidates, 500, seed=1).tolist() == uniform(keys, 500, seed=1).tolist()
    got = balanced(candidates, 500, seed=1)
    assert got.tolist() == balanced(keys, 500, labels=labels, seed=1).tolist()


@pytest.mark.parametrize("block_count", [1, 7, 1000, 5000])
def test_blocks_are_the_candidates_cut_into_pieces(dataset, block_count):
    candidates = Candidates.from_dataset(dataset, first=1990, last=2990, block_count=block_count)

    blocks = list(candidates.blocks())

    assert [len(b) for b in blocks[:-1]] == [block_count] * (len(blocks) - 1)
    for name in ("keys", "timestamps", "labels"):
        joined = np.concatenate([getattr(b, name) for b in blocks])
        assert joined.tolist() == getattr(candidates, name).tolist()


def test_candidates_cannot_be_written_to():
    candidates = make([1, 2], [0, 1])

    for column in (candidates.keys, candidates.timestamps, candidates.labels):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0


def test_candidates_stay_when_the_dataset_is_closed(dataset):
    labels = dataset.labels[:50].tolist()

    candidates = Candidates.from_dataset(dataset, first=0, last=50)
    dataset.close()

    assert candidates.labels.tolist() == labels


def test_there_may_be_no_candidates(dataset):
    empty = Candidates.from_dataset(dataset, first=20, last=20)

    assert len(empty) == 0
    assert list(empty.blocks()) == []
    assert empty.keys.tolist() == []
    assert balanced(empty, 3, seed=0).tolist() == []


@pytest.mark.parametrize(("first", "last"), [(5, 4), (0, 3001), (3001, 3001)])
def test_positions_out_of_range_are_refused(dataset, first, last):
    with pytest.raises(ValueError, match="0 <= first <= last <= 3000"):
        Candidates.from_dataset(dataset, first=first, last=last)


def test_a_negative_position_is_refused(dataset):
    with pytest.raises(ValueError, match="first must be"):
        Candidates.from_dataset(dataset, first=-1, last=5)


def test_an_order_of_another_dtype_is_refused(dataset):
    with pytest.raises(TypeError, match="order"):
        Candidates.from_dataset(dataset, order=np.arange(3000.0), first=0, last=5)


@pytest.mark.parametrize("name", ["timestamps", "labels"])
def test_columns_of_another_length_are_refused(name):
    columns = {"timestamps": [1, 2], "labels": [1, 2]} | {name: [1]}

    with pytest.raises(ValueError, match=rf"{name} must have shape \(2,\) as keys, got \(1,\)"):
        Candidates.from_arrays([1, 2], **columns)


def test_many_threads_sample_from_one_object(dataset):
    """Each call has a stream of its own; threads meet at a barrier, finish by a deadline."""
    order = np.lexsort((np.arange(3000), dataset.timestamps)).astype(np.uint64)
    candidates = Candidates.from_dataset(dataset, order=order, first=0, last=3000)
    want = [balanced(candidates, 700, seed=s).tolist() for s in range(8)]
    barrier, got = threading.Barrier(8), [[] for _ in range(8)]

    def work(number):
        barrier.wait(timeout=30)
        for _ in range(20):
            got[number].append(balanced(candidates, 700, seed=number).tolist() == want[number])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert [results == [True] * 20 for results in got] == [True] * 8
