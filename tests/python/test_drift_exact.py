"""The distances of two windows against plain loops, closed forms and known properties."""

import numpy as np
import pytest

from modyn import drift
from modyn.drift import kernels, mmd
from modyn.drift.univariate import wasserstein
from modyn.drift.windows import principal
from tests.reference import drift as reference

KINDS = ["normal", "far", "ties", "uniform"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def both(kind, seed=1, **sizes):
    """The windows as lists, and as arrays."""
    x, y = reference.windows(seed, kind, **sizes)
    return x, y, np.array(x), np.array(y)


# Plain loops ------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("unbiased", [True, False])
def test_mmd_is_that_of_plain_loops(kind, unbiased):
    x, y, reference_rows, current = both(kind)

    got = drift.MMD(unbiased=unbiased).distance(reference_rows, current)

    gamma = reference.gamma(x)
    assert got.details["gamma"] == pytest.approx(gamma, rel=1e-12)
    assert got.value == pytest.approx(reference.mmd(x, y, gamma, unbiased=unbiased), abs=1e-12)


@every_kind
def test_energy_is_that_of_plain_loops(kind):
    x, y, reference_rows, current = both(kind)

    got = drift.Energy().distance(reference_rows, current).value

    assert got == pytest.approx(reference.energy(x, y), rel=1e-11)


@every_kind
@pytest.mark.parametrize(
    ("metric", "twin"),
    [
        (drift.KS(), reference.ks),
        (drift.KS(alternative="less"), lambda x, y: reference.ks(x, y, "less")),
        (drift.KS(alternative="greater"), lambda x, y: reference.ks(x, y, "greater")),
        (drift.CVM(), reference.cvm),
        (
            drift.CVM(scaled=True),
            lambda x, y: reference.cvm(x, y) * (len(x) + len(y)) / (len(x) * len(y)),
        ),
        (drift.Wasserstein(normed=False), lambda x, y: reference.area(x, y, 1)),
        (drift.Wasserstein(), reference.normed_wasserstein),
    ],
    ids=repr,
)
def test_distances_of_features_are_those_of_plain_loops(kind, metric, twin):
    x, y, reference_rows, current = both(kind)

    got = metric.distance(reference_rows, current).value

    assert got == pytest.approx(reference.per_feature(x, y, twin), abs=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "integers"])
@pytest.mark.parametrize("bins", [2, 7, 10, "sturges"])
@pytest.mark.parametrize(
    ("metric", "twin"),
    [
        (drift.Hellinger, reference.hellinger),
        (drift.JensenShannon, reference.jensen_shannon),
        (drift.KL, reference.kl),
        (drift.PSI, reference.psi),
        (drift.TotalVariation, reference.total_variation),
    ],
)
def test_distances_of_histograms_are_those_of_plain_loops(kind, bins, metric, twin):
    x, y, reference_rows, current = both(kind)

    def of_bins(a, b):
        shares = reference.sturges_bins if bins == "sturges" else reference.quantile_bins
        return twin(*(shares(a, b) if bins == "sturges" else shares(a, b, bins)))

    got = metric(bins=bins).distance(reference_rows, current).value

    assert got == pytest.approx(reference.per_feature(x, y, of_bins), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [0.0, 5.0, 12.0])
@pytest.mark.parametrize(
    ("metric", "twin"), [(drift.ChiSquared, reference.chi_squared), (drift.GTest, reference.g)]
)
def test_statistics_of_categories_are_those_of_plain_loops(seed, least, metric, twin):
    x, y, reference_rows, current = both("integers", seed)

    got = metric(least_expected=least).distance(reference_rows, current).value
    scaled = metric(least_expected=least, scaled=True).distance(reference_rows, current).value

    expected = reference.per_feature(x, y, lambda a, b: twin(a, b, least))
    assert got == pytest.approx(expected, rel=1e-11)
    assert scaled == pytest.approx(expected / (len(x) + len(y)), rel=1e-11)


@pytest.mark.parametrize("name", [None, "log-likelihood"])
def test_statistics_of_categories_are_scipys(name):
    contingency = pytest.importorskip("scipy.stats").chi2_contingency
    metric = drift.ChiSquared if name is None else drift.GTest
    x, y, reference_rows, current = both("integers", n=200, m=150, width=1)

    got = metric().distance(reference_rows, current).value

    table = np.array([[list(rows).count([c]) for c in range(5)] for rows in (x, y)])
    assert got == pytest.approx(contingency(table, correction=False, lambda_=name)[0], rel=1e-9)


