"""Samples that are erased, their bytes that are removed, and the journal of both."""

from __future__ import annotations

import getpass
import os
import socket
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.ingest.sources import keys_of_file
from modyn.inputs import as_int64, as_keys, as_timestamps

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = [
    "Compaction",
    "Erasure",
    "Event",
    "audit",
    "check_reason",
    "compact",
    "erase",
    "whoami",
]

ERASE, COMPACT, LINK = 1, 2, 3


def erase(
    dataset: Dataset,
    keys: npt.ArrayLike | None = None,
    *,
    labels: npt.ArrayLike | None = None,
    since: Any = None,
    until: Any = None,
    file: str | os.PathLike[str] | None = None,
    reason: str,
    who: str | None = None,
) -> int:
    """Erase samples, durably, and return how many were not erased before.

    Every handle that is opened or refreshed after this refuses them: in `fetch`,
    in loaders, training sets and streams. Their bytes stay in the files
    until `compact`. What was erased, when, why and by whom is written to a
    journal that cannot be changed unnoticed; `audit` reads it.

    Conditions that are given together must all hold.

    Parameters
    ----------
    keys : uint64, shape (n,), optional
        In any order; repeats are allowed.
    labels : int64, optional
        One label, or several: samples that have one of them.
    since, until : int or datetime64, optional
        Samples with since <= timestamp < until, in the unit of the dataset.
    file : path, optional
        Samples that were ingested from this file.
    reason : str
        Why, for the journal.
    who : str, optional
        Who wants it, for the journal; by default user and host.

    Raises
    ------
    KeyError
        There never was a sample with a key. Nothing was erased.
    ValueError
        Nothing is said about which samples, the dataset has no labels, or
        nothing was ingested from the file.

    Examples
    --------
    >>> import tempfile
    >>> from modyn import Dataset
    >>> words = Dataset.create(tempfile.mkdtemp() + "/w", schema={"x": "int8"}, labels=False)
    >>> _ = words.append({"x": [1, 2, 3]}, timestamps=[10, 20, 30])
    >>> words.erase([1], reason="user 4711 left")
    1
    >>> words.keys()
    array([0, 2], dtype=uint64)
    >>> words.fetch([0, 1])
    Traceback (most recent call last):
    KeyError: 'sample 1 of ... was erased'
    """
    wanted = Erasure(keys=keys, labels=labels, since=since, until=until, file=file)
    found = wanted.find(dataset)
    erased = dataset._core.erase(found, who or whoami(), check_reason(reason))
    dataset._current = None
    return erased


def compact(dataset: Dataset) -> Compaction:
    """Remove the bytes of erased samples from the files of the dataset.

    Keys and content of all other samples stay as they are, and readers in
    any process go on reading meanwhile. Segments are written anew one by
    one, each all or nothing; a compaction that was interrupted goes on
    when it is called again.

    A reader that holds a view from before keeps it, except for samples
    that it had not read yet and whose bytes are gone now: they are refused
    with a KeyError.

    Samples that are linked (`mode="link"`) are in files of yours, which modyn
    does not write: what was erased of them remains there. The answer says in
    which files, and how much.
    """
    segments, samples = dataset._core.compact()
    dataset._current = None
    remaining: dict[str, int] = {}
    for path, _, _, erased in dataset.view.links():
        if erased:
            remaining[path] = remaining.get(path, 0) + erased
    return Compaction(segments=segments, samples=samples, linked=tuple(remaining.items()))


def audit(dataset: Dataset) -> list[Event]:
    """Return what was erased, compacted and linked, when, why and by whom, oldest first.

    The whole journal is read and its chain of digests verified up to the
    digest that the manifest holds.

    Raises
    ------
    CorruptError
        The journal was changed or is damaged.
    """
    return [Event.decode(*entry) for entry in dataset._core.events()]


