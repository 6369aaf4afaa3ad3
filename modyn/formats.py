"""How files that are ingested look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "CSV",
    "Arrow",
    "Column",
    "FileNameTime",
    "Files",
    "FixedRecord",
    "JSONL",
    "FolderLabels",
    "LabelFile",
    "Npy",
    "Parquet",
    "Tar",
]

Column = str | int
"""A column of a file: its name in the header, or its index from 0."""

ByteOrder = Literal["little", "big"]
"""Which byte of a number comes first: the least or the most significant one."""


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


def _check_size(name: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of bytes, got {value!r}")
    if not low <= value < 2**63:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def _check_order(name: str, value: str) -> None:
    if value not in ("little", "big"):
        raise ValueError(f"{name} must be 'little' or 'big', got {value!r}")


def _check_number(name: str, place: tuple[int, int | str]) -> None:
    if not isinstance(place, tuple) or len(place) != 2:
        raise TypeError(f"{name} must be (offset, width or type), got {place!r}")
    _check_size(f"the offset of {name}", place[0], 0)
    if isinstance(place[1], str):
        dtype = np.dtype(place[1])
        if dtype.kind not in "iu":
            raise ValueError(f"{name} must be an integer type, got {place[1]!r}")
    elif isinstance(place[1], bool) or place[1] not in (1, 2, 4, 8):
        raise ValueError(f"{name} must be 1, 2, 4 or 8 bytes wide, got {place[1]!r}")


@dataclass(frozen=True, kw_only=True)
class FixedRecord:
    """Binary records of one size, back to back.

    By default a record is the label, if `label_size` is given, then the fields in the
    order of the schema, without padding. With `fields` they lie anywhere in it.

    Parameters
    ----------
    record_size : int, optional
        Bytes of a record, label included; by default what label and fields take.
    label_size : int, optional
        Bytes of the label at the beginning of each record: an unsigned integer.
    label : (int, int or str), optional
        Offset of the label in the record, and its width (unsigned) or its type, such
        as "int32" or ">u2". Instead of `label_size`, together with `fields`.
    timestamp : (int, int or str), optional
        Likewise the timestamp, in the unit of the dataset; together with `fields`.
    fields : mapping of field name to offset, optional
        Where each field of the schema begins in the record.
    byteorder : "little" or "big", or a mapping of field name to one of them
        How numbers are stored. In a mapping, fields that are not named are
        little-endian, and so are label and timestamp, unless their type says more.
    first_record : int
        Bytes in front of the first record, which are skipped.

    Examples
    --------
    >>> FixedRecord(record_size=160, label_size=4).byteorder
    'little'
    >>> FixedRecord(record_size=24, fields={"x": 16}, label=(0, "int32"), timestamp=(8, 8)).label
    (0, 'int32')
    """

    record_size: int | None = None
    label_size: int | None = None
    label: tuple[int, int | str] | None = None
    timestamp: tuple[int, int | str] | None = None
    fields: Mapping[str, int] | None = None
    byteorder: ByteOrder | Mapping[str, ByteOrder] = "little"
    first_record: int = 0

    def __post_init__(self) -> None:
        if self.record_size is not None:
            _check_size("record_size", self.record_size, 1)
        _check_size("first_record", self.first_record, 0)
        if self.label_size is not None and self.label_size not in (1, 2, 4, 8):
            raise ValueError(f"label_size must be 1, 2, 4 or 8, got {self.label_size!r}")
        if self.label_size is not None and self.label is not None:
            raise ValueError("label_size and label are both given; one of them says it all")
        for name, place in (("label", self.label), ("timestamp", self.timestamp)):
            if place is None:
                continue
            _check_number(name, place)
            if self.fields is None:
                raise ValueError(f"{name} is given by its place; give fields by theirs, too")
        if self.fields is not None and self.record_size is None:
            raise ValueError("fields are given by their place; record_size is needed, too")
        for name, offset in (self.fields or {}).items():
            _check_size(f"the offset of field {name!r}", offset, 0)
        orders = (
            {"byteorder": self.byteorder} if isinstance(self.byteorder, str) else self.byteorder
        )
        for name, order in orders.items():
            _check_order("byteorder" if name == "byteorder" else f"byteorder of {name!r}", order)


@dataclass(frozen=True, kw_only=True)
class Npy:
    """NumPy's files: a plain or a structured array (.npy), or several arrays (.npz).

    The first dimension counts the samples. A plain .npy is the one field of the
    schema; the fields of a structured array and the arrays of an .npz go by name.
    Types must be those of the schema; byte orders are converted. Arrays in Fortran
    order and arrays of Python objects are refused, and so are the compressed ones of
    `np.savez_compressed`: `np.savez(new, **np.load(old))` converts them.

    Parameters
    ----------
    arrays : mapping of field name to name, optional
        What the fields are called in the file; by default as in the schema.
    label : str, optional
        The name of the label: integers of any size.
    timestamp : str, optional
        The name of the timestamp: integers, in the unit of the dataset.

    Examples
    --------
    >>> Npy(arrays={"image": "x_train"}, label="y_train").label
    'y_train'
    """

    arrays: Mapping[str, str] | None = None
    label: str | None = None
    timestamp: str | None = None

    def __post_init__(self) -> None:
        for field, name in (self.arrays or {}).items():
            _check_name(f"the array of field {field!r}", name)
        for what, given in (("label", self.label), ("timestamp", self.timestamp)):
            if given is not None:
                _check_name(what, given)


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{what} must be a name, got {name!r}")


def _check_extensions(what: str, extensions: str) -> None:
    _check_name(what, extensions)
    for one in extensions.split(";"):
        if not one or one.startswith(".") or "/" in one:
            raise ValueError(
                f"{what} must be extensions without the first dot, as in 'jpg;jpeg', "
                f"got {extensions!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Tar:
    """Tar shards in the layout of WebDataset: a sample is some members of one name.

    The name of a member ends at the first dot of its last component; what follows is
    its extension, `seg.png` being one. Members of the same name that follow each other
    are one sample. Extensions are compared as a whole, without regard to case. A field
    of type bytes takes the content of its member, a field of one number reads it as
    decimal text, and a larger one takes exactly its bytes (little-endian). Archives
    with links, devices or sparse files are refused; nothing is unpacked.

    Parameters
    ----------
    fields : mapping of field name to extension
        The extension of each field, or several with semicolons between.
    label : str, optional
        The extension of the label, an integer as decimal text.
    timestamp : str, optional
        Likewise that of the timestamp, in the unit of the dataset.
    modification_time : bool
        Whether the timestamp is the time of a sample's first member.

    Examples
    --------
    >>> Tar(fields={"image": "jpg;jpeg;png"}, label="cls").label
    'cls'
    """

    fields: Mapping[str, str]
    label: str | None = None
    timestamp: str | None = None
    modification_time: bool = False

    def __post_init__(self) -> None:
        for field, extensions in self.fields.items():
            _check_extensions(f"the extension of field {field!r}", extensions)
        for what, given in (("label", self.label), ("timestamp", self.timestamp)):
            if given is not None:
                _check_extensions(what, given)
        if self.timestamp is not None and self.modification_time:
            raise ValueError("timestamp and modification_time are both given")


@dataclass(frozen=True, kw_only=True)
class Files:
    """One file per sample, perhaps with others of the same name beside it.

    The files to ingest are those of the first field; the others are found by their
    extension. What a file holds is said in `Tar`. Symbolic links are not followed.

    Parameters
    ----------
    extension : str or mapping of field name to str
        What the files end in, such as ".png"; of every field, if there are several.
    label : str, optional
        What the files end in that hold the labels, integers as decimal text.
    modification_time : bool
        Whether the timestamp is when the first file of a sample was last changed.

    Examples
    --------
    >>> Files(extension=".png", label=".label").label
    '.label'
    """

    extension: str | Mapping[str, str]
    label: str | None = None
    modification_time: bool = False

    def __post_init__(self) -> None:
        given = {"": self.extension} if isinstance(self.extension, str) else self.extension
        for field, ending in given.items():
            _check_ending(f"extension of {field!r}" if field else "extension", ending)
        if self.label is not None:
            _check_ending("label", self.label)


def _check_ending(what: str, ending: str) -> None:
    _check_name(what, ending)
    if not ending.startswith(".") or "/" in ending:
        raise ValueError(f"{what} must begin with a dot, got {ending!r}")


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


@dataclass(frozen=True, kw_only=True)
class FolderLabels:
    """The folder that a file lies in is its class.

    Parameters
    ----------
    classes : mapping of folder name to label, optional
        By default folders are numbered in the order of their names. The numbers are
        written down with the samples: folders keep them in a later ingest, and new
        ones get the next; `IngestReport.classes` has them.

    Examples
    --------
    >>> FolderLabels(classes={"cat": 0, "dog": 1}).classes["dog"]
    1
    """

    classes: Mapping[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A CSV file with the labels of other files.

    Parameters
    ----------
    path : str
        Where it is. It is read when an ingest begins.
    name, label : str
        Its columns: the name of a file, with or without folders (as seen from the
        folder of the CSV file), and its label.
    separator : str
        What stands between cells, one byte.

    Examples
    --------
    >>> LabelFile(path="images/labels.csv").label
    'label'
    """

    path: str
    name: str = "name"
    label: str = "label"
    separator: str = ","
