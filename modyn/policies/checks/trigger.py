"""The checks of a trigger policy."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies.answers import due_after
from modyn.policies.base import PlainContext, Trigger
from modyn.policies.checks.common import (
    DEFAULT,
    CheckError,
    MadeUp,
    check_public_attributes,
    check_repeats,
    example_stream,
    factory,
    fail,
    read_only,
    reborn,
    state_after_json,
)
from modyn.policies.context import PastModel
from modyn.policies.history import HeldHistory

__all__ = ["check_trigger"]


def check_trigger(
    policy: Trigger | Callable[[], Trigger],
    *,
    stream: Arrivals | None = None,
    context: PlainContext = DEFAULT,
) -> None:
    """Raise `CheckError` unless a trigger policy keeps its promises.

    Its constructor keeps its parameters and touches no data; its answers are in range; they are
    the same in every run, however the stream is cut into blocks, and also when its state is saved
    and loaded in between; and no answer looks at samples that come later.

    Parameters
    ----------
    policy : Trigger or callable
        A policy, or what makes one when called without arguments.
    stream : Arrivals or None
        Samples to run it over; by default those of `example_stream`. Pass your own where the
        policy fires seldom or never on those.
    context : PlainContext
        Whose seed and timestamp unit to play with.

    Raises
    ------
    CheckError
        Saying what was seen and what to do about it.

    Warns
    -----
    UserWarning
        When the policy never fired, so that nothing much was checked.

    Examples
    --------
    >>> from modyn.policies import DataAmountTrigger
    >>> check_trigger(DataAmountTrigger(num_samples=10))

    A policy that looks at what happens to be in the block:

    >>> class WhenCrowded(Trigger):
    ...     def inform(self, arrivals, context):
    ...         return len(arrivals) if len(arrivals) >= 100 else None
    >>> check_trigger(WhenCrowded)
    Traceback (most recent call last):
    ...
    modyn.policies.checks.common.CheckError: WhenCrowded: how the stream is cut into blocks ...
    """
    make = factory(policy, Trigger)
    stream = example_stream() if stream is None else stream
    play = _Play(stream, context)
    whole = [len(stream)]
    expected = play.run(make, whole)
    check_public_attributes(make, lambda fresh: play.run(fresh, whole))
    check_repeats(make, lambda fresh: play.run(fresh, whole).fired, expected.fired)
    _check_cuts(play, make, expected)
    _check_state(play, make, expected)
    _check_future(play, make, expected)
    if not expected.fired:
        warnings.warn(
            f"{type(make()).__name__} never fired on these {len(stream)} samples, so that its "
            "checks show little: pass a stream on which it fires",
            stacklevel=2,
        )


class _WatchedHistory(HeldHistory):
    """A stream that refuses to tell about samples that were not informed of yet."""

    def reached(self, keys: npt.NDArray[np.uint64], position: int) -> npt.NDArray[np.bool_]:
        """Return which samples come before a position, and fail where one does not."""
        known = np.isin(keys, self.samples(0, position).keys)
        if not known.all():
            raise CheckError(
                f"the policy asked for the sample with key {min(keys[~known])}, which it has "
                "not reached; ask only for samples that it was informed of"
            )
        return known


class _MadeUpAnswers:
    """Two classes, and a few made-up numbers per key, which depend on the model."""

    def embeddings(self, model: PastModel, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Return two numbers per key."""
        angles = keys.astype(np.float64) + model.trigger
        return np.stack((np.sin(angles), np.cos(angles)), axis=1).astype(np.float32)

    def predictions(
        self, model: PastModel, keys: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.float32]:
        """Return the probabilities of five classes."""
        shares = np.abs(np.sin(np.outer(keys.astype(np.float64), np.arange(1, 6)) + model.trigger))
        shares[shares.sum(axis=1) == 0] = 1.0  # of key 0, for the first model
        found: npt.NDArray[np.float32] = (shares / shares.sum(axis=1, keepdims=True)).astype(
            np.float32
        )
        return found

    def losses(self, model: PastModel, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Return one number per key."""
        losses: npt.NDArray[np.float32] = np.square(self.embeddings(model, keys)[:, 0])
        return losses

    def fields(self, keys: npt.NDArray[np.uint64]) -> dict[str, npt.NDArray[np.float32]]:
        """Return one field of two numbers."""
        return {"dense": np.stack((np.sin(keys), np.cos(keys)), axis=1).astype(np.float32)}


class _Models(Sequence[PastModel]):
    """A made-up model of the samples between any two triggers."""

    def __init__(self, stream: Arrivals, fired: list[int]) -> None:
        self._stream = stream
        self._ends = [0, *fired]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> PastModel: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PastModel]: ...
    def __getitem__(self, index: int | slice) -> PastModel | Sequence[PastModel]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} models, not {index}")
        trigger = index % len(self)
        first, last = self._ends[trigger : trigger + 2]
        return PastModel(
            trigger=trigger,
            model=f"made up at {last}",
            position=last,
            last_timestamp=int(self._stream.timestamps[last - 1]) if last else None,
            samples=last - first,
            seconds=1.0 + (last - first) / 100,
        )


@dataclass(frozen=True)
class _Run:
    """Where a policy fired, and its state at each of these positions."""

    fired: list[int]
    states: list[Any]


@dataclass(frozen=True)
class _Play:
    """A stream and a context, over which policies run as they would in a pipeline."""

    stream: Arrivals
    given: PlainContext

    @cached_property
    def history(self) -> _WatchedHistory:
        """The stream as policies look back at it."""
        return _WatchedHistory(self.stream)

    def run(
        self,
        make: Callable[[], Trigger],
        cuts: list[int],
        between: Callable[[Trigger], Trigger] = lambda policy: policy,
    ) -> _Run:
        """Run a policy over blocks of the sizes `cuts`, in turn."""
        policy, run, position, block = make(), _Run([], []), 0, 0
        while position < len(self.stream):
            end = min(position + cuts[block % len(cuts)], len(self.stream))
            block += 1
            while position < end:
                due = self.inform(policy, position, end, run.fired)
                position = end if due is None else position + due
                if due is not None:
                    run.fired.append(position)
                    run.states.append(state_after_json(policy))
                policy = between(policy)
        return run

    def inform(self, policy: Trigger, position: int, end: int, fired: list[int]) -> int | None:
        """Return a policy's answer to the samples from `position` to `end`."""
        name = type(policy).__name__
        given = policy.inform(self.stream[position:end], self.context(position, end, fired))
        try:
            due = due_after(given, name)
        except TypeError as error:
            raise CheckError(str(error)) from error
        if due is None:
            return None
        if not 0 <= due <= end - position:
            fail(
                policy,
                f"it answered {due} when informed of {end - position} samples",
                "return None, or n with 0 <= n <= len(arrivals)",
            )
        starts = [0, *fired]
        if due == 0 and len(starts) > 1 and starts[-2] == starts[-1] == position:
            fail(
                policy,
                f"it answers 0 again and again at position {position}",
                "after a trigger, consume at least one sample before the next",
            )
        return due

    def context(self, position: int, end: int, fired: list[int]) -> PlainContext:
        """Return what a policy sees before the samples from `position` to `end`."""
        return PlainContext(
            clock=int(self.stream.timestamps[position - 1]) if position else None,
            position=position,
            trigger=len(fired),
            triggered_at=fired[-1] if fired else 0,
            seed=self.given.seed,
            timestamp_unit=self.given.timestamp_unit,
            label_delay=self.given.label_delay,
            models=_Models(self.stream, fired[:]),
            informed=end - position,
            recorded=MadeUp(self.stream, tuple(fired)),
            history=self.history,
            answers=_MadeUpAnswers(),
        )


def _check_cuts(play: _Play, make: Callable[[], Trigger], expected: _Run) -> None:
    rng = np.random.default_rng(play.given.seed)
    ways = [("blocks of 1", [1]), ("blocks of 7", [7])]
    ways += [(f"random blocks ({i})", rng.integers(1, 60, size=100).tolist()) for i in range(3)]
    for name, cuts in ways:
        got = play.run(make, cuts)
        if got.fired != expected.fired:
            fail(
                make(),
                "how the stream is cut into blocks changes what fires: "
                + _difference("in one block", expected, f"in {name}", got),
                "let the answer depend on samples and their positions in the stream, carry what is "
                "unfinished in private attributes, and answer the first trigger of a block only",
            )


def _check_state(play: _Play, make: Callable[[], Trigger], expected: _Run) -> None:
    for cuts in ([len(play.stream)], [7]):
        got = play.run(make, cuts, lambda old: reborn(old, make))
        if got.fired != expected.fired:
            fail(
                make(),
                "a run that is saved and resumed between blocks fires elsewhere: "
                + _difference("undisturbed", expected, "resumed", got),
                "keep all that a later answer depends on in private attributes (self._name), set "
                "before inform() returns",
            )


def _check_future(play: _Play, make: Callable[[], Trigger], expected: _Run) -> None:
    """Check that samples after the one that shows a trigger to be due do not touch it."""
    count = len(play.stream)
    cuts = set(np.random.default_rng(play.given.seed).integers(1, count, size=4).tolist())
    cuts.update(position + 1 for position in expected.fired[:4] + expected.fired[-4:])
    for cut in sorted(cut for cut in cuts if cut < count):
        other = _Play(_changed_from(play.stream, cut), play.given)
        got = other.run(make, [count])
        earlier = sum(position < cut for position in expected.fired)
        if [position for position in got.fired if position < cut] != expected.fired[:earlier]:
            fail(
                make(),
                f"samples from position {cut} on were changed, and triggers before it moved: "
                + _difference("before", expected, "after", got),
                "when you answer n, decide with the samples 0 to n of the block only",
            )
        if got.states[:earlier] != expected.states[:earlier]:
            fail(
                make(),
                f"samples from position {cut} on were changed, and its state at a trigger before "
                "them changed too",
                "when you answer n, take only the first n samples into the state: the rest comes "
                "again",
            )


def _changed_from(stream: Arrivals, cut: int) -> Arrivals:
    """Return the stream with other keys, later times and other labels from position `cut` on."""
    keys, timestamps = stream.keys.copy(), stream.timestamps.copy()
    keys[cut:] += np.uint64(10**9)
    timestamps[cut:] += 40 * 86_400 + 1000 * np.arange(len(stream) - cut)
    labels = None if stream.labels is None else stream.labels.copy()
    if labels is not None:
        known, which = np.unique(labels, return_inverse=True)
        labels[cut:] = np.roll(known, 1)[which[cut:]]
    return read_only(keys, timestamps, labels)


def _difference(one: str, a: _Run, other: str, b: _Run) -> str:
    pairs = enumerate(zip(a.fired, b.fired, strict=False))
    i = next((i for i, (x, y) in pairs if x != y), min(len(a.fired), len(b.fired)))
    what = [f"at {run.fired[i]}" if i < len(run.fired) else "not at all" for run in (a, b)]
    return f"{one}, trigger {i} comes {what[0]}, {other}, {what[1]}"
