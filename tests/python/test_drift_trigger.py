"""The drift trigger: windows, calibration, votes, and who is asked how often."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from modyn.arrivals import Arrivals
from modyn.drift.base import Distance
from modyn.pipelines.schema_drift_metrics import METRICS
from modyn.policies import DataAmountTrigger, HeldHistory, PastModel, PlainContext, windows
from modyn.policies.aggregation import AtLeastN, Custom
from modyn.policies.checks import check_trigger
from modyn.policies.criteria import (
    DynamicQuantileThresholdCriterion,
    ThresholdDecisionCriterion,
)
from modyn.policies.drift import DataDriftTrigger, Metric
from modyn.policies.window_rows import LOOKS, Look, WindowRows
from modyn.policies.windows import AmountWindowingStrategy, TimeWindowingStrategy
from tests.python.drift_play import WIDTH, Models, Played, play
from tests.reference import triggers_drift as twin

Rows = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The largest difference of means; undefined for less than `least` rows."""

    least: int = 1

    def distance(self, reference: Rows, current: Rows, /, *, seed: int = 0) -> Distance:
        if min(len(reference), len(current)) < self.least:
            return Distance(value=math.nan)
        means = [np.asarray(rows, dtype=np.float64).mean(axis=0) for rows in (reference, current)]
        gap = np.abs(means[0] - means[1]).max()  # NumPy's float64, as metrics of users may return
        return Distance(value=gap * (1 + seed % 101 / 1000), details={"rows": len(current)})


def far(threshold: float, **more: object) -> Metric:
    criterion = ThresholdDecisionCriterion(threshold=threshold)
    return Metric(metric=Gap(), decision_criterion=criterion, **more)  # type: ignore[arg-type]


def far_for_once(window_size: int = 5, **more: object) -> Metric:
    criterion = DynamicQuantileThresholdCriterion(window_size=window_size, quantile=0.1)
    return Metric(metric=Gap(), decision_criterion=criterion, **more)  # type: ignore[arg-type]


def stream_of(timestamps: list[int], seed: int = 0) -> Arrivals:
    keys = np.random.default_rng(seed).permutation(len(timestamps)).astype(np.uint64)
    return Arrivals(keys, np.array(timestamps, dtype=np.int64), (keys % 2).astype(np.int64))


def noise(count: int, *, moved_from: int | None = None, by: float = 3.0) -> Models:
    """Rows of normal numbers; the samples from that position on are moved."""
    rows = np.random.default_rng(1).normal(size=(count, WIDTH))
    if moved_from is not None:
        rows[moved_from:] += by
    return Models(rows)


def in_order(count: int) -> Arrivals:
    """A stream whose keys are positions."""
    keys = np.arange(count, dtype=np.uint64)
    return Arrivals(keys, np.arange(count, dtype=np.int64) * 10, (keys % 2).astype(np.int64))


# Against the twin ------------------------------------------------------------------------------


def drawn(seed: int) -> tuple[DataDriftTrigger, twin.Settings]:
    """A trigger and what its twin is told."""
    rng = np.random.default_rng(seed)

    def number(least: int, most: int) -> int:
        return int(rng.integers(least, most + 1))

    v, every, overlap = number(0, 5), number(10, 60), bool(rng.integers(2))
    amount, time = ((number(1, 60), number(1, 40)), None)
    strategy: AmountWindowingStrategy | TimeWindowingStrategy = AmountWindowingStrategy(
        amount_ref=amount[0], amount_cur=amount[1], allow_overlap=overlap
    )
    if rng.integers(2):
        amount, time = None, (number(1, 300), number(1, 200))
        strategy = TimeWindowingStrategy(
            limit_ref=f"{time[0]}s", limit_cur=f"{time[1]}s", allow_overlap=overlap
        )
    looks = ("embeddings", "predictions", "features")
    metrics = {}
    for name in "abc"[: number(1, 3)]:
        of = looks[number(0, 2)]
        metrics[name] = (
            far_for_once(number(1, 6), of=of) if number(0, 3) else far(rng.random(), of=of)
        )
    how = twin.Settings(
        interval=number(4, 25),
        metrics=metrics,
        row=lambda of, model, key: [],
        amount=amount,
        time=time,
        overlap=overlap,
        sample_size=number(2, 12) if rng.integers(2) else None,
        warmup_intervals=v,
        warmup_every=every,
        anew=bool(rng.integers(2)),
        cut=bool(rng.integers(2)),
        seed=number(0, 3),
    )
    return DataDriftTrigger(
        evaluation_interval_data_points=how.interval,
        warmup_intervals=v,
        warmup_policy=DataAmountTrigger(num_samples=every),
        metrics=metrics,
        windowing_strategy=strategy,
        sample_size=how.sample_size,
        reset_history_on_model=how.anew,
        reset_windows_in_warmup=how.cut,
    ), how


