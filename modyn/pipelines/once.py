"""One row of a sample and an epoch, where a downsampler may pick a sample more than once."""

import numpy as np
import numpy.typing as npt

from modyn.signals import Rows, SignalWriter

__all__ = ["Once"]


class Once:
    """A writer before another one: lets the first row of each sample in an epoch pass.

    Parameters
    ----------
    writer : SignalWriter
    keys : uint64, shape (n,), ascending
        The training set.
    """

    def __init__(self, writer: SignalWriter, keys: npt.NDArray[np.uint64]) -> None:
        self._writer = writer
        self._keys = keys
        self._seen = np.zeros(len(keys), dtype=bool)  # in the epoch of the last row
        self._epoch = -1

    def put(self, rows: Rows, /) -> None:
        """Put what comes for the first time."""
        first = np.zeros(len(rows), dtype=bool)
        starts = [0, *(np.flatnonzero(rows.epoch[1:] != rows.epoch[:-1]) + 1).tolist()]
        for begin, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            if self._epoch != rows.epoch[begin]:
                self._epoch = int(rows.epoch[begin])
                self._seen[:] = False
            places = np.searchsorted(self._keys, rows.keys[begin:end])
            _, firsts = np.unique(places, return_index=True)
            new = firsts[~self._seen[places[firsts]]]
            self._seen[places[new]] = True
            first[begin + new] = True
        if first.all():
            self._writer.put(rows)
            return
        if not first.any():
            return
        columns = {name: column[first] for name, column in rows.columns.items()}
        self._writer.put(Rows(rows.keys[first], rows.epoch[first], columns))

    def commit(self) -> None:
        """Commit what was put."""
        self._writer.commit()

    def abort(self) -> None:
        """Forget what was put."""
        self._writer.abort()

    def cancel(self) -> None:
        """End a `put` that another thread is at."""
        self._writer.cancel()
