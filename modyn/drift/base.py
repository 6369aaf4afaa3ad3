"""What a drift metric is: two windows in, one number out, higher where they differ more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Distance", "DriftMetric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far two windows are apart.

    Parameters
    ----------
    value : float
        Higher where they differ more; nan where it is undefined, which never fires.
    p_value : float or None
        Of a permutation test, where the metric was asked for one.
    details : mapping
        What it depends on, such as the bandwidth of a kernel; plain floats, for the ledger.
    """

    value: float
    p_value: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)


class DriftMetric(Protocol):
    """A distance of two windows; a frozen dataclass of its parameters."""

    def distance(
        self,
        reference: npt.NDArray[np.floating],
        current: npt.NDArray[np.floating],
        /,
        *,
        seed: int = 0,
    ) -> Distance:
        """Return the distance of the current window from the reference.

        Parameters
        ----------
        reference, current : float32 or float64, shapes (n, d) and (m, d)
            Sums are float64 whatever they are.
        seed : int
            Of what the metric draws; the same seed gives the same value.

        Raises
        ------
        ValueError
            For windows without rows, of different width, or with values that are not finite.
        """
