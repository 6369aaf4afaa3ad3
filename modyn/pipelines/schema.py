"""pipeline.yaml, section by section: the one place where names and types of a file are checked.

Section and key names are those that users of this kind of system know.  What is known and not
built yet is refused by name; what would be code is refused for ever.  Each section turns itself
into the frozen record of `settings` (or the policy) that the rest of modyn works with.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
)
from pydantic_core import PydanticCustomError

from modyn import policies
from modyn.metadata.url import Url
from modyn.models import BUILT_IN
from modyn.pipelines import metrics, settings, windows
from modyn.pipelines.build import IMPORT_PATH
from modyn.pipelines.schema_selection import SelectionStrategy
from modyn.pipelines.sections import (
    Code,
    Config,
    Count,
    DatasetId,
    Device,
    Duration,
    Index,
    Moment,
    NonEmpty,
    Section,
    known,
    number_or_auto,
    only,
    shuffle_kind,
    tagged,
)
from modyn.pipelines.times import timestamp
from modyn.signals import SIGNALS


class Pipeline(Section):
    """What the run is called, and which stream it follows."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    version: str | None = None
    seed: Index | None = None
    order: Literal["time", "arrival"] = "time"
    maximum_triggers: Count | None = None
    start_replay_at: Moment | None = None
    stop_replay_at: Moment | None = None


def _model_id(value: str) -> str:
    if value not in BUILT_IN and IMPORT_PATH.fullmatch(value) is None:
        raise PydanticCustomError(
            "unknown_name",
            "unknown model (one of your own is an import path package.module:function)",
            {"names": list(BUILT_IN)},
        )
    return value


class Model(Section):
    """Which model; an import path is only read here, never followed."""

    id: Annotated[str, AfterValidator(_model_id)]
    config: Config = Field(default_factory=dict)

    def settings(self) -> settings.Model:
        return settings.Model(id=self.id, config=self.config)


class FullModelStrategy(Section):
    """How models are stored: always as safetensors and JSON."""

    name: Annotated[str, known(("PyTorchFullModel",), ("BinaryFullModel",))]
    config: Config = Field(default_factory=dict)
    zip: Annotated[bool | None, only(None, False)] = None
    zip_algorithm: str = "ZIP_DEFLATED"


class ModelStorage(Section):
    """Accepted so that existing files can be used."""

    full_model_strategy: FullModelStrategy
    incremental_model_strategy: Annotated[JsonValue, only(None)] = None


class Data(Section):
    """The stream; records are typed, so there is nothing to parse here."""

    dataset_id: DatasetId
    bytes_parser_function: Code = None
    transformations: Code = None
    label_transformer_function: Code = None
    tokenizer: Annotated[JsonValue, only(None)] = None


class ParamGroup(Section):
    """Some parameters of the model."""

    module: str
    config: Config = Field(default_factory=dict)

    def settings(self) -> settings.ParamGroup:
        return settings.ParamGroup(module=self.module, config=self.config)


class Optimizer(Section):
    """One optimizer."""

    name: str
    algorithm: Annotated[str, known(settings.OPTIMIZERS, ("LBFGS", "SparseAdam", "Muon"))]
    source: Annotated[str, known(("PyTorch",), ("APEX",))]
    param_groups: NonEmpty[ParamGroup]

    def settings(self) -> settings.Optimizer:
        groups = tuple(group.settings() for group in self.param_groups)
        return settings.Optimizer(name=self.name, algorithm=self.algorithm, param_groups=groups)


class Criterion(Section):
    """The loss."""

    name: Annotated[str, known(settings.CRITERIA)]
    config: Config = Field(default_factory=dict)

    def settings(self) -> settings.Criterion:
        return settings.Criterion(name=self.name, config=self.config)


class LrScheduler(Section):
    """The scheduler of the step size."""

    name: Annotated[
        str, known(settings.LR_SCHEDULERS, ("LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau"))
    ]
    source: Annotated[str, known(("PyTorch",), ("Custom",))]
    step_every: Literal["epoch", "batch"]
    optimizers: NonEmpty[str]
    config: Config = Field(default_factory=dict)

    def settings(self) -> settings.LrScheduler:
        return settings.LrScheduler(
            name=self.name,
            step_every=self.step_every,
            optimizers=tuple(self.optimizers),
            config=self.config,
        )


class Checkpointing(Section):
    """Checkpoints during a training."""

    activated: Annotated[bool, only(False)]
    interval: Count | None = None
    path: str | None = None


