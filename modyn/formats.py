"""How files that are ingested look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["CSV", "Arrow", "Column", "FileNameTime", "Parquet"]

Column = str | int
"""A column of a file: its name in the header, or its index from 0."""


def _check_byte(name: str, value: str) -> None:
    if not isinstance(value, str) or len(value.encode()) != 1 or value in "\r\n":
        raise ValueError(f"{name} must be one byte and no line end, got {value!r}")


def _check_column(what: str, column: Column, header: bool) -> None:
    if isinstance(column, bool) or not isinstance(column, (str, int)):
        raise TypeError(f"{what} must be the name or the index of a column, got {column!r}")
    if isinstance(column, str) and not header:
        raise ValueError(f"{what} is given by name, {column!r}, but header is False")
    if isinstance(column, int) and column < 0:
        raise ValueError(f"{what} must be an index from 0, got {column}")


@dataclass(frozen=True, kw_only=True)
class CSV:
    """Rows of text: one sample per line, cells between separators.

    A cell may be quoted; inside quotes separators and line ends are ordinary,
    and a doubled quote is one. Lines end in LF or CRLF. Empty lines are skipped.
    Numbers fill their cell. An empty cell is NaN in a float field and an error
    in any other numeric one; a bytes field takes the cell as it is.

    Parameters
    ----------
    timestamp : str or int, optional
        The column of the timestamp: an int64 in the unit of the dataset.
        Without it, say where timestamps come from when ingesting.
    label : str or int, optional
        The column of the label, an int64. Needed if the dataset has labels.
    columns : mapping of field name to columns, optional
        For each field of the schema its columns, as many as it has elements
        (in C order), each by name or index; one alone need not be in a list.
        By default, with a header: a field `x` of one element is column `x`,
        and a larger one is `x_0`, `x_1`, and so on; without a header, all
        columns but label and timestamp, in order.
    header : bool
        Whether the first row holds the names of the columns.
    separator : str
        What stands between cells, one byte.
    quote : str, optional
        What quoted cells are quoted by, one byte; None if quotes mean nothing.

    Examples
    --------
    >>> CSV(timestamp="day", label="rain", columns={"dense": ["temp", "wind"]})
    CSV(timestamp='day', label='rain', columns={'dense': ('temp', 'wind')}, header=True, \
separator=',', quote='"')
    """

    timestamp: Column | None = None
    label: Column | None = None
    columns: Mapping[str, Column | Sequence[Column]] | None = None
    header: bool = True
    separator: str = ","
    quote: str | None = '"'

    def __post_init__(self) -> None:
        _check_byte("separator", self.separator)
        if self.quote is not None:
            _check_byte("quote", self.quote)
        if self.quote == self.separator:
            raise ValueError(f"separator and quote must differ, both are {self.quote!r}")
        if self.timestamp is not None:
            _check_column("timestamp", self.timestamp, self.header)
        if self.label is not None:
            _check_column("label", self.label, self.header)
        if self.columns is None:
            return
        columns = {
            field: (given,) if isinstance(given, (str, int)) else tuple(given)
            for field, given in self.columns.items()
        }
        for field, sources in columns.items():
            for source in sources:
                _check_column(f"a column of field {field!r}", source, self.header)
        object.__setattr__(self, "columns", columns)


@dataclass(frozen=True)
class FileNameTime:
    r"""The time in the name of a file is the timestamp of its samples.

    Parameters
    ----------
    pattern : str
        A regular expression that is looked for in the name, without its folder.
        Its group `time`, or its only one, is the time.
    format : str, optional
        How the time is written, as `datetime.strptime` reads it; UTC unless it
        says otherwise. Without it the time is an integer in the unit of the dataset.

    Examples
    --------
    >>> FileNameTime(r"(\d{4}-\d{2}-\d{2})", "%Y-%m-%d")
    FileNameTime(pattern='(\\d{4}-\\d{2}-\\d{2})', format='%Y-%m-%d')
    """

    pattern: str
    format: str | None = None

    def __post_init__(self) -> None:
        try:
            found = re.compile(self.pattern)
        except re.error as error:
            raise ValueError(
                f"pattern {self.pattern!r} is no regular expression: {error}"
            ) from None
        if "time" not in found.groupindex and found.groups != 1:
            raise ValueError(
                f"pattern {self.pattern!r} must have one group, or one named 'time', "
                f"got {found.groups}"
            )


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Parquet files, read by pyarrow: `pip install 'modyn[arrow]'`.

    A field takes the column of its name: numbers that cast safely to its type, lists of
    the right length for a shape, strings or binary values for bytes. A missing value is
    NaN in a float field and an error in any other.

    Parameters
    ----------
    label : str, optional
        The column of the label. Needed if the dataset has labels.
    timestamp : str, optional
        The column of the timestamp: integers in the unit of the dataset, or times.
    columns : mapping of field name to column, optional
        For fields whose column has another name.

    Examples
    --------
    >>> Parquet(label="rain", columns={"dense": "embedding"}).label
    'rain'
    """

    label: str | None = None
    timestamp: str | None = None
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Arrow(Parquet):
    """Arrow IPC files, which are Feather files of version 2; otherwise like `Parquet`.

    Examples
    --------
    >>> Arrow(timestamp="day").timestamp
    'day'
    """
