"""Names and shapes of the partitions of samples and of streams; names are minted from integers."""

from collections.abc import Sequence
from dataclasses import dataclass

from modyn.postgres import Statement

BLOCK = 16_384
"""Samples of a row in the layout "blocks"."""

LAYOUTS = ("rows", "blocks")


def text(*values: int | str | None) -> tuple[str | None, ...]:
    """Return parameters as the server reads them."""
    return tuple(None if value is None else str(value) for value in values)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The partition of one owner in a partitioned table, and its leaves.

    Parameters
    ----------
    table : str
        The partitioned table, such as `modyn.samples`.
    owner : str
        Its column that says whose a row is.
    id : int
        Who owns this partition.
    position : str
        The column that divides it into leaves.
    leaf_samples : int
        Positions of a leaf.
    unlogged : bool
        Whether a crash of the server empties the leaves.
    """

    table: str
    owner: str
    id: int
    position: str
    leaf_samples: int
    unlogged: bool = False

    @property
    def name(self) -> str:
        return f"{self.table}_{self.owner[0]}{self.id}"

    def leaf(self, number: int) -> str:
        """Return the name of a leaf."""
        return f"{self.name}_l{number}"

    def create(self) -> list[str]:
        """Return the statements that make the partition, without leaves."""
        return [*self.create_apart(), self.attach()]

    def create_apart(self) -> list[str]:
        """Return the statements that make the partition on its own, seen by nobody."""
        return [
            f"CREATE TABLE {self.name} (LIKE {self.table} INCLUDING STORAGE) "
            f"PARTITION BY RANGE ({self.position})",
            f"ALTER TABLE {self.name} ALTER {self.owner} SET DEFAULT {self.id}",
        ]

    def attach(self) -> str:
        """Return the statement that makes it a partition.

        Attaching takes a lock that readers of the table do not wait for, nor it for them, as
        creating it as a partition would.
        """
        return f"ALTER TABLE {self.table} ATTACH PARTITION {self.name} FOR VALUES IN ({self.id})"

    def create_leaf(self, number: int) -> Statement:
        """Return the statement that makes a leaf on its own.

        Its CHECK implies the bounds of the partition, so that attaching it reads no row.
        """
        first, end = self._bounds(number)
        kind = "UNLOGGED TABLE" if self.unlogged else "TABLE"
        at = self.position
        check = f"{self.owner} = {self.id} AND {at} >= {first} AND {at} < {end}"
        sql = (
            f"CREATE {kind} {self.leaf(number)} "
            f"(LIKE {self.name} INCLUDING DEFAULTS INCLUDING STORAGE, "
            f"CONSTRAINT bounds CHECK ({check}))"
        )
        return Statement(sql)

    def attach_leaf(self, number: int) -> Statement:
        """Return the statement that shows a filled leaf to all, once it is committed."""
        first, end = self._bounds(number)
        return Statement(
            f"ALTER TABLE {self.name} ATTACH PARTITION {self.leaf(number)} "
            f"FOR VALUES FROM ({first}) TO ({end})"
        )

    def free_leaf(self, number: int) -> Statement:
        """Return the statement that drops the CHECK, as the bounds of the partition say it now."""
        return Statement(f"ALTER TABLE {self.leaf(number)} DROP CONSTRAINT bounds")

    def empty_leaf(self, number: int) -> Statement:
        return Statement(f"TRUNCATE {self.leaf(number)}")

    def copy(self, number: int, columns: Sequence[str], *, fresh: bool) -> str:
        """Return the COPY into a leaf; the column of the owner is a default, and not sent.

        Rows of a leaf that is `fresh`, made or emptied in the same transaction, are frozen at
        once: no vacuum will ever have to write them again.
        """
        options = "FORMAT binary, FREEZE" if fresh else "FORMAT binary"
        return f"COPY {self.leaf(number)} ({', '.join(columns)}) FROM STDIN ({options})"

    def _bounds(self, number: int) -> tuple[int, int]:
        return number * self.leaf_samples, (number + 1) * self.leaf_samples


def sample_parts(layout: str, dataset: int, *, leaf_samples: int, unlogged: bool = False) -> Parts:
    """Return where the samples of a dataset lie."""
    table, position = {"rows": ("samples", "key"), "blocks": ("sample_blocks", '"first"')}[layout]
    return Parts(
        table=f"modyn.{table}",
        owner="dataset",
        id=dataset,
        position=position,
        leaf_samples=leaf_samples,
        unlogged=unlogged,
    )


def stream_parts(layout: str, pipeline: int, *, leaf_samples: int) -> Parts:
    """Return where the stream of a pipeline lies."""
    table, position = {
        "rows": ("stream_rows", '"position"'),
        "blocks": ("stream_blocks", '"first"'),
    }[layout]
    return Parts(
        table=f"modyn.{table}",
        owner="pipeline",
        id=pipeline,
        position=position,
        leaf_samples=leaf_samples,
    )
