"""What a policy may look at besides the samples at hand; nothing later than its clock.

A context is of a position in the stream.  A trigger policy that is informed of a block may look at
the samples of that block too, and decides in the name of one of its samples: `context.at(n)` is
the context after n of them, which knows nothing of the others.  Whoever asks it for more is
refused, so that a decision is the same in a replay, in a run that follows, and however the stream
is cut into blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies.history import History
from modyn.signals import Recorded, Signals, check_names

if TYPE_CHECKING:
    from modyn.policies.base import Selected
    from modyn.policies.scores import Scores

__all__ = ["Answers", "Context", "Note", "PastModel", "PlainContext"]

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastModel:
    """A model that was trained before the position of a context: what it is and what it cost.

    Parameters
    ----------
    trigger : int
        The trigger it was trained at.
    model : str
        Its content key.
    position : int
        The position in the stream of that trigger.
    last_timestamp : int or None
        Of the last sample before that position.
    samples : int
        The size of its training set.
    seconds : float
        Wall clock of its training, as it was measured when that was done: a training that is
        found instead of done again, here or in another run, has the seconds of the first time.
    """

    trigger: int
    model: str
    position: int
    last_timestamp: int | None
    samples: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a policy looked at when it decided; it goes into the ledger with the next commit.

    Parameters
    ----------
    position, trigger : int
        Where it decided, and the index of the trigger that was sought.
    name : str
        Which policy, such as "DataDriftTrigger".
    values : mapping
        Plain JSON values, such as the score, the threshold and whether it fired.
    """

    position: int
    trigger: int
    name: str
    values: Mapping[str, Any]


