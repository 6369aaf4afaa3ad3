"""Graph cut, log determinants, herding, GradMatch; and all methods again with torch operations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from modyn import coresets
from modyn.coresets import Features, Greedy, device
from tests.conftest import Rand
from tests.python.test_coresets import KINDS, dense, explicit, features, some

Vectors = npt.NDArray[np.float64]


def tensors(given: Features) -> device.Tensors:
    more = None if given.embeddings is None else torch.from_numpy(given.embeddings)
    return device.Tensors(torch.from_numpy(given.rows), more)


def run(where: str, name: str, given: Features, *args: Any, **more: Any) -> Any:
    """Call a method of C or of torch."""
    if where == "c":
        return getattr(coresets, name)(given, *args, **more)
    return getattr(device, name)(tensors(given), *args, **more)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


WHERE = ["c", "torch"]
RIDGE = 1e-3


def logdet(matrix: Vectors, chosen: list[int]) -> float:
    block = matrix[np.ix_(chosen, chosen)] + RIDGE * np.eye(len(chosen))
    return float(np.linalg.slogdet(block)[1])


def cut(matrix: Vectors, chosen: list[int]) -> float:
    return float(2.0 * matrix[:, chosen].sum() - matrix[np.ix_(chosen, chosen)].sum())


def design(vectors: Vectors, chosen: list[int]) -> float:
    inner = np.eye(len(chosen)) + vectors[chosen] @ vectors[chosen].T / RIDGE
    return float(np.linalg.slogdet(inner)[1])


def objective_of(name: str, given: Features) -> Callable[[list[int]], float]:
    if name == "d_optimal":
        vectors = explicit(given)
        return lambda chosen: design(vectors, chosen)
    matrix = dense(given, "cosine")
    if name == "graph_cut":
        return lambda chosen: cut(matrix, chosen)
    return lambda chosen: logdet(matrix, chosen)


def ways(name: str, where: str, kind: str) -> list[dict[str, Any]]:
    if name == "graph_cut":
        return [{}]
    if where == "torch":
        return [{"ridge": RIDGE}]
    kernel = {"ridge": RIDGE, "way": "kernel"}
    return [kernel] if kind == "outer" else [kernel, {"ridge": RIDGE, "way": "space"}]


OBJECTIVES = ["graph_cut", "log_determinant", "d_optimal"]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_gains_are_differences_and_the_largest_there_are(
    rand: Rand, name: str, kind: str, where: str
) -> None:
    given = features(rand, kind, 26)
    value = objective_of(name, given)
    for more in ways(name, where, kind):
        found = run(where, name, given, 14, **more)

        rows = found.rows.astype(int).tolist()
        before = 0.0
        for k, gain in enumerate(found.gains):
            left = [x for x in range(26) if x not in rows[:k]]
            best = max(value([*rows[:k], x]) for x in left) - before
            now = value(rows[: k + 1])
            assert gain == pytest.approx(now - before, rel=1e-5, abs=1e-6)
            assert gain == pytest.approx(best, rel=1e-5, abs=1e-6)
            before = now


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gains_diminish(rand: Rand, name: str) -> None:
    value = objective_of(name, features(rand, "outer", 10))
    for _ in range(30):
        order = rand.numpy.permutation(10).tolist()
        x = order[9]
        small = value([*order[:2], x]) - value(order[:2])
        large = value([*order[:6], x]) - value(order[:6])

        assert small >= large - 1e-7


@pytest.mark.parametrize("name", ["graph_cut", "d_optimal"])
def test_greedy_is_worth_1_minus_1_over_e_of_the_best(rand: Rand, name: str) -> None:
    for kind in KINDS:
        given = features(rand, kind, 10)
        value = objective_of(name, given)
        best = max(value(list(chosen)) for chosen in itertools.combinations(range(10), 4))
        more = {} if name == "graph_cut" else {"ridge": RIDGE}

        found = run("c", name, given, 4, **more)

        assert found.gains.sum() >= (1 - 1 / math.e) * best - 1e-6


@pytest.mark.parametrize("where", WHERE)
def test_log_determinant_takes_no_equal_samples_while_a_different_one_is_left(
    rand: Rand, where: str
) -> None:
    different = some(rand, 6, 8)
    given = Features(different[np.repeat(np.arange(6), 3)])

    found = run(where, "log_determinant", given, 6)

    assert sorted(found.rows.astype(int) // 3) == list(range(6))


@pytest.mark.parametrize("how", ["NaiveGreedy", "StochasticGreedy", "ApproximateLazyGreedy"])
@pytest.mark.parametrize("name", ["facility_location", "craig", *OBJECTIVES])
@pytest.mark.parametrize("kind", ["plain", "outer"])
def test_torch_chooses_what_c_does(rand: Rand, kind: str, name: str, how: str) -> None:
    given = features(rand, kind, 90)
    greedy = Greedy(how=how, seed=rand.seed)

    found = run("torch", name, given, 30, greedy=greedy)

    want = run("c", name, given, 30, greedy=greedy)
    assert found.rows.tolist() == want.rows.tolist()
    assert np.allclose(found.gains, want.gains, rtol=1e-6, atol=1e-8)
    if name in ("facility_location", "craig"):
        assert found.served.tolist() == want.served.tolist()


@pytest.mark.parametrize("kind", ["plain", "outer"])
@pytest.mark.parametrize(
    ("name", "values"),
    [("kcenter", "distances"), ("herding", "errors"), ("gradient_match", "weights")],
)
def test_torch_finds_what_c_does(rand: Rand, kind: str, name: str, values: str) -> None:
    for n, count in [(1, 1), (9, 4), (80, 25), (40, 40)]:
        given = features(rand, kind, n)

        found = run("torch", name, given, count)

        want = run("c", name, given, count)
        assert found.rows.tolist() == want.rows.tolist()
        assert np.allclose(getattr(found, values), getattr(want, values), rtol=1e-7, atol=1e-9)


def test_the_answers_do_not_depend_on_threads(rand: Rand) -> None:
    given = Features(some(rand, 30_000, 64))
    for name in [*OBJECTIVES, "kcenter", "herding", "gradient_match"]:
        base = run("c", name, given, 12)
        for threads in (2, 5):
            found = run("c", name, given, 12, threads=threads)

            for field in vars(base):
                assert np.array_equal(getattr(found, field), getattr(base, field)), (name, field)


# Herding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_herding_takes_what_brings_the_mean_nearest(rand: Rand, kind: str, where: str) -> None:
    given = features(rand, kind, 20)
    vectors = explicit(given)
    mean = vectors.mean(0)

    found = run(where, "herding", given, 20)

    rows = found.rows.astype(int).tolist()
    assert found.errors[-1] == pytest.approx(0, abs=1e-9)
    for k in range(20):
        left = [x for x in range(20) if x not in rows[:k]]
        best = min(np.linalg.norm(mean - vectors[[*rows[:k], x]].mean(0)) for x in left)
        assert found.errors[k] == pytest.approx(best, abs=1e-9)


def test_the_error_of_herding_falls_faster_than_that_of_chance() -> None:
    rng = np.random.default_rng(5)
    given = Features(rng.normal(size=(4000, 8)).astype(np.float32))
    mean = explicit(given).mean(0)

    found = coresets.herding(given, 200)

    chance = [
        np.linalg.norm(explicit(given)[rng.choice(4000, 200, replace=False)].mean(0) - mean)
        for _ in range(20)
    ]
    assert found.errors[-1] < 0.2 * float(np.mean(chance))
    assert found.errors[-1] < 0.3 * found.errors[19]  # ten times as many: 1/k, not 1/sqrt(k)


# GradMatch --------------------------------------------------------------------------------------


def kkt(a: Vectors, b: Vectors, w: Vectors, ridge: float) -> Vectors:
    """Half the gradient of norm(A w - b)^2 + ridge norm(w)^2; 0 where w > 0 at the best."""
    return a.T @ (a @ w - b) + ridge * w


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_weights_are_the_best_on_their_support(
    rand: Rand, kind: str, ridge: float, where: str
) -> None:
    for count in [1, 3, 10, 40]:
        given = features(rand, kind, 40)
        vectors = explicit(given)
        scale = float(np.square(vectors).sum(1).mean())
        a, b = vectors[:, :].T, vectors.mean(0)

        found = run(where, "gradient_match", given, count, ridge=ridge)

        rows = found.rows.astype(int)
        slope = kkt(a[:, rows], b, found.weights, ridge * scale)
        assert len(rows) <= count
        assert (found.weights > 0).all()
        assert np.abs(slope).max(initial=0) <= 1e-9 * scale
        assert (np.diff(found.objectives) <= 1e-9 * scale).all()
        assert found.residual == pytest.approx(
            np.linalg.norm(a[:, rows] @ found.weights - b), abs=1e-9
        )


@pytest.mark.parametrize("where", WHERE)
def test_weights_equal_those_of_scipy_on_the_support(rand: Rand, where: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    for kind, ridge in itertools.product(KINDS, [0.0, 0.3]):
        given = features(rand, kind, 50)
        vectors = explicit(given)
        found = run(where, "gradient_match", given, 12, ridge=ridge)
        rows = found.rows.astype(int)
        lam = ridge * float(np.square(vectors).sum(1).mean())
        a = np.vstack([vectors[rows].T, math.sqrt(lam) * np.eye(len(rows))])

        want, _ = optimize.nnls(a, np.concatenate([vectors.mean(0), np.zeros(len(rows))]))

        assert np.allclose(found.weights, want, atol=1e-8)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_with_all_samples_and_no_ridge_nothing_remains(rand: Rand, kind: str, where: str) -> None:
    for n in [1, 2, 9, 40]:
        given = features(rand, kind, n)

        found = run(where, "gradient_match", given, n, ridge=0.0)

        assert found.residual <= 1e-7


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_gradients_changes_nothing(rand: Rand, kind: str, where: str) -> None:
    given = features(rand, kind, 60)
    base = run(where, "gradient_match", given, 20)

    for scale in [2.0**-20, 2.0**20]:
        found = run(where, "gradient_match", Features(given.rows * scale, given.embeddings), 20)

        assert found.rows.tolist() == base.rows.tolist()
        assert np.allclose(found.weights, base.weights)


def test_one_sample_has_the_weight_of_the_formula(rand: Rand) -> None:
    given = features(rand, "plain", 30)
    vectors = given.rows.astype(np.float64)
    lam = 0.5 * float(np.square(vectors).sum(1).mean())

    found = coresets.gradient_match(given, 1)

    best = int(np.argmax(vectors @ vectors.mean(0)))
    g = vectors[best]
    assert found.rows.tolist() == [best]
    assert found.weights[0] == pytest.approx(g @ vectors.mean(0) / (g @ g + lam))


def test_a_target_of_ones_own_is_matched(rand: Rand) -> None:
    for kind in ["plain", "outer"]:
        given = features(rand, kind, 200)
        n_embeddings = 0 if given.embeddings is None else given.embeddings.shape[1]
        vectors = explicit(given)
        target = vectors[:5].sum(0)

        found = coresets.gradient_match(given, 150, ridge=0.0, target=target)

        assert target.size == given.rows.shape[1] * (1 + n_embeddings)
        assert found.residual <= 1e-7


@pytest.mark.parametrize("where", WHERE)
def test_gradients_of_zero_match_nothing(where: str) -> None:
    found = run(where, "gradient_match", Features(np.zeros((5, 3))), 3)

    assert found.rows.tolist() == []
    assert found.residual == 0


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("graph_cut", {}),
        ("herding", {}),
        ("kcenter", {}),
        ("facility_location", {}),
        ("gradient_match", {}),
    ],
)
def test_what_is_out_of_range_is_refused(where: str, name: str, more: dict[str, Any]) -> None:
    given = Features(np.ones((3, 2)))
    for count in (4, -1):
        with pytest.raises(ValueError, match=r"count|choose"):
            run(where, name, given, count, **more)
    with pytest.raises(ValueError, match="ridge must be"):
        run(where, "log_determinant", given, 1, ridge=0.0)
    with pytest.raises(ValueError, match="ridge must be"):
        run(where, "gradient_match", given, 1, ridge=-1.0)
    for name in ("log_determinant", "d_optimal", "gradient_match"):
        with pytest.raises(ValueError, match=r"ridge must be .* and finite, got inf"):
            run(where, name, given, 1, ridge=np.inf)
