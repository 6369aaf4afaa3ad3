"""What a user's functions make of a batch before the loop gets it: decode, then collate.

`decode` works sample by sample, with one function for each field it is given for,
or on whole batches.  A batch becomes a task of some pieces (slices of its
samples), which the threads of a stage (ahead.py) work on; with
`decode_processes` each of these threads has a process that does its pieces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from modyn.errors import BatchError
from modyn.inputs import Ragged
from modyn.loader.ahead import Ahead, Source, Stopped
from modyn.loader.arguments import as_number
from modyn.loader.batch import Batch
from modyn.loader.stacking import Memory, Stacked, join, plain_memory

if TYPE_CHECKING:
    from modyn.loader.children import Children

__all__ = ["Collate", "Decode", "Decoding", "SampleError", "decode_batch", "decode_samples"]

WORKERS_MAX = 1024
PIECES_PER_WORKER = 2  # of a batch: few enough that handing out is cheap, and nobody idles long

Decode = Mapping[str, Callable[[Any], Any]] | Callable[[Batch], Mapping[str, Any]]
Collate = Callable[[Batch], Any]
Values = Mapping[str, Any]  # ndarray, or Ragged for a bytes field


class SampleError(Exception):
    """A function failed on a sample: where in the batch, in which field; the cause is its own."""

    def __init__(self, index: int, field: str) -> None:
        super().__init__(index, field)
        self.index = index
        self.field = field


def decode_samples(
    functions: Mapping[str, Callable[[Any], Any]], values: Values, stopped: Stopped
) -> dict[str, list[Any]]:
    """Return what the function of each field makes of each sample.

    A function gets a memoryview of the bytes of a sample, or an array of a fixed field.  Samples
    come in their order, and the fields of each in that of `functions`, so that the first failure
    does not depend on how a batch is cut.
    """
    rows = {name: _Rows(values[name]) for name in functions}
    count = len(next(iter(rows.values())))
    made: dict[str, list[Any]] = {name: [] for name in functions}
    for index in range(count):
        if stopped():
            return made
        for name, function in functions.items():
            try:
                made[name].append(function(rows[name][index]))
            except BaseException as error:
                raise SampleError(index, name) from error
    return made


def decode_batch(function: Callable[[Batch], Mapping[str, Any]], batch: Batch) -> dict[str, Any]:
    """Return what a function makes of a batch, which must be values by name."""
    made = function(batch)
    if not isinstance(made, Mapping) or not all(isinstance(name, str) for name in made):
        raise TypeError(
            f"decode of a batch must return a mapping of names to values, got {_brief(made)}"
        )
    return dict(made)


class _Rows:
    """The samples of a field, one by one."""

    def __init__(self, value: npt.NDArray[Any] | Ragged) -> None:
        if isinstance(value, Ragged):
            self._ends = value.offsets.tolist()
            self._bytes = value.values.data
            self._array = None
        else:
            self._array = value

    def __len__(self) -> int:
        return len(self._ends) - 1 if self._array is None else len(self._array)

    def __getitem__(self, index: int) -> Any:
        if self._array is None:
            return self._bytes[self._ends[index] : self._ends[index + 1]]
        return self._array[index, ...]


def cut(value: npt.NDArray[Any] | Ragged, first: int, last: int) -> Any:
    """Return samples first to last, without a copy of what they hold."""
    if not isinstance(value, Ragged):
        return value[first:last]
    offsets = value.offsets[first : last + 1]
    return Ragged(value.values[offsets[0] : offsets[-1]], offsets - offsets[0])


@dataclass(frozen=True)
class Decoding:
    """The plan of a stage: which functions, and who calls them.

    Parameters
    ----------
    decode, decode_workers, decode_processes, collate
        As of the Loader.
    children : Children
        Where processes come from; None: the threads decode.
    memory : callable
        Where stacked values lie.
    """

    decode: Decode | None
    collate: Collate | None
    workers: int
    children: Children | None = None
    memory: Memory = plain_memory

    @classmethod
    def of(
        cls,
        decode: Decode | None,
        decode_workers: int,
        decode_processes: bool,
        collate: Collate | None,
        fields: tuple[str, ...],
    ) -> Decoding | None:
        """Return the plan, checked; None if there is nothing to do."""
        workers = as_number("decode_workers", decode_workers, 1, WORKERS_MAX)
        _check_decode(decode, fields)
        if collate is not None and not callable(collate):
            raise TypeError(f"collate must be callable with a batch, got {_brief(collate)}")
        if decode_processes and decode is None:
            raise ValueError("decode_processes=True needs decode=, which the processes are to call")
        if decode is None and collate is None:
            return None
        if isinstance(decode, Mapping):
            decode = dict(decode)  # what the caller does to it later changes nothing
        if decode is None or not decode_processes:
            return cls(decode, collate, workers)
        from modyn.loader.children import Children

        return cls(decode, collate, workers, Children(decode))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields whose samples are decoded one by one."""
        return tuple(self.decode) if isinstance(self.decode, Mapping) else ()

    def begin(
        self, source: Source, *, depth: int, first: int, stride: int, memory: Memory | None = None
    ) -> Ahead:
        """Start to decode the batches of a source, which have numbers first, first + stride, ..."""
        plan = self if memory is None else replace(self, memory=memory)
        return Ahead(
            "decode",
            source,
            lambda number, batch: _Task(plan, first + stride * number, batch),
            workers=self.workers,
            depth=depth,
            open_worker=self.children.child if self.children else contextlib.nullcontext,
        )


