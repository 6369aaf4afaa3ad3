"""A plain table: named columns of equal length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, repr=False)
class Table:
    """Named columns of equal length; a row is a dictionary.

    Parameters
    ----------
    columns : dict of str to list
        The columns, all of one length.

    Examples
    --------
    >>> table = Table({"trigger": [0, 1], "samples": [10, 20]})
    >>> len(table), table["samples"]
    (2, [10, 20])
    >>> [row["trigger"] for row in table]
    [0, 1]
    >>> table
    Table of 2 rows: trigger, samples
    """

    columns: dict[str, list[Any]]

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length: {lengths}")

    @classmethod
    def of(cls, names: list[str], rows: list[tuple[Any, ...]]) -> "Table":
        """Return the table with these rows, also when there are none."""
        return cls({name: [row[i] for row in rows] for i, name in enumerate(names)})

    def __repr__(self) -> str:
        return f"Table of {len(self)} rows: {', '.join(self.columns)}"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        names = list(self.columns)
        for row in zip(*self.columns.values(), strict=True):
            yield dict(zip(names, row, strict=True))

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as a list."""
        return list(self)

    def to_pandas(self) -> Any:
        """Return the table as a pandas DataFrame; needs pandas."""
        import pandas

        return pandas.DataFrame(self.columns)
