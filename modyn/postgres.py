"""Postgres for bulk data: batches of columns that are committed once, over libpq.

Control statements go through psycopg (`modyn.metadata.database`); this module is what moves
columns. The extension behind it is built only where libpq is installed; without it, importing
this module raises ModuleNotFoundError and everything else works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from modyn.errors import DatabaseError, FencedError

try:
    from modyn import _postgres
except ImportError as error:
    raise ModuleNotFoundError(
        "modyn was built without Postgres support: install libpq-dev (Debian) and reinstall modyn"
    ) from error

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "Connection",
    "Copy",
    "DatabaseError",
    "FencedError",
    "Reader",
    "Statement",
    "libpq_version",
    "parse_conninfo",
    "server_version",
]

#: A column of a `Copy`; see there.
Column: TypeAlias = "npt.NDArray[Any] | Sequence[Buffer | None]"

# Codes of the types that a column may have, by numpy's kind and size.
_CODES = {"i8": "q", "u8": "Q", "i4": "i", "f8": "d", "f4": "f", "b1": "?"}


class Statement(NamedTuple):
    """A statement of a batch.

    Attributes
    ----------
    sql : str
        One statement, with ``$1``, ``$2``, ... where parameters go.
    params : tuple of str or None
        The parameters as text; None is SQL's NULL.
    rows : int or None
        How many rows it must affect or return; None for any number. If it is another, the batch
        is rolled back and fails: with FencedError if the statement is a fence (that is, begins as
        in docs/postgres.md), else with DatabaseError.
    """

    sql: str
    params: tuple[str | None, ...] = ()
    rows: int | None = None


class Copy(NamedTuple):
    """Rows of a batch, as columns.

    Attributes
    ----------
    sql : str
        ``COPY t (a, b) FROM STDIN (FORMAT binary)``, perhaps with ``FREEZE``.
    columns : tuple
        One per column of the statement. An array of int64 or uint64 (int8), int32 (int4), float64
        (float8), float32 (float4) or bool (boolean); a masked array has NULL where it is masked.
        Or a sequence of buffers (bytea), None for NULL; large ones are sent from where they lie.
    rows : int
        How many; each column has as many.
    """

    sql: str
    columns: tuple[Column, ...]
    rows: int


class Connection:
    """A connection to a server, for one thread at a time.

    It says which session it wants: answered commits stay (``synchronous_commit`` is put on where
    it is off or local), statements and locks may be waited for as long as given here, a peer that
    died is noticed within 30 s.

    Parameters
    ----------
    conninfo : str
        What libpq takes: ``keyword=value`` pairs or a ``postgresql://`` URI. Passwords come from
        the environment, ``~/.pgpass`` or a service file.
    connect_seconds : float
        How long to wait for a connection, above 0.
    statement_seconds, lock_seconds : float
        How long a statement may take, and wait for a lock; 0 is as long as it takes.
    settings : mapping of str to str
        More settings of the session, by name.

    Raises
    ------
    ValueError
        `conninfo` cannot be understood.
    DatabaseError
        The server cannot be reached, refuses, or is older than PostgreSQL 13. No message holds the
        connection string or a password.
    TimeoutError
        The server did not answer in time.

    Notes
    -----
    A connection is not for the child of a fork, and there only refuses.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        connect_seconds: float = 10.0,
        statement_seconds: float = 0.0,
        lock_seconds: float = 0.0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        _check_above_0("connect_seconds", connect_seconds)
        _check_not_below_0("statement_seconds", statement_seconds)
        _check_not_below_0("lock_seconds", lock_seconds)
        self._core = _postgres.Connection(
            conninfo, connect_seconds, statement_seconds, lock_seconds, dict(settings or {})
        )

    @property
    def server_version(self) -> int:
        """Version of the server, 150004 for 15.4."""
        return self._core.server_version

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"server {self.server_version}"
        return f"<modyn.postgres.Connection: {state}>"

    def batch(
        self,
        batch_id: str | None,
        *,
        before: Sequence[Statement] = (),
        copies: Sequence[Copy] = (),
        after: Sequence[Statement] = (),
        retry_seconds: float = 60.0,
    ) -> bool:
        """Commit statements and rows in one transaction, once, whatever happens on the way.

        In the transaction come, in this order: the fence, if `before` opens with it; the batch's
        row in modyn.batches; `before`; `copies`; `after`. A connection that is lost, a server that
        restarts or a lock that is held leads to another attempt, on a new connection where needed.
        Where it is not known what became of the COMMIT, the row in modyn.batches decides.

        Parameters
        ----------
        batch_id : str or None
            Identifies the batch, for ever. With None it has no row in modyn.batches, and a COMMIT
            that was not answered is an error, for nobody can know its outcome.
        before, after : sequence of Statement
            Statements around the copies.
        copies : sequence of Copy
            Rows to store.
        retry_seconds : float
            For how long to try again, from the first failure on.

        Returns
        -------
        bool
            True when committed now, False when the batch was committed before.

        Raises
        ------
        FencedError
            Somebody else has taken the pipeline over.
        DatabaseError
            The server refused or did not come back. Nothing of the batch is stored, unless the
            connection was lost around the COMMIT: call again with the same id to find out.
        ValueError
            A column does not fit: a uint64 of 2**63 or more, another number of rows.
        KeyboardInterrupt
            Within 200 ms. A COMMIT on its way may yet arrive: call again with the same id.
        """
        _check_not_below_0("retry_seconds", retry_seconds)
        return self._core.batch(
            batch_id,
            tuple(_statement(item) for item in before),
            tuple(_copy(item) for item in copies),
            tuple(_statement(item) for item in after),
            retry_seconds,
        )

    def read(self, sql: str, types: str, *, block_rows: int = 65_536) -> Reader:
        """Read the rows of a COPY as columns, in blocks, in bounded memory.

        The connection serves nothing else until the reader has come to its end or is closed.
        Nothing is tried again: what was not read, nobody has.

        Parameters
        ----------
        sql : str
            ``COPY t (a, b) TO STDOUT (FORMAT binary)``, or of a query in place of the table.
        types : str
            One letter per column: ``q`` int8, ``Q`` int8 as uint64, ``i`` int4, ``d`` float8,
            ``f`` float4, ``?`` boolean, ``y`` bytea. A ``0`` behind it where there may be NULL:
            ``"qd0"``; elsewhere a NULL is an error.
        block_rows : int
            Rows of a block, at least 1. Large values of bytea make it shorter.

        Raises
        ------
        DatabaseError
            The server refused, or the connection is lost.
        ValueError
            `types` cannot be understood.
        """
        if block_rows < 1:
            raise ValueError(f"block_rows must be at least 1, got {block_rows}")
        return Reader(_postgres.Reader(self._core, sql, types, block_rows), types)

    def cancel(self) -> None:
        """End the call under way in another thread within 200 ms, with DatabaseError.

        Later calls fail, too: a connection that was cancelled can only be closed.
        """
        self._core.cancel()

    def close(self) -> None:
        """Close the connection, any number of times; a call under way elsewhere is cancelled."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Reader:
    """Columns of the rows that a server sends; made by `Connection.read`.

    An iterator over tuples with one entry per column: an array (a masked one where NULL was
    allowed), or for bytea a list of bytes and None. Also a context manager, which leaves the rest
    unread.
    """

    def __init__(self, core: _postgres.Reader, types: str) -> None:
        self._core = core
        self._types = types.replace("0", "")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, ...]:
        """Return the next block.

        Raises
        ------
        DatabaseError
            The server stopped, or the connection is lost.
        CorruptError
            What the server sends are not such columns.
        """
        columns = next(self._core)
        return tuple(map(_array, self._types, columns))

    def close(self) -> None:
        """Leave the rest unread, any number of times; the connection is free again."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def libpq_version() -> int:
    """Return the version of the linked libpq, 150004 for 15.4."""
    return _postgres.libpq_version()


