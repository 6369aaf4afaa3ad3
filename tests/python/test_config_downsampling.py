"""downsampling_config: each strategy of a file, its keys, its rules, and the way back to a file."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from modyn import downsampling
from modyn.downsampling import Downsampler, RHOLoss, Schedule
from modyn.errors import ConfigError
from modyn.pipelines import Pipeline, config, strict_yaml
from modyn.pipelines.dump_downsampling import section
from modyn.pipelines.schema_downsampling import STRATEGIES
from modyn.pipelines.settings import Criterion, Model, Optimizer, ParamGroup, Training
from modyn.pipelines.warmup import Warmup
from modyn.policies import NewData, Random
from tests.python.streams import drifting, pipeline

IL_TRAINING: dict[str, Any] = {
    "il_model_id": "MLP",
    "il_model_config": {"num_classes": 2, "hidden": [4]},
    "gpus": 1,
    "device": "cpu",
    "dataloader_workers": 2,
    "use_previous_model": False,
    "initial_model": "random",
    "batch_size": 16,
    "epochs_per_trigger": 3,
    "shuffle": True,
    "checkpointing": {"activated": False},
    "optimizers": [
        {
            "name": "default",
            "algorithm": "SGD",
            "source": "PyTorch",
            "param_groups": [{"module": "model", "config": {"lr": 0.1}}],
        }
    ],
    "optimization_criterion": {"name": "CrossEntropyLoss"},
}
RHO: dict[str, Any] = {
    "strategy": "RHOLoss",
    "ratio": 10,
    "holdout_set_strategy": "Simple",
    "holdout_set_ratio": 30,
    "il_training_config": IL_TRAINING,
}
# Each strategy with the keys that files of this kind have.
KNOWN: dict[str, dict[str, Any]] = {
    "Loss": {},
    "GradNorm": {},
    "Uncertainty": {"score_metric": "Margin", "balance": False},
    "KcenterGreedy": {"balance": False},
    "GradMatch": {"balance": False, "full_grad_approximation": "LastLayerWithEmbedding"},
    "Craig": {
        "selection_batch": 32,
        "balance": False,
        "greedy": "ApproximateLazyGreedy",
        "full_grad_approximation": "LastLayer",
    },
    "Submodular": {
        "submodular_function": "LogDeterminant",
        "submodular_optimizer": "StochasticGreedy",
        "selection_batch": 64,
        "balance": False,
        "full_grad_approximation": "LastLayer",
    },
    "RHOLoss": {k: v for k, v in RHO.items() if k not in ("strategy", "ratio")},
    "RS2": {"with_replacement": True, "sample_then_batch": True, "period": 1},
}


def file(downsampling_config: Any, **strategy: Any) -> bytes:
    values = {
        "pipeline": {"name": "tiny"},
        "model": {"id": "MLP", "config": {"num_classes": 2}},
        "training": {k: v for k, v in IL_TRAINING.items() if not k.startswith("il_")},
        "data": {"dataset_id": "clicks"},
        "trigger": {"id": "DataAmountTrigger", "num_samples": 100},
        "selection_strategy": {
            "name": "CoresetStrategy",
            "tail_triggers": 0,
            "downsampling_config": downsampling_config,
            **strategy,
        },
    }
    return json.dumps(values).encode()


def parsed(downsampling_config: Any) -> Downsampler | Schedule | None:
    return config.parse(file(downsampling_config)).downsampling


def refusal(downsampling_config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(downsampling_config)
    said = str(caught.value)
    assert all(line.startswith("pipeline.yaml: ") for line in said.splitlines())
    return said.replace("pipeline.yaml: selection_strategy.downsampling_config", "")


# What a section stands for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "nothing",
    [
        {"strategy": "No"},
        {"strategy": "No", "ratio": 100, "ratio_max": 100, "sample_then_batch": True, "period": 0},
    ],
)
def test_no_trains_on_everything(nothing):
    assert parsed(nothing) is None


def test_every_downsampler_is_a_strategy_of_a_file():
    them = {
        name
        for name in downsampling.__all__
        if isinstance(kind := getattr(downsampling, name), type) and issubclass(kind, Downsampler)
    }

    assert {*STRATEGIES, "RHOLoss"} == them - {"Downsampler"}


@pytest.mark.parametrize("name", KNOWN)
def test_a_section_becomes_the_class_of_its_name(name):
    values = {"strategy": name, "ratio": 25, "ratio_max": 200, **KNOWN[name]}

    found = parsed(values)

    assert type(found) is getattr(downsampling, name)
    assert (found.ratio, found.ratio_max) == (25, 200)
    for key, value in KNOWN[name].items():
        assert key == "il_training_config" or getattr(found, key) == value


@pytest.mark.parametrize("name", [*STRATEGIES])
def test_what_a_section_leaves_out_is_as_in_python(name):
    kind = STRATEGIES[name]
    needed = {k: v for k, v in KNOWN.get(name, {}).items() if k in required(kind)}
    values = {"ratio": 100, **needed}

    assert parsed({"strategy": name, **values}) == kind(**values)


def required(kind: type[Downsampler]) -> set[str]:
    from dataclasses import MISSING

    return {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}


@pytest.mark.parametrize("name", [*STRATEGIES])
def test_a_pipeline_of_python_is_a_file_again(name):
    kind = STRATEGIES[name]
    needed = {k: v for k, v in KNOWN.get(name, {}).items() if k in required(kind)}
    before = kind(ratio=50, ratio_max=300, pool_samples=77, **needed)

    assert parsed(section(before)) == before


def test_rho_loss_has_the_model_of_the_holdout_and_its_training():
    found = parsed(RHO)

    assert found == RHOLoss(
        ratio=10,
        holdout_set_strategy="Simple",
        holdout_set_ratio=30,
        il_model=Model(id="MLP", config={"num_classes": 2, "hidden": [4]}),
        il_training=Training(
            batch_size=16,
            epochs_per_trigger=3,
            drop_last_batch=False,
            optimizers=(
                Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.1}),)),
            ),
            optimization_criterion=Criterion(),
        ),
    )
    assert parsed(section(found)) == found


def test_a_list_holds_from_trigger_to_trigger():
    values = {
        "downsampling_list": [{"strategy": "No"}, RHO, {**RHO, "ratio": 20}],
        "downsampling_thresholds": [5, 10],
    }

    found = parsed(values)

    assert isinstance(found, Schedule)
    assert [getattr(found.at(trigger), "ratio", None) for trigger in (0, 4, 5, 9, 10)] == [
        *[None, None, 10, 10, 20]
    ]
    assert parsed(section(found)) == found


# Mistakes ----------------------------------------------------------------------------------------

STB = {"sample_then_batch": True}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "Nope"}, ": strategy 'Nope' is unknown; did you mean 'No'?"),
        ({"strategy": "RHO"}, ": strategy 'RHO' is unknown; did you mean 'RHOLoss'?"),
        ({"ratio": 10}, ": the key 'strategy' is required"),
        ({"strategy": "No", "ratio": 50}, ".ratio: strategy No trains on everything, which is 10"),
        ({**RHO, "ratio": 0}, ": ratio must be at least 1, got 0"),
        ({**RHO, "ratio": 101}, ": ratio must be from 0 to ratio_max (100), got 101"),
        ({**RHO, "ratio": "10"}, ".ratio: should be a valid integer, got '10'"),
        ({**RHO, "period": -1}, ": period must be at least 0, got -1"),
        ({**RHO, "balance": True}, ": balance needs sample_then_batch: a batch has too few of ea"),
        ({**RHO, "holdout_ratio": 3}, ".holdout_ratio: unknown key; did you mean 'holdout_set_ra"),
        ({**RHO, "holdout_set_strategy": "Both"}, ".holdout_set_strategy: should be 'Simple' or "),
        (
            {**RHO, "holdout_set_strategy": "Twin"},
            ": holdout_set_ratio must be one half of holdout_set_ratio_max with Twin, got 30 of 1",
        ),
        ({k: v for k, v in RHO.items() if k != "ratio"}, ".ratio: this key is required"),
        (
            {k: v for k, v in RHO.items() if k != "il_training_config"},
            ".il_training_config: this key is required",
        ),
        (
            {**RHO, "il_training_config": {**IL_TRAINING, "il_model_id": "ResNet18"}},
            ".il_training_config.il_model_id: unknown model (one of your own is an import path",
        ),
        (
            {**RHO, "il_training_config": {**IL_TRAINING, "num_samples_to_pass": [5]}},
            ".il_training_config: num_samples_to_pass is not for the model of a holdout",
        ),
        (
            {**RHO, "il_training_config": {**IL_TRAINING, "batchsize": 5}},
            ".il_training_config.batchsize: unknown key; did you mean 'batch_size'?",
        ),
        (
            {**RHO, "il_training_config": {**IL_TRAINING, "checkpointing": {"activated": True}}},
            ".il_training_config.checkpointing.activated: True is not supported yet",
        ),
        (
            {"strategy": "Uncertainty", "ratio": 50, "score_metric": "Margin", "balance": True},
            ": balance needs sample_then_batch: a batch has too few of each class",
        ),
        ({"strategy": "Uncertainty", "ratio": 50}, ".score_metric: this key is required"),
        (
            {"strategy": "Uncertainty", "ratio": 50, "score_metric": "Marge"},
            ".score_metric: should be 'LeastConfidence', 'Entropy' or 'Margin', got 'Marge'",
        ),
        (
            {"strategy": "Craig", "ratio": 50, "greedy": "Lazy"},
            ": greedy must be one of NaiveGreedy, LazyGreedy, StochasticGreedy, Approximate",
        ),
        ({"strategy": "Loss"}, ".ratio: this key is required"),
        ({"strategy": "Loss", "ratio": 50, "floor": 1.5}, ": floor must be from 0 to 1, got 1.5"),
        ({"strategy": "RS2", "ratio": 50}, ".with_replacement: this key is required"),
        (
            {"strategy": "RS2", "ratio": 50, "with_replacement": True, "period": 2},
            ": RS2 chooses anew in every epoch: period must be 1, got 2",
        ),
        (
            {"strategy": "RS2", "ratio": 50, "with_replacement": True, "sample_then_batch": False},
            ": RS2 chooses from the whole training set: sample_then_batch must be true",
        ),
        (
            {"downsampling_list": [RHO, RHO], "downsampling_thresholds": []},
            ": 2 downsamplers need 1 thresholds, got 0",
        ),
        (
            {"downsampling_list": [RHO] * 3, "downsampling_thresholds": [5, 5]},
            ": thresholds[1] must be at least 6, got 5",
        ),
        (
            {"downsampling_list": [RHO, {**RHO, "ratio": 0}], "downsampling_thresholds": [5]},
            ".downsampling_list[1]: ratio must be at least 1, got 0",
        ),
        (
            {"downsampling_list": [RHO, {**RHO, "rato": 0}], "downsampling_thresholds": [5]},
            ".downsampling_list[1].rato: unknown key; did you mean 'ratio'?",
        ),
        (
            {"downsampling_list": [], "downsampling_thresholds": []},
            ".downsampling_list: list should have at least 1",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(values, message):
    assert message in refusal(values)


def test_whole_training_sets_are_trained_on_for_whole_epochs():
    text = file({"strategy": "RS2", "ratio": 50, "with_replacement": True})
    values = json.loads(text)
    values["training"]["num_samples_to_pass"] = [50]

    with pytest.raises(ConfigError) as caught:
        config.parse(json.dumps(values).encode())

    assert str(caught.value) == (
        "pipeline.yaml: the file: RS2 with sample_then_batch trains whole epochs: "
        "num_samples_to_pass is for batch-then-sample"
    )


# A whole pipeline --------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("selection", [NewData(tail_triggers=3), Random(ratio=50)])
def test_a_pipeline_with_downsampling_is_a_file_again(tmp_path, selection, warmup):
    dataset = drifting(tmp_path / "stream", count=10)
    if warmup:
        selection = Warmup(warmup_triggers=warmup, selection=selection)
    schedule = Schedule(
        downsamplers=(RHOLoss(ratio=50, holdout_set_ratio=10), None), thresholds=(4,)
    )
    before = pipeline(dataset, selection=selection, downsampling=schedule)

    (tmp_path / "again.yaml").write_bytes(before.config_text())
    after = Pipeline.from_yaml(tmp_path / "again.yaml", tmp_path)

    assert after.downsampling == before.downsampling
    assert after.selection == before.selection
    assert after.describe() == before.describe()
    il = before.describe()["downsampling"]["downsamplers"][0]
    assert (il["il_model"]["id"], il["il_training"]["drop_last_batch"]) == ("MLP", False)


# Documentation -----------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "downsampling-config.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_every_example_of_the_page_is_right(block):
    assert parsed(strict_yaml.load(block.encode(), "the page")) is not None


def test_the_page_names_every_strategy_and_every_key():
    for name, kind in {**STRATEGIES, "RHOLoss": RHOLoss}.items():
        assert f"`{name}`" in PAGE or f"strategy: {name}" in PAGE
        for field in fields(kind):
            if not field.name.startswith("il_"):
                assert f"`{field.name}`" in PAGE or f"\n{field.name}: " in PAGE, field.name
