"""The loop of a pipeline: along the stream, from trigger to trigger.

The loop itself is C (csrc/orchestrator). It reads arrivals from a dataset's columns, or from a
database, asks the steps given here what to do with them, writes training sets, and stops at each
trigger with everything committed, so that the caller trains.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.arrivals import Arrivals
from modyn.policies.answers import due_after, selected
from modyn.sampling import Candidates
from modyn.sampling.candidates import living

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.metadata.source import Source

__all__ = ["Orchestrator", "Steps", "Transition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One trigger: which samples it has, and what was chosen to train on.

    Positions count the samples of the stream; ranges of them are half-open.

    Parameters
    ----------
    trigger : int
        Its index, from 0.
    first, position : int
        Its new samples are those from `first` to `position`; there may be none.
    first_timestamp : int or None
        Timestamp of the first new sample; None when there are none.
    last_timestamp : int or None
        Timestamp of the last sample before `position`; None at position 0.
    candidates_first, candidates : int
        Where its candidates begin, and how many positions they have. They end at `position`, or
        before it, where labels come late.
    digest : str
        The name of its training set, 64 hexadecimal digits; empty before it was written.
    samples : int
        The size of its training set; 0 before it was written.
    """

    trigger: int
    first: int
    position: int
    first_timestamp: int | None
    last_timestamp: int | None
    candidates_first: int
    candidates: int
    digest: str = ""
    samples: int = 0


class Steps(Protocol):
    """What the loop asks for. An exception ends `Orchestrator.next` and surfaces as it is."""

    def inform(self, arrivals: Arrivals) -> int | None:
        """Ask the trigger policy; `Orchestrator.position` is the place before `arrivals`."""

    def select(self, transition: Transition, candidates: Candidates) -> object:
        """Ask the selection policy: a `Selected`, keys, or a pair (keys, weights or None).

        Called where there is at least one candidate; else the training set is empty.
        """

    def commit(self, transition: Transition) -> None:
        """Commit the transition with the state of the policies, all or nothing.

        After a failure it is called again for the same transition, and must then be harmless
        if the commit had happened.
        """

    def advance(self, position: int) -> None:
        """Record a position between triggers, with the state of the policies at it."""


