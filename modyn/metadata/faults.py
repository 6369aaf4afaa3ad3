"""What can go wrong with a server: what is worth another attempt, and how it is told.

An attempt is repeated when the server was lost, is starting or stopping, undid the transaction for
reasons of its own, or was too slow.  Everything else would only fail again.

While a connection is made libpq does not tell the SQLSTATE, only a text, in the language of the
server.  So a text that is known to be final ends it, and any other is tried again.  At the first
contact nobody waits for a host that does not answer: who mistypes one wants to hear that now.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from modyn.errors import DatabaseError

if TYPE_CHECKING:
    import psycopg

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 2.0

# Lost or stopping; serialization failure, deadlock; too many connections; lock and statement
# timeouts.  Class 08, a broken connection, comes to these.
RETRYABLE = frozenset(
    "57P01 57P02 57P03 40001 40P01 53300 55P03 57014 25P03 57P05".split()  # 25P03: left idle
)
ADVICE = {
    "28P01": "check PGPASSWORD, PGPASSFILE, ~/.pgpass or the service file",
    "28000": "check the user, and pg_hba.conf of the server",
    "3D000": "create it first: CREATE DATABASE",
    "25006": "it is read only, perhaps a standby",
    "53100": "free space on the disk of the server",
    "53300": "raise max_connections of the server, or use fewer connections",
    "55P03": "another session holds a lock for longer than lock_seconds",
    "57014": "it took longer than statement_seconds, or somebody cancelled it",
}
TEXTS = (  # of messages while connecting, with the state that they stand for
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("authentication failed", "28000"),
    ("pg_hba.conf rejects", "28000"),
    ("is not permitted to log in", "28000"),
    ("permission denied for database", "42501"),
    ("the database system is", "57P03"),
    ("terminating connection due to administrator", "57P01"),
    ("too many clients", "53300"),
    ("too many connections", "53300"),
    ("remaining connection slots", "53300"),
)


# What the system says, or psycopg.
UNREACHABLE = (
    "refused",
    "No such file",
    "resolve host",
    "timeout expired",
    "No route to host",
    "unreachable",
    "Permission denied",
)


class Backoff:
    """Pauses between attempts: 50 ms, doubled up to 2 s, each a little longer or shorter.

    Parameters
    ----------
    seconds : float
        When to give up, counted from now.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE_SECONDS

    def wait(self) -> bool:
        """Pause and return True, or return False at once when the time is over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        # Those who failed together do not come back together.
        time.sleep(min(left, self._pause * (0.75 + os.urandom(1)[0] / 510)))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True


def state(exc: psycopg.Error) -> str:
    """Return the SQLSTATE of an error; "08000" stands for a lost connection, "" for none."""
    if exc.sqlstate:
        return exc.sqlstate
    import psycopg

    if not isinstance(exc, psycopg.OperationalError):
        return ""
    text = str(exc)
    for part, code in TEXTS:
        if part in text:
            return code
    if re.search(r'FATAL: +database ".*" does not exist', text):
        return "3D000"
    if re.search(r'FATAL: +role ".*" does not exist', text):
        return "28000"
    return "08000"


def retryable(exc: psycopg.Error) -> bool:
    """Return whether another attempt may go better."""
    code = state(exc)
    return code.startswith("08") or code in RETRYABLE


def lost(exc: psycopg.Error, connection: psycopg.Connection[object]) -> bool:
    """Return whether a connection is of no use any more."""
    return connection.closed or connection.broken or state(exc).startswith(("08", "57P"))


def unreachable(exc: psycopg.Error) -> bool:
    """Return whether nobody answered at all, as where the URL is wrong."""
    return not exc.sqlstate and any(part in str(exc) for part in UNREACHABLE)


def error(exc: psycopg.Error, where: str = "") -> DatabaseError:
    """Return what to raise for an error of psycopg: what, where, SQLSTATE, and what to do.

    Raise it outside of the `except`, so that it does not carry the other one along.
    """
    code = state(exc)
    text = exc.diag.message_primary or str(exc)
    text = "; ".join(line.strip() for line in _struck(text, exc).splitlines() if line.strip())
    said = [f"{where}: " if where else "", text]
    if exc.sqlstate:
        said.append(f" (SQLSTATE {exc.sqlstate})")
    if exc.diag.message_hint:
        said.append(f"; {_struck(exc.diag.message_hint, exc)}")
    elif code in ADVICE:
        said.append(f"; {ADVICE[code]}")
    return DatabaseError("".join(said))


def _struck(text: str, exc: psycopg.Error) -> str:
    """Return a text without the password, which a server repeats that took it for a name."""
    secrets = {os.environ.get("PGPASSWORD", "")}
    if exc.pgconn is not None:
        secrets.add(exc.pgconn.password.decode(errors="replace"))
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text
