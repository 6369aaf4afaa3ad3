"""The section `selection_strategy` of pipeline.yaml: on which samples to train."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from modyn import policies
from modyn.downsampling import Downsampler, Schedule
from modyn.pipelines.schema_downsampling import Downsampling, No
from modyn.pipelines.sections import (
    INT64_MAX,
    Count,
    Index,
    Section,
    known,
    not_supported,
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

    def downsampling(self) -> Downsampler | Schedule | None:
        """Return what chooses during training."""
        return None


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


class CoresetStrategy(Strategy):
    """Presampling, and downsampling during training."""

    name: Literal["CoresetStrategy"]
    warmup_triggers: Index = 0
    presampling_config: Presampling = Presampling(strategy="No", ratio=100)
    downsampling_config: Downsampling = No(strategy="No")

    def settings(self) -> policies.Selection:
        chosen = self._presampling()
        if self.warmup_triggers == 0:
            return chosen
        return Warmup(warmup_triggers=self.warmup_triggers, selection=chosen)

    def downsampling(self) -> Downsampler | Schedule | None:
        """Return what chooses during training."""
        return self.downsampling_config.settings()

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
