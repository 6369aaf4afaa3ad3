"""What pages say about a run, taken from its tables and its configuration."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modyn.dates import moment
from modyn.pipelines.run import Run

ACTIVE, TRAINED = "active", "trained"

# Stages of a run as charts show them, from the bottom of a bar to its top.
STAGES = {
    "policy": "trigger policy",
    "select": "selection",
    "write": "training set file",
    "load": "waiting for batches",
    "irreducible": "irreducible losses",
    "score": "scoring",
    "train": "training",
    "store": "storing models",
    "evaluate": "evaluation",
}


@dataclass(frozen=True, kw_only=True)
class Series:
    """The evaluation windows of one handler on one dataset, in order of time.

    `windows` are rows of `Run.windows`: window, start, end, count and so on.
    """

    dataset: str
    handler: int
    windows: Sequence[Mapping[str, Any]]
    metrics: Sequence[str]


def series_of(run: Run) -> list[Series]:
    """Return what a run measured, by dataset and handler; only what has windows and metrics."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for window in run.windows:
        groups.setdefault((window["dataset"], window["handler"]), []).append(window)
    metrics: dict[str, dict[str, None]] = {}
    for row in run.evaluations:
        metrics.setdefault(row["dataset"], {})[row["metric"]] = None
    return [
        Series(
            dataset=dataset,
            handler=handler,
            windows=sorted(windows, key=lambda row: (row["start"], row["end"])),
            metrics=tuple(metrics.get(dataset, {})),
        )
        for (dataset, handler), windows in groups.items()
        if dataset in metrics
    ]


def composite(run: Run, series: Series, metric: str, kind: str) -> list[dict[str, Any]]:
    """Return the rows of a composite model, in order of time."""
    table = run.composite(metric, kind, dataset=series.dataset, handler=series.handler)
    return sorted(table, key=lambda row: (row["start"], row["end"]))


def score(run: Run, series: Series, metric: str, kind: str) -> float | None:
    """Return the mean of a composite over its windows, each counting as its samples do."""
    return run.score(metric, kind, dataset=series.dataset, handler=series.handler)


def number(value: float | None) -> str:
    """Return a score with four digits, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def description(run: Run) -> str:
    """Return the description in the configuration, or nothing."""
    return str(_section(run, "pipeline").get("description") or "")


def policy(run: Run, section: str) -> str:
    """Return a trigger or selection policy in one line: its name and settings."""
    values = dict(_section(run, section))
    name = values.pop("id", None) or values.pop("name", None) or "-"
    return f"{name}({_settings(values)})"


def about(run: Run) -> list[tuple[str, str]]:
    """Return the facts at the head of a page: (what, value)."""
    training, pipeline = _section(run, "training"), _section(run, "pipeline")
    names = [
        *("epochs_per_trigger", "num_samples_to_pass", "batch_size", "use_previous_model"),
        *("device", "seed"),
    ]
    facts = [
        ("State", "finished" if run.finished else "unfinished: run the same command again"),
        ("Dataset", str(_section(run, "data").get("dataset_id", "-"))),
        ("Stream", _stream(run)),
        ("Trigger", policy(run, "trigger")),
        ("Selection", policy(run, "selection_strategy")),
        ("Model", policy(run, "model")),
        ("Training", _settings({name: training[name] for name in names if name in training})),
        ("Optimizer", _optimizers(training)),
    ]
    if pipeline.get("maximum_triggers") is not None:
        facts.append(("Ends after", f"{pipeline['maximum_triggers']} trigger(s)"))
    return [*facts, ("Ledger digest", run.digest())]


def _stream(run: Run) -> str:
    position = run.totals["position"]
    spans = [(row["first_timestamp"], row["last_timestamp"]) for row in run.triggers]
    known = [moment(at, run.timestamp_unit) for span in spans for at in span if at is not None]
    until = f", triggers from {known[0]} to {known[-1]}" if known else ""
    return f"{position:,} samples followed{until}"


def _optimizers(training: Mapping[str, Any]) -> str:
    found = []
    for optimizer in training.get("optimizers") or ():
        if isinstance(optimizer, Mapping):
            groups = optimizer.get("param_groups") or ()
            options = [_settings(group.get("config") or {}) for group in groups]
            found.append(f"{optimizer.get('algorithm', '-')}({'; '.join(options)})")
    return ", ".join(found) or "-"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + _settings(value) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if value is None or isinstance(value, bool):  # 1 == True, so no dictionary
        return json.dumps(value)
    return str(value)


def _section(run: Run, name: str) -> Mapping[str, Any]:
    section = run.config.get(name)
    return section if isinstance(section, Mapping) else {}
