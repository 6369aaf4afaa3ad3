"""A buffer of samples by class, each of which looks at every sample of the stream once."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.policies.base import Context, Selected, Selection
from modyn.policies.checked import check_all_data, check_integer
from modyn.policies.drawing import steady_seed

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["CHUNK", "STREAM_ENTER", "STREAM_PLACE", "Buffer", "Places"]

STREAM_PLACE, STREAM_ENTER = 21, 22  # MDN_STREAM_PLACE, MDN_STREAM_ENTER of csrc/base/random.h
CHUNK = 4096  # samples at most of which those that may enter are looked for at once
TABLE = 4096  # labels as close together as that are looked up in a table


class Places:
    """The samples in a buffer, class by class.

    Classes are numbered in the order in which their first samples came.

    Parameters
    ----------
    labels : list of int
        Of each class.
    keys : list of lists of int
        Of each class the keys that are in. Their order matters: what goes is drawn by its place.
    """

    def __init__(self, labels: list[int], keys: list[list[int]]) -> None:
        self.labels = labels
        self.keys = keys
        self.counts = np.array([len(one) for one in keys], dtype=np.int64)
        self.total = int(self.counts.sum())
        self._number = {label: i for i, label in enumerate(labels)}

    def classes(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return the class of each sample, in the order in which they come; adds new classes."""
        least, most = int(labels.min()), int(labels.max())
        if most - least >= TABLE:
            known, which = np.unique(labels, return_inverse=True)
        else:
            known, which = np.arange(least, most + 1), labels - least
        numbers = np.array([self._number.get(label, -1) for label in known.tolist()], dtype=np.intp)
        found = numbers[which]
        if found.min() >= 0:
            return found
        new, first = np.unique(labels[found < 0], return_index=True)
        for label in new[np.argsort(first)].tolist():
            self._number[label] = len(self.labels)
            self.labels.append(label)
            self.keys.append([])
        self.counts = np.pad(self.counts, (0, len(self.labels) - len(self.counts)))
        return self.classes(labels)

    def largest(self) -> int:
        """Return the class with the most samples; of several the one that came first."""
        return int(self.counts.argmax())

    def add(self, which: int, key: int) -> None:
        """Put a sample in."""
        self.keys[which].append(key)
        self.counts[which] += 1
        self.total += 1

    def remove(self, which: int, fraction: float) -> None:
        """Take one of a class out, drawn by a number of [0, 1); the last one goes to its place."""
        keys = self.keys[which]
        keys[int(fraction * len(keys))] = keys[-1]
        keys.pop()
        self.counts[which] -= 1
        self.total -= 1

    def replace(self, which: int, fraction: float, key: int) -> None:
        """Put a sample in place of one of its class."""
        keys = self.keys[which]
        keys[int(fraction * len(keys))] = key


class Buffer(Selection):
    """A selection that keeps `size` samples, and looks at each sample of the stream once.

    What is in travels in the state, 11 bytes of JSON for each sample of the buffer, and is the
    choice of each trigger. A subclass says in `_offer` what becomes of the next samples. Draws
    follow from the keys of samples, so that nothing depends on where triggers or blocks fall.
    """

    size: int

    def __post_init__(self) -> None:
        check_integer("size", self.size, 1)
        check_all_data(self.tail_triggers, "a buffer")
        self._trigger = -1  # the last one whose data were looked at
        self._labels: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)  # of classes
        self._counts: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)  # in, of classes
        self._keys: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)  # in, class by class

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return what is in the buffer after the new data.

        Raises
        ------
        ValueError
            For a dataset without labels.
        """
        places, seed = self._places(candidates), steady_seed(context)
        for trigger, part in candidates.parts:
            if trigger > self._trigger:
                for block in part.blocks():
                    if block.labels is None:
                        raise ValueError(f"{type(self).__name__} needs labels; there are none")
                    self._offer(places, block.keys, block.labels, seed)
        self._trigger = context.trigger
        self._labels = np.array(places.labels, dtype=np.int64)
        self._counts = places.counts
        self._keys = np.array([key for keys in places.keys for key in keys], dtype=np.uint64)
        return Selected(np.sort(self._keys))

    def _offer(
        self,
        places: Places,
        keys: npt.NDArray[np.uint64],
        labels: npt.NDArray[np.int64],
        seed: int,
    ) -> None:
        """Put those samples in that enter, and take out whose place they take."""
        raise NotImplementedError

    def _places(self, candidates: "Candidates") -> Places:
        """Return what is in, less what was erased since."""
        living = candidates.living(self._keys)
        ends = np.cumsum(self._counts)
        keys = [
            self._keys[first:end][living[first:end]].tolist()
            for first, end in zip((ends - self._counts).tolist(), ends.tolist(), strict=True)
        ]
        return Places(self._labels.tolist(), keys)
