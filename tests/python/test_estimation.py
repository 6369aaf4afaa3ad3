"""Estimated performance: exact expectations, calibration, and what happens under drift."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize_scalar

from benchmarks import estimating
from benchmarks.selecting.streams import Samples
from modyn.metrics import Accuracy, F1Score, Metric, RocAuc
from modyn.policies import ATC, CBPE, Estimator
from tests.conftest import Rand

Floats = npt.NDArray[np.float64]
METRICS = [
    Accuracy(),
    Accuracy(topn=2),
    F1Score(num_classes=2),
    F1Score(num_classes=2, average="binary"),
    RocAuc(),
]


def softmax(logits: Floats) -> npt.NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def drawn(
    logits: Floats, rng: np.random.Generator, sharper: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """What an overconfident model says, and labels from what would be right to say."""
    cumulated = softmax(logits).astype(np.float64).cumsum(axis=1)
    labels = (rng.random((len(logits), 1)) > cumulated).sum(axis=1)
    return softmax(sharper * logits), np.minimum(labels, logits.shape[1] - 1)


def value(
    metric: Metric, predictions: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> float:
    found = metric.value(metric.join([metric.measure(predictions, labels)]))
    assert found is not None
    return found


def all_labels(shares: Floats) -> list[tuple[float, npt.NDArray[np.int64]]]:
    """Every way to label a few samples, and its probability."""
    found = []
    for labels in product(range(shares.shape[1]), repeat=len(shares)):
        places = np.array(labels, dtype=np.int64)
        found.append((float(shares[np.arange(len(places)), places].prod()), places))
    return found


def test_accuracy_is_its_expectation_over_all_labels(rand: Rand) -> None:
    predictions = softmax(rand.numpy.normal(size=(5, 3)))
    shares = predictions.astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    for metric in (Accuracy(), Accuracy(topn=2)):
        expected = sum(p * value(metric, predictions, y) for p, y in all_labels(shares))
        assert CBPE().estimate(metric, predictions, None) == pytest.approx(expected, abs=1e-12)


def test_f1_is_that_of_the_confusion_matrix_expected_over_all_labels(rand: Rand) -> None:
    predictions = softmax(2 * rand.numpy.normal(size=(6, 3)))
    shares = predictions.astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    for average in ("macro", "micro", "weighted"):
        metric = F1Score(num_classes=3, average=average)
        matrix = sum(
            p * np.array(metric.join([metric.measure(predictions, y)])["confusion"])
            for p, y in all_labels(shares)
        )
        expected = metric.value({"confusion": matrix})
        assert CBPE().estimate(metric, predictions, None) == pytest.approx(expected, abs=1e-12)


def test_the_area_is_expected_ordered_pairs_over_expected_pairs(rand: Rand) -> None:
    predictions = softmax(np.round(2 * rand.numpy.normal(size=(7, 2))))  # with ties
    shares = predictions.astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    ordered = pairs = 0.0
    for p, y in all_labels(shares):
        counts = RocAuc().join([RocAuc().measure(predictions, y)])
        ordered += p * counts["half_pairs"]
        pairs += p * 2 * counts["positive"] * counts["negative"]

    assert CBPE().estimate(RocAuc(), predictions, None) == pytest.approx(ordered / pairs, abs=1e-12)


def test_the_temperature_has_the_least_log_loss(rand: Rand) -> None:
    predictions, labels = drawn(2 * rand.numpy.normal(size=(400, 4)), rand.numpy, sharper=2.5)
    logs = np.log(predictions.astype(np.float64))

    def loss(inverse: float) -> float:
        scaled = inverse * logs
        top = scaled.max(axis=1)
        norm = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        losses = norm - scaled[np.arange(len(labels)), labels]
        of_any = norm - scaled.mean(axis=1)
        return float(losses.sum() + of_any.mean()) / 400

    best = minimize_scalar(loss, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-9}).x

    found = CBPE().calibrate(predictions, labels)["inverse_temperature"]
    assert found == pytest.approx(best, rel=1e-4)
    assert loss(found) <= loss(best) + 1e-12


@pytest.mark.parametrize("sharper", [0.4, 1.0, 3.0])
def test_a_calibrated_estimate_is_right_where_samples_get_harder(sharper: float) -> None:
    """The noise of 20,000 samples is 0.3 points; the uncalibrated estimate is far off."""
    rng = np.random.default_rng(7)
    learned = CBPE().calibrate(*drawn(2 * rng.normal(size=(5000, 2)), rng, sharper))
    for scale in (2.0, 1.0, 0.5):
        predictions, labels = drawn(scale * rng.normal(size=(20_000, 2)), rng, sharper)
        for metric in METRICS:
            true = value(metric, predictions, labels)
            assert abs(CBPE().estimate(metric, predictions, learned) - true) < 0.015
        if sharper != 1.0:
            raw = CBPE(calibrated=False).estimate(Accuracy(), predictions, None)
            assert abs(raw - value(Accuracy(), predictions, labels)) > 0.04


@pytest.mark.parametrize("score", ["confidence", "entropy"])
def test_thresholded_confidence_gives_back_what_it_learned_from(rand: Rand, score: str) -> None:
    predictions, labels = drawn(2 * rand.numpy.normal(size=(500, 3)), rand.numpy)
    estimator = ATC(score=score)

    learned = estimator.calibrate(predictions, labels)

    true = value(Accuracy(), predictions, labels)
    assert estimator.estimate(Accuracy(), predictions, learned) == pytest.approx(true, abs=0.005)


def test_thresholded_confidence_falls_where_samples_get_harder() -> None:
    rng = np.random.default_rng(5)
    learned = ATC().calibrate(*drawn(3 * rng.normal(size=(5000, 2)), rng))
    estimates, truths = [], []
    for scale in (3.0, 2.0, 1.0):
        predictions, labels = drawn(scale * rng.normal(size=(20_000, 2)), rng)
        estimates.append(ATC().estimate(Accuracy(), predictions, learned))
        truths.append(value(Accuracy(), predictions, labels))

    assert abs(estimates[0] - truths[0]) < 0.02
    assert estimates == sorted(estimates, reverse=True)


def test_a_few_samples_that_are_all_right_make_no_model_sure_of_everything() -> None:
    sure = np.tile(np.array([[0.8, 0.2]], dtype=np.float32), (30, 1))
    learned = CBPE().calibrate(sure, np.zeros(30, dtype=np.int64))

    assert 0.97 < CBPE().estimate(Accuracy(), sure, learned) < 0.99
    unsure = np.array([[0.55, 0.45]], dtype=np.float32)
    assert CBPE().estimate(Accuracy(), unsure, learned) < 0.75


def test_ends_of_the_range() -> None:
    sure = np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32)
    right, wrong = np.array([0, 0]), np.array([1, 1])

    assert ATC().estimate(Accuracy(), sure, ATC().calibrate(sure, right)) == 1.0
    assert ATC().estimate(Accuracy(), sure, ATC().calibrate(sure, wrong)) == 0.0
    assert CBPE().estimate(Accuracy(), sure, CBPE().calibrate(sure, right)) > 0.8
    assert CBPE().estimate(Accuracy(), sure, CBPE().calibrate(sure, wrong)) < 0.52
    zeros = np.array([[1.0, 0.0]], dtype=np.float32)
    assert CBPE().estimate(Accuracy(), zeros, {"inverse_temperature": 0.5}) == pytest.approx(1)


@pytest.mark.parametrize("estimator", [CBPE(), ATC()], ids=repr)
def test_nothing_is_said_of_no_samples(estimator: Estimator) -> None:
    none = np.empty((0, 2), dtype=np.float32)

    assert np.isnan(estimator.estimate(Accuracy(), none, None))


def test_labels_that_a_model_does_not_know_teach_no_temperature() -> None:
    sure = np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32)

    assert CBPE().calibrate(sure, np.array([5, -1])) == {"inverse_temperature": 1.0}


def test_what_cannot_be_estimated_is_refused() -> None:
    three = np.full((4, 3), 1 / 3, dtype=np.float32)
    with pytest.raises(ValueError, match="ATC estimates Accuracy alone, not Top-2-Accuracy"):
        ATC().check(Accuracy(topn=2))
    with pytest.raises(ValueError, match="ROC-AUC needs two classes, the model gives 3"):
        CBPE().estimate(RocAuc(), three, None)
    with pytest.raises(ValueError, match="F1-macro has 2 classes, the model gives 3"):
        CBPE().estimate(F1Score(num_classes=2), three, None)
    with pytest.raises(ValueError, match="calibration_samples must be at least 1"):
        CBPE(calibration_samples=0)
    with pytest.raises(ValueError, match="score must be 'confidence' or 'entropy'"):
        ATC(score="margin")


@pytest.mark.long
def test_the_benchmark_of_estimates_knows_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """On samples whose labels are as likely as the best model says, estimates are near."""
    for name, value in {"TRAINED": 400, "INTERVAL": 100, "LATE": 100, "CALIBRATION": 100}.items():
        monkeypatch.setattr(estimating, name, value)
    rng = np.random.default_rng(1)
    dense = rng.normal(size=(1600, 3)).astype(np.float32)
    labels = (rng.random(1600) < 1 / (1 + np.exp(-3 * dense[:, 0]))).astype(np.int64)

    rows = estimating.estimates(Samples(dense, labels), 2, seed=0)

    assert len(rows) == 7
    for method in ("CBPE", "ATC", "last known"):
        assert np.mean([abs(row[method] - row["accuracy"]) for row in rows]) < 0.15


@pytest.mark.parametrize("estimator", [CBPE(), ATC(), ATC(score="entropy")])
def test_a_model_that_went_astray_is_never_right(estimator: Estimator, rand: Rand) -> None:
    predictions, labels = drawn(rand.numpy.normal(size=(400, 2)), rand.numpy)
    astray = predictions.copy()
    astray[::2] = np.nan

    learned = estimator.calibrate(predictions, labels)

    whole = estimator.estimate(Accuracy(), predictions[1::2], learned)
    assert estimator.estimate(Accuracy(), astray, learned) == pytest.approx(whole / 2)
    assert estimator.estimate(Accuracy(), np.full((9, 2), np.nan, np.float32), learned) == 0
    relearned = estimator.calibrate(astray, labels)
    assert all(np.isfinite(list(relearned.values())))
    assert estimator.estimate(Accuracy(), astray, relearned) <= 0.5
