"""Train models continuously on growing data: decide when, on which samples, and at what cost.

The public names come in when they are first used, so that `import modyn` needs NumPy alone.

Examples
--------
>>> import modyn
>>> sorted(set(modyn.__all__) & set(dir(modyn))) == sorted(modyn.__all__)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modyn import errors, formats, policies
    from modyn.backtesting.backtest import backtest
    from modyn.dataset import Dataset, Ragged
    from modyn.keyindex import KeyIndex
    from modyn.loader import Loader
    from modyn.maintenance import repair, verify
    from modyn.pipelines.pipeline import Pipeline
    from modyn.pipelines.run import Run
    from modyn.pipelines.settings import Evaluation, Training
    from modyn.provenance import Provenance

__version__ = "0.1.0"

_MODULES = ("errors", "formats", "policies")
_HOMES = {
    "backtest": "modyn.backtesting.backtest",
    "Dataset": "modyn.dataset",
    "Ragged": "modyn.dataset",
    "KeyIndex": "modyn.keyindex",
    "Loader": "modyn.loader",
    "verify": "modyn.maintenance",
    "repair": "modyn.maintenance",
    "Pipeline": "modyn.pipelines.pipeline",
    "Run": "modyn.pipelines.run",
    "Provenance": "modyn.provenance",
    "Training": "modyn.pipelines.settings",
    "Evaluation": "modyn.pipelines.settings",
}

__all__ = [
    "Dataset",
    "KeyIndex",
    "Loader",
    "Pipeline",
    "Provenance",
    "Ragged",
    "Run",
    "Training",
    "Evaluation",
    "backtest",
    "verify",
    "repair",
    "formats",
    "policies",
    "errors",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"modyn.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'modyn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
