"""What models say to policies: made once, kept by content, and of no later sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modyn
from modyn.loader import Loader
from modyn.pipelines import Criterion, Model, Training
from modyn.pipelines.answer_cache import AnswerCache
from modyn.pipelines.asking import RunAnswers
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.context import Context, PastModel
from tests.python.looking import COUNT, Looking, erase, looking, some
from tests.python.streams import drifting, sgd


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    Looking.seen = []


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
