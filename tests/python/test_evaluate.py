"""Evaluation: windows, metrics as counts, and the composite of a series of models."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import modyn
from modyn.pipelines import composite
from modyn.pipelines.composite import Trained
from modyn.pipelines.evaluate import Source, evaluate, keys_of
from modyn.pipelines.metrics import Accuracy, F1Score, RocAuc
from modyn.pipelines.table import Table
from modyn.pipelines.times import duration, timestamp
from modyn.pipelines.windows import (
    BetweenTwoTriggersEvalStrategy,
    OffsetEvalStrategy,
    PeriodicEvalStrategy,
    SlicingEvalStrategy,
    Span,
    StaticEvalStrategy,
    TrainingSpan,
    Window,
    parse_interval,
)

# Times -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1970-01-01", "s", 0),
        ("1969-12-31T23:59:59", "ms", -1000),
        ("1970-01-02T00:00:00.5+00:00", "us", 86_400_500_000),
        ("1970-01-01T01:00:00+01:00", "ns", 0),
        ("1949-01-01", "s", -662_688_000),
        (7, "ns", 7),
    ],
)
def test_a_moment_has_one_value_in_each_unit(text, unit, value):
    assert timestamp(text, unit) == value


def test_a_duration_is_in_the_unit_of_the_dataset():
    assert duration("2h", "s") == 7200
    assert duration("1y", "us") == 365 * 86_400 * 10**6
    for text in ("", "1", "d", "-1d", "1.5d", "0s", "1 d", "1M", "٣d"):
        with pytest.raises(ValueError, match="expected a duration"):
            duration(text, "s")


# Windows -----------------------------------------------------------------------------------------

SPAN = Span(first=-10, last=99, unit="s")
TRAININGS = [
    TrainingSpan(trigger=0, first=0, last=9),
    TrainingSpan(trigger=1, first=10, last=29),
]


def pairs(strategy, span=SPAN, trainings=()):
    return [(w.start, w.end) for w in strategy.windows(span, trainings)]


def test_slices_cover_the_range_once():
    slicing = SlicingEvalStrategy(eval_every="30s", eval_start_from=0, eval_end_at=100)

    assert pairs(slicing) == [(0, 30), (30, 60), (60, 90), (90, 100)]
    assert [w.anchor for w in slicing.windows(SPAN)] == [0, 30, 60, 90]


def test_slices_cover_the_dataset_where_no_range_is_given():
    assert pairs(SlicingEvalStrategy(eval_every="1m")) == [(-10, 50), (50, 100)]


def test_slices_of_years_begin_at_a_date():
    slicing = SlicingEvalStrategy(
        eval_every="1y", eval_start_from="1970-01-01", eval_end_at="1972-01-01"
    )

    assert pairs(slicing, Span(first=0, last=1, unit="ms")) == [
        (0, 31_536_000_000),
        (31_536_000_000, 63_072_000_000),
    ]


def test_too_many_slices_are_refused():
    slicing = SlicingEvalStrategy(eval_every="1s", eval_start_from=0, eval_end_at=10**9)

    with pytest.raises(ValueError, match="gives 1000000000 windows"):
        slicing.windows(SPAN)


def test_static_intervals_are_as_given():
    static = StaticEvalStrategy(intervals=((0, 10), (5, None)))

    assert pairs(static) == [(0, 10), (5, 100)]


def test_windows_between_triggers_hold_the_last_training_sample():
    assert pairs(BetweenTwoTriggersEvalStrategy(), SPAN, TRAININGS) == [
        *[(0, 10), (10, 30), (30, 100)]
    ]
    assert pairs(BetweenTwoTriggersEvalStrategy()) == []


def test_offsets_are_relative_to_each_training():
    offsets = OffsetEvalStrategy(offsets=("-inf", "-5s", "0s", "+15s", "inf"))

    assert pairs(offsets, SPAN, TRAININGS[1:]) == [
        *[(-10, 10), (5, 10), (10, 30), (30, 45), (30, 100)]
    ]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("[-2s; +2s]", (48, 53)),
        ("(-2s, +2s)", (49, 52)),
        ("[0; 5s)", (50, 55)),
        ("(-inf; -0]", (-10, 51)),
        ("[ inf ; +inf ]", (-10, 100)),
        ("(+0,inf)", (51, 100)),
    ],
)
def test_an_interval_is_taken_around_each_point(interval, expected):
    periodic = PeriodicEvalStrategy(
        every="50s", interval=interval, start_timestamp=50, end_timestamp=50
    )

    (window,) = periodic.windows(SPAN)

    assert (window.start, window.end) == expected
    assert window.anchor == 50


def test_points_go_to_the_end_inclusive():
    periodic = PeriodicEvalStrategy(
        every="10s", interval="[0;1s)", start_timestamp=0, end_timestamp=20
    )

    assert [w.anchor for w in periodic.windows(SPAN)] == [0, 10, 20]


@pytest.mark.parametrize(
    "text", ["[+inf;1s]", "[0;-inf]", "[2s;1s]", "[0;1]", "0;1s", "[;]", "[1x;2x]", "[0;1s]]", ""]
)
def test_a_wrong_interval_is_refused(text):
    with pytest.raises(ValueError, match="interval"):
        parse_interval(text)


# Metrics -----------------------------------------------------------------------------------------


def parts_of(metric, scores, labels, cuts=()):
    edges = [0, *sorted(cuts), len(labels)]
    return [metric.measure(scores[a:b], labels[a:b]) for a, b in pairwise(edges)]


def value_of(metric, scores, labels, cuts=()):
    return metric.value(metric.join(parts_of(metric, scores, labels, cuts)))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_metrics_agree_with_torchmetrics(rand, classes, average):
    scores = rand.numpy.normal(size=(500, classes)).astype(np.float32)
    labels = rand.integers(0, max(classes - 1, 2), 500)  # the last class never occurs
    tensors = torch.from_numpy(scores), torch.from_numpy(labels)

    found = value_of(F1Score(num_classes=classes, average=average), scores, labels)
    expected = oracle.multiclass_f1_score(*tensors, num_classes=classes, average=average)
    assert found == pytest.approx(float(expected), rel=1e-5)
    for topn in (1, 2):
        found = value_of(Accuracy(topn=topn), scores, labels)
        expected = oracle.multiclass_accuracy(
            *tensors, num_classes=classes, average="micro", top_k=topn
        )
        assert found == pytest.approx(float(expected))


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("steps", [1, 4, 1024])
def test_roc_auc_agrees_with_torchmetrics_also_with_ties(rand, columns, steps):
    scores = (rand.numpy.normal(size=(400, columns)) * steps).round().astype(np.float32) / steps
    labels = rand.integers(0, 2, 400)
    single = scores[:, 0] if columns == 1 else scores[:, 1] - scores[:, 0]

    expected = oracle.binary_auroc(torch.from_numpy((single + 16) / 32), torch.from_numpy(labels))

    assert value_of(RocAuc(), scores, labels) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("pos_label", [0, 1])
def test_binary_f1_agrees_with_torchmetrics(rand, pos_label):
    scores = rand.numpy.normal(size=(300, 2)).astype(np.float32)
    labels = rand.integers(0, 2, 300)
    guesses, truth = scores.argmax(axis=1) == pos_label, labels == pos_label

    expected = oracle.binary_f1_score(
        torch.from_numpy(guesses).int(), torch.from_numpy(truth).int()
    )

    metric = F1Score(num_classes=2, average="binary", pos_label=pos_label)
    assert value_of(metric, scores, labels) == pytest.approx(float(expected))


METRICS = [Accuracy(), Accuracy(topn=2), F1Score(num_classes=2), RocAuc()]


@given(
    samples=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
@settings(deadline=None)
def test_how_samples_are_cut_into_batches_does_not_matter(samples, cuts):
    scores = np.array([[0, s] for s, _ in samples], dtype=np.float32).reshape(-1, 2)
    labels = np.array([label for _, label in samples], dtype=np.int64)
    cuts = [min(cut, len(labels)) for cut in cuts]

    for metric in METRICS:
        whole = metric.join(parts_of(metric, scores, labels))
        assert metric.join(parts_of(metric, scores, labels, cuts)) == whole


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_has_no_value(metric):
    assert metric.value(metric.join([])) is None


def test_one_class_has_no_auc_but_an_accuracy():
    scores = np.array([[0, 1], [1, 0]], dtype=np.float32)
    labels = np.array([1, 1])

    assert value_of(RocAuc(), scores, labels) is None
    assert value_of(Accuracy(), scores, labels) == 0.5


def test_large_logits_that_differ_are_no_ties():
    """In float32 the sigmoid of 30 and of 40 are both 1."""
    scores = np.array([[30.0], [40.0]], dtype=np.float32)

    assert value_of(RocAuc(), scores, np.array([0, 1])) == 1.0


def test_a_score_that_is_no_number_is_never_right():
    scores = np.full((4, 2), np.nan, dtype=np.float32)
    labels = np.array([0, 1, 0, 1])

    assert value_of(Accuracy(), scores, labels) == 0.0
    assert value_of(Accuracy(), scores[:, :1], labels) == 0.0
    assert value_of(RocAuc(), scores, labels) is None


def test_labels_the_model_does_not_know_are_wrong_and_strange_ones_named():
    scores = np.array([[1, 0], [1, 0]], dtype=np.float32)
    labels = np.array([0, 7])

    assert value_of(Accuracy(), scores, labels) == 0.5
    with pytest.raises(ValueError, match="ROC-AUC needs the labels 0 and 1, got 7"):
        value_of(RocAuc(), scores, labels)
    with pytest.raises(ValueError, match="F1-macro has num_classes 2, got the label 7"):
        value_of(F1Score(num_classes=2), scores, labels)
    with pytest.raises(ValueError, match="needs two classes, the model gives 3"):
        value_of(RocAuc(), np.zeros((2, 3), dtype=np.float32), np.array([0, 1]))


# Models on windows -------------------------------------------------------------------------------


class ByRule(nn.Module):
    """Says class 1 where x is above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        return torch.cat([-x, x], dim=1)


