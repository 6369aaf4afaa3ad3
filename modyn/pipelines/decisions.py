"""What policies note when they decide, from a note to a row of the ledger and back.

Rows are committed with the trigger or the position that follows, so that a run that goes on notes
again what was lost.  They are numbered through the run, by position and then by name, since the
order in which several policies look at a block depends on where it was cut.  They take no part in
the digest of a ledger.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from modyn.pipelines.ledger import DecisionRow, canonical
from modyn.policies.context import Note
from modyn.policies.state import decode, encode

__all__ = ["Notebook", "noted"]


class Notebook:
    """Notes that are not committed yet.

    Parameters
    ----------
    number : int
        How many were committed before.
    timestamp_before : callable
        Returns the timestamp of the last sample before a position.
    """

    def __init__(self, number: int, timestamp_before: Callable[[int], int | None]) -> None:
        self._number = number
        self._timestamp_before = timestamp_before
        self._rows: list[DecisionRow] = []

    @property
    def rows(self) -> list[DecisionRow]:
        """What is to be committed."""
        found = sorted(self._rows, key=lambda row: (row.position, row.name))
        return [replace(row, number=self._number + i) for i, row in enumerate(found)]

    def take(self, note: Note) -> None:
        """Add a note.

        Raises
        ------
        TypeError
            When JSON cannot hold it; names the value.
        """
        values = encode(_plain(note.values), f"a note of {note.name}")
        row = DecisionRow(
            number=-1,  # not known before all are there
            position=note.position,
            trigger=note.trigger,
            timestamp=self._timestamp_before(note.position),
            name=note.name,
            noted=canonical(values),
        )
        self._rows.append(row)

    def committed(self) -> None:
        """Hear that all rows are in the ledger."""
        self._number += len(self._rows)
        self._rows = []

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Keep what a policy notes while it is asked, unless it raises: then it is asked again."""
        before = len(self._rows)
        try:
            yield
        except BaseException:
            del self._rows[before:]
            raise


def noted(row: DecisionRow) -> dict[str, Any]:
    """Return what was noted."""
    found: dict[str, Any] = decode(json.loads(row.noted))
    return found


def _plain(value: Any) -> Any:
    """Return numbers, texts, lists and mappings as what JSON knows."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return value
