"""Permutation tests, the classifier test, and the memory that metrics take."""

import tracemalloc

import numpy as np
import pytest

from modyn import drift
from modyn.drift import classifier
from modyn.drift.metric import WindowMetric
from tests.reference import drift as reference
from tests.reference.statistics import chi_square_p


def gaussians(seed, shift, *, n=60, m=45, width=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)), rng.normal(shift, 1, size=(m, width))


# Permutations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric",
    [
        drift.MMD(gamma=0.3),
        drift.MMD(gamma=0.3, unbiased=False),
        drift.MMD(gamma=0.3, num_pca_component=4),
        drift.Energy(),
        drift.Energy(squared=False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_permutations_at_once_are_those_one_by_one(metric, dtype, monkeypatch):
    monkeypatch.setattr("modyn.drift.permuting.BLOCK", 32)  # windows of some blocks, none full
    x, y = (rows.astype(dtype) for rows in gaussians(1, 0.5))

    at_once = metric._permuted(x, y, 7, 3)

    # The components of a permutation are its own reference's; all four of them turn it only.
    one_by_one = WindowMetric._permuted(metric, x, y, 7, 3)
    assert at_once == pytest.approx(one_by_one, rel=1e-9, abs=1e-12)


def test_a_p_value_is_the_share_of_all_deals():
    """Of the 20 ways to deal six values two are as far apart: p is 0.1."""
    found = drift.KS(num_permutations=3000).distance(
        np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    )

    assert found.value == 1
    assert found.p_value == pytest.approx(0.1, abs=0.025)


@pytest.mark.parametrize("metric", [drift.MMD, drift.Energy, drift.KS, drift.ClassifierAUC])
def test_drift_that_is_plain_has_the_least_p_value(metric):
    x, y = gaussians(2, 3.0)

    assert metric(num_permutations=19).distance(x, y).p_value == 1 / 20


@pytest.mark.parametrize("metric", [drift.MMD, drift.Energy, drift.KS, drift.ClassifierAUC])
def test_equal_deals_count_in_full(metric):
    rows = np.ones((20, 3))

    assert metric(num_permutations=19).distance(rows, rows).p_value == 1


@pytest.mark.parametrize("metric", [drift.MMD, drift.Energy, drift.MeanDistance])
def test_without_drift_p_values_are_uniform(metric):
    runs, tenths = 300, np.zeros(10)

    for seed in range(runs):
        x, y = gaussians([seed, 77], 0.0, n=12, m=9, width=2)
        found = metric(num_permutations=19).distance(x, y, seed=seed)
        tenths[min(int((found.p_value - 1e-9) * 10), 9)] += 1

    statistic = float(np.sum((tenths - runs / 10) ** 2) / (runs / 10))
    assert chi_square_p(statistic, 9) > 1e-4


def test_a_p_value_depends_on_the_seed_alone():
    x, y = gaussians(5, 0.1)
    metric = drift.KS(num_permutations=50)

    found = [metric.distance(x, y, seed=seed).p_value for seed in (1, 1, 2, 3, 4)]

    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_a_value_is_the_same_with_and_without_a_test():
    x, y = gaussians(6, 0.5)

    for metric in (drift.MMD, drift.Energy, drift.SlicedWasserstein):
        tested, plain = metric(num_permutations=3), metric()
        assert tested.distance(x, y, seed=2).value == plain.distance(x, y, seed=2).value


# The classifier ---------------------------------------------------------------------------------


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(1)
    negative, positive = np.sort(rng.integers(0, 9, 40)), np.sort(rng.integers(3, 12, 30))

    got = classifier.auc(negative.astype(float), positive.astype(float))

    assert got == pytest.approx(reference.auc(negative.tolist(), positive.tolist()), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_weights_are_where_the_loss_is_least(shift):
    minimize = pytest.importorskip("scipy.optimize").minimize
    x, y = gaussians(3, shift, width=3)
    scale = classifier._Scale.of([x, y])
    rows = scale(np.concatenate([x, y]))
    labels = np.repeat([0.0, 1.0], [len(x), len(y)])

    def loss(weights):
        margins = rows @ weights
        return np.mean(np.logaddexp(0, margins) - labels * margins) + 1e-2 / 2 * np.sum(
            weights[:-1] ** 2
        )

    weights = classifier._logistic([x, y], scale, 1e-2)

    assert loss(weights) <= minimize(loss, np.zeros(4), tol=1e-12).fun + 1e-12


@pytest.mark.parametrize("sign", [-1, 1])
def test_windows_that_come_apart_are_told_apart(sign):
    x, y = gaussians(4, 30.0 * sign)

    assert drift.ClassifierAUC().distance(x, y).value == 1


def test_without_drift_a_classifier_knows_nothing():
    x, y = gaussians(5, 0.0, n=4000, m=4000)

    assert drift.ClassifierAUC().distance(x, y).value == pytest.approx(0.5, abs=0.03)


def test_a_classifier_sees_only_half_of_the_rows_it_is_judged_by():
    """With more features than rows it can learn any labels by heart, and does."""
    x, y = gaussians(6, 0.0, n=60, m=60, width=200)

    assert drift.ClassifierAUC().distance(x, y).value < 0.75
    first, second = classifier._halves(11, 7, 0)
    assert sorted([*first, *second]) == list(range(11))


def test_one_row_is_too_few_to_fit_and_judge():
    assert np.isnan(drift.ClassifierAUC().distance(np.zeros((1, 2)), np.ones((9, 2))).value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: drift.ClassifierAUC(ridge=0), "ridge must be above 0"),
        (lambda: drift.MMD(gamma=0), "gamma must be above 0"),
        (lambda: drift.MMD(gamma=float("nan")), "gamma must be above 0"),
        (lambda: drift.KS(alternative="both"), "alternative must be"),
        (lambda: drift.PSI(bins=1), "bins must be at least 2"),
        (lambda: drift.PSI(bins="scott"), "bins must be at least 2"),
        (lambda: drift.ChiSquared(least_expected=-1), "least_expected must be at least 0"),
        (lambda: drift.MeanDistance(distance_metric="l3"), "distance_metric must be one of"),
        (lambda: drift.DriftedRatio(component_stattest_threshold=0), "must be above 0"),
        (lambda: drift.Frechet(shrinkage=2), "shrinkage must be between 0 and 1"),
        (lambda: drift.SlicedWasserstein(num_projections=0), "num_projections must be"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# Memory -----------------------------------------------------------------------------------------

BUDGET = (256 - 40) / (100_000 * 128 * 4 / 2**20)  # of the bytes of one window of float32
BLOCKS = 40 << 20  # which do not grow with the windows


@pytest.mark.parametrize(
    "metric",
    [
        drift.CVM(),
        drift.ClassifierAUC(),
        drift.DriftedRatio(),
        drift.Frechet(),
        drift.Hellinger(),
        drift.KS(),
        drift.KS(num_pca_component=16),
        drift.MMD(gamma=0.01, num_permutations=10),
        drift.SlicedWasserstein(num_projections=16),
        drift.Wasserstein(),
    ],
    ids=repr,
)
def test_large_windows_stay_within_the_budget(metric):
    """256 MiB beside two windows of 100,000 rows of 128 features; here of a smaller one."""
    rows = 2048 if isinstance(metric, drift.MMD) else 16384
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 64), dtype=np.float32)
    y = rng.standard_normal((rows, 64), dtype=np.float32)

    tracemalloc.start()
    metric.distance(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < BUDGET * x.nbytes + BLOCKS