@pytest.fixture
def shuffled(tmp_path, rand):
    """Samples whose timestamps come in no order, several of them equal."""
    dataset = modyn.Dataset.create(tmp_path / "data", schema={"x": "float32[1]"})
    x = rand.numpy.normal(size=(500, 1)).astype(np.float32)
    labels = rand.integers(0, 2, 500)
    times = rand.integers(-50, 50, 500)
    dataset.append({"x": x}, labels=labels, timestamps=times)
    yield dataset, x[:, 0], labels, times
    dataset.close()


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_window_gets_its_own_samples_and_the_model_sees_each_once(
    shuffled, batch_size, threads
):
    dataset, x, labels, times = shuffled
    source = Source(
        dataset=dataset, count=500, fields=("x",), batch_size=batch_size, threads=threads
    )
    windows = [
        Window(start=a, end=b, anchor=a) for a, b in [(-60, -20), (-30, 0), (5, 6), (40, 90)]
    ]
    model = ByRule()

    found = evaluate(model, source, windows, [Accuracy(), RocAuc()])

    assert [(one.window, one.metric) for one in found] == [
        (window, metric) for window in windows for metric in ("Accuracy", "ROC-AUC")
    ]
    for one in found[::2]:
        inside = (times >= one.window.start) & (times < one.window.end)
        assert one.count == inside.sum()
        assert one.counts["correct"] == ((x > 0) == labels)[inside].sum()
    together = (times < 0) | (times == 5) | (times >= 40)
    assert model.rows == together.sum() == source.size(windows)
    assert not model.training


