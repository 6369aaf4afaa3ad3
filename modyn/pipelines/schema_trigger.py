"""The section `trigger` of pipeline.yaml: when to train.

Each family of policies has its sections in a file of its own, which come together here.
"""

from typing import Annotated

from pydantic import Field

from modyn.pipelines.schema_trigger_detector import DetectorTrigger
from modyn.pipelines.schema_trigger_drift import DataDriftTrigger
from modyn.pipelines.schema_trigger_ensemble import EnsembleTrigger
from modyn.pipelines.schema_trigger_performance import (
    AvoidableMisclassificationCostTrigger,
    DataIncorporationLatencyCostTrigger,
    PerformanceTrigger,
)
from modyn.pipelines.schema_trigger_schedule import DataAmountTrigger, TimeTrigger

Trigger = Annotated[
    TimeTrigger
    | DataAmountTrigger
    | DetectorTrigger
    | DataDriftTrigger
    | PerformanceTrigger
    | DataIncorporationLatencyCostTrigger
    | AvoidableMisclassificationCostTrigger
    | EnsembleTrigger,
    Field(discriminator="id"),
]
for _section in (
    DetectorTrigger,
    DataDriftTrigger,
    PerformanceTrigger,
    DataIncorporationLatencyCostTrigger,
    AvoidableMisclassificationCostTrigger,
    EnsembleTrigger,
):
    _section.model_rebuild()
