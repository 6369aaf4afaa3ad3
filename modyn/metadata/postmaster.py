"""The process of a private server: launched, waited for, and ended.

What a killed server leaves (lock files, shared memory) Postgres clears away itself, with three
exceptions that are seen to here, all of them common in containers: a server that is dead but was
not waited for by its parent; a number that now belongs to another program; and a server that
lives, but in another container, with numbers of its own.  Postgres would take the last one for
dead, and two servers on one folder destroy it.  So FOLDER/alive is locked as long as any process of
a server lives: they inherit the lock, and the kernel drops it with the last of them.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from modyn.errors import ConfigError, DatabaseError

PORT = 5432  # part of the socket's name
LOG_BYTES = 8 << 20  # a longer log becomes log.1 at the next start

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
class Launched:
    """A process that is to become a server, and where in the log it begins to speak."""

    pid: int
    log_start: int


class Postmaster:
    """The process that serves a data directory, if there is one.

    Parameters
    ----------
    folder, socket_folder : Path
        Where data and log lie, and where the socket is to be.
    """

    def __init__(self, folder: Path, socket_folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        self._socket_folder = socket_folder
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its number, or None where none runs."""
        lines = self._pid_file()
        if not lines or not _serves(int(lines[0]), self._data):
            return None
        return int(lines[0])

    @property
    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return self.pid is not None and _is_ready(self._pid_file())

    def launch(
        self, program: Path, settings: Mapping[str, str], owner: pwd.struct_passwd, child: bool
    ) -> Launched:
        """Start the process, of which there is none; see `LocalServer.start`.

        Raises
        ------
        BlockingIOError
            Processes of another one still use the data.
        """
        self.reap()
        command = [str(program), "-D", str(self._data)]
        for name, value in {**settings, **self._closed()}.items():
            command += ["-c", f"{name}={value}"]
        launch = self._child_of_ours if child else self._detached
        with self._claimed(owner) as lock, self._open_log(owner) as log:
            self._clear_stale_locks()
            start = log.tell()
            try:
                pid = launch(command, log, surroundings(self._folder, owner, lock))
            except PermissionError:
                raise not_runnable(command[0], owner) from None
        return Launched(pid, start)

    def _closed(self) -> dict[str, str]:
        """Return the settings that decide who can reach the server; nobody changes them."""
        folder = str(self._socket_folder).replace('"', '""')
        return {
            "listen_addresses": "",
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "external_pid_file": "",
        }

    @contextmanager
    def _claimed(self, owner: pwd.struct_passwd) -> Iterator[int]:
        """Lock the data, for whoever inherits this descriptor."""
        lock = os.open(self._folder / "alive", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.geteuid() == 0:
                os.fchown(lock, owner.pw_uid, owner.pw_gid)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield lock
        finally:
            os.close(lock)

    def _child_of_ours(self, command: list[str], log: IO[bytes], around: dict[str, Any]) -> int:
        self.reap(60.0)  # it serves no more, and may still be on its way out
        # The order to end comes from the kernel, however we end.
        setpriv = shutil.which("setpriv")
        with_us = [setpriv, "--pdeathsig=SIGINT"] if setpriv else []
        self._child = subprocess.Popen(
            with_us + command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **around
        )
        return self._child.pid

    def _detached(self, command: list[str], log: IO[bytes], around: dict[str, Any]) -> int:
        # It runs as we do until it has become the server: our interpreter may lie where the owner
        # cannot go.
        around.pop("extra_groups", None)
        user, group = around.pop("user", -1), around.pop("group", -1)
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", DETACH, str(user), str(group), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            check=True,
            timeout=60,
            **around,
        )
        return int(done.stdout)

    @contextmanager
    def _open_log(self, owner: pwd.struct_passwd) -> Iterator[IO[bytes]]:
        """Open the log at its end; one that is long is put aside first."""
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._folder / "log.1")
        with self._log.open("ab") as log:
            os.fchmod(log.fileno(), 0o600)
            if os.geteuid() == 0:
                os.fchown(log.fileno(), owner.pw_uid, owner.pw_gid)
            yield log

    def is_ready_by(self, deadline: float, launched: Launched | None) -> bool:
        """Wait for the server; return False if it ended, and another attempt to launch it is due.

        Parameters
        ----------
        deadline : float
            Until when, by the monotonic clock.
        launched : Launched, optional
            What is to become the server, if it was not there before.

        Raises
        ------
        DatabaseError
            It does not start.
        TimeoutError
            It is not ready.
        """
        try:
            while True:
                if self.is_ready:
                    return True
                if launched is None and self.pid is None:
                    return False  # it was there before us, and ended just now
                if launched is not None and not self._lives(launched.pid):
                    raise self._why_it_ended(launched)
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{self._folder}: the server is not ready yet; it goes on, and {self._log} "
                        "says with what"
                    )
                time.sleep(0.02)
        except KeyboardInterrupt:
            if launched is not None:
                self.end(launched.pid, signal.SIGINT, 30.0)
            raise

    def _why_it_ended(self, launched: Launched) -> DatabaseError:
        with self._log.open("rb") as log:
            log.seek(launched.log_start)
            said = log.read().decode(errors="replace")
        return DatabaseError(
            f"{self._folder}: the server did not start: {last_words(said)}; see {self._log}"
        )

    def _pid_file(self) -> list[str]:
        """Return the lines of postmaster.pid: process, folder, start, port, ..., state."""
        try:
            return _lines(self._data / "postmaster.pid")
        except PermissionError:
            raise ConfigError(f"{self._folder}: belongs to another user") from None

    def _clear_stale_locks(self) -> None:
        """Remove what would make Postgres believe that it runs already.

        That nothing of a former server still works on the data Postgres sees by itself, too, by
        the shared memory that belongs to the data directory.
        """
        socket_lock = self._socket_folder / f".s.PGSQL.{PORT}.lock"
        for file in (self._data / "postmaster.pid", socket_lock):
            lines = _lines(file)
            if lines and Path("/proc", lines[0].strip()).exists():
                file.unlink()

    def reap(self, seconds: float = 0.0) -> None:
        """Take note of the end of a server that was our child; wait for one on its way out."""
        if self._child is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
            self._child = None

    def _lives(self, pid: int) -> bool:
        lives = _lives(pid)
        self.reap()  # after the look: of a child that has ended nothing may be left
        return lives

    def end(self, pid: int, number: int, seconds: float) -> bool:
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


