"""Pipelines: configuration, the run, training, evaluation, and the ledger of what was done."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modyn.pipelines.metrics import Accuracy, F1Score, RocAuc
    from modyn.pipelines.pipeline import Pipeline
    from modyn.pipelines.progress import Progress
    from modyn.pipelines.run import Run
    from modyn.pipelines.settings import (
        Criterion,
        EvalDataset,
        EvalHandler,
        Evaluation,
        LrScheduler,
        Metadata,
        Model,
        Optimizer,
        ParamGroup,
        Training,
    )
    from modyn.pipelines.table import Table
    from modyn.pipelines.windows import (
        BetweenTwoTriggersEvalStrategy,
        OffsetEvalStrategy,
        PeriodicEvalStrategy,
        SlicingEvalStrategy,
        StaticEvalStrategy,
    )

_NAMES = {
    "pipeline": ["Pipeline"],
    "run": ["Run"],
    "table": ["Table"],
    "progress": ["Progress"],
    "settings": [
        *["Training", "Optimizer", "ParamGroup", "Criterion", "LrScheduler", "Metadata", "Model"],
        *["Evaluation", "EvalHandler", "EvalDataset"],
    ],
    "metrics": ["Accuracy", "F1Score", "RocAuc"],
    "windows": [
        *["SlicingEvalStrategy", "StaticEvalStrategy", "PeriodicEvalStrategy"],
        *["OffsetEvalStrategy", "BetweenTwoTriggersEvalStrategy"],
    ],
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Accuracy",
    "BetweenTwoTriggersEvalStrategy",
    "Criterion",
    "EvalDataset",
    "EvalHandler",
    "Evaluation",
    "F1Score",
    "LrScheduler",
    "Metadata",
    "Model",
    "OffsetEvalStrategy",
    "Optimizer",
    "ParamGroup",
    "PeriodicEvalStrategy",
    "Pipeline",
    "Progress",
    "RocAuc",
    "Run",
    "SlicingEvalStrategy",
    "StaticEvalStrategy",
    "Table",
    "Training",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'modyn.pipelines' has no attribute {name!r}")
    value = getattr(import_module(f"modyn.pipelines.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
