"""What a model said of each sample while it was trained: plain columns, as policies read them.

One row is one presentation: a sample in an epoch of one trigger's training.  What is recorded has
one name everywhere: in `training.signals`, as an attribute here, as a column in SQL.

    loss           the criterion of this sample alone, not multiplied by its weight
    gradient_norm  the norm of that loss's gradient with respect to the model's output
    prediction     the class with the highest output, or the output where there is only one
    forgetting     how often the sample was right and then wrong so far, in this training
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "NEVER_LEARNED",
    "SIGNALS",
    "Kept",
    "Recorded",
    "Recording",
    "Rows",
    "Signals",
    "SignalStore",
    "SignalWriter",
    "dtypes",
    "example_signals",
    "sorted_signals",
]

SIGNALS = ("loss", "gradient_norm", "prediction", "forgetting")

# What `forgetting` is of a sample that was not right once so far: more than any count.
NEVER_LEARNED = 2**31 - 1

Column = npt.NDArray[Any]


def dtypes(names: Sequence[str], *, classes: bool) -> dict[str, "np.dtype[Any]"]:
    """Return the dtypes of these signals; with `classes` a prediction is the number of a class."""
    known = {
        "loss": np.dtype("<f4"),
        "gradient_norm": np.dtype("<f4"),
        "prediction": np.dtype("<i4" if classes else "<f4"),
        "forgetting": np.dtype("<i4"),
    }
    return {name: known[name] for name in names}


@dataclass(frozen=True, eq=False)
class Rows:
    """Some presentations, in the order in which they happened.

    Parameters
    ----------
    keys : uint64, shape (n,)
    epoch : int32, shape (n,), never falling
    columns : mapping of str to arrays of shape (n,)
        By the names of `SIGNALS`.
    """

    keys: npt.NDArray[np.uint64]
    epoch: npt.NDArray[np.int32]
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, eq=False)
class Signals:
    """The signals of one trigger's training, ascending by (key, epoch).

    The arrays are read-only.  To ask for a signal that was not recorded is an error that says so.

    Parameters
    ----------
    keys : uint64, shape (n,)
    epoch : int32, shape (n,)
        From 0; a sample that was passed again and again has a row for each time.
    columns : mapping of str to arrays of shape (n,)
        float32 `loss` and `gradient_norm`; `prediction`, int32 where it is a class and float32
        where the model has one output; int32 `forgetting`.
    trigger : int or None
        None where nothing was trained yet.

    Examples
    --------
    >>> signals = sorted_signals(
    ...     Rows(
    ...         np.array([7, 3, 3, 7], dtype=np.uint64),
    ...         np.array([0, 0, 1, 1], dtype=np.int32),
    ...         {"loss": np.array([0.9, 0.5, 0.25, 0.75], dtype=np.float32)},
    ...     ),
    ...     trigger=0,
    ... )
    >>> signals.keys.tolist(), signals.epoch.tolist()
    ([3, 3, 7, 7], [0, 1, 0, 1])
    >>> signals.last().loss.tolist()
    [0.25, 0.75]
    >>> signals.of([7, 8, 3]).loss.tolist()
    [0.75, nan, 0.25]
    >>> signals.prediction
    Traceback (most recent call last):
        ...
    ValueError: prediction is not recorded; training.signals has loss
    """

    keys: npt.NDArray[np.uint64]
    epoch: npt.NDArray[np.int32]
    columns: Mapping[str, Column]
    trigger: int | None = None

    def __post_init__(self) -> None:
        arrays: list[Column] = [self.keys, self.epoch, *self.columns.values()]
        for array in arrays:
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """Which signals there are."""
        return tuple(self.columns)

    @property
    def loss(self) -> npt.NDArray[np.float32]:
        """The loss of each sample alone, not multiplied by its weight."""
        return self._column("loss")

    @property
    def gradient_norm(self) -> npt.NDArray[np.float32]:
        """The norm of the gradient of the loss with respect to the model's output."""
        return self._column("gradient_norm")

    @property
    def prediction(self) -> Column:
        """The class with the highest output, or the output where there is only one."""
        return self._column("prediction")

    @property
    def forgetting(self) -> npt.NDArray[np.int32]:
        """How often a sample was right and then wrong so far; NEVER_LEARNED: it never was right."""
        return self._column("forgetting")

    def last(self) -> "Signals":
        """Return the last row of each sample."""
        if len(self) == 0:
            return self
        ends = np.append(self.keys[1:] != self.keys[:-1], True)
        return self._take(np.flatnonzero(ends))

    def of(self, keys: npt.ArrayLike) -> "Signals":
        """Return the last rows of these samples, in the order of `keys`.

        A sample without a row has epoch -1, class -1 and forgetting -1, and nan elsewhere.
        """
        wanted = np.ascontiguousarray(keys, dtype=np.uint64)
        last = self.last()
        rows = np.searchsorted(last.keys, wanted)
        known = np.zeros(len(wanted), dtype=bool)
        if len(last) > 0:
            rows[rows == len(last)] = 0
            known = last.keys[rows] == wanted

        def fill(column: Column) -> Column:
            filled = np.full(len(wanted), -1 if column.dtype.kind == "i" else np.nan, column.dtype)
            filled[known] = column[rows[known]]
            return filled

        columns = {name: fill(column) for name, column in last.columns.items()}
        return Signals(wanted.copy(), fill(last.epoch), columns, self.trigger)

    def only(self, names: Sequence[str]) -> "Signals":
        """Return these signals without the others."""
        columns = {name: self._column(name) for name in names}
        return Signals(self.keys, self.epoch, columns, self.trigger)

    def where(self, rows: npt.NDArray[np.bool_]) -> "Signals":
        """Return the rows where a mask is true."""
        return self._take(np.flatnonzero(rows))

    def _take(self, rows: npt.NDArray[np.intp]) -> "Signals":
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Signals(self.keys[rows], self.epoch[rows], columns, self.trigger)

    def _column(self, name: str) -> Column:
        check_names((name,), tuple(self.columns))
        return self.columns[name]


