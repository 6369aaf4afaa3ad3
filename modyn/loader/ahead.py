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
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from modyn.errors import ClosedError
from modyn.loader.waits import Stage, Waits

__all__ = ["Ahead", "Source", "Stopped", "Task"]

ABANDONED_S = 5.0  # that a finalizer waits for the workers of an abandoned iterator

Stopped = Callable[[], bool]  # whether what is being made is of no use any more


class Source(Protocol):
    """A stage: the next batch, until StopIteration; close() ends a wait for it."""

    @property
    def read_waits(self) -> Callable[[], Waits]:
        """What tells who waited for whom so far, without referring to this stage."""

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
class _Clock:
    """Nanoseconds so far; those of several threads are added up."""

    waited: int = 0  # the loop, or the next stage, for a result
    held: int = 0  # between two results: it had one
    left: int | None = None  # when it last got one
    busy: int = 0  # workers at work
    idle: int = 0  # workers without a batch to work on, or room for it


@dataclass
class _Shared:
    name: str
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
    clock: _Clock = field(default_factory=_Clock)

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
                    self.clock.idle += time.monotonic_ns() - started
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
            self.clock.idle += waited
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
        started = time.monotonic_ns()
        try:
            task.do(piece, worker.opened(), self.stopped)
        except BaseException as problem:
            error = problem
        with self.lock:
            self.clock.busy += time.monotonic_ns() - started
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
        started = time.monotonic_ns()
        if error is None and not self.is_stopped:
            try:
                result = task.result()
            except BaseException as problem:
                error = problem
        with self.lock:
            self.clock.busy += time.monotonic_ns() - started
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
            asked = time.monotonic_ns()
            self.clock.held += asked - (self.clock.left or asked)
            while not (self.is_stopped or self._is_decided()):
                self.ready.wait()
            self.clock.left = time.monotonic_ns()
            self.clock.waited += self.clock.left - asked
            if self.is_stopped:
                raise ClosedError("the iteration was closed")
            if not self.slots:
                raise StopIteration
            if (error := self.slots[0].error) is not None:
                raise error  # stays, for whoever asks again
            self.room.notify_all()
            self.ready.notify()  # a second consumer may wait for the next one
            slot = self.slots.popleft()
            result, slot.result = slot.result, None  # a worker may look at the slot for long
            return result

    def _is_decided(self) -> bool:
        if self.slots:
            return self.slots[0].is_full
        return self.is_ended and not self.is_pulling

    def read_waits(self) -> Waits:
        """Return the waits of the stages before, with those of this one for the loop's."""
        clock = self.clock
        stage = Stage(name=self.name, busy=clock.busy / 1e9, waiting=clock.idle / 1e9)
        before = self.source.read_waits()
        return replace(
            before,
            consumer_waited=clock.waited / 1e9,
            consumer_held=clock.held / 1e9,
            stages=(*before.stages, stage),
        )

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
    """A worker of some stage."""


class Ahead:
    """What tasks make of the batches of a source, in their order, made ahead of the loop.

    Parameters
    ----------
    name : str
        Of the stage, for `Waits`.
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
        name: str,
        source: Source,
        begin: Callable[[int, Any], Task],
        *,
        workers: int,
        depth: int,
        open_worker: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self._shared = _Shared(name, source, begin, depth)
        self._threads = [
            _Thread(target=self._shared.work, args=(open_worker,), daemon=True, name="modyn-stage")
            for _ in range(workers)
        ]
        self._end = weakref.finalize(self, _close, self._shared, self._threads, ABANDONED_S)
        for thread in self._threads:
            thread.start()

    @property
    def read_waits(self) -> Callable[[], Waits]:
        """What tells who waited for whom so far."""
        return self._shared.read_waits

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self._shared.take()
        except StopIteration:
            _join(self._threads, None)  # which have nothing left to do
            raise

    def close(self) -> None:
        """Stop, close the source, and join the workers; any number of times."""
        _close(self._shared, self._threads, None)


def _close(shared: _Shared, threads: list[_Thread], timeout_s: float | None) -> None:
    """Stop, and join the workers, unless this is a worker of any stage.

    The finalizer of an iterator, and with it those of the stages before, runs on whatever thread
    collects garbage.  A worker may hold the lock of a stage just then, its own or the one before,
    which the workers that it would join wait for.  Any other thread that gets here for iterators
    that nobody refers to holds none of their locks.
    """
    shared.stop()
    if shared.pid == os.getpid() and not isinstance(threading.current_thread(), _Thread):
        _join(threads, timeout_s)
        shared.slots.clear()


def _join(threads: list[_Thread], timeout_s: float | None) -> None:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
