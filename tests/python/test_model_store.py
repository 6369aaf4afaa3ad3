"""The model store: a model is whole, or it is not there."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from modyn.errors import CorruptError
from modyn.pipelines.models import Facts, ModelStore, Recipe, StoredModel

RECIPE = Recipe(
    parent=None, training_set="ab", training={"a": 1}, model={"id": "m"}, seed=3, dataset="d"
)


def stored(seed: int = 0) -> StoredModel:
    generator = torch.Generator().manual_seed(seed)
    weights = {
        "w": torch.randn(3, 2, generator=generator),
        "half": torch.randn(4, generator=generator).half(),
        "steps": torch.tensor(7),
        "turned": torch.randn(2, 3, generator=generator).T,
    }
    facts = Facts(epochs=1, batches=2, samples=3, final_loss=0.1, losses=[(0, 0.5), (2, None)])
    return StoredModel(weights=weights, optimizer={"0/0/step": torch.tensor(2.0)}, facts=facts)


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "models")


def test_a_model_is_read_back_bit_for_bit(store):
    key = store.put(RECIPE, stored())

    found = store.load(key)

    assert key == RECIPE.key()
    assert key in store
    assert found.facts == stored().facts == store.facts(key)
    for mine, other in ((stored().weights, found.weights), (stored().optimizer, found.optimizer)):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)
        assert all(mine[name].dtype == other[name].dtype for name in mine)


def test_storing_again_and_loading_change_nothing(store):
    key = store.put(RECIPE, stored())
    files = {path: path.read_bytes() for path in store.directory.rglob("*") if path.is_file()}

    store.put(RECIPE, stored(seed=1))
    store.load(key)

    assert {p: p.read_bytes() for p in store.directory.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize(
    "change",
    [
        {"parent": "x"},
        {"training_set": "ac"},
        {"training": {"a": 2}},
        {"model": {"id": "n"}},
        {"seed": 4},
        {"dataset": "e"},
    ],
)
def test_the_key_covers_all_that_decides_a_training(change):
    other = replace(RECIPE, **change)

    assert other.key() != RECIPE.key()


@pytest.mark.parametrize(
    ("change", "choice", "same"),
    [
        ({"training": {"a": 2}}, "c", False),
        ({"model": {"id": "n"}}, "c", False),
        ({"seed": 4}, "c", False),
        ({}, "d", False),
        # A copy of the dataset has another uuid, and so have its training sets and models.
        ({"dataset": "e", "training_set": "ac", "parent": "x"}, "c", True),
        # Trainings with and without downsampling begin alike.
        ({"training": {"a": 1, "downsampling": {"strategy": "Loss"}}}, "c", True),
    ],
)
def test_the_seed_of_a_training_is_that_of_its_choice_in_any_copy(change, choice, same):
    seed = replace(RECIPE, **change).draw(choice)

    assert (seed == RECIPE.draw("c")) == same
    assert 0 <= seed < 2**63


def test_a_damaged_model_is_a_named_error_and_stays(store):
    key = store.put(RECIPE, stored())
    for name in ("weights.safetensors", "optimizer.safetensors", "model.json"):
        path = store.directory / key / name
        whole = path.read_bytes()
        places = range(0, len(whole), max(len(whole) // 40, 1))
        for damaged in [*(flipped(whole, at) for at in places), whole[:-1], b"", b"[" * 10_000]:
            path.write_bytes(damaged)
            with pytest.raises(CorruptError, match=name):
                store.load(key)
            assert path.read_bytes() == damaged
        path.unlink()
        with pytest.raises(CorruptError, match=f"{name}: the file is missing"):
            store.load(key)
        path.write_bytes(whole)

    assert store.load(key).facts == stored().facts


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_model_that_is_not_there_is_a_key_error(store):
    with pytest.raises(KeyError, match="no model"):
        store.load(RECIPE.key())


def test_a_model_under_a_wrong_key_is_refused(store):
    key = store.put(RECIPE, stored())
    shutil.copytree(store.directory / key, store.directory / ("0" * 64))

    with pytest.raises(CorruptError, match=f"describes the model {key}, not 0000"):
        store.load("0" * 64)


def test_what_a_killed_process_was_writing_is_cleaned_and_never_read(store):
    store.directory.mkdir()
    left = store.directory / f".tmp-{RECIPE.key()}"
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"half")

    assert RECIPE.key() not in store
    store.put(RECIPE, stored())
    left.mkdir()
    store.clean()

    assert [path.name for path in store.directory.iterdir()] == [RECIPE.key()]