@pytest.mark.parametrize("seed", range(60))
def test_it_is_its_twin_however_the_stream_is_cut(seed: int) -> None:
    trigger, how = drawn(seed)
    rng = np.random.default_rng(1000 + seed)
    gaps = rng.choice([0, 1, 10, 30], size=300)
    times = (np.cumsum(gaps) if rng.integers(2) else 20 * gaps).tolist()
    stream, answers = stream_of(times, seed=seed), noise(len(times), moved_from=200, by=0.3)
    samples = [
        twin.Sample(i, key, timestamp)
        for i, (key, timestamp) in enumerate(zip(stream.keys.tolist(), times, strict=True))
    ]
    cuts = rng.integers(1, 80, size=4).tolist()

    expected = twin.run(samples, dataclasses.replace(how, row=answers.row))
    got = play(trigger, stream, answers, cuts, seed=how.seed, resume=bool(rng.integers(2)))

    assert got.fired == expected.fired
    _check_windows(got, expected, stream)
    for name in how.metrics:
        for interval, value in got.scores(name):
            assert value == pytest.approx(expected.distances[interval][name], abs=1e-12)


def _check_windows(got: Played, expected: twin.Outcome, stream: Arrivals) -> None:
    assert [note.values["interval"] for note in got.notes] == list(expected.windows)
    for note in got.notes:
        for side, keys in zip(
            ("reference", "current"), expected.windows[note.values["interval"]], strict=True
        ):
            first, last, since = note.values[side]
            window = slice(first, last)
            times = stream.timestamps[window]
            kept = np.ones(len(times), dtype=bool) if since is None else times >= since
            assert stream.keys[window][kept].tolist() == keys


@pytest.mark.parametrize(("by", "overlap"), [("amount", False), ("time", True)])
def test_it_keeps_the_promises_of_a_trigger(by: str, overlap: bool) -> None:
    amount = AmountWindowingStrategy(amount_ref=60, amount_cur=30, allow_overlap=overlap)
    time = TimeWindowingStrategy(limit_ref="10d", limit_cur="2d", allow_overlap=overlap)
    check_trigger(
        DataDriftTrigger(
            evaluation_interval_data_points=17,
            warmup_intervals=3,
            warmup_policy=DataAmountTrigger(num_samples=20),
            metrics={"q": far_for_once(), "f": far(0.2, of="features"), "l": far(1, of="labels")},
            windowing_strategy=amount if by == "amount" else time,
            aggregation_strategy=AtLeastN(n=1),
            sample_size=20,
            reset_history_on_model=overlap,
        )
    )


# What it decides -------------------------------------------------------------------------------


EQUAL = AmountWindowingStrategy(amount_ref=50, amount_cur=50)


def over(metrics: dict[str, Metric], **more: object) -> DataDriftTrigger:
    parameters: dict[str, object] = {
        "evaluation_interval_data_points": 50,
        "windowing_strategy": AmountWindowingStrategy(amount_ref=100, amount_cur=50),
        **more,
    }
    return DataDriftTrigger(metrics=metrics, **parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "of"),
    [*((name, "features") for name in METRICS), ("KS", "predictions"), ("KS", "embeddings")],
)
def test_every_metric_fires_in_the_first_interval_that_moved_and_not_before(
    name: str, of: str
) -> None:
    """Thresholds lie between the distances of equal and of moved windows."""
    stream, answers = in_order(500), noise(500, moved_from=300)
    if name in ("ChiSquared", "GTest"):
        answers.rows = np.round(answers.rows)
    metric = Metric(
        metric=METRICS[name](
            **{"component_stattest_threshold": 1.0} if name == "DriftedRatio" else {}
        ),
        decision_criterion=ThresholdDecisionCriterion(threshold=1e300),
        of=of,  # type: ignore[arg-type]
    )
    watching = play(over({"a": metric}), stream, answers)
    scores = dict(watching.scores("a"))
    border = (max(scores[i] for i in range(1, 6)) + scores[6]) / 2
    criterion = ThresholdDecisionCriterion(threshold=border)

    fires = over({"a": dataclasses.replace(metric, decision_criterion=criterion)})

    assert watching.fired == [50]
    assert scores[6] > border
    assert play(fires, stream, answers).fired[:2] == [50, 350]


