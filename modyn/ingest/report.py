"""What an ingest has added, and what it left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["IngestReport", "Tally"]


@dataclass(frozen=True)
class IngestReport:
    """What an ingest has added.

    Parameters
    ----------
    files : tuple of str
        Files of which samples were added, in this order.
    samples : int
        How many samples that were.
    keys : range
        Their keys, in the order of the files and of their rows.
    skipped : tuple of (str, str)
        With on_error="skip", the files that were rejected, and why.
    known : int
        Files of which everything is in the dataset since before, renamed ones
        among them: they were not read again.
    renamed : tuple of (str, str)
        Files that are known under another name: the new one and the old one.
    linked : int
        Of the samples, how many lie in the files and nowhere else.
    classes : mapping of str to int
        The labels of folders, where folders are labels.
    """

    files: tuple[str, ...]
    samples: int
    keys: range
    skipped: tuple[tuple[str, str], ...] = ()
    known: int = 0
    renamed: tuple[tuple[str, str], ...] = ()
    linked: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{_some(self.samples, 'sample')} of {_some(len(self.files), 'file')} added"
        if self.known:
            text += f", {_some(self.known, 'file')} known before"
        if self.skipped:
            text += f", {_some(len(self.skipped), 'file')} rejected"
        return text


@dataclass
class Tally:
    """What has been appended so far, while an ingest runs."""

    files: dict[str, None] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    keys: range = range(0)
    samples: int = 0
    known: int = 0
    linked: int = 0
    classes: dict[str, int] = field(default_factory=dict)

    def add(self, files: list[str], first: int, count: int) -> None:
        """Count samples that are durable now."""
        self.files.update(dict.fromkeys(files))
        if count == 0:
            return
        self.keys = range(self.keys.start if self.samples else first, first + count)
        self.samples += count

    def note(self) -> str:
        """Say what was added, for somebody who was stopped."""
        if not self.samples:
            return "no sample of these files was added"
        return (
            f"{self.samples} samples were added before; "
            f"their keys are {self.keys.start} to {self.keys.stop - 1}"
        )

    def report(self) -> IngestReport:
        return IngestReport(
            tuple(self.files),
            self.samples,
            self.keys,
            tuple(self.skipped),
            self.known,
            tuple(self.renamed),
            self.linked,
            dict(self.classes),
        )


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
