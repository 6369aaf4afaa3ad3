"""The sections `evaluation` and `data` of pipeline.yaml: what is measured, and on which data."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from modyn.pipelines import metrics, settings, windows
from modyn.pipelines.sections import (
    Code,
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
)


class Data(Section):
    """The stream; records are typed, so there is nothing to parse here."""

    dataset_id: DatasetId
    bytes_parser_function: Code = None
    transformations: Code = None
    label_transformer_function: Code = None
    tokenizer: Annotated[JsonValue, only(None)] = None


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