def test_equal_windows_never_fire() -> None:
    answers = Models(np.ones((400, WIDTH)))
    metrics = {
        name: Metric(metric=METRICS[name](), decision_criterion=far(1e-9).decision_criterion)
        for name in ("KS", "CVM", "Wasserstein", "Hellinger", "MeanDistance", "MMD", "PSI")
    }

    played = play(over(metrics, aggregation_strategy=AtLeastN(n=1)), in_order(400), answers)

    assert played.fired == [50]


def test_votes_go_by_name_whatever_comes_first() -> None:
    seen = []

    def rule(votes: dict[str, bool]) -> bool:
        seen.append(dict(votes))
        return votes["moved"] and not votes["never"]

    metrics = {"never": far(100.0), "moved": far(1.0, of="features"), "always": far(0.0)}
    turned = dict(reversed(metrics.items()))
    stream, answers = in_order(400), noise(400, moved_from=200)

    how = {"aggregation_strategy": Custom(aggregation_function=rule), "windowing_strategy": EQUAL}
    one = play(over(metrics, **how), stream, answers)
    two = play(over(turned, **how), stream, answers)

    assert one.fired == two.fired == [50, 250]
    assert all(votes["always"] and not votes["never"] for votes in seen)


def test_a_majority_is_more_than_half_of_all_metrics() -> None:
    stream, answers = in_order(400), noise(400, moved_from=200)
    half = {"moved": far(1.0, of="features"), "never": far(100.0)}

    most = over({**half, "too": far(1.5, of="features")}, windowing_strategy=EQUAL)

    assert play(over(half), stream, answers).fired == [50]
    assert play(most, stream, answers).fired == [50, 250]


def test_a_distance_that_is_not_defined_never_fires_and_is_not_kept() -> None:
    criterion = DynamicQuantileThresholdCriterion(window_size=3)
    undefined = Metric(metric=Gap(least=10**6), decision_criterion=criterion)
    trigger = over({"a": undefined}, warmup_policy=DataAmountTrigger(num_samples=50))

    played = play(trigger, in_order(400), noise(400))

    assert played.fired == [50]
    assert trigger.state_dict()["_scores"] == {"a": []}
    assert [note.values["metrics"]["a"]["distance"] for note in played.notes[1:]] == [None] * 7


def test_models_that_go_astray_are_no_reason_to_train() -> None:
    answers = noise(400)
    answers.rows[150:] = np.inf
    trigger = over(
        {"mmd": Metric(metric=METRICS["MMD"](), decision_criterion=far(0.0).decision_criterion)}
    )

    played = play(trigger, in_order(400), answers)
    counts = [note.values["metrics"]["mmd"]["current_samples"] for note in played.notes[1:]]

    assert played.fired == [50]
    assert counts == [50, 50, 0, 0, 0, 0, 0]


def test_what_a_metric_refuses_names_it() -> None:
    metrics = {"kinds": dataclasses.replace(far(1.0, of="features"), metric=METRICS["GTest"]())}

    with pytest.raises(
        ValueError, match=r"metrics\.kinds: categories must be integers, got -?[0-9]"
    ):
        play(over(metrics), in_order(400), noise(400))


