"""Where a metadata database is: a libpq URL, and never a password.

What libpq takes is taken: `postgresql://user@host:port/database?name=value` or `name=value` pairs,
with every parameter that it knows (TLS, services, several hosts).  What the text leaves out libpq
finds itself, in the environment, in service files and in ~/.pgpass.

A password in the text is refused.  Configurations, ledgers, reports and messages hold the URL, so
they could not be shown to anybody otherwise.  For the same reason nothing here repeats a text that
it cannot read: what is wrong with it may be that a password was taken for something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modyn.errors import ConfigError

# What libpq, up to version 18, takes and nobody else may see.
SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
SCHEMES = ("postgresql://", "postgres://")
REFUSED = (
    "metadata: take the password out of the URL: PGPASSWORD, PGPASSFILE, ~/.pgpass or a service "
    "file holds it"
)
SHAPE = (
    "metadata: this is neither postgresql://user@host:port/database?name=value nor name=value "
    "pairs as libpq takes them; in a URL write %40 for '@', %2F for '/' and %3A for ':' in names"
)


@dataclass(frozen=True)
class Url:
    """A text that libpq understands and that holds no secret; see `Url.parse`.

    Attributes
    ----------
    conninfo : str
        What was given.
    parameters : tuple of (str, str)
        What it says, by libpq's names.
    """

    conninfo: str
    parameters: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str | Url) -> Url:
        """Return the URL in a text.

        Raises
        ------
        ConfigError
            It is none, or holds a password; the message has no part of it.

        Examples
        --------
        >>> url = Url.parse("postgresql://me@db.example.org/metadata?sslmode=verify-full")
        >>> print(url)
        postgresql://me@db.example.org/metadata?sslmode=verify-full
        >>> url.place
        'metadata at db.example.org'
        """
        if isinstance(text, Url):
            return text
        if not isinstance(text, str) or not text.strip():
            raise ConfigError("metadata: must be a URL, postgresql://user@host/database")
        if re.search(r"[\x00-\x1f\x7f]", text):
            raise ConfigError("metadata: the URL has control characters in it")
        parameters = _parsed(text.strip())
        if SECRETS.intersection(parameters):
            raise ConfigError(REFUSED)
        _check_misread(text.strip(), parameters)
        return cls(text.strip(), tuple(parameters.items()))

    def __str__(self) -> str:
        return self.conninfo

    def __repr__(self) -> str:
        return f"Url({self.conninfo!r})"

    @property
    def place(self) -> str:
        """The database and its server, as far as the text names them; for messages."""
        said = dict(self.parameters)
        if "service" in said:
            return f"service {said['service']}"
        host = said.get("host") or said.get("hostaddr") or "the default host"
        port = f":{said['port']}" if said.get("port") else ""
        return f"{said.get('dbname', 'the default database')} at {host}{port}"


def _parsed(text: str) -> dict[str, str]:
    """Return what libpq reads in a text."""
    from modyn.postgres import parse_conninfo  # without libpq it says what to install

    try:
        found = parse_conninfo(text)
    except ValueError:
        found = None
    if found is None:  # outside of the except, so that the error carries no other
        for wrong, right in (("jdbc:", "postgresql://"), ("postgresql+", "postgresql://")):
            if text.startswith(wrong):
                raise ConfigError(f"metadata: libpq does not know {wrong}..., write {right}...")
        raise ConfigError(SHAPE)
    return found


def _check_misread(text: str, parameters: dict[str, str]) -> None:
    """Refuse what libpq reads, but in which a password may have become something else."""
    # user:pass/word@host is read as host user, port pass, database word@host.
    for scheme in SCHEMES:
        if text.startswith(scheme):
            _, _, path = text.removeprefix(scheme).partition("/")
            if "@" in path.partition("?")[0]:
                raise ConfigError(SHAPE)
    if any(not re.fullmatch(r"\d*", port) for port in parameters.get("port", "").split(",")):
        raise ConfigError(SHAPE)
    # libpq may open up a database's name that looks like a connection string.
    database = parameters.get("dbname", "")
    if "=" in database or database.startswith(SCHEMES):
        raise ConfigError(SHAPE)