class Orchestrator:
    """Goes along a stream of samples and commits each trigger.

    A step that raised is tried again by the next call of `next`; or leave the object, and make
    another from what was committed last.

    Parameters
    ----------
    view : Dataset or View
        The samples. What is appended later is not seen.
    order : uint64, shape (n,), or None
        The keys in stream order; None for arrival order. It must not change meanwhile.
    steps : Steps
        What to do.
    tail_triggers : int or None
        Of how many former triggers the samples are candidates too; None for all so far.
    trainset_directory : path
        Where training sets are written; it must exist.
    block_count : int
        Samples per block of arrivals. It never changes what fires.
    position, trigger : int
        Where to go on, and the index of the trigger that is sought from there.
    trigger_starts : sequence of int
        The first positions of the triggers 0 to `trigger`, the one sought included: 0, and where
        each trigger before it ended.
    advance_every : int
        Blocks without a trigger from one `Steps.advance` to the next; the end of the stream is
        recorded in any case.
    trigger_name, selection_name : str
        How errors call the policies.
    known : callable, optional
        Returns up to which position samples can be learned from, at a position of the stream: at
        most that one, and the same or further for a later one. The samples behind it are
        candidates of the first trigger that finds them known. All samples are, if None.
    source : Source or None
        Where arrivals and candidates are read instead of the view: the same samples in the order
        of `order`, of which there may be fewer. The view still says which samples are erased.

    Raises
    ------
    ValueError
        When the place to go on from contradicts itself.
    """

    def __init__(
        self,
        view: "Dataset | _core.View",
        *,
        order: npt.NDArray[np.uint64] | None = None,
        steps: Steps,
        tail_triggers: int | None,
        trainset_directory: str | os.PathLike[str],
        block_count: int = 65_536,
        position: int = 0,
        trigger: int = 0,
        trigger_starts: Sequence[int] = (0,),
        advance_every: int = 64,
        trigger_name: str = "the trigger policy",
        selection_name: str = "the selection policy",
        source: "Source | None" = None,
        known: Callable[[int], int] | None = None,
    ) -> None:
        for name, value, least in (
            ("tail_triggers", tail_triggers, 0),
            ("block_count", block_count, 1),
            ("position", position, 0),
            ("advance_every", advance_every, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if len(trigger_starts) != trigger + 1:
            raise ValueError(
                f"trigger_starts must name the first positions of triggers 0 to {trigger}, which "
                f"is {trigger + 1} numbers, got {len(trigger_starts)}"
            )
        self._view = view if isinstance(view, _core.View) else view.view
        self._order = order
        self._source = source
        self._steps = steps
        self._names = (trigger_name, selection_name)
        self._known = known
        self._tail_triggers = tail_triggers
        self._starts = list(trigger_starts)
        self._core = _core.Orchestrator(
            self._view,
            order,
            _Calls(self),
            os.fspath(trainset_directory),
            block_count,
            -1 if tail_triggers is None else tail_triggers,
            position,
            np.asarray(trigger_starts, dtype=np.uint64),
            advance_every,
            self._names,
            None if source is None else source.capsule,
            known is not None,
        )

    def next(self) -> Transition | None:
        """Go on to the next trigger and commit it, or to the end of the stream: then None.

        Raises
        ------
        TypeError, ValueError
            Naming a policy and its wrong answer.
        Exception
            Whatever a step raised.
        """
        facts = self._core.next()
        return None if facts is None else self._transition(*facts)

    @property
    def position(self) -> int:
        """How many samples of the stream were consumed."""
        return self._core.position

    @property
    def trigger(self) -> int:
        """The index of the trigger that is sought."""
        return self._core.trigger

    @property
    def triggered_at(self) -> int:
        """The position of the trigger before it, 0 if there was none."""
        return self._starts[self.trigger]

    @property
    def clock(self) -> int | None:
        """The timestamp of the last sample consumed, None before the first."""
        return self._timestamp_before(self.position)

    def _timestamp_before(self, position: int) -> int | None:
        return None if position == 0 else self._core.timestamp_at(position - 1)

    def _candidates(self, transition: Transition) -> Candidates:
        first = transition.candidates_first
        last = first + transition.candidates
        tail = transition.trigger if self._tail_triggers is None else self._tail_triggers
        oldest = max(0, transition.trigger - tail)
        triggers = range(oldest, transition.trigger + 1)
        starts = [(i, self._known_at(self._starts[i])) for i in triggers]
        if self._source is not None:
            return Candidates.from_source(
                self._source, first=first, last=last, starts=starts, view=self._view
            )
        return Candidates.from_dataset(
            self._view, order=self._order, first=first, last=last, starts=starts
        )

    def _known_at(self, position: int) -> int:
        return position if self._known is None else self._known(position)

    def _committed(self, transition: Transition) -> None:
        """Remember where the next trigger's samples begin."""
        self._starts[transition.trigger + 1 :] = [transition.position]

    def _transition(
        self,
        trigger: int,
        first: int,
        position: int,
        candidates_first: int,
        candidates_last: int,
        samples: int,
        digest: str,
    ) -> Transition:
        return Transition(
            trigger=trigger,
            first=first,
            position=position,
            first_timestamp=None if first == position else self._core.timestamp_at(first),
            last_timestamp=self._timestamp_before(position),
            candidates_first=candidates_first,
            candidates=candidates_last - candidates_first,
            digest=digest,
            samples=samples,
        )


def _refuse_erased(view: _core.View, keys: npt.NDArray[np.uint64], name: str) -> None:
    """Raise if a policy has chosen, from a memory of its own, what was erased since."""
    wrong = keys[~living(view, keys)]  # a key that never was is refused by the core
    if len(wrong):
        raise ValueError(f"{name} selected sample {wrong[0]}, which is erased")


class _Calls:
    """What the C loop calls, with arrays and numbers only."""

    def __init__(self, face: Orchestrator) -> None:
        self.face = face
        self.block: Arrivals  # from the first arrive on

    def arrive(self, keys: Any, timestamps: Any, labels: Any) -> None:
        self.block = Arrivals(keys, timestamps, labels)

    def inform(self, offset: int) -> int | None:
        arrivals = self.block if offset == 0 else self.block[offset:]
        return due_after(self.face._steps.inform(arrivals), self.face._names[0])

    def select(self, *facts: Any) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64] | None]:
        face = self.face
        transition = face._transition(*facts)
        candidates = face._candidates(transition)
        answer = selected(face._steps.select(transition, candidates), face._names[1])
        _refuse_erased(face._view, answer.keys, face._names[1])
        return answer.keys, answer.weights

    def commit(self, *facts: Any) -> None:
        transition = self.face._transition(*facts)
        self.face._steps.commit(transition)
        self.face._committed(transition)

    def advance(self, position: int) -> None:
        self.face._steps.advance(position)

    def known(self, position: int) -> int:
        return self.face._known_at(position)
