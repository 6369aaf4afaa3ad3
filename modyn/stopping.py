"""How a run that follows is told to stop."""

__all__ = ["Stopped"]


class Stopped(BaseException):
    """Somebody asked to stop; like KeyboardInterrupt no error."""
