"""RHO-LOSS: what is held out, who learns from it, and what its losses are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import modyn
from modyn.downsampling import Context
from modyn.downsampling.rho import RHOLoss
from modyn.pipelines import Model, Training
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.holdout import split
from modyn.pipelines.irreducible import Irreducible, Place, completed
from modyn.pipelines.models import ModelStore
from modyn.pipelines.sharing import Sharing
from modyn.trainset import TrainingSet
from tests.python.streams import drifting, sgd

MODEL = Model(id="MLP", config={"num_classes": 2, "num_features": 4, "hidden": [8]})
TRAINING = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd())


def training_set(folder: Path, keys: Any, weighted: bool = False) -> TrainingSet:
    keys = np.asarray(keys, dtype=np.uint64)
    return TrainingSet.write(folder, keys, keys + 0.5 if weighted else None)


def place(
    folder: Path, dataset: modyn.Dataset, rho: RHOLoss | None = None, **changes: Any
) -> Place:
    (folder / "trainsets").mkdir(exist_ok=True)
    store = ModelStore(folder / "models")
    settings: dict[str, Any] = {
        "dataset": dataset,
        "training": TRAINING,
        "seed": 3,
        "allow": (),
        "store": store,
        "claim": Sharing(store, None, lambda: None).claim,
        "trainsets": folder / "trainsets",
        "losses": folder / "irreducible",
        "rho_at": lambda trigger: rho,
        "chosen_at": lambda trigger: pytest.fail("nobody asks for earlier triggers"),
        **changes,
    }
    return Place(**settings)


# What is held out --------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "most", "held"), [(30, 100, 300), (1, 3, 334), (7, 1000, 7)])
def test_a_holdout_has_its_size_and_is_no_part_of_the_main_set(tmp_path, rand, ratio, most, held):
    keys = np.sort(rand.numpy.choice(50_000, 1002, replace=False))
    rho = RHOLoss(holdout_set_ratio=ratio, holdout_set_ratio_max=most)

    parts = split(training_set(tmp_path, keys), rho, 5, tmp_path)

    (holdout,) = parts.holdouts
    assert len(holdout) == held
    assert np.array_equal(np.union1d(holdout.keys, parts.main.keys), keys)
    assert len(parts.main) == 1002 - held


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 1001])
def test_twins_halve_the_training_set_and_an_odd_sample_is_in_neither(tmp_path, count):
    rho = RHOLoss(holdout_set_strategy="Twin", holdout_set_ratio=1, holdout_set_ratio_max=2)
    chosen = training_set(tmp_path, np.arange(count))

    parts = split(chosen, rho, 5, tmp_path)

    assert parts.main == chosen
    assert [len(half) for half in parts.holdouts] == [count // 2] * (2 if count > 1 else 0)
    if count > 1:
        first, second = parts.holdouts
        assert len(np.union1d(first.keys, second.keys)) == 2 * (count // 2)


def test_parts_keep_their_weights(tmp_path):
    rho = RHOLoss(holdout_set_ratio=40)

    parts = split(training_set(tmp_path, np.arange(100), weighted=True), rho, 5, tmp_path)

    for part in (parts.main, *parts.holdouts):
        assert part.weights is not None
        assert np.array_equal(part.weights, part.keys + 0.5)


def test_what_is_held_out_depends_on_the_seed_and_nothing_else(tmp_path):
    rho = RHOLoss(holdout_set_ratio=30)
    chosen = training_set(tmp_path, np.arange(1000))

    one, again, other = (split(chosen, rho, seed, tmp_path) for seed in (1, 1, 2))

    assert one.main == again.main
    assert one.main != other.main


def test_every_sample_is_held_out_as_often_as_any_other(tmp_path):
    rho = RHOLoss(holdout_set_ratio=25)
    chosen = training_set(tmp_path, np.arange(40))
    held = np.zeros(40)

    for seed in range(100):
        held[split(chosen, rho, seed, tmp_path).holdouts[0].keys] += 1

    # Without replacement the counts vary less than binomial ones, by 30 in 39.
    chi2 = ((held - 25) ** 2 / (25 * 0.75)).sum() * 39 / 40
    assert chi2 < 80  # 39 degrees of freedom: p > 1e-4


def test_a_sample_that_two_triggers_choose_is_held_out_by_both_or_none(tmp_path):
    rho = RHOLoss(holdout_set_ratio=30)

    one = split(training_set(tmp_path, np.arange(2000)), rho, 1, tmp_path)
    other = split(training_set(tmp_path, np.arange(1000, 3000)), rho, 1, tmp_path)

    moved = np.isin(one.holdouts[0].keys, other.main.keys)
    assert moved.sum() < 40  # an independent draw would move 210
    assert np.isin(one.holdouts[0].keys, other.holdouts[0].keys).sum() > 250


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"holdout_set_ratio": 101}, "holdout_set_ratio must be from 0 to 100, got 101"),
        ({"holdout_set_ratio": -1}, "holdout_set_ratio must be from 0 to 100, got -1"),
        ({"holdout_set_ratio": 100}, "holdout_set_ratio 100 of 100 leaves nothing to train on"),
        ({"holdout_set_ratio": 0, "holdout_set_ratio_max": 0}, "ratio_max must be at least 1"),
        ({"holdout_set_ratio": 0.3}, "holdout_set_ratio must be an int, got 0.3"),
        (
            {"holdout_set_ratio": 49, "holdout_set_strategy": "Twin"},
            "one half of holdout_set_ratio_max with Twin, got 49 of 100",
        ),
        (
            {"holdout_set_ratio": 50, "holdout_set_strategy": "Triple"},
            "holdout_set_strategy must be 'Simple' or 'Twin', got 'Triple'",
        ),
    ],
)
def test_shares_that_are_not_possible_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RHOLoss(**settings)


# Scores ------------------------------------------------------------------------------------------


def pool(losses: Any, irreducible: Any) -> Any:
    """A pool of given losses, keys descending."""
    count = len(losses)
    made = SimpleNamespace(
        keys=np.arange(count, 0, -1).astype(np.uint64),
        losses=torch.tensor(losses),
        irreducible_losses=torch.tensor(irreducible),
    )
    made.scores = RHOLoss(holdout_set_ratio=10).score(made)
    return made


def test_with_the_model_itself_as_il_model_all_scores_are_0_and_keys_decide():
    losses = [0.5, 0.1, 3.0, 0.7]

    them = pool(losses, losses)
    chosen = RHOLoss(holdout_set_ratio=10).choose(them, 2, Context())

    assert them.scores.tolist() == [0.0] * 4
    assert them.keys[chosen.rows].tolist() == [2, 1]


def test_a_noisy_label_is_not_worth_its_loss():
    them = pool([0.1, 2.5, 1.5, 2.0], [0.1, 2.4, 0.2, 0.3])

    chosen = RHOLoss(holdout_set_ratio=10).choose(them, 2, Context())

    assert chosen.rows.tolist() == [2, 3]  # plain loss takes 1, whose label nobody would guess


def test_noisy_labels_rank_lower_than_by_loss_alone(tmp_path):
    random = np.random.default_rng(7)
    x = random.normal(size=(1500, 4)).astype(np.float32)
    noisy = random.random(1500) < 0.15
    labels = (x[:, 0] > 0) ^ noisy
    with modyn.Dataset.create(tmp_path / "noisy", schema={"dense": "float32[4]"}) as dataset:
        dataset.append({"dense": x}, labels=labels.astype(np.int64), timestamps=np.arange(1500))
    dataset = modyn.Dataset.open(tmp_path / "noisy")
    longer = replace(TRAINING, epochs_per_trigger=8)
    rho = completed(RHOLoss(holdout_set_ratio=40, il_training=longer), MODEL, TRAINING, dataset)
    run = place(tmp_path, dataset, rho)
    irreducible = Irreducible(run)
    plan = irreducible.plan(0, training_set(run.trainsets, np.arange(1500)))
    # What the model is early on: it learned a little from the rest.
    slow = replace(TRAINING, epochs_per_trigger=1, optimizers=sgd(lr=0.04))
    early = completed(RHOLoss(holdout_set_ratio=40, il_training=slow), MODEL, TRAINING, dataset)
    learner = Irreducible(place(tmp_path, dataset, early))
    model = learner.plan(0, plan.main)
    learner.losses(model, None, Stopwatch())

    loss = losses_by_hand(run, model.keys[0], plan.main.keys)
    scores = loss - irreducible.losses(plan, None, Stopwatch())(plan.main.keys)

    wrong = noisy[plan.main.keys]
    by_loss, by_score = (np.argsort(np.argsort(values))[wrong].mean() for values in (loss, scores))
    assert by_loss > 0.7 * len(plan.main)
    assert by_score < 0.2 * len(plan.main)


# IL models ---------------------------------------------------------------------------------------


def losses_by_hand(run: Place, key: str, keys: Any) -> np.ndarray:
    """Plain torch: the cross entropy of a stored model, in eval mode."""
    from modyn.models.mlp import MLP

    model = MLP(**MODEL.config)
    model.load_state_dict(run.store.load(key).weights)
    model.eval()
    keys = np.asarray(keys, dtype=np.uint64)
    with torch.no_grad():
        output = model(torch.from_numpy(run.dataset.fetch(keys)["dense"]))
    labels = torch.from_numpy(np.array(run.dataset.labels[keys]))
    return torch.nn.functional.cross_entropy(output, labels, reduction="none").numpy()


def test_irreducible_losses_are_those_of_the_model_of_the_holdout(tmp_path):
    dataset = drifting(tmp_path / "stream")
    rho = completed(RHOLoss(holdout_set_ratio=30), MODEL, TRAINING, dataset)
    run = place(tmp_path, dataset, rho)
    irreducible = Irreducible(run)

    plan = irreducible.plan(0, training_set(run.trainsets, np.arange(200, 500)))
    losses = irreducible.losses(plan, None, Stopwatch())

    assert len(plan.main) == 210
    assert plan.recipes[0].training_set == plan.holdouts[0].digest
    shuffled = np.random.default_rng(1).permutation(plan.main.keys)
    assert np.allclose(losses(shuffled), losses_by_hand(run, plan.keys[0], shuffled), atol=1e-6)
    with pytest.raises(KeyError, match="has no irreducible loss"):
        losses(plan.holdouts[0].keys)


def test_a_twin_scores_the_half_that_it_did_not_see(tmp_path):
    dataset = drifting(tmp_path / "stream")
    twin = RHOLoss(holdout_set_strategy="Twin", holdout_set_ratio=50)
    run = place(tmp_path, dataset, completed(twin, MODEL, TRAINING, dataset))
    irreducible = Irreducible(run)

    plan = irreducible.plan(0, training_set(run.trainsets, np.arange(301)))
    losses = irreducible.losses(plan, None, Stopwatch())

    (one, other), (first, second) = plan.keys, plan.holdouts
    assert np.allclose(losses(second.keys), losses_by_hand(run, one, second.keys), atol=1e-6)
    assert np.allclose(losses(first.keys), losses_by_hand(run, other, first.keys), atol=1e-6)
    (left,) = np.setdiff1d(plan.main.keys, np.union1d(first.keys, second.keys))
    mean = (losses_by_hand(run, one, [left]) + losses_by_hand(run, other, [left])) / 2
    assert np.allclose(losses(np.array([left])), mean, atol=1e-6)


def test_without_a_holdout_irreducible_losses_are_0(tmp_path):
    dataset = drifting(tmp_path / "stream")
    rho = completed(RHOLoss(holdout_set_ratio=30), MODEL, TRAINING, dataset)
    run = place(tmp_path, dataset, rho)
    irreducible = Irreducible(run)

    plan = irreducible.plan(0, training_set(run.trainsets, [4, 9, 11]))

    assert plan.keys == []
    assert irreducible.losses(plan, None, Stopwatch())(plan.main.keys).tolist() == [0.0] * 3
    assert not run.store.directory.exists()


def test_an_il_model_is_trained_once_and_its_losses_are_worked_out_once(tmp_path):
    dataset = drifting(tmp_path / "stream")
    rho = completed(RHOLoss(holdout_set_ratio=30), MODEL, TRAINING, dataset)
    run = place(tmp_path, dataset, rho)
    chosen = training_set(run.trainsets, np.arange(300))

    def files() -> dict[str, int]:
        return {
            path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()
        }

    plan = Irreducible(run).plan(0, chosen)
    first = Irreducible(run).losses(plan, None, Stopwatch())(plan.main.keys)
    before = files()
    other = Irreducible(run)
    again = other.losses(other.plan(0, chosen), None, Stopwatch())(plan.main.keys)

    assert np.array_equal(first, again)
    assert files() == before


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_losses_are_worked_out_again(tmp_path, damage):
    dataset = drifting(tmp_path / "stream")
    rho = completed(RHOLoss(holdout_set_ratio=30), MODEL, TRAINING, dataset)
    run = place(tmp_path, dataset, rho)
    irreducible = Irreducible(run)
    plan = irreducible.plan(0, training_set(run.trainsets, np.arange(300)))
    expected = irreducible.losses(plan, None, Stopwatch())(plan.main.keys)

    (path,) = run.losses.iterdir()
    content = bytearray(path.read_bytes())
    content[7] ^= 64
    path.write_bytes(content[:-40] if damage == "cut" else content)
    found = irreducible.losses(plan, None, Stopwatch())(plan.main.keys)

    assert np.array_equal(found, expected)


def test_only_the_newest_losses_are_kept(tmp_path):
    dataset = drifting(tmp_path / "stream")
    rho = completed(RHOLoss(holdout_set_ratio=30), MODEL, TRAINING, dataset)
    run = place(tmp_path, dataset, rho)
    irreducible = Irreducible(run)

    for trigger, first in enumerate([0, 100, 200]):
        keys = np.arange(first, first + 200)
        plan = irreducible.plan(trigger, training_set(run.trainsets, keys))
        irreducible.losses(plan, None, Stopwatch())

    assert [path.stat().st_size for path in run.losses.iterdir()] == [140 * 4 + 32]


def test_il_models_go_on_from_those_before_where_their_training_says_so(tmp_path):
    dataset = drifting(tmp_path / "stream")
    going_on = replace(TRAINING, use_previous_model=True)
    rho = completed(RHOLoss(holdout_set_ratio=30, il_training=going_on), MODEL, TRAINING, dataset)
    (tmp_path / "trainsets").mkdir()
    sets = [
        training_set(tmp_path / "trainsets", np.arange(first, first + 200))
        for first in (0, 100, 200)
    ]
    run = place(
        tmp_path,
        dataset,
        rho_at=lambda trigger: None if trigger == 1 else rho,
        chosen_at=lambda trigger: sets[trigger],
    )

    one = Irreducible(run)
    plans = [one.plan(trigger, sets[trigger]) for trigger in (0, 2)]
    late = Irreducible(run)  # after a crash, in a place where no model is
    plan = late.plan(2, sets[2])
    late.losses(plan, None, Stopwatch())

    assert plans[0].recipes[0].parent is None
    assert plans[1].recipes[0].parent == plans[0].keys[0]
    assert plan.keys == plans[1].keys
    assert {plans[0].keys[0], plan.keys[0]} == {p.name for p in run.store.directory.iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples_to_pass": (5,)}, "il_training: num_samples_to_pass is not for the model"),
        ({"signals": ("loss",)}, "il_training: signals is not for the model of a holdout"),
    ],
)
def test_a_training_of_another_kind_is_refused(tmp_path, change, message):
    dataset = drifting(tmp_path / "stream")
    rho = RHOLoss(holdout_set_ratio=30, il_training=replace(TRAINING, **change))

    with pytest.raises(ValueError, match=message):
        completed(rho, MODEL, TRAINING, dataset)
