"""How files that are ingested look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["CSV", "JSONL", "Column"]

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
    timestamp : str or int
        The column of the timestamp: an int64 in the unit of the dataset.
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

    timestamp: Column
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


def _check_key(what: str, key: str) -> None:
    if not isinstance(key, str):
        raise TypeError(f"{what} must be a key, names with dots between them, got {key!r}")
    if not all(key.split(".")) or "\0" in key:
        raise ValueError(f"{what} must be a key without empty names or NUL, got {key!r}")


@dataclass(frozen=True, kw_only=True)
class JSONL:
    """Lines of JSON: one object per sample, on a line of its own.

    A key is a name in that object or, with dots, in objects within it:
    `"user.age"`. Keys that nothing is read from are skipped; one that is missing,
    or is there twice, is an error. A number has to fit its type; `null` is NaN in
    a float field. An array has exactly the shape of its field. A bytes field takes
    a string, as UTF-8. Lines of blanks are skipped.

    Parameters
    ----------
    timestamp : str, optional
        The key of the timestamp: an int64 in the unit of the dataset.
    label : str, optional
        The key of the label, an int64. Needed if the dataset has labels.
    fields : mapping of field name to key, optional
        Where the values of fields are. A field that is not named here has a
        key of its own name.
    base64 : sequence of str
        Bytes fields whose strings are base64.

    Examples
    --------
    >>> JSONL(timestamp="at", label="clicked", fields={"age": "user.age"}, base64=["image"])
    JSONL(timestamp='at', label='clicked', fields={'age': 'user.age'}, base64=('image',))
    >>> JSONL(timestamp="at").keys(["age", "city"])
    ('age', 'city')
    """

    timestamp: str | None = None
    label: str | None = None
    fields: Mapping[str, str] | None = None
    base64: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.timestamp is not None:
            _check_key("timestamp", self.timestamp)
        if self.label is not None:
            _check_key("label", self.label)
        for field, key in (self.fields or {}).items():
            _check_key(f"the key of field {field!r}", key)
        if isinstance(self.base64, str):
            raise TypeError(f"base64 must be a sequence of field names, got {self.base64!r}")
        if self.fields is not None:
            object.__setattr__(self, "fields", dict(self.fields))
        object.__setattr__(self, "base64", tuple(self.base64))

    def keys(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the keys of fields of these names.

        Raises
        ------
        ValueError
            `fields` or `base64` name a field that there is not.
        """
        given = dict(self.fields or {})
        for what, named in (("fields", given), ("base64", self.base64)):
            for name in named:
                if name not in names:
                    raise ValueError(f"{what} names field {name!r}; the schema has {list(names)}")
        return tuple(given.get(name, name) for name in names)
