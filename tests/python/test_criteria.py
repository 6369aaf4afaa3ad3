"""Decision criteria, votes and forecasts, beside the textbook."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.policies.aggregation import AtLeastN, Custom, MajorityVote
from modyn.policies.criteria import (
    DynamicQuantileThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    ThresholdDecisionCriterion,
    Verdict,
    mean_of,
    quantile_of,
)
from modyn.policies.forecast import TrainingTime, ridge_regression, rolling_average
from tests.reference import criteria as twin

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
CRITERIA = [
    ThresholdDecisionCriterion(threshold=0.3),
    DynamicQuantileThresholdCriterion(window_size=7, quantile=0.2),
    DynamicQuantileThresholdCriterion(window_size=7, quantile=0.2, conformal=True),
    DynamicRollingAverageThresholdCriterion(window_size=7, deviation=0.2),
    DynamicRollingAverageThresholdCriterion(window_size=7, deviation=0.2, absolute=True),
]


def share_that_fires(criterion, draws: int = 40_000) -> float:
    """How often a criterion fires on a score like all the others."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(draws, criterion.window_size + 1)).tolist()
    return float(np.mean([criterion.verdict(row[-1], row[:-1]).fires for row in rows]))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_nan_never_fires_and_is_not_kept(criterion):
    for history, lower in product([[], [0.1, 0.2]], [True, False]):
        verdict = criterion.verdict(math.nan, history, lower=lower)

        assert not verdict.fires
        assert not verdict.keep


@pytest.mark.parametrize("criterion", CRITERIA[1:])
def test_the_first_score_fires_and_is_kept(criterion):
    for lower in (True, False):
        verdict = criterion.verdict(0.0, [], lower=lower)

        assert verdict == Verdict(fires=True, threshold=None, keep=True)


def test_a_fixed_threshold_is_reached_by_equality_in_both_directions():
    criterion = ThresholdDecisionCriterion(threshold=0.7)

    higher = [criterion.verdict(score, []).fires for score in (0.69, 0.7, 0.71)]
    lower = [criterion.verdict(score, [], lower=True).fires for score in (0.69, 0.7, 0.71)]

    assert (higher, lower) == ([False, True, True], [True, True, False])


def test_an_infinite_distance_fires_and_is_not_kept():
    for criterion in CRITERIA:
        verdict = criterion.verdict(math.inf, [0.0, 1.0, 2.0, 3.0])

        assert verdict.fires
        assert not verdict.keep


