"""The C core; only the typed faces of the package import it."""

import os
from typing import Any, Self

import numpy as np
import numpy.typing as npt

class CorruptError(Exception): ...
class BusyError(OSError): ...
class ClosedError(Exception): ...
class DatabaseError(Exception): ...
class FencedError(DatabaseError): ...

class Dataset:
    @classmethod
    def create(
        cls,
        path: str,
        schema: str,
        time_unit: int,
        has_labels: bool,
        segment_shift: int,
        compressed: bool = False,
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
        source: bytes | None = None,
        /,
    ) -> int: ...
    def link(
        self,
        path: str,
        size: int,
        first_record: int,
        record_size: int,
        fields_at: int,
        label: tuple[int, int, bool, bool] | None,
        timestamp: tuple[int, int, bool, bool] | None,
        timestamps: npt.NDArray[np.int64] | int | None,
        threads: int,
        source: bytes | None = None,
        /,
    ) -> tuple[int, int, int]: ...
    def erase(self, keys: npt.NDArray[np.uint64], who: str, why: str, /) -> int: ...
    def compact(self) -> tuple[int, int]: ...
    def events(self) -> list[tuple[int, int, int, bytes, bytes]]: ...
    def sources(self) -> list[bytes]: ...
    def refresh(self) -> bool: ...
    def view(self) -> View: ...
    def close(self) -> None: ...

class View:
    @property
    def count(self) -> int: ...
    @property
    def erased_count(self) -> int: ...
    def erased(self, first: int, count: int, /) -> npt.NDArray[np.bool_]: ...
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
    def payloads(
        self, keys: npt.NDArray[np.uint64], field: int, /
    ) -> list[npt.NDArray[np.uint8]]: ...
    def fetch(
        self,
        keys: npt.NDArray[np.uint64],
        targets: tuple[tuple[int, npt.NDArray[Any], npt.NDArray[np.int64] | None], ...],
        labels: npt.NDArray[np.int64] | None,
        timestamps: npt.NDArray[np.int64] | None,
        threads: int,
        /,
    ) -> None: ...
    def time_order(self, threads: int, /) -> npt.NDArray[np.uint64] | None: ...
    def time_position(self, order: npt.NDArray[np.uint64], moment: int, /) -> int: ...
    def warm(self) -> None: ...
    def bring(self, keys: npt.NDArray[np.uint64], requests: int, /) -> tuple[int, int]: ...
    def copy_size(self, first: int, end: int, /) -> int: ...
    def hugepages(self, first: int, end: int, threads: int, /) -> View: ...
    def links(self) -> list[tuple[str, int, int, int]]: ...

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
    @property
    def blocks(self) -> list[tuple[int, int, bool]]: ...

class Memory:
    def __len__(self) -> int: ...
    def lend(self, buffer: npt.NDArray[np.uint8], /) -> None: ...
    def reclaim(self) -> int: ...

class Epoch:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Batch: ...
    @property
    def waits(self) -> tuple[int, int, int, int, int, int, int]: ...
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
        shuffle: str,
        seed: int,
        pass_rows: int,
        partition_size: int,
        bucket_batches: int,
        bucket_field: int,
        rank: int,
        world_size: int,
        ascending: bool,
    ) -> None: ...
    @property
    def parts(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def partition_size(self) -> int: ...
    @property
    def memory(self) -> Memory: ...
    def __len__(self) -> int: ...
    def begin(
        self,
        *,
        epoch: int = 0,
        first: int = 0,
        threads: int,
        depth: int,
        stride: int = 1,
        memory: int = 0,
        partitions: int | None = 0,
        requests: int | None = 0,
        budget: int = 0,
    ) -> Epoch: ...
    @property
    def ahead(self) -> tuple[str, int, int, tuple[tuple[int, float], ...], float, int]: ...
    @property
    def batch_bytes(self) -> int: ...

# Candidates and training sets (csrc/python/sampling.c, trainset.c); their faces are
# modyn/sampling.py and modyn/trainset.py.

class Candidates:
    @classmethod
    def from_view(
        cls, view: View, order: npt.NDArray[np.uint64] | None, first: int, last: int, /
    ) -> Candidates: ...
    @classmethod
    def from_source(cls, capsule: object, first: int, last: int, /) -> Candidates: ...
    @classmethod
    def from_arrays(
        cls,
        keys: npt.NDArray[np.uint64],
        timestamps: npt.NDArray[np.int64] | None,
        labels: npt.NDArray[np.int64] | None,
        /,
    ) -> Candidates: ...
    def where(
        self, start: int | None, stop: int | None, labels: npt.NDArray[np.int64] | None, /
    ) -> Candidates: ...
    def __len__(self) -> int: ...
    @property
    def has_labels(self) -> bool: ...
    def blocks(self, block_count: int, /) -> CandidateBlocks: ...
    def columns(
        self, first: int, count: int, /
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64] | None]: ...
    def total(self, values: object, /) -> tuple[float, int]: ...
    def systematic(
        self,
        values: object,
        offset: float,
        count: int,
        seed: int,
        threads: int,
        thin_from: float = ...,
        /,
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64] | None, bool]: ...
    def band(
        self, values: object, first: int, last: int, threads: int, /
    ) -> npt.NDArray[np.uint64]: ...

