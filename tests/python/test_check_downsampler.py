"""The check of downsamplers: it passes what keeps its promises, and says what else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modyn.downsampling import Chosen, Downsampler
from modyn.downsampling.checks import ArrayPool, check_downsampler, example_pool
from modyn.policies import Random
from modyn.policies.checks import CheckError, check_selection

SHARED = np.random.default_rng(1)


class Sound(Downsampler):
    needs = ("losses", "history")

    def score(self, pool: Any) -> torch.Tensor:
        return pool.losses

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        rows = context.random().permutation(len(pool))[:count]
        return Chosen(rows, pool.scores[torch.from_numpy(rows)] + 1.0)


class Remembering(Downsampler):
    """Keeps in private what lasts over one training."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        self._calls = getattr(self, "_calls", 0) + 1
        return Chosen((np.arange(count) + self._calls) % len(pool))


@pytest.mark.parametrize("check", [check_downsampler, check_selection])
@pytest.mark.parametrize("given", [Sound, Sound(ratio=50), Remembering])
def test_what_keeps_its_promises_passes_either_check(check, given):
    check(given)


def test_a_selection_is_still_checked_as_one():
    check_selection(Random(ratio=20))


class Neither(Downsampler):
    pass


class TooMany(Downsampler):
    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(np.arange(min(count + 1, len(pool))))


class Greedy(Sound):
    """Looks at what it does not need."""

    def score(self, pool: Any) -> torch.Tensor:
        return pool.outputs[:, 0]


class Writing(Sound):
    def score(self, pool: Any) -> torch.Tensor:
        return pool.losses.mul_(2.0)


class OfTheOthers(Downsampler):
    needs = ("losses",)

    def score(self, pool: Any) -> torch.Tensor:
        return pool.losses - pool.losses.mean()


class Shared(Downsampler):
    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(SHARED.permutation(len(pool))[:count])


class TorchDrawing(Downsampler):
    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(torch.randperm(len(pool))[:count])


class Public(Downsampler):
    needs = ()
    calls = 0

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        self.calls += 1
        return Chosen(np.arange(count))


class Opening(Sound):
    def __init__(self, *, ratio: int = 50) -> None:
        super().__init__(ratio=ratio)
        Path(__file__).read_text()


class Forgetful(Sound):
    def __init__(self, *, taste: int = 3) -> None:
        super().__init__()


class Negative(Downsampler):
    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(np.arange(count), np.full(count, -1.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Neither, r"it defines neither score\(\) nor choose\(\)"),
        (TooMany, "TooMany chose 2 of 60 samples, and was asked for 1"),
        (Greedy, "this pool has no outputs: name them in needs"),
        (Writing, "it changed the pool"),
        (OfTheOthers, "its scores of seven samples at a time are not those"),
        (Shared, "two runs over the same stream with the same seed differ"),
        (TorchDrawing, "it drew from torch's own generator"),
        (Public, "its attribute calls changed while it ran"),
        (Opening, "its constructor opens a file"),
        (Forgetful, "its constructor takes taste but does not keep it"),
        (Negative, "Negative gave the weight -1.0"),
        (Random(ratio=5), "it is no Downsampler"),
    ],
)
def test_what_breaks_a_promise_is_named(wrong, message):
    with pytest.raises(CheckError, match=message):
        check_downsampler(wrong)


def test_pools_are_of_one_length_and_can_be_cut_and_joined():
    pool = example_pool(10)

    again = ArrayPool.joined([pool.part(0, 4), pool.part(4, 10)])

    assert again.same(pool)
    assert not again.same(pool.part(0, 9))
    with pytest.raises(ValueError, match="losses has 2 rows, keys has 3"):
        ArrayPool(keys=[1, 2, 3], losses=[0.5, 0.5])
    with pytest.raises(ValueError, match="no history"):
        _ = pool.only(["losses"]).history
