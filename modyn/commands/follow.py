"""`modyn run --follow`: a pipeline along a stream that goes on, until a signal ends it.

The first SIGINT or SIGTERM asks it to stop, which it does at the next batch, and the command ends
well: exit code 0.  A second one ends it at once, as it ends any command; nothing is lost by that,
except what was not committed.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline
    from modyn.pipelines.run import Run

__all__ = ["follow"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def follow(pipeline: "Pipeline", directory: Path, again: str, models: Path) -> "Run":
    """Follow until a signal comes, or nothing more can, and say how to go on.

    Parameters
    ----------
    pipeline : Pipeline
        What to do.
    directory : Path
        The run directory.
    again : str
        The command that does the same again.
    models : Path
        The store of models that runs share.
    """
    from rich.console import Console

    from modyn.progress import FollowProgress

    with _asked() as asked:
        looks = FollowProgress(Console())
        run = pipeline.follow(directory, looks, stop=asked, models=models)
        done = run.totals
        how = "stopped" if asked() else "nothing more can come"
        typer.echo(
            f"{pipeline.name}: {how} after {done['position']:,} samples and {done['triggers']:,} "
            f"triggers; to go on: {again}; the same without --follow ends the run with the "
            "samples that are there then"
        )
    return run


@contextmanager
def _asked() -> Iterator[Callable[[], bool]]:
    """Give what says whether a signal has come; the next one is handled as before."""
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def hear(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _handle(before)

    for number in SIGNALS:
        signal.signal(number, hear)
    try:
        yield lambda: bool(came)
    finally:
        _handle(before)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