class CandidateBlocks:
    def __iter__(self) -> CandidateBlocks: ...
    def __next__(
        self,
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64] | None]: ...

# Greedy methods over feature vectors (csrc/python/coresets*.c); their face is modyn/coresets.

_Matrix = npt.NDArray[np.float32]
_Numbers = npt.NDArray[np.float64]
_Rows = npt.NDArray[np.uint64]

_Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

def kernelsum(
    rows: _Floats, others: _Floats | None, kernel: int, gamma: float, threads: int, /
) -> float: ...
def pair_squares(rows: _Floats, out: _Numbers, threads: int, /) -> None: ...
def kcenter(
    features: _Matrix, embeddings: _Matrix | None, start: _Rows, count: int, threads: int, /
) -> tuple[_Rows, _Numbers, _Numbers]: ...
def facility(
    features: _Matrix,
    embeddings: _Matrix | None,
    similarity: int,
    greedy: tuple[int, int, float, float, int],
    count: int,
    threads: int,
    /,
) -> tuple[_Rows, _Numbers, _Rows, _Rows]: ...
def graph_cut(
    features: _Matrix,
    embeddings: _Matrix | None,
    coverage: float,
    greedy: tuple[int, int, float, float, int],
    count: int,
    threads: int,
    /,
) -> tuple[_Rows, _Numbers]: ...
def volume(
    features: _Matrix,
    embeddings: _Matrix | None,
    kind: bool,
    ridge: float,
    way: int,
    greedy: tuple[int, int, float, float, int],
    count: int,
    threads: int,
    /,
) -> tuple[_Rows, _Numbers]: ...
def herding(
    features: _Matrix, embeddings: _Matrix | None, count: int, threads: int, /
) -> tuple[_Rows, _Numbers]: ...
def match(
    features: _Matrix,
    embeddings: _Matrix | None,
    target: _Numbers | None,
    ridge: float,
    count: int,
    threads: int,
    /,
) -> tuple[_Rows, _Numbers, _Numbers, _Numbers]: ...

class KeyIndex:
    @classmethod
    def new(cls, /) -> KeyIndex: ...
    def add(
        self,
        ids: npt.NDArray[np.uint64],
        keys: npt.NDArray[np.uint64] | None,
        threads: int,
        /,
    ) -> None: ...
    def find(
        self,
        ids: npt.NDArray[np.uint64],
        out: npt.NDArray[np.uint64],
        missing: int | None,
        threads: int,
        /,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...

class KeyRuns:
    @classmethod
    def of_keys(cls, keys: npt.NDArray[np.uint64], threads: int, /) -> KeyRuns: ...
    @classmethod
    def of_ranges(
        cls, firsts: npt.NDArray[np.uint64], lasts: npt.NDArray[np.uint64], /
    ) -> KeyRuns: ...
    def union(self, other: KeyRuns, /) -> KeyRuns: ...
    def common(self, other: KeyRuns, threads: int, /) -> int: ...
    def contains(self, keys: npt.NDArray[np.uint64], out: npt.NDArray[np.bool_], /) -> None: ...
    def list(
        self,
        other: KeyRuns | None,
        which: int,
        first: int,
        out: npt.NDArray[np.uint64],
        /,
    ) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...

class TrainingSet:
    @classmethod
    def open(cls, path: str | os.PathLike[str], /) -> TrainingSet: ...
    @classmethod
    def write(
        cls,
        directory: str | os.PathLike[str],
        keys: npt.NDArray[np.uint64],
        weights: npt.NDArray[np.float64] | None,
        uuid: bytes | None,
        /,
    ) -> str: ...
    def __len__(self) -> int: ...
    @property
    def keys(self) -> npt.NDArray[np.uint64]: ...
    @property
    def weights(self) -> npt.NDArray[np.float64] | None: ...
    @property
    def digest(self) -> str: ...
    @property
    def uuid(self) -> bytes: ...
    @property
    def path(self) -> str: ...

def fair_shares(
    sizes: npt.NDArray[np.uint64], capacity: int, mode: int, seed: int, /
) -> npt.NDArray[np.uint64]: ...

class Sampler:
    @classmethod
    def new(cls, kind: int, count: int, seed: int, mode: int, merging: bool, /) -> Sampler: ...
    def offer(
        self, candidates: Candidates, values: object, offset: float, threads: int, /
    ) -> None: ...
    def merge(self, other: Sampler, /) -> None: ...
    def save(self, /) -> npt.NDArray[np.uint64]: ...
    @classmethod
    def load(cls, words: npt.NDArray[np.uint64], /) -> Sampler: ...
    def finish(self, /) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64] | None, bool]: ...

