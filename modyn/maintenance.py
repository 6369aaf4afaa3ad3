"""Is a dataset what was written, and how it is made to open again; docs/repair.md has the rules."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.erasure import whoami

__all__ = ["Finding", "RepairReport", "Step", "VerifyReport", "repair", "verify"]

ROUNDS = 8
"""How often damaged samples are looked for: one round finds what it lists."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with a file of a dataset.

    Parameters
    ----------
    what : str
        "header", "reach", "commit", "entry", "missing", "truncated", "block", "link" or "stray".
    file : str
        Its name in the directory; a whole path for a linked file.
    kind : str, optional
        Of blocks: "records", "timestamps", "labels" or "offsets".
    numbers : range
        Of the blocks, commits or entries; of the slot for "reach"; else empty.
    keys : range
        Samples that are concerned, if that is known.
    text : str
        What is wrong.
    """

    what: str
    file: str
    kind: str | None = None
    numbers: range = range(0)
    keys: range = range(0)
    text: str

    @property
    def place(self) -> str:
        """The block, commit, entry or slot, in words; empty for a file as a whole."""
        if not self.numbers:
            return ""
        name = {"block": self.kind or "block", "reach": "reach slot"}.get(self.what, self.what)
        if self.what == "block":
            name += " block"
        return _numbered(name, self.numbers)

    def __str__(self) -> str:
        parts = [part for part in (self.place, _keys(self.keys)) if part]
        return f"{self.file}: {', '.join(parts)}{': ' if parts else ''}{self.text}"


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What `verify` has seen.

    Parameters
    ----------
    path : str
        The directory.
    findings : tuple of Finding
        All that is wrong, in the order of the files.
    strays : tuple of Finding
        Files that are no part of the dataset. They do no harm to it.
    more : int
        Findings that were counted and are not listed.
    commits, samples, erased, entries, segments : int
        As of the last good commit; entries are those of both journals.
    blocks, bytes : int
        How many were held against a checksum.
    """

    path: str
    findings: tuple[Finding, ...]
    strays: tuple[Finding, ...]
    more: int
    commits: int
    samples: int
    erased: int
    entries: int
    segments: int
    blocks: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings and not self.more


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that a repair does, or leaves alone.

    Parameters
    ----------
    what : str
        "header", "extended", "lost", "given up", "kept", "events", "sources", "manifest" or
        "left".
    file : str
        Its name in the directory.
    numbers : range
        Of commits or entries.
    keys : range
        Samples that are concerned.
    text : str
        What is done, and what it means.
    """

    what: str
    file: str
    numbers: range = range(0)
    keys: range = range(0)
    text: str

    def __str__(self) -> str:
        name = "entry" if self.file in ("events", "sources") else "commit"
        parts = [_numbered(name, self.numbers) if self.numbers else "", _keys(self.keys)]
        parts = [part for part in parts if part]
        return f"{self.file}: {', '.join(parts)}{': ' if parts else ''}{self.text}"


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What `repair` has done, or would do.

    Parameters
    ----------
    path : str
        The directory.
    dry_run : bool
        Whether nothing was done.
    steps : tuple of Step
        Empty when there was nothing to be done.
    erased : int
        Samples that were erased since their bytes are damaged.
    left : VerifyReport, optional
        What is still wrong; None for a dry run.
    """

    path: str
    dry_run: bool
    steps: tuple[Step, ...]
    erased: int = 0
    left: VerifyReport | None = field(default=None, repr=False)


