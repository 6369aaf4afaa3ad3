"""The section `selection_strategy` of pipeline.yaml: on which samples to train."""

from typing import Annotated, Literal

from pydantic import Field

from modyn import policies
from modyn.downsampling import Downsampler, Schedule
from modyn.pipelines import schema_presampling as presampling
from modyn.pipelines.schema_downsampling import Downsampling, No
from modyn.pipelines.schema_presampling import Presampling
from modyn.pipelines.sections import (
    INT64_MAX,
    Count,
    Index,
    Section,
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


class FreshnessSamplingStrategy(Strategy):
    """A fixed ratio between samples never used and samples used before."""

    name: Literal["FreshnessSamplingStrategy"]
    unused_data_ratio: int
    without_unused: Literal["used", "nothing"] = "used"

    def settings(self) -> policies.Selection:
        check_backend(self)
        return policies.FreshnessSampling(
            unused_data_ratio=self.unused_data_ratio,
            limit=self.limit,
            tail_triggers=self.tail_triggers,
            without_unused=self.without_unused,
        )


class CoresetStrategy(Strategy):
    """Presampling, and downsampling during training."""

    name: Literal["CoresetStrategy"]
    warmup_triggers: Index = 0
    presampling_config: Presampling = presampling.No(strategy="No", ratio=100)
    downsampling_config: Downsampling = No(strategy="No")

    def settings(self) -> policies.Selection:
        check_backend(self)
        chosen = self.presampling_config.policy(self.tail_triggers, self.limit)
        if self.warmup_triggers == 0:
            return chosen
        return Warmup(warmup_triggers=self.warmup_triggers, selection=chosen)

    def downsampling(self) -> Downsampler | Schedule | None:
        """Return what chooses during training."""
        return self.downsampling_config.settings()


def check_backend(strategy: Strategy) -> None:
    """Refuse what is known of new data only."""
    if strategy.storage_backend == "local":
        raise ValueError("storage_backend local is for NewDataStrategy; this one needs database")


SelectionStrategy = Annotated[
    NewDataStrategy | FreshnessSamplingStrategy | CoresetStrategy, Field(discriminator="name")
]
