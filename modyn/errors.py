"""The exceptions that modyn adds to Python's own."""

from modyn._core import BusyError, ClosedError, CorruptError

__all__ = ["BusyError", "ClosedError", "CorruptError"]