def test_labels_are_looked_at_when_they_are_known() -> None:
    stream = in_order(400)
    labels = (np.arange(400) >= 200).astype(np.int64)
    moved = Arrivals(stream.keys, stream.timestamps, labels)
    trigger = over(
        {"labels": far(0.4, of="labels")},
        windowing_strategy=AmountWindowingStrategy(amount_ref=50, amount_cur=100),
    )

    soon = play(copy.deepcopy(trigger), moved, noise(400))
    late = play(copy.deepcopy(trigger), moved, noise(400), label_delay=10 * 60)

    assert soon.fired[:2] == [50, 250]
    assert late.fired[:2] == [50, 300]  # 60 of the 100 labels come later
    assert late.notes[-1].values["metrics"]["labels"]["current_samples"] == 40


def test_a_p_value_is_a_score_like_any_other() -> None:
    criterion = ThresholdDecisionCriterion(threshold=0.05)
    permuted = Metric(
        metric=METRICS["MeanDistance"](num_permutations=39),  # type: ignore[call-arg]
        decision_criterion=criterion,
        score="p_value",
    )

    played = play(over({"a": permuted}, sample_size=30), in_order(400), noise(400, moved_from=200))

    assert 250 in played.fired
    values = played.notes[4].values["metrics"]["a"]
    assert (values["p_value"], values["score"], values["fires"]) == (1 / 40, 1 / 40, True)


def test_where_there_is_nothing_to_compare_with_a_trigger_is_due() -> None:
    """A model that was there before the stream, for one."""
    stream, answers = in_order(100), noise(100)
    model = PastModel(trigger=0, model="m", position=0, last_timestamp=None, samples=9, seconds=1.0)
    context = PlainContext(
        models=[model], informed=100, history=HeldHistory(stream), answers=answers
    )

    assert over({"a": far(100.0)}).inform(stream, context) == 50


# Calibration -----------------------------------------------------------------------------------


def warmed(v: int, every: int = 50, **more: object) -> DataDriftTrigger:
    return over(
        {"q": far_for_once(window_size=10), "f": far(100.0)},
        warmup_intervals=v,
        warmup_policy=DataAmountTrigger(num_samples=every),
        **more,
    )


def scores_after(trigger: DataDriftTrigger, count: int) -> list[float]:
    play(trigger, in_order(400)[:count], noise(400))
    found: list[float] = trigger.state_dict()["_scores"]["q"]
    return found


def test_scores_begin_with_the_references_of_the_warm_up() -> None:
    trigger = warmed(3)

    assert scores_after(trigger, 150) == []  # the model that sees them is yet to be trained
    assert len(scores_after(warmed(3), 200)) == 3 + 1
    assert min(scores_after(warmed(3), 200)) > 0
    assert trigger.state_dict()["_scores"]["f"] == []


@pytest.mark.parametrize("v", [None, 0, 1])
def test_a_short_warm_up_leaves_the_first_decision_without_scores(v: int | None) -> None:
    """A window is not compared with itself, and what has no history fires."""
    trigger = warmed(v, aggregation_strategy=AtLeastN(n=1))

    played = play(trigger, in_order(150), noise(150))

    assert played.fired[:2] == [50, 100]
    assert len(trigger.state_dict()["_scores"]["q"]) == 2


def test_windows_may_be_cut_in_the_warm_up_without_a_trigger() -> None:
    def references(trigger: DataDriftTrigger) -> list[list[int]]:
        played = play(trigger, in_order(250), noise(250))
        return [note.values["reference"][:2] for note in played.notes]

    assert references(warmed(4, 500)) == [[0, 0], [0, 50], [0, 50], [0, 50], [0, 50]]
    cut = references(warmed(4, 500, reset_windows_in_warmup=True))
    assert cut == [[0, 0], [0, 50], [0, 100], [50, 150], [50, 150]]


def test_a_criterion_that_needs_calibration_needs_a_warm_up_policy() -> None:
    with pytest.raises(ValueError, match=r"metrics.q: DynamicQ.* needs a warmup_policy"):
        over({"q": far_for_once()})


