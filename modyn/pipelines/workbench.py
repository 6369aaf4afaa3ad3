"""What a process has at hand while it works on a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.pipelines.backend import Backend
from modyn.pipelines.build import MakeModel
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.progress import Progress

if TYPE_CHECKING:
    import torch

    from modyn.pipelines.pipeline import Pipeline

__all__ = ["Workbench"]


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """What the parts of a replay work with.

    Parameters
    ----------
    pipeline : Pipeline
        What to do.
    description : dict
        The pipeline, as `describe` says it.
    make_model : callable
        Returns a module of the pipeline's model, with weights that nobody asked for.
    directory : Path
        Where the run is.
    backend : Backend
        Where its metadata is.
    clock : Stopwatch
        Takes the seconds of each stage.
    progress : Progress
        Who looks on.
    """

    pipeline: "Pipeline"
    description: dict[str, Any]
    make_model: MakeModel
    directory: Path
    backend: Backend
    clock: Stopwatch
    progress: Progress

    def fresh_model(self) -> "torch.nn.Module":
        """Return a model to load weights into; the caller's random numbers stay as they are."""
        import torch

        with torch.random.fork_rng(devices=[]):
            return self.make_model()
