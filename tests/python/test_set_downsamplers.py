"""The downsamplers that look at all samples of a pool at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from modyn.coresets import GREEDY
from modyn.downsampling import (
    Context,
    Craig,
    DOptimal,
    Downsampler,
    GradMatch,
    Herding,
    KcenterGreedy,
    Submodular,
)
from modyn.downsampling.checks import check_downsampler, example_pool
from modyn.downsampling.craig import class_shares
from modyn.downsampling.pool import ArrayPool

FUNCTIONS = ["FacilityLocation", "GraphCut", "LogDeterminant"]
BOTH = ["LastLayer", "LastLayerWithEmbedding"]
ALL: list[Downsampler] = [
    KcenterGreedy(ratio=50),
    Herding(ratio=50),
    DOptimal(ratio=50),
    *(Craig(ratio=50, greedy=how) for how in GREEDY),
    *(Craig(ratio=50, full_grad_approximation=full) for full in BOTH),
    *(GradMatch(ratio=50, full_grad_approximation=full) for full in BOTH),
    *(Submodular(ratio=50, submodular_function=name) for name in FUNCTIONS),
    *(
        Submodular(
            ratio=50, submodular_function=name, full_grad_approximation="LastLayerWithEmbedding"
        )
        for name in FUNCTIONS
    ),
    *(
        Submodular(ratio=50, submodular_function="FacilityLocation", submodular_optimizer=how)
        for how in GREEDY
    ),
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_each_keeps_the_promises_of_a_downsampler(sampler: Downsampler) -> None:
    check_downsampler(sampler)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("sampler", [KcenterGreedy(ratio=50), Craig(ratio=50)], ids=repr)
def test_a_sample_of_which_nothing_can_be_said_is_named(sampler: Downsampler, wrong: float) -> None:
    pool = example_pool(20)
    pool.embeddings[7, 1] = pool.gradients[7, 1] = wrong

    with pytest.raises(ValueError, match=f"says of sample {pool.keys[7]} is not finite"):
        sampler.choose(pool, 10, Context())


def answers(sampler: Downsampler, pool: ArrayPool, count: int) -> dict[int, float]:
    """Key to weight."""
    found = sampler.choose(pool, count, Context(seed=4))
    weights = np.ones(count) if found.weights is None else found.weights
    return dict(zip(pool.keys[found.rows].tolist(), np.asarray(weights).tolist(), strict=True))


def reordered(pool: ArrayPool, order: np.ndarray) -> ArrayPool:
    return ArrayPool(
        keys=pool.keys[order],
        labels=pool.labels[order],
        gradients=pool.gradients[order],
        embeddings=pool.embeddings[order],
    )


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_the_order_of_a_pool_does_not_matter(sampler: Downsampler) -> None:
    pool = example_pool(70)
    base = answers(sampler, pool, 20)

    found = answers(sampler, reordered(pool, np.random.default_rng(1).permutation(70)), 20)

    assert found == pytest.approx(base)


@pytest.mark.parametrize("sampler", [s for s in ALL if isinstance(s, Craig | GradMatch)], ids=repr)
@pytest.mark.parametrize("count", [1, 3, 4, 11, 60])
def test_weights_have_a_mean_of_1(sampler: Downsampler, count: int) -> None:
    weights = list(answers(sampler, example_pool(60), count).values())

    assert len(weights) == count
    assert np.mean(weights) == pytest.approx(1)


def test_craig_gives_each_class_its_share_and_its_sum() -> None:
    pool = example_pool(200)
    labels = pool.labels.numpy()

    found = Craig().choose(pool, 50, Context())

    for label in range(4):
        mine = labels[found.rows] == label
        size = int((labels == label).sum())
        assert abs(mine.sum() - 50 * size / 200) < 1
        assert found.weights[mine].sum() * 200 / 50 == pytest.approx(size)


@pytest.mark.parametrize("count", [1, 4, 5, 30, 99, 100])
def test_shares_of_classes_sum_to_the_count(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20):
        labels = rng.choice(5, 100, p=rng.dirichlet(np.ones(5) * 0.3)).astype(np.int64)

        shares = class_shares(labels, count)

        assert sum(share for _, share in shares) == count
        assert all(1 <= share <= len(rows) for rows, share in shares)
        assert sorted(np.concatenate([rows for rows, _ in shares])) == list(range(100))


def test_craig_takes_labels_that_are_no_classes_for_one_class() -> None:
    pool = example_pool(30)
    numbers = ArrayPool(keys=pool.keys, labels=torch.rand(30), gradients=pool.gradients)

    assert len(answers(Craig(), numbers, 7)) == 7


def test_gradmatch_fills_up_with_others_of_weight_1_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = example_pool(60)  # 4 outputs whose gradients sum to 0: 3 dimensions
    with caplog.at_level("INFO", logger="modyn.downsampling.gradmatch"):
        found = GradMatch(ridge=0.0).choose(pool, 20, Context())

    assert len(set(found.rows.tolist())) == 20
    assert (found.weights == 1).sum() >= 16
    assert "had use for" in caplog.text


def test_gradmatch_of_gradients_of_zero_draws() -> None:
    pool = ArrayPool(keys=range(9), labels=[0] * 9, gradients=torch.zeros(9, 3))

    found = GradMatch().choose(pool, 4, Context())

    assert len(set(found.rows.tolist())) == 4
    assert found.weights.tolist() == [1.0] * 4


def test_one_output_and_narrow_floats_are_enough() -> None:
    for tensor in [torch.rand(12), torch.rand(12, 3).bfloat16(), torch.rand(12, 2).double()]:
        pool = ArrayPool(keys=range(12), labels=[0, 1] * 6, gradients=tensor)

        assert len(answers(Craig(), pool, 5)) == 5


@pytest.mark.parametrize(
    ("kind", "given", "match"),
    [
        (Craig, {"greedy": "Lazy"}, "greedy must be one of NaiveGreedy"),
        (Craig, {"selection_batch": 0}, "selection_batch must be at least 1, got 0"),
        (GradMatch, {"full_grad_approximation": "All"}, "full_grad_approximation must be one of"),
        (GradMatch, {"ridge": -1.0}, "ridge must be at least 0"),
        (DOptimal, {"ridge": 0.0}, "ridge must be above 0"),
        (Submodular, {"submodular_function": "Cover"}, "submodular_function must be one of"),
        (
            Submodular,
            {"submodular_function": "GraphCut", "submodular_optimizer": "Best"},
            "submodular_optimizer must be one of",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: Any, given: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        kind(**given)


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_tensors_of_another_device_are_chosen_from_there(
    sampler: Downsampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = example_pool(50)
    base = answers(sampler, pool, 15)
    monkeypatch.setattr("modyn.downsampling.vectors.on_the_host", lambda tensor: False)

    assert answers(sampler, pool, 15) == pytest.approx(base)


@pytest.mark.parametrize("function", ["FacilityLocation", "GraphCut", "LogDeterminant"])
def test_samples_that_are_all_alike_are_not_chosen_by_age(function: str) -> None:
    # With two classes the gradients of the outputs lie on a line: each is like half of the others.
    signs = np.where(np.arange(200) % 2 == 0, 1.0, -1.0)
    gradients = torch.from_numpy(np.stack([signs, -signs], axis=1)).float()
    pool = ArrayPool(keys=np.arange(200, dtype=np.uint64), gradients=gradients)
    sampler = Submodular(submodular_function=function, ratio=50)

    means = [
        float(np.mean(sampler.choose(pool, 100, Context(step=step)).rows)) for step in range(20)
    ]

    # Of 100 rows drawn from 0 to 199 the mean has a standard deviation of 4.1.
    assert abs(np.mean(means) - 99.5) < 5 * 4.1 / np.sqrt(20)
