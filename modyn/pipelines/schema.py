"""pipeline.yaml, section by section: the one place where names and types of a file are checked.

Section and key names are those that users of this kind of system know.  What is known and not
built yet is refused by name; what would be code is refused for ever.  Each section turns itself
into the frozen record of `settings` (or the policy) that the rest of modyn works with.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from modyn import policies
from modyn.metadata.url import Url
from modyn.models import BUILT_IN
from modyn.pipelines import metrics, settings, windows
from modyn.pipelines.build import IMPORT_PATH
from modyn.pipelines.times import microseconds, timestamp
from modyn.pipelines.warmup import Warmup
from modyn.policies.time import seconds_of
from modyn.signals import SIGNALS

INT64_MAX = 2**63 - 1


class Section(BaseModel):
    """A mapping of the file: no other keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="after")
    def _settings_are_possible(self) -> Any:
        """Let the record that the section stands for check itself, where the path is known."""
        self.settings()
        return self

    def settings(self) -> Any:
        """Return what this section stands for."""
        return None


def not_supported(what: str, available: str = "") -> PydanticCustomError:
    """Return the error for what is known and not built yet."""
    more = f"; available: {available}" if available else ""
    # Braces would be taken for places to fill in.
    text = f"{what} is not supported yet{more}".replace("{", "(").replace("}", ")")
    return PydanticCustomError("not_supported", text)


def only(*values: Any) -> AfterValidator:
    """Accept these values; others are known and not supported yet."""

    def check(value: Any) -> Any:
        if value not in values:
            raise not_supported(repr(value), ", ".join(str(v) for v in values))
        return value

    return AfterValidator(check)


def no_code(value: Any) -> Any:
    """Refuse source text."""
    if value not in (None, "", []):
        raise PydanticCustomError(
            "code",
            "code in configurations is never executed; store typed fields and labels instead",
        )
    return value


def known(names: tuple[str, ...], later: tuple[str, ...] = ()) -> AfterValidator:
    """Accept these names, and suggest the nearest one for others."""

    def check(value: str) -> str:
        if value in later:
            raise not_supported(repr(value), ", ".join(names))
        if value not in names:
            raise PydanticCustomError("unknown_name", "unknown name", {"names": list(names)})
        return value

    return AfterValidator(check)