def verify(path: str | os.PathLike[str], *, threads: int = 2) -> VerifyReport:
    """Hold every byte of a dataset against its checksums, and go on past damage.

    The dataset need not open. Nothing is written, and others may read, append
    and compact meanwhile. Memory does not depend on the size of the dataset.

    Parameters
    ----------
    path : path
        The directory.
    threads : int
        How many read; the report is the same for any number.

    Raises
    ------
    FileNotFoundError
        There is no dataset.

    Examples
    --------
    >>> import tempfile, modyn
    >>> home = tempfile.mkdtemp() + "/d"
    >>> with modyn.Dataset.create(home, schema={"x": "int8"}, labels=False) as dataset:
    ...     _ = dataset.append({"x": [1, 2, 3]}, timestamps=[10, 20, 30])
    >>> modyn.verify(home).ok
    True
    >>> with open(home + "/000000.seg", "r+b") as file:
    ...     _ = file.write(b"?")
    >>> print(*modyn.verify(home).findings)
    000000.seg: records block 0, keys 0 to 2: the checksum is wrong
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    where = os.path.abspath(os.fspath(path))
    commits, samples, erased, entries, segments, blocks, size, more, found = _core.verify(
        where, threads
    )
    findings = [
        Finding(
            what=what,
            file=file,
            kind=kind,
            numbers=range(number, number + count),
            keys=range(first, first + keys),
            text=text,
        )
        for what, file, kind, number, count, first, keys, text in found
    ]
    return VerifyReport(
        path=where,
        findings=tuple(finding for finding in findings if finding.what != "stray"),
        strays=tuple(finding for finding in findings if finding.what == "stray"),
        more=more,
        commits=commits,
        samples=samples,
        erased=erased,
        entries=entries,
        segments=segments,
        blocks=blocks,
        bytes=size,
    )


def repair(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    erase_damaged: bool = False,
    cut_sources: bool = False,
    who: str | None = None,
    threads: int = 2,
) -> RepairReport:
    """Make a damaged dataset open again, with every commit that is whole.

    Commits are given up only at the end, and only if their own rows are gone;
    erased samples stay erased. The old manifest is kept beside the new one.
    Without anything to be done nothing is touched.

    Parameters
    ----------
    path : path
        The directory.
    dry_run : bool
        Only say what would be done.
    erase_damaged : bool
        Erase the samples whose bytes are damaged, and compact, so that all others
        can be read without errors.
    cut_sources : bool
        Cut a damaged journal of what was ingested behind its last whole entry.
        Files that later ones spoke of may then be ingested twice.
    who : str, optional
        Who erases, for the journal; by default user and host.
    threads : int
        How many read.

    Raises
    ------
    FileNotFoundError
        There is no dataset.
    BusyError
        Somebody is writing.
    CorruptError
        Nothing can be done without a copy of a file: the message says which.
        Nothing was changed.

    Examples
    --------
    >>> import tempfile, modyn
    >>> home = tempfile.mkdtemp() + "/d"
    >>> with modyn.Dataset.create(home, schema={"x": "int8"}, labels=False) as dataset:
    ...     for _ in range(3):
    ...         _ = dataset.append({"x": [1, 2, 3]}, timestamps=[10, 20, 30])
    >>> with open(home + "/manifest", "r+b") as file:
    ...     _ = file.seek(-2 * 128, 2), file.write(b"?")
    >>> modyn.Dataset.open(home)
    Traceback (most recent call last):
    modyn.errors.CorruptError: ...: commit 2 at offset 2176 is damaged or missing; ...
    >>> print(*modyn.repair(home).steps)
    manifest: written anew; the old one is kept as manifest.before-repair-1
    >>> len(modyn.Dataset.open(home))
    9
    """
    where = os.path.abspath(os.fspath(path))
    steps = tuple(
        Step(
            what=what,
            file=file,
            numbers=range(number, number + count),
            keys=range(first, first + keys),
            text=text,
        )
        for what, file, _, number, count, first, keys, text in _core.repair(
            where, dry_run, cut_sources
        )
    )
    if dry_run:
        return RepairReport(path=where, dry_run=True, steps=steps)
    left = verify(where, threads=threads)
    erased = 0
    for _ in range(ROUNDS if erase_damaged else 0):
        if not _damaged(left):
            break
        erased += _erase(where, left, who or whoami())
        left = verify(where, threads=threads)
    return RepairReport(path=where, dry_run=False, steps=steps, erased=erased, left=left)


def _damaged(report: VerifyReport) -> list[range]:
    """Return the samples that cannot be read; a linked file as a whole is the user's own matter."""
    return [finding.keys for finding in report.findings if finding.keys and finding.what != "link"]


def _erase(path: str, report: VerifyReport, who: str) -> int:
    """Erase what is damaged and remove its bytes."""
    parts = [np.arange(part.start, part.stop, dtype=np.uint64) for part in _damaged(report)]
    keys: npt.NDArray[np.uint64] = np.unique(np.concatenate(parts))
    core = _core.Dataset.open(path, True)
    try:
        erased = core.erase(keys, who, "damaged: their bytes are not what was written")
        core.compact()
    finally:
        core.close()
    return erased


def _numbered(name: str, numbers: range) -> str:
    if len(numbers) == 1:
        return f"{name} {numbers.start}"
    plural = "entries" if name == "entry" else name + "s"
    return f"{plural} {numbers.start} to {numbers.stop - 1}"


def _keys(keys: range) -> str:
    if not keys:
        return ""
    if len(keys) == 1:
        return f"key {keys.start}"
    return f"keys {keys.start} to {keys.stop - 1}"