def bits_set(words: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], put: bool, /) -> int: ...
def bits_get(
    words: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], out: npt.NDArray[np.uint8], /
) -> None: ...

class Orchestrator:
    def __new__(
        cls,
        view: View,
        order: npt.NDArray[np.uint64] | None,
        calls: object,
        directory: str,
        block_count: int,
        tail_triggers: int,
        position: int,
        starts: npt.NDArray[np.uint64],
        advance_every: int,
        names: tuple[str, str],
        source: object,
        late_labels: bool,
        /,
    ) -> Orchestrator: ...
    @property
    def position(self) -> int: ...
    @property
    def trigger(self) -> int: ...
    def next(self) -> tuple[int, int, int, int, int, int, str] | None: ...
    def timestamp_at(self, position: int, /) -> int: ...

class Reader:
    @property
    def position(self) -> int: ...
    def read(
        self, size_max: int, /
    ) -> tuple[
        tuple[npt.NDArray[Any] | tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]], ...],
        npt.NDArray[np.int64] | None,
        npt.NDArray[np.int64] | None,
        bool,
    ]: ...
    def check(self) -> None: ...
    def seek(self, position: int, /) -> None: ...

def read_jsonl(
    path: str | bytes | os.PathLike[str],
    schema: str,
    keys: tuple[str, ...],
    base64: tuple[bool, ...],
    label: str | None,
    timestamp: str | None,
    threads: int,
    growing: bool,
    piece_size: int = 0,
    /,
) -> Reader: ...
def read_csv(
    path: str | bytes | os.PathLike[str],
    schema: str,
    header: bool,
    separator: int,
    quote: int,
    elements: tuple[str | int, ...],
    label: str | int | None,
    timestamp: str | int | None,
    threads: int,
    growing: bool,
    piece_size: int = 0,
    /,
) -> Reader: ...

# Maintenance (csrc/python/maintain.c); its face is modyn/maintenance.py.

def verify(
    path: str | bytes | os.PathLike[str], threads: int, /
) -> tuple[
    int,
    int,
    int,
    int,
    int,
    int,
    int,
    int,
    list[tuple[str, str, str | None, int, int, int, int, str]],
]: ...
def repair(
    path: str | bytes | os.PathLike[str], dry_run: bool, cut_sources: bool, /
) -> list[tuple[str, str, None, int, int, int, int, str]]: ...
def read_fixed(
    path: str | bytes | os.PathLike[str],
    schema: str,
    first_record: int,
    record_size: int,
    fields: tuple[tuple[int, bool], ...],
    label: tuple[int, int, bool, bool] | None,
    timestamp: tuple[int, int, bool, bool] | None,
    threads: int,
    growing: bool,
    /,
) -> Reader: ...
def read_npy(
    path: str | bytes | os.PathLike[str],
    schema: str,
    names: tuple[str, ...],
    label: str | None,
    timestamp: str | None,
    threads: int,
    growing: bool,
    /,
) -> Reader: ...
def read_tar(
    path: str | bytes | os.PathLike[str],
    schema: str,
    extensions: tuple[str, ...],
    label: str | None,
    timestamp: str | None,
    time_unit_ns: int,
    threads: int,
    growing: bool,
    /,
) -> Reader: ...
def read_files(
    schema: str, paths: bytes, count: int, labels: bool, time_unit_ns: int, threads: int, /
) -> Reader: ...
def file_facts(path: str | bytes | os.PathLike[str], /) -> tuple[int, int, int, int]: ...
def file_check(path: str | bytes | os.PathLike[str], first: int, size: int, /) -> int: ...
def content_checks(
    values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], limit: int, /
) -> tuple[list[int], list[int]]: ...
