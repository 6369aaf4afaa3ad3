"""A TCP proxy in front of a Postgres server that breaks a connection at a chosen point.

    reset@N, close@N   after N bytes from the client: a reset, or an orderly end, of both sides
    stall@N            after N bytes from the client nothing moves any more, and nothing ends
    chunk@N            of N bytes from the client each travels alone; the rest as it comes
    commit-lost        reset when the client sends COMMIT; the server never sees it
    reply-lost         the server gets COMMIT and answers; the client is reset before it hears that
    commit-late        reset when the client sends COMMIT; the server gets it LATE_SECONDS later

The proxy counts how often a fault was reached.  It listens on loopback, and speaks to the server
over its Unix socket; a client must not encrypt (sslmode=disable), or COMMIT cannot be seen.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

LATE_SECONDS = 0.3
COMMIT = b"COMMIT\0"  # as it ends a Query or stands in a Parse message
PIECE = 65536


@dataclass(frozen=True)
class Fault:
    """What happens to one connection; `at` counts bytes from the client."""

    kind: str
    at: int = 0

    @classmethod
    def of(cls, text: str) -> Self:
        kind, _, at = text.partition("@")
        return cls(kind, int(at or 0))

    def __str__(self) -> str:
        return f"{self.kind}@{self.at}" if self.kind in COUNTED else self.kind


COUNTED = {"reset", "close", "stall", "chunk"}


def reset(end: socket.socket) -> None:
    """Close so that the other side gets a reset; nobody else may be in a call on this socket."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def shut(end: socket.socket) -> None:
    """End in order; wakes a thread that is waiting in recv(), which close() alone does not."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@dataclass
class Link:
    """One client and the server's side of it."""

    client: socket.socket
    server: socket.socket
    fault: Fault | None
    reached: Callable[[], None]
    over: threading.Event = field(default_factory=threading.Event)
    delivered: threading.Event = field(default_factory=threading.Event)  # unless COMMIT is late

    def __post_init__(self) -> None:
        self.delivered.set()

    def run(self) -> None:
        """Carry bytes until either side ends or the fault is there."""
        answers = threading.Thread(target=self._answers, daemon=True)
        answers.start()
        try:
            self._questions()
        except OSError:
            pass
        finally:
            self.over.set()
            shut(self.client)
            shut(self.server)
            answers.join()

    def _answers(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.server.recv(PIECE):
                if self.over.is_set():
                    return
                self.client.sendall(data)
        if not self.over.is_set():
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_WR)

    def _questions(self) -> None:
        seen, tail = 0, b""
        while data := self.client.recv(PIECE):
            fault = self.fault
            if fault is None:
                self.server.sendall(data)
            elif fault.kind == "chunk":
                self._piecemeal(data, max(0, fault.at - seen))
            elif fault.kind in COUNTED:
                if seen + len(data) > fault.at:
                    self.server.sendall(data[: fault.at - seen])
                    self._break(fault.kind)
                    return
                self.server.sendall(data)
            elif COMMIT in tail + data:
                self._at_commit(fault.kind, data)
                return
            else:
                self.server.sendall(data)
            seen, tail = seen + len(data), (tail + data)[1 - len(COMMIT) :]

    def _piecemeal(self, data: bytes, alone: int) -> None:
        for i in range(min(alone, len(data))):
            self.server.sendall(data[i : i + 1])
        self.server.sendall(data[alone:])
        if alone:
            self.reached()

    def _break(self, kind: str) -> None:
        self.reached()
        self.over.set()
        if kind == "reset":
            reset(self.client)
        elif kind == "stall":
            self._wait_for_the_client()

    def _wait_for_the_client(self) -> None:
        """Nothing is answered; the connection ends when the client gives up."""
        with contextlib.suppress(OSError):
            while self.client.recv(PIECE):
                pass

    def _at_commit(self, kind: str, data: bytes) -> None:
        self.reached()
        self.over.set()  # no answer goes through from here on
        if kind == "commit-lost":
            reset(self.client)
        elif kind == "reply-lost":
            self.server.sendall(data)
            self.server.settimeout(10)
            threading.Event().wait(0.05)  # the answer is on its way to the other thread, or to us
            reset(self.client)
        else:
            self.delivered.clear()
            reset(self.client)
            threading.Event().wait(LATE_SECONDS)
            with contextlib.suppress(OSError):  # the server may be down by then
                self.server.sendall(data)
            threading.Event().wait(0.05)
            self.delivered.set()


class Proxy:
    """Listens on a port of loopback; `choose(i)` says what happens to connection i.

    Parameters
    ----------
    upstream : path
        The server's Unix socket.
    choose : callable
        From the number of a connection (from 0) to a Fault or None.
    """

    def __init__(self, upstream: Path, choose: Callable[[int], Fault | None]) -> None:
        self._upstream = upstream
        self._choose = choose
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.hits = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections, and wait until nothing of the proxy is left.

        A COMMIT that is late still arrives: a client that was quick does not spare us what is
        on its way.
        """
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for link in self._links:
            link.delivered.wait(10)
            link.over.set()
            shut(link.client)
            shut(link.server)
        for thread in self._threads:
            thread.join()

    def _reached(self) -> None:
        with self._lock:
            self.hits += 1

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            fault, self.connections = self._choose(self.connections), self.connections + 1
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._upstream))
            except OSError:  # the server is down: so are we
                server.close()
                reset(client)
                continue
            link = Link(client, server, fault, self._reached)
            thread = threading.Thread(target=link.run, daemon=True)
            self._links.append(link)
            self._threads.append(thread)
            thread.start()
