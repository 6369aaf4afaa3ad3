"""A context for a policy within another: what it notes goes to the outer one first."""

from collections.abc import Callable, Mapping
from typing import Any

from modyn.policies.context import Context

__all__ = ["Noting", "Take"]

Take = Callable[[Context, str, Mapping[str, Any]], None]  # of what position, policy, and values


class Noting:
    """A context in all else.

    Parameters
    ----------
    context : Context
    take : callable
        Is given the notes.
    """

    def __init__(self, context: Context, take: Take) -> None:
        self._context = context
        self._take = take

    def at(self, consumed: int, more: int = 0) -> "Noting":
        """Return the context after some of the arrivals."""
        return Noting(self._context.at(consumed, more), self._take)

    def note(self, name: str, values: Mapping[str, Any]) -> None:
        """Hand a note on."""
        self._take(self._context, name, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
