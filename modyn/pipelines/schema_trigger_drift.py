"""Triggers where the data have changed."""

from typing import Annotated, Literal

from pydantic import Field

from modyn import policies
from modyn.pipelines.schema_drift_metrics import AnyMetric
from modyn.pipelines.schema_trigger_schedule import Batched
from modyn.pipelines.schema_trigger_votes import MajorityVote, Votes
from modyn.pipelines.sections import Count, Duration, Section
from modyn.policies.windows import WindowingStrategy

Name = Annotated[str, Field(min_length=1, max_length=200)]


class AmountWindowing(Section):
    """Windows of so many samples."""

    id: Literal["AmountWindowingStrategy"] = "AmountWindowingStrategy"
    amount_ref: Count = 1000
    amount_cur: Count = 1000
    allow_overlap: bool = False

    def settings(self) -> WindowingStrategy:
        return policies.AmountWindowingStrategy(
            amount_ref=self.amount_ref,
            amount_cur=self.amount_cur,
            allow_overlap=self.allow_overlap,
        )


class TimeWindowing(Section):
    """Windows of so much sample time."""

    id: Literal["TimeWindowingStrategy"]
    limit_ref: Duration
    limit_cur: Duration
    allow_overlap: bool = False

    def settings(self) -> WindowingStrategy:
        return policies.TimeWindowingStrategy(
            limit_ref=self.limit_ref,
            limit_cur=self.limit_cur,
            allow_overlap=self.allow_overlap,
        )


Windowing = Annotated[AmountWindowing | TimeWindowing, Field(discriminator="id")]


class DataDriftTrigger(Batched):
    """`modyn.policies.DataDriftTrigger`."""

    id: Literal["DataDriftTrigger"]
    metrics: Annotated[dict[Name, AnyMetric], Field(min_length=1, max_length=1000)]
    windowing_strategy: Windowing = AmountWindowing()
    sample_size: Annotated[int, Field(ge=2, le=2**31)] | None = 5000
    aggregation_strategy: Votes = MajorityVote(id="MajorityVote")
    reset_history_on_model: bool = False
    reset_windows_in_warmup: bool = False

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        return policies.DataDriftTrigger(
            evaluation_interval_data_points=self.evaluation_interval_data_points,
            warmup_intervals=self.warmup_intervals,
            warmup_policy=self.warmup(unit),
            metrics={name: metric.settings() for name, metric in self.metrics.items()},
            windowing_strategy=self.windowing_strategy.settings(),
            sample_size=self.sample_size,
            aggregation_strategy=self.aggregation_strategy.settings(),
            reset_history_on_model=self.reset_history_on_model,
            reset_windows_in_warmup=self.reset_windows_in_warmup,
        )