def surroundings(folder: Path, owner: pwd.struct_passwd, *kept_open: int) -> dict[str, Any]:
    """Return what Popen needs so that a program runs as the owner, with nothing of ours.

    Of our environment it gets what it needs to be found and loaded: a server that lives for
    weeks should not hold the passwords of whoever started it.
    """
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    around: dict[str, Any] = {"cwd": folder, "umask": 0o077, "pass_fds": kept_open}
    around["env"] = {**environment, "LC_ALL": "C"}
    if os.geteuid() == 0:
        around |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    return around


def run(
    folder: Path, command: list[Any], owner: pwd.struct_passwd, deadline: float, words: str = ""
) -> str:
    """Run a program of a server to its end, as the owner, and return what it said."""
    try:
        done = subprocess.run(
            command,
            input=words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=max(1.0, deadline - time.monotonic()),
            **surroundings(folder, owner),
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{folder}: {command[0]} did not end in time") from None
    except PermissionError:
        raise not_runnable(command[0], owner) from None
    if done.returncode:
        raise DatabaseError(f"{folder}: {command[0]}: {last_words(done.stdout)}")
    said: str = done.stdout
    return said


def not_runnable(program: object, user: pwd.struct_passwd) -> ConfigError:
    """Return what to raise for a program that is closed to a user."""
    return ConfigError(f"{program}: the user {user.pw_name} cannot run it")


def last_words(said: str) -> str:
    """Return the line of a server's or initdb's output that says why it ended."""
    if "No space left on device" in said:
        return "the disk is full"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    last = (wrong or lines or ["it said nothing"])[-1]
    return re.sub(r"^.*?(FATAL|PANIC|ERROR|error):\s*", "", last)


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
