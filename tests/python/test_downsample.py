"""Downsampling in the training loop: what it trains on, how it counts, what stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modyn.downsampling import Chosen, Downsampler, Schedule
from modyn.downsampling.base import highest
from modyn.pipelines.jobs import Job
from modyn.pipelines.scoring import evaluating
from modyn.pipelines.settings import Criterion, LrScheduler, Optimizer, ParamGroup, Training
from modyn.pipelines.train import train
from modyn.signals import NEVER_LEARNED

COUNT = 150
SIZE = 16


@dataclass(frozen=True)
class ArrayBatch:
    keys: np.ndarray
    x: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.x


@dataclass
class ArrayBatches:
    """Rows of arrays in batches; shuffled by epoch if there is one."""

    data: ArrayBatch
    size: int = SIZE
    shuffled: bool = True
    drop_last: bool = False
    epoch: int = 0

    def __len__(self) -> int:
        count = len(self.data)
        return count // self.size if self.drop_last else -(-count // self.size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[ArrayBatch]:
        count = len(self.data)
        rows = np.arange(count)
        if self.shuffled:
            rows = np.random.default_rng([self.epoch, count]).permutation(count)
        for i in range(len(self)):
            yield part_of(self.data, rows[i * self.size : (i + 1) * self.size])


def part_of(data: ArrayBatch, rows: np.ndarray) -> ArrayBatch:
    weights = None if data.weights is None else data.weights[rows]
    return ArrayBatch(data.keys[rows], data.x[rows], data.labels[rows], weights)


@dataclass
class ArraySamples:
    """The same for sample-then-batch."""

    data: ArrayBatch
    size: int = SIZE
    drop_last: bool = False
    trained: list[np.ndarray] = field(default_factory=list)

    @property
    def keys(self) -> np.ndarray:
        return self.data.keys

    @property
    def labels(self) -> np.ndarray:
        return self.data.labels

    @property
    def weights(self) -> np.ndarray | None:
        return self.data.weights

    def in_order(self, keys: np.ndarray) -> ArrayBatches:
        rows = np.searchsorted(self.keys, keys)
        return ArrayBatches(replace(part_of(self.data, rows), weights=None), self.size, False)

    def to_train(self, keys: np.ndarray, weights: np.ndarray | None) -> ArrayBatches:
        self.trained.append(keys)
        rows = np.searchsorted(self.keys, keys)
        data = replace(part_of(self.data, rows), weights=weights)
        drop = self.drop_last and len(keys) >= self.size
        return ArrayBatches(data, self.size, drop_last=drop)


class Noisy(nn.Module):
    """With dropout and batch normalisation: what a model looks at changes neither."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def linear() -> nn.Module:
    return nn.Linear(3, 3)


class HighestLoss(Downsampler):
    needs = ("losses",)

    def score(self, pool: Any) -> torch.Tensor:
        return pool.losses


class HighestLossAtOnce(Downsampler):
    """The same by `choose` alone."""

    needs = ("losses", "outputs")

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(highest(pool.losses.double().numpy(), pool.keys, count))


