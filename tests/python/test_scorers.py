"""Downsamplers that score sample by sample: Loss, GradNorm, Uncertainty, EL2N and GraNd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modyn.downsampling import EL2N, Context, GradNorm, GraNd, Loss, Uncertainty
from modyn.downsampling.checks import check_downsampler, example_pool
from modyn.downsampling.gradients import of_outputs, parameter_norms
from modyn.downsampling.pool import ArrayPool

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
METRICS = ["LeastConfidence", "Entropy", "Margin"]
Z = 3.9  # a two-sided p of 1e-4


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


def pool_of(outputs, labels=None, *, device="cpu", keys=None, **more):
    """A pool with the losses and gradients of cross entropy, of one kind or the other."""
    outputs = torch.as_tensor(outputs, dtype=torch.float32, device=device)
    binary = outputs.ndim == 1
    if labels is None:
        labels = torch.zeros(len(outputs), dtype=torch.int64)
    labels = torch.as_tensor(labels, device=device)
    criterion = (nn.BCEWithLogitsLoss if binary else nn.CrossEntropyLoss)(reduction="none")
    target = labels.to(outputs.dtype) if binary else labels
    return ArrayPool(
        keys=np.arange(len(outputs)) if keys is None else keys,
        labels=target,
        outputs=outputs,
        losses=criterion(outputs, target),
        gradients=of_outputs(outputs, target, criterion),
        **more,
    )


def random_pool(count=50, classes=4, *, device="cpu", seed=0, scale=2.0, **more):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, classes) if classes > 1 else (count,)
    outputs = scale * torch.randn(shape, generator=generator)
    labels = torch.randint(0, max(classes, 2), (count,), generator=generator)
    return pool_of(outputs, labels, device=device, **more)


def choices(sampler, pool, count, **where):
    pool = pool.scored(sampler.score(pool))
    return sampler.choose(pool, count, Context(**where))


def estimates(sampler, pool, values, count, times=1500):
    """(1/k) * sum of w * f, of many choices."""
    seen = pool.scored(sampler.score(pool))
    found = []
    for step in range(times):
        chosen = sampler.choose(seen, count, Context(step=step, seed=5))
        weights = 1.0 if chosen.weights is None else chosen.weights
        found.append(np.sum(weights * values[chosen.rows]) / count)
    return np.array(found)


def z_score(found, expected):
    return abs(found.mean() - expected) / (found.std() / np.sqrt(len(found)))


# Importance sampling ----------------------------------------------------------------------------

IMPORTANCE = [
    Loss(),
    Loss(scheme="with_replacement"),
    Loss(floor=0.0),
    GradNorm(),
    GradNorm(scheme="with_replacement"),
]


@pytest.mark.parametrize("sampler", IMPORTANCE, ids=repr)
def test_the_weighted_mean_has_no_bias_at_half_of_the_samples(sampler):
    pool = random_pool(8)
    values = np.arange(1.0, 9.0)

    assert z_score(estimates(sampler, pool, values, 4), 4.5) < Z


def test_with_upstream_weights_the_mean_is_biased():
    sampler = Loss(upstream_weights=True, floor=0.0)
    scores = [0.1, 0.5, 1.0, 2.0, 3.0, 10.0, 0.3, 0.7]
    pool = ArrayPool(keys=np.arange(8), losses=torch.tensor(scores))

    found = estimates(sampler, pool, np.arange(1.0, 9.0), 4)

    assert z_score(found, 8.26) < Z
    assert z_score(found, 4.5) > 15


def test_the_same_draw_with_weights_that_fit_has_the_right_mean():
    scores = [0.1, 0.5, 1.0, 2.0, 3.0, 10.0, 0.3, 0.7]
    pool = ArrayPool(keys=np.arange(8), losses=torch.tensor(scores))

    found = estimates(Loss(floor=0.0), pool, np.arange(1.0, 9.0), 4)

    assert z_score(found, 4.5) < Z


def test_high_scores_are_drawn_more_often(device):
    pool = pool_of([[0.0, 0.0]] * 9 + [[-9.0, 9.0]], device=device)

    drawn = [choices(Loss(), pool, 2, step=step).rows for step in range(200)]

    assert sum(9 in rows for rows in drawn) == 200
    assert len({int(rows[0]) for rows in drawn}) == 9


@pytest.mark.parametrize("scheme", ["pps", "with_replacement"])
def test_scores_that_are_all_zero_give_a_uniform_draw(scheme):
    pool = ArrayPool(keys=np.arange(10), losses=torch.zeros(10))
    counts = np.zeros(10)

    for step in range(1000):
        chosen = choices(Loss(scheme=scheme), pool, 5, step=step)
        np.add.at(counts, chosen.rows, 1)
        np.testing.assert_allclose(chosen.weights, 1.0)

    chi2 = ((counts - 500) ** 2).sum() / 500
    assert chi2 < 33.7  # the 1e-4 quantile of 9 degrees of freedom


def test_losses_that_are_no_numbers_stop_nothing():
    pool = ArrayPool(keys=np.arange(4), losses=torch.tensor([1.0, torch.nan, torch.inf, 2.0]))

    chosen = choices(Loss(), pool, 2)

    assert len(chosen.rows) == 2
    assert np.isfinite(chosen.weights).all()


def test_the_norm_of_the_last_layer_is_that_of_its_output(device):
    pool = random_pool(device=device)

    got = GradNorm().score(pool)

    expected = torch.softmax(pool.outputs.double(), 1)
    expected[torch.arange(50), pool.labels] -= 1.0
    torch.testing.assert_close(got, expected.norm(dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 4])
def test_the_norm_with_the_embedding_is_that_of_the_layer_by_autograd(device, classes):
    torch.manual_seed(0)
    layer = nn.Linear(6, classes).to(device)
    embeddings = torch.randn(20, 6, device=device)
    outputs = layer(embeddings).detach()
    labels = torch.randint(0, max(classes, 2), (20,), device=device)
    pool = pool_of(
        outputs if classes > 1 else outputs[:, 0], labels, device=device, embeddings=embeddings
    )

    got = GradNorm(full_grad_approximation="LastLayerWithEmbedding").score(pool)

    criterion = nn.CrossEntropyLoss() if classes > 1 else nn.BCEWithLogitsLoss()
    expected = []
    for h, label in zip(embeddings, pool.labels, strict=True):
        layer.zero_grad()
        output = layer(h)
        criterion(output if classes > 1 else output[0], label).backward()
        both = torch.cat([layer.weight.grad.flatten(), layer.bias.grad])
        expected.append(both.double().norm())
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-6, atol=1e-6)


def test_probabilities_by_the_norm_have_less_variance_than_uniform_ones():
    pool = random_pool(60, scale=6.0)
    gradients = pool.gradients.double().numpy()

    def variance(sampler):
        seen = pool.scored(sampler.score(pool))
        found = 0.0
        for step in range(800):
            chosen = sampler.choose(seen, 15, Context(step=step))
            estimate = chosen.weights @ gradients[chosen.rows] / 15
            found += ((estimate - gradients.mean(axis=0)) ** 2).sum() / 800
        return found

    assert variance(GradNorm()) < 0.8 * variance(GradNorm(floor=1.0))


def test_a_shut_gate_draws_uniformly_and_an_open_one_by_scores():
    outputs = torch.zeros(64, 2)
    outputs[:, 0] = 9.0
    outputs[5] = torch.tensor([-9.0, 9.0])
    seen = pool_of(outputs)
    sampler = GradNorm(start_gate=True)
    seen = seen.scored(sampler.score(seen))

    weighted = [
        sampler.choose(seen, 16, Context(step=step)).weights is not None for step in range(30)
    ]

    opened = weighted.index(True)
    assert 0 < opened < 30
    assert all(weighted[opened:])
    shares = seen.scores / seen.scores.sum()
    tau = torch.sqrt(64 * shares.square().sum()).item()
    averages = tau - (tau - 1.0) * 0.9 ** np.arange(1, 31)
    assert opened == np.flatnonzero(averages > (64 + 48) / 48)[0]


def test_a_gate_never_opens_for_scores_that_are_alike():
    sampler = GradNorm(start_gate=True)
    seen = pool_of(torch.zeros(32, 2))
    seen = seen.scored(sampler.score(seen))

    chosen = [sampler.choose(seen, 16, Context(step=step)) for step in range(50)]

    assert all(one.weights is None for one in chosen)


# Uncertainty ------------------------------------------------------------------------------------


def test_least_confidence_goes_by_probability_not_by_logit(device):
    pool = pool_of([[10.0, 9.0], [1.0, -5.0]], device=device)

    assert choices(Uncertainty(score_metric="LeastConfidence"), pool, 1).rows.tolist() == [0]
    by_logit = Uncertainty(score_metric="LeastConfidence", logit_confidence=True)
    assert choices(by_logit, pool, 1).rows.tolist() == [1]


@pytest.mark.parametrize("classes", [1, 2])
def test_with_two_classes_all_three_order_alike(device, classes):
    pool = random_pool(200, classes, device=device)

    orders = [Uncertainty(score_metric=name).score(pool).argsort().tolist() for name in METRICS]

    assert orders[0] == orders[1] == orders[2]


def test_one_output_is_as_uncertain_as_the_two_that_it_stands_for(device):
    outputs = torch.linspace(-6, 6, 25)
    one = pool_of(outputs, device=device)
    column = pool_of(outputs.reshape(-1, 1), device=device)
    two = pool_of(torch.stack([torch.zeros(25), outputs], dim=1), device=device)

    for name in METRICS:
        expected = Uncertainty(score_metric=name).score(two)
        for pool in (one, column):
            torch.testing.assert_close(Uncertainty(score_metric=name).score(pool), expected)


def test_the_scores_are_those_of_their_formulas(device):
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]], dtype=torch.float64)
    pool = ArrayPool(keys=[0, 1], outputs=probabilities.to(device))

    def scores(name):
        return Uncertainty(score_metric=name, probabilities=True).score(pool).cpu().numpy()

    p = probabilities[0].numpy()
    np.testing.assert_allclose(scores("LeastConfidence"), [0.5, 0.0])
    np.testing.assert_allclose(scores("Entropy"), [-(p * np.log(p)).sum(), 0.0])
    np.testing.assert_allclose(scores("Margin"), [-0.2, -1.0])


def test_log_probabilities_are_logits(device):
    pool = random_pool(device=device)
    logs = pool_of(torch.log_softmax(pool.outputs, dim=1), device=device)

    for name in METRICS:
        sampler = Uncertainty(score_metric=name)
        torch.testing.assert_close(sampler.score(logs), sampler.score(pool), rtol=0, atol=1e-6)


def test_what_is_chosen_are_the_highest_with_ties_by_key(device):
    keys = np.array([9, 3, 7, 1, 5])
    outputs = [[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    pool = pool_of(outputs, keys=keys, device=device)

    chosen = choices(Uncertainty(score_metric="Entropy"), pool, 2)

    assert keys[chosen.rows].tolist() == [3, 1]
    assert chosen.weights is None


# EL2N and GraNd ---------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 4])
def test_el2n_of_one_model_is_the_norm_of_the_gradient(device, classes):
    pool = random_pool(classes=classes, device=device)

    torch.testing.assert_close(EL2N().score(pool), GradNorm().score(pool), rtol=0, atol=1e-6)


def test_el2n_of_given_probabilities():
    pool = ArrayPool(keys=[0, 1], labels=[1.0, 0.0], outputs=torch.tensor([0.75, 0.5]))

    assert EL2N(probabilities=True).score(pool).tolist() == [0.25, 0.5]


def test_grand_of_a_linear_model_is_the_norm_with_its_input(device):
    torch.manual_seed(0)
    model = nn.Linear(6, 4).to(device).eval()
    x = torch.randn(30, 6, device=device)
    labels = torch.randint(0, 4, (30,), device=device)
    norms = parameter_norms(model, x, labels, nn.CrossEntropyLoss(reduction="none"))
    pool = pool_of(model(x).detach(), labels, device=device, embeddings=x, parameter_norms=norms)

    got = GraNd().score(pool)

    expected = GradNorm(full_grad_approximation="LastLayerWithEmbedding").score(pool)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


# All of them ------------------------------------------------------------------------------------

SAMPLERS = [
    *IMPORTANCE,
    Loss(upstream_weights=True),
    GradNorm(full_grad_approximation="LastLayerWithEmbedding", start_gate=True),
    *(Uncertainty(score_metric=name) for name in METRICS),
    Uncertainty(score_metric="LeastConfidence", logit_confidence=True),
    EL2N(),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_they_keep_the_promises_of_a_downsampler(sampler):
    check_downsampler(sampler)


def test_grand_keeps_the_promises_of_a_downsampler():
    pool = example_pool()
    norms = torch.linalg.vector_norm(pool.gradients, dim=1)

    check_downsampler(
        GraNd(), pool=ArrayPool(keys=pool.keys, labels=pool.labels, parameter_norms=norms)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradNorm(start_gate=True, sample_then_batch=True), "not with sample_then_batch"),
        (lambda: EL2N(initialisations=1.5), "initialisations must be an int, got 1.5"),
        (lambda: Loss(scheme="poisson"), "scheme must be 'pps' or 'with_replacement'"),
        (lambda: Loss(floor=1.5), "floor must be from 0 to 1, got 1.5"),
        (lambda: Loss(upstream_weights=True, scheme="with_replacement"), "upstream_weights are"),
        (lambda: GradNorm(full_grad_approximation="All"), "got 'All'"),
        (lambda: Uncertainty(score_metric="Variance"), "score_metric must be one of"),
        (
            lambda: Uncertainty(score_metric="Margin", logit_confidence=True),
            "logit_confidence goes with LeastConfidence",
        ),
        (
            lambda: Uncertainty(
                score_metric="LeastConfidence", logit_confidence=True, probabilities=True
            ),
            "needs logits",
        ),
        (lambda: EL2N(initialisations=-1), "initialisations must be at least 0"),
        (lambda: EL2N(score_epochs=2), "needs initialisations"),
        (lambda: GraNd(initialisations=2, score_epochs=-1), "score_epochs must be at least 0"),
        (lambda: GraNd(initialisations=2, score_epochs=1), "needs sample_then_batch and period 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