class Training(Section):
    """How models are trained.

    `shuffle: true` permutes the whole training set, `partition` as described at
    `settings.Training`; then `maximum_keys_in_memory` of the selection strategy, where the file
    has it and no `partition_size`, is the size of a partition, as it is where these names come
    from.
    """

    batch_size: Count
    use_previous_model: bool
    shuffle: Annotated[Any, AfterValidator(shuffle_kind)]
    partition_size: Count | None = None
    initial_model: Annotated[Literal["random", "pretrained"], only("random")] = "random"
    gpus: Annotated[int, only(0, 1)] = 1
    dataloader_workers: Annotated[int, Field(ge=1, le=1024)] = 2
    optimizers: NonEmpty[Optimizer]
    optimization_criterion: Criterion
    checkpointing: Checkpointing | None = None
    epochs_per_trigger: Count = 1
    num_samples_to_pass: NonEmpty[Count] | None = None
    num_prefetched_partitions: Annotated[Any, number_or_auto(0)] = "auto"
    parallel_prefetch_requests: Annotated[Any, number_or_auto(1)] = "auto"
    device: Device = "cpu"
    amp: Annotated[bool, only(False)] = False
    grad_scaler_config: Annotated[JsonValue, only(None)] = None
    drop_last_batch: bool = True
    enable_accurate_gpu_measurements: Annotated[bool, only(False)] = False
    seed: Index | None = None
    initial_model_id: Annotated[int | None, only(None)] = None
    record_loss_every: Index = 0
    lr_scheduler: LrScheduler | None = None
    signals: list[Annotated[str, known(SIGNALS)]] = Field(default_factory=list)

    def settings(self) -> settings.Training:
        scheduler = self.lr_scheduler
        return settings.Training(
            batch_size=self.batch_size,
            epochs_per_trigger=self.epochs_per_trigger,
            num_samples_to_pass=tuple(self.num_samples_to_pass or ()) or None,
            use_previous_model=self.use_previous_model,
            shuffle=self.shuffle,
            partition_size=self.partition_size,
            drop_last_batch=self.drop_last_batch,
            device=self.device,
            seed=self.seed,
            optimizers=tuple(optimizer.settings() for optimizer in self.optimizers),
            optimization_criterion=self.optimization_criterion.settings(),
            lr_scheduler=scheduler.settings() if scheduler else None,
            record_loss_every=self.record_loss_every,
            dataloader_workers=self.dataloader_workers,
            num_prefetched_partitions=self.num_prefetched_partitions,
            parallel_prefetch_requests=self.parallel_prefetch_requests,
            signals=tuple(self.signals),
        )


class TimeTrigger(Section):
    """A trigger every so often."""

    id: Literal["TimeTrigger"]
    every: Duration
    start_timestamp: Moment | None = None

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        start = self.start_timestamp
        first = None if start is None else timestamp(start, unit)
        return policies.TimeTrigger(every=self.every, start_timestamp=first)