class Answers(Protocol):
    """What models say of samples, and what the samples hold. Each is asked for in blocks of keys.

    The answer to a block is a function of model and keys alone, bit for bit, and made once.
    """

    def embeddings(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Return the input of the last layer, shape (n, d)."""

    def predictions(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Return class probabilities, shape (n, classes), or outputs where there are no classes."""

    def losses(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Return the training criterion's loss of each sample, shape (n,)."""

    def fields(self, keys: Keys, /) -> Mapping[str, npt.NDArray[Any]]:
        """Return the records, by field, first dimension n."""


class Context(Protocol):
    """What a policy may look at besides its samples. Everything is as of the position."""

    @property
    def clock(self) -> int | None:
        """The timestamp of the last sample consumed, None before the first."""

    @property
    def position(self) -> int:
        """How many samples of the stream were consumed."""

    @property
    def trigger(self) -> int:
        """The index of the trigger that is sought, or selected for."""

    @property
    def triggered_at(self) -> int:
        """The position of the trigger before it, 0 if there was none."""

    @property
    def seed(self) -> int:
        """The seed of the pipeline; draw with `seed_of(context)`."""

    @property
    def timestamp_unit(self) -> str:
        """The unit of all timestamps: "s", "ms", "us" or "ns"."""

    @property
    def models(self) -> Sequence[PastModel]:
        """The models so far with what they cost, oldest first; triggers without data have none."""

    @property
    def label_delay(self) -> int:
        """How long after its timestamp a sample's label is known, in units of timestamps."""

    def at(self, consumed: int, more: int = 0) -> "Context":
        """Return the context after `consumed` of the arrivals at hand, and bounded there.

        With `more`, so many of the arrivals after that are at hand in it: that is for policies
        that inform others of a part of their arrivals.
        """

    def samples(self, first: int, last: int) -> Arrivals:
        """Return the samples at positions first <= p < last; erased ones are left out.

        Labels are None where the dataset has none, and where they come with a delay: then ask
        `labelled` and `labels`.

        Raises
        ------
        ValueError
            For positions that are not reached yet.
        """

    def first_at(self, timestamp: int) -> int:
        """Return the position of the first sample with this timestamp or a later one.

        That is the position reached, where there is none. In arrival order samples behind it may
        be older: look at their timestamps.
        """

    def embeddings(self, keys: Keys, trigger: int | None = None) -> npt.NDArray[np.float32]:
        """Return the input of the model's last layer, float32, shape (n, d), in eval mode.

        Parameters
        ----------
        keys : uint64, shape (n,)
            Samples that were reached. Ask for the same block of keys again rather than for parts
            of it: blocks are computed once per model, and kept.
        trigger : int, optional
            Of which trigger's model; the newest by default.

        Raises
        ------
        ValueError
            For samples that come later, and without a model: look at `models` first.
        """

    def predictions(self, keys: Keys, trigger: int | None = None) -> npt.NDArray[np.float32]:
        """Return class probabilities, float32, shape (n, classes); see `embeddings`.

        A model with one output has two columns. Where labels are numbers, these are the outputs.
        """

    def losses(self, keys: Keys, trigger: int | None = None) -> npt.NDArray[np.float32]:
        """Return the loss of each sample, float32, shape (n,); their labels must be known."""

    def labelled(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return of which samples the label is known by now, shape (n,)."""

    def labels(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Return labels, shape (n,).

        Raises
        ------
        ValueError
            For samples that come later, or whose label does.
        """

    def fields(self, keys: Keys) -> Mapping[str, npt.NDArray[Any]]:
        """Return the records of samples that were reached, by field, first dimension n."""

    def note(self, name: str, values: Mapping[str, Any]) -> None:
        """Have what was looked at written to the ledger, with the next commit: `run.decisions`.

        Parameters
        ----------
        name : str
            Of the policy.
        values : mapping
            Plain JSON values: numbers, texts, lists and mappings.
        """

    def signals(self, trigger: int | None = None, names: Sequence[str] | None = None) -> Signals:
        """Return what a model said of each sample while it was trained.

        Parameters
        ----------
        trigger : int, optional
            Of which trigger's training; by default the latest that there is.  Before the first
            there are no rows.
        names : sequence of str, optional
            Only these signals: "loss", "gradient_norm", "prediction", "forgetting".

        Raises
        ------
        ValueError
            When `training.signals` does not ask for them, or the trigger was not trained yet.
        """

    def training_set(self, trigger: int) -> "Selected":
        """Return what an earlier trigger chose: keys, ascending, and their weights.

        They lie in a file of the run, so that no policy has to carry in its state what was
        chosen. Samples that were erased since are still named: see `Candidates.living`.

        Parameters
        ----------
        trigger : int
            From 0; less than `trigger` of the context.

        Raises
        ------
        ValueError
            For a trigger that was not selected for yet.
        """


@dataclass(frozen=True, kw_only=True)
class PlainContext:
    """A context of given values: those of a run, or made-up ones of examples, tests and notebooks.

    Parameters
    ----------
    clock, position, trigger, triggered_at, seed, timestamp_unit, models, label_delay
        As in `Context`.
    informed : int
        How many samples beyond the position are at hand, and may be asked for.
    recorded, training_sets
        Signals and choices of earlier triggers.
    history : History, optional
        The samples of the stream.
    answers : Answers, optional
        What models say of them.
    notes : callable, optional
        Takes what policies note.
    scores : Scores, optional
        Remembers answers to questions, see `modyn.policies.scores`.

    Examples
    --------
    >>> from modyn.signals import Kept, example_signals
    >>> keys = np.arange(5, dtype=np.uint64)
    >>> context = PlainContext(trigger=1, recorded=Kept({0: example_signals(keys)}))
    >>> len(context.signals(names=["loss"]).last())
    5

    Four samples were consumed, and three more are at hand:

    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.history import HeldHistory
    >>> stream = HeldHistory(example_arrivals(10, step=10))
    >>> context = PlainContext(position=4, clock=30, informed=3, history=stream)
    >>> later = context.at(2)
    >>> later.position, later.clock, later.samples(3, 6).keys.tolist()
    (6, 50, [3, 4, 5])
    >>> later.labels(np.array([6], dtype=np.uint64))
    Traceback (most recent call last):
    ...
    ValueError: sample 6 is not reached yet: the position is 6; ask for samples up to it
    """

    clock: int | None = None
    position: int = 0
    trigger: int = 0
    triggered_at: int = 0
    seed: int = 0
    timestamp_unit: str = "s"
    models: Sequence[PastModel] = ()
    label_delay: int = 0
    informed: int = 0
    recorded: Recorded | None = field(default=None, repr=False, compare=False)
    training_sets: Mapping[int, "Selected"] = field(default_factory=dict, repr=False, compare=False)
    history: History | None = field(default=None, repr=False, compare=False)
    answers: Answers | None = field(default=None, repr=False, compare=False)
    notes: Callable[[Note], None] | None = field(default=None, repr=False, compare=False)
    scores: "Scores | None" = field(default=None, repr=False, compare=False)

    def at(self, consumed: int, more: int = 0) -> "PlainContext":
        """Return the context after `consumed` of the arrivals at hand; see `Context`."""
        if not 0 <= consumed <= consumed + more <= self.informed:
            raise ValueError(f"{self.informed} samples are at hand, not {consumed + more}")
        if consumed == 0:
            return self._moved(self.position, self.clock, more)
        stream = self._stream()
        position = stream.after(self.position, consumed)
        return self._moved(position, stream.timestamp_before(position), more)

    def _moved(self, position: int, clock: int | None, informed: int) -> "PlainContext":
        """Return the context elsewhere: `dataclasses.replace`, ten times as fast."""
        found = object.__new__(type(self))
        found.__dict__.update(self.__dict__, position=position, clock=clock, informed=informed)
        return found

    def samples(self, first: int, last: int) -> Arrivals:
        """Return the samples at positions first <= p < last; see `Context`."""
        stream, end = self._stream(), self._end()
        if not 0 <= first <= last <= end:
            raise ValueError(
                f"positions must be from 0 to {end}, which is how far the stream was followed, "
                f"got {first} to {last}"
            )
        found = stream.samples(first, last)
        return Arrivals(found.keys, found.timestamps) if self.label_delay else found

    def first_at(self, timestamp: int) -> int:
        """Return the position of the first sample at or after a timestamp; see `Context`."""
        return self._stream().first_at(timestamp, self._end())

    def embeddings(self, keys: Keys, trigger: int | None = None) -> npt.NDArray[np.float32]:
        """Return the input of a model's last layer; see `Context`."""
        self._reached(keys)
        return self._answers().embeddings(self._model(trigger), keys)

    def predictions(self, keys: Keys, trigger: int | None = None) -> npt.NDArray[np.float32]:
        """Return class probabilities; see `Context`."""
        self._reached(keys)
        return self._answers().predictions(self._model(trigger), keys)

    def losses(self, keys: Keys, trigger: int | None = None) -> npt.NDArray[np.float32]:
        """Return the loss of each sample; see `Context`."""
        self._known(keys)
        return self._answers().losses(self._model(trigger), keys)

    def labelled(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return of which samples the label is known by now; see `Context`."""
        return self._labelled(self._reached(keys))

    def labels(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Return labels; see `Context`."""
        labels = self._known(keys).labels
        if labels is None:
            raise ValueError("the dataset has no labels")
        return labels

    def fields(self, keys: Keys) -> Mapping[str, npt.NDArray[Any]]:
        """Return records; see `Context`."""
        self._reached(keys)
        return self._answers().fields(keys)

    def note(self, name: str, values: Mapping[str, Any]) -> None:
        """Have what was looked at written to the ledger; see `Context`."""
        if self.notes is not None:
            self.notes(Note(position=self.position, trigger=self.trigger, name=name, values=values))

    def training_set(self, trigger: int) -> "Selected":
        """Return what an earlier trigger chose; see `Context`."""
        if trigger < self.trigger and trigger in self.training_sets:
            return self.training_sets[trigger]
        raise ValueError(f"there is no training set of trigger {trigger} at trigger {self.trigger}")

    def signals(self, trigger: int | None = None, names: Sequence[str] | None = None) -> Signals:
        """Return what a model said of each sample while it was trained; see `Context`."""
        if self.recorded is None:
            raise ValueError("no signals are recorded: name them in training.signals")
        check_names(names or (), self.recorded.names)
        trained = [one for one in self.recorded.triggers() if one < self.trigger]
        if trigger is None and trained:
            trigger = trained[-1]
        if trigger is None:
            nothing = self.recorded.nothing()
            return nothing if names is None else nothing.only(names)
        if trigger not in trained:
            raise ValueError(
                f"there are no signals of trigger {trigger} at trigger {self.trigger}: it is not "
                "trained yet, or there was nothing to train on"
            )
        return self.recorded.read(trigger, names)

    def _stream(self) -> History:
        if self.history is None:
            raise ValueError("this context knows no samples: make it with history=...")
        return self.history

    def _answers(self) -> Answers:
        if self.answers is None:
            raise ValueError("this context asks no models: make it with answers=...")
        return self.answers

    def _end(self) -> int:
        """Return up to which position samples may be asked for."""
        if self.informed == 0:
            return self.position
        return self._stream().after(self.position, self.informed)

    def _model(self, trigger: int | None) -> PastModel:
        if trigger is None and self.models:
            return self.models[-1]
        for one in self.models:
            if one.trigger == trigger:
                return one
        which = "" if trigger is None else f" of trigger {trigger}"
        raise ValueError(f"there is no model{which} at trigger {self.trigger} yet")

    def _reached(self, keys: Keys) -> Arrivals:
        """Return the columns of samples, none of which may come later."""
        stream, end = self._stream(), self._end()
        reached = stream.reached(keys, end)
        if not reached.all():
            raise ValueError(
                f"sample {keys[~reached][0]} is not reached yet: the position is {end}; "
                "ask for samples up to it"
            )
        return stream.columns(keys)

    def _labelled(self, found: Arrivals) -> npt.NDArray[np.bool_]:
        if self.label_delay == 0 or self.clock is None:
            return np.full(len(found), self.label_delay == 0)
        known: npt.NDArray[np.bool_] = found.timestamps <= self.clock - self.label_delay
        return known

    def _known(self, keys: Keys) -> Arrivals:
        """Return the columns of samples whose labels are known."""
        found = self._reached(keys)
        known = self._labelled(found)
        if not known.all():
            first = int((~known).argmax())
            raise ValueError(
                f"the label of sample {keys[first]} is known at "
                f"{found.timestamps[first] + self.label_delay}, and it is {self.clock}: "
                "ask for those that context.labelled(keys) names"
            )
        return found
