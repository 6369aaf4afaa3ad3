"""modyn.postgres against a private server."""

from __future__ import annotations

import signal
import socket
import threading

import pytest

from tests.python.postgres_server import PASSWORD

postgres = pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")


def test_the_version_of_libpq_is_known():
    assert postgres.libpq_version() >= 100000


def test_the_version_of_a_server_comes_back(server, guarded):
    version = postgres.server_version(
        f"host={server.socket_folder} user={guarded} password={PASSWORD} dbname=postgres"
    )

    assert version // 10000 == int((server.data / "PG_VERSION").read_text())


def test_a_uri_works_as_well(server, guarded):
    host = str(server.socket_folder).replace("/", "%2F")

    assert postgres.server_version(f"postgresql://{guarded}:{PASSWORD}@{host}/postgres") >= 100000


def test_many_threads_connect_at_once(server, guarded):
    conninfo = f"host={server.socket_folder} user={guarded} password={PASSWORD} dbname=postgres"
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


def test_a_wrong_password_is_refused_and_not_repeated(server, guarded):
    with pytest.raises(postgres.DatabaseError, match="password authentication failed") as caught:
        postgres.server_version(
            f"host={server.socket_folder} user={guarded} password=wrong-{PASSWORD}"
        )

    assert PASSWORD not in str(caught.value)


def test_a_password_that_the_server_repeats_is_struck_out(server, guarded):
    conninfo = f"host={server.socket_folder} user={guarded} password={PASSWORD} dbname={PASSWORD}"

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
