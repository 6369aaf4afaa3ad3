"""What policies see of a run: the stream looked back at, what models say of it, and no more."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.arrivals import Arrivals
from modyn.pipelines import Pipeline
from modyn.pipelines.dry_run import dry_run
from modyn.pipelines.lookback import RunHistory
from modyn.pipelines.models import ModelStore
from modyn.pipelines.stream import stream_of
from modyn.pipelines.trainer import Trainer
from modyn.policies import DataAmountTrigger, NewData, Trigger
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.context import Context
from modyn.trainset import TrainingSet
from tests.conftest import Rand
from tests.python.looking import COUNT, Looking, erase, looking, some
from tests.python.streams import drifting, pipeline
from tests.reference.lookback import ListHistory, Sample


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    Looking.seen = []


# The stream ---------------------------------------------------------------------------------------


def in_order(dataset: modyn.Dataset, by_time: bool, bounds: tuple[int, int] | None) -> list[Sample]:
    """The stream of a dataset of which nothing was compacted, as a list."""
    labels, erased = dataset.labels, dataset.erased
    assert labels is not None
    every = [
        Sample(key, int(time), int(labels[key]), bool(erased[key]))
        for key, time in enumerate(dataset.timestamps)
    ]
    if by_time:
        every.sort(key=lambda one: (one.timestamp, one.key))
    if bounds is None:
        return every
    return [one for one in every if bounds[0] <= one.timestamp < bounds[1]]


@pytest.mark.parametrize("order", ["time", "arrival"])
@pytest.mark.parametrize("bounds", [None, (-60, 150)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_looking_back_is_looking_at_a_list(
    tmp_path: Path, rand: Rand, order: str, bounds: tuple[int, int] | None, share: float
) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT, seed=rand.seed % 1000, order="late")
    if bounds is None and rand.seed % 2:
        dataset = drifting(tmp_path / "other", count=COUNT)  # keys in order
    listed = in_order(dataset, order == "time", bounds)
    start, stop = bounds or (None, None)
    followed = pipeline(dataset, order=order, start_replay_at=start, stop_replay_at=stop)
    stream = stream_of(followed, COUNT)
    gone = np.flatnonzero(rand.numpy.random(COUNT) < share).tolist()
    if gone:
        erase(dataset, gone, compact=rand.seed % 3 == 0)
        listed = [Sample(one.key, one.timestamp, one.label, one.key in set(gone)) for one in listed]
    history = RunHistory(view=dataset.view, stream=stream, by_time=order == "time", key_count=COUNT)
    twin = ListHistory(listed)

    assert stream.count == len(listed)
    for _ in range(40):
        first, last = sorted(rand.integers(0, stream.count + 1, 2).tolist())
        same(history.samples(first, last), twin.samples(first, last))
        assert history.timestamp_before(last) == twin.timestamp_before(last)
        living = sum(not one.erased for one in listed[first:])
        taken = int(rand.integers(0, living + 1, 1)[0])
        assert history.after(first, taken) == twin.after(first, taken)
        moment = int(rand.integers(-150, COUNT, 1)[0])
        assert history.first_at(moment, last) == twin.first_at(moment, last)
        assert history.known(last, 40) == twin.known(last, 40)
        keys = rand.numpy.permutation(COUNT + 20)[:30].astype(np.uint64)
        keys = keys[~np.isin(keys, gone)]
        assert history.reached(keys, last).tolist() == twin.reached(keys, last).tolist()
        inside = keys[twin.reached(keys, last)]
        same(history.columns(inside), twin.columns(inside))


def same(one: Arrivals, other: Arrivals) -> None:
    for name in ("keys", "timestamps", "labels"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_who_asks_for_an_erased_sample_hears_its_name(tmp_path: Path) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")
    stream = stream_of(pipeline(dataset), COUNT)
    erase(dataset, [7], compact=False)
    history = RunHistory(view=dataset.view, stream=stream, by_time=True, key_count=COUNT)

    with pytest.raises(ValueError, match="sample 7 is erased"):
        history.columns(some(3, 7))


# The clock ----------------------------------------------------------------------------------------


class Recording(Trigger):
    """Hands every context to the test."""

    look: Any = None

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self._left = num_samples

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        type(self).look(arrivals, context)
        if len(arrivals) < self._left:
            self._left -= len(arrivals)
            return None
        due, self._left = self._left, self.num_samples
        return due


def test_what_comes_later_cannot_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modyn.pipelines.replay.BLOCK_COUNT", 50)
    refused = []

    def look(arrivals: Arrivals, context: Context) -> None:
        position = context.position
        at_hand = context.samples(position, position + len(arrivals))
        same(at_hand, arrivals)
        here = context.at(len(arrivals) // 2)
        for ask in (
            lambda: context.samples(position, position + len(arrivals) + 1),
            lambda: here.samples(position, here.position + 1),
            lambda: here.labels(arrivals.keys),
            lambda: here.fields(arrivals.keys),
            lambda: here.embeddings(arrivals.keys),
        ):
            with pytest.raises(ValueError, match=r"reached|far the stream") as error:
                ask()
            refused.append(str(error.value))

    monkeypatch.setattr(Recording, "look", staticmethod(look))
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")

    looking(dataset, trigger=Recording(70)).replay(tmp_path / "run")

    assert len(refused) >= 5 * COUNT // 50


def test_labels_come_with_their_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modyn.pipelines.replay.BLOCK_COUNT", 50)
    late = []

    def look(arrivals: Arrivals, context: Context) -> None:
        assert arrivals.labels is None
        assert context.label_delay == 40
        here = context.at(len(arrivals))
        keys = here.samples(0, here.position).keys
        known = here.labelled(keys)
        assert np.array_equal(known, dataset.timestamps[keys] <= here.clock - 40)
        if known.any():
            assert np.array_equal(here.labels(keys[known]), dataset.labels[keys[known]])
        if context.models and known.any():
            assert len(here.losses(keys[known])) == known.sum()
            with pytest.raises(ValueError, match="is known at"):
                here.losses(keys)
        with pytest.raises(ValueError, match="is known at"):
            here.labels(keys)
        late.append(int((~known).sum()))

    monkeypatch.setattr(Recording, "look", staticmethod(look))
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")

    run = looking(dataset, trigger=Recording(70), label_delay="40s").replay(tmp_path / "run")

    assert min(late) > 0
    assert run.config["data"]["label_delay"] == 40
    with pytest.raises(modyn.errors.ConfigError, match="label_delay"):
        looking(dataset, trigger=Recording(70)).replay(tmp_path / "run")


@pytest.mark.parametrize("order", ["time", "arrival"])
@pytest.mark.parametrize("tail", [0, 1, None])
def test_samples_are_trained_on_once_their_labels_are_known(
    tmp_path: Path, order: str, tail: int | None
) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")
    late = looking(
        dataset,
        trigger=DataAmountTrigger(num_samples=50),
        selection=NewData(tail_triggers=tail),
        label_delay=60,
        order=order,
    )
    stream = stream_of(late, COUNT)
    keys = np.arange(COUNT) if stream.order is None else stream.order

    run = late.replay(tmp_path / "run")
    dry = dry_run(late)

    assert run.triggers["position"] == list(range(50, COUNT, 50))
    assert [look.digest for look in dry.looks] == run.triggers["digest"]
    known = [0]
    for row in run.triggers:
        followed = dataset.timestamps[keys[: row["position"]]]
        unknown = np.flatnonzero(followed > followed.max() - 60)
        known.append(int(unknown[0]))
        first = {0: known[-2], 1: known[-3] if len(known) > 2 else 0, None: 0}[tail]
        path = tmp_path / "run" / "trainsets" / f"{row['digest']}.set"
        expected = np.sort(keys[first : known[-1]])
        assert TrainingSet.open(path).keys.tolist() == expected.tolist()
        assert row["candidates"] == row["samples"] == len(expected)
    assert known[1] < 50


@pytest.mark.parametrize(
    ("written", "units"), [("0", 0), ("40", 40), ("2m", 120), ("-1", None), ("soon", None)]
)
def test_a_file_says_the_delay_in_units_or_as_a_time(
    tmp_path: Path, written: str, units: int | None
) -> None:
    drifting(tmp_path / "stream", count=COUNT).close()
    text = looking(
        drifting(tmp_path / "other", count=COUNT), trigger=DataAmountTrigger(num_samples=70)
    )
    content = text.config_text().decode().replace("other", "stream")
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        content.replace("dataset_id: stream", f"dataset_id: stream\n  label_delay: {written}")
    )

    if units is None:
        with pytest.raises(modyn.errors.ConfigError, match=r"data\.label_delay"):
            Pipeline.from_yaml(path, tmp_path)
        return
    found = Pipeline.from_yaml(path, tmp_path)
    assert found.label_delay == units
    written_again = tmp_path / "again.yaml"
    found.text = None
    written_again.write_bytes(found.config_text())
    assert Pipeline.from_yaml(written_again, tmp_path).describe() == found.describe()


def test_models_say_when_and_from_how_much_and_in_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last: dict[int, Any] = {}
    monkeypatch.setattr(
        Recording,
        "look",
        staticmethod(lambda _, context: last.update({context.trigger: context})),
    )
    dataset = drifting(tmp_path / "stream", count=COUNT)

    run = looking(dataset, trigger=Recording(70)).replay(tmp_path / "run")

    assert len(run.triggers) == 4
    for trigger, context in last.items():
        assert context.triggered_at == 70 * trigger
        assert [model.trigger for model in context.models] == list(range(trigger))
        for model, row in zip(context.models, run.triggers, strict=False):
            assert (model.model, model.position) == (row["model"], row["position"])
            assert (model.samples, model.last_timestamp) == (70, row["last_timestamp"])
            store = ModelStore(tmp_path / "run" / "models")
            assert model.seconds == store.seconds(model.model) > 0


def test_models_have_the_seconds_of_their_training_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        pass

    seconds: dict[int, tuple[float, ...]] = {}

    def look(arrivals: Arrivals, context: Context) -> None:
        now = tuple(model.seconds for model in context.models)
        assert seconds.setdefault(context.trigger, now) == now

    monkeypatch.setattr(Recording, "look", staticmethod(look))
    dataset = drifting(tmp_path / "stream", count=COUNT)
    train, calls = Trainer.train, itertools.count()

    def dying(self: Trainer, row: Any) -> Any:
        found = train(self, row)
        if next(calls) % 2:
            raise DiedError
        return found

    monkeypatch.setattr(Trainer, "train", dying)
    for _ in range(10):
        try:
            run = looking(dataset, trigger=Recording(70)).replay(tmp_path / "run")
            break
        except DiedError:
            continue

    assert run.finished
    assert len(seconds[4]) == 4
    assert min(seconds[4]) > 0


class Noting(Looking):
    """Notes what it saw, of every kind that JSON can be made of."""

    def decide(self, interval: Interval, context: Context) -> bool:
        mean = context.losses(context.samples(interval.first, interval.last).keys).mean()
        fired = bool(mean > 0.6)
        seen = {"score": mean, "not": float("nan"), "interval": (interval.first, interval.last)}
        context.note("Noting", {"fired": fired, **seen})
        return fired


@pytest.mark.parametrize("block", [1000, 31])
def test_what_policies_note_is_in_the_ledger_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")
    trigger = Noting(evaluation_interval_data_points=30)
    whole = looking(dataset, trigger=trigger).replay(tmp_path / "whole").decisions.rows()
    decide, died = Noting.decide, []

    def dying(self: Noting, interval: Interval, context: Context) -> bool:
        found = decide(self, interval, context)
        if interval.index not in died:
            died.append(interval.index)
            raise RuntimeError("killed")
        return found

    monkeypatch.setattr("modyn.pipelines.replay.BLOCK_COUNT", block)
    monkeypatch.setattr(Noting, "decide", dying)
    for _ in range(20):
        try:
            run = looking(dataset, trigger=trigger).replay(tmp_path / "run")
            break
        except RuntimeError:
            continue

    assert died == list(range(1, 11))
    again = run.decisions.rows()
    assert [row["position"] for row in again] == list(range(60, COUNT + 1, 30))
    assert [row["values"].pop("not") for row in again] == pytest.approx([np.nan] * 10, nan_ok=True)
    for row in whole:
        del row["values"]["not"]
    assert again == whole
    positions = run.triggers["position"][1:]
    assert [row["position"] for row in again if row["fired"]] == positions
    assert [row["values"]["fired"] for row in again] == [row["fired"] for row in again]
    assert [row["timestamp"] for row in again] == [
        int(np.sort(dataset.timestamps)[row["position"] - 1]) for row in again
    ]


def test_what_json_cannot_hold_is_refused_where_it_is_noted(tmp_path: Path) -> None:
    class Wrong(Looking):
        def decide(self, interval: Interval, context: Context) -> bool:
            context.note("Wrong", {"stream": {1, 2}})
            return False

    dataset = drifting(tmp_path / "stream", count=COUNT)

    with pytest.raises(TypeError, match=r"a note of Wrong\['stream'\] is a set"):
        looking(dataset, trigger=Wrong(evaluation_interval_data_points=30)).replay(tmp_path / "run")


class Spread(BatchedTrigger):
    """Fires where features of an interval are spread out, whatever a model would say."""

    def decide(self, interval: Interval, context: Context) -> bool:
        keys = context.samples(interval.first, interval.last).keys
        assert context.models[-1].samples
        assert context.models[-1].position == context.triggered_at
        return bool(context.fields(keys)["dense"].std() > 1)


def test_a_dry_run_triggers_where_the_run_does(tmp_path: Path) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")
    spread = looking(dataset, trigger=Spread(evaluation_interval_data_points=30))

    dry = dry_run(spread)

    run = spread.replay(tmp_path / "run")
    assert 2 <= len(run.triggers) < 11
    assert [look.digest for look in dry.looks] == run.triggers["digest"]


class Costly(BatchedTrigger):
    """Asks what a training took."""

    def decide(self, interval: Interval, context: Context) -> bool:
        return context.models[-1].seconds > 0


@pytest.mark.parametrize(("trigger", "what"), [(Looking, "embeddings"), (Costly, "how long")])
def test_a_dry_run_says_what_only_a_training_could_tell(
    tmp_path: Path, trigger: type[BatchedTrigger], what: str
) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT)

    with pytest.raises(modyn.errors.ConfigError, match=f"depends on {what}.*trains none"):
        dry_run(looking(dataset, trigger=trigger(evaluation_interval_data_points=30)))


def test_a_time_trigger_needs_no_answers(tmp_path: Path) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT)

    looking(dataset, trigger=DataAmountTrigger(num_samples=100)).replay(tmp_path / "run")

    assert not (tmp_path / "run" / "answers").exists()
