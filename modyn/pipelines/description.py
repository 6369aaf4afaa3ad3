"""What decides the outcome of a run, as plain values in the sections of pipeline.yaml."""

from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from modyn.downsampling import Downsampler, RHOLoss, Schedule
from modyn.pipelines.settings import Evaluation, describe
from modyn.policies import Selection, Trigger

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline

__all__ = ["described", "described_downsampling", "described_policy"]


def described(pipeline: "Pipeline") -> dict[str, Any]:
    """Return what decides the outcome of a run of this pipeline; see `Pipeline.describe`."""
    stream = ("order", "maximum_triggers", "start_replay_at", "stop_replay_at")
    training = describe(pipeline.training)
    training["device"] = pipeline.training.device.split(":")[0]
    sections: dict[str, Any] = {
        "pipeline": {
            "name": pipeline.name,
            "seed": pipeline.seed_value,
            **{key: getattr(pipeline, key) for key in stream},
        },
        "model": _plain(describe(pipeline.model)),
        "training": _plain({**training, "seed": pipeline.training_seed}),
        "data": {"dataset_id": Path(pipeline.dataset.path).name},
        "trigger": described_policy(pipeline.trigger, "id"),
        "selection_strategy": described_policy(pipeline.selection, "name"),
        "evaluation": _evaluation(pipeline.evaluation),
    }
    if pipeline.downsampling is not None:  # which came later than the first runs
        sections["downsampling"] = described_downsampling(pipeline.downsampling)
    if pipeline.label_delay:
        sections["data"]["label_delay"] = pipeline.label_delay
    return sections


def described_downsampling(downsampling: Downsampler | Schedule | None) -> Any:
    """Return the class and the parameters of what decides while a model is trained."""
    if isinstance(downsampling, Schedule):
        return {
            "downsamplers": [described_downsampling(one) for one in downsampling.downsamplers],
            "thresholds": list(downsampling.thresholds),
        }
    if downsampling is None:
        return None
    found = described_policy(downsampling, "strategy")
    if isinstance(downsampling, RHOLoss):
        training = found["il_training"]
        found["il_model"] = _plain(found["il_model"])
        found["il_training"] = _plain({**training, "device": training["device"].split(":")[0]})
    return found


def described_policy(policy: Trigger | Selection | Downsampler, key: str) -> dict[str, Any]:
    """Return a policy's class and its parameters: all attributes that are not state.

    Of a selection that includes `tail_triggers`, unless it is a class that leaves it at 0.
    """
    kind = type(policy)
    built_in = kind.__module__.startswith("modyn.")
    found: dict[str, Any] = {
        key: kind.__name__ if built_in else f"{kind.__module__}.{kind.__qualname__}"
    }
    for name, value in vars(policy).items():
        if name.startswith("_"):
            continue
        if isinstance(value, Trigger | Selection):
            found[name] = described_policy(value, key)
            continue
        if isinstance(value, Mapping) and any(isinstance(v, Trigger) for v in value.values()):
            found[name] = {str(one): described_policy(policy, key) for one, policy in value.items()}
            continue
        if isinstance(value, FunctionType):
            found[name] = f"{value.__module__}:{value.__qualname__}"
            continue
        try:
            found[name] = describe(value)
        except TypeError as error:
            raise TypeError(f"parameter {name} of {kind.__name__}: {error}") from None
    if isinstance(policy, Selection) and policy.tail_triggers != 0:
        found["tail_triggers"] = policy.tail_triggers  # also where a class says so
    return found


def _evaluation(evaluation: Evaluation | None) -> Any:
    return (
        None if evaluation is None else _plain(describe(evaluation), keep=("strategy", "metrics"))
    )


def _plain(value: Any, keep: tuple[str, ...] = (), kept: bool = False) -> Any:
    """Return a description without the names of classes, but where a class is the choice."""
    if isinstance(value, dict):
        return {
            name: _plain(entry, keep, name in keep)
            for name, entry in value.items()
            if kept or name != "class"
        }
    return [_plain(entry, keep, kept) for entry in value] if isinstance(value, list) else value
