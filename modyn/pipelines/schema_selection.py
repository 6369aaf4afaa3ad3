"""The section `selection_strategy` of pipeline.yaml: on which samples to train."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from modyn import policies
from modyn.pipelines.sections import (
    INT64_MAX,
    Count,
    Index,
    Section,
    known,
    not_supported,
    only,
    tagged,
)
from modyn.pipelines.warmup import Warmup


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
