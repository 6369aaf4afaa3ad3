"""Training: what the loss is, what decides the weights, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modyn.errors import ConfigError
from modyn.models.mlp import MLP
from modyn.pipelines.build import fitted, maker, model_of
from modyn.pipelines.models import Recipe, StoredModel
from modyn.pipelines.settings import (
    Criterion,
    LrScheduler,
    Model,
    Optimizer,
    ParamGroup,
    Training,
    describe,
)
from modyn.pipelines.train import Job, Stopwatch, train


@dataclass(frozen=True)
class ArrayBatch:
    """A batch of arrays, as a loader would give it."""

    fields: dict[str, Any]
    labels: Any
    weights: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


@dataclass
class ArrayBatches:
    """Batches of a few arrays, in another order each epoch."""

    x: np.ndarray
    labels: np.ndarray
    size: int
    weights: np.ndarray | None = None
    names: tuple[str, ...] = ("dense",)
    epochs: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.size)

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[ArrayBatch]:
        order = np.random.default_rng(self.epochs[-1]).permutation(len(self.labels))
        for first in range(0, len(order), self.size):
            rows = order[first : first + self.size]
            weights = None if self.weights is None else self.weights[rows]
            fields = dict.fromkeys(self.names, self.x[rows])
            yield ArrayBatch(fields, self.labels[rows], weights)


def two_blobs(rand: Any, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    labels = rand.numpy.integers(0, 2, count)
    x = rand.numpy.normal(size=(count, 3)) + 3 * labels[:, None]
    return x.astype(np.float32), labels.astype(np.int64)


def linear() -> nn.Module:
    return nn.Linear(3, 2)


def sgd(rate: float = 0.1, **more: Any) -> tuple[Optimizer, ...]:
    group = ParamGroup(config={"lr": rate, **more})
    return (Optimizer(algorithm="SGD", param_groups=(group,)),)


def job(batches: ArrayBatches, **changes: Any) -> Job:
    names = set(Training.__dataclass_fields__) - {"seed"}  # which a job has itself
    settings = {k: changes.pop(k) for k in list(changes) if k in names}
    training = Training(**{"batch_size": batches.size, "optimizers": sgd(), **settings})
    made = Job(
        training=training,
        make_model=linear,
        fields=batches.names,
        batches=batches,
        samples=len(batches.labels),
        seed=5,
    )
    return replace(made, **changes)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


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


# The built-in model, and how models are named ----------------------------------------------------


def test_the_mlp_standardises_its_inputs(rand):
    x, labels = two_blobs(rand)
    scaled = (x * np.array([1e4, 1.0, 1e-4]) + 1e3).astype(np.float32)

    def accuracy(inputs: np.ndarray) -> float:
        make = lambda: MLP(num_features=3, num_classes=2, hidden=[8])  # noqa: E731
        done = train(job(ArrayBatches(inputs, labels, 20), make_model=make, epochs_per_trigger=10))
        model = make()
        model.load_state_dict(done.weights)
        guesses = model.eval()(torch.from_numpy(inputs)).argmax(dim=1).numpy()
        return float((guesses == labels).mean())

    assert accuracy(x) > 0.9
    assert accuracy(scaled) > 0.8


def test_the_mlp_takes_a_batch_of_one_while_training():
    model = MLP(num_features=3, num_classes=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    output = model(torch.ones(1, 3))

    assert output.shape == (1, 2)
    assert same(model.state_dict(), before)


def test_the_mlp_embeds_categories_and_takes_unknown_ones_as_the_last():
    model = MLP(num_features=2, num_classes=3, categorical=[4, 2], embedding_dim=5).eval()
    dense = torch.zeros(3, 2)
    cat = torch.tensor([[3, 1], [99, 7], [0, 0]], dtype=torch.int32)

    output = model(dense=dense, cat=cat)

    assert output.shape == (3, 3)
    assert torch.allclose(output[0], output[1])
    assert not torch.allclose(output[0], output[2])


def test_the_mlp_fits_the_schema():
    schema = {"dense": "float32[3,4]", "cat": "int32[2]"}

    found = fitted(Model(id="MLP", config={"num_classes": 2}), schema)

    assert found.config["num_features"] == 12
    with pytest.raises(ConfigError, match="num_features is 5, but the samples have 12 numbers"):
        fitted(Model(id="MLP", config={"num_features": 5}), schema)


def test_a_model_can_be_a_callable_an_id_or_settings():
    assert model_of(linear).id == f"{__name__}:linear"
    assert model_of("MLP") == Model(id="MLP")
    assert isinstance(maker(model_of(linear))(), nn.Linear)
    with pytest.raises(TypeError, match="model must be a Model, an id or a callable, got int"):
        model_of(3)


def test_an_import_path_runs_only_where_it_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "models_of_ours.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        "Path(__file__).with_name('imported').touch()\n"
        "def make(width):\n    return nn.Linear(width, 2)\n"
        "nothing = 5\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = Model(id="models_of_ours:make", config={"width": 7})

    with pytest.raises(
        ConfigError, match="code of models_of_ours runs only with --allow models_of_ours"
    ):
        maker(model, allow=["own"])
    assert not (tmp_path / "imported").exists()

    assert maker(model, allow=["models_of_ours"])().in_features == 7
    with pytest.raises(ConfigError, match="models_of_ours has no function other"):
        maker(Model(id="models_of_ours:other"), allow=["models_of_ours"])
    with pytest.raises(ConfigError, match="cannot be made from its config: "):
        maker(Model(id="models_of_ours:make", config={"w": 1}), allow=["models_of_ours"])()


def test_settings_are_described_as_plain_values():
    found = describe(Training(batch_size=3, dataloader_workers=9))

    assert found["batch_size"] == 3
    assert found["optimizers"][0]["param_groups"][0] == {
        "class": "ParamGroup",
        "module": "model",
        "config": {},
    }
    for name in ("dataloader_workers", "num_prefetched_partitions", "parallel_prefetch_requests"):
        assert name not in found  # changes the speed only
    with pytest.raises(TypeError, match="a setting must be a plain value, got Linear"):
        describe({"x": linear()})


def test_what_decides_a_training_has_the_key_it_always_had():
    """Runs of before these settings existed go on, and find their models."""
    training = Training(
        batch_size=32,
        epochs_per_trigger=2,
        dataloader_workers=7,
        lr_scheduler=LrScheduler(name="StepLR", step_every="epoch", config={"step_size": 1}),
    )

    def recipe(training: Training) -> Recipe:
        return Recipe(
            parent=None,
            training_set="ab",
            training=describe(training),
            model=describe(Model(id="MLP")),
            seed=1,
            dataset="d",
        )

    key = "4f070d5081f7946d9cf8d8008733a160bc4e12fc1dba4d2e798cbd95932b7240"
    assert recipe(training).key() == key
    assert recipe(training).draw("c") == 5827514225642507221
    fast = replace(training, num_prefetched_partitions=3, parallel_prefetch_requests=9)
    assert recipe(fast).key() == key
    for change in ({"shuffle": "partition"}, {"num_samples_to_pass": (5,)}):
        assert recipe(replace(training, **change)).key() != key
    partitions = replace(training, shuffle="partition")
    assert recipe(partitions).key() != recipe(replace(partitions, partition_size=9)).key()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples_to_pass": ()}, "num_samples_to_pass needs at least one entry"),
        ({"num_samples_to_pass": (3, 0)}, r"num_samples_to_pass\[1\] must be at least 1, got 0"),
        ({"shuffle": "global"}, "shuffle must be true, false or 'partition', got 'global'"),
        ({"partition_size": 0, "shuffle": "partition"}, "partition_size must be at least 1, got 0"),
        ({"partition_size": 8}, "partition_size 8 needs shuffle 'partition', got True"),
        ({"num_prefetched_partitions": -1}, "num_prefetched_partitions must be at least 0, got -1"),
        ({"parallel_prefetch_requests": 0}, "parallel_prefetch_requests must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Training(batch_size=1, **changes)


# So many samples instead of whole epochs ---------------------------------------------------------


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
