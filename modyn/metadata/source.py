"""Samples in Postgres as a stream that is opened again and again, and read by COPY into columns.

The C behind it is csrc/metadata/postgres_source.c, which `modyn.sampling.Candidates.from_source`
and `modyn.orchestrator.Orchestrator` read without coming back to Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

__all__ = ["Layout", "Part", "Source"]

Layout = Literal["rows", "blocks"]


class Part(NamedTuple):
    """Positions of a stream that lie in one leaf table.

    Attributes
    ----------
    table : str
        Qualified; small letters, digits, underscores and one dot.
    first, positions : int
        Positions `first` to `first + positions - 1`; at least one.
    erased : int
        How many of these positions hold no sample any more. In rows they have no row, in blocks
        they are marked.
    """

    table: str
    first: int
    positions: int
    erased: int = 0


class Source:
    """A stream of samples in a database.

    Nothing is read before it is asked for, and each reader has a connection of its own while it
    reads, so that a source serves any number of threads. After a lost connection reading goes on
    where it was. Rows are checked as they come: a row that is missing, or there twice, is a
    CorruptError that names the table and the position.

    Parameters
    ----------
    conninfo : str
        What libpq takes, without a password.
    parts : sequence of Part
        One behind the other, from position 0.
    layout : {"rows", "blocks"}
        What the tables look like; see docs/postgres.md.
    position : {"key", "position"}
        "key": the position of a sample is its key. "position": they have a column each.
    has_labels : bool
        Whether the samples have labels.
    settings : mapping of str to str
        Of each session, by name.
    connect_seconds : float
        How long to wait for a connection, above 0.
    retry_seconds : float
        For how long to try again when the server is gone, or refuses for a reason that may pass.

    Raises
    ------
    ValueError
        `conninfo` cannot be understood, or parts do not follow one another.
    """

    def __init__(
        self,
        conninfo: str,
        parts: Iterable[Part | tuple[str, int, int, int]],
        *,
        layout: Layout = "rows",
        position: Literal["key", "position"] = "key",
        has_labels: bool = True,
        settings: Mapping[str, str] | None = None,
        connect_seconds: float = 10.0,
        retry_seconds: float = 60.0,
    ) -> None:
        from modyn import _postgres

        if layout not in ("rows", "blocks"):
            raise ValueError(f"layout must be rows or blocks, got {layout!r}")
        if position not in ("key", "position"):
            raise ValueError(f"position must be key or position, got {position!r}")
        if not connect_seconds > 0:
            raise ValueError(f"connect_seconds must be above 0, got {connect_seconds}")
        if not retry_seconds >= 0:
            raise ValueError(f"retry_seconds must be at least 0, got {retry_seconds}")
        self._whole = self._core = _postgres.Source(
            conninfo,
            connect_seconds,
            retry_seconds,
            dict(settings or {}),
            layout == "blocks",
            position == "position",
            has_labels,
            tuple((table, first, count, erased) for table, first, count, erased in parts),
        )
        self._start: int | None = None
        self._stop: int | None = None
        self._labels: frozenset[int] | None = None

    def __len__(self) -> int:
        return self._core.count

    @property
    def count(self) -> int:
        """Positions of the whole stream, those of erased samples too."""
        return self._core.count

    @property
    def has_labels(self) -> bool:
        """Whether the samples have labels."""
        return self._core.has_labels

    @property
    def capsule(self) -> object:
        """What `modyn._core` reads from."""
        return self._core.capsule

    def where(
        self,
        start: int | None = None,
        stop: int | None = None,
        labels: Sequence[int] | None = None,
    ) -> Source:
        """Return those with start <= timestamp < stop and one of the labels, at their positions.

        The server chooses (in blocks: leaves out what holds none of them), over the same
        connections. None is any.
        """
        chosen = object.__new__(Source)
        starts = [bound for bound in (self._start, start) if bound is not None]
        stops = [bound for bound in (self._stop, stop) if bound is not None]
        chosen._start, chosen._stop = max(starts, default=None), min(stops, default=None)
        chosen._labels = self._labels
        if labels is not None:
            wanted = frozenset(labels)
            chosen._labels = wanted if self._labels is None else wanted & self._labels
        among = None if chosen._labels is None else tuple(sorted(chosen._labels))
        chosen._whole = self._whole
        chosen._core = self._whole.where(chosen._start, chosen._stop, among)
        return chosen
