"""How several votes become one decision: a majority, at least so many, or a rule of your own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from modyn.policies.checked import check_integer, check_stands_for

__all__ = ["AggregationStrategy", "AtLeastN", "Custom", "MajorityVote", "check_votes"]


class AggregationStrategy(Protocol):
    """A rule over the votes of all who vote; the order in which they are named does not matter."""

    def decide(self, votes: Mapping[str, bool]) -> bool:
        """Return the decision.

        Parameters
        ----------
        votes : mapping of str to bool
            The vote of each by its name, at least one.
        """


@dataclass(frozen=True)
class MajorityVote:
    """More than half of all votes.

    Examples
    --------
    >>> MajorityVote().decide({"a": True, "b": False})
    False
    """

    def needed(self, voters: int) -> int:
        """Return how many votes are enough."""
        return voters // 2 + 1

    def decide(self, votes: Mapping[str, bool]) -> bool:
        """Return whether more than half say yes."""
        return sum(votes.values()) >= self.needed(len(votes))


@dataclass(frozen=True, kw_only=True)
class AtLeastN:
    """So many votes or more: with 1 any of them, with as many as there are voters all of them.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> AtLeastN(n=1).decide({"a": True, "b": False})
    True
    """

    n: int

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)

    def needed(self, voters: int) -> int:
        """Return how many votes are enough."""
        return self.n

    def decide(self, votes: Mapping[str, bool]) -> bool:
        """Return whether `n` or more say yes."""
        return sum(votes.values()) >= self.needed(len(votes))


@dataclass(frozen=True, kw_only=True)
class Custom:
    """A function of your own, which pipeline.yaml cannot say.

    Parameters
    ----------
    aggregation_function : callable
        From the votes by name to a bool. It should be monotone: one more yes should never turn a
        yes into a no, or else the decision depends on who votes first.

    Examples
    --------
    >>> rule = Custom(aggregation_function=lambda votes: votes["drift"] and not votes["costly"])
    >>> rule.decide({"drift": True, "costly": False})
    True
    """

    aggregation_function: Callable[[Mapping[str, bool]], bool]

    def __post_init__(self) -> None:
        if not callable(self.aggregation_function):
            raise TypeError(
                f"aggregation_function must be a function, got {self.aggregation_function!r}"
            )

    def decide(self, votes: Mapping[str, bool]) -> bool:
        """Return what the function says.

        Raises
        ------
        TypeError
            When that is not a bool.
        """
        decision = self.aggregation_function(votes)
        if not isinstance(decision, bool):
            raise TypeError(f"aggregation_function must return a bool, got {decision!r}")
        return decision


def check_votes(name: str, strategy: object, voters: int) -> None:
    """Refuse what is no rule, and one that asks for more votes than there are voters.

    Raises
    ------
    TypeError, ValueError
        Naming the parameter.
    """
    check_stands_for(name, strategy, "decide", "MajorityVote()")
    if isinstance(strategy, AtLeastN) and strategy.n > voters:
        raise ValueError(
            f"{name} asks for {strategy.n} votes, and {voters} can vote: it would never fire"
        )
