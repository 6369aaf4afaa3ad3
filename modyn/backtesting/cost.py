"""What a policy costs: in seconds, in samples, or in money."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Cost", "shown"]

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """How trainings are counted.

    Parameters
    ----------
    unit : {"seconds", "samples", "money", "trainings"}
        Seconds of training, samples that went through it (each as often as it came), what both
        the time and the training itself cost, or how many trainings there were.
    per_hour : float
        Of money, for an hour of training.
    per_training : float
        Of money, for each training, such as a review before a model goes into use.
    currency : str
        What money is called.

    Examples
    --------
    >>> cost = Cost(unit="money", per_hour=3.6, per_training=0.5, currency="EUR")
    >>> cost.of(seconds=np.array([100.0]), samples=np.array([5000.0])).tolist(), cost.name
    ([0.6], 'EUR')
    """

    unit: Literal["seconds", "samples", "money", "trainings"] = "seconds"
    per_hour: float = 0.0
    per_training: float = 0.0
    currency: str = "money"

    def __post_init__(self) -> None:
        if self.unit not in ("seconds", "samples", "money", "trainings"):
            raise ValueError(
                f"unit must be 'seconds', 'samples', 'money' or 'trainings', got {self.unit!r}"
            )
        for name in ("per_hour", "per_training"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.unit == "money" and self.per_hour == self.per_training == 0.0:
            raise ValueError("unit money needs per_hour, per_training, or both")
        if self.unit != "money" and (self.per_hour or self.per_training):
            raise ValueError(f"per_hour and per_training are of money, and unit is {self.unit!r}")

    @property
    def name(self) -> str:
        """What a number of it is called."""
        return {"seconds": "seconds of training", "samples": "samples trained"}.get(
            self.unit, self.currency if self.unit == "money" else self.unit
        )

    def of(
        self, *, seconds: npt.NDArray[np.float64], samples: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return what each training costs.

        Parameters
        ----------
        seconds, samples : float64, shape (n,)
            What the trainings took, and how many samples went through them.
        """
        if self.unit == "seconds":
            return seconds
        if self.unit == "samples":
            return samples
        if self.unit == "trainings":
            return np.ones(len(seconds))
        return seconds * (self.per_hour / HOUR) + self.per_training


def shown(amount: float) -> str:
    """Return an amount as tables show it.

    Examples
    --------
    >>> shown(0.123456), shown(12345.6)
    ('0.1235', '12,346')
    """
    return f"{amount:,.0f}" if abs(amount) >= 1000 else f"{amount:.4g}"
