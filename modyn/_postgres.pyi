"""libpq as far as modyn needs it; only modyn/postgres.py imports it."""

from typing_extensions import Buffer

_Statement = tuple[str, tuple[str | None, ...], int]
_Column = tuple[str, Buffer | tuple[Buffer | None, ...], Buffer | None]
_Copy = tuple[str, tuple[_Column, ...], int]

class Connection:
    def __new__(
        cls,
        conninfo: str,
        connect_seconds: float,
        statement_seconds: float,
        lock_seconds: float,
        settings: dict[str, str],
        /,
    ) -> Connection: ...
    @property
    def server_version(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def batch(
        self,
        id: str | None,
        before: tuple[_Statement, ...],
        copies: tuple[_Copy, ...],
        after: tuple[_Statement, ...],
        retry_seconds: float,
        /,
    ) -> bool: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...

class Reader:
    def __new__(
        cls, connection: Connection, sql: str, types: str, block_rows: int, /
    ) -> Reader: ...
    def __iter__(self) -> Reader: ...
    def __next__(
        self,
    ) -> tuple[bytearray | tuple[bytearray, bytearray] | list[bytes | None], ...]: ...
    def close(self) -> None: ...

class Source:
    def __new__(
        cls,
        conninfo: str,
        connect_seconds: float,
        retry_seconds: float,
        settings: dict[str, str],
        blocks: bool,
        has_keys: bool,
        has_labels: bool,
        parts: tuple[tuple[str, int, int, int], ...],
        /,
    ) -> Source: ...
    @property
    def capsule(self) -> object: ...
    @property
    def count(self) -> int: ...
    @property
    def has_labels(self) -> bool: ...
    def where(
        self, start: int | None, stop: int | None, labels: tuple[int, ...] | None, /
    ) -> Source: ...

def decode(
    pieces: tuple[bytes, ...], types: str, block_rows: int, /
) -> list[tuple[bytearray | tuple[bytearray, bytearray] | list[bytes | None], ...]]: ...
def encode(columns: tuple[_Column, ...], rows: int, /) -> bytearray: ...
def libpq_version() -> int: ...
def parse_conninfo(conninfo: str, /) -> dict[str, str]: ...
def server_version(conninfo: str, timeout_seconds: float, /) -> int: ...
