"""A reservoir that keeps classes as even as the stream allows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.policies.buffer import CHUNK, STREAM_ENTER, STREAM_PLACE, Buffer, Places
from modyn.policies.drawing import fractions

__all__ = ["ClassBalancedReservoir"]


@dataclass(kw_only=True)
class ClassBalancedReservoir(Buffer):
    """A reservoir of `size` samples whose classes become as even as the stream allows.

    While there is room, every sample enters. Then a class is full once it has been the largest one
    of the buffer. A sample of a class that is not full takes the place of a random sample of the
    largest class. One of a full class of which n samples came, itself included, and m are in takes
    the place of a random one of its class with probability m / n.

    An erased sample leaves its place to the next one that comes; it still counts among those that
    came.

    Parameters
    ----------
    size : int
        Samples in the reservoir, at least 1.
    tail_triggers : None
        All data so far.

    References
    ----------
    A. Chrysakis and M.-F. Moens, "Online Continual Learning from Imbalanced Data", ICML 2020:
    class-balancing reservoir sampling. Of several largest classes the one that came first gives a
    sample; all of them count as full.

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> labels = [0] * 90 + [1, 2, 0, 1, 0, 2, 1, 0, 0, 2]
    >>> candidates = Candidates.from_arrays(range(100), range(100), labels)
    >>> keys = ClassBalancedReservoir(size=6).select(candidates, PlainContext()).keys
    >>> sorted(labels[key] for key in keys.tolist())
    [0, 0, 1, 1, 2, 2]
    """

    size: int
    tail_triggers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._seen: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)  # came, of classes
        self._full: npt.NDArray[np.bool_] = np.empty(0, dtype=np.bool_)  # of classes

    def _offer(
        self,
        places: Places,
        keys: npt.NDArray[np.uint64],
        labels: npt.NDArray[np.int64],
        seed: int,
    ) -> None:
        classes = places.classes(labels)
        new = len(places.labels) - len(self._seen)
        self._seen, self._full = np.pad(self._seen, (0, new)), np.pad(self._full, (0, new))
        came = self._seen[classes] + _occurrences(classes)
        # A sample of a full class enters if this is at most the number that is in.
        bars = fractions(seed, STREAM_ENTER, keys) * came
        for first in range(0, len(keys), CHUNK):
            some = slice(first, first + CHUNK)
            rows = np.arange(len(keys))[some]
            if places.total >= self.size:
                theirs = classes[some]
                rows = rows[~self._full[theirs] | (bars[some] <= places.counts[theirs])]
            draws = fractions(seed, STREAM_PLACE, keys[rows])
            columns = (c.tolist() for c in (classes[rows], keys[rows], bars[rows], draws))
            for row in zip(*columns, strict=True):
                self._enter(places, *row)
        self._seen += np.bincount(classes, minlength=len(self._seen))

    def _enter(self, places: Places, which: int, key: int, bar: float, draw: float) -> None:
        """Put a sample in if it enters."""
        if places.total < self.size:
            places.add(which, key)
        elif not self._full[which]:
            places.remove(places.largest(), draw)
            places.add(which, key)
        elif bar <= len(places.keys[which]):
            places.replace(which, draw, key)
            return
        else:
            return
        if places.total >= self.size:
            self._full |= places.counts == places.counts.max()


def _occurrences(classes: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Return of each sample how many of its class came so far, itself included."""
    small = classes.max() < 2**16  # whose sort is the fastest
    order = np.argsort(classes.astype(np.uint16) if small else classes, kind="stable")
    ranks = np.empty(len(classes), dtype=np.int64)
    begins = np.cumsum(np.bincount(classes)) - np.bincount(classes)
    ranks[order] = np.arange(len(classes)) - begins[classes[order]] + 1
    return ranks
