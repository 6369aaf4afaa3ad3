"""What downsamplers are told of a model: what a forward pass says, and nothing is learned by it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modyn.downsampling import Chosen, Downsampler, Schedule
from modyn.pipelines.scoring import evaluating
from modyn.pipelines.settings import Criterion, Optimizer, ParamGroup
from modyn.pipelines.train import train
from modyn.signals import NEVER_LEARNED
from tests.python.downsample_jobs import (
    SIZE,
    Blind,
    HighestLoss,
    Multiples,
    Noisy,
    Seen,
    job_of,
    made,
    same,
)


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