def test_earlier_windows_are_compared_anew_as_another_model_sees_them() -> None:
    """Model 2 sees rows that are three times as far apart as those that model 0 sees."""
    stream, answers = in_order(400), noise(400)

    def scores(**more: object) -> list[float]:
        metrics = {"q": far_for_once(3), "all": far(0.0)}
        trigger = over(
            metrics,
            warmup_policy=DataAmountTrigger(num_samples=9),
            aggregation_strategy=AtLeastN(n=1),
            **more,
        )
        play(trigger, stream, answers)
        found: list[float] = trigger.state_dict()["_scores"]["q"]
        return found

    kept, anew = scores(), scores(reset_history_on_model=True)

    assert kept[-1] == anew[-1]
    newest = 1 + 7 % 3
    older = [1 + 6 % 3, 1 + 5 % 3]
    factors = [newest / older[1], newest / older[0]]
    assert anew[:2] == pytest.approx([k * f for k, f in zip(kept, factors, strict=False)])


def test_scores_that_no_model_gave_stay_and_nothing_is_read_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, answers, read = in_order(400), noise(400), [0]
    whole = PlainContext.samples

    def counted(self: PlainContext, first: int, last: int) -> Arrivals:
        read[-1] += last - first
        return whole(self, first, last)

    monkeypatch.setattr(PlainContext, "samples", counted)
    criterion = far_for_once(3).decision_criterion
    metrics = {"q": Metric(metric=METRICS["KS"](), decision_criterion=criterion, of="features")}
    fired = []
    for anew in (False, True):
        read.append(0)
        trigger = over(
            metrics, warmup_policy=DataAmountTrigger(num_samples=9), reset_history_on_model=anew
        )
        fired.append(play(trigger, stream, answers))

    assert fired[0] == fired[1]
    assert read[-1] == read[-2]


# Who is asked, and what is written down --------------------------------------------------------


def test_a_reference_is_shown_to_its_model_once() -> None:
    stream, answers = in_order(600), noise(600)
    metrics = {
        "one": far(100.0),
        "two": Metric(metric=METRICS["KS"](), decision_criterion=far(2.0).decision_criterion),
        "records": far(100.0, of="features"),
    }

    play(over(metrics, sample_size=30), stream, answers)

    asked = {of: [n for (o, k), n in answers.asked.items() if o == of] for of in LOOKS[:3]}
    assert len(asked["embeddings"]) == 30 + 11 * 30  # one reference, and what came since
    assert set(asked["embeddings"]) == set(asked["features"]) == {1}
    assert asked["predictions"] == []


def kept_rows(label_delay: int, of: str, erased: set[int]) -> list[int]:
    """Which rows of a reference are looked at before and after 30 more samples, some erased."""

    class Holes(HeldHistory):
        def samples(self, first: int, last: int) -> Arrivals:
            found = super().samples(first, last)
            there = ~np.isin(found.keys, sorted(gone))
            assert found.labels is not None
            return Arrivals(found.keys[there], found.timestamps[there], found.labels[there])

    gone: set[int] = set()
    model = PastModel(trigger=0, model="m", position=40, last_timestamp=9, samples=9, seconds=1.0)
    context = PlainContext(
        clock=490,
        position=50,
        models=[model],
        history=Holes(in_order(80)),
        answers=noise(80),
        label_delay=label_delay,
    )
    window, look = windows.Window(30, 40), Look(of=of)  # type: ignore[arg-type]
    before = WindowRows(context, None, 10)
    counts = [len(before.of(window, look))]
    gone |= erased
    later = dataclasses.replace(context, clock=790, position=80)
    counts.append(len(WindowRows(later, None, 10, before.to_keep(window)).of(window, look)))
    return counts


def test_what_is_kept_of_a_reference_follows_the_stream() -> None:
    """Samples may be erased, and labels become known, while a reference lasts."""
    assert kept_rows(0, "embeddings", set()) == [10, 10]
    assert kept_rows(0, "embeddings", {33, 34, 50}) == [10, 8]
    assert kept_rows(150, "labels", set()) == [5, 10]


def test_notes_say_what_was_looked_at() -> None:
    trigger = warmed(2)
    played = play(trigger, in_order(250), noise(250))
    warm, first, last = played.notes[0].values, played.notes[2].values, played.notes[-1].values

    assert json.loads(json.dumps([note.values for note in played.notes], allow_nan=False))
    assert [note.position for note in played.notes] == [50, 100, 150, 200, 250]
    assert {note.name for note in played.notes} == {"DataDriftTrigger"}
    assert [note.values["warmup"] for note in played.notes] == [True, True, False, False, False]
    assert [note.values["interval"] for note in played.notes] == [0, 1, 2, 3, 4]
    fired = [note.position for note in played.notes if note.values["fires"]]
    assert fired == played.fired
    assert warm["model"] is None
    assert first["model"] == "model 1 at 100"
    assert set(last["metrics"]["q"]) == {
        *("distance", "p_value", "score", "threshold", "fires", "details"),
        *("reference_samples", "current_samples"),
    }
    assert last["metrics"]["f"]["threshold"] == 100.0


