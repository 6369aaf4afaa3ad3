"""Where the workloads run: a server, a folder beside it, and how thoroughly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Seconds, Stopwatch
from benchmarks.postgres.server import Server, drop_database, make_database


@dataclass(frozen=True)
class Site:
    """A server, and what is asked of it."""

    server: Server
    folder: Path
    quick: bool = False
    times: int | None = None  # repetitions, where not as many as usual
    samples: int | None = None  # of a repetition, where not as many as usual

    @property
    def repetitions(self) -> int:
        return self.times or (2 if self.quick else 9)

    def size(self, full: int, quick: int) -> int:
        """Return how many samples a workload takes."""
        return self.samples or (quick if self.quick else full)

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Make a database, and drop it afterwards."""
        url = make_database(self.server.url, name)
        try:
            yield url
        finally:
            drop_database(self.server.url, name)

    def watch(self) -> Watch:
        return Watch(self.server)


TICK = 1 / os.sysconf("SC_CLK_TCK")


class Watch:
    """Wall time since it was made, and processor time of client and server together.

    The client is this process and the children that it has waited for.  The system counts in
    ticks of a hundredth of a second; less than one counts as one.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wall = Stopwatch()  # collects garbage, which is not part of what is measured
        self._busy = self._processor()

    def stop(self) -> Seconds:
        wall, _ = self._wall.stop()
        return wall, max(self._processor() - self._busy, TICK)

    def _processor(self) -> float:
        return sum(os.times()[:4]) + self._server.processor_seconds()