def tagged(key: str, later: tuple[str, ...], *available: str) -> BeforeValidator:
    """Refuse variants that are known and not built yet, before the variant is looked up."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and value.get(key) in later:
            raise not_supported(repr(value[key]), ", ".join(available))
        return value

    return BeforeValidator(check)


def _with(check: Callable[[str], Any]) -> AfterValidator:
    def keep(value: str) -> str:
        check(value)
        return value

    return AfterValidator(keep)


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        microseconds(value)
    return value


def _shuffle(value: Any) -> Any:
    if not isinstance(value, bool) and value != "partition":
        raise ValueError(f"should be true, false or 'partition', got {value!r:.60}")
    return value


def number_or_auto(least: int) -> AfterValidator:
    """Accept an integer of at least this, or the word that leaves the choice to modyn."""

    def check(value: Any) -> Any:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value != "auto" and not (is_number and least <= value <= INT64_MAX):
            raise ValueError(f"should be 'auto' or an integer from {least}, got {value!r:.60}")
        return value

    return AfterValidator(check)


T = TypeVar("T")
Duration = Annotated[str, _with(seconds_of)]
Moment = Annotated[
    Annotated[int, Field(ge=-INT64_MAX, le=INT64_MAX)] | str, AfterValidator(_moment)
]
DatasetId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
Device = Annotated[str, _with(settings.check_device)]
Config = dict[str, JsonValue]
NonEmpty = Annotated[list[T], Field(min_length=1, max_length=10_000)]
Count = Annotated[int, Field(ge=1, le=INT64_MAX)]
Index = Annotated[int, Field(ge=0, le=INT64_MAX)]
Code = Annotated[JsonValue, AfterValidator(no_code)]


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
    config: Config = {}

    def settings(self) -> settings.Model:
        return settings.Model(id=self.id, config=self.config)


class FullModelStrategy(Section):
    """How models are stored: always as safetensors and JSON."""

    name: Annotated[str, known(("PyTorchFullModel",), ("BinaryFullModel",))]
    config: Config = {}
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
    config: Config = {}

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
    config: Config = {}

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
    config: Config = {}

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
    shuffle: Annotated[Any, AfterValidator(_shuffle)]
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
    signals: list[Annotated[str, known(SIGNALS)]] = []

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


class Strategy(Section):
    """What all selection strategies have in common.

    `maximum_keys_in_memory`, `processor_type` and `storage_backend` are accepted: selection runs
    in bounded memory over the dataset's own columns (see `Training` for partitions).  Weights are
    used wherever a strategy gives any.
    """

    maximum_keys_in_memory: Count = 1_000_000
    processor_type: str | None = None
    limit: Annotated[int, Field(ge=-1, le=INT64_MAX)] = -1
    storage_backend: Literal["database", "local"] = "database"
    uses_weights: bool = False
    tail_triggers: Index | None


class NewDataStrategy(Strategy):
    """All candidates, or as many as `limit` allows."""

    name: Literal["NewDataStrategy"]
    limit_reset: Literal["lastX", "sampleUAR"] = "lastX"

    def settings(self) -> policies.Selection:
        return policies.NewData(
            tail_triggers=self.tail_triggers, limit=self.limit, limit_reset=self.limit_reset
        )


class Presampling(Section):
    """Choosing before training."""

    strategy: Annotated[
        str,
        known(
            ("No", "Random", "LabelBalanced"),
            ("RandomNoReplacement", "TriggerBalanced"),
        ),
    ]
    ratio: Index
    ratio_max: Count = 100
    force_column_balancing: bool = False
    force_required_target_size: bool = False

    @model_validator(mode="after")
    def _ratio_is_a_share(self) -> Any:
        if self.ratio > self.ratio_max:
            raise ValueError(f"ratio must be at most ratio_max {self.ratio_max}, got {self.ratio}")
        return self


class Downsampling(Section):
    """Choosing during training."""

    strategy: Annotated[
        str,
        known(
            ("No",),
            (
                *("Loss", "GradNorm", "Uncertainty", "KcenterGreedy", "GradMatch", "Craig"),
                *("Submodular", "RHOLoss", "RS2"),
            ),
        ),
    ]
    ratio: Annotated[int, only(100)] = 100
    ratio_max: Annotated[int, only(100)] = 100
    sample_then_batch: bool = False
    period: Index = 1


class CoresetStrategy(Strategy):
    """Presampling, and downsampling during training."""

    name: Literal["CoresetStrategy"]
    warmup_triggers: Index = 0
    presampling_config: Presampling = Presampling(strategy="No", ratio=100)
    downsampling_config: Downsampling = Downsampling(strategy="No")

    def settings(self) -> policies.Selection:
        chosen = self._presampling()
        if self.warmup_triggers == 0:
            return chosen
        return Warmup(warmup_triggers=self.warmup_triggers, selection=chosen)

    def _presampling(self) -> policies.Selection:
        how = self.presampling_config
        if how.strategy == "No":
            if self.limit != -1:
                raise not_supported("a limit with presampling No", "NewDataStrategy, Random")
            return policies.NewData(tail_triggers=self.tail_triggers)
        if how.strategy == "Random":
            return policies.Random(
                ratio=how.ratio,
                ratio_max=how.ratio_max,
                limit=self.limit,
                tail_triggers=self.tail_triggers,
            )
        return policies.LabelBalanced(
            ratio=how.ratio,
            ratio_max=how.ratio_max,
            limit=self.limit,
            tail_triggers=self.tail_triggers,
            force_column_balancing=how.force_column_balancing,
            force_required_target_size=how.force_required_target_size,
        )


SelectionStrategy = Annotated[
    NewDataStrategy | CoresetStrategy,
    Field(discriminator="name"),
    tagged("name", ("FreshnessSamplingStrategy",), "NewDataStrategy", "CoresetStrategy"),
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