class Blind(Downsampler):
    """A uniform draw, which looks at nothing."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(context.random().permutation(len(pool))[:count])


def made(seed: int = 0, count: int = COUNT, weights: bool = False) -> ArrayBatch:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    x = (rng.normal(size=(count, 3)) + 2 * np.eye(3)[labels]).astype(np.float32)
    own = rng.uniform(0.2, 3.0, count) if weights else None
    return ArrayBatch(10 + 3 * np.arange(count, dtype=np.uint64), x, labels, own)


def job_of(
    data: ArrayBatch, downsampling: Downsampler | None, *, drop_last: bool = False, **changes: Any
) -> Job:
    names = set(Training.__dataclass_fields__)
    sgd = Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.1}),))
    settings = {"batch_size": SIZE, "epochs_per_trigger": 3, "optimizers": (sgd,)}
    settings |= {"drop_last_batch": drop_last}
    settings |= {k: changes.pop(k) for k in list(changes) if k in names}
    training = Training(**settings)
    size = training.batch_size
    return replace(
        Job(
            training=training,
            make_model=linear,
            fields=("x",),
            batches=ArrayBatches(data, size, drop_last=drop_last and len(data) >= size),
            samples=len(data),
            seed=7,
            downsampling=downsampling,
            pool=ArraySamples(data, size, drop_last),
        ),
        **changes,
    )


def same(one: Any, other: Any) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("kind", [HighestLoss, HighestLossAtOnce, Blind])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_share_of_all_is_plain_training_bit_for_bit(kind, stb, weights, drop_last):
    data = made(weights=weights)

    noisy = {"drop_last": drop_last, "make_model": Noisy}

    plain = train(job_of(data, None, **noisy))
    sampled = train(job_of(data, kind(sample_then_batch=stb), **noisy))

    assert same(sampled, plain)
    assert sampled.facts.batches == plain.facts.batches
    assert sampled.facts.final_loss == plain.facts.final_loss


@dataclass
class Seen:
    """Who looks on: what each batch was trained on."""

    keys: list[list[int]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    done: tuple[int, int] = (0, 0)

    def epoch(self, index: int, epochs: int = 0) -> None:
        if epochs == 0:
            self.epochs.append(index)

    def batch(self, first: Any, *rest: Any) -> None:
        if len(rest) == 1:
            self.done = first, rest[0]
        else:
            self.keys.append(np.asarray(first.keys).tolist())


def seen_in(job: Job) -> Seen:
    seen = Seen()
    train(job, watch=seen, observer=seen)
    return seen


class Multiples(Downsampler):
    """Keeps the lowest keys of each batch; looks at nothing."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(np.argsort(pool.keys)[:count])


def test_what_is_kept_is_collected_until_it_fills_a_batch():
    data = made()
    expected: list[int] = []
    for epoch in range(3):
        batches = ArrayBatches(data)
        batches.set_epoch(epoch)
        for batch in batches:
            kept = np.sort(batch.keys)[: len(batch) // 2]
            expected += [key for key in batch.keys.tolist() if key in kept]

    seen = seen_in(job_of(data, Multiples(ratio=50)))

    assert [len(keys) for keys in seen.keys] == [16] * 14 + [1]  # 75 samples in 3 epochs
    assert [key for keys in seen.keys for key in keys] == expected
    assert seen.done == (15, 15)


@pytest.mark.parametrize(
    ("count", "ratio", "lengths"),
    [
        (150, 50, [16] * 13),  # 9 batches of an epoch, 8 of each; 8 samples are left
        (150, 99, [16] * 25),  # 15 of 16
        (20, 50, [16]),  # one batch of an epoch
        (20, 10, [3]),  # one of each epoch: less than a batch, which is one all the same
        (5, 50, [6]),
    ],
)
def test_a_rest_is_dropped_with_drop_last_batch(count, ratio, lengths):
    seen = seen_in(job_of(made(count=count), Multiples(ratio=ratio), drop_last=True))

    assert [len(keys) for keys in seen.keys] == lengths
    assert seen.done == (len(lengths), len(lengths))


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("ratio", [1, 10, 37, 50, 99, 100])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 150])
def test_the_schedule_is_as_long_as_the_training(stb, ratio, drop_last, count):
    schedule = LrScheduler(
        name="OneCycleLR",
        step_every="batch",
        config={"max_lr": 0.1, "total_steps": "MODYN_NUM_BATCHES"},
    )
    downsampler = Multiples(ratio=ratio, sample_then_batch=stb)
    job = job_of(
        made(count=count),
        downsampler,
        drop_last=drop_last,
        lr_scheduler=schedule,
    )

    done, total = seen_in(job).done  # one step too many would raise

    assert done == total


