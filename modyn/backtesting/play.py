"""A policy played over a recorded stream: the real class, informed as in a run.

What it asks of models is answered by those that were recorded.  At a trigger whose training was
not, the nearest one stands in; from where the policy first looks at such a model on, what it does
is an estimate, and the trainings that it asks for then are none that it would do for certain.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

import numpy as np

from modyn.arrivals import Arrivals
from modyn.backtesting.lookback import TapeHistory
from modyn.backtesting.matrix import Matrix
from modyn.backtesting.scoring import Schedule
from modyn.errors import ConfigError
from modyn.policies import PlainContext, Trigger
from modyn.policies.answers import due_after
from modyn.policies.context import Answers, Context, PastModel
from modyn.policies.scores import Question

__all__ = ["Played", "Player"]

BLOCK_COUNT = 65_536  # samples of a block, as in a run
MEMORY_BYTES = 1 << 29  # of answers that are remembered
QUESTION_BYTES = 2048  # of one, about, but for the keys that it names and an array in answer

Answer = TypeVar("Answer")


class Player:
    """Plays policies over one recording.

    Parameters
    ----------
    matrix : Matrix
        The recording.
    answers : Answers, optional
        What its models say of samples.
    """

    def __init__(self, matrix: Matrix, answers: Answers | None = None) -> None:
        self.matrix = matrix
        self._answers = answers
        self._history = TapeHistory(matrix.tape)
        self.scores: Remembered | None = Remembered()
        config = matrix.run.identity["config"]
        pipeline = config["pipeline"]
        self._seed = int(pipeline["seed"])
        self.delay = int(config.get("data", {}).get("label_delay", 0))
        self.most: int | None = pipeline["maximum_triggers"]

    def play(self, policy: Trigger) -> Schedule:
        """Return where a policy fires.

        Raises
        ------
        ConfigError
            When it fires at one place for ever, or answers what no policy may.
        """
        played = self.fresh(policy)
        self.follow(played, until=len(self.matrix.tape))
        models = played.models
        return Schedule(places=np.array(models.fired, dtype=np.int64), certain=models.certain)

    def fresh(self, policy: Trigger) -> "Played":
        """Return a policy at the beginning of the stream."""
        return Played(policy=copy.deepcopy(policy), models=_Models(self.matrix))

    def follow(self, played: "Played", *, until: int) -> None:
        """Inform a policy of the first so many samples."""
        models, place, end = played.models, 0, 0
        until = min(until, len(self.matrix.tape))
        while place < until:
            if place == end:
                end = min(place + BLOCK_COUNT, until)
            due = self._inform(played.policy, models, place, end)
            if due is None:
                place = end
                continue
            place += due
            models.fired.append(place)
            if self.most is not None and len(models.fired) >= self.most:
                break

    def context(self, models: "_Models", place: int, end: int) -> PlainContext:
        """Return what a policy sees before the samples from `place` to `end`."""
        tape = self.matrix.tape
        return PlainContext(
            clock=int(tape.arrivals.timestamps[place - 1]) if place else None,
            position=tape.position(place),
            trigger=len(models.fired),
            triggered_at=tape.position(models.fired[-1]) if models.fired else 0,
            seed=self._seed,
            timestamp_unit=tape.unit,
            models=models,
            label_delay=self.delay,
            informed=end - place,
            history=self._history,
            answers=self._answers,
            scores=self.scores,
        )

    def context_of(self, row: int, place: int) -> PlainContext:
        """Return what a policy sees after so many samples whose one model is a recorded one."""
        table = self.matrix.table
        model = PastModel(
            trigger=0,
            model=table.rows[row].model,
            position=0,
            last_timestamp=None,
            samples=int(table.samples[row]),
            seconds=float(table.seconds[row]),
        )
        return replace(self.context(_Models(self.matrix), place, place), models=(model,))

    def _inform(self, policy: Trigger, models: "_Models", place: int, end: int) -> int | None:
        name, context = type(policy).__name__, self.context(models, place, end)
        due = due_after(policy.inform(self._arrivals(place, end), context), name)
        if due is None:
            return None
        if not 0 <= due <= end - place:
            raise ConfigError(f"{name} answered {due} when informed of {end - place} samples")
        if due == 0 and models.fired[-2:] == [place, place]:
            raise ConfigError(f"{name} answers 0 again and again after {place} samples")
        return due

    def _arrivals(self, first: int, last: int) -> Arrivals:
        found = self.matrix.tape.arrivals[first:last]
        return Arrivals(found.keys, found.timestamps) if self.delay else found


class Remembered:
    """Answers to the questions of policies: what one has asked is known to all."""

    def __init__(self) -> None:
        self._held: dict[Any, Any] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def of(self, question: Question[Answer], context: Context, /) -> Answer:
        """Return the answer to a question, asked or remembered."""
        key = (type(question), question.key)
        try:
            if key in self._held:
                found: Answer = self._held[key]
                return found
        except TypeError:  # somebody's own metric, which cannot be looked up
            return question.answer(context)
        found = question.answer(context)
        size = QUESTION_BYTES + _size(getattr(question, "keys", b"")) + _size(found)
        if self._bytes + size > MEMORY_BYTES:
            self._held, self._bytes = {}, 0
        self._bytes += size
        self._held[key] = found
        return found


def _size(value: object) -> int:
    """Return how many bytes keys or an array take; of small things 0."""
    return len(value) if isinstance(value, bytes) else int(getattr(value, "nbytes", 0))


@dataclass(frozen=True)
class Played:
    """A policy on its way, and the models that it has got by then."""

    policy: Trigger
    models: "_Models"


class _Models(Sequence[PastModel]):
    """The models so far, made as a policy looks at them: which of them it did is noted."""

    def __init__(self, matrix: Matrix) -> None:
        self.fired: list[int] = []
        self._matrix = matrix
        self._made: list[PastModel] = []
        self._stand_ins: list[bool] = []
        self._seen = 0  # of the triggers
        self._doubt: int | None = None  # how many triggers there were as a stand-in was looked at

    @property
    def certain(self) -> int:
        """How many triggers there were before a policy first looked at a stand-in."""
        return len(self.fired) if self._doubt is None else self._doubt

    def __len__(self) -> int:
        self._catch_up()
        return len(self._made)

    @overload
    def __getitem__(self, index: int) -> PastModel: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PastModel]: ...
    def __getitem__(self, index: int | slice) -> PastModel | Sequence[PastModel]:
        self._catch_up()
        found = self._made[index]
        if self._doubt is None and np.any(self._stand_ins[index]):
            self._doubt = len(self.fired)
        return found

    def _catch_up(self) -> None:
        """Have the models of the triggers that were not looked at yet."""
        if self._seen == len(self.fired):
            return
        matrix, table = self._matrix, self._matrix.table
        ask = matrix.ask(np.array(self.fired, dtype=np.int64))
        done = table.exact(ask.name)
        rows = np.where(done >= 0, done, table.nearest(ask.first, ask.last))
        samples, seconds = table.facts(rows, done >= 0, ask.size)
        for i in range(len(self._made), len(ask)):
            row, place = int(rows[i]), int(ask.last[i])
            self._made.append(
                PastModel(
                    trigger=int(ask.trigger[i]),
                    model=table.rows[row].model,
                    position=matrix.tape.position(place),
                    last_timestamp=int(matrix.tape.arrivals.timestamps[place - 1]),
                    samples=int(samples[i]),
                    seconds=float(seconds[i]),
                )
            )
            self._stand_ins.append(bool(done[i] < 0))
        self._seen = len(self.fired)
