"""pipeline.yaml: what parses, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from modyn.errors import ConfigError
from modyn.pipelines import config
from modyn.pipelines.settings import Criterion, ParamGroup, Training
from modyn.pipelines.warmup import Warmup
from modyn.policies import DataAmountTrigger, LabelBalanced, NewData, Random, TimeTrigger
from tests.python.config_texts import FULL, MINIMAL, parsed


def refusal(old: str, new: str, *, base: str = FULL) -> str:
    """What is said about a file in which `old` was replaced by `new`."""
    assert old in base
    with pytest.raises(ConfigError) as caught:
        parsed(base.replace(old, new, 1))
    return str(caught.value)


def test_a_file_with_all_usual_keys_becomes_settings():
    found = parsed(FULL)

    assert found.name == "rain"
    assert found.dataset_id == "weather"
    assert found.training.batch_size == 96
    assert found.training.seed == 42
    assert found.training.optimizers[0].param_groups == (
        ParamGroup(module="model", config={"lr": 1e-3, "momentum": 0.9}),
    )
    assert found.training.optimization_criterion == Criterion(name="CrossEntropyLoss")
    assert found.trigger("ms") == TimeTrigger(every="1y", start_timestamp=-631_152_000_000)
    assert found.selection == LabelBalanced(ratio=50, tail_triggers=None)
    assert found.evaluation is not None
    assert [h.models for h in found.evaluation.handlers] == [
        *["matrix", "matrix", "training", "active", "active"]
    ]
    assert [m.name for m in found.evaluation.datasets[0].metrics] == [
        *["Accuracy", "Top-2-Accuracy", "F1-binary-1", "ROC-AUC"]
    ]


def test_a_file_with_the_least_that_is_needed_has_defaults():
    found = parsed(MINIMAL)

    assert found.training == Training(batch_size=10)
    assert found.trigger("s") == DataAmountTrigger(num_samples=100)
    assert found.selection == NewData(tail_triggers=0)
    assert found.evaluation is None
    assert found.order == "time"


def test_the_loaders_settings_come_through():
    more = (
        "shuffle: partition\n  num_samples_to_pass: [50, 7]\n"
        "  num_prefetched_partitions: 0\n  parallel_prefetch_requests: auto\n"
    )

    found = parsed(MINIMAL.replace("shuffle: true\n", more)).training

    assert found == Training(
        batch_size=10,
        shuffle="partition",
        num_samples_to_pass=(50, 7),
        num_prefetched_partitions=0,
        parallel_prefetch_requests="auto",
    )
    assert [found.samples_to_pass(trigger) for trigger in range(4)] == [50, 7, None, None]


@pytest.mark.parametrize(
    ("shuffle", "expected"),
    [
        ("true", None),
        ("false", None),
        ("partition", 1000),
        ("partition\n  partition_size: 60", 60),
    ],
)
def test_keys_in_memory_are_a_partition_where_partitions_are_shuffled(shuffle, expected):
    found = parsed(FULL.replace("shuffle: True", f"shuffle: {shuffle}"))

    assert found.training.partition_size == expected


def test_warm_up_triggers_wrap_the_selection():
    strategy = (
        "{name: CoresetStrategy, tail_triggers: 0, warmup_triggers: 2, "
        "presampling_config: {strategy: Random, ratio: 10}}"
    )
    text = MINIMAL.replace("{name: NewDataStrategy, tail_triggers: 0}", strategy)

    inner = Random(ratio=10, tail_triggers=0)
    assert parsed(text).selection == Warmup(warmup_triggers=2, selection=inner)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 96\n  drop", "batchsize: 96\n  drop", "training.batchsize: unknown key; "),
        ("batch_size: 96\n  drop", "batchsize: 96\n  drop", "did you mean 'batch_size'?"),
        ("batch_size: 96\n  drop", "drop", "training.batch_size: this key is required"),
        (
            "shuffle: True",
            "shuffle: 'yes'",
            "training.shuffle: should be true, false or 'partition'",
        ),
        (
            "shuffle: True",
            "shuffle: yes",
            "shuffle: should be true, false or 'partition', got 'yes'",
        ),
        ("shuffle: True", "shuffle: 1", "shuffle: should be true, false or 'partition', got 1"),
        (
            "shuffle: True",
            "shuffle: True\n  partition_size: 5",
            "training: partition_size 5 needs shuffle 'partition', got True",
        ),
        ("partitions: 1", "partitions: -1", "should be 'auto' or an integer from 0, got -1"),
        ("partitions: 1", "partitions: true", "should be 'auto' or an integer from 0, got True"),
        ("requests: 1", "requests: 9999", "parallel_prefetch_requests must be at most 1024, got 9"),
        ("requests: 1", "requests: 0", "should be 'auto' or an integer from 1, got 0"),
        (
            "requests: 1",
            "requests: many",
            "parallel_prefetch_requests: should be 'auto' or an inte",
        ),
        ("batch_size: 96\n  d", "batch_size: '9'\n  d", "training.batch_size: should be a valid i"),
        ("batch_size: 96\n  d", "batch_size: 0\n  d", "training.batch_size: should be greater"),
        ("epochs_per_trigger: 2", "epochs_per_trigger: 0", "training.epochs_per_trigger: should"),
        ('"SGD"', '"SDG"', "training.optimizers[0].algorithm: unknown name 'SDG'; did you mean 'S"),
        ('"SGD"', '"LBFGS"', "algorithm: 'LBFGS' is not supported yet; available: ASGD, "),
        ('source: "PyTorch"', "source: APEX", "[0].source: 'APEX' is not supported yet; availab"),
        ('module: "model"', 'module: "model.__class__"', "module must be a path of identifiers"),
        ('module: "model"', 'module: "os"', "module must be 'model' or begin with 'model.'"),
        ('"CrossEntropyLoss"', '"CrossEntropy"', "did you mean 'CrossEntropyLoss'?"),
        ("OneCycleLR", "LambdaLR", "training.lr_scheduler.name: 'LambdaLR' is not supported yet"),
        ("PyTorch\n    step", "Custom\n    step", "lr_scheduler.source: 'Custom' is not supported"),
        ('["default"]', '["other"]', "training: lr_scheduler names the optimizer 'other'"),
        ("activated: False", "activated: True", "checkpointing.activated: True is not supported"),
        ("amp: False", "amp: True", "training.amp: True is not supported yet"),
        ("gpus: 1", "gpus: 2", "training.gpus: 2 is not supported yet; available: 0, 1"),
        ("random\n", "pretrained\n", "training.initial_model: 'pretrained' is not supported yet"),
        ("seed: 42", "num_samples_to_pass: []", "num_samples_to_pass: list should have at least 1"),
        (
            "seed: 42",
            "num_samples_to_pass: [5, 0]",
            "num_samples_to_pass[1]: should be greater than",
        ),
        (
            "seed: 42",
            "num_samples_to_pass: 5",
            "training.num_samples_to_pass: should be a valid li",
        ),
        ('device: "cpu"\n  amp', "device: gpu\n  amp", "training.device: device must be 'cpu' or"),
        ("id: MLP", "id: ResNet18", "model.id: unknown model (one of your own is an import path"),
        ("PyTorchFullModel", "BinaryFullModel", "'BinaryFullModel' is not supported yet"),
        (
            "id: TimeTrigger",
            "id: TimeTriger",
            "trigger: id 'TimeTriger' is unknown; did you mean '",
        ),
        ("id: TimeTrigger", "id: DataDriftTrigger", "trigger.metrics: this key is required"),
        ("id: TimeTrigger", "id: 7", "trigger: id '7' is unknown; known are TimeTrigger, DataAm"),
        ("  id: TimeTrigger\n", "", "trigger: the key 'id' is required"),
        (
            'every: "1y"\n  st',
            'every: "1 y"\n  st',
            "trigger.every: expected an integer and one of s m h d w y",
        ),
        (
            'every: "1y"\n  st',
            'every: "0d"\n  st',
            "trigger.every: expected at least one second, got '0d'",
        ),
        ("1950-01-01", "1950-13-01", "trigger.start_timestamp: expected an integer or an ISO date"),
        ("CoresetStrategy", "FreshnessSampling", "did you mean 'FreshnessSamplingStrategy'?"),
        ("  tail_triggers: null\n", "", "selection_strategy.tail_triggers: this key is required"),
        ("tail_triggers: null", "tail_triggers: -1", "tail_triggers: should be greater than or eq"),
        ("ratio: 50", "ratio: 101", "presampling_config: ratio must be from 0 to ratio_max (100)"),
        ("LabelBalanced", "No", "presampling_config: strategy No takes all, got ratio 50 of 100"),
        (
            "ratio: 50",
            f"ratio: 50\n    ratio_max: {2**63}",
            "ratio_max must be a number of 64 bits, got 922337",
        ),
        ("LabelBalanced", "LabelBalance", "strategy 'LabelBalance' is unknown; did you mean 'La"),
        (
            "LabelBalanced",
            "MostRecent\n    force_column_balancing: true",
            "presampling_config.force_column_balancing: unknown key",
        ),
        ("LabelBalanced", "Reservoir", "presampling_config.size: this key is required"),
        ("strategy: No", "strategy: Crag", "downsampling_config: strategy 'Crag' is unknown; "),
        ('["weather"]', '["wether"]', "evaluation: handler 'Matrix' names 'wether'; there are"),
        ("after_pipeline", "manual", "handlers[0].execution_time: 'manual' is not supported yet"),
        ("models: matrix", "models: all", "handlers[0].models: should be 'active', 'matrix', 'tra"),
        ("2000-01-01", "1900-01-01", "strategy: eval_end_at must come after the start '1949-01-01"),
        ('"1w"', '"1x"', "strategy: expected an offset such as '-inf', '-2d', '0d' or '1w', got '"),
        ("[0, 100]", "[100, 0]", "strategy: the end of an interval must come after the start 100"),
        ("[-2d; +2d)", "[2d; 1d)", "strategy: interval '[2d; 1d)' ends before it starts"),
        ('name: "RocAuc"', "name: AUC", "metrics[3]: name 'AUC' is unknown; "),
        ("topn: 2", "topn: 0", "datasets[0].metrics[1].topn: should be greater than or equal to 1"),
        ("topn: 2", "topn: 1", "datasets[0]: metrics need different names"),
        (
            "num_classes: 2\n          av",
            "num_classes: 3\n          av",
            "'binary' needs num_class",
        ),
        ("dataset_id: weather\ntr", "dataset_id: ../x\ntr", "data.dataset_id: string should match"),
        ("name: rain", "name:", "pipeline.name: should be a valid string, got None"),
        ("model_storage:", "modelstorage:", "modelstorage: unknown key; did you mean 'model_sto"),
        ("\ndata:\n  dataset_id: weather", "", "data: this key is required"),
    ],
)
def test_a_mistake_is_told_with_its_place(old, new, message):
    said = refusal(old, new)

    assert message in said
    assert all(line.startswith("pipeline.yaml: ") for line in said.splitlines())


@pytest.mark.parametrize(
    "line",
    [
        "bytes_parser_function: 'def bytes_parser_function(data): return data'",
        "transformations: ['transforms.ToTensor()']",
        "label_transformer_function: 'import os'",
    ],
)
def test_code_is_refused_in_the_data_section(line):
    said = refusal("dataset_id: weather\ntrigger", f"dataset_id: weather\n  {line}\ntrigger")

    assert "code in configurations is never executed" in said


def test_after_training_needs_all_models_and_windows_that_are_known_then():
    one = refusal("after_pipeline\n      models: matrix", "after_training\n      models: active")
    other = refusal("after_pipeline\n      models: train", "after_training\n      models: matrix")

    assert "execution_time after_training needs models matrix" in one
    assert "after_training knows no windows between triggers yet" in other


def test_all_mistakes_are_told_at_once():
    text = FULL.replace("gpus: 1", "gpus: 2").replace('every: "1y"\n  st', "every: 1\n  st")

    with pytest.raises(ConfigError) as caught:
        parsed(text)

    assert len(str(caught.value).splitlines()) == 2


def test_validate_returns_the_name_and_misses_no_file(tmp_path):
    path = Path(tmp_path / "pipeline.yaml")
    path.write_text(MINIMAL)

    assert config.validate(path) == "tiny"
    with pytest.raises(FileNotFoundError):
        config.validate(tmp_path / "none.yaml")
