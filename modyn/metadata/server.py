"""A private PostgreSQL in a folder, for those who have none.

    FOLDER/data       the data directory
    FOLDER/socket     where the server listens: a Unix socket, and nothing else
    FOLDER/log        what it says; log.1 is what it said before
    FOLDER/lock       locked while one process starts or stops it

Who may use it is decided by the file system alone: folder and socket are closed to everybody but
their owner (and root), no network port is opened, and behind the socket there is no password.

Postgres refuses to run as root.  Started by root, it runs as the owner of the folder; a new folder
is given to the user postgres, or to nobody where there is none.

A data directory appears under its name when it is complete, so that an initdb that was interrupted
leaves nothing that looks like a server.  What a killed server leaves (postmaster.pid, shared
memory) Postgres clears away itself, with two exceptions that are seen to here: a server that is
dead but was not waited for by its parent, and a number that now belongs to another program, both
of them common in containers.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from modyn.errors import ConfigError, DatabaseError
from modyn.metadata import programs
from modyn.metadata.programs import Programs

USER = DATABASE = "modyn"
PORT = 5432  # part of the socket's name
SOCKET_BYTES = 107  # of a Unix socket's path
LOG_BYTES = 8 << 20  # a longer log becomes log.1 at the next start

# For one machine without standbys.  Without wal_level=minimal every row of a new table would be
# written twice: once to the table and once to the log.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_line_prefix": "'%m [%p] '",
}

# Runs a server that belongs to nobody: not to a terminal, and not to its parent, which would have
# to wait for it when it ends.  Its arguments are a user's and a group's number (or -1, to stay who
# we are) and the command; it prints the number of the process.
DETACH = """
import os, sys
user, group, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if user >= 0:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
os.setsid()
pid = os.fork()
if pid:
    print(pid, flush=True)
    os._exit(0)
