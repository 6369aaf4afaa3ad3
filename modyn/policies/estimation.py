"""How well a model does where labels are not known yet: estimated from its own confidence.

A model that is calibrated is right with the probability that it gives, so that what it says of
samples tells how many of them it gets right.  Models are not calibrated, so an estimator first
learns from labelled samples that the model was not trained on (`calibrate`), and says of others
what a metric would be (`estimate`).  Both fail where labels change and samples do not: a drift
that no prediction shows is seen when the labels come, and not before.

On five real streams with labels that are 1,000 samples late (benchmarks/estimating.py) CBPE was
nearer to the accuracy of an interval than the last known accuracy on four, by 0.2 to 3.0 points,
and far off on the fifth, whose drift turns predictions wrong that the model is sure of: 22 points
against 12.  ATC was nearer than the last known accuracy on three.  So look at both for a while,
with `label_delay` set and notes of a run at hand, before you rely on either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from modyn.metrics import Accuracy, F1Score, Metric, RocAuc, misclassified
from modyn.policies.checked import check_integer

__all__ = ["ATC", "CBPE", "Estimator"]

Probabilities = npt.NDArray[np.float32]  # shape (n, classes)
Labels = npt.NDArray[np.int64]  # shape (n,)
Calibration = Mapping[str, float]

COLDEST, HOTTEST = 0.01, 100.0  # inverse temperatures
HALVINGS = 60  # of that range, after which float64 has no more digits
LEAST = 1e-30  # probability: its logarithm is finite


class Estimator(Protocol):
    """Estimates metrics from predictions; a frozen dataclass of its parameters."""

    @property
    def calibration_samples(self) -> int:
        """From how many labelled samples it learns."""

    def check(self, metric: Metric, /) -> None:
        """Refuse a metric that it does not estimate, with a ValueError."""

    def calibrate(self, predictions: Probabilities, labels: Labels, /) -> dict[str, float]:
        """Return what it learned from labelled samples that the model was not trained on."""

    def estimate(
        self, metric: Metric, predictions: Probabilities, calibration: Calibration | None, /
    ) -> float:
        """Return what a metric would be on these samples; nan where nothing can be said.

        Parameters
        ----------
        metric : Metric
        predictions : float32, shape (n, classes)
            Class probabilities.
        calibration : mapping or None
            What `calibrate` returned; None before there was anything to learn from.
        """


@dataclass(frozen=True, kw_only=True)
class CBPE:
    """Confidence-based: calibrated probabilities taken for how often a prediction is right.

    Predictions are calibrated by a temperature, the one of least log loss on the labelled samples
    (one number, a convex search), and are taken as they are before there are any.  Then the
    accuracy is the mean probability of the predicted class (of the n best, for top-n accuracy);
    F1 scores are those of the expected confusion matrix; ROC-AUC is the expected number of pairs
    in the right order over the expected number of pairs.

    Parameters
    ----------
    calibration_samples : int
        From how many labelled samples the temperature is learned; at least 1.
    calibrated : bool
        Whether it is learned at all, or predictions are taken as they are.

    References
    ----------
    J. Kivimäki, J. Białek, W. Kuberski, J. K. Nurminen: Performance Estimation in Binary
    Classification Using Calibrated Confidence, arXiv 2505.05295.  There the elements of the
    confusion matrix are random variables whose whole distribution is derived; here they are
    their expectations, of any number of classes.  The mean confidence as an estimate of accuracy
    is older: D. Hendrycks, K. Gimpel, arXiv 1610.02136.  Temperature: C. Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.

    Examples
    --------
    >>> sure = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
    >>> round(CBPE().estimate(Accuracy(), sure, None), 6)
    0.85

    A model that is right half of the time has nothing to be sure of:

    >>> learned = CBPE().calibrate(sure, np.array([0, 0]))
    >>> CBPE().estimate(Accuracy(), sure, learned) < 0.8
    True
    """

    calibration_samples: int = 1000
    calibrated: bool = True

    def __post_init__(self) -> None:
        check_integer("calibration_samples", self.calibration_samples, 1)

    def check(self, metric: Metric) -> None:
        """Refuse what is neither Accuracy, F1Score nor RocAuc."""
        if not isinstance(metric, Accuracy | F1Score | RocAuc):
            raise ValueError(f"CBPE estimates Accuracy, F1Score and RocAuc, not {metric.name}")

    def calibrate(self, predictions: Probabilities, labels: Labels) -> dict[str, float]:
        """Return the inverse temperature of least log loss.

        One sample more counts, of which nothing is known: its label may be any, its prediction is
        as the others are on average.  It keeps few samples that are all right from making a model
        sure of everything.  Samples of classes that the model does not know are left out: no
        temperature helps there.
        """
        known = (labels >= 0) & (labels < predictions.shape[1]) & _are_numbers(predictions)
        if not self.calibrated or not known.any():
            return {"inverse_temperature": 1.0}
        logs = _logs(predictions[known])
        of_labels = np.take_along_axis(logs, labels[known][:, None], axis=1).sum()
        target = float((of_labels + logs.mean()) / (len(logs) + 1))
        low, high = np.log(COLDEST), np.log(HOTTEST)
        for _ in range(HALVINGS):  # the slope of the loss ascends with the inverse temperature
            middle = (low + high) / 2
            mean_log = float((_tempered(logs, float(np.exp(middle))) * logs).sum(axis=1).mean())
            low, high = (low, middle) if mean_log > target else (middle, high)
        return {"inverse_temperature": float(np.exp((low + high) / 2))}

    def estimate(
        self, metric: Metric, predictions: Probabilities, calibration: Calibration | None
    ) -> float:
        """Return the expected metric."""
        if len(predictions) == 0:
            return float("nan")
        inverse = 1.0 if calibration is None else calibration["inverse_temperature"]
        numbers = _are_numbers(predictions)  # no other is ever right
        shares = np.zeros(predictions.shape)
        shares[numbers] = _tempered(_logs(predictions[numbers]), inverse)
        if isinstance(metric, Accuracy):
            best = np.sort(shares, axis=1)[:, -metric.topn :]
            return float(best.sum(axis=1).mean())
        if isinstance(metric, RocAuc):
            return _expected_area(predictions, shares)
        matrix = _expected_confusion(predictions, shares, metric)
        return _number(metric.value({"confusion": matrix}))


@dataclass(frozen=True, kw_only=True)
class ATC:
    """Average thresholded confidence: the share of samples that the model is sure enough of.

    The threshold is learned from labelled samples: as large a share of them lies below it as the
    model gets wrong.  The accuracy of others is the share that does not lie below it.  Before
    there are labelled samples it says nothing.

    Parameters
    ----------
    score : {"confidence", "entropy"}
        How sure a model is: the largest probability, or the negative entropy.
    calibration_samples : int
        From how many labelled samples the threshold is learned; at least 1.

    References
    ----------
    S. Garg, S. Balakrishnan, Z. C. Lipton, B. Neyshabur, H. Sedghi: Leveraging Unlabeled Data to
    Predict Out-of-Distribution Performance, ICLR 2022, arXiv 2201.04234.  There the model is
    calibrated by a temperature before; with "confidence" and two classes that changes nothing.

    Examples
    --------
    >>> sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]], dtype=np.float32)
    >>> learned = ATC().calibrate(sure, np.array([0, 1, 0, 0]))  # the last is wrong
    >>> ATC().estimate(Accuracy(), sure, learned), ATC().estimate(Accuracy(), sure[2:], learned)
    (0.75, 0.5)
    """

    score: Literal["confidence", "entropy"] = "confidence"
    calibration_samples: int = 1000

    def __post_init__(self) -> None:
        if self.score not in ("confidence", "entropy"):
            raise ValueError(f"score must be 'confidence' or 'entropy', got {self.score!r}")
        check_integer("calibration_samples", self.calibration_samples, 1)

    def check(self, metric: Metric) -> None:
        """Refuse all but Accuracy of the best class."""
        if metric != Accuracy():
            raise ValueError(f"ATC estimates Accuracy alone, not {metric.name}")

    def calibrate(self, predictions: Probabilities, labels: Labels) -> dict[str, float]:
        """Return the threshold."""
        if len(labels) == 0:
            raise ValueError("there are no labelled samples to calibrate with")
        wrong = int(np.count_nonzero(misclassified(predictions, labels)))
        scores = np.sort(self._scores(predictions))
        return {"threshold": float(scores[wrong]) if wrong < len(scores) else float("inf")}

    def estimate(
        self, metric: Metric, predictions: Probabilities, calibration: Calibration | None
    ) -> float:
        """Return the share of samples at or above the threshold."""
        if calibration is None or len(predictions) == 0:
            return float("nan")
        return float((self._scores(predictions) >= calibration["threshold"]).mean())

    def _scores(self, predictions: Probabilities) -> npt.NDArray[np.float64]:
        if self.score == "confidence":
            sure = predictions.max(axis=1).astype(np.float64)
        else:
            sure = (predictions.astype(np.float64) * _logs(predictions)).sum(axis=1)
        scores: npt.NDArray[np.float64] = np.where(_are_numbers(predictions), sure, -np.inf)
        return scores


def _are_numbers(predictions: Probabilities) -> npt.NDArray[np.bool_]:
    """Return which samples have predictions: a model that went astray gives none."""
    numbers: npt.NDArray[np.bool_] = np.isfinite(predictions.sum(axis=1))
    return numbers


def _logs(predictions: Probabilities) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.log(np.maximum(predictions.astype(np.float64), LEAST))
    return found


def _tempered(logs: npt.NDArray[np.float64], inverse: float) -> npt.NDArray[np.float64]:
    """Return probabilities, sharpened or softened by an inverse temperature."""
    scaled = inverse * logs
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _expected_confusion(
    predictions: Probabilities, shares: npt.NDArray[np.float64], metric: Metric
) -> npt.NDArray[np.float64]:
    """Return the confusion matrix that is expected, row: label, column: prediction."""
    classes = shares.shape[1]
    if metric.classes != classes:
        raise ValueError(f"{metric.name} has {metric.classes} classes, the model gives {classes}")
    guesses = predictions.argmax(axis=1)
    columns = [shares[guesses == guess].sum(axis=0) for guess in range(classes)]
    matrix: npt.NDArray[np.float64] = np.stack(columns, axis=1)
    return matrix


def _expected_area(predictions: Probabilities, shares: npt.NDArray[np.float64]) -> float:
    """Return the expected pairs in the right order, ties half, over the expected pairs."""
    if shares.shape[1] != 2:
        raise ValueError(f"ROC-AUC needs two classes, the model gives {shares.shape[1]}")
    wide = predictions.astype(np.float64)
    values, places = np.unique(wide[:, 1] - wide[:, 0], return_inverse=True)
    ups = np.bincount(places, weights=shares[:, 1], minlength=len(values))
    downs = np.bincount(places, weights=shares[:, 0], minlength=len(values))
    below = np.cumsum(downs) - downs
    with_itself = float((shares[:, 0] * shares[:, 1]).sum())
    halves = float((ups * (2 * below + downs)).sum()) - with_itself
    pairs = float(ups.sum() * downs.sum()) - with_itself
    return halves / (2 * pairs) if pairs > 0 else float("nan")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