def test_windows_without_a_limit_take_every_sample() -> None:
    everything = over({"a": far(100.0)}, sample_size=None)
    drawn = over({"a": far(100.0)}, sample_size=30)

    counts = [
        play(trigger, in_order(250), noise(250)).notes[-1].values["metrics"]["a"]
        for trigger in (everything, drawn)
    ]

    assert [c["reference_samples"] for c in counts] == [50, 30]
    assert [c["current_samples"] for c in counts] == [50, 30]


# Windows ---------------------------------------------------------------------------------------


def test_a_window_reads_large_parts_of_the_stream_in_pieces(monkeypatch) -> None:
    monkeypatch.setattr(windows, "BLOCK", 7)
    stream = stream_of((np.arange(100) // 2).tolist())
    context = PlainContext(position=100, clock=49, history=HeldHistory(stream))

    blocks = list(windows.Window(13, 90, since=10).blocks(context))

    assert max(len(block) for block in blocks) <= 7
    assert np.concatenate([block.keys for block in blocks]).tolist() == stream.keys[20:90].tolist()


@pytest.mark.parametrize("limit", ["1s", "10y"])
def test_windows_of_time_begin_where_the_stream_does_at_the_earliest(limit: str) -> None:
    strategy = TimeWindowingStrategy(limit_ref=limit, limit_cur=limit)
    least = -(2**63)
    stream = stream_of([least, least, least + 1, least + 2])
    context = PlainContext(position=4, clock=least + 2, history=HeldHistory(stream))

    found = strategy.windows(context, 2)

    assert (found.reference.first, found.reference.last) == (0, 2)
    assert (found.current.first, found.current.last) == (2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AmountWindowingStrategy(amount_ref=0), "amount_ref must be at least 1, got 0"),
        (lambda: AmountWindowingStrategy(amount_cur=-1), "amount_cur must be at least 1, got -1"),
        (lambda: TimeWindowingStrategy(limit_ref="1d", limit_cur="x"), "limit_cur: expected an"),
        (lambda: over({}), "metrics needs at least one entry"),
        (lambda: over({"a": far(1.0)}, sample_size=1), "sample_size must be at least 2, got 1"),
        (lambda: far(1.0, of="colours"), "of must be one of embeddings, predictions, features"),
        (lambda: far(1.0, score="rank"), "score must be distance or p_value, got 'rank'"),
        (
            lambda: dataclasses.replace(far(1.0), metric=METRICS["GTest"]()),
            "GTest compares categories, which embeddings are not: look at features or labels",
        ),
        (lambda: far(1.0, fields=("dense",)), "fields are of features, not of embeddings"),
        (lambda: far(1.0, of="features", fields=("a", "a")), "fields must be different names"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_fields_are_chosen_by_name_and_hold_numbers() -> None:
    class Records(Models):
        def fields(self, keys: npt.NDArray[np.uint64]) -> dict[str, object]:  # type: ignore[override]
            return {"a": np.ones((len(keys), 2, 2)), "b": keys % 2, "text": [b"x"] * len(keys)}

    stream = in_order(10)
    context = PlainContext(
        position=10, history=HeldHistory(stream), answers=Records(np.ones((1, 1)))
    )

    def shape(*fields: str) -> tuple[int, ...]:
        look = Look(of="features", fields=fields or None)
        return WindowRows(context, None, 10).of(windows.Window(0, 10), look).shape

    assert (shape(), shape("b"), shape("b", "a")) == ((10, 5), (10, 1), (10, 5))
    with pytest.raises(ValueError, match="there is no field 'c'; there are a, b, text"):
        shape("c")
    with pytest.raises(ValueError, match="the field 'text' holds no numbers"):
        shape("text")