@pytest.mark.parametrize("criterion", CRITERIA)
@given(history=SCORES, score=st.floats(-1e6, 1e6))
def test_lower_is_higher_of_the_negated_scores(criterion, history, score):
    if isinstance(criterion, ThresholdDecisionCriterion):
        mirrored = ThresholdDecisionCriterion(threshold=-criterion.threshold)
    else:
        mirrored = criterion
    lower = criterion.verdict(score, history, lower=True)
    higher = mirrored.verdict(-score, [-s for s in history])

    if lower.threshold is None or higher.threshold is None:
        assert lower.fires == higher.fires
    elif not math.isclose(score, lower.threshold, rel_tol=1e-9, abs_tol=1e-9):
        assert lower.fires == higher.fires
        assert math.isclose(lower.threshold, -higher.threshold, rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
@given(history=SCORES, score=st.floats(-1e6, 1e6))
def test_scores_before_the_window_do_not_matter(criterion, history, score):
    whole = criterion.verdict(score, history)

    if len(history) >= criterion.window_size > 0:
        assert criterion.verdict(score, history[-criterion.window_size :]) == whole
    assert criterion.verdict(score, tuple(history)) == whole


def test_of_equal_scores_the_quantile_is_silent_and_a_deviation_of_zero_fires():
    history = [0.1] * 9

    quantile = DynamicQuantileThresholdCriterion(quantile=0.05)
    rolling = DynamicRollingAverageThresholdCriterion(deviation=0.0, absolute=True)

    assert not quantile.verdict(0.1, history).fires
    assert rolling.verdict(0.1, history).fires


def test_a_relative_deviation_is_one_of_the_size_of_the_mean():
    criterion = DynamicRollingAverageThresholdCriterion(deviation=0.5)

    assert not criterion.verdict(-1.2, [-1.0, -1.0]).fires  # lower, and no drift
    assert not criterion.verdict(-0.75, [-1.0, -1.0]).fires
    assert criterion.verdict(-0.5, [-1.0, -1.0]).fires
    assert not criterion.verdict(0.0, [1.0, -1.0]).fires  # around zero, more than nothing
    assert criterion.verdict(1e-9, [1.0, -1.0]).fires


@given(scores=SCORES, q=st.floats(0, 1))
def test_quantiles_and_means_are_those_of_exact_fractions_and_of_numpy(scores, q):
    close = {"rel_tol": 1e-12, "abs_tol": 1e-6}

    assert math.isclose(quantile_of(scores, q), twin.quantile(scores, q), **close)
    assert math.isclose(quantile_of(scores, q), float(np.quantile(scores, q)), **close)
    assert math.isclose(mean_of(scores), twin.mean(scores), **close)


def test_exchangeable_scores_fire_as_often_as_the_documentation_says():
    for window in (10, 15):
        plain = share_that_fires(DynamicQuantileThresholdCriterion(window_size=window))
        assert 1 / (window + 1) < plain < 2 / (window + 1)

    level = DynamicQuantileThresholdCriterion(window_size=19, quantile=0.05, conformal=True)
    exact = share_that_fires(level)
    assert abs(exact - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 40_000)  # p > 1e-4


def test_scores_too_few_for_the_level_of_the_ranks_never_fire():
    criterion = DynamicQuantileThresholdCriterion(window_size=9, quantile=0.1, conformal=True)

    assert criterion.verdict(99.0, [0.0, 1.0, 2.0]) == Verdict(
        fires=False, threshold=None, keep=True
    )


@pytest.mark.parametrize(("quantile", "least"), [(0.1, 9), (0.05, 19), (0.29, 3), (0.0, "inf")])
def test_a_level_beyond_the_reach_of_the_ranks_is_refused(quantile, least):
    with pytest.raises(ValueError, match=f"never fire: it needs a window_size of at least {least}"):
        DynamicQuantileThresholdCriterion(window_size=2, quantile=quantile, conformal=True)
    if quantile:
        DynamicQuantileThresholdCriterion(window_size=least, quantile=quantile, conformal=True)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ThresholdDecisionCriterion(threshold=math.nan), ValueError, "threshold"),
        (lambda: ThresholdDecisionCriterion(threshold="1"), TypeError, "threshold"),
        (lambda: DynamicQuantileThresholdCriterion(quantile=1.5), ValueError, "at most 1"),
        (lambda: DynamicQuantileThresholdCriterion(window_size=0), ValueError, "at least 1"),
        (lambda: DynamicQuantileThresholdCriterion(conformal=1), TypeError, "conformal"),
        (lambda: DynamicRollingAverageThresholdCriterion(deviation=-1), ValueError, "deviation"),
        (lambda: DynamicRollingAverageThresholdCriterion(absolute=0), TypeError, "absolute"),
        (lambda: AtLeastN(n=0), ValueError, "at least 1"),
        (lambda: Custom(aggregation_function="any"), TypeError, "function"),
        (lambda: Custom(aggregation_function=len).decide({"a": True}), TypeError, "bool"),
        (lambda: rolling_average([]), ValueError, "no values"),
        (lambda: ridge_regression([]), ValueError, "no values"),
        (lambda: TrainingTime.of([], []), ValueError, "no values"),
        (lambda: TrainingTime.of([1, 2], [1.0]), ValueError, "2 sizes"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_by_name(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_rules_count_all_votes_whatever_their_order():
    for pattern in product([True, False], repeat=4):
        votes = dict(zip("abcd", pattern, strict=True))
        turned = dict(reversed(votes.items()))
        for rule, expected in (
            (MajorityVote(), sum(pattern) >= 3),
            (AtLeastN(n=1), any(pattern)),
            (AtLeastN(n=4), all(pattern)),
            (AtLeastN(n=5), False),
            (Custom(aggregation_function=lambda v: v["a"] and v["d"]), pattern[0] and pattern[3]),
        ):
            assert rule.decide(votes) == rule.decide(turned) == expected


@given(values=SCORES, alpha=st.floats(0, 10))
def test_a_ridge_forecast_is_that_of_the_normal_equations(values, alpha):
    places = [float(place) for place in range(len(values))]
    if len(values) < 5:
        expected = twin.mean(values)
    else:
        expected = twin.ridge_line(places, values, alpha, len(values))

    assert math.isclose(ridge_regression(values, alpha), expected, rel_tol=1e-9, abs_tol=1e-6)


def test_a_line_is_continued_where_the_penalty_vanishes():
    line = [3 + 0.5 * place for place in range(12)]

    errors = [abs(ridge_regression(line, alpha) - 9) for alpha in (10, 1, 0.1, 1e-12)]

    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-9


@given(
    trainings=st.lists(
        st.tuples(st.integers(0, 10**6), st.floats(0, 1e4)), min_size=1, max_size=20
    ),
    samples=st.integers(0, 10**6),
)
def test_a_training_time_is_that_of_the_normal_equations_and_never_negative(trainings, samples):
    sizes, seconds = [size for size, _ in trainings], [time for _, time in trainings]
    expected = max(twin.ridge_line([float(s) for s in sizes], seconds, 1.0, samples), 0.0)

    found = TrainingTime.of(sizes, seconds).predict(samples)

    assert math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-4)


def test_one_training_says_that_all_take_as_long():
    assert TrainingTime.of([500], [2.5]).predict(10**6) == 2.5
