"""Triggers by the clock and by the number of samples, and what the sections of others share."""

from typing import TYPE_CHECKING, Literal

from modyn import policies
from modyn.pipelines.sections import Count, Duration, Index, Moment, Section
from modyn.pipelines.times import timestamp

if TYPE_CHECKING:
    from modyn.pipelines.schema_trigger import Trigger


class TriggerSection(Section):
    """A section that stands for a trigger policy."""

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        raise NotImplementedError


class TimeTrigger(TriggerSection):
    """A trigger every so often."""

    id: Literal["TimeTrigger"]
    every: Duration
    start_timestamp: Moment | None = None

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        start = self.start_timestamp
        first = None if start is None else timestamp(start, unit)
        return policies.TimeTrigger(every=self.every, start_timestamp=first)


class DataAmountTrigger(TriggerSection):
    """A trigger every so many samples."""

    id: Literal["DataAmountTrigger"]
    num_samples: Count

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy; the unit does not matter."""
        return policies.DataAmountTrigger(num_samples=self.num_samples)


class Batched(TriggerSection):
    """What the triggers that look at intervals of so many samples have in common.

    Any trigger may decide in the warm-up.
    """

    evaluation_interval_data_points: Count
    warmup_intervals: Index | None = None
    warmup_policy: "Trigger | None" = None

    def warmup(self, unit: str) -> policies.Trigger | None:
        """Return the policy that decides in the warm-up."""
        return None if self.warmup_policy is None else self.warmup_policy.settings(unit)