def test_categories_are_integers():
    with pytest.raises(ValueError, match=r"categories must be integers, got 0\.5"):
        drift.ChiSquared().distance(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))


def test_jensen_shannon_and_kl_are_scipys():
    jensenshannon = pytest.importorskip("scipy.spatial.distance").jensenshannon
    entropy = pytest.importorskip("scipy.stats").entropy
    x, y, reference_rows, current = both("uniform", n=400, m=300, width=1)

    p, q = reference.quantile_bins([a for (a,) in x], [b for (b,) in y], 10)

    js = drift.JensenShannon().distance(reference_rows, current).value
    assert js == pytest.approx(jensenshannon(p, q, base=2), abs=1e-9)
    assert drift.KL().distance(reference_rows, current).value == pytest.approx(
        entropy(p, q), abs=1e-9
    )


# Closed forms and properties --------------------------------------------------------------------


def gaussians(seed, shift, *, n=3000, width=5, deviation=1.5):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, deviation, (n, width)), rng.normal(0, deviation, (n, width))
    y[:, 0] += shift
    return x, y


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_mmd_of_gaussians_is_the_closed_form(shift):
    x, y = gaussians(3, shift)
    gamma = 0.07

    got = drift.MMD(gamma=gamma).distance(x, y).value

    c = 1 + 4 * gamma * 1.5**2
    expected = 2 * c ** (-5 / 2) * (1 - np.exp(-gamma * shift**2 / c))
    assert got == pytest.approx(expected, abs=4e-3)


def test_frechet_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(5)
    x, y = rng.normal(0, 1, (40000, 3)), rng.normal([1, 0, 0], [2, 1, 0.5], (40000, 3))

    got = drift.Frechet(shrinkage=0).distance(x, y).value

    assert got == pytest.approx(1 + (2 - 1) ** 2 + (1 - 0.5) ** 2, rel=0.03)


def test_frechet_of_a_shift_is_its_square():
    x, _ = gaussians(1, 0, n=20, width=30)  # fewer rows than features

    assert drift.Frechet().distance(x, x + 2).value == pytest.approx(30 * 4, rel=1e-9)


def test_mmd_of_a_window_and_itself():
    x, _ = gaussians(0, 0, n=200)

    assert drift.MMD().distance(x, x).value < 0
    assert drift.MMD(unbiased=False).distance(x, x).value == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("metric", [drift.MMD(), drift.Energy()])
def test_rotation_and_shift_change_nothing(metric):
    x, y = gaussians(1, 1.0, n=300)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))

    moved = metric.distance(x @ rotation + 100, y @ rotation + 100).value

    assert moved == pytest.approx(metric.distance(x, y).value, rel=1e-9)


def test_mmd_needs_two_rows_of_each_window_without_bias():
    x = np.array([[1.0], [2.0]])

    assert np.isnan(drift.MMD().distance(x, x[:1]).value)
    assert np.isnan(drift.MMD().distance(x[:1], x).value)
    assert drift.MMD(unbiased=False).distance(x, x[:1]).value > 0


@pytest.mark.parametrize(
    ("rows", "gamma"),
    [
        ([0, 0, 0, 0, 6], 1 / (36 * 4 / 10)),  # the median is 0: the mean of all ten pairs
        ([1, 1, 1], 1 / 4),  # that too is 0: the mean square between the windows
    ],
)
def test_the_bandwidth_of_equal_rows(rows, gamma):
    found = drift.MMD().distance(np.array(rows, float), np.array([3.0, 3.0]))

    assert found.details["gamma"] == pytest.approx(gamma, rel=1e-12)


