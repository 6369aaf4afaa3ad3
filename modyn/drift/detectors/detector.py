"""What all detectors share: numbers in, the places of drifts out, and a state that travels."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["Detector"]

PIECE = 1024  # values that are looked at together, so that many drifts cost no more than one


@dataclass(kw_only=True)
class Detector:
    """Looks at a series of numbers one by one; after a drift it begins anew.

    A detector is a dataclass of its parameters. What it has seen lies in private attributes, so
    that two detectors with the same parameters are equal whatever they saw, and
    `dataclasses.replace(detector)` is a fresh one.

    Attributes
    ----------
    warning : bool
        Whether a drift seems near, for those that can say so.
    binary : bool
        Whether it takes only 0 and 1, such as right and wrong.

    Examples
    --------
    >>> from modyn.drift.detectors import PageHinkley
    >>> detector = PageHinkley(threshold=5.0)
    >>> quiet, loud = [0.0] * 100, [1.0] * 100
    >>> detector.update(quiet + loud)
    106
    >>> detector.update(loud[6:])
    """

    binary: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.warning = False
        self.reset()

    def update(self, values: Sequence[float] | npt.NDArray[np.floating]) -> int | None:
        """Return how many of the values it took until it saw a drift, or None if there is none.

        The last of these is the one that showed it; later ones were not looked at, and are to be
        given again. How a series is cut into calls does not matter.

        Raises
        ------
        ValueError
            For values that are not finite, or not 0 or 1 where only these make sense; then no
            value was looked at.
        """
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.ndim != 1:
            raise ValueError(f"values must have one dimension, got shape {numbers.shape}")
        wrong = ~np.isfinite(numbers)
        if self.binary:
            wrong |= (numbers != 0) & (numbers != 1)
        if wrong.any():
            what = "0 or 1" if self.binary else "finite"
            raise ValueError(f"values must be {what}, got {numbers[wrong][0]}")
        taken = self._take(numbers.tolist())
        if taken is not None:
            self.reset()
        return taken

    def drifts(self, values: Sequence[float] | npt.NDArray[np.floating]) -> list[int]:
        """Return the places of all values that showed a drift, counted from 0.

        Examples
        --------
        >>> from modyn.drift.detectors import DDM
        >>> DDM().drifts([0.0] * 100 + [1.0] * 100)
        [100]
        """
        numbers = np.asarray(values, dtype=np.float64)
        found: list[int] = []
        first = 0
        while first < len(numbers):
            piece = numbers[first : first + PIECE]
            taken = self.update(piece)
            first += len(piece) if taken is None else taken
            if taken is not None:
                found.append(first - 1)
        return found

    def reset(self) -> None:
        """Forget what was seen."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return what was seen as plain JSON values; None stands for infinity."""
        parameters = {field.name for field in fields(self)}
        return {
            name.removeprefix("_"): None if value == math.inf else deepcopy(value)
            for name, value in vars(self).items()
            if name not in parameters
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.reset()
        for name, value in state.items():
            kept = name if name == "warning" else f"_{name}"
            if not hasattr(self, kept):
                raise ValueError(f"{type(self).__name__} has no {name!r} in its state")
            setattr(self, kept, math.inf if value is None else deepcopy(value))

    def _take(self, values: list[float]) -> int | None:
        """Take values until there is a drift; they are known to make sense."""
        raise NotImplementedError
