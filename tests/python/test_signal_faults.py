"""Signals in Postgres, when the connection or the server goes: written once, and whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from modyn.errors import DatabaseError
from modyn.pipelines.signals import HandOff
from modyn.postgres import Connection
from modyn.signals import Rows, SignalStore
from tests.python.postgres_server import kill_server, new_database, terminate_backends
from tests.python.signal_rows import (
    ONE,
    Place,
    expected_of,
    made,
    place,
    record,
    rows_of,
    shown,
    store,
)

__all__ = ["place", "store"]  # fixtures


def large(rng: Any, chunks: int, count: int = 20_000) -> list[Rows]:
    return rows_of(rng, count, epochs=chunks, below=2**31)


def disturbed(store: SignalStore, chunks: list[Rows], disturb: Callable[[], bool]) -> None:
    """Record while something happens again and again, until it says that it is enough."""
    over = threading.Event()

    def again() -> None:
        while not over.wait(0.01) and disturb():
            pass

    thread = HandOff(writer := store.begin(ONE))
    other = threading.Thread(target=again)
    other.start()
    try:
        for rows in chunks:
            thread.put(rows)
        thread.finish()
        over.set()
        other.join(30)
        writer.commit()
    finally:
        over.set()
        other.join(30)
        thread.stop()


def test_backends_that_are_ended_during_copies_lose_and_double_nothing(place, rand):
    chunks = large(rand.numpy, 12)
    ended = 0

    def end() -> bool:
        nonlocal ended
        ended += terminate_backends(place.url, "COPY modyn.signals%")
        return ended < 4

    disturbed(place.store(), chunks, end)

    assert ended > 0
    assert shown(place.store().read(3)) == expected_of(chunks)


def test_a_server_that_is_killed_and_comes_back_loses_nothing(own_server, rand):
    chunks = large(rand.numpy, 12)

    with new_database(own_server) as url, made(url) as place:
        thread = HandOff(writer := place.store().begin(ONE))
        for i, rows in enumerate(chunks):
            thread.put(rows)
            if i == 5:  # and DEPTH of them are not written yet
                kill_server(own_server)
                own_server.start(child=True)
        thread.finish()
        writer.commit()

        assert shown(place.store().read(3)) == expected_of(chunks)


def test_reading_goes_on_after_its_backend_was_ended(place, rand, monkeypatch):
    chunks = rows_of(rand.numpy, 3000)
    record(place.store(), ONE, chunks)
    read, ended = Connection.read, []

    def ending(self: Connection, statement: str, types: str) -> Any:
        yield from read(self, statement, types, block_rows=100)
        if len(ended) < 3:
            ended.append(terminate_backends(place.url, "COPY modyn.signals_p1_t3_h%"))

    monkeypatch.setattr(Connection, "read", ending)

    assert shown(place.store().read(3)) == expected_of(chunks)
    assert ended == [1, 1, 1]


def test_a_server_that_stays_away_ends_the_training(own_server, rand):
    chunks = large(rand.numpy, 3)
    with new_database(own_server) as url, made(url) as place:
        store = place.store(retry_seconds=0.5)
        thread = HandOff(writer := store.begin(ONE))
        own_server.stop(seconds=10)

        with pytest.raises(DatabaseError):  # noqa: PT012 - at whichever of them
            for rows in chunks:
                thread.put(rows)
            thread.finish()

        thread.stop()
        writer.abort()
        own_server.start(child=True)
        record(store, ONE, chunks)
        assert shown(store.read(3)) == expected_of(chunks)


def test_a_copy_that_waits_is_ended_with_the_training(place, rand):
    """As Ctrl-C does it, while another session holds a lock."""
    thread = HandOff(writer := place.store(retry_seconds=60).begin(ONE))
    with place.database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE modyn.signals_p1_t3")
        thread.put(rows_of(rand.numpy, 10)[0])
        waiting(place)

        thread.stop()

        writer.abort()
        other.execute("ROLLBACK")
    assert not any(thread.name == "modyn-signals" for thread in threading.enumerate())


def waiting(place: Place) -> None:
    """Return when a session waits for a lock."""
    for _ in range(600):
        if place.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            return
        threading.Event().wait(0.05)
    raise AssertionError("nobody waits")
