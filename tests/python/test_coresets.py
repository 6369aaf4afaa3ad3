"""k-center, facility location and CRAIG against plain twins, brute force and their guarantees."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modyn import coresets
from modyn.coresets import Features, Greedy
from tests.conftest import Rand
from tests.reference import coresets as reference

Matrix = npt.NDArray[np.float32]


def some(rand: Rand, n: int, d: int = 5) -> Matrix:
    return rand.numpy.normal(size=(n, d)).astype(np.float32)


def awkward(rand: Rand, n: int, d: int = 3) -> Matrix:
    """Rows of small whole numbers: equal ones, zeros and ties abound."""
    return rand.numpy.integers(-1, 2, size=(n, d)).astype(np.float32)


def features(rand: Rand, kind: str, n: int) -> Features:
    if kind == "outer":
        return Features(some(rand, n), some(rand, n, 4))
    return Features(awkward(rand, n) if kind == "awkward" else some(rand, n))


def space_of(given: Features) -> reference.Space:
    embeddings = None if given.embeddings is None else given.embeddings.tolist()
    return reference.Space(given.rows.tolist(), embeddings)


def explicit(given: Features) -> npt.NDArray[np.float64]:
    """The vectors themselves, with outer products."""
    g = given.rows.astype(np.float64)
    if given.embeddings is None:
        return g
    h = np.hstack([np.ones((len(g), 1)), given.embeddings.astype(np.float64)])
    return np.einsum("nd,nw->ndw", g, h).reshape(len(g), -1)


KINDS = ["plain", "awkward", "outer"]
SIMILARITIES = {"cosine": coresets.facility_location, "place": coresets.craig}


def twin_of(given: Features, similarity: str) -> reference.Facility:
    space = space_of(given)
    return reference.Facility(space, space.direction if similarity == "cosine" else space.place)


# k-center ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 40])
def test_kcenter_equals_its_twin_bit_for_bit(rand: Rand, kind: str, n: int) -> None:
    given = features(rand, kind, n)
    for count in {1, n // 3 + 1, n}:
        want, distances = reference.kcenter(space_of(given), [n - 1], count - 1)

        found = coresets.kcenter(given, count, start=n - 1)

        assert found.rows.tolist() == [n - 1, *want]
        assert found.distances.tolist() == distances


def test_kcenter_goes_on_from_samples_that_are_there(rand: Rand) -> None:
    given = features(rand, "plain", 60)
    whole = coresets.kcenter(given, 20)

    rest = coresets.kcenter(given, 8, start=whole.rows[:12])

    assert rest.rows.tolist() == whole.rows[12:].tolist()
    assert rest.distances.tolist() == whole.distances.tolist()


def test_kcenter_reaches_twice_the_best_radius_at_most(rand: Rand) -> None:
    for _ in range(20):
        given = features(rand, "plain", 10)
        space = space_of(given)
        best = min(
            max(min(space.distance(i, j) for j in chosen) for i in range(10))
            for chosen in itertools.combinations(range(10), 3)
        )

        assert coresets.kcenter(given, 3).distances.max() <= 2 * best * (1 + 1e-12)


def test_kcenter_takes_equal_samples_only_when_nothing_else_is_left(rand: Rand) -> None:
    different = some(rand, 6)
    rows = different[np.repeat(np.arange(6), 5)]

    found = coresets.kcenter(rows, 12)

    assert len({tuple(row) for row in rows[found.rows[:6]].tolist()}) == 6
    assert found.radii[6:].tolist() == [0.0] * 6


def test_radii_shrink(rand: Rand) -> None:
    radii = coresets.kcenter(some(rand, 200), 200).radii

    assert (np.diff(radii) <= 0).all()


# Facility location and CRAIG --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("how", ["NaiveGreedy", "LazyGreedy"])
def test_facilities_equal_their_twin_bit_for_bit(
    rand: Rand, kind: str, similarity: str, how: str
) -> None:
    for n in [1, 8, 9, 30]:
        given = features(rand, kind, n)
        for count in {1, n // 3 + 1, n}:
            twin = twin_of(given, similarity)
            gains = reference.naive(twin, count)

            found = SIMILARITIES[similarity](given, count, greedy=Greedy(how=how))

            assert found.rows.tolist() == twin.chosen
            assert found.gains.tolist() == gains
            assert found.served.tolist() == twin.served


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_stochastic_greedy_equals_its_twin(rand: Rand, kind: str, similarity: str) -> None:
    given = features(rand, kind, 33)
    for epsilon in [0.001, 0.1, 0.9]:
        twin = twin_of(given, similarity)
        gains = reference.stochastic(twin, 9, epsilon=epsilon, seed=rand.seed)

        greedy = Greedy(how="StochasticGreedy", epsilon=epsilon, seed=rand.seed)
        found = SIMILARITIES[similarity](given, 9, greedy=greedy)

        assert found.rows.tolist() == twin.chosen
        assert found.gains.tolist() == gains


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_approximate_lazy_greedy_equals_its_twin(rand: Rand, similarity: str) -> None:
    for kind in ["plain", "outer"]:
        given = features(rand, kind, 33)
        for beta in [0.3, 0.9]:
            twin = twin_of(given, similarity)
            gains = reference.approximate(twin, 12, beta=beta)

            greedy = Greedy(how="ApproximateLazyGreedy", beta=beta)
            found = SIMILARITIES[similarity](given, 12, greedy=greedy)

            assert found.rows.tolist() == twin.chosen
            assert found.gains.tolist() == gains


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_answer_does_not_depend_on_threads_and_batches(rand: Rand, similarity: str) -> None:
    given = Features(some(rand, 1500, 16))
    base = SIMILARITIES[similarity](given, 150)

    for threads, batch in [(2, 10_000), (3, 500), (8, 64), (1, 1)]:
        found = SIMILARITIES[similarity](given, 150, greedy=Greedy(batch=batch), threads=threads)

        assert found.rows.tolist() == base.rows.tolist()
        assert found.gains.tolist() == base.gains.tolist()
        assert found.served.tolist() == base.served.tolist()


def test_lazy_greedy_chooses_what_naive_greedy_does_with_fewer_evaluations(rand: Rand) -> None:
    for kind in KINDS:
        given = features(rand, kind, 400)
        for face in SIMILARITIES.values():
            naive = face(given, 60, greedy=Greedy(how="NaiveGreedy"))
            lazy = face(given, 60)

            assert lazy.rows.tolist() == naive.rows.tolist()
            assert lazy.gains.tolist() == naive.gains.tolist()
            assert lazy.evaluations < naive.evaluations


def dense(given: Features, similarity: str) -> npt.NDArray[np.float64]:
    """All similarities, from the explicit vectors."""
    vectors = explicit(given)
    if similarity == "place":
        norms = np.linalg.norm(vectors, axis=1)
        return 2 * norms.max() - np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    norms = np.linalg.norm(vectors, axis=1)
    scale = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    cosine = vectors * scale[:, None] @ (vectors * scale[:, None]).T
    np.fill_diagonal(cosine, 1)
    return (1 + cosine) / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gains_are_differences_of_the_dense_objective(
    rand: Rand, kind: str, similarity: str
) -> None:
    given = features(rand, kind, 700)
    matrix = dense(given, similarity)

    found = SIMILARITIES[similarity](given, 90)

    values = [matrix[:, found.rows[: k + 1].astype(int)].max(1).sum() for k in range(90)]
    assert np.allclose(np.cumsum(found.gains), values, rtol=1e-9)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gains_diminish_on_random_triples(rand: Rand, similarity: str) -> None:
    given = features(rand, "outer", 12)
    for _ in range(20):
        order = [int(x) for x in rand.numpy.permutation(12)]
        gains = []
        for size in (3, 7):
            objective = twin_of(given, similarity)
            for x in order[:size]:
                objective.take(x)
            gains.append(objective.gain(order[7]))

        assert gains[0] >= gains[1]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_greedy_is_worth_1_minus_1_over_e_of_the_best(rand: Rand, similarity: str) -> None:
    for kind in KINDS:
        matrix = dense(given := features(rand, kind, 11), similarity)
        best = max(
            matrix[:, list(chosen)].max(1).sum() for chosen in itertools.combinations(range(11), 4)
        )

        value = SIMILARITIES[similarity](given, 4).gains.sum()

        assert value >= (1 - 1 / math.e) * best - 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_craig_bounds_the_error_of_the_gradient(rand: Rand, kind: str) -> None:
    given = features(rand, kind, 120)
    vectors = explicit(given)

    found = coresets.craig(given, 15)

    rows = found.rows.astype(int)
    nearest = np.linalg.norm(vectors[:, None] - vectors[None, rows], axis=2).min(1)
    error = np.linalg.norm(vectors.sum(0) - found.served.astype(float) @ vectors[rows])
    assert found.served.sum() == 120
    assert error <= nearest.sum() * (1 + 1e-9) + 1e-9


def test_zeros_have_a_similarity(rand: Rand) -> None:
    rows = np.vstack([np.zeros((5, 4), np.float32), some(rand, 5, 4)])

    for face in SIMILARITIES.values():
        found = face(rows, 10)

        assert np.isfinite(found.gains).all()
        assert sorted(found.rows.tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("rows", "count", "match"),
    [
        (np.zeros((3, 2)), 4, "count must be 0 to 3, got 4"),
        (np.zeros((3, 2)), -1, "count must be 0 to 3, got -1"),
        (np.full((3, 2), np.nan), 1, "row 0 holds a number that is not finite"),
        (np.zeros(3), 1, "shape"),
        (np.zeros((0, 2)), 0, "shape"),
    ],
)
def test_what_makes_no_sense_is_refused(rows: Any, count: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        coresets.facility_location(rows, count)


@pytest.mark.parametrize(
    ("start", "count"), [(3, 1), (-1, 1), ([0, 0], 1), ([], 1), (0, 4), (0, 0)]
)
def test_kcenter_refuses_what_makes_no_sense(start: Any, count: int) -> None:
    with pytest.raises(ValueError, match=r"start|choose|count"):
        coresets.kcenter(np.zeros((3, 2)), count, start=start)


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e18])
@pytest.mark.parametrize("method", [coresets.facility_location, coresets.craig])
@pytest.mark.parametrize("kind", ["spread", "near", "lopsided", "outer"])
def test_bounds_in_float_do_not_change_the_choice(
    rand: Rand, method: Any, kind: str, scale: float
) -> None:
    rows = rand.numpy.normal(size=(613, 7))
    if kind == "near":
        rows = 1.0 + 1e-6 * rows
    if kind == "lopsided":
        rows[0] *= 1e4
    rows[5], rows[6:9] = 0.0, rows[4]
    more = rand.numpy.normal(size=(613, 5)).astype(np.float32) if kind == "outer" else None
    given = Features((scale * rows).astype(np.float32), more)

    lazy = method(given, 60, threads=2)

    naive = method(given, 60, greedy=Greedy(how="NaiveGreedy"))
    assert np.array_equal(lazy.rows, naive.rows)
    assert np.array_equal(lazy.gains, naive.gains)
    assert np.array_equal(lazy.served, naive.served)
