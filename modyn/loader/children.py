"""Processes that decode, for functions that hold the interpreter's lock.

A worker thread of the decode stage has a process, asks it for one piece at a
time, and waits.  Both map two memfds: in one the thread lays the samples, in the
other the process lays the arrays it made; only a description of what lies where,
and values that are no arrays, go through a pipe.  A memfd has no name: it is
gone with the last of the two that maps it, however they end.

Processes are started by spawn, never by a fork of this process, which has
threads.  They outlast an iteration: a loader keeps them for the next one and
ends them when it goes.  One that dies is an error of the batch it was at.  One
whose parent has died ends within a second or two, also in the middle of a call.

Functions travel by reference, as module and name: nothing that comes from a
file is unpickled.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import select
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection, reduction
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.errors import ClosedError
from modyn.inputs import Ragged
from modyn.loader.ahead import Stopped
from modyn.loader.batch import Batch, RaggedTensor
from modyn.loader.decode import Decode, SampleError, decode_batch, decode_samples
from modyn.loader.stacking import Stacked, is_tensor, stack

__all__ = ["Children"]

ALIGNMENT = 64
SLICE_MS = 100  # of a wait for an answer
GRACE_S = 1.0  # that a process gets to end what it is at, when nobody wants it any more
WATCH_S = 1.0  # how often a process looks whether its parent is still there


# Memory that two processes share ----------------------------------------------------------------


class Arena:
    """Memory without a name, which one process lays arrays in and another reads."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = os.memfd_create("modyn-decode") if fd is None else fd
        self._end = weakref.finalize(self, os.close, self._fd)
        self._map: mmap.mmap | None = None
        self._size = 0
        self._used = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _arena_of, (reduction.DupFd(self._fd),)  # for a process that is being spawned

    def clear(self) -> None:
        """Forget all arrays; the next ones are laid over them."""
        self._used = 0

    def put(self, array: npt.NDArray[Any]) -> int:
        """Lay a copy of an array, and return where it begins."""
        at = -(-self._used // ALIGNMENT) * ALIGNMENT
        self._used = at + array.nbytes
        if self._used > self._size:
            size = max(self._used, 2 * self._size, mmap.PAGESIZE)
            os.ftruncate(self._fd, size)
            self._remap(size)
        self.array(at, array.shape, array.dtype)[...] = array
        return at

    def array(self, at: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return the array that was laid there: the memory itself, until clear()."""
        count = int(np.prod(shape, dtype=np.int64))
        if count == 0 or dtype.itemsize == 0:
            return np.empty(shape, dtype)
        if at + count * dtype.itemsize > self._size:
            self._remap(os.fstat(self._fd).st_size)
        assert self._map is not None  # just mapped  # noqa: S101
        return np.frombuffer(self._map, dtype, count, at).reshape(shape)

    def _remap(self, size: int) -> None:
        self._map = mmap.mmap(self._fd, size)  # the one before goes with the last array over it
        self._size = size


def _arena_of(fd: Any) -> Arena:
    return Arena(fd.detach())


@dataclass(frozen=True)
class _Laid:
    """An array, or what is made of arrays, that lies in an arena."""

    kind: str  # "array", "tensor", "stacked", "ragged", "ragged tensor", "list", "tuple", "dict"
    content: Any


def lay(value: Any, arena: Arena) -> Any:
    """Return a description of value, whose arrays and tensors are laid in the arena."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _Laid("array", (arena.put(value), value.shape, value.dtype))
    if is_tensor(value) and value.is_cpu and str(value.layout) == "torch.strided":
        return _Laid("tensor", _lay_tensor(value, arena))
    if isinstance(value, Stacked):
        return _Laid("stacked", lay(value.rows, arena))
    if isinstance(value, Ragged | RaggedTensor):
        kind = "ragged" if isinstance(value, Ragged) else "ragged tensor"
        return _Laid(kind, (lay(value.values, arena), lay(value.offsets, arena)))
    if type(value) in (list, tuple):
        return _Laid(type(value).__name__, [lay(item, arena) for item in value])
    if type(value) is dict:
        return _Laid("dict", {name: lay(item, arena) for name, item in value.items()})
    return value


def _lay_tensor(tensor: Any, arena: Arena) -> tuple[Any, ...]:
    import torch

    cells = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return arena.put(cells), cells.shape, tuple(tensor.shape), tensor.dtype


def lift(laid: Any, arena: Arena, *, copy: bool) -> Any:
    """Return the value of a description; its arrays are those of the arena, or copies."""
    if not isinstance(laid, _Laid):
        return laid
    content = laid.content
    match laid.kind:
        case "array":
            array = arena.array(*content)
            return array.copy() if copy else array
        case "tensor":
            return _lift_tensor(content, arena, copy)
        case "stacked":
            return Stacked(lift(content, arena, copy=copy))
        case "ragged":
            return Ragged(*(lift(part, arena, copy=copy) for part in content))
        case "ragged tensor":
            return RaggedTensor(*(lift(part, arena, copy=copy) for part in content))
        case "dict":
            return {name: lift(item, arena, copy=copy) for name, item in content.items()}
        case _:
            items = [lift(item, arena, copy=copy) for item in content]
            return tuple(items) if laid.kind == "tuple" else items


def _lift_tensor(content: tuple[Any, ...], arena: Arena, copy: bool) -> Any:
    import torch

    at, size, shape, dtype = content
    cells = arena.array(at, size, np.dtype(np.uint8))
    if cells.size == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(cells.copy() if copy else cells).view(dtype).reshape(shape)


# In the process ---------------------------------------------------------------------------------


def serve(pipe: connection.Connection, asked: Arena, answered: Arena, decode: Decode) -> None:
    """Answer what is asked until nobody can ask any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends this one
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send("ready")
        while True:
            request = lift(pipe.recv(), asked, copy=False)
            pipe.send_bytes(_answer(request, answered, decode))


def _end_with_parent() -> None:
    """End this process soon after its parent, also when a call never returns.

    The sentinel tells at once, unless a fork of the parent keeps it open: then the system does,
    which has given this process another parent.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None  # this process was spawned  # noqa: S101
    while os.getppid() == parent.pid:
        if connection.wait([parent.sentinel], WATCH_S):
            break
    os._exit(1)


def _made(request: Any, decode: Decode) -> Any:
    if callable(decode):
        count, own, values = request
        return decode_batch(decode, Batch.of_values(count, own, values))
    made = decode_samples(decode, request, lambda: False)
    return {name: stack(values) for name, values in made.items()}


def _answer(request: Any, arena: Arena, decode: Decode) -> Any:
    """Return what goes through the pipe: a description, or (index, field, error)."""
    arena.clear()
    try:
        made = _made(request, decode)
    except SampleError as error:
        return _pickled((error.index, error.field, _portable(error.__cause__)))
    except BaseException as error:
        return _pickled((None, None, _portable(error)))
    try:
        return _pickled(lay(made, arena))
    except Exception as error:
        error.add_note("What decode returned cannot cross to another process.")
        return _pickled((None, None, _portable(error)))


def _portable(error: BaseException | None) -> BaseException:
    """Return an error that survives the pipe, with its traceback as a note."""
    assert error is not None  # a SampleError has a cause  # noqa: S101
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        error.add_note(f"In the process that decoded:\n{text}")
        reduction.ForkingPickler.loads(_pickled(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note(f"In the process that decoded:\n{text}")
    return error


def _pickled(value: Any) -> Any:
    return reduction.ForkingPickler.dumps(value)


# In the thread that asks ------------------------------------------------------------------------


class _Child:
    """A process that decodes, and what is shared with it."""

    def __init__(self, decode: Decode) -> None:
        context = multiprocessing.get_context("spawn")
        self._asked, self._answered = Arena(), Arena()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, self._asked, self._answered, decode),
            daemon=True,
            name="modyn-decode",
        )
        try:
            self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()
        # It is ended here, and only here: a fork of this process that ends as usual would
        # otherwise end it, too, as one of its own.
        getattr(multiprocessing.process, "_children", set()).discard(self._process)
        self._poll = select.poll()
        self._poll.register(self._pipe.fileno(), select.POLLIN)
        self._poll.register(self._process.sentinel, select.POLLIN)
        self._is_ready = False  # it has come up
        self.is_idle = True  # it has answered all it was asked

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def decode_samples(self, values: Mapping[str, Any], stopped: Stopped) -> Mapping[str, Any]:
        """Return a stack or a list by field, as decode_samples() there."""
        made: Mapping[str, Any] = self._ask(dict(values), stopped)
        return made

    def decode_batch(self, batch: Batch, stopped: Stopped) -> Mapping[str, Any]:
        """Return values by name, as decode_batch() there."""
        values = {name: batch.numpy(name) for name in batch}
        made: Mapping[str, Any] = self._ask((len(batch), batch.own(), values), stopped)
        return made

    def _ask(self, request: Any, stopped: Stopped) -> Any:
        self.is_idle = False
        if not self._is_ready:
            self._receive(stopped)
            self._is_ready = True
        self._asked.clear()
        try:
            self._pipe.send(lay(request, self._asked))
        except (BrokenPipeError, ConnectionResetError):
            self._fail()
        answer = self._receive(stopped)
        self.is_idle = True
        if not isinstance(answer, tuple):
            return lift(answer, self._answered, copy=True)
        index, name, error = answer
        if index is None:
            raise error
        raise SampleError(index, name) from error

    def _receive(self, stopped: Stopped) -> Any:
        """Return what comes next; an error when the process ends, or nobody waits any more."""
        given_up: float | None = None
        while not self._poll.poll(SLICE_MS):
            if given_up is None and stopped():
                given_up = time.monotonic() + GRACE_S
            if given_up is not None and time.monotonic() > given_up:
                raise ClosedError("the iteration was closed")
            if not self._process.is_alive():
                break
        try:
            if self._pipe.poll():
                return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            pass
        self._fail()
        return None

    def _fail(self) -> None:
        self._process.join(GRACE_S)
        code = self._process.exitcode
        if code is None:
            how = "closed its pipe"
        elif code < 0:
            how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
        else:
            how = f"ended with status {code}"
        hint = ""
        if not self._is_ready:
            hint = (
                " before it had come up; a script that uses decode_processes=True must begin its "
                'work under `if __name__ == "__main__":`, since each process imports it'
            )
        raise RuntimeError(f"the process {self._process.pid} that decodes {how}{hint}")

    def hang_up(self) -> None:
        """Let the process end when it has answered."""
        self._pipe.close()

    def end(self) -> None:
        """Have the process end: in a moment when it is idle, else by force."""
        self.hang_up()
        if not self.is_idle:
            self._process.kill()
        self._process.join(GRACE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()


class Children:
    """The processes of a loader: started when they are needed, kept for the next iteration."""

    def __init__(self, decode: Decode) -> None:
        _check_travels(decode)
        self._decode = decode
        self._state = _Idle()
        self._end = weakref.finalize(self, self._state.end)

    def __reduce__(self) -> tuple[Any, ...]:
        return Children, (self._decode,)  # processes do not travel

    def idle(self) -> list[int]:
        """Return the numbers of the processes that wait for work."""
        return self._state.pids()

    @contextlib.contextmanager
    def child(self) -> Iterator[_Child]:
        """Give a process to a thread for as long as it works."""
        if multiprocessing.current_process().daemon:
            raise RuntimeError(
                "decode_processes=True needs processes of its own, which a daemonic process "
                "(a worker of torch's DataLoader, say) may not start: decode with threads there"
            )
        if not self._state.is_ours():  # a fork, which has none
            self._state = _Idle()
            self._end = weakref.finalize(self, self._state.end)
        child = self._state.take() or _Child(self._decode)
        try:
            yield child
        finally:
            self._state.give(child)


class _Idle:
    """Processes that have nothing to do."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._children: list[_Child] = []
        self._is_ended = False

    def is_ours(self) -> bool:
        return self._pid == os.getpid()

    def pids(self) -> list[int]:
        with self._lock:
            return [child.pid for child in self._children]

    def take(self) -> _Child | None:
        with self._lock:
            return self._children.pop() if self._children else None

    def give(self, child: _Child) -> None:
        with self._lock:
            keep = child.is_idle and not self._is_ended
            if keep:
                self._children.append(child)
        if not keep:
            child.end()

    def end(self) -> None:
        if not self.is_ours():
            return  # they are the parent's
        with self._lock:
            self._is_ended = True
            children, self._children = self._children, []
        for child in children:
            child.hang_up()  # so that they end beside each other
        for child in children:
            child.end()


def _check_travels(decode: Decode) -> None:
    try:
        _pickled(decode)
    except Exception as error:
        raise TypeError(
            "decode_processes=True needs functions that another process can import, defined at "
            f"the top of a module: {error}; or decode with threads"
        ) from error
