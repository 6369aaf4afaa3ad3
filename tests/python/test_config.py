"""pipeline.yaml: what parses, what is refused, and in which words."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modyn import policies
from modyn.errors import ConfigError
from modyn.pipelines import config, schema_presampling, strict_yaml
from modyn.pipelines.settings import Criterion, ParamGroup, Training
from modyn.pipelines.warmup import Warmup
from modyn.policies import DataAmountTrigger, LabelBalanced, NewData, Random, TimeTrigger

# All keys that files of this kind of system must have, and most of those they may have.
FULL = """\
pipeline:
  name: rain
  description: a pipeline
  version: 0.0.1
model:
  id: MLP
  config:
    num_classes: 2
    hidden: [32, 16]
model_storage:
  full_model_strategy:
    name: "PyTorchFullModel"
training:
  gpus: 1
  device: "cpu"
  amp: False
  dataloader_workers: 2
  num_prefetched_partitions: 1
  parallel_prefetch_requests: 1
  use_previous_model: True
  initial_model: random
  batch_size: 96
  drop_last_batch: true
  epochs_per_trigger: 2
  shuffle: True
  seed: 42
  optimizers:
    - name: "default"
      algorithm: "SGD"
      source: "PyTorch"
      param_groups:
        - module: "model"
          config:
            lr: 1e-3
            momentum: 0.9
  optimization_criterion:
    name: "CrossEntropyLoss"
  lr_scheduler:
    name: OneCycleLR
    source: PyTorch
    step_every: batch
    optimizers: ["default"]
    config:
      max_lr: 0.1
      total_steps: MODYN_NUM_BATCHES
  checkpointing:
    activated: False
data:
  dataset_id: weather
trigger:
  id: TimeTrigger
  every: "1y"
  start_timestamp: 1950-01-01
selection_strategy:
  name: CoresetStrategy
  maximum_keys_in_memory: 1000
  storage_backend: database
  uses_weights: false
  limit: -1
  tail_triggers: null
  presampling_config:
    strategy: LabelBalanced
    ratio: 50
  downsampling_config:
    strategy: No
    ratio: 100
evaluation:
  handlers:
    - name: "Matrix"
      execution_time: after_pipeline
      models: matrix
      strategy:
        type: SlicingEvalStrategy
        eval_every: "1y"
        eval_start_from: 1949-01-01
        eval_end_at: 2000-01-01
      datasets: ["weather"]
    - execution_time: after_training
      models: matrix
      strategy:
        type: OffsetEvalStrategy
        offsets: ["-inf", "0d", "1w", "inf"]
      datasets: ["weather"]
    - execution_time: after_pipeline
      models: train
      strategy: {type: BetweenTwoTriggersEvalStrategy}
      datasets: ["weather"]
    - execution_time: after_pipeline
      strategy:
        type: StaticEvalStrategy
        intervals: [[0, 100], [100, null], [1970-01-01, 1971-01-01]]
      datasets: ["weather"]
    - execution_time: after_pipeline
      strategy:
        type: PeriodicEvalStrategy
        every: 1d
        interval: "[-2d; +2d)"
        start_timestamp: -100
        end_timestamp: 1000
      datasets: ["weather"]
  device: "cpu"
  after_training_evaluation_workers: 2
  datasets:
    - dataset_id: weather
      batch_size: 96
      dataloader_workers: 1
      metrics:
        - name: "Accuracy"
          evaluation_transformer_function: ""
        - name: "Accuracy"
          topn: 2
        - name: "F1Score"
          num_classes: 2
          average: "binary"
        - name: "RocAuc"
"""

MINIMAL = """\
pipeline: {name: tiny}
model: {id: MLP, config: {num_classes: 2}}
training:
  batch_size: 10
  use_previous_model: false
  shuffle: true
  optimizers:
    - {name: default, algorithm: Adam, source: PyTorch, param_groups: [{module: model}]}
  optimization_criterion: {name: CrossEntropyLoss}
