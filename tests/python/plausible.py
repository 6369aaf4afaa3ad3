"""Runs that never ran: plausible contents of a ledger, for tests of what is shown of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modyn.pipelines.costs import STAGES, WORKERS
from modyn.pipelines.ledger import (
    Content,
    EvaluationRow,
    Progress,
    TimingRow,
    TrainingRow,
    TransitionRow,
    WindowRow,
)
from modyn.pipelines.run import Run

DAY = 86_400
EVERY = 30 * DAY


def plausible_run(
    path: Path,
    *,
    name: str = "monthly",
    dataset: str = "stream",
    description: str = "A model a month.",
    triggers: int = 4,
    windows: int = 5,
    start: int = -5 * EVERY,
    metrics: tuple[str, ...] = ("Accuracy", "ROC-AUC"),
    unit: str = "s",
    scale: int = 1,
    better: float = 0.0,
    finished: bool = True,
) -> Run:
    """A run with a trigger at the end of each window; model t scores best in window t."""
    path.mkdir(parents=True, exist_ok=True)
    every, start = EVERY * scale, start * scale
    config: dict[str, Any] = {
        "pipeline": {"name": name, "description": description},
        "data": {"dataset_id": dataset},
        "model": {"id": "MLP", "config": {"hidden": [8]}},
        "trigger": {"id": "TimeTrigger", "every": "30d"},
        "selection_strategy": {"name": "NewDataStrategy", "tail_triggers": None},
        "training": {
            "batch_size": 32,
            "epochs_per_trigger": 1,
            "use_previous_model": False,
            "optimizers": [
                {"algorithm": "SGD", "param_groups": [{"module": "model", "config": {"lr": 0.1}}]}
            ],
        },
    }
    (path / "pipeline.yaml").write_text(json.dumps(config))
    content = Content(
        identity={
            "config": config,
            "dataset": {"timestamp_unit": unit},
            "evaluation_datasets": [{"id": dataset}],
        },
        progress=Progress(
            position=100 * triggers, trigger_state="{}", selection_state="{}", finished=finished
        ),
        transitions=[_transition(t, start, every) for t in range(triggers)],
        trainings=[
            TrainingRow(
                trigger=t,
                model=f"m{t}",
                parent=None,
                epochs=2,
                batches=7 * (t + 1),
                samples=100 * (t + 1),
                final_loss=0.5 / (t + 1),
                losses="[]",
            )
            for t in range(triggers)
        ],
        windows=[
            WindowRow(
                dataset=dataset,
                handler=0,
                start=start + w * every,
                end=start + (w + 1) * every,
                anchor=start + w * every,
                count=100,
            )
            for w in range(windows)
        ],
        evaluations=[
            EvaluationRow(
                trigger=t,
                dataset=dataset,
                start=start + w * every,
                end=start + (w + 1) * every,
                metric=metric,
                model=f"m{t}",
                value=0.9 + better - 0.05 * abs(t - w),
                count=100,
                counts="{}",
            )
            for t in range(triggers)
            for w in range(windows)
            for metric in metrics
        ],
        timings=[
            TimingRow(trigger=t, stage=stage, seconds=0.125 * (i + t))
            for t in range(triggers)
            for i, stage in enumerate((*STAGES, *WORKERS))
        ],
        digest="d1" * 32,
    )
    return Run(path, config, content)


def _transition(t: int, start: int, every: int) -> TransitionRow:
    last = start + (t + 1) * every - 1
    return TransitionRow(
        trigger=t,
        first=100 * t,
        position=100 * (t + 1),
        first_timestamp=start + t * every,
        last_timestamp=last,
        trained_until=last,
        candidates_first=0,
        candidates=100 * (t + 1),
        samples=100 * (t + 1),
        digest=f"{t:064x}",
        trigger_state="{}",
        selection_state="{}",
    )
