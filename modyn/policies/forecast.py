"""The next value of a series, and how long a training will take: small models in closed form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from modyn.policies.criteria import mean_of

__all__ = ["FORECASTS", "ForecastingMethod", "TrainingTime", "ridge_regression", "rolling_average"]

ForecastingMethod = Literal["ridge_regression", "rolling_average"]
FEW = 5  # values, below which no line is fitted


def rolling_average(values: Sequence[float]) -> float:
    """Return the mean of the values so far.

    Raises
    ------
    ValueError
        Without values.

    Examples
    --------
    >>> rolling_average([0.5, 0.75])
    0.625
    """
    _check_some(values)
    return mean_of(values)


def ridge_regression(values: Sequence[float], alpha: float = 0.5) -> float:
    """Return the next value of a line through the values, their places 0, 1, ... being x.

    The line has the least sum of squares plus `alpha` times the square of its slope. Below five
    values it is their mean.

    Parameters
    ----------
    values : sequence of float
        Oldest first, at least one.
    alpha : float
        At least 0.

    Raises
    ------
    ValueError
        Without values.

    Examples
    --------
    >>> ridge_regression([1.0, 2.0, 3.0, 4.0, 5.0], alpha=0.0)
    6.0
    """
    _check_some(values)
    count, mean = len(values), mean_of(values)
    if count < FEW:
        return mean
    middle = (count - 1) / 2
    xy = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    slope = xy / (count * (count * count - 1) / 12 + alpha)
    return mean + slope * (count + 1) / 2


FORECASTS: dict[str, Callable[[Sequence[float]], float]] = {
    "ridge_regression": ridge_regression,
    "rolling_average": rolling_average,
}


@dataclass(frozen=True, kw_only=True)
class TrainingTime:
    """How many seconds a training takes, as a line over the size of its training set.

    Parameters
    ----------
    slope : float
        Seconds for one sample more.
    samples, seconds : float
        The means of what was observed, a point of the line.

    Examples
    --------
    >>> TrainingTime.of([1000, 3000], [2.0, 4.0]).predict(2000)
    3.0
    """

    slope: float
    samples: float
    seconds: float

    @classmethod
    def of(
        cls, samples: Sequence[int], seconds: Sequence[float], alpha: float = 1.0
    ) -> "TrainingTime":
        """Fit the line with the least sum of squares plus `alpha` times its slope squared.

        Parameters
        ----------
        samples : sequence of int
            Sizes of the training sets of earlier trainings; with one, or where all are equal, the
            line is flat.
        seconds : sequence of float
            What these trainings took.
        alpha : float
            Above 0.

        Raises
        ------
        ValueError
            Without observations, or not as many of both.
        """
        _check_some(seconds)
        if len(samples) != len(seconds):
            raise ValueError(f"there are {len(samples)} sizes and {len(seconds)} times")
        x, y = mean_of(samples), mean_of(seconds)
        xx = sum((size - x) ** 2 for size in samples)
        xy = sum((size - x) * (time - y) for size, time in zip(samples, seconds, strict=True))
        return cls(slope=xy / (xx + alpha), samples=x, seconds=y)

    def predict(self, samples: float) -> float:
        """Return the seconds for a training set of this size, at least 0."""
        return max(self.seconds + self.slope * (samples - self.samples), 0.0)


def _check_some(values: Sequence[float]) -> None:
    if not values:
        raise ValueError("there are no values to go by")
