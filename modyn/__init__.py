"""Train models continuously on growing data: when, on which samples, and at what cost.

`Dataset` is where it begins; `Loader` feeds its samples to PyTorch; `modyn.policies` decides when
to train and on what; `Pipeline` puts them together and `Run` shows what came of it.
"""

from typing import TYPE_CHECKING, Any

from modyn import errors, policies
from modyn.dataset import Dataset, Ragged
from modyn.loader import Loader

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline
    from modyn.pipelines.run import Run

__all__ = ["Dataset", "Loader", "Pipeline", "Ragged", "Run", "errors", "policies"]


def __getattr__(name: str) -> Any:
    """Import pipelines when they are first asked for: they need more than NumPy."""
    if name == "Pipeline":
        from modyn.pipelines.pipeline import Pipeline

        return Pipeline
    if name == "Run":
        from modyn.pipelines.run import Run

        return Run
    raise AttributeError(f"module 'modyn' has no attribute {name!r}")
