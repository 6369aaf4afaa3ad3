"""Postgres, as far as it is used today: is there a server, and of which version.

The extension behind this module is built only where libpq is installed; without it, importing
this module raises ModuleNotFoundError and everything else works.
"""

from modyn.errors import DatabaseError

try:
    from modyn import _postgres
except ImportError as error:
    raise ModuleNotFoundError(
        "modyn was built without Postgres support: install libpq-dev (Debian) and reinstall modyn"
    ) from error

__all__ = ["DatabaseError", "libpq_version", "server_version"]


def libpq_version() -> int:
    """Return the version of the linked libpq, 150004 for 15.4."""
    return _postgres.libpq_version()


def server_version(conninfo: str, *, timeout_seconds: float = 10.0) -> int:
    """Connect to a server and return its version, 150004 for 15.4.

    Parameters
    ----------
    conninfo : str
        What libpq takes: ``keyword=value`` pairs or a ``postgresql://`` URI.
    timeout_seconds : float
        How long to wait for a connection, above 0.

    Raises
    ------
    ValueError
        `conninfo` cannot be understood.
    DatabaseError
        The server cannot be reached or refuses. No message holds the connection string or the
        password.
    TimeoutError
        The server did not answer in time.
    """
    if not timeout_seconds > 0:
        raise ValueError(f"timeout_seconds must be above 0, got {timeout_seconds}")
    return _postgres.server_version(conninfo, timeout_seconds)