data: {dataset_id: clicks}
trigger: {id: DataAmountTrigger, num_samples: 100}
selection_strategy: {name: NewDataStrategy, tail_triggers: 0}
"""


def parsed(text: str) -> config.PipelineConfig:
    return config.parse(text.encode())


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


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{strategy: No, ratio: 100}", NewData(tail_triggers=3)),
        ("{strategy: Random, ratio: 7}", Random(ratio=7, tail_triggers=3)),
        (
            "{strategy: LabelBalanced, ratio: 1, ratio_max: 8, force_column_balancing: true}",
            LabelBalanced(ratio=1, ratio_max=8, tail_triggers=3, force_column_balancing=True),
        ),
    ],
)
def test_presampling_becomes_a_policy(section, expected):
    strategy = f"{{name: CoresetStrategy, tail_triggers: 3, presampling_config: {section}}}"
    text = MINIMAL.replace("{name: NewDataStrategy, tail_triggers: 0}", strategy)

    assert parsed(text).selection == expected


TRIED = [
    ("Random", {"ratio": 7, "ratio_max": 9}),
    ("RandomNoReplacement", {"ratio": 7}),
    ("LabelBalanced", {"ratio": 7, "force_column_balancing": True}),
    ("TriggerBalanced", {"ratio": 7, "force_required_target_size": True}),
    ("TimeStratified", {"ratio": 7, "every": "2d"}),
    ("Weighted", {"ratio": 7, "by": "timestamp", "half_life": "30d", "floor": 0}),
    ("MostRecent", {"ratio": 7}),
    ("TopBySignal", {"ratio": 7, "signal": "loss", "largest": False, "unseen": "last"}),
    ("QuantileBand", {"signal": "loss", "low": 0.25, "high": 1, "trainings": 2}),
    ("Reservoir", {"size": 70}),
    ("ClassBalancedReservoir", {"size": 70}),
    ("GDumb", {"size": 70}),
]


def with_strategy(strategy):
    text = MINIMAL.replace("{name: NewDataStrategy, tail_triggers: 0}", json.dumps(strategy))
    return parsed(text)


@pytest.mark.parametrize(("name", "parameters"), TRIED)
def test_a_presampling_strategy_is_the_policy_of_that_name(name, parameters):
    kind = getattr(policies, name)
    limit = {} if "size" in parameters else {"limit": 11}
    expected = kind(**parameters, **limit, tail_triggers=None)
    presampling = {"strategy": name, **parameters}
    strategy = {"name": "CoresetStrategy", "tail_triggers": None, **limit}

    found = with_strategy({**strategy, "presampling_config": presampling}).selection

    assert found == expected
    assert schema_presampling.section(found) == presampling
    if "size" in parameters:
        with pytest.raises(ConfigError, match=f"limit is not for {name}, whose size says"):
            with_strategy({**strategy, "limit": 5, "presampling_config": presampling})
        with pytest.raises(ConfigError, match="selection_strategy: tail_triggers must be None, go"):
            with_strategy({**strategy, "tail_triggers": 1, "presampling_config": presampling})


def test_every_presampling_strategy_was_tried():
    assert sorted(schema_presampling.STRATEGIES) == sorted(name for name, _ in TRIED)


def test_a_limit_without_presampling_draws_uniformly():
    found = with_strategy({"name": "CoresetStrategy", "tail_triggers": 1, "limit": 9}).selection

    assert found == NewData(tail_triggers=1, limit=9, limit_reset="sampleUAR")
    assert schema_presampling.section(found) == {"strategy": "No", "ratio": 100}


def test_freshness_is_a_strategy_of_its_own():
    strategy = {
        "name": "FreshnessSamplingStrategy",
        "tail_triggers": None,
        "unused_data_ratio": 30,
        "limit": 9,
    }

    found = with_strategy(strategy).selection

    assert found == policies.FreshnessSampling(unused_data_ratio=30, limit=9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tail_triggers": 2},
            "tail_triggers must be None, got 2: which samples were used is abou",
        ),
        ({"unused_data_ratio": 100}, "unused_data_ratio must be 1 to 99, got 100"),
        ({"unused_data_ratio": 0}, "unused_data_ratio must be 1 to 99, got 0"),
        ({"unused_data_ratio": 1.5}, "unused_data_ratio: should be a valid integer, got 1.5"),
        ({"storage_backend": "local"}, "storage_backend local is for NewDataStrategy"),
        ({"limit": 0}, "limit must be at least 1, or -1 for no limit, got 0"),
    ],
)
def test_d26_what_freshness_cannot_be_is_refused(changes, message):
    strategy = {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 3, "tail_triggers": None}

    with pytest.raises(ConfigError, match=message):
        with_strategy(strategy | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tail_triggers": 0}, "tail_triggers must be at least 1, or None: with 0 there is one"),
        ({"storage_backend": "local"}, "storage_backend local is for NewDataStrategy"),
    ],
)
def test_d26_what_presampling_cannot_be_is_refused(changes, message):
    strategy = {
        "name": "CoresetStrategy",
        "tail_triggers": 1,
        "presampling_config": {"strategy": "TriggerBalanced", "ratio": 5},
    }

    with pytest.raises(ConfigError, match=message):
        with_strategy(strategy | changes)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: the key 'a' appears twice"),
        ("a: &x [1]\nb: *x\n", "line 2, column 4: aliases are not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "tags are not allowed"),
        ("a: !!set {x, y}\n", "tags are not allowed"),
        ("a: ! x\n", "tags are not allowed"),
        ("1: a\n", "a key must be a string, got '1'"),
        ("? [a]\n: b\n", "a key must be a string"),
        ("a: [1\n", "line 2, column 1: expected ',' or ']'"),
        ("a: " + "[" * 100, "nested more than 32 levels deep"),
        ("a: 1\n---\nb: 2\n", "but found another document"),
        ("- 1\n", "expected sections such as 'pipeline:', got [1]"),
        ("", "expected sections such as 'pipeline:', got None"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_yaml_that_is_more_than_plain_data_is_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        parsed(text)

    assert message in str(caught.value)


def test_a_million_levels_and_a_large_file_are_refused_quickly():
    with pytest.raises(ConfigError, match="nested more than 32 levels"):
        parsed("[" * 1_000_000)
    with pytest.raises(ConfigError, match="1048577 bytes; at most 1048576"):
        config.parse(b" " * (2**20 + 1))
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.parse(b"a: \xff")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("No", "No"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("1e-3", 1e-3),
        ("1.", 1.0),
        ("-5", -5),
        ("1_000", 1000),
        ("017", "017"),
        ("1:30", "1:30"),
        ("1950-01-01", "1950-01-01"),
        ("~", None),
        (".nan", ".nan"),
        ("<<", "<<"),
    ],
)
def test_scalars_mean_what_they_look_like(text, value):
    found = strict_yaml.load(f"a: {text}\n".encode(), "t")["a"]

    assert found == value
    assert type(found) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
@example("1e3")
@example("No")
@example({"a: b": "- c", "null": "null"})
def test_what_is_dumped_loads_as_it_was(value):
    text = strict_yaml.dump({"value": value})

    assert strict_yaml.load(text.encode(), "t") == {"value": value}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module that leaves a file behind when it is imported."""
    (tmp_path / "canary_module.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('sang').touch()\n"
        "def make(**config): raise SystemExit\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "sang"


def fields_of(values: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all scalars of a nested value."""
    if isinstance(values, dict):
        return [p for key, entry in values.items() for p in fields_of(entry, (*path, key))]
    if isinstance(values, list):
        return [p for i, entry in enumerate(values) for p in fields_of(entry, (*path, i))]
    return [path]


PLACES = fields_of(strict_yaml.load(FULL.encode(), "t"))
HOSTILE = st.sampled_from(
    [
        *["canary_module:make", "canary_module", "__import__('canary_module')", "canary_module.py"],
        *["!!python/name:canary_module.make", "${canary_module}", "{0.__class__}", "%s%n", "../x"],
        *["model.__class__.__init__", "os.system", "lambda: 0", "\x00", "'", "~", "1e999"],
    ]
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.sampled_from(PLACES), text=HOSTILE | st.text(max_size=30))
@example(place=("model", "id"), text="canary_module:make")
def test_no_string_in_any_field_imports_or_runs_anything(canary, place, text):
    values = strict_yaml.load(FULL.encode(), "t")
    target = values
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = text
    before = set(sys.modules)

    with contextlib.suppress(ConfigError):
        config.parse(strict_yaml.dump(values).encode())

    assert not canary.exists()
    assert {name for name in set(sys.modules) - before if "canary" in name} == set()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_config_error(text):
    with pytest.raises(ConfigError):
        config.parse(text)


def test_validate_returns_the_name_and_misses_no_file(tmp_path):
    path = Path(tmp_path / "pipeline.yaml")
    path.write_text(MINIMAL)

    assert config.validate(path) == "tiny"
    with pytest.raises(FileNotFoundError):
        config.validate(tmp_path / "none.yaml")


def test_an_import_path_is_a_valid_model_id_that_is_not_followed(canary):
    text = MINIMAL.replace("id: MLP", "id: canary_module:make")

    assert parsed(text).model.id == "canary_module:make"
    assert not canary.exists()
