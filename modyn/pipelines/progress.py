"""Who looks on while a pipeline runs."""

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
