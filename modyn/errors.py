"""The exceptions that modyn adds to Python's own."""

from modyn._core import BusyError, ClosedError, CorruptError, DatabaseError, FencedError

__all__ = [
    "BatchError",
    "BusyError",
    "ClosedError",
    "ConfigError",
    "CorruptError",
    "DatabaseError",
    "FencedError",
    "RunCorruptError",
]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says where and why."""


class BatchError(RuntimeError):
    """A function given to a loader failed on a batch; what it raised is the cause.

    Attributes
    ----------
    batch : int
        The number of the batch in its pass.
    key : int or None
        The sample, when the function works sample by sample.
    field : str or None
        The field, likewise.
    """

    def __init__(
        self, message: str, *, batch: int, key: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.batch = batch
        self.key = key
        self.field = field


class RunCorruptError(CorruptError):
    """A file of a run, or of a store of models, is damaged; the message names it."""
