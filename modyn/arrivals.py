"""A block of samples as a policy sees them: keys, timestamps and labels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Arrivals", "example_arrivals"]


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Samples that reached a pipeline, in stream order.

    The arrays of a run are read-only views of the dataset's columns wherever stream order is
    arrival order; keep them as long as you like, and copy what you want to change.

    Parameters
    ----------
    keys : uint64, shape (n,)
        The samples' names. In arrival order they ascend.
    timestamps : int64, shape (n,), unit of the dataset
        Ascending in time order; in arrival order late samples may come.
    labels : int64, shape (n,), or None
        None for a dataset without labels.

    Raises
    ------
    TypeError
        For arrays of another dtype.
    ValueError
        For arrays of different length, or of more than one dimension.

    Examples
    --------
    >>> arrivals = example_arrivals(5)
    >>> len(arrivals), len(arrivals[1:3])
    (5, 2)
    >>> [block.keys.tolist() for block in arrivals.split(2)]
    [[0, 1], [2, 3], [4]]
    """

    keys: npt.NDArray[np.uint64]
    timestamps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        _check("keys", self.keys, np.dtype(np.uint64), len(self.keys))
        _check("timestamps", self.timestamps, np.dtype(np.int64), len(self.keys))
        if self.labels is not None:
            _check("labels", self.labels, np.dtype(np.int64), len(self.keys))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: slice) -> "Arrivals":
        """Return the samples of a slice, as views."""
        if not isinstance(index, slice):
            raise TypeError(
                f"arrivals are cut by slices such as arrivals[2:5], got {index!r}; "
                "for one sample use arrivals.keys[i], .timestamps[i], .labels[i]"
            )
        labels = None if self.labels is None else self.labels[index]
        return Arrivals(self.keys[index], self.timestamps[index], labels)

    def split(self, count: int) -> list["Arrivals"]:
        """Return blocks of `count` samples, the last with fewer."""
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        return [self[first : first + count] for first in range(0, len(self), count)]


def _check(name: str, array: npt.NDArray[np.generic], dtype: np.dtype, count: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        found = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} must be an array of {dtype}, got {found}")
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), got {array.shape}")


def example_arrivals(count: int, *, step: int = 1, classes: int = 3) -> Arrivals:
    """Return `count` made-up samples, for examples and tests.

    Key and timestamp of sample i are i and i * step; its label is i modulo `classes`. The arrays
    are read-only, as those of a run are.

    Examples
    --------
    >>> example_arrivals(4, step=10).timestamps.tolist()
    [0, 10, 20, 30]
    """
    keys = np.arange(count, dtype=np.uint64)
    timestamps = np.arange(count, dtype=np.int64) * step
    labels = np.arange(count, dtype=np.int64) % classes
    for array in (keys, timestamps, labels):
        array.flags.writeable = False
    return Arrivals(keys, timestamps, labels)
