"""Before a run begins: what is missing is told, and a file and Python make the same pipeline."""

from __future__ import annotations

import numpy as np
import pytest

import modyn
from modyn.errors import ConfigError
from modyn.pipelines import (
    Accuracy,
    BetweenTwoTriggersEvalStrategy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    F1Score,
    LrScheduler,
    Model,
    OffsetEvalStrategy,
    Pipeline,
    RocAuc,
    SlicingEvalStrategy,
    StaticEvalStrategy,
    Training,
)
from modyn.pipelines.warmup import Warmup
from modyn.policies import (
    DataAmountTrigger,
    LabelBalanced,
    NewData,
    Random,
    TimeTrigger,
)
from tests.python.streams import pipeline, sgd, slices, stream

__all__ = ["stream"]  # fixtures


def test_what_is_missing_is_told_before_anything_begins(stream, tmp_path):
    empty = modyn.Dataset.create(tmp_path / "empty", schema={"dense": "float32[4]"})
    bare = modyn.Dataset.create(tmp_path / "bare", schema={"dense": "float32[4]"}, labels=False)
    bare.append({"dense": np.zeros((3, 4), dtype=np.float32)}, timestamps=[1, 2, 3])
    other = modyn.Dataset.create(tmp_path / "other", schema={"x": "float32[4]"})

    with pytest.raises(ConfigError, match="the dataset is empty"):
        pipeline(empty).replay(tmp_path / "run")
    with pytest.raises(ConfigError, match="the dataset has no labels to train on"):
        pipeline(bare).replay(tmp_path / "run")
    foreign = EvalDataset(metrics=(Accuracy(),), dataset=other)
    evaluation = Evaluation(handlers=slices().handlers, datasets=(foreign,))
    with pytest.raises(ConfigError, match="evaluation dataset 'other' has the fields"):
        pipeline(stream, evaluation=evaluation)
    missing = Training(batch_size=1, device="cuda:99", optimizers=sgd())
    with pytest.raises(ConfigError, match="PyTorch sees"):
        pipeline(stream, training=missing).replay(tmp_path / "run")
    assert not (tmp_path / "run" / "pipeline.yaml").exists()


YAML = """\
pipeline: {{name: from a file, order: {order}}}
model: {{id: MLP, config: {{num_classes: 2, hidden: [8]}}}}
training:
  batch_size: 32
  epochs_per_trigger: 2
  use_previous_model: false
  shuffle: true
  seed: 3
  optimizers:
    - name: default
      algorithm: SGD
      source: PyTorch
      param_groups: [{{module: model, config: {{lr: 0.1, momentum: 0.9}}}}]
  optimization_criterion: {{name: CrossEntropyLoss}}
data: {{dataset_id: {dataset}}}
trigger: {{id: DataAmountTrigger, num_samples: 150}}
selection_strategy: {{name: NewDataStrategy, tail_triggers: 0}}
evaluation:
  handlers:
    - execution_time: after_pipeline
      models: matrix
      strategy: {{type: SlicingEvalStrategy, eval_every: 100s}}
      datasets: [{dataset}]
  device: cpu
  datasets:
    - {{dataset_id: {dataset}, batch_size: 128, metrics: [{{name: Accuracy}}, {{name: RocAuc}}]}}
"""


def test_a_file_and_python_make_the_same_pipeline(stream, tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text("# a comment\n" + YAML.format(dataset="stream", order="time"))

    from_file = Pipeline.from_yaml(file, datasets=tmp_path)
    run = from_file.replay(tmp_path / "run")
    other = pipeline(stream, name="from a file").replay(tmp_path / "other")

    assert from_file.describe() == pipeline(stream, name="from a file").describe()
    assert run.digest() == other.digest()
    assert (run.path / "pipeline.yaml").read_bytes() == file.read_bytes()
    assert run.config["pipeline"]["name"] == "from a file"


@pytest.mark.parametrize(
    "selection",
    [
        NewData(tail_triggers=None, limit=70, limit_reset="sampleUAR"),
        NewData(tail_triggers=0),
        Random(ratio=30, ratio_max=60, tail_triggers=1),
        LabelBalanced(ratio=50, tail_triggers=None, limit=20, force_column_balancing=True),
        Warmup(warmup_triggers=2, selection=Random(ratio=50, tail_triggers=0)),
        Warmup(warmup_triggers=1, selection=NewData(tail_triggers=3)),
    ],
)
@pytest.mark.parametrize(
    "trigger", [DataAmountTrigger(num_samples=7), TimeTrigger(every="1d", start_timestamp=-5)]
)
def test_what_is_made_in_python_can_be_run_as_a_file(stream, tmp_path, selection, trigger):
    handlers = (
        EvalHandler(strategy=SlicingEvalStrategy(eval_every="100s"), models="matrix"),
        EvalHandler(strategy=StaticEvalStrategy(intervals=((0, 5), ("1970-01-02", None)))),
        EvalHandler(strategy=BetweenTwoTriggersEvalStrategy(), models="training"),
        EvalHandler(
            strategy=OffsetEvalStrategy(offsets=("-inf",)),
            models="matrix",
            execution_time="after_training",
        ),
    )
    metrics = (Accuracy(topn=2), F1Score(num_classes=2, average="binary"), RocAuc())
    evaluation = Evaluation(handlers=handlers, datasets=(EvalDataset(metrics=metrics),))
    scheduler = LrScheduler(name="StepLR", step_every="epoch", config={"step_size": 1})
    training = Training(
        batch_size=5,
        optimizers=sgd(),
        seed=9,
        lr_scheduler=scheduler,
        num_samples_to_pass=(70, 3),
        shuffle="partition",
        partition_size=11,
    )
    one = pipeline(
        stream,
        selection=selection,
        trigger=trigger,
        evaluation=evaluation,
        training=training,
        stop_replay_at="2000-01-01",
    )
    file = tmp_path / "file.yaml"
    file.write_bytes(one.config_text())

    assert Pipeline.from_yaml(file, datasets=tmp_path).describe() == one.describe()


def test_labels_that_fit_neither_model_nor_metric_are_told_at_once(stream, tmp_path):
    data = modyn.Dataset.create(tmp_path / "three", schema={"dense": "float32[4]"})
    x = np.zeros((3, 4), dtype=np.float32)
    data.append({"dense": x}, labels=[0, 1, 2], timestamps=[1, 2, 3])
    model = Model(id="MLP", config={"num_classes": 3})

    with pytest.raises(ConfigError, match=r"sample 2 has the label 2; model.config.num_classes is"):
        pipeline(data).replay(tmp_path / "run")
    with pytest.raises(ConfigError, match="sample 2 has the label 2; ROC-AUC has 2 classes"):
        pipeline(data, model=model).replay(tmp_path / "run")
    accuracy = Evaluation(
        handlers=slices().handlers, datasets=(EvalDataset(metrics=(Accuracy(),)),)
    )
    assert pipeline(data, model=model, evaluation=accuracy).replay(tmp_path / "run").finished


def test_a_file_that_names_a_missing_dataset_is_told_so(tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text(YAML.format(dataset="nowhere", order="time"))

    with pytest.raises(ConfigError) as caught:
        Pipeline.from_yaml(file, datasets=tmp_path)

    assert str(caught.value) == (
        f"{file}: data.dataset_id: there is no dataset 'nowhere' in {tmp_path}"
    )
