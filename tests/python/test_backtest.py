"""A backtest says what a run would have come to, and says so where it can only guess."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modyn
from modyn.arrivals import Arrivals
from modyn.backtesting import AtPositions, Cost, backtest
from modyn.backtesting.families import amounts, periods
from modyn.backtesting.matrix import Matrix, Windows
from modyn.backtesting.oracle import frontier, oracle, together
from modyn.backtesting.play import Player
from modyn.backtesting.result import undominated
from modyn.backtesting.scoring import active_rows
from modyn.backtesting.tape import Tape
from modyn.errors import ConfigError
from modyn.metrics import Accuracy
from modyn.pipelines import EvalDataset, SlicingEvalStrategy
from modyn.policies import DataAmountTrigger, NewData, Random, TimeTrigger, Trigger
from modyn.policies.context import PlainContext
from tests.python import streams
from tests.reference import backtest as reference

EVERY = 50


def recorded(folder, *, tail=None, name="run", dataset=None, **changes):
    dataset = streams.drifting(folder / "stream", count=400) if dataset is None else dataset
    settings = {
        "trigger": DataAmountTrigger(num_samples=EVERY),
        "selection": NewData(tail_triggers=tail),
        "evaluation": streams.slices(strategy=SlicingEvalStrategy(eval_every="20s")),
        **changes,
    }
    pipeline = streams.pipeline(dataset, **settings)
    return dataset, pipeline, pipeline.replay(folder / name)


@pytest.fixture(scope="module")
def all_data(tmp_path_factory):
    """A model of all data so far, every 50 of 400 samples."""
    return recorded(tmp_path_factory.mktemp("all"))


# What is exact -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "order", "policy"),
    [
        (None, "time", DataAmountTrigger(num_samples=2 * EVERY)),
        (None, "time", TimeTrigger(every="150s")),
        (None, "arrival", DataAmountTrigger(num_samples=3 * EVERY)),
        (0, "time", AtPositions(positions=[EVERY, 2 * EVERY, 3 * EVERY])),
        (1, "time", DataAmountTrigger(num_samples=EVERY)),
    ],
)
def test_an_exact_policy_is_what_its_run_comes_to(tail, order, policy, tmp_path):
    late = "late" if order == "arrival" else "time"
    dataset = streams.drifting(tmp_path / "stream", count=400, order=late)
    _, _, run = recorded(tmp_path, tail=tail, dataset=dataset, order=order)

    found = backtest(run, {"other": policy}, dataset=dataset, without_model="zero")["other"]
    _, _, real = recorded(
        tmp_path, tail=tail, name="other", dataset=dataset, order=order, trigger=policy
    )

    outcome = found.outcomes[0]
    positions = [row.position for row in real.transitions]
    assert found.exact
    assert outcome.schedule.places.tolist() == positions
    assert found.trainings == real.totals["trainings"]
    assert values_of(run, dataset, outcome) == composite_of(real, run)


def values_of(run, dataset, outcome):
    """Model and value by window, as the backtest has them."""
    matrix = Matrix.of(run, Tape.of(run, dataset), Windows.of(run), "Accuracy")
    table = matrix.table
    scored = [j for j in range(len(matrix.windows)) if not np.isnan(table.values[:, j]).any()]
    found = {}
    chosen = [j for j in scored if matrix.windows.anchor[j] > matrix.begun]
    for place, j in enumerate(chosen):
        model = outcome.active[place]
        value = table.values[outcome.rows[model], j] if model >= 0 else None
        found[int(matrix.windows.start[j])] = value
    return found


def composite_of(real, run):
    """The same of a run, in the windows after the first recorded model."""
    begun = min(row.trained_until for row in run.transitions)
    rows = [row for row in real.composite("accuracy") if row["start"] > begun]
    return {row["start"]: row["value"] for row in rows}


def test_its_own_run_is_on_the_record_with_its_score_and_cost(all_data):
    dataset, pipeline, run = all_data

    found = backtest(run, [pipeline.trigger], dataset=dataset, cost=Cost(unit="samples"))

    entry = found.entries[0]
    assert entry.exact
    assert entry.score == pytest.approx(run.score("Accuracy"), abs=1e-12)
    assert entry.cost == run.totals["samples_trained"]


def test_until_it_has_a_model_a_policy_has_the_first_one_and_pays_it(all_data):
    dataset, _, run = all_data
    late = {"late": AtPositions(positions=[300])}
    cost = Cost(unit="samples")

    given = backtest(run, late, dataset=dataset, cost=cost)["late"]
    bare = backtest(run, late, dataset=dataset, cost=cost, without_model="zero")["late"]

    values = {row["window"]: row for row in run.evaluations if row["metric"] == "Accuracy"}
    first = [row for row in run.evaluations if row["metric"] == "Accuracy" and row["trigger"] == 0]
    begun = run.transitions[0].trained_until
    rows = [row for row in first if begun < row["start"] <= run.transitions[5].trained_until]
    counts = sum(row["count"] for row in values.values() if row["start"] > begun)
    assert (given.trainings, bare.trainings) == (2, 1)
    assert given.cost - bare.cost == run.trainings[0].samples * run.trainings[0].epochs
    more = sum(row["value"] * row["count"] for row in rows) / counts
    assert given.score - bare.score == pytest.approx(more, abs=1e-12)


def test_a_training_that_was_not_recorded_makes_an_estimate(all_data):
    dataset, _, run = all_data
    policies = {"on": DataAmountTrigger(num_samples=100), "off": DataAmountTrigger(num_samples=130)}

    found = backtest(run, policies, dataset=dataset)

    assert found["on"].exact
    assert not found["off"].exact
    assert found["off"].missing == 3
    assert found["off"].outcomes[0].missing.tolist() == [0, 1, 2]


def test_with_new_data_alone_another_start_is_another_training(tmp_path):
    dataset, _, run = recorded(tmp_path, tail=0)

    found = backtest(run, {"double": DataAmountTrigger(num_samples=100)}, dataset=dataset)

    assert found["double"].missing == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"selection": Random(ratio=50, tail_triggers=None)},
        {"training": modyn.Training(batch_size=32, use_previous_model=True)},
    ],
)
def test_where_history_matters_only_the_same_beginning_is_the_same(changes, tmp_path):
    dataset, _, run = recorded(tmp_path, **changes)
    policies = {
        "beginning": AtPositions(positions=[EVERY, 2 * EVERY, 3 * EVERY]),
        "other": AtPositions(positions=[EVERY, 3 * EVERY]),
    }

    found = backtest(run, policies, dataset=dataset)

    assert found["beginning"].exact
    assert found["other"].outcomes[0].done.tolist() == [True, False]


@pytest.mark.parametrize(
    ("tail", "places", "done"),
    [
        (1, [30, 100, 130], [False, True, False]),
        (None, [30, 100], [False, True]),
    ],
)
def test_where_labels_are_late_candidates_are_those_of_the_run(tail, places, done, tmp_path):
    late = {"tail": tail, "label_delay": 20, "evaluation": streams.slices()}
    dataset, pipeline, run = recorded(tmp_path, **late)
    other = AtPositions(positions=places)

    found = backtest(run, {"own": pipeline.trigger, "other": other}, dataset=dataset)
    _, _, real = recorded(tmp_path, name="other", dataset=dataset, trigger=other, **late)

    outcome = found["other"].outcomes[0]
    models = [training.model for training in real.trainings]
    same = [one == model for one, model in zip(outcome.models, models, strict=True)]
    assert found["own"].exact
    assert outcome.done.tolist() == done
    assert not np.any(outcome.done & ~np.array(same))


def test_a_draw_with_another_seed_of_the_pipeline_is_another_draw(tmp_path):
    draws = {
        "selection": Random(ratio=50, tail_triggers=None),
        "training": modyn.Training(batch_size=32, optimizers=streams.sgd(), seed=7),
    }
    dataset, _, run = recorded(tmp_path, **draws)
    places = AtPositions(positions=[250])
    _, _, other = recorded(tmp_path, name="o", dataset=dataset, trigger=places, seed=4, **draws)

    found = backtest([run, other], {"places": places}, dataset=dataset)

    assert found.seeds == 2
    assert sorted(outcome.exact for outcome in found["places"].outcomes) == [False, True]


@pytest.mark.parametrize(
    ("selection", "at", "gone", "policy"),
    [
        (Random(ratio=50, tail_triggers=None), [50, 100], range(10, 40), [20, 70]),
        (NewData(tail_triggers=None, limit=100, limit_reset="lastX"), [150], range(60, 110), [100]),
    ],
)
def test_what_was_chosen_from_samples_that_are_gone_is_another_training(
    selection, at, gone, policy, tmp_path
):
    changes = {"selection": selection, "evaluation": streams.slices()}
    # What comes before the erased samples is there in both, so that something is recorded.
    dataset, _, run = recorded(tmp_path, trigger=AtPositions(positions=[5, *at]), **changes)
    erase(dataset, gone)

    policies = {"other": AtPositions(positions=[5, *policy])}
    found = backtest(run, policies, dataset=modyn.Dataset.open(dataset.path))

    assert found["other"].outcomes[0].done.tolist() == [True] + [False] * len(at)


def test_a_model_whose_parent_learned_from_what_is_gone_is_another_one(tmp_path):
    """Also where nothing at all is left of what the parent learned from."""
    training = modyn.Training(batch_size=32, use_previous_model=True, optimizers=streams.sgd())
    at = AtPositions(positions=[50, 100, 150])
    dataset, _, run = recorded(tmp_path, tail=0, training=training, trigger=at)
    erase(dataset, range(50, 100))
    dataset = modyn.Dataset.open(dataset.path)
    policies = {"other": AtPositions(positions=[50, 50, 100]), "one": AtPositions(positions=[50])}

    found = backtest(run, policies, dataset=dataset)
    _, _, real = recorded(
        tmp_path,
        tail=0,
        training=training,
        name="real",
        dataset=dataset,
        trigger=policies["other"],
    )

    models = [row.model for row in real.trainings if row.model is not None]
    assert found["one"].exact
    assert found["other"].outcomes[0].done.tolist() == [True, False]
    assert models[0] == run.trainings[0].model
    assert models[1] != run.trainings[2].model


@pytest.mark.parametrize(("gone", "place"), [(99, 99), (64, 99), (98, 99)])
def test_where_what_said_which_labels_were_known_is_gone_a_training_is_another_one(
    gone, place, tmp_path
):
    """At sample 100 the labels of 65 samples were known; at the 99th that is left, of others."""
    late = {"label_delay": 35, "evaluation": streams.slices()}
    dataset, _, run = recorded(tmp_path, trigger=AtPositions(positions=[60, 100]), **late)
    erase(dataset, [gone])
    dataset = modyn.Dataset.open(dataset.path)
    policies = {"other": AtPositions(positions=[60, place])}

    found = backtest(run, policies, dataset=dataset)["other"]
    _, _, real = recorded(tmp_path, name="real", dataset=dataset, trigger=policies["other"], **late)

    outcome = found.outcomes[0]
    same = [row.model for row in real.trainings] == [row.model for row in run.trainings]
    ends = [row.trained_until for row in real.transitions]
    assert real.transitions[1].position == (99 if gone == 99 else 100)
    assert outcome.done.tolist() == [True, same and ends == [59 - 100, 99 - 100]]


def erase(dataset, keys):
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(list(keys), reason="asked to")


def test_runs_that_were_measured_on_other_data_are_refused(tmp_path):
    dataset = streams.drifting(tmp_path / "stream", count=400)
    runs = []
    for seed, every in enumerate((200, 300)):
        held = streams.drifting(tmp_path / f"held {seed}", count=400, seed=seed)
        data = EvalDataset(dataset=held, dataset_id="held", metrics=(Accuracy(),))
        changes = {
            "evaluation": replace(streams.slices(), datasets=(data,)),
            "trigger": DataAmountTrigger(num_samples=every),
        }
        runs.append(recorded(tmp_path, name=str(seed), dataset=dataset, **changes)[2])

    with pytest.raises(ConfigError, match="measured on different windows or data"):
        backtest(runs, {"any": DataAmountTrigger(num_samples=200)}, dataset=dataset)


def test_a_policy_of_ones_own_is_played_as_in_its_run(tmp_path):
    dataset, _, run = recorded(tmp_path)

    found = backtest(run, {"own": WhenOnesGather()}, dataset=dataset)["own"]
    _, _, real = recorded(tmp_path, name="own", dataset=dataset, trigger=WhenOnesGather())

    assert found.outcomes[0].schedule.places.tolist() == [row.position for row in real.transitions]


class WhenOnesGather(Trigger):
    """Forty samples of class 1 since the last trigger."""

    def __init__(self):
        self._ones = 0

    def inform(self, arrivals, context):
        for n, label in enumerate(arrivals.labels.tolist(), 1):
            self._ones += label
            if self._ones == 40:
                self._ones = 0
                return n
        return None


def test_what_a_policy_does_after_it_looked_at_a_stand_in_is_not_certain(all_data):
    dataset, _, run = all_data

    found = backtest(run, {"asks": Doubling(first=70)}, dataset=dataset)["asks"]

    outcome = found.outcomes[0]
    assert outcome.schedule.places.tolist() == [70, 210]
    assert outcome.schedule.certain == 1
    assert outcome.missing.tolist() == [0]


class Doubling(Trigger):
    """After `first` samples, then after twice as many as the newest model has learned from."""

    def __init__(self, *, first):
        self.first = first
        self._seen = 0

    def inform(self, arrivals, context):
        wanted = 2 * context.models[-1].samples if context.models else self.first
        if self._seen + len(arrivals) < wanted:
            self._seen += len(arrivals)
            return None
        due, self._seen = wanted - self._seen, 0
        return due


def test_seeds_make_bands(tmp_path):
    dataset, pipeline, first = recorded(tmp_path, seed=1)
    _, _, second = recorded(tmp_path, name="second", dataset=dataset, seed=2)

    found = backtest([first, second], [pipeline.trigger], dataset=dataset)

    scores = [first.score("Accuracy"), second.score("Accuracy")]
    assert found.seeds == 2
    assert found.entries[0].scores == pytest.approx((min(scores), max(scores)))
    assert found.entries[0].score == pytest.approx(np.mean(scores))


def test_runs_of_one_seed_are_taken_together(all_data, tmp_path):
    dataset, _, run = all_data
    _, _, more = recorded(tmp_path, dataset=dataset, trigger=DataAmountTrigger(num_samples=130))

    found = backtest([run, more], {"off": DataAmountTrigger(num_samples=130)}, dataset=dataset)

    assert found.seeds == 1
    assert found["off"].exact


def test_after_an_erasure_trainings_with_those_samples_are_not_the_same(tmp_path):
    dataset, _, run = recorded(tmp_path, tail=0)
    policies = {"as recorded": AtPositions(positions=[EVERY, 2 * EVERY - 1])}

    erase(dataset, [60])
    found = backtest(run, policies, dataset=modyn.Dataset.open(dataset.path))

    assert found.entries[0].outcomes[0].done.tolist() == [True, False]


# What is refused ---------------------------------------------------------------------------------


def test_runs_without_a_matrix_of_known_windows_are_refused(tmp_path):
    dataset, pipeline, run = recorded(tmp_path, evaluation=streams.slices(models="active"))

    with pytest.raises(ConfigError, match="measures active models"):
        backtest(run, [pipeline.trigger], dataset=dataset)


def test_runs_that_differ_in_more_than_trigger_and_seed_are_refused(all_data, tmp_path):
    dataset, pipeline, run = all_data
    _, _, other = recorded(tmp_path, tail=0, dataset=dataset)

    with pytest.raises(ConfigError, match="differ in selection_strategy"):
        backtest([run, other], [pipeline.trigger], dataset=dataset)


def test_another_dataset_is_refused(all_data, tmp_path):
    _, pipeline, run = all_data

    with pytest.raises(ConfigError, match="not the dataset"):
        backtest(run, [pipeline.trigger], dataset=streams.drifting(tmp_path / "other"))


def test_two_policies_of_one_name_are_refused(all_data):
    dataset, pipeline, run = all_data

    with pytest.raises(ValueError, match="two policies are"):
        backtest(run, [pipeline.trigger, pipeline.trigger], dataset=dataset)


# Whole families ----------------------------------------------------------------------------------

times = st.lists(st.integers(-50, 400), min_size=1, max_size=60)


def tape_of(timestamps, *, ascending):
    found = np.array(sorted(timestamps) if ascending else timestamps, dtype=np.int64)
    arrivals = Arrivals(np.arange(len(found), dtype=np.uint64), found)
    return Tape(arrivals=arrivals, positions=None, unit="s", ascending=ascending)


@given(times, st.booleans(), st.integers(1, 200), st.none() | st.integers(-500, 500))
def test_periods_are_those_of_the_time_trigger(timestamps, ascending, every, start):
    tape = tape_of(timestamps, ascending=ascending)
    policy = TimeTrigger(every=f"{every}s", start_timestamp=start)

    places = periods(policy, tape).tolist()

    assert places == reference.fired(policy, tape.arrivals, PlainContext())


@given(st.integers(1, 60), st.integers(1, 70))
def test_amounts_are_those_of_the_amount_trigger(count, every):
    tape = tape_of(range(count), ascending=True)
    policy = DataAmountTrigger(num_samples=every)

    assert amounts(policy, tape).tolist() == reference.fired(policy, tape.arrivals)


def test_playing_the_class_and_the_family_are_the_same_in_a_recording(all_data):
    dataset, _, run = all_data
    matrix = Matrix.of(run, Tape.of(run, dataset), Windows.of(run), "Accuracy")
    policy = TimeTrigger(every="37s", start_timestamp=-120)

    played = Player(matrix).play(policy)

    assert played.places.tolist() == periods(policy, matrix.tape).tolist()


# The upper bound ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_oracle_is_the_best_of_all_schedules(seed):
    rng = np.random.default_rng(seed)
    values, starts, weight = reference.random_case(rng, models=6, windows=8)

    found = oracle(values, starts, weight, most=6)

    for most in range(1, 7):
        expected = reference.best(values, starts, weight, most)
        assert found.score[most - 1] == pytest.approx(expected, abs=1e-12)
        chosen = found.models[most - 1].tolist()
        assert reference.worth(values, starts, weight, chosen) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_no_schedule_is_above_the_bound_at_its_cost(seed):
    rng = np.random.default_rng(seed)
    values, starts, weight = reference.random_case(rng, models=6, windows=8)
    price = rng.integers(1, 9, size=6) / 4

    costs, scores = frontier(values, starts, weight, price)

    points = [
        (price[list(chosen)].sum(), reference.worth(values, starts, weight, chosen))
        for chosen in reference.choices(6)
    ]
    assert all(score <= np.interp(cost, costs, scores) + 1e-9 for cost, score in points)
    for corner in zip(costs[1:], scores[1:], strict=True):  # each is a schedule
        assert any(np.allclose(corner, point) for point in points)


@pytest.mark.parametrize("seed", range(10))
def test_no_schedules_of_several_seeds_are_above_the_bound_at_their_mean_cost(seed):
    rng = np.random.default_rng(seed)
    corners, points = [], []
    for _ in range(2):
        values, starts, weight = reference.random_case(rng, models=4, windows=8)
        price = rng.integers(0, 9, size=4) / 4
        corners.append(frontier(values, starts, weight, price))
        points.append(
            [
                (price[list(chosen)].sum(), reference.worth(values, starts, weight, chosen))
                for chosen in reference.choices(4)
            ]
        )

    bound = together(corners)

    for one in points[0]:
        for other in points[1]:
            cost, score = np.mean([one, other], axis=0)
            assert score <= np.interp(cost, *bound) + 1e-9


def test_a_policy_of_recorded_models_is_never_above_the_oracle(all_data):
    dataset, _, run = all_data
    policies = [DataAmountTrigger(num_samples=n * EVERY) for n in range(1, 9)]

    found = backtest(run, policies, dataset=dataset)

    for entry in found:
        assert entry.exact
        assert entry.score <= found.oracle.score[int(entry.trainings) - 1] + 1e-12
        assert entry.score <= found.oracle.at(entry.cost) + 1e-12


# Which is best -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_dominates(points):
    costs, scores = np.array(points, dtype=np.float64).T

    assert undominated(costs, scores) == reference.undominated(costs, scores)


def test_the_best_at_a_budget_costs_no_more_and_scores_highest(all_data):
    dataset, _, run = all_data
    policies = [DataAmountTrigger(num_samples=n * EVERY) for n in range(1, 9)]
    found = backtest(run, policies, dataset=dataset, cost=Cost(unit="trainings"))

    best = found.best(3.0)

    affordable = [entry for entry in found if entry.cost <= 3.0]
    assert best.score == max(entry.score for entry in affordable)
    assert found.best(0.5) is None


def test_money_is_time_and_trainings(all_data):
    dataset, pipeline, run = all_data

    seconds = backtest(run, [pipeline.trigger], dataset=dataset).entries[0]
    money = Cost(unit="money", per_hour=3600.0, per_training=2.0)
    euros = backtest(run, [pipeline.trigger], dataset=dataset, cost=money).entries[0]

    assert euros.cost == pytest.approx(seconds.cost + 2.0 * seconds.trainings)


@pytest.mark.parametrize(
    "wrong", [{"unit": "money"}, {"unit": "joules"}, {"per_hour": 2.0}, {"per_training": -1.0}]
)
def test_a_cost_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"unit|per_training"):
        Cost(**wrong)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.lists(st.integers(-1, 11)))
def test_the_active_model_is_the_last_that_learned_from_nothing_later(until, anchors):
    found = active_rows(np.array(until), np.array(anchors, dtype=np.int64))

    assert found.tolist() == [reference.active(until, anchor) for anchor in anchors]
