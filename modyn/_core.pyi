"""The C core; only the typed faces of the package import it."""

from typing import Any

import numpy as np
import numpy.typing as npt

class CorruptError(Exception): ...
class BusyError(OSError): ...
class ClosedError(Exception): ...

class Dataset:
    @classmethod
    def create(
        cls,
        path: str,
        schema: str,
        time_unit: int,
        has_labels: bool,
        segment_shift: int,
        /,
    ) -> Dataset: ...
    @classmethod
    def open(cls, path: str, writable: bool, /) -> Dataset: ...
    def append(
        self,
        count: int,
        columns: tuple[tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None], ...],
        labels: npt.NDArray[np.int64] | None,
        timestamps: npt.NDArray[np.int64],
        /,
    ) -> int: ...
    def refresh(self) -> bool: ...
    def view(self) -> View: ...
    def close(self) -> None: ...

class View:
    @property
    def count(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def uuid(self) -> bytes: ...
    @property
    def time_unit(self) -> str: ...
    @property
    def schema(self) -> str: ...
    @property
    def has_labels(self) -> bool: ...
    def columns(
        self, first: int, count: int, /
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]: ...
    def offsets(
        self, keys: npt.NDArray[np.uint64], field: int, out: npt.NDArray[np.int64], /
    ) -> None: ...
    def fetch(
        self,
        keys: npt.NDArray[np.uint64],
        targets: tuple[tuple[int, npt.NDArray[Any], npt.NDArray[np.int64] | None], ...],
        labels: npt.NDArray[np.int64] | None,
        timestamps: npt.NDArray[np.int64] | None,
        threads: int,
        /,
    ) -> None: ...
    def warm(self) -> None: ...
