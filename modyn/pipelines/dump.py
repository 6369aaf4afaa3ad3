"""A pipeline as pipeline.yaml has it, so that one made in Python can be read and run as a file.

What a file cannot say stays as it is described: policies of one's own, and models that are
callables.  Such a file shows what ran, and does not run.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from modyn.pipelines import dump_downsampling, schema_presampling
from modyn.pipelines.settings import Metadata, describe
from modyn.pipelines.warmup import Warmup
from modyn.policies import FreshnessSampling, NewData, Selection

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline


def values(pipeline: "Pipeline") -> dict[str, Any]:
    """Return the sections of the file."""
    described = pipeline.describe()
    training = {k: v for k, v in described["training"].items() if v is not None}
    training["device"] = pipeline.training.device
    found = {
        "pipeline": {k: v for k, v in described["pipeline"].items() if v is not None},
        "model": described["model"],
        "training": training,
        "data": described["data"],
        "trigger": _tagged_within(described["trigger"], "id"),
        "selection_strategy": _strategy(pipeline, described["selection_strategy"]),
    }
    if pipeline.evaluation is not None:
        found["evaluation"] = _evaluation(pipeline.evaluation)
    if isinstance(pipeline.metadata, Metadata):
        found["metadata"] = _metadata(pipeline.metadata)
    return found


def _strategy(pipeline: "Pipeline", described: dict[str, Any]) -> dict[str, Any]:
    """Return the strategy that stands for a selection policy and a downsampler."""
    chosen = _selection(pipeline.selection, described)
    if pipeline.downsampling is None:
        return chosen
    if type(pipeline.selection) is NewData:  # of which there is a strategy without downsampling
        chosen = _coreset(pipeline.selection) or chosen
    return {**chosen, "downsampling_config": dump_downsampling.section(pipeline.downsampling)}


def _selection(selection: Selection, described: dict[str, Any]) -> dict[str, Any]:
    """Return the strategy that stands for a selection policy."""
    if isinstance(selection, Warmup):
        inner = _coreset(selection.selection)
        return inner | {"warmup_triggers": selection.warmup_triggers} if inner else described
    if type(selection) is NewData:
        return {**described, "name": "NewDataStrategy"}
    if type(selection) is FreshnessSampling:
        return {**described, "name": "FreshnessSamplingStrategy"}
    return _coreset(selection) or described


def _coreset(selection: Selection) -> dict[str, Any]:
    """Return a CoresetStrategy, empty where there is none."""
    how = schema_presampling.section(selection)
    if not how:
        return {}
    return {
        "name": "CoresetStrategy",
        "tail_triggers": selection.tail_triggers,
        "limit": getattr(selection, "limit", -1),
        "presampling_config": how,
    }


def _evaluation(evaluation: Any) -> dict[str, Any]:
    """Return the section: the class of a strategy is its type, that of a metric its name."""
    return {
        "handlers": [
            {**_bare(describe(handler)), "strategy": _tagged(describe(handler.strategy), "type")}
            for handler in evaluation.handlers
        ],
        "device": evaluation.device,
        "datasets": [
            {
                "dataset_id": data.dataset_id,
                "batch_size": data.batch_size,
                "metrics": [_tagged(describe(metric), "name") for metric in data.metrics],
            }
            for data in evaluation.datasets
        ],
    }


def _metadata(metadata: Metadata) -> Any:
    """Return the URL alone, or the section with what is not as it is by default."""
    changed = {
        field.name: getattr(metadata, field.name)
        for field in fields(metadata)
        if getattr(metadata, field.name) != field.default
    }
    return metadata.url if len(changed) == 1 else changed


def _bare(described: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if name != "class"}


def _tagged_within(described: Any, tag: str) -> Any:
    """Return a description whose every class stands under this key."""
    if isinstance(described, list):
        return [_tagged_within(entry, tag) for entry in described]
    if not isinstance(described, dict):
        return described
    if described.get("class") == "Metric":  # of drift, which a file holds in one section
        described = {**described["metric"], **_bare(described)}
        del described["metric"]
    found = {
        tag if k == "class" and isinstance(v, str) else k: _tagged_within(v, tag)
        for k, v in described.items()  # a dict under "class" is what somebody named so
    }
    if isinstance(described.get("metrics"), list):  # of how well models do, as in `evaluation`
        found["metrics"] = [_tagged(metric, "name") for metric in described["metrics"]]
    return found


def _tagged(described: dict[str, Any], tag: str) -> dict[str, Any]:
    return {tag: described["class"], **_bare(described)}
