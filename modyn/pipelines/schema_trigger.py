"""The section `trigger` of pipeline.yaml: when to train.

Each family of policies has its sections in a file of its own, which come together here.
"""

from typing import Annotated

from pydantic import Field

from modyn.pipelines.schema_trigger_detector import DetectorTrigger
from modyn.pipelines.schema_trigger_drift import DataDriftTrigger
from modyn.pipelines.schema_trigger_schedule import DataAmountTrigger, TimeTrigger
from modyn.pipelines.sections import tagged

LATER = (
    *("PerformanceTrigger", "DataIncorporationLatencyCostTrigger"),
    *("AvoidableMisclassificationCostTrigger", "EnsembleTrigger"),
)
Trigger = Annotated[
    TimeTrigger | DataAmountTrigger | DetectorTrigger | DataDriftTrigger,
    Field(discriminator="id"),
    tagged("id", LATER, "TimeTrigger", "DataAmountTrigger", "DetectorTrigger", "DataDriftTrigger"),
]
