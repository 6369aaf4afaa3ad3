"""Downsamplers in the training loop: no bias in what is learned, passes, histories, proxies."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from modyn.downsampling import (
    EL2N,
    RS2,
    Forgetting,
    GradNorm,
    GraNd,
    InfoBatch,
    Loss,
    Uncertainty,
    Uniform,
)
from modyn.downsampling.base import highest
from modyn.pipelines import Training, history
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.downsample import feed_of
from modyn.pipelines.history import History
from modyn.pipelines.scoring import Scorer
from modyn.pipelines.train import train
from modyn.signals import NEVER_LEARNED
from tests.python.downsample_jobs import COUNT, ArraySamples, job_of, made, part_of, same
from tests.python.streams import drifting, pipeline, sgd

WHOLE = {"ratio": 50, "sample_then_batch": True}
SAMPLERS = [
    *(kind(ratio=50, sample_then_batch=whole) for kind in (Loss, GradNorm) for whole in (0, 1)),
    GradNorm(ratio=25, full_grad_approximation="LastLayerWithEmbedding", start_gate=True),
    Loss(scheme="with_replacement", **WHOLE),
    Uncertainty(score_metric="Margin", ratio=50),
    Uncertainty(score_metric="Entropy", balance=True, **WHOLE),
    EL2N(ratio=50),
    EL2N(initialisations=2, score_epochs=1, period=0, **WHOLE),
    GraNd(**WHOLE),
    GraNd(initialisations=2, score_epochs=1, period=0, **WHOLE),
    Forgetting(ratio=50),
    InfoBatch(),
    RS2(with_replacement=True, ratio=50),
    RS2(with_replacement=False, ratio=50),
    Uniform(ratio=50),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_the_same_job_is_the_same_model_from_fewer_samples(sampler):
    job = job_of(made(), sampler, epochs_per_trigger=4)

    first, second = train(job), train(replace(job, downsampling=copy.deepcopy(sampler)))

    assert same(first, second)
    assert first.facts.downsampled == second.facts.downsampled
    assert first.facts.downsampled.trained < 4 * COUNT
    assert np.isfinite(first.facts.final_loss)


@pytest.mark.parametrize(
    "sampler",
    [
        Loss(),
        GradNorm(sample_then_batch=True),
        Uncertainty(score_metric="Margin"),
        EL2N(initialisations=2, score_epochs=2, period=0, sample_then_batch=True),
        InfoBatch(prune=0.0),
        Forgetting(warmup=1.0, ratio=10),
        RS2(with_replacement=False),
    ],
    ids=repr,
)
def test_whoever_keeps_all_trains_as_if_not_there(sampler):
    assert same(train(job_of(made(), sampler)), train(job_of(made(), None)))


# No bias ----------------------------------------------------------------------------------------


def fixed_model(scale: float = 8.0) -> nn.Module:
    """A model whose first weights do not depend on the seed; the losses are very different."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
        with torch.no_grad():
            model[2].weight *= scale
        return model


def steps(sampler, *, times):
    """The weights after one step of SGD on 16 of 32 samples, for many seeds."""
    data = part_of(made(), np.arange(32))
    found = []
    for seed in range(times):
        job = job_of(data, sampler, epochs_per_trigger=1, make_model=fixed_model)
        weights = train(replace(job, seed=seed)).weights
        found.append(torch.cat([value.flatten() for value in weights.values()]).double().numpy())
    return np.array(found)


def full_step():
    job = job_of(
        part_of(made(), np.arange(32)),
        None,
        epochs_per_trigger=1,
        make_model=fixed_model,
        batch_size=32,
    )
    weights = train(job).weights
    return torch.cat([value.flatten() for value in weights.values()]).double().numpy()


def z_scores(found, expected):
    return np.abs(found.mean(axis=0) - expected) / (found.std(axis=0) / np.sqrt(len(found)))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "sampler", [Loss(ratio=50), GradNorm(ratio=50, scheme="with_replacement")], ids=repr
)
def test_the_expected_step_is_that_of_all_samples(sampler, whole):
    found = steps(replace(sampler, sample_then_batch=whole), times=120)

    assert len(found[0]) == 31
    assert z_scores(found, full_step()).max() < 4.6  # thirty-one numbers, p of all of them 1e-4


def test_the_expected_step_with_upstream_weights_is_not():
    found = steps(Loss(ratio=50, upstream_weights=True), times=120)

    assert z_scores(found, full_step()).max() > 6


# RS2, InfoBatch, Forgetting ---------------------------------------------------------------------


def trained_on(sampler, *, epochs, **changes):
    """The keys of each choice."""
    data = made()
    pool = ArraySamples(data)
    train(job_of(data, sampler, epochs_per_trigger=epochs, pool=pool, **changes))
    return pool.trained


def test_rs2_at_half_trains_on_every_sample_once_in_two_epochs():
    found = trained_on(RS2(with_replacement=False, ratio=50), epochs=6)

    for first, second in zip(found[::2], found[1::2], strict=True):
        assert sorted([*first, *second]) == made().keys.tolist()


