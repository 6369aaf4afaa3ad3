"""The C core; only the typed faces of the package import it."""

from typing import Any, Self

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

# Loaders (csrc/python/loader.c, batch.c); their face is modyn/loader.py.

class Tensor:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class Batch:
    def __len__(self) -> int: ...
    def part(self, index: int, /) -> Tensor: ...

class Epoch:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Batch: ...
    def close(self) -> None: ...

class Loader:
    def __init__(
        self,
        view: View,
        keys: npt.NDArray[np.uint64],
        weights: npt.NDArray[np.float64] | None,
        *,
        fields: tuple[int, ...],
        batch_size: int,
        drop_last: bool,
        shuffle: bool,
        seed: int,
    ) -> None: ...
    @property
    def parts(self) -> tuple[tuple[str, int], ...]: ...
    def __len__(self) -> int: ...
    def begin(self, *, epoch: int, first: int, threads: int, depth: int) -> Epoch: ...
