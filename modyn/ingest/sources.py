r"""What a dataset has taken from which file: the entries of its sources journal.

An entry is committed with the samples of its batch, in the same record of the manifest. It is
one JSON object, in ASCII:

    version    1
    format     of the files: its kind and the digest of its settings, "CSV:0f1e..."
    key        of the first sample of the batch
    prefix     what all paths of the entry begin with
    paths      the rest of each path; bytes that are no UTF-8 as \udcXX
    gone       paths under which a file is known no more, since it has another name
    classes    the labels of folders, where folders are labels
    COLUMNS    a list with a number per path, or one number that holds for all

The samples of the files follow each other in the order of the paths, `samples` of each.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["INODE", "NEW", "PATH", "Entry", "Record", "Sources", "keys_of_file"]

VERSION = 1
NEW, PATH, INODE = 0, 1, 2
"""How a row is tied to what is known: a file of its own, the one of this path, of this inode."""

COLUMNS = {
    "link": "B",
    "device": "Q",
    "inode": "Q",
    "size": "Q",
    "mtime": "q",  # ns since 1970
    "end": "Q",  # where the first sample begins that was not taken
    "head": "L",  # CRC-32C of the first bytes that were taken
    "tail": "L",  # and of the last
    "whole": "B",  # nothing was left of it then
    "samples": "Q",  # samples of this batch
}


class Record(NamedTuple):
    """What is known of one file."""

    device: int
    inode: int
    size: int
    mtime: int
    end: int
    head: int
    tail: int
    whole: int
    samples: int
    kind: str


@dataclass
class Entry:
    """What one commit says of files; see the head of this module."""

    format: str
    key: int
    paths: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    columns: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, path: str, **values: int) -> None:
        """Say something of one file."""
        self.paths.append(path)
        for name, column in self.columns.items():
            column.append(values[name])

    def extend(self, paths: list[str], **values: list[int] | int) -> None:
        """Say something of many files; a number holds for all of them."""
        self.paths += paths
        for name, column in self.columns.items():
            value = values[name]
            column += [value] * len(paths) if isinstance(value, int) else value

    def encode(self) -> bytes:
        prefix = _common(self.paths)
        entry: dict[str, object] = {"version": VERSION, "format": self.format, "key": self.key}
        entry["prefix"] = prefix
        entry["paths"] = [path[len(prefix) :] for path in self.paths]
        if self.gone:
            entry["gone"] = self.gone
        if self.classes:
            entry["classes"] = self.classes
        for name, column in self.columns.items():
            same = bool(column) and column.count(column[0]) == len(column)
            entry[name] = column[0] if same else column
        return json.dumps(entry, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Entry:
        """Read what `encode` wrote.

        Raises
        ------
        ValueError
            It is of a later version, or no entry at all.
        """
        data = json.loads(payload)
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise ValueError(
                f"an entry of the sources journal has version {data.get('version')!r}; "
                f"this modyn knows {VERSION}"
            )
        entry = cls(data["format"], data["key"])
        entry.gone = data.get("gone", [])
        entry.classes = data.get("classes", {})
        paths = [data["prefix"] + path for path in data["paths"]]
        entry.extend(paths, **{name: data[name] for name in COLUMNS})
        return entry


def _common(paths: list[str]) -> str:
    """Return what all of several paths begin with."""
    if len(paths) < 2:
        return ""
    first, last = min(paths), max(paths)
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((place for place, (a, b) in pairs if a != b), len(first))]


class Sources:
    """The files that a dataset has taken, by path and by inode, after all its entries.

    One row per file, in arrays: a file that has several names (links) has one.
    """

    def __init__(self, payloads: Iterable[bytes] = ()) -> None:
        self.by_path: dict[str, int] = {}
        self.by_inode: dict[tuple[int, int], int] = {}
        self.classes: dict[str, int] = {}  # of folders that are labels
        self._columns = {name: array(code) for name, code in COLUMNS.items() if name != "link"}
        self._names: list[str] = []  # by row
        self._more_names: dict[int, list[str]] = {}
        self._kinds: list[str] = []
        self._kind = array("L")
        for payload in payloads:
            self.apply(Entry.decode(payload))

    def __len__(self) -> int:
        return len(self._kind)

    def record(self, row: int) -> Record:
        values = [column[row] for column in self._columns.values()]
        return Record._make([*values, self._kinds[self._kind[row]]])

    def first_name(self, row: int) -> str:
        """Return the path under which a file was seen first."""
        return self._names[row]

    def names(self, row: int) -> list[str]:
        """Return the paths under which a file is known."""
        names = [self._names[row], *self._more_names.get(row, ())]
        return [path for path in names if self.by_path.get(path) == row]

    def apply(self, entry: Entry) -> None:
        """Take in what was committed."""
        links = entry.columns["link"]
        self._drop(entry)
        self.classes.update(entry.classes)
        if not any(links):
            self._add(entry, 0, len(links))
            return
        first = 0
        for place, link in enumerate(links):
            if link == NEW:
                continue
            self._add(entry, first, place)
            self._update(entry, place)
            first = place + 1
        self._add(entry, first, len(links))

    def _drop(self, entry: Entry) -> None:
        """Forget the names that renamed files had."""
        if not entry.gone:
            return
        inodes = zip(*(entry.columns[name] for name in ("link", "device", "inode")), strict=True)
        rows = {
            self.by_inode.get((device, inode)) for link, device, inode in inodes if link == INODE
        }
        for path in entry.gone:
            if self.by_path.get(path) in rows:
                del self.by_path[path]

    def _add(self, entry: Entry, first: int, stop: int) -> None:
        """Take in files that were unknown."""
        if first == stop:
            return
        rows = range(len(self), len(self) + stop - first)
        for name, column in self._columns.items():
            column.extend(entry.columns[name][first:stop])
        self._kind.extend([self._kind_number(entry.format)] * len(rows))
        self._names += entry.paths[first:stop]
        self.by_path.update(zip(entry.paths[first:stop], rows, strict=True))
        names = [entry.columns[name][first:stop] for name in ("device", "inode")]
        self.by_inode.update(zip(zip(*names, strict=True), rows, strict=True))

    def _update(self, entry: Entry, place: int) -> None:
        """Take in what is new of a file that is known."""
        path = entry.paths[place]
        values = {name: column[place] for name, column in entry.columns.items()}
        inode = (values["device"], values["inode"])
        row = self.by_inode[inode] if values["link"] == INODE else self.by_path[path]
        old = self.record(row)
        before = (old.device, old.inode)
        if before != inode and self.by_inode.get(before) == row:
            del self.by_inode[before]
        for name, column in self._columns.items():
            column[row] = values[name] + (old.samples if name == "samples" else 0)
        self._kind[row] = self._kind_number(entry.format)
        if path not in self.names(row):
            self._more_names.setdefault(row, []).append(path)
        self.by_path[path] = row
        self.by_inode[inode] = row

    def _kind_number(self, format: str) -> int:
        kind = format.partition(":")[0]
        if kind not in self._kinds:
            self._kinds.append(kind)
        return self._kinds.index(kind)


def keys_of_file(payloads: Iterable[bytes], path: str) -> list[range]:
    """Return the keys of all samples of a file, whatever its name was when they were taken.

    Raises
    ------
    KeyError
        Nothing is known of a file with this path.
    """
    sources = Sources()
    parts: dict[int, list[range]] = {}
    for payload in payloads:
        entry = Entry.decode(payload)
        sources.apply(entry)
        key = entry.key
        for name, count in zip(entry.paths, entry.columns["samples"], strict=True):
            if count:
                parts.setdefault(sources.by_path[name], []).append(range(key, key + count))
            key += count
    return parts.get(sources.by_path[path], [])
