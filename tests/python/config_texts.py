"""Pipeline files to be changed and parsed."""

from __future__ import annotations

from modyn.pipelines import config

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
