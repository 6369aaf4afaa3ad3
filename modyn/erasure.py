"""Which samples are to be erased, and what the journal says of those that were."""

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

__all__ = ["Compaction", "Erasure", "Event", "check_reason", "whoami"]

ERASE, COMPACT, LINK = 1, 2, 3


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
    """Conditions on samples, all of which must hold; `Dataset.erase` explains them."""

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
