"""Where a loader is, so that a training that was interrupted goes on there.

A state is a dictionary of JSON values: `version`; `plan`, the settings that decide which samples
come when; and the place, which is

    epoch       the epoch (the first one of a pass over several)
    batch       how many of its global batches were delivered; the next one's number
    complete    whether the iteration was told its end

Threads, prefetch, decode workers, ranks and the like are not in it: they change no batch.

A loader that loaded a state goes on as the one that gave it would have.  Taken behind batch b it
goes on with batch b + 1; behind the last batch, with an iteration that ends at once, so that what
stands behind the loop is done; and when the loop was told the end, with a new iteration.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Cursor", "Progress", "check_plan", "describe", "read_place"]

VERSION = 1


class Progress:
    """How far one iteration is.

    It is written by the threads that iterate, and read by any, also by a child that was forked
    at a bad moment: reading takes no lock.
    """

    def __init__(self, epoch: int, batch: int, *, complete: bool = False) -> None:
        self._lock = threading.Lock()
        self.epoch = epoch
        self.place = batch, complete

    def delivered(self) -> None:
        """Count a batch that comes to the loop."""
        with self._lock:
            self.place = self.place[0] + 1, False

    def ended(self) -> None:
        """Say that the loop was told the end."""
        with self._lock:
            self.place = self.place[0], True


class Board(Protocol):
    """What tells other processes where the next iteration begins: torch_dataset.Board."""

    @property
    def turn(self) -> int: ...

    @property
    def place(self) -> tuple[int, int]: ...

    @property
    def is_used(self) -> bool: ...

    def write(self, epoch: int, first: int) -> int: ...

    def use(self, user: int) -> bool: ...


class Cursor:
    """The place of a loader: where the iteration begun last is, or where the next one begins."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch  # of the next iteration, unless it goes on with one
        self.progress = Progress(epoch, 0)
        self._waits = True  # the next iteration takes `progress` over
        self._board: Board | None = None
        self._turn = 0  # of the board, when this process last wrote or read it

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration run this epoch: what is left of it, if that was loaded."""
        self._leave_used()
        batch, complete = self.progress.place
        if epoch != self.progress.epoch:
            self.progress, self._waits = Progress(epoch, 0), True
        elif self._waits and complete:  # the loop that knows its epochs is at this one's end
            self.progress = Progress(epoch, batch)
        self.epoch = epoch
        self._tell()

    def load(self, epoch: int, batch: int, complete: bool) -> None:
        """Let the next iteration go on there."""
        self._wait_at(epoch, batch, complete)
        self._tell()

    def next_first(self) -> int:
        """Return the batch at which the next iteration begins."""
        self._leave_used()
        return self._first()

    def follow(self, progress: Progress) -> None:
        """Be where this iteration is, which has begun."""
        self.progress, self._waits = progress, False

    # ----- workers -----

    def share(self, board: Board) -> None:
        """Tell other processes from now on where the next iteration begins."""
        self._board = board
        self._tell()

    @property
    def is_shared(self) -> bool:
        return self._board is not None

    def begin_share(self, user: int) -> int:
        """Return the batch at which the workers of one iteration begin, in each of them.

        Workers that persist go on to the first batch after they began at a place that was loaded.
        Others are told apart by their user: when they find that a place is taken, they cannot know
        which epoch was meant.
        """
        board = self._board
        if board is not None and board.turn != self._turn:
            self._turn = board.turn
            self._wait_at(*board.place)
        first = self._first()
        if first > 0 and board is not None and not board.use(user):
            raise RuntimeError(
                f"an iteration of workers began at batch {first} of epoch {self.epoch}, which was "
                "loaded, and now others would begin there again: call set_epoch before each "
                "iteration of a DataLoader"
            )
        self.follow(Progress(self.epoch, first))
        return first

    def _tell(self) -> None:
        if self._board is not None:
            self._turn = self._board.write(self.epoch, self._first())

    def _wait_at(self, epoch: int, batch: int, complete: bool = False) -> None:
        self.progress = Progress(epoch, batch, complete=complete)
        self._waits = True
        self.epoch = epoch

    def _first(self) -> int:
        batch, complete = self.progress.place
        return batch if self._waits and not complete else 0

    def _leave_used(self) -> None:
        """Workers went on at the place that was loaded: it waits no more."""
        if self._board is not None and self._board.is_used:
            self._waits = False

    # An iteration does not travel; a place that the next one takes over does.
    def __getstate__(self) -> dict[str, Any]:
        waiting = (self.progress.epoch, *self.progress.place) if self._waits else None
        return {
            "epoch": self.epoch,
            "waiting": waiting,
            "board": self._board,
            "turn": self._turn,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["epoch"])  # type: ignore[misc]
        if state["waiting"] is not None:
            self._wait_at(*state["waiting"])
        self._board, self._turn = state["board"], state["turn"]


def describe(plan: Mapping[str, Any], epoch: int, batch: int, complete: bool) -> dict[str, Any]:
    """Return a state."""
    return {
        "version": VERSION,
        "plan": dict(plan),
        "epoch": epoch,
        "batch": batch,
        "complete": complete,
    }


def check_plan(state: object, plan: Mapping[str, Any]) -> None:
    """Refuse the state of a loader whose batches are others than those of this plan."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what state_dict returned, got {type(state).__name__}")
    if state.get("version") != VERSION:
        raise ValueError(
            f"the state is of version {state.get('version')!r}; this modyn reads {VERSION}"
        )
    then = state.get("plan")
    if not isinstance(then, Mapping):
        raise ValueError(f"plan must be a dictionary in the state, got {then!r}")
    for name in [*plan, *(name for name in then if name not in plan)]:
        was, here = then.get(name), plan.get(name)
        if was != here or type(was) is not type(here):
            raise ValueError(
                f"{name} is {here!r} here and was {was!r} when the state was taken: "
                f"the batches would be others; make the loader with {name} as it was"
            )


def read_place(state: Mapping[str, Any], batch_count: float) -> tuple[int, int, bool]:
    """Return epoch, batch and whether it was complete, all in their ranges."""
    epoch = _number(state, "epoch", 2**64 - 1)
    batch = _number(state, "batch", batch_count)
    complete = state.get("complete")
    if not isinstance(complete, bool):
        raise ValueError(f"complete must be true or false in the state, got {complete!r}")
    if complete and batch != batch_count:
        raise ValueError(f"the state is complete with {batch} of {batch_count} batches")
    return epoch, batch, complete


def _number(state: Mapping[str, Any], name: str, high: float) -> int:
    value = state.get(name)
    if type(value) is not int or not 0 <= value <= high:
        raise ValueError(f"{name} must be 0 to {high} in the state, got {value!r}")
    return value
