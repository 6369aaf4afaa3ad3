"""A private PostgreSQL in a folder, for those who have none.

    FOLDER/data       the data directory
    FOLDER/socket     where the server listens: a Unix socket, and nothing else
    FOLDER/log        what it says; log.1 is what it said before
    FOLDER/lock       locked while one process starts or stops it
    FOLDER/alive      locked as long as a process of the server lives

Who may use it is decided by the file system alone: folder and socket are closed to everybody but
their owner (and root), no network port is opened, and behind the socket there is no password.

Postgres refuses to run as root.  Started by root, it runs as the owner of the folder; a new folder
is given to the user postgres, or to nobody where there is none.

A data directory appears under its name when it is complete, so that an initdb that was interrupted
leaves nothing that looks like a server.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from modyn.errors import ConfigError, DatabaseError
from modyn.metadata import programs
from modyn.metadata.postmaster import PORT, Launched, Postmaster, last_words, run
from modyn.metadata.programs import Programs

USER = DATABASE = "modyn"
SOCKET_BYTES = 107  # of a Unix socket's path

# For one machine without standbys.  Without wal_level=minimal every row of a new table would be
# written twice: once to the table and once to the log.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_line_prefix": "'%m [%p] '",
}


@dataclass(frozen=True)
class Status:
    """How a server is.

    Attributes
    ----------
    folder : Path
        Where it lies.
    running : bool
        It accepts connections.
    pid : int or None
        Its process, also while it starts or stops.
    version : str
        "15.18" of the programs, or "15" of the data directory where these are not installed; ""
        before the first start.
    url : str
        What a pipeline's `metadata` takes.
    size_bytes : int
        Bytes of the data directory.
    """

    folder: Path
    running: bool
    pid: int | None
    version: str
    url: str
    size_bytes: int


class LocalServer:
    """A private server in a folder.

    Parameters
    ----------
    folder : path
        A folder of its own, new or from an earlier start.
    bin_directory : path, optional
        Where initdb and postgres lie; see modyn/metadata/programs.py.
    settings : mapping, optional
        Postgres settings of the next start, `{"fsync": "off"}`; lasting ones go to
        FOLDER/data/postgresql.conf.

    Examples
    --------
    >>> with LocalServer("metadata") as server:  # doctest: +SKIP
    ...     dataset.publish(server.url)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        bin_directory: str | os.PathLike[str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self._bin_directory = bin_directory
        self._settings = dict(settings or {})
        self._process = Postmaster(self.folder, self.socket_folder)

    def __repr__(self) -> str:
        return f"LocalServer({str(self.folder)!r})"

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The file that the server writes what it has to say to."""
        return self.folder / "log"

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket: in ours, or a short name where a socket's would be too long."""
        folder = self.folder / "socket"
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_BYTES and "," not in str(folder):
            return folder
        number = zlib.crc32(os.fsencode(self.folder.resolve()))
        return Path("/tmp", f"modyn-server-{number:08x}")  # noqa: S108 - it is made as ours

    @property
    def url(self) -> str:
        """What a pipeline's `metadata` takes."""
        return self.url_of(DATABASE)

    def url_of(self, database: str, user: str = USER) -> str:
        """Return the URL of a database of this server."""
        host = quote(str(self.socket_folder), safe="/")
        return f"postgresql:///{quote(database, safe='')}?host={host}&user={quote(user, safe='')}"

    @property
    def pid(self) -> int | None:
        """The process of the server, or None where none runs."""
        return self._process.pid

    # Life -----------------------------------------------------------------------------------------

    def start(self, *, seconds: float = 60.0, child: bool = False) -> None:
        """Start the server and wait until it accepts connections; one that runs is left alone.

        The first start makes the data directory and in it the database `modyn`.

        Parameters
        ----------
        seconds : float
            How long to wait. After a crash the server first repairs its data, and goes on doing
            so when the wait is over.
        child : bool
            The server ends with the thread that starts it. Otherwise it lives on after this
            process.

        Raises
        ------
        ConfigError
            There are no programs, or none for this data; the folder is not one of ours, or
            cannot be used by the user that the server runs as.
        DatabaseError
            The server does not start; the message has its last words.
        TimeoutError
            It is not ready after `seconds`.
        """
        deadline = time.monotonic() + seconds
        self.check_folder()
        owner = self._owner()
        found = programs.find(self._bin_directory, major=self._major())
        self._make_folder(owner)
        with self._locked(deadline):
            if self._major() is None:
                self._make_data(found, owner, deadline)
            ready = False
            while not ready:
                launched = None
                if self.pid is None:
                    self._make_socket_folder(owner)
                    launched = self._launch_by(deadline, found, owner, child)
                ready = self._process.is_ready_by(deadline, launched)

    def _launch_by(
        self, deadline: float, found: Programs, owner: pwd.struct_passwd, child: bool
    ) -> Launched:
        """Launch the server as soon as the sessions of one that was killed have ended."""
        while True:
            try:
                return self._process.launch(found.postgres, self._settings, owner, child)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseError(
                        f"{self.folder}: processes of another server use it: of one that was "
                        "killed, or that runs in another container"
                    ) from None
            time.sleep(0.05)

    def stop(self, *, seconds: float = 60.0) -> bool:
        """Stop the server; return False if none ran.

        Sessions are ended and what they had not committed is undone. A server that needs longer
        than `seconds` is ended at once and repairs its data at the next start.
        """
        if not self.folder.is_dir():
            return False
        with self._locked(time.monotonic() + seconds):
            pid = self.pid
            if pid is None:
                self._process.reap(seconds)  # one that was killed may still be on its way out
                return False
            for number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 30.0)):
                if self._process.end(pid, number, patience):
                    return True
        raise DatabaseError(f"{self.folder}: the server, process {pid}, does not end")

    def status(self) -> Status:
        """Say how the server is; nothing is changed."""
        pid, major = self.pid, self._major()
        version = ""
        if major is not None:
            try:
                version = programs.find(self._bin_directory, major=major).version
            except ConfigError:
                version = str(major)
        return Status(
            folder=self.folder,
            running=self._process.is_ready,
            pid=pid,
            version=version,
            url=self.url,
            size_bytes=_size_bytes(self.data),
        )

    # The folder -----------------------------------------------------------------------------------

    def _major(self) -> int | None:
        """Return the version that the data directory was made by, or None without one."""
        try:
            return int((self.data / "PG_VERSION").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise ConfigError(f"{self.folder}: belongs to another user") from None

    def check_folder(self) -> None:
        """Raise ConfigError for a folder that holds something else, or is somebody else's."""
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder}: is not a folder")
        self._owner()  # it can be looked into
        if (self.folder / "PG_VERSION").exists():
            raise ConfigError(
                f"{self.folder}: is the data directory of another server; name a new folder"
            )
        if self._major() is None:
            ours = {"data.new", "socket", "lock", "alive", "log", "log.1"}
            if foreign := sorted(set(os.listdir(self.folder)) - ours):
                raise ConfigError(
                    f"{self.folder}: holds other files ({foreign[0]!r}); name a new folder"
                )

    def _owner(self) -> pwd.struct_passwd:
        """Return the user that the server runs as."""
        ours = os.geteuid()
        uid = self.folder.stat().st_uid if self.folder.exists() else ours
        if ours == uid == 0:
            return _unprivileged()
        if ours not in (0, uid):
            raise ConfigError(f"{self.folder}: belongs to another user")
        try:
            return pwd.getpwuid(uid)
        except KeyError:
            raise ConfigError(
                f"user {uid} has no name (no line in /etc/passwd), and Postgres wants one"
            ) from None

    def _make_folder(self, owner: pwd.struct_passwd) -> None:
        """Make the folder, closed to everybody but the user that the server runs as."""
        self._check_reach(owner)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_reach(owner)  # of the folders that have just been made, too
        if self.folder.stat().st_uid != owner.pw_uid:
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self.folder.chmod(0o700)

    def _check_reach(self, owner: pwd.struct_passwd) -> None:
        """Refuse a folder that root can reach, but not the user that the server runs as."""
        if os.geteuid() != 0:
            return
        for parent in self.folder.parents:
            if parent.exists() and not _may_enter(parent, owner):
                raise ConfigError(
                    f"{self.folder}: the server runs as the user {owner.pw_name}, who cannot "
                    f"enter {parent}; name another folder, or chmod o+x {parent}"
                )

    def _make_socket_folder(self, owner: pwd.struct_passwd) -> None:
        folder = self.socket_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()  # not what a link of somebody else leads to
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), owner.pw_uid):
            raise ConfigError(f"{folder}: is not ours; the socket of the server would be there")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o700)

    @contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        """Hold the folder against other processes that start or stop."""
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            raise ConfigError(f"{self.folder}: belongs to another user") from None
        try:
            owner = self.folder.stat()
            if os.geteuid() == 0:
                os.fchown(lock, owner.st_uid, owner.st_gid)
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(
                            f"{self.folder}: another process starts or stops this server"
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(lock)

    def _make_data(self, found: Programs, owner: pwd.struct_passwd, deadline: float) -> None:
        """Make the data directory with its database, under another name until it is complete."""
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        initdb = [found.initdb, "-D", new, "-U", USER, "--auth=trust", "--encoding=UTF8"]
        initdb += ["--no-locale", "--data-checksums"]
        # Initdb writes all files, then this writes them to the disk.
        if self._settings.get("fsync") == "off":
            initdb.append("--no-sync")
        run(self.folder, initdb, owner, deadline)
        with (new / "postgresql.conf").open("a") as file:
            file.write("\n# Of modyn:\n")
            file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
        single = [found.postgres, "--single", "-D", new, "-c", "log_checkpoints=off", "postgres"]
        said = run(self.folder, single, owner, deadline, f"CREATE DATABASE {DATABASE}\n")
        if "ERROR" in said or "FATAL" in said:
            raise DatabaseError(f"{self.folder}: no database was made: {last_words(said)}")
        new.rename(self.data)


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ConfigError("Postgres does not run as root, and there is no user postgres or nobody")


def _may_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    found = folder.stat()
    if found.st_uid == user.pw_uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == user.pw_gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


def _size_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder; those that vanish meanwhile count as 0."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total
