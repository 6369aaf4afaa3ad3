"""What is compared of the samples of a window: a few of them as rows of numbers.

Windows that end at one interval after the other overlap.  So a model is asked about whole
intervals, which is what windows are made of, and each sample goes through it once as long as there
is room for the answer.  Windows of which a few samples are drawn are asked about as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from modyn.policies.base import Context
from modyn.policies.drawing import Draw, position_seed
from modyn.policies.windows import Window

__all__ = ["LOOKS", "Kept", "Look", "What", "WindowRows"]

What = Literal["embeddings", "predictions", "features", "labels"]
LOOKS: tuple[What, ...] = ("embeddings", "predictions", "features", "labels")
Floats = npt.NDArray[np.floating]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What of a sample is looked at.

    Parameters
    ----------
    of : {"embeddings", "predictions", "features", "labels"}
        What the newest model makes of it, or what its record holds.
    fields : tuple of str or None
        Which fields of the record, for "features"; by default all that hold numbers.
    """

    of: What
    fields: tuple[str, ...] | None = None

    @property
    def asks_a_model(self) -> bool:
        """Whether other models see other numbers."""
        return self.of in ("embeddings", "predictions")

    @property
    def lasts(self) -> bool:
        """Whether samples look the same later; labels may become known."""
        return self.of != "labels"


class _Rows(NamedTuple):
    """Samples of a window, and what those of them look like that are known."""

    keys: Keys
    values: Floats


Kept = Mapping[tuple[Window, Look, str], _Rows]


@dataclass
class WindowRows:
    """The rows of windows as of one position; each is made once.

    Parameters
    ----------
    context : Context
        As of the end of an interval.
    sample_size : int or None
        How many samples are drawn of each window; all if None. The draw is uniform, and depends on
        the pipeline's seed, where the window ends and the keys in it.
    interval : int
        From how many samples to how many more windows end.
    kept : mapping
        What an earlier position kept: nothing is asked twice.
    """

    context: Context
    sample_size: int | None
    interval: int
    kept: Kept = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._keys: dict[Window, Keys] = {}
        self._drawn: set[Window] = set()  # windows with more samples than are looked at
        self._rows: dict[tuple[Window, Look, str], _Rows] = {}

    def of(self, window: Window, look: Look) -> Floats:
        """Return what samples of a window look like.

        Returns
        -------
        float32 or float64, shape (n, d)
            A row for each sample drawn whose numbers are finite, and known by now.
        """
        place = (window, look, self.context.models[-1].model if look.asks_a_model else "")
        if place not in self._rows:
            keys = self.keys(window)
            kept = self.kept.get(place)
            if kept is not None and np.array_equal(kept.keys, keys):
                self._rows[place] = kept
            else:
                self._rows[place] = _Rows(keys, _finite(self._values(window, keys, look)))
        return self._rows[place].values

    def keys(self, window: Window) -> Keys:
        """Return which samples of a window are looked at, ascending."""
        if window not in self._keys:
            self._keys[window] = self._draw(window)
        return self._keys[window]

    def _draw(self, window: Window) -> Keys:
        if self.sample_size is None:
            blocks = [block.keys for block in window.blocks(self.context)]
            return np.sort(np.concatenate([np.empty(0, dtype=np.uint64), *blocks]))
        draw, count = Draw(self.sample_size, seed=position_seed(self.context, window.last)), 0
        for block in window.blocks(self.context):
            draw.offer(block.keys)
            count += len(block)
        if count > self.sample_size:
            self._drawn.add(window)
        return draw.keys()

    def _values(self, window: Window, keys: Keys, look: Look) -> Floats:
        """Return what samples of a window look like, one row for each that is known by now."""
        pieces = self._pieces(window) if look.asks_a_model and len(keys) > 0 else []
        if not pieces:
            return _values(self.context, keys, look)
        seen = np.concatenate([_values(self.context, piece, look) for piece in pieces])
        asked = np.concatenate(pieces)
        order = np.argsort(asked)
        rows: Floats = seen[order[np.searchsorted(asked, keys, sorter=order)]]
        return rows

    def _pieces(self, window: Window) -> list[Keys]:
        """Return the intervals that hold a window, in stream order.

        The first may begin before the window.  There are none where samples were drawn, and where
        a window is shorter than an interval, so that the next one shares nothing with it.
        """
        if window in self._drawn:
            return []
        keys, most = self.context.samples(window.first, window.last).keys, self.sample_size
        if len(keys) < self.interval or (most is not None and len(keys) > most):
            return []  # more than looked at: those that are too old for a window of time
        first = window.first
        while len(keys) % self.interval and first > 0:
            begin = max(0, first - -len(keys) % self.interval)
            keys = np.concatenate([self.context.samples(begin, first).keys, keys])
            first = begin
        pieces = np.split(keys, range(len(keys) % self.interval, len(keys), self.interval))
        return [piece for piece in pieces if len(piece) > 0]

    def to_keep(self, window: Window) -> Kept:
        """Return what stays as it is while a window does, for the next position."""
        found = self._rows.items()
        return {place: rows for place, rows in found if place[0] == window and place[1].lasts}


def _values(context: Context, keys: Keys, look: Look) -> Floats:
    """Return what samples look like, one row for each that is known by now."""
    if look.of == "labels":
        known = keys[context.labelled(keys)] if len(keys) else keys
        return _wide(context.labels(known) if len(known) else np.empty(0))
    if len(keys) == 0:
        return np.empty((0, 0), dtype=np.float32)
    if look.of == "features":
        return _table(context.fields(keys), look.fields)
    found = context.embeddings(keys) if look.of == "embeddings" else context.predictions(keys)
    return _wide(found)


def _table(fields: Mapping[str, npt.NDArray[Any]], names: tuple[str, ...] | None) -> Floats:
    """Return fields side by side."""
    for name in names or ():
        if name not in fields:
            raise ValueError(f"there is no field {name!r}; there are {', '.join(fields)}")
        if not _is_number(fields[name]):
            raise ValueError(f"the field {name!r} holds no numbers: choose others in fields")
    chosen = [name for name, values in fields.items() if _is_number(values)]
    columns = [_wide(fields[name]) for name in (chosen if names is None else names)]
    if not columns:
        raise ValueError(f"no field holds numbers: {', '.join(fields)}; look at embeddings instead")
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def _is_number(values: npt.NDArray[Any]) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "biuf"


def _wide(values: npt.NDArray[Any]) -> Floats:
    """Return an array as floats, float32 where nothing is lost, one row for each sample."""
    exact = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    exact |= values.dtype.kind in "biu" and values.dtype.itemsize <= 2
    rows = values.reshape(len(values), -1) if len(values) else np.empty((0, 1))
    found: Floats = rows.astype(np.float32 if exact else np.float64, copy=False)
    return found


def _finite(values: Floats) -> Floats:
    """Leave out rows with a number that is not finite, and those of models gone astray are such."""
    kept = np.isfinite(values).all(axis=1)
    return values if kept.all() else values[kept]
