"""Choices by weight: held against their twins, and their promises against statistics."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from modyn.sampling import Candidates, Drawn, weighted
from modyn.sampling.candidates import core_of
from tests.reference import weighted as reference

SCHEMES = ["pps", "priority", "with_replacement", "sequential"]
SEEDS = 3000
TWINS = {
    "pps": reference.systematic,
    "priority": reference.priority,
    "with_replacement": reference.with_replacement,
}


def some_weights(rand, n, kind):
    if kind == "light":
        return rand.numpy.random(n) + 0.5
    if kind == "heavy tail":
        return np.exp(3 * rand.numpy.standard_normal(n))
    if kind == "few are not 0":
        return rand.numpy.random(n) * (np.arange(n) % 20 == 0)
    if kind == "all are 0":
        return np.zeros(n)
    assert kind == "equal"
    return np.full(n, 0.3)


# Twins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["light", "heavy tail", "few are not 0", "equal"])
@pytest.mark.parametrize("count", [0, 1, 40, 199, 600, 999])
def test_weighted_equals_its_twin(rand, scheme, kind, count):
    n = 1000 if scheme != "with_replacement" else 50
    keys = rand.numpy.permutation(rand.keys(n))
    weights = some_weights(rand, n, kind)

    drawn = weighted(keys, count, weights=weights, seed=rand.seed, scheme=scheme)

    arguments = (keys.tolist(), weights.tolist(), count, rand.seed)
    if scheme == "sequential":
        assert drawn.weights is None
        assert drawn.keys.tolist() == reference.sequential(*arguments)
        return
    want, made = TWINS[scheme](*arguments)
    assert drawn.keys.tolist() == want
    np.testing.assert_allclose(drawn.weights, made, rtol=1e-14)


def test_pps_in_many_buckets_that_are_too_long_equals_its_twin(rand):
    """With pi just below 1/4 about every seventh bucket is longer than 1 and is read again."""
    keys = rand.keys(8000)
    weights = 1 + rand.numpy.random(8000) * 0.01

    drawn = weighted(keys, 1990, weights=weights, seed=rand.seed)

    want, made = reference.systematic(keys.tolist(), weights.tolist(), 1990, rand.seed)
    assert drawn.keys.tolist() == want
    assert len(drawn) == 1990
    np.testing.assert_allclose(drawn.weights, made, rtol=1e-14)


def thinned(keys, count, weights, seed, thin_from):
    """What pps chooses where it takes as little as this for many light candidates."""
    core, values = core_of(keys, None), np.asarray(weights, np.float64)
    return Drawn(*core.systematic(values, 0.0, count, seed, 1, thin_from)[:2])


@pytest.mark.parametrize("kind", ["light", "heavy tail", "few are not 0", "equal"])
@pytest.mark.parametrize("count", [0, 1, 40, 300, 900])
@pytest.mark.parametrize("thin_from", [1, 30, 200])
def test_pps_of_thinned_candidates_equals_its_twin(rand, kind, count, thin_from):
    keys = rand.numpy.permutation(rand.keys(3000))
    weights = some_weights(rand, 3000, kind)

    drawn = thinned(keys, count, weights, rand.seed, thin_from)

    arguments = (keys.tolist(), weights.tolist(), count, rand.seed)
    want, made = reference.systematic(*arguments, thin_from)
    assert drawn.keys.tolist() == want
    assert len(drawn) == count or kind == "few are not 0"
    np.testing.assert_allclose(drawn.weights, made, rtol=1e-14)
    if kind == "light" and count in (40, 300):
        assert drawn.keys.tolist() != reference.systematic(*arguments)[0]


def test_the_logarithm_of_the_clocks_is_one():
    for x in [0.0, 1e-300, 1e-17, 1e-9, 0.1, 0.29, 0.3, 0.5, 0.7, 0.999, 1 - 2.0**-53]:
        assert reference.minus_log1m(x) == pytest.approx(-math.log1p(-x), rel=4e-16)


# Any cut, any order ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_choice_does_not_depend_on_order_or_threads(rand, scheme):
    n = 600_000  # enough for four threads
    keys, weights = np.arange(n) * 7919, some_weights(rand, n, "heavy tail")
    order = rand.numpy.permutation(n)

    one = weighted(keys, 5000, weights=weights, seed=3, scheme=scheme)
    other = weighted(keys[order], 5000, weights=weights[order], seed=3, scheme=scheme, threads=4)

    assert one.keys.tolist() == other.keys.tolist()
    if scheme != "sequential":
        assert one.weights.tolist() == other.weights.tolist()


def test_weights_come_from_a_column_an_array_or_a_function(rand):
    keys, times = rand.keys(5000), rand.integers(1, 100, 5000)
    labels = rand.integers(0, 3, 5000)
    candidates = Candidates.from_arrays(keys, times, labels)

    for scheme in SCHEMES:
        column = weighted(candidates, 70, weights="timestamp", seed=1, scheme=scheme).keys
        array = weighted(candidates, 70, weights=times, seed=1, scheme=scheme).keys
        asked = weighted(candidates, 70, weights=lambda b: b.timestamps, seed=1, scheme=scheme).keys
        assert column.tolist() == array.tolist() == asked.tolist()
    by_label = weighted(candidates, 70, weights="label", seed=1)
    assert set(labels[np.isin(keys, by_label.keys)].tolist()) == {1, 2}


def test_weights_follow_the_rows_of_filtered_candidates(rand):
    keys, labels = np.sort(rand.keys(3000)), rand.integers(0, 2, 3000)
    candidates = Candidates.from_arrays(keys, np.arange(3000), labels)
    weights = rand.numpy.random(int((labels == 1).sum()))

    some = weighted(candidates.where(labels=[1]), 40, weights=weights, seed=2, threads=4)

    bare = weighted(keys[labels == 1], 40, weights=weights, seed=2)
    assert some.keys.tolist() == bare.keys.tolist()


# Promises ----------------------------------------------------------------------------------------

S = np.array([0.1, 0.5, 1, 2, 3, 10, 0.3, 0.7])
F = np.arange(1, 9, dtype=float)


@pytest.mark.parametrize("scheme", ["pps", "priority", "with_replacement"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_estimates_are_unbiased(scheme, floor):
    """The mean over seeds lies within 4 standard errors of the mean of f."""
    estimates = []
    for seed in range(SEEDS):
        drawn = weighted(np.arange(8), 4, weights=S, seed=seed, scheme=scheme, floor=floor)
        estimates.append(float((drawn.weights * F[drawn.keys]).sum()) / 4)

    error = np.std(estimates) / SEEDS**0.5

    assert abs(np.mean(estimates) - 4.5) < 4 * error
    assert error < 0.2


def test_pps_includes_each_key_exactly_as_often_as_it_promises():
    """Frequencies over seeds, each within 4 standard deviations; chi-squared in total.

    The sum of 24 squared standard scores stays below 65, the 1e-5 tail of chi-squared with 24.
    """
    weights = np.concatenate([S, S * 0.1, np.full(8, 0.7)])
    pi = np.array(reference.inclusion(weights.tolist(), 9))
    hits = np.zeros(24)
    for seed in range(SEEDS):
        drawn = weighted(np.arange(24), 9, weights=weights, seed=seed)
        assert len(drawn) == 9
        hits[drawn.keys] += 1

    certain = pi == 1
    scores = (hits - SEEDS * pi)[~certain] / np.sqrt(SEEDS * pi * (1 - pi))[~certain]

    assert pi.sum() == pytest.approx(9, abs=1e-12)
    assert (hits[certain] == SEEDS).all()
    assert np.abs(scores).max() < 4.5
    assert (scores**2).sum() < 65


def test_pps_of_many_light_keys_includes_each_as_promised():
    """As above with buckets: 400 keys, 40 chosen; 1e-4 tails of chi-squared with 399 or so.

    A systematic draw spreads its keys, so that the sum may lie below that of independent ones,
    never above.
    """
    weights = 0.5 + np.arange(400) % 7
    pi = 40 * weights / weights.sum()
    hits = np.zeros(400)
    for seed in range(SEEDS):
        hits[weighted(np.arange(400), 40, weights=weights, seed=seed).keys] += 1

    scores = (hits - SEEDS * pi) / np.sqrt(SEEDS * pi * (1 - pi))

    assert 300 < (scores**2).sum() < 510
    assert np.abs(scores).max() < 4.7


@pytest.mark.parametrize("count", [60, 120])
def test_pps_of_thinned_candidates_includes_each_as_promised(count):
    """As above: 400 keys, of which some are heavy; the others stay or do not."""
    weights = 0.5 + np.arange(400) % 7 + 20.0 * (np.arange(400) % 40 == 0)
    pi = np.array(reference.inclusion(weights.tolist(), count))
    bound, _ = reference.light_bound(weights.tolist(), pi.tolist(), 100)
    hits = np.zeros(400)
    for seed in range(SEEDS):
        drawn = thinned(np.arange(400), count, weights, seed, 100)
        assert len(drawn) == count
        hits[drawn.keys] += 1

    certain = pi == 1
    scores = (hits - SEEDS * pi)[~certain] / np.sqrt(SEEDS * pi * (1 - pi))[~certain]

    assert 0 < (weights >= bound).sum() < 200
    assert (hits[certain] == SEEDS).all()
    assert 270 < (scores**2).sum() < 510
    assert np.abs(scores).max() < 4.7


@pytest.mark.parametrize("n", [50, 200, 800])
def test_thinning_is_exact_but_for_the_square_of_its_sum(n):
    """The probability that a candidate is chosen, of all ways in which the others may stay.

    Up to a factor that all share; thinning by v itself would be off by 1 / s.
    """
    v = np.linspace(0.02, 0.98, n)
    s = v.sum()
    q = v - v * v / s

    pi = []
    for i in (0, n // 3, n - 1):
        stays = np.ones(1)  # of how many others stay
        for other in np.delete(q, i):
            stays = np.convolve(stays, [1 - other, other])
        pi.append(q[i] * (stays / np.arange(1, n + 1)).sum())

    ratio = np.array(pi) / v[[0, n // 3, n - 1]]
    assert np.abs(ratio / ratio.mean() - 1).max() < 2 / s**2


def test_pps_of_a_million_candidates_is_spread_as_its_weights_are():
    """Thinned without being asked: 20 groups of equal sums of weights give about as many each."""
    group = np.arange(3_000_000) % 20
    weights = (1.0 + group) * (group % 2 == 1)

    drawn = weighted(np.arange(3_000_000), 500_000, weights=weights, seed=4)

    found = np.bincount(group[drawn.keys], minlength=20)
    expected = 500_000 * (1.0 + np.arange(20)) * (np.arange(20) % 2 == 1) / 110
    assert len(drawn) == 500_000
    assert (found[0::2] == 0).all()
    assert np.abs(found - expected)[1::2].max() < 5 * expected.max() ** 0.5
    assert drawn.weights.sum() / 500_000 == pytest.approx(0.5, abs=0.005)


def test_inclusion_adds_up_and_weights_are_its_inverse(rand):
    weights = some_weights(rand, 5000, "heavy tail")

    drawn = weighted(np.arange(5000), 700, weights=weights, seed=1)

    pi = np.array(reference.inclusion(weights.tolist(), 700))
    assert math.fsum(pi) == pytest.approx(700, rel=1e-12)
    np.testing.assert_allclose(drawn.weights, 700 / (5000 * pi[drawn.keys]), rtol=1e-12)
    assert (pi == 1).sum() > 10
    assert np.isin(np.flatnonzero(pi == 1), drawn.keys).all()


def test_with_replacement_draws_each_key_as_often_as_its_share():
    """Multiplicities over seeds are multinomial: chi-squared with 7, below its 1e-5 tail, 37."""
    counts = np.zeros(8)
    for seed in range(SEEDS):
        drawn = weighted(np.arange(8), 12, weights=S, seed=seed, scheme="with_replacement")
        p = S / S.sum()
        counts[drawn.keys] += np.round(drawn.weights * 8 * p[drawn.keys])

    expected = 12 * SEEDS * S / S.sum()

    assert counts.sum() == 12 * SEEDS
    assert ((counts - expected) ** 2 / expected).sum() < 37


def test_sequential_is_successive_choice_without_replacement():
    """Pairs of 4 keys against their probabilities: chi-squared with 5, below its 1e-5 tail, 31."""
    s = [1, 2, 3, 6]
    total = sum(s)
    expected = {
        (i, j): Fraction(s[i] * s[j], total * (total - s[i]))
        + Fraction(s[i] * s[j], total * (total - s[j]))
        for i in range(4)
        for j in range(i + 1, 4)
    }
    found = dict.fromkeys(expected, 0)
    for seed in range(SEEDS):
        drawn = weighted(range(4), 2, weights=s, seed=seed, scheme="sequential")
        found[tuple(drawn.keys.tolist())] += 1

    chi2 = sum((found[pair] - SEEDS * p) ** 2 / (SEEDS * p) for pair, p in expected.items())

    assert sum(expected.values()) == 1
    assert float(chi2) < 31


def test_a_smaller_choice_is_part_of_a_larger_one(rand):
    keys, weights = rand.keys(3000), some_weights(rand, 3000, "light")

    small = weighted(keys, 100, weights=weights, seed=5, scheme="sequential").keys
    large = weighted(keys, 900, weights=weights, seed=5, scheme="sequential").keys

    assert set(small.tolist()) < set(large.tolist())


@pytest.mark.parametrize("scheme", ["pps", "priority", "sequential"])
def test_a_floor_lets_keys_of_weight_0_in(scheme):
    weights = np.array([1.0] * 50 + [0.0] * 50)
    hits = 0
    for seed in range(200):
        drawn = weighted(range(100), 10, weights=weights, seed=seed, scheme=scheme, floor=0.2)
        hits += int((drawn.keys >= 50).sum())

    assert 100 < hits < 320  # about a tenth of 2000; without a floor none


@pytest.mark.parametrize("scheme", SCHEMES)
def test_where_all_weights_are_0_the_choice_is_uniform(scheme):
    hits = np.zeros(20)
    for seed in range(1000):
        drawn = weighted(range(20), 5, weights=np.zeros(20), seed=seed, scheme=scheme)
        hits[drawn.keys] += 1
        if scheme == "pps":
            assert drawn.weights.tolist() == [1.0] * 5

    assert ((hits - hits.mean()) ** 2 / hits.mean()).sum() < 55  # 1e-5 tail of chi-squared with 19


@pytest.mark.parametrize("scheme", SCHEMES)
def test_few_candidates_are_all_chosen(scheme):
    drawn = weighted([4, 9], 5, weights=[1, 3], seed=0, scheme=scheme)
    none = weighted([], 5, weights=[], seed=0, scheme=scheme)

    assert drawn.keys.tolist() == [4, 9]
    assert len(none) == 0
    if scheme in ("pps", "priority"):
        assert drawn.weights.tolist() == [1.0, 1.0]
    if scheme == "with_replacement":
        assert drawn.weights.sum() > 0


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf, 1e-200, 1e200])
def test_what_is_no_weight_is_refused(scheme, wrong):
    weights = np.ones(2000)
    weights[1500] = wrong

    with pytest.raises(ValueError, match=r"weights must be 0, or 2[*][*]-500 .* of key 1500 is"):
        weighted(np.arange(2000), 3, weights=weights, seed=0, scheme=scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_that_are_missing_are_refused(scheme):
    with pytest.raises(ValueError, match=r"shape \(3,\) as the candidates, got \(2,\)"):
        weighted([1, 2, 3], 1, weights=[1, 2], seed=0, scheme=scheme)
    with pytest.raises(ValueError, match="no labels"):
        weighted([1, 2, 3], 1, weights="label", seed=0, scheme=scheme)
    with pytest.raises(ValueError, match='columns are "timestamp" and "label"'):
        weighted([1, 2, 3], 1, weights="loss", seed=0, scheme=scheme)
    with pytest.raises(TypeError, match="weights must be numbers"):
        weighted([1, 2, 3], 1, weights=["a", "b", "c"], seed=0, scheme=scheme)
    with pytest.raises(ValueError, match=r"of a block must have shape \(3,\), got \(1,\)"):
        weighted([1, 2, 3], 1, weights=lambda _: [1], seed=0, scheme=scheme)


@pytest.mark.parametrize("scheme", ["pps", "priority", "sequential"])
def test_a_key_that_would_be_chosen_twice_is_refused(scheme):
    with pytest.raises(ValueError, match="key 7 comes more than once"):
        weighted([7, 7, 9], 3, weights=[1, 1, 1], seed=0, scheme=scheme)


def test_what_a_function_raises_comes_out():
    def broken(block):
        raise KeyError("loss")

    for scheme in SCHEMES:
        with pytest.raises(KeyError, match="loss"):
            weighted([1, 2, 3], 1, weights=broken, seed=0, scheme=scheme)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="scheme must be one of pps, sequential"):
        weighted([1], 1, weights=[1], seed=0, scheme="best")
    with pytest.raises(ValueError, match="floor must be at least 0 and below 1, got 1"):
        weighted([1], 1, weights=[1], seed=0, floor=1)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        weighted([1], 1, weights=[1], seed=0, threads=0)
