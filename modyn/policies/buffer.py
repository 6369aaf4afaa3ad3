"""A buffer of samples by class: what a new sample takes the place of is drawn by its key."""

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies.base import Context, Selected, Selection
from modyn.policies.checked import check_all_data, check_integer
from modyn.policies.drawing import fractions, steady_seed
from modyn.sampling import Candidates

__all__ = ["Buffer", "ClassBuffer", "Places"]

STREAM_PLACE = 21  # MDN_STREAM_PLACE of csrc/base/random.h
CHUNK = 2048  # samples that are looked at together


class Places:
    """The samples in a buffer, class by class.

    Parameters
    ----------
    labels : list of int
        The labels seen so far; a class is named by its place in this list.
    keys : list of lists of int
        The keys of each class. The order matters: what goes is drawn by its place.
    """

    def __init__(self, labels: list[int], keys: list[list[int]]) -> None:
        self.labels = labels
        self.keys = keys
        self.number = {label: i for i, label in enumerate(labels)}
        self.total = sum(map(len, keys))

    def classes(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return the class of each sample, in the order in which they come; adds new ones."""
        known, first, which = np.unique(labels, return_index=True, return_inverse=True)
        for label in known[np.argsort(first)].tolist():
            if label not in self.number:
                self.number[label] = len(self.labels)
                self.labels.append(label)
                self.keys.append([])
        return np.array([self.number[label] for label in known.tolist()], dtype=np.intp)[which]

    def largest(self) -> int:
        """Return the class with the most samples; of several the one with the smallest label."""
        most = max(map(len, self.keys))
        return min(
            (i for i, keys in enumerate(self.keys) if len(keys) == most),
            key=lambda i: self.labels[i],
        )

    def add(self, which: int, key: int) -> None:
        """Put a sample in."""
        self.keys[which].append(key)
        self.total += 1

    def remove(self, which: int, fraction: float) -> None:
        """Take one of a class out; the last one goes to its place."""
        keys = self.keys[which]
        place = int(fraction * len(keys))
        keys[place] = keys[-1]
        keys.pop()
        self.total -= 1

    def replace(self, which: int, fraction: float, key: int) -> None:
        """Put a sample in place of one of its class."""
        keys = self.keys[which]
        keys[int(fraction * len(keys))] = key


class Buffer(Selection):
    """A selection that keeps samples by class and looks at each sample of the stream once.

    What is kept travels in the state: 16 bytes for each sample of the buffer. A subclass says in
    `_offer` what becomes of the next samples, and may keep more in `_classes_state`.
    """

    size: int

    def __post_init__(self) -> None:
        check_integer("size", self.size, 1)
        check_all_data(self.tail_triggers, "a buffer")
        self._trigger = -1  # the last one whose data were looked at
        self._labels: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)  # seen, by class
        self._counts: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)  # in, by class
        self._keys: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)  # in, class by class

    def select(self, candidates: Candidates, context: Context) -> Selected:
        """Return what is in the buffer after the new data.

        Raises
        ------
        ValueError
            For a dataset without labels.
        """
        places = self._places(candidates)
        seed = steady_seed(context)
        for trigger, part in candidates.parts:
            if trigger > self._trigger:
                for block in part.blocks():
                    self._offer(places, block, seed)
        self._trigger = context.trigger
        self._labels = np.array(places.labels, dtype=np.int64)
        self._counts = np.array([len(keys) for keys in places.keys], dtype=np.int64)
        self._keys = np.array([key for keys in places.keys for key in keys], dtype=np.uint64)
        return Selected(np.sort(self._keys))
