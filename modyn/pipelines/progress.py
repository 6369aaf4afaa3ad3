"""Who looks on while a pipeline runs."""

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Is told where a run stands; the command line draws it."""

    def pipeline(self, name: str, total_samples: int, /) -> None:
        """Hear that a pipeline begins, with so many samples in its stream."""

    def position(self, samples: int, /) -> None:
        """Hear how many samples of the stream were followed."""

    def trigger(self, index: int, samples: int, /) -> None:
        """Hear that a trigger is trained, on so many samples."""

    def epoch(self, index: int, epochs: int, /) -> None:
        """Hear that an epoch of a training begins."""

    def batch(self, done: int, total: int, /) -> None:
        """Hear how many batches of a training are done, over all epochs."""

    def evaluate(self, done: int, total: int, /) -> None:
        """Hear how many samples of an evaluation are done."""

    def done(self) -> None:
        """Hear that the pipeline has ended."""


class Silent:
    """Nobody looks on."""

    def pipeline(self, name: str, total_samples: int, /) -> None:
        """Do nothing."""

    def position(self, samples: int, /) -> None:
        """Do nothing."""

    def trigger(self, index: int, samples: int, /) -> None:
        """Do nothing."""

    def epoch(self, index: int, epochs: int, /) -> None:
        """Do nothing."""

    def batch(self, done: int, total: int, /) -> None:
        """Do nothing."""

    def evaluate(self, done: int, total: int, /) -> None:
        """Do nothing."""

    def done(self) -> None:
        """Do nothing."""


class Checked:
    """Asks before each batch and evaluation whether to go on, and passes all on.

    Parameters
    ----------
    inner : Progress
        Who looks on.
    check : callable
        Raises if the run is not ours any more; cheap.
    often : bool
        Whether to ask before every block of the stream, too.
    """

    def __init__(self, inner: Progress, check: Callable[[], None], often: bool = False) -> None:
        self._inner = inner
        self._check = check
        self._often = often
        self.pipeline = inner.pipeline
        self.trigger = inner.trigger
        self.epoch = inner.epoch
        self.done = inner.done

    def position(self, samples: int, /) -> None:
        """Pass it on, and perhaps ask."""
        if self._often:
            self._check()
        self._inner.position(samples)

    def batch(self, done: int, total: int, /) -> None:
        """Ask, and pass it on."""
        self._check()
        self._inner.batch(done, total)

    def evaluate(self, done: int, total: int, /) -> None:
        """Ask, and pass it on."""
        self._check()
        self._inner.evaluate(done, total)