class DataAmountTrigger(Section):
    """A trigger every so many samples."""

    id: Literal["DataAmountTrigger"]
    num_samples: Count

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy; the unit does not matter."""
        return policies.DataAmountTrigger(num_samples=self.num_samples)


LATER_TRIGGERS = (
    *("DataDriftTrigger", "PerformanceTrigger", "DataIncorporationLatencyCostTrigger"),
    *("AvoidableMisclassificationCostTrigger", "EnsembleTrigger"),
)
Trigger = Annotated[
    TimeTrigger | DataAmountTrigger,
    Field(discriminator="id"),
    tagged("id", LATER_TRIGGERS, "TimeTrigger", "DataAmountTrigger"),
]


class Accuracy(Section):
    """Accuracy, or top-n accuracy."""

    name: Literal["Accuracy"]
    topn: Count = 1
    evaluation_transformer_function: Code = None

    def settings(self) -> metrics.Metric:
        return metrics.Accuracy(topn=self.topn)


class F1Score(Section):
    """The F1 score."""

    name: Literal["F1Score"]
    num_classes: Annotated[int, Field(ge=2, le=100_000)]
    average: Literal["macro", "micro", "weighted", "binary"] = "macro"
    pos_label: Index = 1
    evaluation_transformer_function: Code = None

    def settings(self) -> metrics.Metric:
        return metrics.F1Score(
            num_classes=self.num_classes, average=self.average, pos_label=self.pos_label
        )


class RocAuc(Section):
    """The area under the ROC curve."""

    name: Literal["RocAuc"]
    evaluation_transformer_function: Code = None

    def settings(self) -> metrics.Metric:
        return metrics.RocAuc()


Metric = Annotated[Accuracy | F1Score | RocAuc, Field(discriminator="name")]


class EvalDataset(Data):
    """A dataset to measure on."""

    batch_size: Count
    dataloader_workers: Annotated[int, Field(ge=1, le=1024)] = 2
    metrics: NonEmpty[Metric]

    def settings(self) -> settings.EvalDataset:
        return settings.EvalDataset(
            metrics=tuple(metric.settings() for metric in self.metrics),
            dataset_id=self.dataset_id,
            batch_size=self.batch_size,
            dataloader_workers=self.dataloader_workers,
        )


class Slicing(Section):
    """Consecutive slices."""

    type: Literal["SlicingEvalStrategy"]
    eval_every: Duration
    eval_start_from: Moment | None = None
    eval_end_at: Moment | None = None

    def settings(self) -> windows.Strategy:
        return windows.SlicingEvalStrategy(
            eval_every=self.eval_every,
            eval_start_from=self.eval_start_from,
            eval_end_at=self.eval_end_at,
        )


class Static(Section):
    """Intervals as given."""

    type: Literal["StaticEvalStrategy"]
    intervals: NonEmpty[Annotated[list[Moment | None], Field(min_length=2, max_length=2)]]

    def settings(self) -> windows.Strategy:
        pairs = []
        for start, end in self.intervals:
            if start is None:
                raise ValueError("an interval needs a start")
            pairs.append((start, end))
        return windows.StaticEvalStrategy(intervals=tuple(pairs))


class BetweenTwoTriggers(Section):
    """The time of each training."""

    type: Literal["BetweenTwoTriggersEvalStrategy"]

    def settings(self) -> windows.Strategy:
        return windows.BetweenTwoTriggersEvalStrategy()


class Offset(Section):
    """Intervals around each training."""

    type: Literal["OffsetEvalStrategy"]
    offsets: NonEmpty[str]

    def settings(self) -> windows.Strategy:
        return windows.OffsetEvalStrategy(offsets=tuple(self.offsets))


class Periodic(Section):
    """Intervals around points."""

    type: Literal["PeriodicEvalStrategy"]
    every: Duration
    interval: str
    start_timestamp: Moment
    end_timestamp: Moment

    def settings(self) -> windows.Strategy:
        return windows.PeriodicEvalStrategy(
            every=self.every,
            interval=self.interval,
            start_timestamp=self.start_timestamp,
            end_timestamp=self.end_timestamp,
        )


EvalStrategy = Annotated[
    Slicing | Static | BetweenTwoTriggers | Offset | Periodic, Field(discriminator="type")
]


class EvalHandler(Section):
    """Which models on which windows."""

    name: str = "Modyn EvalHandler"
    execution_time: Annotated[str, known(("after_training", "after_pipeline"), ("manual",))]
    models: Literal["active", "matrix", "training", "train"] = "active"
    strategy: EvalStrategy
    datasets: NonEmpty[DatasetId]

    def settings(self) -> settings.EvalHandler:
        when: Any = self.execution_time
        return settings.EvalHandler(
            name=self.name,
            execution_time=when,
            models="training" if self.models == "train" else self.models,
            strategy=self.strategy.settings(),
            datasets=tuple(self.datasets),
        )


class Evaluation(Section):
    """What is measured; the numbers of workers are accepted, models are measured one by one."""

    handlers: NonEmpty[EvalHandler]
    device: Device
    datasets: NonEmpty[EvalDataset]
    after_training_evaluation_workers: Count = 5
    after_pipeline_evaluation_workers: Count = 5

    def settings(self) -> settings.Evaluation:
        return settings.Evaluation(
            handlers=tuple(handler.settings() for handler in self.handlers),
            datasets=tuple(dataset.settings() for dataset in self.datasets),
            device=self.device,
        )


def _as_mapping(value: Any) -> Any:
    """Take a bare URL for a section that holds it; no message shows what was there instead."""
    if isinstance(value, str):
        return {"url": value}
    if value is not None and not isinstance(value, dict):
        raise ValueError("should be a URL, or a section with the key url")
    return value


def _is_url(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("should be a URL")
    try:
        Url.parse(value)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("metadata: ")) from None
    return value


class Metadata(Section):
    """The database that holds the metadata of a run."""

    url: Annotated[str, BeforeValidator(_is_url)]
    layout: Literal["rows", "blocks"] = "rows"
    hash_partition_modulus: Annotated[int, Field(ge=1, le=1024)] | None = None
    unlogged: bool = False
    connections: Annotated[int, Field(ge=1, le=64)] = 2
    lease_seconds: Annotated[int | float, Field(ge=1, le=86_400)] = 30.0
    retry_seconds: Annotated[int | float, Field(ge=0, le=86_400)] = 60.0
    publish: bool = False

    def settings(self) -> settings.Metadata:
        return settings.Metadata(
            url=self.url,
            layout=self.layout,
            hash_partition_modulus=self.hash_partition_modulus,
            unlogged=self.unlogged,
            connections=self.connections,
            lease_seconds=float(self.lease_seconds),
            retry_seconds=float(self.retry_seconds),
            publish=self.publish,
        )


class File(Section):
    """A whole pipeline.yaml."""

    pipeline: Pipeline
    model: Model
    model_storage: ModelStorage | None = None
    training: Training
    data: Data
    trigger: Trigger
    selection_strategy: SelectionStrategy
    evaluation: Evaluation | None = None
    metadata: Annotated[Metadata | None, BeforeValidator(_as_mapping)] = None

    def training_settings(self) -> settings.Training:
        """Return the section `training`, with what it takes from the selection strategy."""
        training, strategy = self.training.settings(), self.selection_strategy
        stated = "maximum_keys_in_memory" in strategy.model_fields_set
        if training.shuffle != "partition" or training.partition_size is not None or not stated:
            return training
        return replace(training, partition_size=strategy.maximum_keys_in_memory)
