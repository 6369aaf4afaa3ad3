"""What policies see of a run: the stream looked back at, what models say of it, and no more."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import modyn
from modyn.arrivals import Arrivals
from modyn.loader import Loader
from modyn.pipelines import Criterion, Model, Pipeline, Training
from modyn.pipelines.answer_cache import AnswerCache
from modyn.pipelines.asking import RunAnswers
from modyn.pipelines.dry_run import dry_run
from modyn.pipelines.lookback import RunHistory
from modyn.pipelines.models import ModelStore
from modyn.pipelines.stream import stream_of
from modyn.pipelines.trainer import Trainer
from modyn.policies import DataAmountTrigger, NewData, Trigger
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.context import Context, PastModel
from modyn.trainset import TrainingSet
from tests.conftest import Rand
from tests.python.streams import drifting, pipeline, sgd
from tests.reference.lookback import ListHistory, Sample

COUNT = 330


def some(*keys: int) -> np.ndarray:
    return np.array(keys, dtype=np.uint64)


def erase(dataset: modyn.Dataset, keys: list[int], *, compact: bool) -> None:
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(keys, reason="asked for")
        if compact:
            writer.compact()
    dataset.refresh()


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


# Answers ------------------------------------------------------------------------------------------


class Looking(BatchedTrigger):
    """Fires where the mean loss is above a border, and keeps what it saw."""

    seen: ClassVar[list[tuple[Any, ...]]] = []

    def decide(self, interval: Interval, context: Context) -> bool:
        samples = context.samples(interval.first, interval.last)
        embeddings = context.embeddings(samples.keys)
        predictions = context.predictions(samples.keys)
        losses = context.losses(samples.keys)
        assert np.allclose(predictions.sum(axis=1), 1, atol=1e-6)
        labels = context.labels(samples.keys)
        chosen = predictions[np.arange(len(labels)), labels]
        assert np.allclose(losses, -np.log(chosen), atol=1e-5)
        assert embeddings.shape == (len(samples), 8)
        last = context.models[-1]
        self.seen.append((context.position, context.clock, last.model, embeddings.tobytes()))
        return bool(losses.mean() > 0.6) and context.position - context.triggered_at >= 60


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    Looking.seen = []


def looking(dataset: modyn.Dataset, **changes: Any) -> Any:
    trigger = Looking(evaluation_interval_data_points=30)
    training = Training(batch_size=32, optimizers=sgd())
    settings = {"trigger": trigger, "training": training, "evaluation": None, **changes}
    return pipeline(dataset, **settings)


@pytest.mark.parametrize("order", ["time", "arrival"])
@pytest.mark.parametrize("erased", [0, 60])
def test_a_policy_asks_the_newest_model_about_the_interval_at_hand(
    tmp_path: Path, order: str, erased: int
) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")
    if erased:
        erase(dataset, list(range(5, 5 + 2 * erased, 2)), compact=True)

    run = looking(dataset, order=order).replay(tmp_path / "run")

    assert run.finished
    assert 2 <= len(run.triggers) < 10
    ends = [position for position, *_ in Looking.seen]
    if not erased:
        assert ends == list(range(60, COUNT + 1, 30))
    assert len(ends) == (COUNT - erased) // 30 - 1
    models = {row["position"]: row["model"] for row in run.triggers}
    for position, _, model, _ in Looking.seen:
        assert model == models[max(p for p in models if p < position)]


def test_decisions_are_the_same_however_the_stream_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")
    runs = []
    for block in (1000, 31, 7):
        monkeypatch.setattr("modyn.pipelines.replay.BLOCK_COUNT", block)
        runs.append(looking(dataset).replay(tmp_path / f"run-{block}"))

    count = len(Looking.seen) // 3
    assert len({tuple(run.triggers["position"]) for run in runs}) == 1
    assert Looking.seen == Looking.seen[:count] * 3


def test_a_block_goes_through_a_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    inner = RunAnswers._pass

    def counted(self: RunAnswers, *args: Any, **kwargs: Any) -> Any:
        passes.append(len(args[1]))
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(RunAnswers, "_pass", counted)
    dataset = drifting(tmp_path / "stream", count=COUNT)

    looking(dataset).replay(tmp_path / "run")

    assert passes == [30] * 10


def test_a_run_that_goes_on_reads_what_was_asked_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        pass

    dataset = drifting(tmp_path / "stream", count=COUNT)
    whole = looking(dataset).replay(tmp_path / "whole")
    undisturbed = list(Looking.seen)
    decide = Looking.decide

    def dying(self: Looking, interval: Interval, context: Context) -> bool:
        if interval.index == 7:
            raise DiedError
        return decide(self, interval, context)

    monkeypatch.setattr(Looking, "decide", dying)
    with pytest.raises(DiedError):
        looking(dataset).replay(tmp_path / "run")
    monkeypatch.setattr(Looking, "decide", decide)
    Looking.seen = []
    run = looking(dataset).replay(tmp_path / "run")

    assert run.digest() == whole.digest()
    assert Looking.seen == undisturbed[-len(Looking.seen) :]
    assert run.triggers["position"] == whole.triggers["position"]


def test_a_short_block_is_answered_as_a_loader_would_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"a": "float32[5]", "b": "int16", "c": "uint8[2,3]"}
    dataset = modyn.Dataset.create(tmp_path / "stream", schema=schema)
    rng = np.random.default_rng(0)
    shapes = {"a": (90, 5), "b": (90,), "c": (90, 2, 3)}
    fields = {name: rng.integers(0, 100, shape) for name, shape in shapes.items()}
    typed = {n: v.astype(schema[n].split("[")[0]) for n, v in fields.items()}
    dataset.append(typed, labels=rng.integers(0, 2, 90), timestamps=np.arange(90))

    class Three(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(12, 2)

        def forward(self, a: Any, b: Any, c: Any) -> Any:
            return self.last(torch.cat((a, b[:, None].float(), c.flatten(1).float()), dim=1))

    torch.manual_seed(0)
    module = Three()
    model = PastModel(trigger=0, model="m", position=0, last_timestamp=None, samples=1, seconds=1.0)
    keys = some(*rng.permutation(90)[:60].tolist())
    found = []
    loaded = lambda self, keys, fields: Loader(self._dataset, keys, batch_size=60, fields=fields)  # noqa: E731
    for how in (RunAnswers._batches, loaded):
        monkeypatch.setattr(RunAnswers, "_batches", how)
        answers = RunAnswers(
            dataset=dataset,
            training=Training(batch_size=32, optimizers=sgd()),
            module=lambda key: module,
            cache=AnswerCache(tmp_path / f"answers {len(found)}"),
        )
        found.append([answers.embeddings(model, keys), answers.predictions(model, keys)])

    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(found[0][0][:, :5], typed["a"][keys.astype(int)])


def test_answers_that_were_damaged_are_made_again(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers")
    keys, answer = some(3, 1, 2), np.arange(6, dtype=np.float32).reshape(3, 2)
    cache.put("model", "outputs", keys, answer)
    (path,) = (tmp_path / "answers" / "model").iterdir()

    again = AnswerCache(tmp_path / "answers")
    found = again.get("model", "outputs", keys)
    whole = path.read_bytes()
    lost = []
    for content in (whole[:-1], whole[:10], b"", whole[:90] + b"?" + whole[91:]):
        path.write_bytes(content)
        lost.append(AnswerCache(tmp_path / "answers").get("model", "outputs", keys))

    assert found is not None
    assert np.array_equal(found, answer)
    assert not found.flags.writeable
    assert again.get("model", "outputs", some(1, 2, 3)) is None
    assert again.get("model", "embeddings", keys) is None
    assert lost == [None] * 4


def test_answers_stay_within_their_budgets(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers", memory_bytes=1000, disk_bytes=2000)
    for i in range(40):
        cache.put(f"model {i // 10}", "outputs", some(i), np.zeros((1, 50), np.float32))

    kept = list((tmp_path / "answers").glob("*/*"))
    cache.keep_only({"model 0"})

    assert cache._held_bytes <= 1000
    assert 1 <= len(kept) <= 10
    assert not list((tmp_path / "answers").glob("model 3"))
    assert cache.get("model 0", "outputs", some(0)) is not None


def test_an_answer_that_is_put_again_counts_once(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers", memory_bytes=1000, disk_bytes=2000)
    answer = np.zeros((1, 50), np.float32)
    for _ in range(40):
        cache.put("model", "outputs", some(0), answer)
    cache.put("model", "outputs", some(1), answer)

    assert cache._held_bytes == 2 * answer.nbytes
    assert len(list((tmp_path / "answers").glob("*/*"))) == 2


def test_a_damaged_note_of_erasures_makes_answers_anew(tmp_path: Path) -> None:
    AnswerCache(tmp_path / "answers").put("model", "outputs", some(0), np.zeros((1, 2), np.float32))
    (tmp_path / "answers" / "erased").write_bytes(b"\xff")

    assert AnswerCache(tmp_path / "answers").get("model", "outputs", some(0)) is None


def test_no_answer_about_an_erased_sample_is_left(tmp_path: Path) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT)
    looking(dataset, maximum_triggers=1).replay(tmp_path / "run")
    cache = AnswerCache(tmp_path / "run" / "answers")
    cache.put("model", "outputs", some(4), np.zeros((1, 2), np.float32))
    erase(dataset, [4], compact=False)

    looking(dataset, maximum_triggers=1).replay(tmp_path / "run")

    assert not list((tmp_path / "run" / "answers").glob("*/*"))


@pytest.mark.parametrize(
    ("loss", "classes"),
    [("CrossEntropyLoss", 2), ("BCEWithLogitsLoss", 1), ("MSELoss", 1)],
)
def test_losses_and_probabilities_are_those_of_the_criterion(
    tmp_path: Path, loss: str, classes: int
) -> None:
    seen = {}

    class Asking(BatchedTrigger):
        def decide(self, interval: Interval, context: Context) -> bool:
            keys = context.samples(0, context.position).keys
            seen["predictions"] = context.predictions(keys)
            seen["losses"], seen["labels"] = context.losses(keys), context.labels(keys)
            return False

    looking(
        drifting(tmp_path / "stream", count=120),
        trigger=Asking(evaluation_interval_data_points=60),
        model=Model(id="MLP", config={"num_classes": classes, "hidden": [8]}),
        training=Training(
            batch_size=32, optimizers=sgd(), optimization_criterion=Criterion(name=loss)
        ),
    ).replay(tmp_path / "run")

    shown, labels = seen["predictions"].astype(np.float64), seen["labels"]
    if loss == "MSELoss":
        assert shown.shape == (120, 1)
        assert np.allclose(seen["losses"], (shown[:, 0] - labels) ** 2, atol=1e-6)
    else:
        assert shown.shape == (120, 2)
        assert np.allclose(seen["losses"], -np.log(shown[np.arange(120), labels]), atol=1e-5)


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
