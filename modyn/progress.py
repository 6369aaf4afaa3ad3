"""How a run shows where it stands: nested bars in a terminal, a few plain lines elsewhere.

Both are told the same by a pipeline (`modyn.pipelines.progress.Progress`), often many times a
second, and show it only every so often, so that looking on costs nothing that could be measured.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from modyn.pipelines.progress import Progress

BARS_EVERY_SECONDS = 0.1
LINES_EVERY_SECONDS = 10.0

__all__ = ["BarProgress", "FollowProgress", "LineProgress", "Progress", "shown"]


@contextmanager
def shown(console: Console, pipelines: int) -> Iterator["BarProgress | LineProgress"]:
    """Show the progress of so many pipelines, one after the other, on a console."""
    if not console.is_terminal:
        yield LineProgress(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, expand=True, refresh_per_second=8) as bars:
        yield BarProgress(bars, pipelines)


class BarProgress:
    """Three nested bars: the pipeline along its stream, the trigger in training, its epoch.

    Parameters
    ----------
    bars : rich.progress.Progress
        Where to draw.
    pipelines : int
        How many pipelines will be followed.
    """

    def __init__(self, bars: Bars, pipelines: int) -> None:
        self._bars = bars
        self._pipelines = pipelines
        self._begun = self._position = 0
        self._epochs = 1
        self._drawn = 0.0
        self._pipeline: TaskID | None = None
        self._add_inner_bars()

    def pipeline(self, name: str, total_samples: int, /) -> None:
        """Draw a bar for a pipeline below those that have ended."""
        self._begun += 1
        for task in (self._trigger, self._epoch, self._evaluation):
            self._bars.remove_task(task)
        label = f"[bold]{escape(name)}[/] ({self._begun} of {self._pipelines}), samples"
        self._pipeline = self._bars.add_task(label, total=max(total_samples, 1))
        self._add_inner_bars()

    def position(self, samples: int, /) -> None:
        """Move along the stream."""
        self._position = samples
        if self._pipeline is not None:
            self._bars.update(self._pipeline, completed=samples)

    def trigger(self, index: int, samples: int, /) -> None:
        """Begin the bars of a trigger."""
        label = f"  trigger {index} on {samples:,} samples, batches"
        self._bars.reset(self._trigger, description=label, visible=True)
        for task in (self._epoch, self._evaluation):
            self._bars.update(task, visible=False)

    def epoch(self, index: int, epochs: int, /) -> None:
        """Begin the bar of an epoch."""
        self._epochs = max(epochs, 1)
        label = f"    epoch {index + 1} of {epochs}, batches"
        self._bars.reset(self._epoch, description=label, visible=True)

    def batch(self, done: int, total: int, /) -> None:
        """Move along a training and its epoch."""
        if not self._is_due(done == total):
            return
        each = max(total // self._epochs, 1)
        within = done % each or (each if done else 0)
        self._bars.update(self._trigger, completed=done, total=total)
        self._bars.update(self._epoch, completed=within, total=each)

    def evaluate(self, done: int, total: int, /) -> None:
        """Move along an evaluation."""
        if not self._is_due(done >= total):
            return
        for task in (self._trigger, self._epoch):
            self._bars.update(task, visible=False)
        self._bars.update(
            self._evaluation,
            description="  evaluation, samples",
            completed=done,
            total=max(total, 1),
            visible=True,
        )

    def done(self) -> None:
        """Leave the pipeline's bar, full, and hide the inner ones."""
        for task in (self._trigger, self._epoch, self._evaluation):
            self._bars.update(task, visible=False)
        if self._pipeline is not None:
            # A pipeline may end before its stream does; what it followed is then the whole.
            self._bars.update(self._pipeline, total=max(self._position, 1))
            self._bars.stop_task(self._pipeline)

    def _is_due(self, last: bool) -> bool:
        now = time.monotonic()
        if not last and now - self._drawn < BARS_EVERY_SECONDS:
            return False
        self._drawn = now
        return True

    def _add_inner_bars(self) -> None:
        """Add hidden bars; they are drawn in the order in which they are added."""
        self._trigger, self._epoch, self._evaluation = (
            self._bars.add_task("", total=1, visible=False) for _ in range(3)
        )


class LineProgress:
    """A line when a pipeline begins, one every few seconds, and one when it ends.

    Parameters
    ----------
    console : rich.console.Console
        Where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = self._training = ""
        self._total = self._position = self._triggers = 0
        self._began = self._printed = time.monotonic()

    def pipeline(self, name: str, total_samples: int, /) -> None:
        """Print the name of a pipeline and the length of its stream."""
        self._name, self._total = name, total_samples
        self._position = self._triggers = 0
        self._began = self._printed = time.monotonic()
        self._print(f"{total_samples:,} samples")

    def position(self, samples: int, /) -> None:
        """Remember a place in the stream."""
        self._position = samples

    def trigger(self, index: int, samples: int, /) -> None:
        """Print which trigger is trained, if it is time for a line."""
        self._triggers += 1
        self._training = f"trigger {index} on {samples:,} samples"
        self._now_and_then(self._where())

    def epoch(self, index: int, epochs: int, /) -> None:
        """Print nothing."""

    def batch(self, done: int, total: int, /) -> None:
        """Print how far a long training is, if it is time for a line."""
        self._now_and_then(f"{self._where()}, batch {done:,} of {total:,}")

    def evaluate(self, done: int, total: int, /) -> None:
        """Print how far an evaluation is, if it is time for a line."""
        self._now_and_then(f"evaluation, {done:,} of {total:,} samples")

    def done(self) -> None:
        """Print how long it took."""
        seconds = time.monotonic() - self._began
        self._print(f"done after {self._triggers} trainings, {seconds:.1f} s")

    def _where(self) -> str:
        return f"{self._position:,} of {self._total:,} samples followed; {self._training}"

    def _now_and_then(self, text: str) -> None:
        now = time.monotonic()
        if now - self._printed >= LINES_EVERY_SECONDS:
            self._printed = now
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(f"{self._name}: {text}", markup=False, highlight=False, soft_wrap=True)


class FollowProgress(LineProgress):
    """Lines of a pipeline whose stream has no end: one at the beginning, then every few seconds."""

    def pipeline(self, name: str, total_samples: int, /) -> None:
        """Print the name of a pipeline and how long its stream is so far."""
        self._name = name
        self._print(f"following, {total_samples:,} samples so far; Ctrl-C ends it")

    def position(self, samples: int, /) -> None:
        """Print where it is, if that is another place and it is time for a line."""
        if samples != self._position:
            self._position = samples
            self._now_and_then(self._where())

    def done(self) -> None:
        """Print nothing."""

    def _where(self) -> str:
        return f"{self._position:,} samples followed; {self._training or 'no trigger yet'}"
