"""The C core; only the typed faces of the package import it."""

class CorruptError(Exception): ...
class BusyError(OSError): ...
class ClosedError(Exception): ...

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
        /,
    ) -> Orchestrator: ...
    @property
    def position(self) -> int: ...
    @property
    def trigger(self) -> int: ...
    def next(self) -> tuple[int, int, int, int, int, str] | None: ...
    def timestamp_at(self, position: int, /) -> int: ...
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
