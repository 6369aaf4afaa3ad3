"""Wherever a run has its metadata, it is the same run: in files, in rows, in blocks of Postgres."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.errors import BusyError, ConfigError, FencedError
from modyn.pipelines import Metadata, OffsetEvalStrategy, Run, Training
from modyn.pipelines.backend_postgres import Postgres
from modyn.pipelines.trainer import Trainer
from modyn.policies import (
    DataAmountTrigger,
    LabelBalanced,
    NewData,
    Random,
    Selected,
    Selection,
    TimeTrigger,
    Trigger,
)
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.trainset import TrainingSet
from tests.python.postgres_server import PASSWORD, sql, terminate_backends
from tests.python.streams import drifting, pipeline, sgd, slices

COUNT = 420


@dataclass(frozen=True)
class Place:
    """Where the metadata of the runs of a test lies."""

    layout: str
    url: str | None

    @property
    def is_database(self) -> bool:
        return self.url is not None

    def metadata(self, **settings: Any) -> Metadata | None:
        if self.url is None:
            return None
        return Metadata(
            **{
                "url": self.url,
                "layout": self.layout,
                "hash_partition_modulus": 2,
                "lease_seconds": 20.0,
                "retry_seconds": 20.0,
                **settings,
            }
        )

    def publish(self, dataset: modyn.Dataset, **settings: Any) -> None:
        if self.url is not None:
            dataset.publish(self.url, layout=self.layout, leaf_samples=128, **settings)

    def replay(self, dataset: modyn.Dataset, out: Path, **changes: Any) -> Run:
        return pipeline(dataset, metadata=self.metadata(), **changes).replay(out)


def place_of(request: pytest.FixtureRequest, layout: str) -> Place:
    url = None if layout == "embedded" else request.getfixturevalue("database_url")
    return Place(layout, url)


@pytest.fixture(params=["embedded", "rows", "blocks"])
def place(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


@pytest.fixture(params=["rows", "blocks"])
def database(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


def trainsets(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "trainsets").glob("*.set")}


def assert_same(run: Run, expected: Run) -> None:
    assert run.finished
    assert run.triggers["digest"] == expected.triggers["digest"]
    assert run.triggers["model"] == expected.triggers["model"]
    assert run.digest() == expected.digest()
    assert trainsets(run.path) == trainsets(expected.path)
    assert run.decisions.rows() == expected.decisions.rows()


class Reads(Selection):
    """Takes every third candidate, read block by block, with weights that are timestamps."""

    def __init__(self, *, tail_triggers: int | None = 0) -> None:
        self.tail_triggers = tail_triggers

    def select(self, candidates: Any, context: Any) -> Selected:
        keys = np.concatenate([block.keys for block in candidates.blocks()])
        times = np.concatenate([block.timestamps for block in candidates.blocks()])
        assert len(keys) == len(candidates)
        assert np.array_equal(keys, candidates.keys)
        assert np.array_equal(times, candidates.timestamps)
        return Selected(keys[::3], (times[::3] + 1000).astype(np.float64))


class Filters(Selection):
    """Takes those of label 1 of the second half of the time."""

    def __init__(self) -> None:
        self.tail_triggers = None

    def select(self, candidates: Any, context: Any) -> Selected:
        times = candidates.timestamps
        middle = int((times.min() + times.max()) // 2)
        return Selected(candidates.where(start=middle, labels=[1]).keys, None)


class Asks(BatchedTrigger):
    """Goes by what the newest model loses on the samples whose labels are known."""

    def decide(self, interval: Interval, context: Any) -> bool:
        keys = context.samples(context.triggered_at, interval.last).keys
        keys = keys[context.labelled(keys)]
        score = float(context.losses(keys).mean()) if len(keys) else 0.0
        context.note("Asks", {"score": score, "known": len(keys)})
        return score > 0.4


SCENARIOS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "all of it, in time order": ("time", dict),
    "late samples": ("late", dict),
    "late samples as they arrive": ("late", lambda: {"order": "arrival"}),
    "from and to a time": ("time", lambda: {"start_replay_at": -20, "stop_replay_at": 290}),
    "late, from and to a time": ("late", lambda: {"start_replay_at": 0, "stop_replay_at": 250}),
    "arriving, from and to a time": (
        "late",
        lambda: {"order": "arrival", "start_replay_at": 0, "stop_replay_at": 250},
    ),
    "balanced over a tail": (
        "late",
        lambda: {
            "selection": LabelBalanced(ratio=50, tail_triggers=1),
            "trigger": DataAmountTrigger(num_samples=70),
        },
    ),
    "uniform over all": (
        "time",
        lambda: {
            "selection": Random(ratio=30, tail_triggers=None),
            "trigger": TimeTrigger(every="90s"),
            "training": Training(batch_size=16, optimizers=sgd(), use_previous_model=True),
        },
    ),
    "a model is asked, and labels come late": (
        "late",
        lambda: {"trigger": Asks(evaluation_interval_data_points=35), "label_delay": 50},
    ),
    "a limit": ("late", lambda: {"selection": NewData(tail_triggers=0, limit=33)}),
    "weights of a policy of one's own": ("late", lambda: {"selection": Reads(tail_triggers=1)}),
    "filters of a policy of one's own": ("time", lambda: {"selection": Filters()}),
    "the first triggers": (
        "time",
        lambda: {
            "maximum_triggers": 2,
            "evaluation": slices(
                strategy=OffsetEvalStrategy(offsets=("-inf", "0s")),
                execution_time="after_training",
            ),
        },
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_is_the_same_wherever_its_metadata_lies(tmp_path, database, scenario):
    order, changes = SCENARIOS[scenario]
    data = drifting(tmp_path / "stream", count=COUNT, order=order)
    expected = pipeline(data, **changes()).replay(tmp_path / "embedded")
    database.publish(data)

    run = database.replay(data, tmp_path / "run", **changes())

    assert_same(run, expected)
    assert (run.path / "metadata").read_text() == f"{database.url}\n"
    assert not (run.path / "ledger.sqlite").exists()
    assert_kept(database, run)


def assert_kept(place: Place, run: Run) -> None:
    """The database has the training sets, and the ledger names them."""
    found = sql(place.url, "SELECT trigger, digest, samples FROM modyn.trainsets ORDER BY trigger")
    triggers = run.triggers
    assert found == list(
        zip(triggers["trigger"], triggers["digest"], triggers["samples"], strict=True)
    )
    if place.layout == "rows":
        rows = sql(
            place.url,
            "SELECT trigger, key, weight FROM modyn.trainset_rows ORDER BY trigger, key",
        )
        expected = []
        for trigger, digest in zip(triggers["trigger"], triggers["digest"], strict=True):
            chosen = TrainingSet.open(run.path / "trainsets" / f"{digest}.set")
            weights = [None] * len(chosen) if chosen.weights is None else chosen.weights.tolist()
            keys = chosen.keys.tolist()
            expected += [(trigger, key, w) for key, w in zip(keys, weights, strict=True)]
        assert rows == expected


def test_a_finished_run_is_left_as_it_is(tmp_path, place):
    data = drifting(tmp_path / "stream", count=COUNT)
    place.publish(data)
    run = place.replay(data, tmp_path / "run")

    again = place.replay(data, tmp_path / "run")

    assert_same(again, run)
    assert Run.open(tmp_path / "run").digest() == run.digest()


# Where samples come from --------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["time", "late"])
def test_arrivals_and_candidates_come_from_the_database(tmp_path, database, order):
    data = drifting(tmp_path / "stream", count=COUNT, order=order)
    database.publish(data)
    key = 200
    label = int(data.labels[key])
    if database.layout == "rows":
        changed = "UPDATE modyn.samples SET label = 1 - label WHERE key = %s"
        sql(database.url, changed, key)
    else:  # blocks of this leaf begin at 128
        changed = (
            'UPDATE modyn.sample_blocks SET labels = set_byte(labels, %s, %s) WHERE "first" = 128'
        )
        sql(database.url, changed, 8 * (key - 128), 1 - label)
    arrived: dict[int, int] = {}
    chosen_from: dict[int, int] = {}

    class Notes(Trigger):
        def inform(self, arrivals: Any, context: Any) -> int | None:
            arrived.update(zip(arrivals.keys.tolist(), arrivals.labels.tolist(), strict=True))
            return None if context.position + len(arrivals) < COUNT else len(arrivals)

    class Looks(Selection):
        tail_triggers = None

        def select(self, candidates: Any, context: Any) -> Selected:
            for block in candidates.blocks():
                chosen_from.update(zip(block.keys.tolist(), block.labels.tolist(), strict=True))
            return Selected(candidates.where(labels=[1 - label]).keys, None)

    # A stream that is not in the order of keys is written once; it is copied from the samples.
    run = database.replay(data, tmp_path / "run", trigger=Notes(), selection=Looks())

    assert arrived == chosen_from
    expected = dict(enumerate(data.labels.tolist()))
    if order == "time":
        assert arrived[key] == 1 - label
        expected[key] = 1 - label
        (digest,) = run.triggers["digest"]
        assert key in TrainingSet.open(run.path / "trainsets" / f"{digest}.set").keys
    assert {k: v for k, v in arrived.items() if k != key} == {
        k: v for k, v in expected.items() if k != key
    }


def test_what_is_not_published_is_not_followed(tmp_path, database):
    data = drifting(tmp_path / "stream", count=COUNT)

    with pytest.raises(ConfigError, match=r"modyn dataset publish .*stream.* --publish\)"):
        database.replay(data, tmp_path / "run")

    database.publish(data)
    grow(data, 50)
    run = database.replay(data, tmp_path / "run")
    assert run.totals["position"] == COUNT
    assert_same(database.replay(data, tmp_path / "run"), run)


def test_a_run_can_publish_first(tmp_path, database):
    data = drifting(tmp_path / "stream", count=COUNT)
    expected = pipeline(data).replay(tmp_path / "embedded")

    run = pipeline(data, metadata=database.metadata(publish=True)).replay(tmp_path / "run")

    assert_same(run, expected)


# Interrupted --------------------------------------------------------------------------------------


class DiedError(Exception):
    """What a killed process would not say."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, trigger: int) -> Iterator[None]:
    """Let a run end before it trains on a trigger that it has committed."""
    train = Trainer.train

    def die(self: Trainer, row: Any) -> Any:
        if row.trigger == trigger:
            raise DiedError
        return train(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", die)
        with pytest.raises(DiedError):
            yield


@pytest.mark.parametrize("order", ["time", "late"])
@pytest.mark.parametrize("compact", [False, True])
def test_what_is_erased_during_a_run_is_in_no_later_training(
    tmp_path, monkeypatch, place, order, compact
):
    runs = []
    for one in (Place("embedded", None), place):
        folder = tmp_path / one.layout / str(len(runs))
        folder.mkdir(parents=True)
        data = modyn.Dataset.open(shutil.copytree(original(tmp_path, order), folder / "stream"))
        one.publish(data)
        trigger = DataAmountTrigger(num_samples=60)
        with dying(monkeypatch, 1):
            one.replay(data, folder / "run", trigger=trigger)
        with modyn.Dataset.open(data.path, mode="w") as writer:
            writer.erase(range(70, 250, 7), reason="asked for")
            if compact:
                writer.compact()
        data.refresh()
        if one.is_database:
            with pytest.raises(ConfigError, match=r"samples were erased and .* does not know it"):
                one.replay(data, folder / "run", trigger=trigger)
            one.publish(data)
        runs.append(one.replay(data, folder / "run", trigger=trigger))

    expected, run = runs
    assert_same(run, expected)
    folder = run.path / "trainsets"
    chosen = [TrainingSet.open(folder / f"{digest}.set").keys for digest in run.triggers["digest"]]
    assert len(np.unique(np.concatenate(chosen))) == sum(map(len, chosen))  # nothing comes twice
    assert not {key for keys in chosen[2:] for key in keys.tolist()} & set(range(70, 250, 7))


@pytest.mark.parametrize("order", ["time", "late", "arrival"])
def test_what_is_published_during_a_run_is_for_the_next_one(tmp_path, monkeypatch, database, order):
    runs = []
    changes = {"trigger": DataAmountTrigger(num_samples=60)}
    if order == "arrival":
        changes["order"] = "arrival"
    for one in (Place("embedded", None), database):
        folder = tmp_path / one.layout
        folder.mkdir()
        data = modyn.Dataset.open(shutil.copytree(original(tmp_path, order), folder / "stream"))
        one.publish(data)
        with dying(monkeypatch, 1):
            one.replay(data, folder / "run", **changes)
        grow(data, 200)
        one.publish(data)
        runs.append(one.replay(data, folder / "run", **changes))

    expected, run = runs
    assert run.totals["position"] == COUNT
    assert_same(run, expected)


def grow(dataset: modyn.Dataset, count: int) -> None:
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.append(
            {"dense": np.zeros((count, 4), dtype=np.float32)},
            labels=np.zeros(count, dtype=np.int64),
            timestamps=np.arange(count) + COUNT,
        )
    dataset.refresh()


def original(tmp_path: Path, order: str) -> Path:
    path = tmp_path / "original"
    if not path.exists():
        drifting(path, count=COUNT, order="time" if order == "time" else "late").close()
    return path


@pytest.mark.parametrize("order", ["time", "late"])
@pytest.mark.parametrize("models", [True, False])
def test_a_run_goes_on_in_another_place(tmp_path, monkeypatch, database, order, models):
    data = drifting(tmp_path / "stream", count=COUNT, order=order)
    training = Training(batch_size=32, optimizers=sgd(), use_previous_model=True)
    changes: dict[str, Any] = {
        "training": training,
        "selection": LabelBalanced(ratio=50, tail_triggers=1),
        "trigger": DataAmountTrigger(num_samples=80),
    }
    expected = pipeline(data, **changes).replay(tmp_path / "embedded")
    database.publish(data)
    with dying(monkeypatch, 2):
        database.replay(data, tmp_path / "run", **changes)
    left = shutil.ignore_patterns("trainsets", "stream.npy", "lease", "" if models else "models")
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere", ignore=left)
    shutil.rmtree(tmp_path / "run")

    run = database.replay(data, tmp_path / "elsewhere", **changes)

    assert run.digest() == expected.digest()
    needed = {f"{digest}.set" for digest in run.triggers["digest"][2:]}
    assert needed <= set(trainsets(run.path)) <= set(trainsets(expected.path))


def test_training_sets_are_read_where_the_connections_were_ended(tmp_path, monkeypatch, database):
    data = drifting(tmp_path / "stream", count=COUNT)
    expected = pipeline(data).replay(tmp_path / "embedded")
    database.publish(data)
    with dying(monkeypatch, 1):
        database.replay(data, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "trainsets")
    read = Postgres.training_set

    def training_set(self: Postgres, *place: Any) -> TrainingSet:
        terminate_backends(database.url)
        return read(self, *place)

    monkeypatch.setattr(Postgres, "training_set", training_set)

    run = database.replay(data, tmp_path / "run")

    assert run.digest() == expected.digest()


def test_a_run_outlives_its_connections(tmp_path, database):
    data = drifting(tmp_path / "stream", count=COUNT, order="late")
    changes = {"trigger": DataAmountTrigger(num_samples=20)}
    expected = pipeline(data, **changes).replay(tmp_path / "embedded")
    database.publish(data)
    ended, over = [], threading.Event()

    def end_connections() -> None:
        while not over.wait(0.1) and len(ended) < 20:  # then it may get to its end
            ended.append(terminate_backends(database.url))

    thread = threading.Thread(target=end_connections)
    thread.start()
    try:
        run = database.replay(data, tmp_path / "run", **changes)
    finally:
        over.set()
        thread.join(20)

    assert_same(run, expected)
    assert_kept(database, run)
    assert sum(ended) >= 3


# Two of them --------------------------------------------------------------------------------------


class Waits(Trigger):
    """Says that it was asked, and waits until it may answer."""

    asked, go = threading.Event(), threading.Event()

    def inform(self, arrivals: Any, context: Any) -> int | None:
        type(self).asked.set()
        assert type(self).go.wait(60)
        return None


@pytest.fixture
def waiting() -> Iterator[type[Waits]]:
    Waits.asked.clear()
    Waits.go.clear()
    yield Waits
    Waits.go.set()


def test_two_controllers_never_run_one_pipeline(tmp_path, database, waiting):
    data = drifting(tmp_path / "stream", count=COUNT)
    database.publish(data)
    first = threading.Thread(
        target=lambda: database.replay(data, tmp_path / "one", trigger=waiting())
    )
    first.start()
    try:
        assert waiting.asked.wait(60)
        with pytest.raises(BusyError, match=r"pid [0-9]+ on "):
            database.replay(data, tmp_path / "two", trigger=waiting())
    finally:
        waiting.go.set()
        first.join(60)

    assert database.replay(data, tmp_path / "one", trigger=waiting()).finished


def test_who_was_taken_over_writes_nothing_more(tmp_path, database):
    data = drifting(tmp_path / "stream", count=COUNT)
    database.publish(data)

    class Robbed(Selection):
        tail_triggers = 0

        def select(self, candidates: Any, context: Any) -> Selected:
            if context.trigger == 1:
                sql(database.url, "UPDATE modyn.pipelines SET token = token + 1, holder = 'thief'")
            return Selected(candidates.keys, None)

    with pytest.raises(FencedError):
        database.replay(data, tmp_path / "run", selection=Robbed())

    assert sql(database.url, "SELECT count(*) FROM modyn.trainsets") == [(1,)]
    assert sql(database.url, "SELECT count(*) FROM modyn.ledger_transitions") == [(1,)]


def test_another_configuration_under_the_name_is_refused(tmp_path, database):
    data = drifting(tmp_path / "stream", count=COUNT)
    database.publish(data)
    run = database.replay(data, tmp_path / "run")

    with pytest.raises(ConfigError, match=r"trigger\.num_samples is 150 there and 151 here"):
        database.replay(data, tmp_path / "other", trigger=DataAmountTrigger(num_samples=151))

    assert Run.open(run.path).digest() == run.digest()


def test_two_pipelines_share_a_database(tmp_path, database):
    data = drifting(tmp_path / "stream", count=COUNT, order="late")
    database.publish(data)

    for name, stop in (("a", 200), ("b", 300), ("a", 200)):
        changes: dict[str, Any] = {"name": name, "stop_replay_at": stop}
        expected = pipeline(data, **changes).replay(tmp_path / f"embedded-{name}")
        assert_same(database.replay(data, tmp_path / name, **changes), expected)


# Places -------------------------------------------------------------------------------------------


def test_a_run_stays_where_it_was(tmp_path, database):
    data = drifting(tmp_path / "stream", count=COUNT)
    database.publish(data)
    embedded = pipeline(data).replay(tmp_path / "embedded")
    run = database.replay(data, tmp_path / "run")

    with pytest.raises(ConfigError, match="go on without metadata, or choose another"):
        database.replay(data, tmp_path / "embedded")
    with pytest.raises(ConfigError, match="go on with --metadata"):
        pipeline(data).replay(tmp_path / "run")
    with pytest.raises(ConfigError, match="if the database has moved"):
        pipeline(data, metadata=f"{database.url}&connect_timeout=20").replay(tmp_path / "run")

    assert_same(Run.open(tmp_path / "run"), run)
    assert_same(Run.open(tmp_path / "embedded"), embedded)


def test_no_password_is_written_anywhere(tmp_path, database, guarded, monkeypatch):
    from psycopg.conninfo import conninfo_to_dict

    data = drifting(tmp_path / "stream", count=COUNT)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = database.url.replace("user=modyn", f"user={guarded}")
    sql(database.url, f"ALTER DATABASE {conninfo_to_dict(url)['dbname']} OWNER TO {guarded}")
    mine = Place(database.layout, url)
    mine.publish(data)

    run = mine.replay(data, tmp_path / "run")

    assert run.finished
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()
    assert PASSWORD not in repr(run)
