"""The key `downsampling_config` of a pipeline that was made in Python."""

from dataclasses import fields
from typing import Any

from modyn.downsampling import Downsampler, RHOLoss, Schedule
from modyn.pipelines.schema_downsampling import STRATEGIES
from modyn.pipelines.settings import Model, Training, describe

REQUIRED = ("ratio", "holdout_set_strategy")  # what a file always says


def section(downsampling: Downsampler | Schedule | None) -> dict[str, Any]:
    """Return the section that stands for what chooses during training.

    A downsampler of one's own is described with its parameters; a file cannot say it.

    Examples
    --------
    >>> section(None)
    {'strategy': 'No', 'ratio': 100}
    """
    if isinstance(downsampling, Schedule):
        return {
            "downsampling_list": [section(one) for one in downsampling.downsamplers],
            "downsampling_thresholds": list(downsampling.thresholds),
        }
    if downsampling is None:
        return {"strategy": "No", "ratio": 100}
    kind = type(downsampling)
    changed = {
        field.name: getattr(downsampling, field.name)
        for field in fields(downsampling)
        if field.name in REQUIRED or getattr(downsampling, field.name) != field.default
    }
    if isinstance(downsampling, RHOLoss):
        model, training = changed.pop("il_model", None), changed.pop("il_training", None)
        return {
            "strategy": "RHOLoss",
            **describe(changed),
            "il_training_config": _il_training(model, training),
        }
    known = STRATEGIES.get(kind.__name__) is kind
    name = kind.__name__ if known else f"{kind.__module__}.{kind.__qualname__}"
    return {"strategy": name, **describe(changed)}


def _il_training(model: Model | None, training: Training | None) -> dict[str, Any]:
    """Return the section of the IL model; a pipeline has filled in both."""
    if model is None or training is None:
        return {}
    found = {name: value for name, value in bare(describe(training)).items() if value is not None}
    return {**found, "il_model_id": model.id, "il_model_config": dict(model.config)}


def bare(value: Any) -> Any:
    """Return a description without the names of classes.

    Examples
    --------
    >>> bare({"class": "Model", "id": "MLP", "config": [{"class": "X"}]})
    {'id': 'MLP', 'config': [{}]}
    """
    if isinstance(value, dict):
        return {name: bare(entry) for name, entry in value.items() if name != "class"}
    return [bare(entry) for entry in value] if isinstance(value, list) else value