def test_a_large_reference_gives_the_median_of_some_rows(monkeypatch):
    monkeypatch.setattr(mmd, "BANDWIDTH_ROWS", 300)
    x, y = gaussians(4, 1.0, n=2000)

    first, again, other = (drift.MMD().distance(x, y, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    for found in (first, other):  # 2 * 5 * 1.5^2 times about 0.87
        assert 1 / found.details["gamma"] == pytest.approx(19.6, rel=0.1)


def test_what_is_remembered_of_a_reference_changes_nothing(monkeypatch):
    x, y = gaussians(6, 1.0, n=300)
    metrics = [drift.MMD(), drift.MMD(gamma=0.5), drift.Energy()]
    pairs = [(x, y), (y, x), (x, x + 1), (x.astype(np.float32), y)]

    remembered = [metric.distance(*pair) for _ in range(2) for metric in metrics for pair in pairs]

    forgotten = []
    for _ in range(2):
        for metric in metrics:
            for pair in pairs:
                monkeypatch.setattr(mmd, "_remembered", mmd._Remembered())
                forgotten.append(metric.distance(*pair))
    assert remembered == forgotten


def test_only_some_references_are_remembered():
    remembered = mmd._Remembered()

    for number in range(1000):
        assert remembered.get(str(number).encode(), lambda number=number: number) == number

    assert len(remembered._numbers) == mmd.REMEMBERED


def test_energy_of_one_feature_is_twice_the_integral_of_the_squared_difference():
    x, y, reference_rows, current = both("ties", width=1)

    got = drift.Energy().distance(reference_rows, current).value

    area = reference.area([a for (a,) in x], [b for (b,) in y], 2)
    assert got == pytest.approx(2 * area, abs=1e-12)


BINNED = [drift.Hellinger, drift.JensenShannon, drift.TotalVariation]


@pytest.mark.parametrize("metric", [drift.KS(), *(m(bins="sturges") for m in BINNED)], ids=repr)
def test_windows_without_common_values_are_at_distance_1(metric):
    x = np.arange(50.0)

    assert metric.distance(x, x + 1000).value == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [10, "sturges"])
def test_what_is_known_of_histograms(seed, bins):
    _, _, x, y = both("normal", seed, n=200, m=150, width=1)

    def value(metric, one=x, two=y):
        return metric(bins=bins).distance(one, two).value

    assert value(drift.Hellinger) ** 2 <= value(drift.TotalVariation) + 1e-12
    assert value(drift.TotalVariation) <= np.sqrt(2) * value(drift.Hellinger) + 1e-12
    if bins == "sturges":  # the same bins from both sides
        assert value(drift.PSI) == pytest.approx(value(drift.KL) + value(drift.KL, y, x), rel=1e-12)
        for metric in (drift.JensenShannon, drift.Hellinger, drift.PSI):
            assert value(metric) == pytest.approx(value(metric, y, x), rel=1e-12)


def test_a_value_that_fills_a_bin_has_one_of_its_own():
    x = np.repeat([0.0, 1.0, 2.0], [95, 3, 2])

    assert drift.TotalVariation().distance(x, np.zeros(50)).value == pytest.approx(0.05)
    assert drift.TotalVariation().distance(x, np.full(50, 0.5)).value == pytest.approx(0.95)


@pytest.mark.parametrize("shift", [-3.0, 0.25])
def test_wasserstein_of_a_shift_is_the_shift(shift):
    x, _ = gaussians(2, 0, n=200)

    got = drift.Wasserstein(normed=False).distance(x, x + shift).value

    assert got == pytest.approx(abs(shift), rel=1e-12)


def test_wasserstein_of_a_constant_feature_is_in_thousandths():
    assert drift.Wasserstein().distance(np.full(9, 2.0), np.full(7, 2.5)).value == 500


def test_sliced_wasserstein_of_a_shift_is_its_mean_length_over_directions():
    x, _ = gaussians(2, 0, n=100, width=2)
    metric = drift.SlicedWasserstein(num_projections=4000)

    got = metric.distance(x, x + np.array([3.0, 4.0]), seed=1).value

    assert got == pytest.approx(5 * 2 / np.pi, rel=0.03)
    both_moved = metric.distance(x + 7, x + 7 + np.array([3.0, 4.0]), seed=1).value
    assert both_moved == pytest.approx(got, rel=1e-9)


def test_sliced_wasserstein_of_one_feature_is_wassersteins():
    _, _, x, y = both("normal", width=1)

    got = drift.SlicedWasserstein(num_projections=3).distance(x, y, seed=4).value

    assert got == pytest.approx(drift.Wasserstein(normed=False).distance(x, y).value, rel=1e-12)


@pytest.mark.parametrize(
    ("distance_metric", "expected"),
    [("euclidean", 5.0), ("cityblock", 7.0), ("chebyshev", 4.0), ("cosine", 1 - 24 / 25)],
)
def test_distances_of_means_by_hand(distance_metric, expected):
    x, y = np.array([[1.0, 0.0], [5.0, 8.0]]), np.array([[6.0, 8.0], [6.0, 8.0]])
    if distance_metric == "cosine":
        x, y = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])

    got = drift.MeanDistance(distance_metric=distance_metric).distance(x, y).value

    assert got == pytest.approx(expected, rel=1e-12)


