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
