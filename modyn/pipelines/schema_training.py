"""The sections `model` and `training` of pipeline.yaml: what is trained, and how."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from modyn.models import BUILT_IN
from modyn.pipelines import settings
from modyn.pipelines.build import IMPORT_PATH
from modyn.pipelines.sections import (
    Config,
    Count,
    Device,
    Index,
    NonEmpty,
    Section,
    known,
    number_or_auto,
    only,
    shuffle_kind,
)
from modyn.signals import SIGNALS


def _model_id(value: str) -> str:
    if value not in BUILT_IN and IMPORT_PATH.fullmatch(value) is None:
        raise PydanticCustomError(
            "unknown_name",
            "unknown model (one of your own is an import path package.module:function)",
            {"names": list(BUILT_IN)},
        )
    return value


ModelId = Annotated[str, AfterValidator(_model_id)]


class Model(Section):
    """Which model; an import path is only read here, never followed."""

    id: ModelId
    config: Config = Field(default_factory=dict)

    def settings(self) -> settings.Model:
        return settings.Model(id=self.id, config=self.config)


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
