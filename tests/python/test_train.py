"""Training: what the loss is, what decides the weights, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from modyn.errors import ConfigError
from modyn.models.mlp import MLP
from modyn.pipelines.models import StoredModel
from modyn.pipelines.settings import (
    Criterion,
    LrScheduler,
    Optimizer,
    ParamGroup,
)
from modyn.pipelines.train import Job, Stopwatch, train
from tests.python.training_jobs import ArrayBatch, ArrayBatches, job, linear, same, sgd, two_blobs


def test_a_training_learns(rand):
    x, labels = two_blobs(rand)

    stored = train(job(ArrayBatches(x, labels, 16), epochs_per_trigger=20))

    model = linear()
    model.load_state_dict(stored.weights)
    assert (model(torch.from_numpy(x)).argmax(dim=1).numpy() == labels).mean() > 0.9
    assert stored.facts.epochs == 20
    assert stored.facts.batches == 20 * 13
    assert stored.facts.samples == 200
    assert stored.facts.final_loss is not None
    assert stored.facts.final_loss < 0.5


def test_the_steps_are_those_of_plain_torch(rand):
    x, labels = two_blobs(rand, 64)
    batches = ArrayBatches(x, labels, 16)

    stored = train(job(batches, epochs_per_trigger=2))

    torch.manual_seed(5)
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    for epoch in range(2):
        batches.set_epoch(epoch)
        for batch in batches:
            optimizer.zero_grad()
            output = model(torch.from_numpy(batch["dense"]))
            nn.functional.cross_entropy(output, torch.from_numpy(batch.labels)).backward()
            optimizer.step()
    assert same(stored.weights, model.state_dict())


def test_the_outcome_is_a_function_of_the_job(rand):
    x, labels = two_blobs(rand)

    def one(seed: int, threads: int) -> dict[str, torch.Tensor]:
        before = torch.get_num_threads()
        torch.manual_seed(threads)
        torch.set_num_threads(threads)
        try:
            mlp = lambda: MLP(num_features=3, num_classes=2, dropout=0.5)  # noqa: E731
            done = train(job(ArrayBatches(x, labels, 16), seed=seed, make_model=mlp))
        finally:
            torch.set_num_threads(before)
        return done.weights

    first = one(1, 1)

    assert same(first, one(1, 2))
    assert not same(first, one(2, 1))


def test_the_callers_generator_and_threads_stay_as_they_are(rand):
    x, labels = two_blobs(rand)
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    threads = torch.get_num_threads()

    train(job(ArrayBatches(x, labels, 16)))

    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_a_weight_of_zero_leaves_a_sample_out(rand):
    x, labels = two_blobs(rand, 40)
    weights = rand.numpy.integers(0, 2, 40).astype(np.float64)
    weights[:2] = 1.0
    kept = weights > 0

    weighted = train(job(ArrayBatches(x, labels, 40, weights=2 * weights)))
    alone = train(job(ArrayBatches(x[kept], labels[kept], 40)))

    for name, value in weighted.weights.items():
        assert torch.allclose(value, alone.weights[name], atol=1e-6)


def test_a_batch_in_which_nothing_counts_teaches_nothing(rand):
    x, labels = two_blobs(rand, 40)
    weights = np.zeros(40)
    weights[17] = 2.0

    weighted = train(job(ArrayBatches(x, labels, 8, weights=weights)))
    alone = train(job(ArrayBatches(x[17:18], labels[17:18], 8)))

    for name, value in weighted.weights.items():
        assert torch.allclose(value, alone.weights[name], atol=1e-6)


def test_the_loss_is_the_weighted_mean(rand):
    x, labels = two_blobs(rand, 30)
    weights = rand.numpy.uniform(0.1, 5.0, 30)

    stored = train(
        job(ArrayBatches(x, labels, 30, weights=weights), record_loss_every=1, optimizers=sgd(0.0))
    )

    model = linear()
    model.load_state_dict(stored.weights)
    losses = nn.functional.cross_entropy(
        model(torch.from_numpy(x)), torch.from_numpy(labels), reduction="none"
    )
    expected = float((losses.detach().numpy() * weights).sum() / weights.sum())
    assert stored.facts.losses[0][1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("criterion", ["BCEWithLogitsLoss", "MSELoss"])
def test_a_single_output_is_held_against_the_label_as_a_number(rand, criterion):
    x, labels = two_blobs(rand)
    settings = {"optimization_criterion": Criterion(name=criterion), "optimizers": sgd(0.05)}

    stored = train(
        job(
            ArrayBatches(x, labels, 16),
            make_model=lambda: nn.Linear(3, 1),
            epochs_per_trigger=20,
            **settings,
        )
    )

    model = nn.Linear(3, 1)
    model.load_state_dict(stored.weights)
    border = 0.0 if criterion == "BCEWithLogitsLoss" else 0.5
    guesses = model(torch.from_numpy(x)).flatten().detach().numpy() > border
    assert (guesses == labels).mean() > 0.9


def test_several_fields_go_in_by_name(rand):
    x, labels = two_blobs(rand)
    seen = []

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            seen.append((left.shape, right.shape))
            return self.layer(torch.cat([left, right], dim=1))

    train(job(ArrayBatches(x, labels, 200, names=("left", "right")), make_model=Two))

    assert seen == [((200, 3), (200, 3))]


def test_losses_are_recorded_every_so_often(rand):
    x, labels = two_blobs(rand)

    stored = train(job(ArrayBatches(x, labels, 16), epochs_per_trigger=2, record_loss_every=10))

    assert [batch for batch, _ in stored.facts.losses] == [0, 10, 20]


def test_a_loss_that_is_no_number_is_recorded_as_none(rand):
    x, labels = two_blobs(rand)
    x[0] = np.nan

    stored = train(job(ArrayBatches(x, labels, 200), record_loss_every=1))

    assert stored.facts.final_loss is None
    assert stored.facts.losses == [(0, None)]


def test_the_optimizer_goes_on_where_the_previous_model_left_it(rand):
    """Two epochs at once are two trainings of one epoch, the second from the first."""
    x, labels = two_blobs(rand)
    adam = (Optimizer(algorithm="Adam", param_groups=(ParamGroup(config={"lr": 0.01}),)),)
    same_order = ArrayBatches(x, labels, 16)
    same_order.set_epoch = lambda epoch: same_order.epochs.append(0)  # type: ignore[method-assign]

    def one(epochs: int, parent: StoredModel | None) -> StoredModel:
        return train(
            job(
                same_order,
                use_previous_model=True,
                epochs_per_trigger=epochs,
                optimizers=adam,
                parent=parent,
            )
        )

    whole, halves = one(2, None), one(1, one(1, None))
    without = one(1, replace(one(1, None), optimizer={}))

    assert same(whole.weights, halves.weights)
    assert same(whole.optimizer, halves.optimizer)
    assert not same(whole.weights, without.weights)


def test_fresh_models_keep_no_optimizer_state(rand):
    x, labels = two_blobs(rand)

    stored = train(job(ArrayBatches(x, labels, 16), optimizers=sgd(momentum=0.9)))

    assert stored.optimizer == {}


def test_param_groups_have_their_own_options_and_modules(rand):
    x, labels = two_blobs(rand)
    groups = (
        ParamGroup(module="model.0", config={"lr": 0.0}),
        ParamGroup(module="model.1", config={"lr": 0.1}),
    )
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
        return made[-1]

    def start() -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        return make().state_dict()

    stored = train(
        job(
            ArrayBatches(x, labels, 16),
            make_model=make,
            optimizers=(Optimizer(algorithm="SGD", param_groups=groups),),
        )
    )

    fresh = start()
    assert torch.equal(stored.weights["0.weight"], fresh["0.weight"])
    assert not torch.equal(stored.weights["1.weight"], fresh["1.weight"])


@pytest.mark.parametrize("module", ["model.nothing", "model.weight", "model.5"])
def test_a_module_that_is_not_there_is_named(rand, module):
    x, labels = two_blobs(rand)
    optimizer = Optimizer(algorithm="SGD", param_groups=(ParamGroup(module=module),))

    with pytest.raises(ConfigError, match=f"the model has no module {module}"):
        train(job(ArrayBatches(x, labels, 16), optimizers=(optimizer,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizers": sgd(speed=1)}, r"training\.optimizers default \(SGD\)"),
        ({"optimizers": sgd(-1.0)}, "Invalid learning rate"),
        ({"optimizers": sgd(0.1, params=[])}, "multiple values for argument 'params'"),
        (
            {"optimization_criterion": Criterion(config={"wait": 1})},
            r"training\.optimization_criterion CrossEntropyLoss",
        ),
        (
            {"lr_scheduler": LrScheduler(name="StepLR", step_every="epoch")},
            r"training\.lr_scheduler StepLR",
        ),
        ({"device": "cuda:99"}, "training.device is 'cuda:99', but PyTorch sees"),
    ],
)
def test_an_option_that_torch_refuses_is_named(rand, changes, message):
    x, labels = two_blobs(rand)

    with pytest.raises(ConfigError, match=message):
        train(job(ArrayBatches(x, labels, 16), **changes))


def test_the_scheduler_knows_how_many_batches_there_are(rand):
    x, labels = two_blobs(rand)
    scheduler = LrScheduler(
        name="LinearLR",
        step_every="batch",
        config={"start_factor": 1.0, "end_factor": 0.0, "total_iters": "MODYN_NUM_BATCHES"},
    )
    cut = LrScheduler(
        name="LinearLR",
        step_every="batch",
        config={"start_factor": 1.0, "end_factor": 0.0, "total_iters": 2 * 13},
    )

    named = train(job(ArrayBatches(x, labels, 16), epochs_per_trigger=2, lr_scheduler=scheduler))
    counted = train(job(ArrayBatches(x, labels, 16), epochs_per_trigger=2, lr_scheduler=cut))
    without = train(job(ArrayBatches(x, labels, 16), epochs_per_trigger=2))

    assert same(named.weights, counted.weights)
    assert not same(named.weights, without.weights)


def test_a_scheduler_can_step_every_epoch(rand):
    x, labels = two_blobs(rand)
    scheduler = LrScheduler(
        name="StepLR", step_every="epoch", config={"step_size": 1, "gamma": 0.0}
    )

    def one(epochs: int) -> dict[str, torch.Tensor]:
        batches = ArrayBatches(x, labels, 16)
        return train(job(batches, epochs_per_trigger=epochs, lr_scheduler=scheduler)).weights

    assert same(one(1), one(3))  # from the second epoch on the step size is zero


def test_the_watch_hears_of_every_batch(rand):
    x, labels = two_blobs(rand)
    heard: list[tuple[str, int, int]] = []

    class Watch:
        def epoch(self, index: int, epochs: int) -> None:
            heard.append(("epoch", index, epochs))

        def batch(self, done: int, total: int) -> None:
            heard.append(("batch", done, total))

    clock = Stopwatch()
    train(job(ArrayBatches(x, labels, 100), epochs_per_trigger=2), Watch(), clock)

    assert heard == [
        *[("epoch", 0, 2), ("batch", 1, 4), ("batch", 2, 4)],
        *[("epoch", 1, 2), ("batch", 3, 4), ("batch", 4, 4)],
    ]
    assert set(clock.seconds) == {"load", "train"}


def test_an_error_of_the_loader_surfaces(rand):
    x, labels = two_blobs(rand)

    class Broken(ArrayBatches):
        def __iter__(self) -> Iterator[ArrayBatch]:
            yield from list(super().__iter__())[:1]
            raise KeyError("sample 7 is gone")

    with pytest.raises(KeyError, match="sample 7"):
        train(job(Broken(x, labels, 16)))


# So many samples instead of whole epochs ----------------------------------------------------------


@dataclass
class ArrayPass(ArrayBatches):
    """The batches of one pass: the rows of epochs 0, 1, ... one after the other."""

    rows: int = 0

    def __len__(self) -> int:
        return -(-self.rows // self.size)

    def __iter__(self) -> Iterator[ArrayBatch]:
        assert self.epochs == [0]
        order = np.arange(self.rows) % len(self.labels)
        for first in range(0, self.rows, self.size):
            at = order[first : first + self.size]
            yield ArrayBatch({"dense": self.x[at]}, self.labels[at])


def heard_of(passed: Job) -> tuple[StoredModel, list[tuple[int, ...]]]:
    """Train, and return what a watch heard."""
    heard: list[tuple[int, ...]] = []

    class Watch:
        def epoch(self, index: int, epochs: int) -> None:
            heard.append((index, epochs))

        def batch(self, done: int, total: int) -> None:
            heard[-1] += (done,)
            assert total == len(passed.batches)

    return train(passed, Watch()), heard


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        (200, 50, [(0, 1, 1, 2, 3, 4)]),
        (130, 50, [(0, 1, 1, 2, 3)]),
        (500, 100, [(0, 3, 1, 2), (1, 3, 3, 4), (2, 3, 5)]),
        (450, 150, [(0, 3, 1, 2), (1, 3, 3), (2, 3)]),  # the second batch is of two epochs
        (900, 450, [(0, 5, 1), (1, 5), (2, 5, 2), (3, 5), (4, 5)]),
    ],
)
def test_so_many_samples_are_trained_on(rand, rows, size, expected):
    x, labels = two_blobs(rand)
    batches = ArrayPass(x, labels, size, rows=rows)

    stored, heard = heard_of(job(batches, to_pass=rows, epochs_per_trigger=9))

    assert heard == expected
    assert stored.facts.batches == -(-rows // size)
    assert stored.facts.epochs == -(-rows // 200)
    assert stored.facts.samples == 200
    assert stored.facts.final_loss is not None


@pytest.mark.parametrize("step_every", ["batch", "epoch"])
def test_the_scheduler_knows_how_long_so_many_samples_take(rand, step_every):
    x, labels = two_blobs(rand)
    many = {"batch": "MODYN_NUM_BATCHES", "epoch": "MODYN_NUM_EPOCHS"}[step_every]
    count = {"batch": 8, "epoch": 3}[step_every]  # 500 rows of 200 samples in batches of 64

    def trained(steps: str | int) -> dict[str, torch.Tensor]:
        config = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": steps}
        scheduler = LrScheduler(name="LinearLR", step_every=step_every, config=config)
        batches = ArrayPass(x, labels, 64, rows=500)
        return train(job(batches, to_pass=500, lr_scheduler=scheduler)).weights

    assert same(trained(many), trained(count))
    assert not same(trained(many), trained(count + 1))


def test_one_epoch_is_as_many_samples(rand):
    x, labels = two_blobs(rand)

    one = train(job(ArrayPass(x, labels, 50, rows=200), to_pass=200))
    two = train(job(ArrayPass(x, labels, 50, rows=400), to_pass=400))
    again = train(job(ArrayPass(x, labels, 50, rows=200), to_pass=200, parent=one))

    assert one.facts.epochs == 1
    assert same(two.weights, again.weights)  # plain SGD has no state
