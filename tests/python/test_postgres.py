"""modyn.postgres against a server of our own: private, on a socket in a temporary directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

postgres = pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")

PASSWORD = "s3cret-of-the-test"


def programs() -> Path | None:
    """The newest directory with initdb and postgres, which Debian keeps out of PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found and (initdb := shutil.which("initdb")):
        found = [Path(initdb).resolve().parent]
    return max(found, key=lambda path: path.parent.name.zfill(4), default=None)


def as_server(*command: object) -> list[str]:
    """Return a command under a user that Postgres accepts (not root), and that dies with us."""
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] * (os.geteuid() == 0)
    return ["setpriv", *user, "--pdeathsig=SIGINT", *map(str, command)]


def wait_until_ready(directory: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        # The last line of the file is the state of the server.
        pid_file = directory / "data" / "postmaster.pid"
        if pid_file.exists() and pid_file.read_text().split("\n")[-2].strip() == "ready":
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the test server did not start:\n{log.read_text()}")
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """The directory of the socket of a server whose user modyn has PASSWORD."""
    bin_directory = programs()
    if bin_directory is None:
        pytest.skip("no Postgres server is installed")
    directory = Path(tempfile.mkdtemp(prefix="modyn-pg-"))
    log = directory / "log"
    process = None
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        password_file = directory / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        data = directory / "data"
        initdb = [bin_directory / "initdb", "-D", data, "-U", "modyn", "--auth=scram-sha-256"]
        initdb += [f"--pwfile={password_file}", "--no-sync"]
        subprocess.run(
            as_server(*initdb), check=True, capture_output=True, cwd=directory, timeout=120
        )
        start = [bin_directory / "postgres", "-D", data, "-k", directory]
        start += ["-c", "listen_addresses=", "-c", "fsync=off"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                as_server(*start), stdout=output, stderr=output, cwd=directory
            )
        wait_until_ready(directory, process, log)
        yield directory
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # Postgres's fast shutdown
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def test_the_version_of_libpq_is_known():
    assert postgres.libpq_version() >= 100000


def test_the_version_of_a_server_comes_back(server):
    version = postgres.server_version(
        f"host={server} user=modyn password={PASSWORD} dbname=postgres"
    )

    assert version // 10000 == int((server / "data" / "PG_VERSION").read_text())


def test_a_uri_works_as_well(server):
    host = str(server).replace("/", "%2F")

    assert postgres.server_version(f"postgresql://modyn:{PASSWORD}@{host}/postgres") >= 100000


def test_many_threads_connect_at_once(server):
    conninfo = f"host={server} user=modyn password={PASSWORD} dbname=postgres"
    start = threading.Barrier(8)
    versions = []

    def connect() -> None:
        start.wait(timeout=10)
        versions.append(postgres.server_version(conninfo))

    threads = [threading.Thread(target=connect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(versions) == 8
    assert len(set(versions)) == 1


def test_a_wrong_password_is_refused_and_not_repeated(server):
    with pytest.raises(postgres.DatabaseError, match="password authentication failed") as caught:
        postgres.server_version(f"host={server} user=modyn password=wrong-{PASSWORD}")

    assert PASSWORD not in str(caught.value)


def test_a_password_that_the_server_repeats_is_struck_out(server):
    conninfo = f"host={server} user=modyn password={PASSWORD} dbname={PASSWORD}"

    with pytest.raises(postgres.DatabaseError, match=r"\*\*\*.*does not exist") as caught:
        postgres.server_version(conninfo)

    assert PASSWORD not in str(caught.value)


def test_a_server_that_is_not_there_is_said_so(tmp_path):
    conninfo = f"host={tmp_path} user=modyn password={PASSWORD}"

    with pytest.raises(postgres.DatabaseError, match="No such file or directory") as caught:
        postgres.server_version(conninfo)

    assert PASSWORD not in str(caught.value)
    assert conninfo not in str(caught.value)


@pytest.mark.parametrize(
    "conninfo",
    [
        "password=s3cret of host=nowhere",
        "password='s3cret",
        "s3cret",
        "postgresql://modyn:s3cret@[::1/db",
        "postgresql://modyn:pa@s3cret@127.0.0.1:1/db",
        "postgresql://modyn:s3cret/x@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?s3cret=1",
        "host=127.0.0.1 port=s3cret",
        "host=127.0.0.1 port=1 sslmode=s3cret",
        "host=s3cret.invalid port=1",
    ],
)
def test_a_misread_string_tells_no_part_of_itself(conninfo):
    with pytest.raises((ValueError, postgres.DatabaseError)) as caught:
        postgres.server_version(conninfo)

    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value.__context__)


def test_a_silent_server_ends_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        with pytest.raises(TimeoutError, match="in time"):
            postgres.server_version(f"host=127.0.0.1 port={port}", timeout_seconds=0.2)


def test_other_threads_run_while_a_silent_server_is_waited_for():
    counted = 0
    done = threading.Event()

    def connect(port: int) -> None:
        with pytest.raises(TimeoutError):
            postgres.server_version(f"host=127.0.0.1 port={port}", timeout_seconds=0.5)
        done.set()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        thread = threading.Thread(target=connect, args=[silent.getsockname()[1]])
        thread.start()
        while not done.is_set():
            counted += 1
        thread.join(timeout=30)

    assert counted > 1000


def test_a_signal_ends_the_wait():
    class RangError(Exception):
        pass

    def ring(signum: int, frame: object) -> None:
        raise RangError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(RangError):
                postgres.server_version(
                    f"host=127.0.0.1 port={silent.getsockname()[1]}", timeout_seconds=60
                )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan")])
def test_a_deadline_must_lie_ahead(timeout_seconds):
    with pytest.raises(ValueError, match="timeout_seconds must be above 0"):
        postgres.server_version("host=127.0.0.1", timeout_seconds=timeout_seconds)


def test_an_at_sign_in_a_uri_is_explained():
    with pytest.raises(ValueError, match="write %40"):
        postgres.server_version("postgresql://modyn:pa@ss@127.0.0.1:1/db")
