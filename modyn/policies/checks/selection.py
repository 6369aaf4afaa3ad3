"""The checks of a selection policy."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies.answers import selected
from modyn.policies.base import PlainContext, Selected, Selection
from modyn.policies.checks.common import (
    DEFAULT,
    CheckError,
    MadeUp,
    check_public_attributes,
    check_repeats,
    example_stream,
    factory,
    fail,
    reborn,
)
from modyn.sampling import Candidates

if TYPE_CHECKING:
    from modyn.downsampling import Downsampler

__all__ = ["check_selection"]

Answers = list[tuple[list[int], list[float] | None]]


def check_selection(
    policy: "Selection | Callable[[], Selection] | Downsampler",
    *,
    stream: Arrivals | None = None,
    context: PlainContext = DEFAULT,
) -> None:
    """Raise `CheckError` unless a selection policy keeps its promises.

    Its constructor keeps its parameters and touches no data; it chooses candidates, each once, and
    weighs them with finite numbers; its choice is the same in every run, however the candidates
    come in blocks, and also when its state is saved and loaded between triggers; and it lets go of
    samples that are erased between triggers.

    A downsampler, or its class, is given to `modyn.downsampling.checks.check_downsampler`.

    Parameters
    ----------
    policy : Selection or callable, or Downsampler
        A policy, or what makes one when called without arguments.
    stream : Arrivals or None
        Candidates to choose from; by default those of `example_stream`.
    context : PlainContext
        Whose seed and timestamp unit to play with.

    Raises
    ------
    CheckError
        Saying what was seen and what to do about it.

    Examples
    --------
    >>> from modyn.policies import Random
    >>> check_selection(Random(ratio=30))

    A policy that takes positions for keys:

    >>> class TheFirstTen(Selection):
    ...     def select(self, candidates, context):
    ...         return list(range(10))
    >>> check_selection(TheFirstTen)
    Traceback (most recent call last):
    ...
    modyn.policies.checks.common.CheckError: TheFirstTen: it chose key 0, which is no candidate; ...
    """
    if _is_downsampler(policy):
        from modyn.downsampling.checks import check_downsampler

        check_downsampler(cast("Downsampler", policy))
        return
    make = factory(cast("Selection", policy), Selection)
    stream = example_stream() if stream is None else stream

    def run(fresh: Callable[[], Selection]) -> Answers:
        return _select_all(fresh, stream, context)

    _check_tail(make())
    expected = run(make)
    check_public_attributes(make, run)
    check_repeats(make, run, expected)
    for block_count in (1, 7, 100):
        if _select_all(make, stream, context, block_count=block_count) != expected:
            fail(
                make(),
                f"it chooses otherwise when candidates.blocks() has blocks of {block_count}",
                "let the choice depend on samples and their order, not on blocks",
            )
    if _select_all(make, stream, context, between=lambda old: reborn(old, make)) != expected:
        fail(
            make(),
            "a run that is saved and resumed between triggers chooses otherwise",
            "keep all that a later choice depends on in private attributes (self._name), set "
            "before select() returns",
        )
    _select_all(make, stream, context, erased=True)


def _is_downsampler(policy: object) -> bool:
    """Return whether it is a downsampler, or a class of them."""
    from modyn.downsampling.base import Downsampler

    kind = policy if isinstance(policy, type) else type(policy)
    return issubclass(kind, Downsampler)


def _check_tail(policy: Selection) -> None:
    tail = policy.tail_triggers
    if tail is not None and (isinstance(tail, bool) or not isinstance(tail, int) or tail < 0):
        fail(
            policy,
            f"its tail_triggers is {tail!r}",
            "make it None (all data so far) or a number of former triggers, at least 0",
        )


def _select_all(
    make: Callable[[], Selection],
    stream: Arrivals,
    given: PlainContext,
    *,
    block_count: int = 65_536,
    between: Callable[[Selection], Selection] = lambda policy: policy,
    erased: bool = False,
) -> Answers:
    """Return the answers of triggers that see one sample, some, and all of the stream.

    With `erased`, a part of what each trigger chose is erased behind it.
    """
    policy, answers = make(), []
    ends = (1, len(stream) // 3, len(stream), len(stream))
    living = np.ones(len(stream), dtype=bool)
    chosen: dict[int, Selected] = {}
    for trigger, count in enumerate(ends):
        starts = _starts(policy, ends, trigger)
        rows = np.flatnonzero(living[:count])
        rows = rows[rows >= starts[0][1]]
        if len(rows) == 0:  # a run does not ask either
            chosen[trigger] = Selected(np.empty(0, dtype=np.uint64))
            continue
        context = replace(
            given,
            clock=int(stream.timestamps[count - 1]),
            position=count,
            trigger=trigger,
            recorded=MadeUp(stream, ends[:trigger]),
            training_sets=dict(chosen),
        )
        answer = _select(policy, _candidates(stream, rows, starts, block_count), context)
        weights = None if answer.weights is None else answer.weights.tolist()
        answers.append((answer.keys.tolist(), weights))
        chosen[trigger] = answer
        policy = between(policy)
        if erased:
            living &= ~np.isin(stream.keys, answer.keys[::3])
    return answers


def _starts(policy: Selection, ends: Sequence[int], trigger: int) -> list[tuple[int, int]]:
    """Return the triggers that the candidates are of, and where the samples of each begin."""
    tail = trigger if policy.tail_triggers is None else policy.tail_triggers
    begins = (0, *ends)
    return [(one, begins[one]) for one in range(max(0, trigger - tail), trigger + 1)]


def _candidates(
    stream: Arrivals, rows: npt.NDArray[np.intp], starts: list[tuple[int, int]], block_count: int
) -> Candidates:
    return Candidates.from_arrays(
        stream.keys[rows],
        stream.timestamps[rows],
        None if stream.labels is None else stream.labels[rows],
        block_count=block_count,
        starts=[(trigger, int(np.searchsorted(rows, first))) for trigger, first in starts],
    )


def _select(policy: Selection, candidates: Candidates, context: PlainContext) -> Selected:
    given = policy.select(candidates, context)
    try:
        answer = selected(given, type(policy).__name__)
    except (TypeError, ValueError) as error:
        raise CheckError(str(error)) from error
    strangers = np.setdiff1d(answer.keys, candidates.keys)
    if len(strangers) > 0:
        before = [one.keys for one in context.training_sets.values()]
        if len(before) > 0 and strangers[0] in np.concatenate(before):
            fail(
                policy,
                f"it chose key {strangers[0]}, which an earlier trigger chose and which is no "
                "candidate any more, as after an erasure",
                "keep of remembered keys those of candidates.living(keys), and let tail_triggers "
                "be None where samples are to stay for ever",
            )
        fail(
            policy,
            f"it chose key {strangers[0]}, which is no candidate",
            "choose from candidates.keys; a position among the candidates is not a key",
        )
    twice = answer.keys[1:][answer.keys[1:] == answer.keys[:-1]]
    if len(twice) > 0:
        fail(policy, f"it chose key {twice[0]} twice", "choose each key once; stress it by weight")
    good = answer.weights is None or np.isfinite(answer.weights) & (answer.weights >= 0)
    if answer.weights is not None and not np.all(good):
        where = int(np.argmin(good))
        fail(
            policy,
            f"it gave key {answer.keys[where]} the weight {answer.weights[where]}",
            "make all weights finite and at least 0",
        )
    return answer
