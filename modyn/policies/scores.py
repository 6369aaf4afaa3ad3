"""Score, then rule: what policies ask of models and samples, and what they make of the answers.

A policy that looks at a model does two things.  It asks a question, whose answer is a score; the
question's key names all that decides on the answer, so that equal questions have equal answers.
Then a rule makes a decision of scores.  Rules hold no samples: they are arithmetic on
the numbers of one policy or, entry by entry, on arrays with those of many (`side_by_side`).

So whoever plays many policies over one stream has each question answered once, and holds the
rules against the answers side by side; the decisions are those of each policy on its own.
"""

from collections.abc import Hashable
from typing import Any, Protocol, TypeVar

from modyn.policies.context import Context

__all__ = ["Question", "Scores", "score"]

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Question(Protocol[Answer_co]):
    """What a policy wants to know of a model and samples."""

    @property
    def key(self) -> Hashable:
        """All that decides on the answer: models by content key, samples by key or position."""

    def answer(self, context: Context, /) -> Answer_co:
        """Return the answer, by what the context says."""


class Scores(Protocol):
    """Answers that are kept for those who ask the same."""

    def of(self, question: Question[Answer], context: Context, /) -> Answer:
        """Return the answer to a question, asked or remembered."""


def score(question: Question[Answer], context: Context) -> Answer:
    """Return the answer to a question: of the scores that the context remembers, if it does.

    Examples
    --------
    >>> from modyn.policies import PlainContext
    >>> class WhatTimeIsIt:
    ...     key = "time"
    ...
    ...     def answer(self, context):
    ...         return context.clock
    >>> score(WhatTimeIsIt(), PlainContext(clock=3))
    3
    """
    kept: Any = getattr(context, "scores", None)
    if kept is None:
        return question.answer(context)
    found: Answer = kept.of(question, context)
    return found
