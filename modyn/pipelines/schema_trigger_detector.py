"""Triggers by a streaming detector of what the newest model gets wrong."""

from typing import Annotated, Any, Literal

from pydantic import Field

from modyn import policies
from modyn.drift import detectors
from modyn.pipelines.schema_trigger_schedule import Batched
from modyn.pipelines.sections import Count, Index, Section

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Detector(Section):
    """A section that stands for a detector: the class of the same name has its parameters."""

    def settings(self) -> Any:
        """Return the detector."""
        found = self.model_dump()
        return getattr(detectors, found.pop("id"))(**found)


class ADWIN(Detector):
    """A window as long as its mean stands still."""

    id: Literal["ADWIN"]
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.002
    clock: Count = 32
    max_buckets: Count = 5
    min_window_length: Count = 5
    grace_period: Index = 10


class KSWIN(Detector):
    """New values beside a draw of older ones."""

    id: Literal["KSWIN"]
    alpha: Share = 0.005
    window_size: Count = 100
    stat_size: Count = 30
    seed: Index = 0


class PageHinkley(Detector):
    """A sum of deviations from the mean."""

    id: Literal["PageHinkley"]
    min_instances: Count = 30
    delta: Number = 0.005
    threshold: Number = 50.0
    alpha: Share = 1 - 0.0001
    mode: Literal["up", "down", "both"] = "both"


class DDM(Detector):
    """The rate of errors above its minimum."""

    id: Literal["DDM"]
    warm_start: Count = 30
    warning_threshold: Number = 2.0
    drift_threshold: Number = 3.0


class EDDM(Detector):
    """Errors that come closer to each other."""

    id: Literal["EDDM"]
    warm_start: Count = 30
    alpha: Share = 0.95
    beta: Share = 0.9


class DetectorTrigger(Batched):
    """A trigger where a detector sees a drift."""

    id: Literal["DetectorTrigger"]
    detector: Annotated[ADWIN | KSWIN | PageHinkley | DDM | EDDM, Field(discriminator="id")] = (
        Field(default=ADWIN(id="ADWIN"))
    )
    of: Literal["errors", "losses", "uncertainty"] = "errors"
    reset_on_model: bool = True

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy."""
        return policies.DetectorTrigger(
            evaluation_interval_data_points=self.evaluation_interval_data_points,
            warmup_intervals=self.warmup_intervals,
            warmup_policy=self.warmup(unit),
            detector=self.detector.settings(),
            of=self.of,
            reset_on_model=self.reset_on_model,
        )