def whoami() -> str:
    """Return user and host, as far as they are known."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def check_reason(reason: str) -> str:
    """Return the reason, which must say something."""
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"reason must say why the samples are erased, got {reason!r}")
    return reason


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """Conditions on samples, all of which must hold; `erase` explains them."""

    keys: Any = None
    labels: Any = None
    since: Any = None
    until: Any = None
    file: str | os.PathLike[str] | None = None

    def find(self, dataset: Dataset) -> npt.NDArray[np.uint64]:
        """Return the keys of these samples, ascending.

        Raises
        ------
        ValueError
            No condition is given, or one makes no sense for the dataset.
        """
        given = (self.keys, self.labels, self.since, self.until, self.file)
        if all(condition is None for condition in given):
            raise ValueError("say which samples: keys, labels, since, until or file")
        found: npt.NDArray[np.uint64] | None = None
        if self.keys is not None:
            found = np.unique(as_keys(self.keys))
        if self.file is not None:
            of_file = self._of_file(dataset)
            found = of_file if found is None else np.intersect1d(found, of_file)
        if self.labels is None and self.since is None and self.until is None:
            return found if found is not None else np.empty(0, np.uint64)
        alike = self._alike(dataset)
        return alike if found is None else np.intersect1d(found, alike)

    def _of_file(self, dataset: Dataset) -> npt.NDArray[np.uint64]:
        """Return the samples that were ingested from the file."""
        path = os.path.abspath(os.fspath(self.file or ""))
        try:
            parts = keys_of_file(dataset._core.sources(), path)
        except KeyError:
            raise ValueError(f"{dataset.path}: nothing was ingested from {path}") from None
        if not parts:
            return np.empty(0, np.uint64)
        return np.concatenate([np.arange(part.start, part.stop, dtype=np.uint64) for part in parts])

    def _alike(self, dataset: Dataset) -> npt.NDArray[np.uint64]:
        """Return the living samples with the labels and timestamps asked for."""
        view, unit = dataset.view, dataset.timestamp_unit
        times, classes = view.columns(0, view.count)
        right = ~view.erased(0, view.count)
        if self.labels is not None:
            if classes is None:
                raise ValueError(f"{dataset.path} has no labels")
            right &= np.isin(classes, as_int64("labels", np.atleast_1d(self.labels)))
        if self.since is not None:
            right &= times >= as_timestamps(np.asarray([self.since]), unit)[0]
        if self.until is not None:
            right &= times < as_timestamps(np.asarray([self.until]), unit)[0]
        return np.flatnonzero(right).astype(np.uint64)


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """What a compaction has done.

    Parameters
    ----------
    segments : int
        How many were written anew.
    samples : int
        Erased samples whose bytes are in no file of the dataset any more.
    linked : tuple of (str, int)
        Files that are linked and hold erased samples, and how many: their timestamps and
        labels are gone from the dataset, which never shows them, but their records are
        still in these files, which modyn does not write.
    """

    segments: int
    samples: int
    linked: tuple[tuple[str, int], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Files of the user in which erased samples remain."""
        return tuple(path for path, _ in self.linked)

    @property
    def linked_samples(self) -> int:
        """How many erased samples remain in files of the user."""
        return sum(samples for _, samples in self.linked)


@dataclass(frozen=True, kw_only=True)
class Event:
    """An entry of the journal of events.

    Parameters
    ----------
    number : int
        Its place in the journal, from 1.
    action : str
        "erase", "compact" or "link".
    when : datetime
        In UTC, by the clock of the machine that wrote it.
    who, why : str
        For erasures.
    samples : int
        How many were erased.
    keys : tuple of range
        Which.
    segments : tuple of int
        For compactions, the segments that were rewritten; for links, those that were linked.
    file : str
        For links, the user's file in which the records lie.
    digest : str
        BLAKE2b of this entry and all before, hexadecimal.
    """

    number: int
    action: str
    when: datetime
    who: str = ""
    why: str = ""
    samples: int = 0
    keys: tuple[range, ...] = field(default=(), repr=False)
    segments: tuple[int, ...] = ()
    file: str = ""
    digest: str

    @classmethod
    def decode(cls, number: int, kind: int, wall_ns: int, digest: bytes, payload: bytes) -> Event:
        """Return an entry as it was written; its digest has been verified."""
        when = datetime.fromtimestamp(wall_ns / 1e9, tz=UTC)
        if kind == COMPACT:
            count = int.from_bytes(payload[:8], "little")
            segments = tuple(pair[0] for pair in struct.iter_unpack("<QQ", payload[8:]))[:count]
            return cls(
                number=number,
                action="compact",
                when=when,
                segments=segments,
                digest=digest.hex(),
            )
        if kind == LINK:
            first, linked = struct.unpack_from("<QQ", payload, 40)
            return cls(
                number=number,
                action="link",
                when=when,
                segments=tuple(range(first, first + linked)),
                file=os.fsdecode(payload[56:]),
                digest=digest.hex(),
            )
        samples, who, why = struct.unpack_from("<QII", payload)
        end = 16 + who + why
        return cls(
            number=number,
            action="erase",
            when=when,
            who=payload[16 : 16 + who].decode(errors="replace"),
            why=payload[16 + who : end].decode(errors="replace"),
            samples=samples,
            keys=_ranges(payload[end:]),
            digest=digest.hex(),
        )


def _ranges(data: bytes) -> tuple[range, ...]:
    """Return the ranges of keys: pairs of a gap and a length less 1, in LEB128."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    ranges, at = [], 0
    for gap, more in zip(numbers[::2], numbers[1::2], strict=True):
        ranges.append(range(at + gap, at + gap + more + 1))
        at = ranges[-1].stop
    return tuple(ranges)