@pytest.mark.parametrize("to_pass", [40, 150, 333])
def test_of_so_many_samples_a_share_is_trained_on(to_pass):
    data = made()
    batches = ArrayBatches(part_of(data, np.arange(to_pass) % COUNT), shuffled=False)
    job = job_of(data, Multiples(ratio=25), batches=batches, to_pass=to_pass)

    seen = seen_in(job)

    last = to_pass % SIZE
    kept = to_pass // SIZE * 4 + (max(last // 4, 1) if last else 0)
    assert sum(map(len, seen.keys)) == kept
    assert seen.done == (-(-kept // SIZE), -(-kept // SIZE))
    assert seen.epochs == list(range(-(-to_pass // COUNT)))


@pytest.mark.parametrize(
    ("period", "chosen_at"), [(0, [0]), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (7, [0])]
)
def test_the_training_set_is_chosen_from_every_so_many_epochs(period, chosen_at):
    data = made()
    at: list[tuple[int, int]] = []

    class Noting(HighestLoss):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            at.append((context.epoch, context.epochs))
            return super().choose(pool, count, context)

    job = job_of(
        data, Noting(ratio=20, sample_then_batch=True, period=period), epochs_per_trigger=5
    )

    seen = seen_in(job)

    assert at == [(epoch, 5) for epoch in chosen_at]
    assert [sorted(seen.keys[i] + seen.keys[i + 1]) for i in range(0, 10, 2)] == [
        job.pool.trained[sum(first <= epoch for first in chosen_at) - 1].tolist()
        for epoch in range(5)
    ]
    assert all(len(keys) == 30 for keys in job.pool.trained)


def test_scoring_by_pieces_and_all_at_once_choose_the_same():
    data = made()

    by_pieces = train(job_of(data, HighestLoss(ratio=40, sample_then_batch=True)))
    at_once = train(job_of(data, HighestLossAtOnce(ratio=40, sample_then_batch=True)))

    assert same(by_pieces, at_once)
    assert by_pieces.facts.downsampled == at_once.facts.downsampled
    assert vars(by_pieces.facts.downsampled) == {"scored": 450, "trained": 180}


def test_batches_and_the_whole_set_have_different_winners():
    data = made()

    of_batches = train(job_of(data, HighestLoss(ratio=40)))
    of_all = train(job_of(data, HighestLoss(ratio=40, sample_then_batch=True)))

    assert not same(of_batches, of_all)
    # 6 of each batch of 16, and 2 of the last, of 6.
    assert vars(of_batches.facts.downsampled) == {"scored": 450, "trained": 3 * (9 * 6 + 2)}


def test_what_looks_at_nothing_scores_nothing():
    facts = train(job_of(made(), Blind(ratio=50, sample_then_batch=True))).facts

    assert vars(facts.downsampled) == {"scored": 0, "trained": 225}
    assert train(job_of(made(), None)).facts.downsampled is None


@pytest.mark.parametrize("kind", [HighestLoss, HighestLossAtOnce, Blind])
def test_balance_gives_every_class_its_share(kind):
    data = made()
    rare = np.flatnonzero(data.labels == 2)[1:]  # one sample of class 2 is left
    data = part_of(data, np.setdiff1d(np.arange(COUNT), rare))
    job = job_of(data, kind(ratio=30, sample_then_batch=True, balance=True, period=0))

    train(job)

    classes, counts = np.unique(data.labels, return_counts=True)
    chosen = data.labels[np.searchsorted(data.keys, job.pool.trained[0])]
    assert {c: int((chosen == c).sum()) for c in classes.tolist()} == {
        c: max(int(n) * 30 // 100, 1) for c, n in zip(classes.tolist(), counts, strict=True)
    }


@pytest.mark.parametrize("pool_samples", [1, 7, 40, 150, 151])
def test_a_large_set_is_chosen_from_block_by_block(pool_samples):
    seen: list[tuple[int, int, int]] = []

    class Noting(HighestLossAtOnce):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            seen.append((len(pool), count, context.step))
            return super().choose(pool, count, context)

    noting = Noting(ratio=33, sample_then_batch=True, period=0, pool_samples=pool_samples)
    job = job_of(made(), noting)

    train(job)

    sizes, counts, steps = zip(*seen, strict=True)
    assert sum(counts) == 49 == len(job.pool.trained[0])
    assert max(sizes) <= pool_samples
    assert max(sizes) - min(sizes) <= 1
    assert list(steps) == list(range(len(steps)))


def test_choose_after_score_sees_scores_alone():
    class Curious(HighestLoss):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            assert pool.scores.shape == (len(pool),)
            assert pool.labels.shape == (len(pool),)
            return Chosen(pool.losses.argsort()[:count])

    with pytest.raises(ValueError, match="this pool has no losses: name them in needs"):
        train(job_of(made(), Curious(ratio=50)))


# Weights ----------------------------------------------------------------------------------------


class Weighing(Downsampler):
    """Keeps the lowest keys, and weighs each by its key."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        rows = np.argsort(pool.keys)[:count]
        return Chosen(rows, pool.keys[rows] / 100.0)


@pytest.mark.parametrize("stb", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_weights_reach_the_loss(stb, own, normalise):
    data = made(count=SIZE, weights=own)
    weighing = Weighing(ratio=50, sample_then_batch=stb, normalise=normalise)
    frozen = Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.0}),))
    job = job_of(
        data,
        weighing,
        epochs_per_trigger=2,
        optimizers=(frozen,),
        record_loss_every=1,
    )

    stored = train(job)

    kept = part_of(data, np.arange(8))
    model = nn.Linear(3, 3)
    model.load_state_dict(stored.weights)
    losses = nn.functional.cross_entropy(
        model(torch.from_numpy(kept.x)), torch.from_numpy(kept.labels), reduction="none"
    )
    losses = losses.detach().double().numpy()
    factors = kept.keys / 100.0
    weights = np.ones(8) if kept.weights is None else kept.weights
    below = (factors * weights).sum() if normalise else weights.sum()
    expected = (factors * weights * losses).sum() / below
    found = [loss for _, loss in stored.facts.losses]
    batches = [expected, expected] if stb else [expected]  # two halves make a batch
    assert found == pytest.approx(batches, rel=1e-5)


def test_a_class_counts_as_much_as_it_has_samples_whatever_is_chosen_of_it():
    class Halves(Downsampler):
        needs = ()

        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(np.arange(count), np.full(count, 0.5))

    class Noting(ArraySamples):
        def to_train(self, keys: np.ndarray, weights: np.ndarray | None) -> ArrayBatches:
            noted.append(weights)
            return super().to_train(keys, weights)

    noted: list[np.ndarray | None] = []
    data = replace(made(count=14), labels=np.array([0] * 10 + [1] * 3 + [2]))
    halves = Halves(ratio=25, sample_then_batch=True, balance=True, period=0)

    train(job_of(data, halves, pool=Noting(data)))

    # 2 of 10 samples, 1 of 3 and 1 of 1; a sample chosen stands for 14 / 4 of them in the mean.
    assert noted[0] == pytest.approx(0.5 * np.array([5, 5, 3, 1]) / 3.5)


def test_weights_of_one_are_none():
    class Ones(Multiples):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(super().choose(pool, count, context).rows, torch.ones(count))

    data = made()

    assert same(train(job_of(data, Ones(ratio=50))), train(job_of(data, Multiples(ratio=50))))


def test_a_sample_that_is_chosen_twice_counts_twice():
    class Twice(Downsampler):
        needs = ()

        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(np.repeat(np.arange(count // 2), 2))

    class Once(Multiples):
        exact = False

        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            return Chosen(np.arange(count // 2), np.full(count // 2, 1.0))

    data = made(count=32)
    settings = {"batch_size": 32, "epochs_per_trigger": 1}

    twice = train(job_of(data, Twice(ratio=50, sample_then_batch=True), **settings))
    once = train(job_of(data, Once(ratio=50, sample_then_batch=True), **settings))

    for name, value in twice.weights.items():
        assert torch.allclose(value, once.weights[name], atol=1e-6)


# What the model says ----------------------------------------------------------------------------


def pool_of(model: nn.Module, needs: tuple[str, ...], criterion: str = "CrossEntropyLoss") -> Any:
    """Return the pool of the first batch of a training, and that batch."""
    found: list[Any] = []

    class Looking(Downsampler):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            found.append(pool)
            return Chosen(np.arange(count))

    Looking.needs = needs  # type: ignore[assignment]
    data = made(count=SIZE)
    settings = Criterion(name=criterion)
    train(
        job_of(
            data, Looking(), epochs_per_trigger=1, optimization_criterion=settings,
            make_model=lambda: model,
        )
    )  # fmt: skip
    return found[0]


@pytest.mark.parametrize("criterion", ["CrossEntropyLoss", "MultiMarginLoss", "MSELoss"])
def test_a_pool_has_what_the_model_says_in_eval_mode(criterion):
    model = nn.Sequential(
        nn.Linear(3, 5), nn.Dropout(0.9), nn.Linear(5, 1 if criterion == "MSELoss" else 3)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}

    pool = pool_of(model, ("outputs", "losses", "gradients", "embeddings"), criterion)

    model.load_state_dict(before)
    model.eval()
    rows = np.searchsorted(made(count=SIZE).keys, pool.keys)
    x = torch.from_numpy(made(count=SIZE).x[rows])
    labels = torch.from_numpy(made(count=SIZE).labels[rows])
    outputs = model(x).detach()
    outputs = outputs[:, 0] if criterion == "MSELoss" else outputs
    leaf = outputs.clone().requires_grad_()
    target = labels.float() if criterion == "MSELoss" else labels
    losses = getattr(nn, criterion)(reduction="none")(leaf, target)
    (gradients,) = torch.autograd.grad(losses.sum(), leaf)
    assert torch.equal(pool.labels, labels)
    assert torch.allclose(pool.outputs, outputs)
    assert torch.allclose(pool.losses, losses.detach())
    assert torch.allclose(pool.gradients, gradients.reshape(SIZE, -1), atol=1e-6)
    assert torch.allclose(pool.embeddings, model[0](x).detach())
    for name in ("outputs", "losses", "gradients", "embeddings"):
        assert not getattr(pool, name).requires_grad
    with pytest.raises(ValueError, match="no irreducible_losses"):
        _ = pool.irreducible_losses


class Headed(nn.Module):
    """Its last linear layer is none of the last ones in its list of modules."""

    def __init__(self, *, says: bool) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Linear(3, 4)
        if says:
            self.get_last_layer = lambda: self.body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x))
        return out


@pytest.mark.parametrize(("says", "width"), [(False, 4), (True, 3)])
def test_embeddings_go_into_the_last_layer_that_runs_or_that_the_model_names(says, width):
    model = Headed(says=says)

    pool = pool_of(model, ("embeddings",))

    assert tuple(pool.embeddings.shape) == (SIZE, width)
    assert not model.head._forward_pre_hooks
    assert not model.body._forward_pre_hooks


def test_embeddings_of_a_model_without_linear_layers_are_refused():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.eye(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.matrix

    with pytest.raises(ValueError, match=r"get_last_layer\(\)"):
        pool_of(Plain(), ("embeddings",))


def test_a_model_that_draws_even_in_eval_mode_trains_with_the_same_draws():
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(self.layer(x), 0.5, training=True)

    data = made()

    plain = train(job_of(data, None, make_model=Drawing))
    scored = train(job_of(data, HighestLoss(), make_model=Drawing))

    assert same(plain, scored)


def test_each_module_is_in_the_mode_it_was_in():
    model = Noisy()
    model.layers[1].eval()

    def fail() -> None:
        assert not any(module.training for module in model.modules())
        raise RuntimeError

    with pytest.raises(RuntimeError), evaluating(model):
        fail()

    assert [module.training for module in model.layers] == [True, False, True, True, True]
    assert model.training


def test_a_model_with_a_mode_of_its_own_is_told():
    class Merging(nn.Linear):
        merged = False

        def train(self, mode: bool = True) -> Any:
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merging(3, 3), nn.Dropout()).train()

    with evaluating(model):
        assert model[0].merged
        assert not model[1].training

    assert not model[0].merged
    assert model[1].training


def test_the_history_is_what_training_said_last():
    data = made(count=40)
    found: list[dict[str, np.ndarray]] = []

    class Remembering(Downsampler):
        needs = ("history",)

        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            found.append({"keys": pool.keys, **pool.history})
            return Chosen(np.arange(count), np.full(count, 3.0))

    @dataclass
    class Presented(Seen):
        losses: dict[int, float] = field(default_factory=dict)
        right: dict[int, list[bool]] = field(default_factory=dict)

        def batch(self, first: Any, *rest: Any) -> None:
            if len(rest) == 3:
                output, labels, each = rest
                with torch.no_grad():
                    losses = each(output, labels).tolist()
                right = (output.argmax(dim=1) == labels).tolist()
                for key, loss, one in zip(first.keys.tolist(), losses, right, strict=True):
                    self.losses[key] = loss
                    self.right.setdefault(key, []).append(one)

    remembering = Remembering(ratio=50, sample_then_batch=True)
    presented = Presented()
    frozen = Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 1.0}),))

    train(job_of(data, remembering, epochs_per_trigger=9, optimizers=(frozen,)), observer=presented)

    assert np.isnan(found[0]["losses"]).all()
    assert (found[0]["forgetting"] == NEVER_LEARNED).all()
    last = found[-1]
    trained = ~np.isnan(last["losses"])
    assert trained.tolist() == [True] * 20 + [False] * 20
    forgotten = []
    for key in last["keys"][:20].tolist():
        course = presented.right[key][:8]
        events = sum(a and not b for a, b in pairwise(course))
        forgotten.append(events if any(course) else NEVER_LEARNED)
    assert last["forgetting"][:20].tolist() == forgotten
    assert len(set(forgotten)) > 1
    assert last["losses"].dtype == np.float64


def test_irreducible_losses_are_those_of_the_job():
    data = made()

    class Reducible(Downsampler):
        needs = ("losses", "irreducible_losses")

        def score(self, pool: Any) -> torch.Tensor:
            assert pool.irreducible_losses.tolist() == (pool.keys.astype(np.float32)).tolist()
            return pool.losses - pool.irreducible_losses

    by_key = job_of(data, Reducible(ratio=50), irreducible=lambda keys: keys.astype(np.float32))

    train(by_key)

    with pytest.raises(ValueError, match="the job has none"):
        train(replace(by_key, irreducible=None))


def test_private_state_lasts_for_one_training():
    class Counting(Multiples):
        def choose(self, pool: Any, count: int, context: Any) -> Chosen:
            self._calls = getattr(self, "_calls", 0) + 1
            calls.append(self._calls)
            return super().choose(pool, count, context)

    calls: list[int] = []
    counting = Counting(ratio=50)
    job = job_of(made(), counting, epochs_per_trigger=1)

    train(job)
    train(job)

    assert calls == [*range(1, 11), *range(1, 11)]
    assert not hasattr(counting, "_calls")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Chosen([0, 99]), "Wrong chose a row that is none of the 16 of the pool: 99"),
        (Chosen([-1, 2]), "Wrong chose a row that is none of the 16"),
        (Chosen([0]), "Wrong chose 1 of 16 samples, and was asked for 2"),
        (Chosen([]), "Wrong must choose rows of the pool"),
        (Chosen([0.5, 1.5]), "Wrong must choose rows of the pool, integers"),
        ([0, 1], r"Wrong.choose must return Chosen\(rows, weights\), got \[0, 1\]"),
        (Chosen([0, 1], [1.0]), "Wrong chose 2 rows and gave weights of shape"),
        (Chosen([0, 1], [1.0, -0.5]), "Wrong gave the weight -0.5"),
        (Chosen([0, 1], [np.nan, 1.0]), "Wrong gave the weight nan"),
    ],
)
def test_a_wrong_answer_is_refused(answer, message):
    class Wrong(Downsampler):
        needs = ()

        def choose(self, pool: Any, count: int, context: Any) -> Any:
            return answer

    with pytest.raises((TypeError, ValueError), match=message):
        train(job_of(made(), Wrong(ratio=16)))


def test_a_score_that_is_no_row_of_numbers_is_refused():
    class Wrong(Downsampler):
        needs = ("outputs",)

        def score(self, pool: Any) -> torch.Tensor:
            return pool.outputs

    with pytest.raises(TypeError, match=r"Wrong.score must return a tensor of shape \(16,\)"):
        train(job_of(made(), Wrong(ratio=50)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0}, "ratio must be at least 1, got 0"),
        ({"ratio": 101}, "ratio must be from 0 to ratio_max"),
        ({"ratio": 0.5}, "ratio must be an int"),
        ({"period": -1, "sample_then_batch": True}, "period must be at least 0"),
        ({"pool_samples": 0}, "pool_samples must be at least 1"),
        ({"balance": True}, "balance needs sample_then_batch"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        HighestLoss(**settings)


def test_needs_that_there_are_not_are_refused():
    class Wishful(Downsampler):
        needs = ("wisdom",)

    with pytest.raises(ValueError, match=r"needs must be of outputs, .*, got 'wisdom'"):
        Wishful()


@pytest.mark.parametrize("thresholds", [[], [1, 2, 3], [5, 5], [7, 2], [0, 3]])
def test_thresholds_ascend_and_are_one_fewer(thresholds):
    with pytest.raises(ValueError, match="threshold"):
        Schedule(downsamplers=[Blind(), None, HighestLoss()], thresholds=thresholds)
