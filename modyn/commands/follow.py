"""`modyn run --follow`: pipelines along streams that go on, until a signal ends it.

The first SIGINT or SIGTERM asks them to stop, which they do at the next batch, and the command ends
well: exit code 0.  Where nobody asks for half a second, such as in a policy that computes for long,
they are interrupted, which is as harmless as a kill.  A second signal ends the command at once, as
it ends any other.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import typer

from modyn.stopping import Stopped

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline
    from modyn.pipelines.run import Run

__all__ = ["Signals", "follow"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 0.5  # from a signal to the interruption
AGAIN_SECONDS = 0.5  # from there to the next one, if that was lost


class Signals:
    """Hears signals while it is entered: the first one stops, the next is handled as before.

    Attributes
    ----------
    came : bool
        A signal has come.
    interrupted : bool
        Somebody was interrupted who did not ask.
    """

    def __init__(self) -> None:
        self.came = self.interrupted = False
        self._begun = self._may_interrupt = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (*SIGNALS, signal.SIGALRM):
            self._before[number] = signal.getsignal(number)
        signal.signal(signal.SIGALRM, self._interrupt)
        for number in SIGNALS:
            signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # what has come by now is handled by ours first

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Interrupt the block by Stopped; a signal that comes before it just ends the process."""
        self._begun = self._may_interrupt = True
        try:
            yield
        finally:
            self._may_interrupt = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self._begun:  # modules are imported, and not all of them bear an interruption
            os.write(2, b"modyn: stopped before anything began\n")
            os._exit(0)
        self.came = True
        for other in SIGNALS:
            signal.signal(other, self._before[other])
        if self._may_interrupt:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS, AGAIN_SECONDS)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._may_interrupt:
            self.interrupted = True
            raise Stopped


def follow(
    make: "Callable[[], Sequence[Pipeline]]", out: Path, again: str, models: Path, signals: Signals
) -> None:
    """Follow until a signal comes, or nothing more can, and say how to go on.

    Parameters
    ----------
    make : callable
        Returns the pipelines.
    out : Path
        The folder of run directories.
    again : str
        The command that does the same again.
    models : Path
        The store of models that runs share.
    signals : Signals
        Hears what stops it.
    """
    import torch  # noqa: F401
    from rich.console import Console

    from modyn import listing
    from modyn.pipelines.follow import Followed
    from modyn.pipelines.follow import follow as follow_all
    from modyn.progress import FollowProgress

    names: list[str] = []
    try:
        with signals.interrupting():
            members = [
                Followed(pipeline=one, directory=out / one.name, progress=FollowProgress(Console()))
                for one in make()
            ]
            names = [one.pipeline.name for one in members]
            follow_all(members, lambda: signals.came, models)
    except Stopped:
        pass
    except Exception:
        if not signals.interrupted:  # else that is what it comes from
            raise
    runs = list(_runs(out, names, "stopped" if signals.came else "nothing more can come"))
    typer.echo(f"to go on: {again}")
    typer.echo("the same without --follow ends a run with the samples that are there then")
    if runs:
        listing.print_summary(runs)


def _runs(out: Path, names: Sequence[str], how: str) -> "Iterator[Run]":
    """Say how far each of them came, and yield those that have begun."""
    from modyn.pipelines.run import Run

    for name in names:
        try:
            run = Run.open(out / name)
        except FileNotFoundError:
            typer.echo(f"{name}: {how} before it began")
            continue
        done = run.totals
        typer.echo(
            f"{name}: {how} after {done['position']:,} samples and {done['triggers']:,} triggers"
        )
        yield run