def _check_decode(decode: Decode | None, fields: tuple[str, ...]) -> None:
    if decode is None or callable(decode):
        return
    if not isinstance(decode, Mapping):
        raise TypeError(
            "decode must be a mapping of fields to functions, or a function of a batch, "
            f"got {_brief(decode)}"
        )
    if not decode:
        raise ValueError("decode names no field; leave it out to take batches as they are")
    for name, function in decode.items():
        if name not in fields:
            raise ValueError(f"decode: no field {name!r} in the batches; they have {fields}")
        if not callable(function):
            raise TypeError(f"decode of field {name!r} must be callable, got {_brief(function)}")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass
class _Task:
    """One batch: pieces are slices of its samples, or the whole of it."""

    plan: Decoding
    number: int
    batch: Batch
    pieces: int = 1
    _values: Values = field(default_factory=dict)  # what the functions of fields are to get
    _made: list[Mapping[str, Any]] = field(default_factory=list)  # by piece

    def __post_init__(self) -> None:
        decode = self.plan.decode
        if isinstance(decode, Mapping):
            self._values = {name: self.batch.numpy(name) for name in decode}
            if self.plan.workers > 1:
                pieces = PIECES_PER_WORKER * self.plan.workers
                self.pieces = max(1, min(len(self.batch), pieces))
        self._made = [{}] * self.pieces

    def do(self, piece: int, worker: Any, stopped: Stopped) -> None:
        decode = self.plan.decode
        if decode is None:
            return
        first, last = (len(self.batch) * at // self.pieces for at in (piece, piece + 1))
        try:
            if callable(decode):
                self._made[piece] = (
                    worker.decode_batch(self.batch, stopped)
                    if worker is not None
                    else decode_batch(decode, self.batch)
                )
                return
            values = {name: cut(value, first, last) for name, value in self._values.items()}
            self._made[piece] = (
                worker.decode_samples(values, stopped)
                if worker is not None
                else decode_samples(decode, values, stopped)
            )
        except SampleError as error:
            raise self._of_sample(first + error.index, error.field, error) from error.__cause__
        except BaseException as error:
            raise self._of_batch("decode", error) from error

    def result(self) -> Any:
        made: dict[str, Any] = {}
        if callable(self.plan.decode):
            made = dict(self._made[0])
        elif self.plan.decode is not None:
            for name in self.plan.decode:
                pieces: list[Stacked | list[Any]] = [piece[name] for piece in self._made]
                made[name] = join(pieces, self.plan.memory)
        batch = self.batch.with_values(made) if made else self.batch
        if self.plan.collate is None:
            return batch
        try:
            return self.plan.collate(batch)
        except BaseException as error:
            raise self._of_batch("collate", error) from error

    def _of_sample(self, index: int, name: str, error: SampleError) -> BatchError:
        key = int(self.batch.own()["keys"][index])
        cause = error.__cause__
        return BatchError(
            f"batch {self.number}: decode of field {name!r} of key {key} failed: "
            f"{type(cause).__name__}: {cause}",
            batch=self.number,
            key=key,
            field=name,
        )

    def _of_batch(self, what: str, error: BaseException) -> BatchError:
        return BatchError(
            f"batch {self.number}: {what} failed: {type(error).__name__}: {error}",
            batch=self.number,
        )
