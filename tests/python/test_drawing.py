"""Draws with unequal probabilities: inclusion, no bias, and the variance that theory says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modyn.downsampling import drawing

# The scores and values of the example, of which 4 of 8 are drawn; their mean is 4.5.
SCORES = np.array([0.1, 0.5, 1.0, 2.0, 3.0, 10.0, 0.3, 0.7])
VALUES = np.arange(1.0, 9.0)
COUNT = 4

Z = 3.9  # a two-sided p of 1e-4


def estimates(draw, values=VALUES, *, shares=None, count=COUNT, times=4000, seed=7):
    """(1/k) * sum of w * f, of many draws."""
    random = np.random.default_rng(seed)
    shares = drawing.shares(SCORES, 0.0) if shares is None else shares
    found = []
    for _ in range(times):
        drawn = draw(shares, count, random)
        found.append(drawn.weights @ values[drawn.rows] / count)
    return np.array(found)


def z_score(found, expected):
    return abs(np.mean(found) - expected) / (np.std(found) / np.sqrt(len(found)))


def successive_inclusion(shares, count):
    """Inclusion probabilities of draws one after the other, over all orders."""
    found = np.zeros(len(shares))
    for order in itertools.permutations(range(len(shares)), count):
        left, chance = 1.0, 1.0
        for row in order:
            chance *= shares[row] / left
            left -= shares[row]
        found[list(order)] += chance
    return found


# Shares -----------------------------------------------------------------------------------------


def test_shares_are_a_mixture_of_scores_and_uniform(rand):
    scores = rand.numpy.exponential(size=50)

    got = drawing.shares(scores, 0.1)

    np.testing.assert_allclose(got, 0.9 * scores / scores.sum() + 0.1 / 50)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_scores_that_are_all_zero_give_equal_shares(floor):
    assert drawing.shares(np.zeros(4), floor).tolist() == [0.25] * 4


def test_scores_that_are_no_numbers_count_as_zero_and_infinite_ones_alone():
    assert drawing.shares([np.nan, 1.0, 3.0], 0.0).tolist() == [0.0, 0.25, 0.75]
    assert drawing.shares([np.inf, 1.0, np.inf, np.nan], 0.0).tolist() == [0.5, 0.0, 0.5, 0.0]


def test_shares_of_huge_and_tiny_scores_are_finite():
    assert drawing.shares([1e308, 1e308], 0.0).tolist() == [0.5, 0.5]
    assert drawing.shares([5e-324, 5e-324], 0.0).tolist() == [0.5, 0.5]


def test_a_score_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"at least 0, got -0\.5"):
        drawing.shares([1.0, -0.5], 0.1)


# Inclusion --------------------------------------------------------------------------------------


def capped(weights, count):
    """The definition: move what reaches 1 to the certain ones, until none moves."""
    certain = np.zeros(len(weights), dtype=bool)
    while True:
        factor = (count - certain.sum()) / weights[~certain].sum()
        more = ~certain & (factor * weights >= 1.0)
        if not more.any():
            return np.where(certain, 1.0, factor * weights)
        certain |= more


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_inclusion_is_that_of_the_definition(rand, spread):
    for _ in range(50):
        size = int(rand.numpy.integers(2, 40))
        count = int(rand.numpy.integers(1, size))
        weights = np.exp(spread * rand.numpy.normal(size=size))

        got = drawing.inclusion(weights, count)

        np.testing.assert_allclose(got, capped(weights, count), rtol=1e-9)
        assert got.sum() == pytest.approx(count, rel=1e-12)


def test_with_too_few_positive_scores_the_others_share_the_rest():
    got = drawing.inclusion(np.array([0.0, 2.0, 0.0, 1e-9, 0.0]), 3)

    np.testing.assert_allclose(got, [1 / 3, 1.0, 1 / 3, 1.0, 1 / 3])


def test_all_are_certain_where_all_are_wanted(rand):
    weights = rand.numpy.exponential(size=9)

    drawn = drawing.pps(weights, 9, rand.numpy)

    assert drawn.rows.tolist() == list(range(9))
    assert drawn.weights.tolist() == [1.0] * 9


def test_each_is_drawn_with_its_probability():
    shares, times = drawing.shares(SCORES, 0.1), 4000
    random = np.random.default_rng(1)
    expected = drawing.inclusion(shares, COUNT)
    counts = np.zeros(len(SCORES))

    for _ in range(times):
        counts[drawing.pps(shares, COUNT, random).rows] += 1

    spread = np.sqrt(times * expected * (1.0 - expected))
    assert expected[5] == 1.0
    assert counts[5] == times
    assert np.all(np.abs(counts - times * expected) <= Z * spread)


def test_a_draw_holds_so_many_and_none_twice(rand):
    for _ in range(200):
        size = int(rand.numpy.integers(1, 60))
        count = int(rand.numpy.integers(1, size + 1))
        shares = drawing.shares(np.exp(5 * rand.numpy.normal(size=size)), 0.0)

        rows = drawing.pps(shares, count, rand.numpy).rows

        assert len(rows) == count
        assert np.all(np.diff(rows) > 0)


def test_a_large_draw_holds_so_many_and_none_twice(rand):
    shares = drawing.shares(np.exp(rand.numpy.normal(size=300_000)), 0.1)

    drawn = drawing.pps(shares, 150_000, rand.numpy)

    assert len(drawn.rows) == 150_000
    assert np.all(np.diff(drawn.rows) > 0)
    assert drawn.weights.max() <= 10.0


@pytest.mark.parametrize("over", [1.0 + 1e-12, 1.0 + 1e-7])
def test_rounding_makes_no_sample_come_twice(over):
    inclusion = np.array([over, over, 0.5, 0.5])

    for seed in range(200):
        rows = drawing.systematic(inclusion, 3, np.random.default_rng(seed))
        assert len(set(rows.tolist())) == 3


# No bias ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("draw", [drawing.pps, drawing.with_replacement])
def test_the_estimate_has_no_bias_at_half_of_the_samples(draw, floor):
    found = estimates(draw, shares=drawing.shares(SCORES, floor))

    assert z_score(found, 4.5) < Z


@pytest.mark.parametrize("draw", [drawing.pps, drawing.with_replacement])
def test_the_weights_sum_to_the_count_on_average(draw):
    found = estimates(draw, np.ones(8))

    assert z_score(found, 1.0) < Z


def test_upstream_weights_are_biased_by_as_much_as_theory_says():
    shares = drawing.shares(SCORES, 0.0)
    chances = successive_inclusion(shares, COUNT)
    expected = (chances * VALUES / (8 * shares)).sum() / COUNT

    found = estimates(drawing.successive)

    assert expected == pytest.approx(8.26, abs=0.005)
    assert z_score(found, expected) < Z
    assert z_score(found, 4.5) > 20


def test_no_weight_is_more_than_one_over_the_floor(rand):
    shares = drawing.shares(np.exp(5 * rand.numpy.normal(size=100)), 0.1)

    for draw in (drawing.pps, drawing.with_replacement):
        weights = draw(shares, 30, rand.numpy).weights
        assert weights.max() <= 10.0 * (1 + 1e-12)
        assert weights.min() > 0.0


def test_samples_with_score_zero_are_drawn_only_with_a_floor():
    scores = np.array([1.0, 2.0, 0.0, 1.0])
    random = np.random.default_rng(0)

    def seen(floor, draw):
        shares = drawing.shares(scores, floor)
        return {row for _ in range(300) for row in draw(shares, 2, random).rows.tolist()}

    for draw in (drawing.pps, drawing.with_replacement, drawing.successive):
        assert seen(0.0, draw) == {0, 1, 3}
        assert seen(0.1, draw) == {0, 1, 2, 3}


# Variance ---------------------------------------------------------------------------------------


def vectors(count=60, width=5, seed=3):
    """Gradients of very different length."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, width)) * np.exp(random.normal(size=(count, 1))) + 0.2


