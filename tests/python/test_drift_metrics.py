"""The distances of two windows against scipy, against closed forms, and against themselves."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from modyn import drift
from modyn.drift.metric import WindowMetric

scipy_stats = pytest.importorskip("scipy.stats")

SEEDS = range(6)
ALL = [
    metric
    for metric in (getattr(drift, name) for name in drift.__all__)
    if isinstance(metric, type) and issubclass(metric, WindowMetric)
]
CATEGORICAL = (drift.ChiSquared, drift.GTest)


def windows(seed, *, kind="smooth", width=3):
    """Two windows of different size: smooth values, or many ties, or integers."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(30, 400, size=2)
    x, y = rng.normal(size=(n, width)), rng.normal(0.3, 1.4, size=(m, width))
    if kind == "ties":
        x, y = np.round(x, 1), np.round(y, 1)
    if kind == "integers":
        x, y = np.round(2 * x), np.round(2 * y)
    return x, y


def mean_over_features(x, y, function):
    return np.mean([function(x[:, j], y[:, j]) for j in range(x.shape[1])])


both_kinds = pytest.mark.parametrize("kind", ["smooth", "ties", "integers"])
many_seeds = pytest.mark.parametrize("seed", SEEDS)

# scipy ------------------------------------------------------------------------------------------


@many_seeds
@both_kinds
@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_ks_is_scipys(seed, kind, alternative):
    x, y = windows(seed, kind=kind)

    got = drift.KS(alternative=alternative).distance(x, y).value

    def theirs(a, b):
        return scipy_stats.ks_2samp(a, b, alternative, method="asymp").statistic

    assert got == pytest.approx(mean_over_features(x, y, theirs), abs=1e-9)


@many_seeds
@both_kinds
def test_cvm_is_scipys(seed, kind):
    x, y = windows(seed, kind=kind)

    got = drift.CVM().distance(x, y).value

    def theirs(a, b):
        return scipy_stats.cramervonmises_2samp(a, b, method="asymptotic").statistic

    assert got == pytest.approx(mean_over_features(x, y, theirs), abs=1e-9)


@many_seeds
@both_kinds
def test_wasserstein_is_scipys(seed, kind):
    x, y = windows(seed, kind=kind)

    plain = drift.Wasserstein(normed=False).distance(x, y).value
    normed = drift.Wasserstein().distance(x, y).value

    theirs = scipy_stats.wasserstein_distance
    assert plain == pytest.approx(mean_over_features(x, y, theirs), abs=1e-9)
    assert normed == pytest.approx(
        mean_over_features(x, y, lambda a, b: theirs(a, b) / max(np.std(a), 0.001)), abs=1e-9
    )


@many_seeds
@both_kinds
def test_energy_of_one_feature_is_scipys(seed, kind):
    x, y = windows(seed, kind=kind, width=1)

    theirs = scipy_stats.energy_distance(x[:, 0], y[:, 0])

    assert drift.Energy().distance(x, y).value == pytest.approx(theirs**2, abs=1e-9)
    assert drift.Energy(squared=False).distance(x, y).value == pytest.approx(theirs, abs=1e-9)


# What holds for all of them ---------------------------------------------------------------------


def suited(metric, seed, **more):
    return windows(seed, kind="integers" if metric in CATEGORICAL else "smooth", **more)


every_metric = pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)


@every_metric
def test_the_same_rows_are_at_no_distance(metric):
    x, _ = suited(metric, 0)

    value = metric().distance(x, x.copy()).value

    # A classifier sees other rows of the same windows: it finds nothing but chance.
    assert value <= (0.7 if metric is drift.ClassifierAUC else 1e-9)


@every_metric
def test_the_same_seed_gives_the_same_bits(metric):
    x, y = suited(metric, 1)

    assert metric().distance(x, y, seed=3) == metric().distance(x.copy(), y.copy(), seed=3)


@every_metric
def test_float32_is_measured_as_the_float64_it_stands_for(metric):
    x, y = (rows.astype(np.float32) for rows in suited(metric, 2))

    got = metric().distance(x, y).value

    assert got == pytest.approx(
        metric().distance(x.astype(np.float64), y.astype(np.float64)).value, rel=1e-9, abs=1e-12
    )


@every_metric
def test_windows_are_left_as_they_were(metric):
    x, y = suited(metric, 3)
    before = x.copy(), y.copy()

    metric(num_permutations=2).distance(x, y)

    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


@every_metric
@pytest.mark.parametrize(
    ("reference", "current", "said"),
    [
        (np.zeros((0, 2)), np.zeros((3, 2)), "at least one row"),
        (np.zeros((3, 2)), np.zeros((0, 2)), "at least one row"),
        (np.zeros((3, 2)), np.zeros((3, 4)), "2 features, current has 4"),
        (np.zeros((3, 2)), np.full((3, 2), np.nan), "current holds values that are not finite"),
        (np.full((3, 2), np.inf), np.zeros((3, 2)), "reference holds values"),
        (np.zeros((3, 2, 2)), np.zeros((3, 2)), "a matrix"),
    ],
)
def test_windows_that_make_no_sense_are_refused(metric, reference, current, said):
    with pytest.raises(ValueError, match=said):
        metric().distance(reference, current)


@every_metric
@pytest.mark.parametrize("name", ["num_pca_component", "num_permutations"])
def test_counts_are_at_least_one(metric, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        metric(**{name: 0})
    for wrong in (2.5, "3", True):
        with pytest.raises(TypeError, match=f"{name} must be an int, got {wrong!r}"):
            metric(**{name: wrong})


@every_metric
def test_windows_of_one_single_value_are_at_no_distance(metric):
    rows = np.full((40, 2), 3.0)

    value = metric().distance(rows, rows[:30]).value

    assert value == (0.5 if metric is drift.ClassifierAUC else pytest.approx(0.0, abs=1e-12))


@every_metric
def test_a_constant_feature_that_moves_is_no_failure(metric):
    assert metric().distance(np.full((40, 2), 3.0), np.full((30, 2), 4.0)).value > 0


# The page ---------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "triggers" / "metrics.md"


@every_metric
def test_the_page_names_every_metric(metric):
    assert f"`{metric.__name__}`" in PAGE.read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(tmp_path, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "page.py").write_text(block, encoding="utf-8")

    runpy.run_path(str(tmp_path / "page.py"))

    assert re.fullmatch(r"0\.\d{4}, gamma 0\.\d{4}, p 0\.0050\n", capsys.readouterr().out)


@pytest.mark.parametrize("kind", [drift.Hellinger, drift.JensenShannon, drift.KL, drift.PSI])
def test_values_too_close_for_bins_between_them_have_one_each(kind):
    close = 1e17 + 16 * np.array([0.0, 0.0, 1.0, 1.0])

    assert kind(bins="sturges").distance(close, close).value == pytest.approx(0.0, abs=1e-12)
    assert kind(bins="sturges").distance(close, close[:2]).value > 0.1


@pytest.mark.parametrize("components", [None, 1])
@pytest.mark.parametrize("metric", ALL)
def test_what_no_float_can_sum_is_undefined_and_ends_no_run(metric, components):
    if metric in CATEGORICAL and components is not None:
        return
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=(9, 2))), np.round(rng.normal(size=(8, 2)))
    x[3, 1] = 1e300
    settings = {} if components is None else {"num_pca_component": components}

    for one, two in ((x, y), (y, x), (x, y * 1e200)):
        found = metric(num_permutations=3, **settings).distance(one, two)

        assert isinstance(found.value, float)
        assert found.p_value is None or not np.isnan(found.value)