def check_names(names: Sequence[str], recorded: Sequence[str]) -> None:
    """Refuse to look for a signal that was not recorded."""
    for name in names:
        if name not in recorded:
            raise ValueError(
                f"{name} is not recorded; training.signals has {', '.join(recorded) or 'nothing'}"
            )


def of_keys(mask: npt.NDArray[np.bool_], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return the entries of a mask by key; false for keys beyond it."""
    if len(mask) == 0:
        return np.zeros(len(keys), dtype=bool)
    found: npt.NDArray[np.bool_] = mask[np.minimum(keys, np.uint64(len(mask) - 1))]
    return found & (keys < len(mask))


def sorted_signals(rows: Rows, trigger: int | None) -> Signals:
    """Return rows in any order as signals, ascending by (key, epoch)."""
    keys, epoch = rows.keys, rows.epoch
    ascending = keys[1:] > keys[:-1]
    ascending |= (keys[1:] == keys[:-1]) & (epoch[1:] > epoch[:-1])
    if ascending.all():
        return Signals(keys, epoch, dict(rows.columns), trigger)
    order = _order(keys, epoch)
    columns = {name: column[order] for name, column in rows.columns.items()}
    return Signals(keys[order], epoch[order], columns, trigger)


def _order(keys: npt.NDArray[np.uint64], epoch: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
    """Return the order by (key, epoch); without comparisons where keys lie close together."""
    first, last = int(keys.min()), int(keys.max())
    if last - first < 4 * len(keys):
        order = _dealt((keys - np.uint64(first)).astype(np.intp), epoch)
        if order is not None:
            return order
    bits = int(epoch.max()).bit_length()
    if int(keys.max()).bit_length() + bits > 64:
        return np.lexsort((epoch, keys))
    return np.argsort(keys << np.uint64(bits) | epoch.astype(np.uint64))


def _dealt(
    places: npt.NDArray[np.intp], epoch: npt.NDArray[np.int32]
) -> npt.NDArray[np.intp] | None:
    """Return the order by (place, epoch): epoch by epoch, each row goes to where it belongs.

    None if a place comes twice in an epoch, or epochs are too many.
    """
    if int(epoch.max()) >= 2**16 or int(epoch.min()) < 0:
        return None
    short = epoch.astype(np.uint16)
    ends = np.cumsum(np.bincount(short))
    by_epoch = None if (short[1:] >= short[:-1]).all() else np.argsort(short, kind="stable")
    counts = np.bincount(places)
    free = np.cumsum(counts) - counts  # where the next row of a place goes
    order = np.full(len(places), -1, dtype=np.intp)
    for first, last in zip([0, *ends.tolist()], ends.tolist(), strict=False):
        rows = np.arange(first, last) if by_epoch is None else by_epoch[first:last]
        theirs = places[rows]
        order[free[theirs]] = rows
        free[theirs] += 1
    return None if (order < 0).any() else order


class Recorded(Protocol):
    """The signals of trainings that are over."""

    @property
    def names(self) -> tuple[str, ...]:
        """Which signals are recorded."""

    def triggers(self) -> Sequence[int]:
        """Return the triggers whose trainings have signals, ascending."""

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Return the signals of one of them, or only those of these names."""

    def nothing(self) -> Signals:
        """Return signals without rows."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Signals in memory, by trigger: for tests, notebooks, and checks of policies."""

    signals: Mapping[int, Signals]
    names: tuple[str, ...] = SIGNALS

    def triggers(self) -> Sequence[int]:
        """Return the triggers that there are."""
        return sorted(self.signals)

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Return the signals of a trigger."""
        found = self.signals[trigger]
        return found if names is None else found.only(names)

    def nothing(self) -> Signals:
        """Return signals without rows."""
        return no_signals(self.names, classes=True)


def no_signals(names: Sequence[str], *, classes: bool) -> Signals:
    """Return signals without rows."""
    columns = {name: np.empty(0, dtype) for name, dtype in dtypes(names, classes=classes).items()}
    return Signals(np.empty(0, np.uint64), np.empty(0, np.int32), columns)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a training records, and of which training.

    Parameters
    ----------
    trigger : int
    model : str
        The content key of the model that the training results in.
    names : tuple of str
        Of `SIGNALS`.
    classes : bool
        Whether a prediction is the number of a class.
    erased : int
        How many samples of the dataset were erased when it began; none of them has a row.
    """

    trigger: int
    model: str
    names: tuple[str, ...]
    classes: bool
    erased: int = 0

    @property
    def dtypes(self) -> dict[str, "np.dtype[Any]"]:
        """The dtypes of all columns, in the order in which they are stored."""
        own: dict[str, np.dtype[Any]] = {"key": np.dtype("<u8"), "epoch": np.dtype("<i4")}
        return own | dtypes(self.names, classes=self.classes)


class SignalWriter(Protocol):
    """Where the rows of one training go, as they come; nobody sees any before the commit."""

    def put(self, rows: Rows, /) -> None:
        """Take the next rows."""

    def commit(self) -> None:
        """Make all rows visible, durably; what another training left of this trigger goes."""

    def abort(self) -> None:
        """Forget them."""

    def cancel(self) -> None:
        """End a `put` that another thread is at, if it waits for a server."""


class SignalStore(Protocol):
    """Where the signals of a pipeline lie."""

    def clean(self) -> None:
        """Remove what a killed process left, as far as that is in the way."""

    def ready(self, trigger: int, model: str) -> bool:
        """Return whether the signals of the training that made this model are there, whole."""

    def begin(self, recording: Recording, /) -> SignalWriter:
        """Begin to record; what an interrupted training left of this trigger goes."""

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Return the signals of a trigger.

        Raises
        ------
        KeyError
            When there are none.
        ValueError
            When one of `names` was not recorded.
        CorruptError
            When they are damaged, or rows are missing.
        """

    def erase(self, erased: npt.NDArray[np.bool_], /) -> int:
        """Remove the rows of samples that are erased (by key), and return how many that were."""


def example_signals(
    keys: npt.NDArray[np.uint64], *, trigger: int = 0, epochs: int = 2, seed: int = 0
) -> Signals:
    """Return made-up signals of these samples, for examples and tests.

    Examples
    --------
    >>> signals = example_signals(np.arange(3, dtype=np.uint64))
    >>> len(signals), len(signals.last()), signals.names
    (6, 3, ('loss', 'gradient_norm', 'prediction', 'forgetting'))
    """
    ascending = np.sort(np.asarray(keys, dtype=np.uint64))
    rng = np.random.default_rng([seed, trigger])
    rows = Rows(
        np.repeat(ascending, epochs),
        np.tile(np.arange(epochs, dtype=np.int32), len(ascending)),
        {
            "loss": rng.exponential(size=len(ascending) * epochs).astype(np.float32),
            "gradient_norm": rng.uniform(0, 1.4, len(ascending) * epochs).astype(np.float32),
            "prediction": rng.integers(0, 3, len(ascending) * epochs, dtype=np.int32),
            "forgetting": np.repeat(rng.integers(0, 2, len(ascending), dtype=np.int32), epochs),
        },
    )
    return sorted_signals(rows, trigger)
