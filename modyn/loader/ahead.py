"""Ordered, bounded hand-off of batches from threads that work on them to one loop.

The twin of csrc/prefetch/prefetcher.c for work that is done in Python: what a
stage makes of the batches of the stage before it.

    source -> [pull] -> task: pieces 0 1 2 ... -> [result] -> slot -> the loop

Batches are pulled from the source one after the other, and each becomes a task
with some pieces.  Any worker takes the next piece there is, of whichever batch;
who ends the last piece of a batch makes its result.  So no worker waits for
another, and a single large batch still keeps all of them busy.

    taken <= pulled <= taken + depth        (the window)

A batch has its slot in the order of pulling, so neither the order of the results
nor the batch at which an error surfaces depends on the timing of threads.  When
several pieces of a batch fail, the first of them counts: pieces are begun in
order, so that all before it are known when the batch ends.

Workers hold what they share, and nobody holds the iterator: when the loop drops
it, its finalizer stops the workers.  They are daemons, so that a function that
never returns cannot keep the interpreter from ending; the finalizer runs before
the end, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from modyn.errors import ClosedError

__all__ = ["Ahead", "Source", "Stopped", "Task"]

ABANDONED_S = 5.0  # that a finalizer waits for the workers of an abandoned iterator

Stopped = Callable[[], bool]  # whether what is being made is of no use any more


class Source(Protocol):
    """A stage: the next batch, until StopIteration; close() ends a wait for it."""

    def __next__(self) -> Any: ...
    def close(self) -> None: ...


class Task(Protocol):
    """What is to be done with one batch."""

    @property
    def pieces(self) -> int:
        """How many pieces there are, at least 1."""

    def do(self, piece: int, worker: Any, stopped: Stopped) -> None:
        """Do a piece, on any worker; return early when it is stopped."""

    def result(self) -> Any:
        """Return what the loop gets, when all pieces are done."""


@dataclass
class _Slot:
    task: Task | None = None  # None: there was none to begin
    begun: int = 0
    done: int = 0
    failed_piece: int | None = None
    error: BaseException | None = None
    is_full: bool = False
    result: Any = None


@dataclass
class Waits:
    """Nanoseconds that were spent waiting, by who waited for whom."""

    loop_ns: int = 0  # the loop, or the next stage, for a result
    source_ns: int = 0  # a worker for the stage before
    room_ns: int = 0  # workers for the loop to take a result, or for a batch pulled by another


@dataclass
class _Shared:
    source: Source
    begin: Callable[[int, Any], Task]
    depth: int
    pid: int = field(default_factory=os.getpid)
    lock: threading.RLock = field(default_factory=threading.RLock)
    # Guarded by the lock:
    slots: deque[_Slot] = field(default_factory=deque)  # pulled and not taken
    pulled: int = 0
    is_pulling: bool = False
    is_ended: bool = False  # nothing is pulled any more: the source ended, or something failed
    is_stopped: bool = False
    waits: Waits = field(default_factory=Waits)

    def __post_init__(self) -> None:
        self.room = threading.Condition(self.lock)  # workers wait
        self.ready = threading.Condition(self.lock)  # the loop waits

    # A worker: pull, do, finish.

    def work(self, open_worker: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        # Signals are for the thread that waits in Python; a process started from here begins
        # without them, too.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker = _Worker(open_worker)
        try:
            while (claimed := self.claim()) is not None:
                self.do(*claimed, worker)
        finally:
            worker.close()

    def claim(self) -> tuple[_Slot, int] | None:
        """Return the next piece, or None when there is nothing left to do."""
        while True:
            with self.lock:
                while not (self.is_stopped or self._piece_at_hand() or self._may_pull()):
                    if self.is_ended:
                        return None
                    started = time.monotonic_ns()
                    self.room.wait()
                    self.waits.room_ns += time.monotonic_ns() - started
                if self.is_stopped:
                    return None
                slot = self._piece_at_hand()
                if slot is not None:
                    slot.begun += 1
                    return slot, slot.begun - 1
                self.is_pulling = True
            self.pull()

    def _piece_at_hand(self) -> _Slot | None:
        for slot in self.slots:
            if slot.error is not None:
                return None  # what comes after it is for nobody
            if slot.task is not None and slot.begun < slot.task.pieces:
                return slot
        return None

    def _may_pull(self) -> bool:
        return not self.is_ended and not self.is_pulling and len(self.slots) < self.depth

    def pull(self) -> None:
        """Add a slot for the next batch of the source; nobody else is pulling."""
        slot: _Slot | None = _Slot()
        error: BaseException | None = None
        started = time.monotonic_ns()
        try:
            batch = next(self.source)
        except StopIteration:
            slot = None
        except BaseException as problem:
            error = problem
        waited = time.monotonic_ns() - started
        if slot is not None and error is None:
            try:
                slot.task = self.begin(self.pulled, batch)
            except BaseException as problem:
                error = problem
        with self.lock:
            self.waits.source_ns += waited
            self.is_pulling = False
            if slot is None or error is not None:
                self.is_ended = True
            if slot is not None:
                self.pulled += 1
                self.slots.append(slot)
                if error is not None:
                    slot.error, slot.is_full = error, True
            self.room.notify_all()
            self.ready.notify_all()

    def do(self, slot: _Slot, piece: int, worker: _Worker) -> None:
        task = slot.task
        assert task is not None  # a piece is of a task  # noqa: S101
        error: BaseException | None = None
        try:
            task.do(piece, worker.opened(), self.stopped)
        except BaseException as problem:
            error = problem
        with self.lock:
            slot.done += 1
            if error is not None:
                if slot.failed_piece is None or piece < slot.failed_piece:
                    slot.failed_piece, slot.error = piece, error
                self.is_ended = True
            if slot.failed_piece is not None:
                is_last = slot.done == slot.begun
            else:
                is_last = slot.done == task.pieces
        if is_last:
            self.finish(slot, task)
        elif error is not None:
            with self.lock:
                self.room.notify_all()  # there is less to wait for

    def finish(self, slot: _Slot, task: Task) -> None:
        result, error = None, slot.error
        if error is None and not self.is_stopped:
            try:
                result = task.result()
            except BaseException as problem:
                error = problem
        with self.lock:
            slot.task = None
            slot.result, slot.error, slot.is_full = result, error, True
            if error is not None:
                self.is_ended = True
            self.room.notify_all()
            self.ready.notify_all()

    def stopped(self) -> bool:
        return self.is_stopped

    # The loop.

    def take(self) -> Any:
        if self.pid != os.getpid():
            raise ClosedError(
                f"this iteration was begun in process {self.pid}; its threads did not follow the "
                "fork: open the dataset and make a loader in this process"
            )
        with self.lock:
            while not (self.is_stopped or self._is_decided()):
                started = time.monotonic_ns()
                self.ready.wait()
                self.waits.loop_ns += time.monotonic_ns() - started
            if self.is_stopped:
                raise ClosedError("the iteration was closed")
            if not self.slots:
                raise StopIteration
            if (error := self.slots[0].error) is not None:
                raise error  # stays, for whoever asks again
            self.room.notify_all()
            self.ready.notify()  # a second consumer may wait for the next one
            return self.slots.popleft().result

    def _is_decided(self) -> bool:
        if self.slots:
            return self.slots[0].is_full
        return self.is_ended and not self.is_pulling

    def stop(self) -> None:
        """Let workers end and waiters wake up; join nobody."""
        if self.pid != os.getpid():
            return  # the lock may be held for ever
        with self.lock:
            self.is_stopped = self.is_ended = True
            self.room.notify_all()
            self.ready.notify_all()
        self.source.close()


class _Worker:
    """What a worker thread has for itself; opened by its first piece."""

    def __init__(self, open_worker: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._open = open_worker
        self._stack = contextlib.ExitStack()
        self._is_open = False
        self._value: Any = None

    def opened(self) -> Any:
        if not self._is_open:
            self._value = self._stack.enter_context(self._open())
            self._is_open = True
        return self._value

    def close(self) -> None:
        self._stack.close()


class _Thread(threading.Thread):
    """A worker; a finalizer that the collector runs on one of them joins nobody."""


class Ahead:
    """What tasks make of the batches of a source, in their order, made ahead of the loop.

    Parameters
    ----------
    source : Source
        Where batches come from; closed with this one.
    begin : callable of (number, batch), returns a Task
        Number 0 is the first batch pulled.
    workers : int
        Threads, at least 1.
    depth : int
        Batches pulled and not taken, at least 1.
    open_worker : callable, returns a context manager
        Entered by each worker before its first piece, for what its pieces get as `worker`.
    """

    def __init__(
        self,
        source: Source,
        begin: Callable[[int, Any], Task],
        *,
        workers: int,
        depth: int,
        open_worker: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self._shared = _Shared(source, begin, depth)
        self._threads = [
            _Thread(target=self._shared.work, args=(open_worker,), daemon=True, name="modyn-stage")
            for _ in range(workers)
        ]
        self._end = weakref.finalize(self, _abandon, self._shared, self._threads)
        for thread in self._threads:
            thread.start()

    @property
    def waits(self) -> Waits:
        """Who waited how long so far."""
        return self._shared.waits

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._shared.take()

    def close(self) -> None:
        """Stop, close the source, and join the workers; any number of times."""
        self._shared.stop()
        if self._shared.pid == os.getpid():
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join()
            self._shared.slots.clear()


def _abandon(shared: _Shared, threads: list[_Thread]) -> None:
    """Stop what nobody refers to any more, on whatever thread this is noticed.

    A worker that collects garbage may come here from anywhere, with a lock of its own stage held
    that another worker waits for: it joins nobody.  The others may, since nobody who holds a lock
    of this stage but its workers can be here.
    """
    shared.stop()
    if isinstance(threading.current_thread(), _Thread) or shared.pid != os.getpid():
        return
    deadline = time.monotonic() + ABANDONED_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    shared.slots.clear()
