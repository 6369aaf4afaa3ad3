"""pipeline.yaml, section by section: the one place where names and types of a file are checked.

Section and key names are those that users of this kind of system know.  What is known and not
built yet is refused by name; what would be code is refused for ever.  Each section turns itself
into the frozen record of `settings` (or the policy) that the rest of modyn works with.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    model_validator,
)

from modyn import policies
from modyn.downsampling import Schedule
from modyn.metadata.url import Url
from modyn.pipelines import metrics, settings, windows
from modyn.pipelines.pipeline import check_downsampling
from modyn.pipelines.schema_selection import SelectionStrategy
from modyn.pipelines.schema_training import Model, Training
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
    only,
    tagged,
)
from modyn.pipelines.times import timestamp


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
    label_delay: Index | Duration = 0
    bytes_parser_function: Code = None
    transformations: Code = None
    label_transformer_function: Code = None
    tokenizer: Annotated[JsonValue, only(None)] = None


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

    @model_validator(mode="after")
    def _downsampling_fits_the_training(self) -> "File":
        found = self.selection_strategy.downsampling()
        for one in found.downsamplers if isinstance(found, Schedule) else [found]:
            if one is not None:
                check_downsampling(one, self.training.settings())
        return self

    def training_settings(self) -> settings.Training:
        """Return the section `training`, with what it takes from the selection strategy."""
        training, strategy = self.training.settings(), self.selection_strategy
        stated = "maximum_keys_in_memory" in strategy.model_fields_set
        if training.shuffle != "partition" or training.partition_size is not None or not stated:
            return training
        return replace(training, partition_size=strategy.maximum_keys_in_memory)
