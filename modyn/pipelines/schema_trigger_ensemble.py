"""Triggers that several others decide on together."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from modyn import policies
from modyn.pipelines.schema_trigger_schedule import TriggerSection
from modyn.pipelines.schema_trigger_votes import Votes

if TYPE_CHECKING:
    from modyn.pipelines.schema_trigger import Trigger

Name = Annotated[str, Field(min_length=1, max_length=200)]


class EnsembleTrigger(TriggerSection):
    """`modyn.policies.EnsembleTrigger`; any trigger may be among its sub-triggers."""

    id: Literal["EnsembleTrigger"]
    subtriggers: Annotated[dict[Name, "Trigger"], Field(min_length=1, max_length=1000)]
    ensemble_strategy: Votes

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        return policies.EnsembleTrigger(
            subtriggers={name: one.settings(unit) for name, one in self.subtriggers.items()},
            ensemble_strategy=self.ensemble_strategy.settings(),
        )
