"""Metrics as counts: what is measured on parts adds up to what the whole would have given.

Evaluation measures models with them, and so do the triggers that go by performance.

A metric measures batches (`measure`), joins the parts of a window (`join`) into counts that are
plain JSON values, and says what the counts amount to (`value`), None where that is undefined:
no sample, or one class only for ROC-AUC.  All counts are integers, so a value is the same however
its window was cut into batches.

Scores are the model's output: one column per class, or a single logit for class 1 against 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]  # shape (n, classes); (n, 1) for a single logit
Labels = npt.NDArray[np.int64]  # shape (n,)
Part = tuple[npt.NDArray[Any], ...]
Counts = dict[str, Any]


class Metric(Protocol):
    """What the three metrics have in common."""

    @property
    def name(self) -> str:
        """The name under which results are reported."""

    @property
    def classes(self) -> int | None:
        """How many classes there may be, labels being 0 and up; None for any."""

    def measure(self, scores: Scores, labels: Labels) -> Part:
        """Return what is kept of a batch."""

    def join(self, parts: Sequence[Part]) -> Counts:
        """Return the counts of a window."""

    def value(self, counts: Counts) -> float | None:
        """Return the metric, or None where it is undefined."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The share of samples whose label is among the `topn` best scores.

    Ties go to the class that comes first; a score that is not a number is never right.

    Examples
    --------
    >>> scores = np.array([[2, 1], [0, 3], [1, 1]], dtype=np.float32)
    >>> part = Accuracy().measure(scores, np.array([0, 0, 0]))
    >>> Accuracy().join([part])
    {'correct': 2, 'total': 3}
    """

    topn: int = 1

    def __post_init__(self) -> None:
        if self.topn < 1:
            raise ValueError(f"topn must be at least 1, got {self.topn}")

    @property
    def name(self) -> str:
        """`Accuracy`, or `Top-<n>-Accuracy`."""
        return "Accuracy" if self.topn == 1 else f"Top-{self.topn}-Accuracy"

    @property
    def classes(self) -> None:
        """Any; a label that the model does not know counts as wrong."""
        return None

    def measure(self, scores: Scores, labels: Labels) -> Part:
        """Return (correct, total) of a batch."""
        correct = np.count_nonzero(_rank(scores, labels) < self.topn)
        return (np.array([correct, len(labels)], dtype=np.int64),)

    def join(self, parts: Sequence[Part]) -> Counts:
        """Return the sums."""
        correct, total = sum((part[0] for part in parts), np.zeros(2, dtype=np.int64))
        return {"correct": int(correct), "total": int(total)}

    def value(self, counts: Counts) -> float | None:
        """Return correct / total."""
        return counts["correct"] / counts["total"] if counts["total"] else None


@dataclass(frozen=True, kw_only=True)
class F1Score:
    """The F1 score from the confusion matrix; classes that never occur do not count.

    Parameters
    ----------
    num_classes : int
        Labels are 0 .. num_classes - 1.
    average : {"macro", "micro", "weighted", "binary"}
        How classes are averaged; "binary" is the score of `pos_label` alone.
    pos_label : int
        For "binary".
    """

    num_classes: int
    average: Literal["macro", "micro", "weighted", "binary"] = "macro"
    pos_label: int = 1

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {self.num_classes}")
        if self.average == "binary" and self.num_classes != 2:
            raise ValueError(f"average 'binary' needs num_classes 2, got {self.num_classes}")
        if not 0 <= self.pos_label < self.num_classes:
            raise ValueError(f"pos_label must be a class, got {self.pos_label}")

    @property
    def name(self) -> str:
        """`F1-<average>`, or `F1-binary-<pos_label>`."""
        suffix = f"-{self.pos_label}" if self.average == "binary" else ""
        return f"F1-{self.average}{suffix}"

    @property
    def classes(self) -> int:
        """`num_classes`."""
        return self.num_classes

    def measure(self, scores: Scores, labels: Labels) -> Part:
        """Return the confusion matrix of a batch, row: label, column: prediction."""
        guesses = _predictions(scores)
        n = self.num_classes
        for what, classes in (("label", labels), ("prediction", guesses)):
            wrong = classes[(classes < 0) | (classes >= n)]
            if len(wrong):
                raise ValueError(f"{self.name} has num_classes {n}, got the {what} {wrong[0]}")
        cells = np.bincount(labels * n + guesses, minlength=n * n)
        return (cells.reshape(n, n).astype(np.int64),)

    def join(self, parts: Sequence[Part]) -> Counts:
        """Return the sum of the matrices."""
        n = self.num_classes
        matrix = sum((part[0] for part in parts), np.zeros((n, n), dtype=np.int64))
        return {"confusion": matrix.tolist()}

    def value(self, counts: Counts) -> float | None:
        """Return 2 tp / (2 tp + fp + fn), averaged."""
        matrix = np.array(counts["confusion"])  # of integers, or of expected counts
        hits, support, guessed = (
            matrix.diagonal(),
            matrix.sum(axis=1),
            matrix.sum(axis=0),
        )
        if matrix.sum() == 0:
            return None
        if self.average == "micro":
            return float(hits.sum() / matrix.sum())
        both = support + guessed
        scores = np.divide(2.0 * hits, both, out=np.zeros(len(both)), where=both > 0)
        if self.average == "binary":
            return float(scores[self.pos_label]) if both[self.pos_label] else None
        if self.average == "weighted":
            return float((scores * support).sum() / support.sum())
        return float(scores[both > 0].mean())


@dataclass(frozen=True, kw_only=True)
class RocAuc:
    """The area under the ROC curve of class 1 against class 0, ties counting half.

    It is counted in pairs, without bins and without a sigmoid, which would turn different large
    logits into equal scores.  All scores of a window are kept until the window is complete.

    Examples
    --------
    >>> scores = np.array([[0.1], [0.4], [0.4], [0.8]], dtype=np.float32)
    >>> counts = RocAuc().join([RocAuc().measure(scores, np.array([0, 0, 1, 1]))])
    >>> counts, RocAuc().value(counts)
    ({'half_pairs': 7, 'positive': 2, 'negative': 2}, 0.875)
    """

    @property
    def name(self) -> str:
        """`ROC-AUC`."""
        return "ROC-AUC"

    @property
    def classes(self) -> int:
        """Two."""
        return 2

    def measure(self, scores: Scores, labels: Labels) -> Part:
        """Return the scores of class 1 and the labels."""
        if scores.shape[1] > 2:
            raise ValueError(f"ROC-AUC needs two classes, the model gives {scores.shape[1]}")
        wrong = labels[(labels != 0) & (labels != 1)]
        if len(wrong):
            raise ValueError(f"ROC-AUC needs the labels 0 and 1, got {wrong[0]}")
        wide = scores.astype(np.float64)
        return (
            wide[:, 0] if scores.shape[1] == 1 else wide[:, 1] - wide[:, 0],
            labels == 1,
        )

    def join(self, parts: Sequence[Part]) -> Counts:
        """Return how many pairs are in the right order, in halves."""
        scores = np.concatenate([np.empty(0), *(part[0] for part in parts)])
        positive = np.concatenate([np.empty(0, dtype=np.bool_), *(part[1] for part in parts)])
        n_positive = int(np.count_nonzero(positive))
        sizes = {"positive": n_positive, "negative": len(positive) - n_positive}
        if np.isnan(scores).any():
            return {"half_pairs": None, **sizes}
        return {"half_pairs": _half_pairs(scores, positive), **sizes}

    def value(self, counts: Counts) -> float | None:
        """Return the share of pairs in the right order."""
        pairs = counts["positive"] * counts["negative"]
        if pairs == 0 or counts["half_pairs"] is None:
            return None
        return float(counts["half_pairs"] / (2 * pairs))


def _half_pairs(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> int:
    """Return twice the pairs with the positive above the negative, plus the ties."""
    values, places = np.unique(scores, return_inverse=True)
    ups = np.bincount(places[positive], minlength=len(values))
    downs = np.bincount(places[~positive], minlength=len(values))
    below = np.cumsum(downs) - downs
    return int((ups * (2 * below + downs)).sum())


def misclassified(scores: Scores, labels: Labels) -> npt.NDArray[np.bool_]:
    """Return which samples `Accuracy` counts as wrong.

    Examples
    --------
    >>> scores = np.array([[2, 1], [0, 3], [np.nan, 1]], dtype=np.float32)
    >>> misclassified(scores, np.array([0, 0, 0]))
    array([False,  True,  True])
    """
    wrong: npt.NDArray[np.bool_] = _rank(scores, labels) > 0
    return wrong


def _rank(scores: Scores, labels: Labels) -> npt.NDArray[np.int64]:
    """Return how many classes come before each sample's label, best score first."""
    if scores.shape[1] == 1:  # a single logit: class 1 where it is above 0
        logit = scores[:, 0]
        right = ((labels == 1) & (logit > 0)) | ((labels == 0) & (logit <= 0))
        return np.where(right, np.int64(0), np.int64(1))
    classes = scores.shape[1]
    known = (labels >= 0) & (labels < classes)
    places = np.where(known, labels, 0)
    own = np.take_along_axis(scores, places[:, None], axis=1)
    # Counting what is beaten, not what beats, makes NaN lose against everything.
    later = np.arange(classes)[None, :] > places[:, None]
    beaten = (scores < own) | ((scores == own) & later)
    rank = classes - 1 - beaten.sum(axis=1, dtype=np.int64)
    return np.where(known, rank, np.int64(classes))


def _predictions(scores: Scores) -> npt.NDArray[np.int64]:
    if scores.shape[1] == 1:
        return np.where(scores[:, 0] > 0, np.int64(1), np.int64(0))
    best: Labels = scores.argmax(axis=1).astype(np.int64)
    return best
