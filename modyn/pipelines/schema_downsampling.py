"""The key `downsampling_config` of pipeline.yaml: choosing while a model is trained.

A strategy of a file is a class of `modyn.downsampling`, and its keys are the parameters of the
class, with their types, defaults and rules; a class that comes there needs one name in STRATEGIES.
Three sections are no such class: `No`; RHOLoss, which keeps its IL model and how that is trained
in one place; and the list of strategies, each from some trigger on.
"""

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_type_hints

from pydantic import AfterValidator, Discriminator, Field, Tag, create_model

from modyn import downsampling
from modyn.downsampling import Downsampler, RHOLoss, Schedule
from modyn.pipelines import settings
from modyn.pipelines.schema_training import ModelId, Training
from modyn.pipelines.sections import (
    Config,
    Index,
    NonEmpty,
    Section,
)

ONE, LIST = "<one>", "<list>"  # names of variants, which no file has

STRATEGIES: dict[str, type[Downsampler]] = {
    "Loss": downsampling.Loss,
    "GradNorm": downsampling.GradNorm,
    "Uncertainty": downsampling.Uncertainty,
    "KcenterGreedy": downsampling.KcenterGreedy,
    "GradMatch": downsampling.GradMatch,
    "Craig": downsampling.Craig,
    "Submodular": downsampling.Submodular,
    "RS2": downsampling.RS2,
    "Uniform": downsampling.Uniform,
    "EL2N": downsampling.EL2N,
    "GraNd": downsampling.GraNd,
    "Forgetting": downsampling.Forgetting,
    "InfoBatch": downsampling.InfoBatch,
    "Herding": downsampling.Herding,
    "DOptimal": downsampling.DOptimal,
}


class Strategy(Section):
    """A section that stands for a downsampler."""

    def settings(self) -> Downsampler | None:
        """Return the downsampler; None trains on everything."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return STRATEGIES[values.pop("strategy")](**values)


def _section(name: str, kind: type[Downsampler]) -> type[Strategy]:
    """Return the section of a class: one key for each parameter."""
    hints = get_type_hints(kind)
    keys: dict[str, Any] = {"strategy": (Literal[name], ...)}
    for field in fields(kind):
        given = field.default is not MISSING and not (field.name == "ratio" and kind.exact)
        keys[field.name] = (hints[field.name], field.default if given else ...)
    return create_model(name, __base__=Strategy, __doc__=kind.__doc__, **keys)


def _whole(value: int) -> int:
    if value != 100:
        raise ValueError(f"strategy No trains on everything, which is 100, got {value}")
    return value


class No(Strategy):
    """All samples, as they come."""

    strategy: Literal["No"]
    ratio: Annotated[int, AfterValidator(_whole)] = 100
    ratio_max: Annotated[int, AfterValidator(_whole)] = 100
    sample_then_batch: bool = False
    period: Index = 1

    def settings(self) -> None:
        return None


class ILTraining(Training):
    """The model that learns from a holdout, and how."""

    il_model_id: ModelId
    il_model_config: Config = Field(default_factory=dict)
    drop_last_batch: bool = False

    def settings(self) -> settings.Training:
        if self.num_samples_to_pass is not None:
            raise ValueError("num_samples_to_pass is not for the model of a holdout")
        if self.signals:
            raise ValueError("signals are not recorded of the model of a holdout")
        return super().settings()


class RHO(Strategy):
    """`modyn.downsampling.RHOLoss`."""

    strategy: Literal["RHOLoss"]
    ratio: int
    ratio_max: int = 100
    sample_then_batch: bool = False
    period: int = 1
    balance: bool = False
    normalise: bool = False
    pool_samples: int = 65_536
    holdout_set_strategy: Literal["Simple", "Twin"]
    holdout_set_ratio: int
    holdout_set_ratio_max: int = 100
    il_training_config: ILTraining

    def settings(self) -> Downsampler:
        names = set(type(self).model_fields) - {"strategy", "il_training_config"}
        how = self.il_training_config
        return RHOLoss(
            il_model=settings.Model(id=how.il_model_id, config=how.il_model_config),
            il_training=how.settings(),
            **{name: getattr(self, name) for name in names},
        )


if TYPE_CHECKING:
    AnyStrategy = Strategy
else:
    _SECTIONS = [_section(name, kind) for name, kind in STRATEGIES.items()]
    AnyStrategy = Annotated[Union[No, RHO, *_SECTIONS], Field(discriminator="strategy")]


class Multi(Section):
    """Strategies, each from some trigger on, counted after warm-up."""

    downsampling_list: NonEmpty[AnyStrategy]
    downsampling_thresholds: list[Index]

    def settings(self) -> Schedule:
        return Schedule(
            downsamplers=tuple(one.settings() for one in self.downsampling_list),
            thresholds=tuple(self.downsampling_thresholds),
        )


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return LIST if "downsampling_list" in value else ONE
    return LIST if isinstance(value, Multi) else ONE


Downsampling = Annotated[
    Annotated[AnyStrategy, Tag(ONE)] | Annotated[Multi, Tag(LIST)], Discriminator(_kind)
]