os.dup2(2, 1)
os.execv(program, sys.argv[3:])
"""


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
        self._child: subprocess.Popen[bytes] | None = None

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
        return Path(tempfile.gettempdir(), f"modyn-server-{number:08x}")

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
        lines = self._pid_file()
        if not lines or not _serves(int(lines[0]), self.data):
            return None
        return int(lines[0])

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
            while True:
                launched = None
                if self.pid is None:
                    self._clear_stale_locks()
                    launched = self._launch(found, owner, child)
                if self._is_ready_by(deadline, launched):
                    return

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
                self._reap()
                return False
            for number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 30.0)):
                if self._signal(pid, number, patience):
                    return True
        raise DatabaseError(f"{self.folder}: the server, process {pid}, does not end")

    def status(self) -> Status:
        """Say how the server is; nothing is changed."""
        lines, pid, major = self._pid_file(), self.pid, self._major()
        version = ""
        if major is not None:
            try:
                version = programs.find(self._bin_directory, major=major).version
            except ConfigError:
                version = str(major)
        return Status(
            folder=self.folder,
            running=pid is not None and _is_ready(lines),
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
            ours = {"data.new", "socket", "lock", "log", "log.1"}
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
        self._run(initdb, owner, deadline)
        with (new / "postgresql.conf").open("a") as file:
            file.write("\n# Of modyn:\n")
            file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
        single = [found.postgres, "--single", "-D", new, "-c", "log_checkpoints=off", "postgres"]
        said = self._run(single, owner, deadline, f"CREATE DATABASE {DATABASE}\n")
        if "ERROR" in said or "FATAL" in said:
            raise DatabaseError(f"{self.folder}: no database was made: {_last_words(said)}")
        new.rename(self.data)

    def _run(
        self, command: list[Any], owner: pwd.struct_passwd, deadline: float, words: str = ""
    ) -> str:
        """Run a program of the server to its end and return what it said."""
        try:
            done = subprocess.run(
                command,
                input=words,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=max(1.0, deadline - time.monotonic()),
                **self._surroundings(owner),
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.folder}: {command[0]} did not end in time") from None
        except PermissionError:
            raise _not_runnable(command[0], owner) from None
        if done.returncode:
            raise DatabaseError(f"{self.folder}: {command[0]}: {_last_words(done.stdout)}")
        said: str = done.stdout
        return said

    # The process ----------------------------------------------------------------------------------

    def _surroundings(self, owner: pwd.struct_passwd) -> dict[str, Any]:
        """Return what Popen needs so that a program runs as the owner, with nothing of ours.

        Of our environment it gets what it needs to be found and loaded: a server that lives for
        weeks should not hold the passwords of whoever started it.
        """
        kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "ASAN_OPTIONS")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        return {"cwd": self.folder, "env": {**environment, "LC_ALL": "C"}, "umask": 0o077, **user}

    def _launch(self, found: Programs, owner: pwd.struct_passwd, child: bool) -> _Launched:
        """Start the server's process."""
        self._reap()
        self._make_socket_folder(owner)
        command = [str(found.postgres), "-D", str(self.data)]
        for name, value in {**self._settings, **self._closed()}.items():
            command += ["-c", f"{name}={value}"]
        with self._open_log(owner) as log:
            start = log.tell()
            try:
                pid = (self._child_of_ours if child else self._detached)(command, log, owner)
            except PermissionError:
                raise _not_runnable(command[0], owner) from None
        return _Launched(pid, start)

    def _closed(self) -> dict[str, str]:
        """Return the settings that decide who can reach the server; nobody changes them."""
        folder = str(self.socket_folder).replace('"', '""')
        return {
            "listen_addresses": "",
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "external_pid_file": "",
        }

    def _child_of_ours(self, command: list[str], log: IO[bytes], owner: pwd.struct_passwd) -> int:
        # The order to end comes from the kernel, however we end.
        with_us = [shutil.which("setpriv") or "setpriv", "--pdeathsig=SIGINT"]
        self._child = subprocess.Popen(
            with_us + command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **self._surroundings(owner),
        )
        return self._child.pid

    def _detached(self, command: list[str], log: IO[bytes], owner: pwd.struct_passwd) -> int:
        surroundings = self._surroundings(owner)
        surroundings.pop("extra_groups", None)
        user, group = surroundings.pop("user", -1), surroundings.pop("group", -1)
        done = subprocess.run(
            # It runs as we do until it has become the server: our interpreter may lie where the
            # owner cannot go.
            [sys.executable, "-I", "-S", "-c", DETACH, str(user), str(group), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            check=True,
            timeout=60,
            **surroundings,
        )
        return int(done.stdout)

    @contextmanager
    def _open_log(self, owner: pwd.struct_passwd) -> Iterator[IO[bytes]]:
        """Open the log at its end; one that is long is put aside first."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.folder / "log.1")
        with self.log.open("ab") as log:
            os.fchmod(log.fileno(), 0o600)
            if os.geteuid() == 0:
                os.fchown(log.fileno(), owner.pw_uid, owner.pw_gid)
            yield log

    def _is_ready_by(self, deadline: float, launched: _Launched | None) -> bool:
        """Wait for the server; return False if another attempt to launch it is due."""
        try:
            while True:
                if self.pid is not None and _is_ready(self._pid_file()):
                    return True
                if launched is None and self.pid is None:
                    return False  # it was there before us, and ended just now
                if launched is not None and not self._lives(launched.pid):
                    return self._explain_end(launched, deadline)
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{self.folder}: the server is not ready yet; it goes on, and {self.log} "
                        "says with what"
                    )
                time.sleep(0.02)
        except KeyboardInterrupt:
            if launched is not None:
                self._signal(launched.pid, signal.SIGINT, 30.0)
            raise

    def _explain_end(self, launched: _Launched, deadline: float) -> bool:
        """Raise what the server said before it ended; return False if it may be tried again."""
        with self.log.open("rb") as log:
            log.seek(launched.log_start)
            said = log.read().decode(errors="replace")
        # Sessions of a server that was killed end soon after it.
        if "is still in use" in said and time.monotonic() < deadline:
            time.sleep(0.1)
            return False
        raise DatabaseError(
            f"{self.folder}: the server did not start: {_last_words(said)}; see {self.log}"
        )

    def _pid_file(self) -> list[str]:
        """Return the lines of postmaster.pid: process, folder, start, port, ..., state."""
        try:
            return _lines(self.data / "postmaster.pid")
        except PermissionError:
            raise ConfigError(f"{self.folder}: belongs to another user") from None

    def _clear_stale_locks(self) -> None:
        """Remove what would make Postgres believe that it runs already.

        That nothing of a former server still works on the data Postgres sees by itself, too, by
        the shared memory that belongs to the data directory.
        """
        socket_lock = self.socket_folder / f".s.PGSQL.{PORT}.lock"
        for file in (self.data / "postmaster.pid", socket_lock):
            lines = _lines(file)
            if lines and Path("/proc", lines[0].strip()).exists():
                file.unlink()

    def _reap(self) -> None:
        """Take note of the end of a server that was our child."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def _lives(self, pid: int) -> bool:
        self._reap()
        return _lives(pid)

    def _signal(self, pid: int, number: int, seconds: float) -> bool:
        """Send a signal and return whether the process is gone after `seconds`."""
        deadline = time.monotonic() + seconds
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        while self._lives(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


@dataclass(frozen=True)
class _Launched:
    """A process that is to become a server, and where in the log it begins to speak."""

    pid: int
    log_start: int


def _lines(file: Path) -> list[str]:
    """Return the lines of a lock file, the first of which is a process; [] without one."""
    try:
        lines = file.read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return lines if lines and lines[0].strip().isdigit() else []


def _is_ready(lines: list[str]) -> bool:
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _lives(pid: int) -> bool:
    """Return whether there is such a process that has not ended; a zombie has."""
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def _serves(pid: int, data: Path) -> bool:
    """Return whether this process is the server of a data directory."""
    if not _lives(pid):
        return False
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", data)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:  # root without the capability to trace
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
        return words[0].endswith(b"postgres")


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


def _not_runnable(program: object, user: pwd.struct_passwd) -> ConfigError:
    return ConfigError(f"{program}: the user {user.pw_name} cannot run it")


def _last_words(said: str) -> str:
    """Return the line of a server's or initdb's output that says why it ended."""
    if "No space left on device" in said:
        return "the disk is full"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    last = (wrong or lines or ["it said nothing"])[-1]
    return re.sub(r"^.*?(FATAL|PANIC|ERROR|error):\s*", "", last)


def _size_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder; those that vanish meanwhile count as 0."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total