def test_rs2_trains_as_ordinary_training_does_in_as_many_steps():
    def loss_after(sampler, epochs):
        model = partial(fixed_model, scale=1.0)
        job = job_of(made(), sampler, epochs_per_trigger=epochs, make_model=model)
        return np.mean([train(replace(job, seed=s)).facts.final_loss for s in range(8)])

    plain = loss_after(None, 6)
    half = loss_after(RS2(with_replacement=False, ratio=50), 12)
    assert half == pytest.approx(plain, rel=0.05)


def test_infobatch_leaves_out_only_what_was_below_the_mean():
    found = [len(keys) for keys in trained_on(InfoBatch(), epochs=8)]

    assert found[0] == COUNT
    assert found[7] == COUNT
    assert max(found[1:7]) < COUNT
    assert min(found[1:7]) >= COUNT // 2


def test_forgetting_trains_on_all_at_first_and_then_on_its_share():
    found = [len(keys) for keys in trained_on(Forgetting(ratio=20), epochs=6)]

    assert found == [COUNT] * 3 + [COUNT // 5] * 3


class Told:
    """Batches as they come, for a history of its own."""

    def __init__(self, keys):
        self.history = History(keys, Training(batch_size=4))
        self.losses = dict.fromkeys(keys.tolist(), np.nan)
        self.right = {key: [] for key in keys.tolist()}

    def note(self, keys, right):
        losses = np.arange(len(keys)) + len(self.right[int(keys[0])])
        outputs = torch.eye(2)[np.where(right, 1, 0)]
        labels = torch.ones(len(keys), dtype=torch.int64)
        self.history.note(keys, outputs, labels, torch.from_numpy(losses.astype(np.float32)))
        for key, loss, one in zip(keys.tolist(), losses, right, strict=True):
            self.losses[key] = loss
            self.right[key].append(bool(one))

    def forgotten(self):
        return [
            sum(a and not b for a, b in pairwise(course)) if any(course) else NEVER_LEARNED
            for course in self.right.values()
        ]


@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_a_history_is_that_of_each_presentation_however_it_is_taken(rand, monkeypatch, chunk):
    monkeypatch.setattr(history, "CHUNK", chunk)
    keys = rand.keys(12)
    told = Told(keys)

    for step in range(60):
        batch = keys[rand.numpy.integers(0, 11, size=4)]  # a sample may be there twice
        told.note(batch, rand.numpy.random(4) < 0.5)
        if step % 20 == 19:
            found = told.history.of(keys)
            np.testing.assert_array_equal(found["losses"], list(told.losses.values()))
            assert found["forgetting"].tolist() == told.forgotten()


@pytest.mark.parametrize("sampler", [InfoBatch(), Forgetting(ratio=20), Uniform(**WHOLE)], ids=repr)
def test_a_schedule_goes_evenly_to_its_end(sampler):
    job = job_of(made(), sampler, epochs_per_trigger=6)
    scorer = Scorer(
        job=job,
        model=job.make_model(),
        each=nn.CrossEntropyLoss(reduction="none"),
        device=torch.device("cpu"),
        history=History(made().keys, job.training),
    )
    feed = feed_of(job, Stopwatch(), scorer)
    course, done = [0], 0

    for batches in feed.epochs():
        for batch in batches:
            labels = torch.as_tensor(batch.labels)
            losses = torch.as_tensor(np.asarray(batch.keys) % 100).float()
            scorer.history.note(batch.keys, torch.zeros(len(batch), 3), labels, losses)
            done += 1
            course.append(feed.due(done))

    steps = np.diff(course)
    assert course[-1] == feed.total
    assert steps.min() >= 1
    assert (done < feed.total) == (not sampler.exact)


# Proxies ----------------------------------------------------------------------------------------


def error_norms(model, data):
    model.eval()
    with torch.no_grad():
        error = torch.softmax(model(torch.from_numpy(data.x)).double(), dim=1)
    error[torch.arange(len(data)), torch.from_numpy(data.labels)] -= 1.0
    return error.norm(dim=1).numpy()


@pytest.mark.parametrize("score_epochs", [0, 2])
def test_scores_are_the_mean_over_models_that_are_trained_for_them(monkeypatch, score_epochs):
    from modyn.pipelines import proxies

    data, models = made(), []
    inner = proxies._models

    def kept(job, device):
        for model, trained in inner(job, device):
            models.append(copy.deepcopy(model))
            yield model, trained

    monkeypatch.setattr(proxies, "_models", kept)
    pool = ArraySamples(data)
    sampler = EL2N(initialisations=3, score_epochs=score_epochs, period=0, **WHOLE)
    facts = train(job_of(data, sampler, pool=pool)).facts

    scores = np.mean([error_norms(model, data) for model in models], axis=0)
    expected = data.keys[highest(scores, data.keys, COUNT // 2)]
    assert len(models) == 3
    assert pool.trained[-1].tolist() == expected.tolist()
    assert facts.downsampled.scored == 3 * (1 + score_epochs) * COUNT
    first, second = (next(iter(model.parameters())) for model in models[:2])
    assert not torch.equal(first, second)


def test_a_pipeline_trains_proxies_on_its_dataset(tmp_path):
    stream = drifting(tmp_path / "stream", count=300)
    sampler = EL2N(initialisations=2, score_epochs=1, period=0, **WHOLE)
    training = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd())

    run = pipeline(stream, training=training, downsampling=sampler).replay(tmp_path / "run")

    assert len(run.triggers["model"]) == 2