def parse_conninfo(conninfo: str) -> dict[str, str]:
    """Return what a connection string says, by keyword, and nothing of the environment.

    Parameters
    ----------
    conninfo : str
        What libpq takes: ``keyword=value`` pairs or a ``postgresql://`` URI.

    Raises
    ------
    ValueError
        `conninfo` cannot be understood. The message holds no part of it.

    Examples
    --------
    >>> parse_conninfo("postgresql://db.example.org:5433/modyn")
    {'dbname': 'modyn', 'host': 'db.example.org', 'port': '5433'}
    """
    return dict(sorted(_postgres.parse_conninfo(conninfo).items()))


def server_version(conninfo: str, *, timeout_seconds: float = 10.0) -> int:
    """Connect to a server and return its version, 150004 for 15.4.

    Parameters
    ----------
    conninfo : str
        What libpq takes: ``keyword=value`` pairs or a ``postgresql://`` URI.
    timeout_seconds : float
        How long to wait for a connection, above 0.

    Raises
    ------
    ValueError
        `conninfo` cannot be understood.
    DatabaseError
        The server cannot be reached or refuses. No message holds the connection string or the
        password.
    TimeoutError
        The server did not answer in time.
    """
    _check_above_0("timeout_seconds", timeout_seconds)
    return _postgres.server_version(conninfo, timeout_seconds)


def _check_above_0(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")


def _check_not_below_0(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more, got {value}")


def _statement(item: Statement) -> tuple[str, tuple[str | None, ...], int]:
    sql, params, rows = item
    return sql, tuple(params), -1 if rows is None else rows


def _copy(item: Copy) -> tuple[str, tuple[tuple[Any, ...], ...], int]:
    sql, columns, rows = item
    return sql, tuple(_column(column, rows) for column in columns), rows


def _column(column: Column, rows: int) -> tuple[str, Any, Any]:
    """Return the type, values and nulls of a column, as the core takes them."""
    if not isinstance(column, np.ndarray):
        if len(column) != rows:
            raise ValueError(f"a column of bytes has {len(column)} values, not {rows}")
        return "y", tuple(column), None
    code = _CODES.get(column.dtype.kind + str(column.dtype.itemsize))
    if code is None or column.ndim != 1:
        raise TypeError(
            "a column must be one-dimensional, of int64, uint64, int32, float64, float32 or bool, "
            f"got {column.dtype} of shape {column.shape}"
        )
    if len(column) != rows:
        raise ValueError(f"a column has {len(column)} values, not {rows}")
    nulls = None
    if isinstance(column, np.ma.MaskedArray):
        mask = np.ma.getmask(column)
        nulls = None if mask is np.ma.nomask else np.ascontiguousarray(mask)
        column = np.ma.getdata(column)
    values = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("="))
    return code, values, nulls


def _array(code: str, column: bytearray | tuple[bytearray, bytearray] | list[bytes | None]) -> Any:
    """Return a column as the reader's user sees it."""
    if isinstance(column, list):
        return column
    values, nulls = column if isinstance(column, tuple) else (column, None)
    array = np.frombuffer(values, dtype=np.dtype(code))
    if code == "Q" and len(array) and array.view(np.int64).min() < 0:
        raise DatabaseError("a column that was to be read as uint64 holds a negative number")
    if nulls is None:
        return array
    return np.ma.MaskedArray(array, mask=np.frombuffer(nulls, dtype=np.bool_))