def test_the_cosine_with_a_mean_of_0_is_undefined():
    x = np.array([[1.0, 2.0], [-1.0, -2.0]])

    found = drift.MeanDistance(distance_metric="cosine", num_permutations=3).distance(x, x + 1)

    assert np.isnan(found.value)
    assert found.p_value is None


def test_the_ratio_counts_features_that_moved_enough():
    x = np.tile([[-1.0], [1.0]], (1, 4))

    metric = drift.DriftedRatio(component_stattest_threshold=0.25)
    found = metric.distance(x, x + np.array([0.0, 0.2, 0.25, 3.0]))

    assert found.value == 0.5
    assert found.details == {"drifted": 2.0}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_components_are_those_of_the_reference(count):
    x, y = gaussians(8, 1.0, n=200, width=4)
    x, y = x * [1, 5, 2, 3] + 10, y * [1, 5, 2, 3] + 10

    one, two = principal(x, y, count)

    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    for rows, projected in ((x, one), (y, two)):
        theirs = (rows - x.mean(axis=0)) @ axes[:count].T
        assert np.allclose(np.abs(projected), np.abs(theirs), rtol=1e-9, atol=1e-9)


def test_more_components_than_features_are_refused():
    with pytest.raises(ValueError, match="num_pca_component is 4, but the windows have 3 features"):
        drift.KS(num_pca_component=4).distance(np.zeros((5, 3)), np.ones((5, 3)))


# Kernels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_have_the_same_bits_for_any_number_of_threads(dtype):
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(700, 33)).astype(dtype), rng.normal(size=(900, 33)).astype(dtype)

    for sums in (
        [kernels.gaussian_sum(x, y, 0.02, threads=threads) for threads in (1, 2, 5)],
        [kernels.gaussian_sum(x, None, 0.02, threads=threads) for threads in (1, 2, 5)],
        [kernels.norm_sum(x, y, threads=threads) for threads in (1, 2, 5)],
    ):
        assert len(set(sums)) == 1


def test_rows_may_be_views_of_others():
    x, y = gaussians(1, 1.0, n=200)

    for metric in (drift.MMD(), drift.KS(), drift.ClassifierAUC()):
        assert metric.distance(x[::2, 1:3], y.T[1:3].T) == metric.distance(
            x[::2, 1:3].copy(), y[:, 1:3].copy()
        )


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: kernels.norm_sum(np.zeros((2, 3)), np.zeros((2, 4))), "of width 3, got 4"),
        (lambda: kernels.norm_sum(np.zeros(3), None), "two dimensions"),
        (lambda: kernels.norm_sum(np.zeros((2, 0)), None), "two dimensions"),
        (lambda: kernels.norm_sum(np.zeros((2, 2)), None, threads=0), "threads must be"),
    ],
)
def test_matrices_that_make_no_sense_are_refused(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


def test_integers_are_no_matrix_of_floats():
    with pytest.raises((TypeError, ValueError)):
        kernels.norm_sum(np.zeros((2, 2), np.int64), None)


def test_wasserstein_of_values_in_order():
    assert wasserstein(np.array([0.0, 1.0]), np.array([5.0])) == 4.5


def test_wide_rows_come_in_smaller_blocks():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(90, 3000)), rng.normal(size=(50, 3000))

    squares = np.square(x[:, None] - y[None]).sum(-1)

    assert kernels.norm_sum(x, y) == pytest.approx(np.sqrt(squares).sum(), rel=1e-12)
    assert kernels.gaussian_sum(x, y, 1e-3) == pytest.approx(
        np.exp(-1e-3 * squares).sum(), rel=1e-12
    )
    within = np.square(x[:, None] - x[None]).sum(-1)
    assert kernels.pair_squares(x) == pytest.approx(within[np.triu_indices(90, 1)], rel=1e-12)
    assert kernels.gaussian_sum(x, None, 1e-3) == pytest.approx(
        np.exp(-1e-3 * within).sum() - 90, rel=1e-12
    )
