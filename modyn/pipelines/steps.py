"""What the loop of the orchestrator asks for: answers of policies, and commits to the ledger."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from modyn.arrivals import Arrivals
from modyn.pipelines.backend import Backend
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.decisions import Notebook
from modyn.pipelines.ledger import Progress as Position
from modyn.pipelines.ledger import TransitionRow, canonical
from modyn.pipelines.lookback import RunHistory
from modyn.pipelines.past import past_models
from modyn.pipelines.progress import Progress
from modyn.pipelines.signals import RunSignals
from modyn.policies import PlainContext, Selected, Selection, Trigger
from modyn.policies.answers import due_after
from modyn.policies.context import Answers, PastModel
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    from modyn.orchestrator import Orchestrator, Transition
    from modyn.sampling import Candidates


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Where the steps put down what they did.

    Parameters
    ----------
    backend, clock, progress
        The place of the record, the seconds, and who looks on.
    ascending : bool
        Whether the stream's timestamps ascend, so that its last sample is its newest.
    seed : int
    timestamp_unit : str
    signals : RunSignals
        What policies may read of trainings, where any is recorded.
    history : RunHistory
        The stream, to look back at.
    answers : Answers
        What models say of samples.
    label_delay : int
        How long after its timestamp a label is known, in units of timestamps.
    """

    backend: Backend
    clock: Stopwatch
    progress: Progress
    ascending: bool
    seed: int
    timestamp_unit: str
    signals: RunSignals
    history: RunHistory
    answers: Answers
    label_delay: int

    def known(self) -> Callable[[int], int] | None:
        """Return what says up to where labels are known at a position; None where all are."""
        if self.label_delay == 0:
            return None
        delay, history = self.label_delay, self.history
        return cache(lambda position: history.known(position, delay))

    def trained_until(self, transition: "Transition") -> int | None:
        """Return the newest timestamp that a trigger's model may have learned from."""
        last = transition.last_timestamp
        if self.ascending or last is None or transition.samples == 0:
            return last
        keys = TrainingSet.open(self.backend.trainsets / f"{transition.digest}.set").keys
        return max(last, int(self.history.columns(keys).timestamps.max()))


class TrainingSets(Mapping[int, Selected]):
    """What the triggers of a run chose, by trigger: read from where it is kept, when asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._digests = [row.digest for row in backend.ledger.transitions()]

    def add(self, trigger: int, digest: str) -> None:
        """Note what a trigger chose, which is kept by now."""
        self._digests[trigger:] = [digest]

    def __getitem__(self, trigger: int) -> Selected:
        if not 0 <= trigger < len(self._digests):
            raise KeyError(trigger)
        found = self._backend.training_set(trigger, self._digests[trigger])
        return Selected(found.keys, found.weights)

    def __contains__(self, trigger: object) -> bool:
        return isinstance(trigger, int) and 0 <= trigger < len(self._digests)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._digests)))

    def __len__(self) -> int:
        return len(self._digests)


class Steps:
    """What the orchestrator asks for: the policies, and commits to the ledger."""

    def __init__(self, recorder: "Recorder", trigger: Trigger, selection: Selection) -> None:
        self._recorder = recorder
        self._trigger = trigger
        self._selection = selection
        self._clock = recorder.clock
        self._selected_at: float | None = None
        self._training_sets = TrainingSets(recorder.backend)
        self._models = past_models(recorder.backend.ledger)
        self._notes = Notebook(
            recorder.backend.ledger.decision_count(), recorder.history.timestamp_before
        )
        self.orchestrator: Orchestrator  # from the start of the loop on

    @property
    def models(self) -> tuple[PastModel, ...]:
        """The models so far, as policies see them."""
        return self._models

    def trained(self) -> None:
        """Hear that the training of the last trigger is committed."""
        self._models = past_models(self._recorder.backend.ledger)

    def inform(self, arrivals: Arrivals) -> int | None:
        """Ask the trigger policy."""
        at = self.orchestrator
        context = self._context(
            clock=at.clock,
            position=at.position,
            trigger=at.trigger,
            triggered_at=at.triggered_at,
            informed=len(arrivals),
        )
        if self._recorder.label_delay:
            arrivals = Arrivals(arrivals.keys, arrivals.timestamps)
        with self._clock.stage("policy"), self._notes.asking():
            due = due_after(self._trigger.inform(arrivals, context), type(self._trigger).__name__)
        self._recorder.progress.position(at.position + (len(arrivals) if due is None else due))
        return due

    def select(self, transition: "Transition", candidates: "Candidates") -> object:
        """Ask the selection policy."""
        context = self._context(
            clock=transition.last_timestamp,
            position=transition.position,
            trigger=transition.trigger,
            triggered_at=transition.first,
        )
        with self._clock.stage("select"), self._notes.asking():
            chosen = self._selection.select(candidates, context)
        self._selected_at = time.perf_counter()
        return chosen

    def commit(self, transition: "Transition") -> None:
        """Commit a trigger with the policies' state at it, once its training set is kept."""
        self._recorder.backend.keep(transition.trigger, transition.digest)
        if self._selected_at is not None:  # nobody is asked to choose from nothing
            self._clock.add("write", time.perf_counter() - self._selected_at)
            self._selected_at = None
        row = TransitionRow(
            trigger=transition.trigger,
            first=transition.first,
            position=transition.position,
            first_timestamp=transition.first_timestamp,
            last_timestamp=transition.last_timestamp,
            trained_until=self._recorder.trained_until(transition),
            candidates_first=transition.candidates_first,
            candidates=transition.candidates,
            samples=transition.samples,
            digest=transition.digest,
            trigger_state=canonical(self._trigger.state_dict()),
            selection_state=canonical(self._selection.state_dict()),
        )
        self._recorder.backend.ledger.commit(row, self._clock.take(), self._notes.rows)
        self._notes.committed()
        self._training_sets.add(row.trigger, row.digest)

    def advance(self, position: int) -> None:
        """Commit a mere position."""
        progress = position_of(position, self._trigger, self._selection)
        self._recorder.backend.ledger.advance(progress, self._notes.rows)
        self._notes.committed()

    def _context(
        self,
        *,
        clock: int | None,
        position: int,
        trigger: int,
        triggered_at: int,
        informed: int = 0,
    ) -> PlainContext:
        recorder = self._recorder
        return PlainContext(
            clock=clock,
            position=position,
            trigger=trigger,
            triggered_at=triggered_at,
            seed=recorder.seed,
            timestamp_unit=recorder.timestamp_unit,
            models=self._models,
            label_delay=recorder.label_delay,
            informed=informed,
            recorded=recorder.signals if recorder.signals.names else None,
            training_sets=self._training_sets,
            history=recorder.history,
            answers=recorder.answers,
            notes=self._notes.take,
        )


def position_of(position: int, trigger: Trigger, selection: Selection) -> Position:
    """Return a position with the policies' state at it."""
    return Position(
        position=position,
        trigger_state=canonical(trigger.state_dict()),
        selection_state=canonical(selection.state_dict()),
    )
