"""The exceptions that modyn adds to Python's own."""

from modyn._core import BusyError, ClosedError, CorruptError

__all__ = ["BusyError", "ClosedError", "ConfigError", "CorruptError"]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says where and why."""
