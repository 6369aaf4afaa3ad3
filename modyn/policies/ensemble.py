"""A trigger where several policies together say so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from modyn.arrivals import Arrivals
from modyn.policies.aggregation import AggregationStrategy, check_votes
from modyn.policies.base import Trigger
from modyn.policies.checked import check_named
from modyn.policies.context import Context
from modyn.policies.noting import Noting

__all__ = ["EnsembleTrigger"]

FIRST_LOOK = 256  # samples


@dataclass(kw_only=True)
class EnsembleTrigger(Trigger):
    """A trigger is due where a rule over the votes of other policies says so.

    Every sub-policy sees all samples.  Where one says that a trigger is due, that is its vote,
    which it keeps until the ensemble fires; then all votes are taken back.  The rule is asked
    after each position at which there is a new vote, and about all sub-policies: those that did
    not vote say no.  Votes at one position count together, so that the order of the sub-policies
    never matters.

    Sub-policies of any kind may be combined, ensembles among them.  They see the trainings of the
    ensemble in the context, and go on from the position at which it fired.

    Parameters
    ----------
    subtriggers : mapping of str to Trigger
        One or more, each with a name.
    ensemble_strategy : AggregationStrategy
        `MajorityVote()`, `AtLeastN(n=...)` or `Custom(aggregation_function=...)`.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.aggregation import AtLeastN
    >>> from modyn.policies.amount import DataAmountTrigger
    >>> from modyn.policies.context import PlainContext
    >>> from modyn.policies.history import HeldHistory
    >>> both = EnsembleTrigger(
    ...     subtriggers={
    ...         "often": DataAmountTrigger(num_samples=2),
    ...         "seldom": DataAmountTrigger(num_samples=5),
    ...     },
    ...     ensemble_strategy=AtLeastN(n=2),
    ... )
    >>> stream = example_arrivals(20)
    >>> context = PlainContext(history=HeldHistory(stream), informed=20)
    >>> both.inform(stream, context)
    5
    """

    subtriggers: Mapping[str, Trigger]
    ensemble_strategy: AggregationStrategy

    def __post_init__(self) -> None:
        check_named("subtriggers", self.subtriggers)
        if not self.subtriggers:
            raise ValueError("subtriggers must name one or more")
        self.subtriggers = dict(self.subtriggers)
        for name, policy in self.subtriggers.items():
            if not isinstance(policy, Trigger):
                raise TypeError(f"subtriggers.{name} must be a Trigger, got {policy!r:.80}")
        check_votes("ensemble_strategy", self.ensemble_strategy, len(self.subtriggers))
        self._voted: list[str] = []  # since the ensemble fired, in order of name

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        """Return after how many of `arrivals` a trigger is due, or None.

        Goes through pieces of doubling size: sub-policies look ahead to the end of a piece, and
        what they saw there is for nothing if the ensemble fires before it.
        """
        first, size = 0, FIRST_LOOK
        while first < len(arrivals):
            piece = arrivals[first : first + size]
            due = self._go_through(piece, context.at(first, len(piece)))
            if due is not None:
                return first + due
            first, size = first + size, 2 * size
        return None

    def _go_through(self, arrivals: Arrivals, context: Context) -> int | None:
        """Return after how many of a piece of the arrivals a trigger is due, or None."""
        runs = [_Run(name, policy) for name, policy in sorted(self.subtriggers.items())]
        position = 0
        while True:
            for run in runs:
                run.go_on(arrivals, context, position)
            if all(run.due is None for run in runs):
                break
            position = min(run.due for run in runs if run.due is not None)
            names = self._voters(runs, arrivals, context, position)
            if names and self._vote(names, context, position):
                for run in runs:
                    run.stop(arrivals, context, position)
                return position
        for run in runs:
            run.accept()
        return None

    def _voters(
        self, runs: "list[_Run]", arrivals: Arrivals, context: Context, position: int
    ) -> list[str]:
        """Return who votes at a position, and let their votes count.

        A vote after n samples may be one that the sample after them brought about, and then it
        falls after those that the n samples brought about themselves: had the block ended there,
        it would not be known yet.
        """
        voters = [run for run in runs if run.due == position]
        if len(voters) > 1 and position < len(arrivals):
            for run in voters:
                run.back_to(arrivals, context, position)
        names = [run.name for run in voters if run.due == position]
        for run in voters:
            run.accept()
        return names

    def _vote(self, names: list[str], context: Context, position: int) -> bool:
        """Count votes at a position, and return whether the ensemble fires there."""
        voted = sorted({*self._voted, *names})
        votes = {name: name in voted for name in self.subtriggers}
        fires = self.ensemble_strategy.decide(votes)
        self._voted = [] if fires else voted
        context.at(position).note(type(self).__name__, {"votes": votes, "fires": fires})
        return fires


class _Run:
    """A sub-policy on its way through a block, and how it was before it looked ahead.

    It is informed of all that is left of the block, up to its next vote.  Where the ensemble fires
    before that, it is put back and informed again, up to there: its vote was made without knowing
    of the trigger.
    """

    def __init__(self, name: str, policy: Trigger) -> None:
        self.name = name
        self.due: int | None = None  # its next vote; None for none in this block
        self._policy = policy
        self._stuck = 0  # answers of 0 in a row
        self._begun = 0  # where it stood before it looked ahead
        self._before: dict[str, Any] = {}
        self._pending = False  # whether it has looked ahead
        self._noted: list[tuple[Context, str, Mapping[str, Any]]] = []

    def go_on(self, arrivals: Arrivals, context: Context, position: int) -> None:
        """Look ahead for the next vote, unless it has."""
        if self._pending:
            return
        self._begun, self._before, self._pending = position, self._policy.state_dict(), True
        self._look(arrivals, context, position, len(arrivals))

    def accept(self) -> None:
        """Let what it did count: its vote, or that it came to the end of the block."""
        for context, name, values in self._noted:
            context.note(name, values)
        self._noted, self._pending = [], False

    def stop(self, arrivals: Arrivals, context: Context, position: int) -> None:
        """Be as after `position` of the arrivals, where the ensemble fired."""
        if self._pending:
            self.back_to(arrivals, context, position)
        self.accept()

    def back_to(self, arrivals: Arrivals, context: Context, position: int) -> None:
        """Look ahead again, up to a position and not at the sample after it."""
        if self._begun == position and self.due == position:
            return  # a vote that this very sample brought about, in a block of its own
        self._policy.load_state_dict(self._before)
        self._noted = []
        self._look(arrivals, context, self._begun, position)

    def _look(self, arrivals: Arrivals, context: Context, first: int, last: int) -> None:
        """Inform the policy of arrivals, and take its vote."""
        self.due = None
        if first == last:
            return
        here = cast(Context, Noting(context.at(first, last - first), self.take))
        due = self._policy.inform(arrivals[first:last], here)
        self._stuck = self._stuck + 1 if due == 0 else 0
        if self._stuck > 1:
            raise RuntimeError(
                f"sub-policy {self.name} answers 0 again and again: it must consume a sample first"
            )
        self.due = None if due is None else first + due

    def take(self, context: Context, name: str, values: Mapping[str, Any]) -> None:
        """Keep a note until it counts."""
        self._noted.append((context, f"{self.name}.{name}", values))
