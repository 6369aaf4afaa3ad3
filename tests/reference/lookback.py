"""A stream that can be looked back at, as a list: the twin of modyn.pipelines.lookback."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals


@dataclass(frozen=True)
class Sample:
    """One position of a stream."""

    key: int
    timestamp: int
    label: int
    erased: bool


class ListHistory:
    """The methods of `modyn.policies.history.History`, sample by sample.

    Parameters
    ----------
    stream : list of Sample
        In stream order.
    """

    def __init__(self, stream: list[Sample]) -> None:
        self.stream = stream

    def after(self, position: int, count: int) -> int:
        while count and position < len(self.stream):
            count -= not self.stream[position].erased
            position += 1
        return position

    def timestamp_before(self, position: int) -> int | None:
        times = [one.timestamp for one in self.stream[:position] if not one.erased]
        return times[-1] if times else None

    def samples(self, first: int, last: int) -> Arrivals:
        return arrivals([one for one in self.stream[first:last] if not one.erased])

    def first_at(self, timestamp: int, last: int) -> int:
        for position, one in enumerate(self.stream[:last]):
            if not one.erased and one.timestamp >= timestamp:
                return position
        return last

    def known(self, position: int, delay: int) -> int:
        times = [one.timestamp for one in self.stream[:position] if not one.erased]
        return self.first_at(max(times) - delay + 1, position) if times else 0

    def reached(self, keys: npt.NDArray[np.uint64], position: int) -> npt.NDArray[np.bool_]:
        known = {one.key for one in self.stream[:position]}
        return np.array([int(key) in known for key in keys], dtype=np.bool_)

    def columns(self, keys: npt.NDArray[np.uint64]) -> Arrivals:
        by_key = {one.key: one for one in self.stream}
        return arrivals([by_key[int(key)] for key in keys])


def arrivals(samples: list[Sample]) -> Arrivals:
    """Return samples as columns."""
    return Arrivals(
        np.array([one.key for one in samples], dtype=np.uint64),
        np.array([one.timestamp for one in samples], dtype=np.int64),
        np.array([one.label for one in samples], dtype=np.int64),
    )
