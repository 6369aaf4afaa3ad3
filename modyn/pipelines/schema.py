"""pipeline.yaml, section by section: the one place where names and types of a file are checked.

Section and key names are those that users of this kind of system know.  What is known and not
built yet is refused by name; what would be code is refused for ever.  Each section turns itself
into the frozen record of `settings` (or the policy) that the rest of modyn works with.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    model_validator,
)

from modyn.downsampling import Schedule
from modyn.metadata.url import Url
from modyn.pipelines import settings
from modyn.pipelines.fit_downsampling import check_downsampling
from modyn.pipelines.schema_evaluation import Data, Evaluation
from modyn.pipelines.schema_selection import SelectionStrategy
from modyn.pipelines.schema_training import Model, Training
from modyn.pipelines.schema_trigger import Trigger
from modyn.pipelines.schema_trigger_performance import check_dataset
from modyn.pipelines.sections import (
    Config,
    Count,
    Duration,
    Index,
    Moment,
    Section,
    known,
    only,
)


class Pipeline(Section):
    """What the run is called, and which stream it follows."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    version: str | None = None
    seed: Index | None = None
    order: Literal["time", "arrival"] = "time"
    maximum_triggers: Count | None = None
    start_replay_at: Moment | None = None
    stop_replay_at: Moment | None = None


class FullModelStrategy(Section):
    """How models are stored: always as safetensors and JSON."""

    name: Annotated[str, known(("PyTorchFullModel",), ("BinaryFullModel",))]
    config: Config = Field(default_factory=dict)
    zip: Annotated[bool | None, only(None, False)] = None
    zip_algorithm: str = "ZIP_DEFLATED"


class ModelStorage(Section):
    """Accepted so that existing files can be used."""

    full_model_strategy: FullModelStrategy
    incremental_model_strategy: Annotated[JsonValue, only(None)] = None


def _as_mapping(value: Any) -> Any:
    """Take a bare URL for a section that holds it; no message shows what was there instead."""
    if isinstance(value, str):
        return {"url": value}
    if value is not None and not isinstance(value, dict):
        raise ValueError("should be a URL, or a section with the key url")
    return value


def _is_url(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("should be a URL")
    try:
        Url.parse(value)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("metadata: ")) from None
    return value


class Metadata(Section):
    """The database that holds the metadata of a run."""

    url: Annotated[str, BeforeValidator(_is_url)]
    layout: Literal["rows", "blocks"] = "rows"
    hash_partition_modulus: Annotated[int, Field(ge=1, le=1024)] | None = None
    unlogged: bool = False
    connections: Annotated[int, Field(ge=1, le=64)] = 2
    lease_seconds: Annotated[int | float, Field(ge=1, le=86_400)] = 30.0
    retry_seconds: Annotated[int | float, Field(ge=0, le=86_400)] = 60.0
    publish: bool = False

    def settings(self) -> settings.Metadata:
        return settings.Metadata(
            url=self.url,
            layout=self.layout,
            hash_partition_modulus=self.hash_partition_modulus,
            unlogged=self.unlogged,
            connections=self.connections,
            lease_seconds=float(self.lease_seconds),
            retry_seconds=float(self.retry_seconds),
            publish=self.publish,
        )


class Stream(Data):
    """The dataset that is followed."""

    label_delay: Index | Duration = 0


class File(Section):
    """A whole pipeline.yaml."""

    pipeline: Pipeline
    model: Model
    model_storage: ModelStorage | None = None
    training: Training
    data: Stream
    trigger: Trigger
    selection_strategy: SelectionStrategy
    evaluation: Evaluation | None = None
    metadata: Annotated[Metadata | None, BeforeValidator(_as_mapping)] = None

    @model_validator(mode="after")
    def _downsampling_fits_the_training(self) -> "File":
        found = self.selection_strategy.downsampling()
        for one in found.downsamplers if isinstance(found, Schedule) else [found]:
            if one is not None:
                check_downsampling(one, self.training.settings())
        return self

    @model_validator(mode="after")
    def _the_trigger_measures_the_stream(self) -> "File":
        check_dataset(self.trigger, self.data.dataset_id)
        return self

    def training_settings(self) -> settings.Training:
        """Return the section `training`, with what it takes from the selection strategy."""
        training, strategy = self.training.settings(), self.selection_strategy
        stated = "maximum_keys_in_memory" in strategy.model_fields_set
        if training.shuffle != "partition" or training.partition_size is not None or not stated:
            return training
        return replace(training, partition_size=strategy.maximum_keys_in_memory)
