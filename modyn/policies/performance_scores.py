"""How well a model does on samples: what performance triggers ask."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modyn.metrics import Accuracy, Metric
from modyn.policies.context import Context
from modyn.policies.estimation import Estimator

__all__ = ["Calibration", "Measured", "Performance", "avoidable"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How well a model did.

    Parameters
    ----------
    accuracy : float
        Of the best class; nan where it could not be estimated.
    scores : mapping of str to float
        By the reported names of the metrics; nan where one is undefined.
    estimated : bool
        Whether they are estimates.
    """

    accuracy: float
    scores: Mapping[str, float]
    estimated: bool


@dataclass(frozen=True, kw_only=True)
class Performance:
    """The question how well a model does on some samples.

    Parameters
    ----------
    model : str
        Its content key.
    keys : bytes
        Of the samples, uint64.
    metrics : tuple of Metric
    estimator : Estimator or None
        What estimates the metrics, where labels are not known; None where they are.
    calibration : tuple of (str, float), or None
        What the estimator has learned.
    trigger : int
        Whose model it is.
    """

    model: str
    keys: bytes
    metrics: tuple[Metric, ...]
    estimator: Estimator | None
    calibration: tuple[tuple[str, float], ...] | None
    trigger: int = field(compare=False)

    @property
    def key(self) -> Hashable:
        """All that decides on the answer."""
        return self

    def answer(self, context: Context) -> Measured:
        """Return the metrics, and accuracy in any case."""
        keys = np.frombuffer(self.keys, dtype=np.uint64)
        predictions = context.predictions(keys, self.trigger)
        labels = context.labels(keys) if self.estimator is None else None
        learned = None if self.calibration is None else dict(self.calibration)

        def value(metric: Metric) -> float:
            if labels is None:
                assert self.estimator is not None  # noqa: S101
                return self.estimator.estimate(metric, predictions, learned)
            found = metric.value(metric.join([metric.measure(predictions, labels)]))
            return float("nan") if found is None else found

        scores = {metric.name: value(metric) for metric in self.metrics}
        best = Accuracy()
        accuracy = scores[best.name] if best in self.metrics else value(best)
        return Measured(accuracy=accuracy, scores=scores, estimated=labels is None)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The question what an estimator learns of a model from some labelled samples.

    Parameters
    ----------
    model : str
        The newest model's content key.
    keys : bytes
        Of the samples, uint64.
    estimator : Estimator
    """

    model: str
    keys: bytes
    estimator: Estimator

    @property
    def key(self) -> Hashable:
        """All that decides on the answer."""
        return self

    def answer(self, context: Context) -> Mapping[str, float]:
        """Return what it learned."""
        keys = np.frombuffer(self.keys, dtype=np.uint64)
        return self.estimator.calibrate(context.predictions(keys), context.labels(keys))


def avoidable(
    accuracy: Any, samples: int, expected_accuracy: Any, *, reduce: Any, estimated: bool = False
) -> Any:
    """Return how many misclassifications a model of the expected accuracy would not have made.

    Parameters
    ----------
    accuracy : float, or float64 of shape (p,)
        How well the model did; 0 are avoidable where that is not known.
    samples : int
        On how many.
    expected_accuracy, reduce
        Numbers or arrays likewise: what to expect, and whether less than 0 may be avoidable.
    estimated : bool
        Whether the number of misclassifications need not be whole.
    """
    wrong = samples * (1 - np.asarray(accuracy))
    more = (wrong if estimated else np.rint(wrong)) - (1 - expected_accuracy) * samples
    return np.where(np.isfinite(more), np.where(reduce, more, np.maximum(0.0, more)), 0.0)
