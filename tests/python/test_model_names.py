"""The built-in model, and how models are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from modyn.errors import ConfigError
from modyn.models.mlp import MLP
from modyn.pipelines.build import fitted, maker, model_of
from modyn.pipelines.models import Recipe
from modyn.pipelines.settings import (
    LrScheduler,
    Model,
    Training,
    describe,
)
from modyn.pipelines.train import train
from tests.python.training_jobs import ArrayBatches, job, linear, same, two_blobs


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
    assert model_of(linear).id == f"{linear.__module__}:linear"
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