def total_variance(norms, mean, shares, count):
    """The trace of the covariance of draws with replacement."""
    size = len(norms)
    return (np.sum(norms**2 / (size**2 * shares)) - mean @ mean) / count


@pytest.mark.parametrize("by_norm", [True, False])
def test_the_variance_with_replacement_is_that_of_theory(by_norm):
    gradients = vectors()
    norms, mean, k = np.linalg.norm(gradients, axis=1), gradients.mean(axis=0), 10
    shares = drawing.shares(norms if by_norm else np.ones(60), 0.0)
    first = norms.mean() ** 2 if by_norm else (norms**2).mean()
    expected = (first - mean @ mean) / k

    found = estimates(drawing.with_replacement, gradients, shares=shares, count=k, times=3000)

    assert expected == pytest.approx(total_variance(norms, mean, shares, k))
    assert z_score(((found - mean) ** 2).sum(axis=1), expected) < Z


def test_no_shares_have_less_variance_than_those_of_the_norms(rand):
    gradients = vectors()
    norms, mean = np.linalg.norm(gradients, axis=1), gradients.mean(axis=0)
    least = total_variance(norms, mean, norms / norms.sum(), 10)

    for _ in range(100):
        other = norms * np.exp(0.3 * rand.numpy.normal(size=len(norms)))
        assert total_variance(norms, mean, other / other.sum(), 10) >= least


def test_without_replacement_what_is_proportional_to_the_shares_has_no_variance(rand):
    values = 1.0 + rand.numpy.random(40)
    shares = drawing.shares(values, 0.0)

    found = estimates(drawing.pps, values, shares=shares, count=10, times=50)

    np.testing.assert_allclose(found, values.mean())


def test_drawing_each_once_has_less_variance_than_drawing_again():
    gradients = vectors()
    shares = drawing.shares(np.linalg.norm(gradients, axis=1), 0.1)

    def variance(draw):
        found = estimates(draw, gradients, shares=shares, count=30, times=1500)
        return ((found - gradients.mean(axis=0)) ** 2).sum(axis=1).mean()

    assert variance(drawing.pps) < 0.8 * variance(drawing.with_replacement)