def test_the_sample_at_the_end_of_a_window_is_in_the_next(shuffled):
    _, _, _, times = shuffled

    def inside(start, end):
        return set(keys_of(times, [Window(start=start, end=end, anchor=0)]).tolist())

    assert inside(-50, 10) & inside(10, 50) == set()
    assert inside(-50, 10) | inside(10, 50) == set(range(500))


def test_samples_appended_after_the_start_take_no_part(shuffled):
    dataset, _, _, times = shuffled
    source = Source(dataset=dataset, count=100, fields=("x",), batch_size=64, threads=1)

    (found,) = evaluate(ByRule(), source, [Window(start=-50, end=50, anchor=0)], [Accuracy()])

    assert found.count == 100
    assert source.span().first == times[:100].min()


def test_an_empty_window_has_no_value(shuffled):
    dataset, *_ = shuffled
    source = Source(dataset=dataset, count=500, fields=("x",), batch_size=64, threads=1)

    (found,) = evaluate(ByRule(), source, [Window(start=900, end=901, anchor=0)], [Accuracy()])

    assert (found.value, found.count) == (None, 0)


# The composite -----------------------------------------------------------------------------------


def models(*untils: int) -> list[Trained]:
    return [Trained(trigger=2 * i, trained_until=until) for i, until in enumerate(untils)]


@pytest.mark.parametrize(
    ("anchor", "active", "trained"),
    [
        (0, None, 0),
        (9, None, 0),
        (10, 0, 2),
        (19, 0, 2),
        (20, 2, 4),
        (30, 4, 4),
        (1000, 4, 4),
    ],
)
def test_the_active_model_saw_nothing_of_the_window(anchor, active, trained):
    series = models(9, 19, 29)

    assert composite.active(series, anchor) == active
    assert composite.trained(series, anchor) == trained


def test_without_models_nothing_is_current():
    assert composite.active([], 0) is None
    assert composite.trained([], 0) is None


def test_a_model_that_saw_a_late_sample_is_not_active_before_it():
    series = models(9, 99, 29)

    assert composite.active(series, 50) == 4
    assert composite.active(series, 29) == 0


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be 'active' or 'trained', got 'newest'"):
        composite.current(models(1), 5, "newest")


def test_a_table_is_columns_of_one_length():
    table = Table.of(["a", "b"], [(1, 2), (3, 4)])

    assert table["b"] == [2, 4]
    assert table.rows() == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert len(Table.of(["a"], [])) == 0
    with pytest.raises(ValueError, match="columns differ in length"):
        Table({"a": [1], "b": []})
