"""The series of models of a run as one model: which one counts in which window.

*Currently active* in a window is the newest model that was trained on nothing at or after the
window's anchor.  *Currently trained* is the next one after it (the model that was trained on the
window's own data): the first model where none is active, the last one where none comes after.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ACTIVE, TRAINED = "active", "trained"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trigger whose model exists, and the last timestamp that it was trained on."""

    trigger: int
    trained_until: int


def active(models: Sequence[Trained], anchor: int) -> int | None:
    """Return the trigger of the currently active model, or None.

    Parameters
    ----------
    models : sequence of Trained
        In the order of their triggers.
    anchor : int
        When the window's samples arrive.

    Examples
    --------
    >>> models = [Trained(trigger=0, trained_until=9), Trained(trigger=1, trained_until=19)]
    >>> active(models, 9), active(models, 10), active(models, 20)
    (None, 0, 1)
    """
    place = _active_place(models, anchor)
    return None if place < 0 else models[place].trigger


def trained(models: Sequence[Trained], anchor: int) -> int | None:
    """Return the trigger of the currently trained model; None only where there are no models.

    Examples
    --------
    >>> models = [Trained(trigger=0, trained_until=9), Trained(trigger=1, trained_until=19)]
    >>> trained(models, 9), trained(models, 10), trained(models, 20)
    (0, 1, 1)
    """
    if not models:
        return None
    return models[min(_active_place(models, anchor) + 1, len(models) - 1)].trigger


def current(models: Sequence[Trained], anchor: int, kind: str) -> int | None:
    """Return the trigger of the active or the trained model.

    Raises
    ------
    ValueError
        When `kind` is neither "active" nor "trained".
    """
    if kind not in (ACTIVE, TRAINED):
        raise ValueError(f"kind must be 'active' or 'trained', got {kind!r}")
    return active(models, anchor) if kind == ACTIVE else trained(models, anchor)


def weighted_mean(values: Sequence[float | None], counts: Sequence[int]) -> float | None:
    """Return the mean of the values that are defined, each counting as its samples do.

    Examples
    --------
    >>> weighted_mean([1.0, None, 0.5], [10, 99, 30])
    0.625
    """
    known = [
        (value, count) for value, count in zip(values, counts, strict=True) if value is not None
    ]
    total = sum(count for _, count in known)
    if total == 0:
        return None
    return sum(value * count for value, count in known) / total


def _active_place(models: Sequence[Trained], anchor: int) -> int:
    """Return the place of the active model, or -1.  A linear search: arrival order has no order."""
    for place in range(len(models) - 1, -1, -1):
        if models[place].trained_until < anchor:
            return place
    return -1
