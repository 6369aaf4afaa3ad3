"""Seconds of wall clock, by stage."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Stopwatch"]

T = TypeVar("T")


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds by stage.

    Examples
    --------
    >>> watch = Stopwatch()
    >>> with watch.stage("train"):
    ...     pass
    >>> list(watch.seconds)
    ['train']
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def through(self, name: str, values: Iterable[T]) -> Iterator[T]:
        """Yield values, and add the time that each is waited for to a stage."""
        iterator = iter(values)
        while True:
            with self.stage(name):
                try:
                    value = next(iterator)
                except StopIteration:
                    return
            yield value

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def apart(self) -> Iterator[dict[str, float]]:
        """Give the seconds of the block by stage, when it is over; they count nowhere else."""
        before, self.seconds = self.seconds, {}
        taken: dict[str, float] = {}
        try:
            yield taken
        finally:
            taken.update(self.seconds)
            self.seconds = before

    def take(self) -> dict[str, float]:
        """Return the seconds so far and start at zero."""
        taken, self.seconds = self.seconds, {}
        return taken
