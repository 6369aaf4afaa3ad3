"""Runs that share a store of models train each recipe once."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import modyn
from modyn.downsampling import RHOLoss
from modyn.errors import CorruptError
from modyn.pipelines import Model, Run, Training, durable, trainer
from modyn.pipelines.models import ModelStore
from modyn.pipelines.sharing import Sharing
from modyn.policies import DataAmountTrigger
from tests.python.streams import drifting, pipeline, sgd

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each training of this process had."""
    sizes: list[int] = []
    inner = trainer.train

    def counted(job: Any, *args: Any) -> Any:
        sizes.append(job.samples)
        return inner(job, *args)

    monkeypatch.setattr("modyn.pipelines.trainer.train", counted)
    monkeypatch.setattr("modyn.pipelines.irreducible.train", counted)
    return sizes


def run(
    base: Path, name: str, every: int = 150, models: str | Path = "models", **changes: Any
) -> Run:
    dataset = modyn.Dataset.open(base / "stream")
    settings = {"trigger": DataAmountTrigger(num_samples=every), "evaluation": None, **changes}
    return pipeline(dataset, name=name, **settings).replay(base / name, models=base / models)


def test_a_recipe_is_trained_once_whoever_asks_for_it(tmp_path: Path, trained: list[int]) -> None:
    drifting(tmp_path / "stream").close()
    alone = pipeline(modyn.Dataset.open(tmp_path / "stream"), name="two", evaluation=None).replay(
        tmp_path / "alone"
    )
    trained.clear()

    one, two = run(tmp_path, "one"), run(tmp_path, "two")
    other = run(tmp_path, "other", seed=4)

    assert trained == [150] * 8
    assert (one.totals["found"], one.totals["trainings"]) == (0, 4)
    assert (two.totals["found"], two.totals["trainings"]) == (4, 4)
    assert other.totals["found"] == 0
    assert two.digest() == alone.digest()
    stores = [ModelStore(tmp_path / name / "models") for name in ("one", "two", "alone")]
    for row in one.triggers:
        key = row["model"]
        facts = [store.facts(key) for store in stores]
        assert facts[0] == facts[1] == facts[2]
        assert stores[0].seconds(key) == stores[1].seconds(key) > 0
        weights = [store.directory / key / "weights.safetensors" for store in stores]
        assert weights[0].stat().st_ino == weights[1].stat().st_ino
        assert weights[0].read_bytes() == weights[2].read_bytes()
    seconds = [
        {row.trigger: row.seconds for row in done._content.timings if row.stage == "training"}
        for done in (one, two)
    ]
    assert seconds[0] == seconds[1]


def test_models_that_go_on_from_others_are_shared_too(tmp_path: Path, trained: list[int]) -> None:
    drifting(tmp_path / "stream").close()
    training = Training(batch_size=32, optimizers=sgd(), use_previous_model=True)

    one = run(tmp_path, "one", training=training)
    two = run(tmp_path, "two", training=training, maximum_triggers=2)

    assert trained == [150] * 4
    assert two.triggers["model"] == one.triggers["model"][:2]


def test_models_of_holdouts_are_shared_too(tmp_path: Path, trained: list[int]) -> None:
    drifting(tmp_path / "stream").close()
    rho = RHOLoss(ratio=50, holdout_set_ratio=30)

    one, two = (run(tmp_path, name, downsampling=rho) for name in ("one", "two"))

    assert len(trained) == 8
    assert two.totals["found"] == 4
    assert one.triggers["model"] == two.triggers["model"]


def test_who_asks_for_signals_has_them_although_the_model_is_there(
    tmp_path: Path, trained: list[int]
) -> None:
    drifting(tmp_path / "stream").close()
    settings = {"batch_size": 32, "optimizers": sgd()}
    plain = run(tmp_path, "plain", training=Training(**settings))
    trained.clear()

    run(tmp_path, "signals", training=Training(**settings, signals=("loss",)))
    again = run(tmp_path, "again", training=Training(**settings, signals=("loss",)))

    assert trained == [150] * 8
    assert again.triggers["model"] == plain.triggers["model"]
    assert len(again.signals(3)) == 128  # of whole batches


def test_a_run_keeps_its_models_when_the_shared_ones_go(tmp_path: Path, trained: list[int]) -> None:
    drifting(tmp_path / "stream").close()
    run(tmp_path, "one")
    run(tmp_path, "two", maximum_triggers=2)
    shutil.rmtree(tmp_path / "models")
    shutil.rmtree(tmp_path / "one")
    trained.clear()

    run(tmp_path, "two", maximum_triggers=2)
    last = run(tmp_path, "three", maximum_triggers=2)

    assert trained == [150] * 2
    assert last.totals["found"] == 0
    store = ModelStore(tmp_path / "two" / "models")
    for path in store.directory.iterdir():
        store.check(path.name)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "clock.json"])
def test_a_damaged_model_is_trained_anew(tmp_path: Path, trained: list[int], name: str) -> None:
    drifting(tmp_path / "stream").close()
    one = run(tmp_path, "one", maximum_triggers=1)
    key = one.triggers["model"][0]
    shared = tmp_path / "models" / key / name
    content = bytearray(shared.read_bytes())
    content[len(content) // 2] ^= 1
    shared.unlink()  # which is linked from the run
    shared.write_bytes(content)

    two = run(tmp_path, "two", maximum_triggers=1)

    assert trained == [150, 150]
    assert two.totals["found"] == 0
    ModelStore(tmp_path / "models").check(key)
    ModelStore(tmp_path / "one" / "models").check(key)


def test_a_model_of_a_callable_is_not_shared(tmp_path: Path, trained: list[int]) -> None:
    import torch

    drifting(tmp_path / "stream").close()

    def make() -> Any:
        return torch.nn.Linear(4, 2)

    for name in ("one", "two"):
        run(tmp_path, name, model=make, maximum_triggers=1)

    assert trained == [150, 150]
    assert not (tmp_path / "models").exists()


@contextmanager
def obeying_modes() -> Iterator[None]:
    """Have the modes of files bind this thread although it may be root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # of the version with 64 bits; this thread
    data = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, lower and upper words
    assert libc.capget(header, data) == 0
    effective = data[0]
    data[0] &= ~0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = effective
        assert libc.capset(header, data) == 0


@pytest.mark.parametrize("what", ["all of it", "the folder alone", "before it is made"])
def test_a_store_that_may_be_read_only_is_read(
    tmp_path: Path, trained: list[int], caplog: pytest.LogCaptureFixture, what: str
) -> None:
    drifting(tmp_path / "stream").close()
    models = tmp_path / "shared" / "models"
    models.parent.mkdir()
    made = what != "before it is made"
    if made:
        run(tmp_path, "one", maximum_triggers=2, models=models)
    damaged = next(models.glob("*/weights.safetensors"), None)
    if damaged is not None:
        damaged.unlink()
    trained.clear()
    closed = [models.parent, *(models.rglob("*") if what == "all of it" else ()), models]
    modes = {path: path.stat().st_mode for path in closed if path.exists()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)

    with obeying_modes():
        two = run(tmp_path, "two", models=models)

    for path, mode in modes.items():
        path.chmod(mode)
    assert trained == [150] * (3 if made else 4)
    assert two.totals["found"] == (1 if made else 0)
    assert len(list(models.glob("[!.]*"))) == (2 if made else 0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ermission denied" in caplog.text
    assert "trained and kept for this run alone" in caplog.text
    store = ModelStore(tmp_path / "two" / "models")
    for key in two.triggers["model"]:
        store.check(key)


def test_a_link_across_file_systems_is_a_copy(
    tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    drifting(tmp_path / "stream").close()
    monkeypatch.setattr(os, "link", refuse)

    one, two = run(tmp_path, "one"), run(tmp_path, "two")

    assert trained == [150] * 4
    assert two.totals["found"] == 4
    store = ModelStore(tmp_path / "two" / "models")
    for key in one.triggers["model"]:
        store.check(key)


def test_who_is_waited_for_and_dies_leaves_the_training_to_others(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            holder.kill()
        assert asked < 2000, "the lock of a process that was killed is still held"

    sharing = Sharing(ModelStore(tmp_path / "own"), tmp_path / "models", check)
    with sharing.claim("key") as there:
        assert not there

    holder.wait(timeout=30)
    holder.stdout.close()
    assert asked >= 3


HOLD = """
import sys, time
from pathlib import Path
from modyn.pipelines.models import ModelStore
from modyn.pipelines.sharing import Sharing
base = Path(sys.argv[1])
with Sharing(ModelStore(base / "other"), base / "models", lambda: None).claim("key"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_wait_ends_when_the_run_may_not_go_on(tmp_path: Path) -> None:
    def lost() -> None:
        raise CorruptError("the lease was lost")

    first = Sharing(ModelStore(tmp_path / "one"), tmp_path / "models", lost)
    second = Sharing(ModelStore(tmp_path / "two"), tmp_path / "models", lost)
    with first.claim("key"), pytest.raises(CorruptError, match="lease"), second.claim("key"):
        pass
    with second.claim("key") as there:
        assert not there


RUNS = """
import sys
from pathlib import Path
import modyn
from modyn.pipelines import trainer
from tests.python.streams import pipeline
base, name = Path(sys.argv[1]), sys.argv[2]
inner, count = trainer.train, 0
def counted(*args):
    global count
    count += 1
    return inner(*args)
trainer.train = counted
dataset = modyn.Dataset.open(base / "stream")
done = pipeline(dataset, evaluation=None).replay(base / name, models=base / "models")
print(count, done.totals["found"], done.digest())
"""


def test_processes_at_the_same_time_train_each_recipe_once(tmp_path: Path) -> None:
    drifting(tmp_path / "stream").close()
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RUNS, str(tmp_path), f"run{i}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]

    said = [one.communicate(timeout=120)[0].split() for one in runs]

    assert sum(int(count) for count, *_ in said) == 4
    assert all(int(count) + int(found) == 4 for count, found, _ in said)
    assert len({digest for *_, digest in said}) == 1


class DiedError(BaseException):
    """What a killed process would not say."""


def test_a_run_that_dies_while_it_takes_models_over_goes_on(
    tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drifting(tmp_path / "stream").close()
    whole = run(tmp_path, "whole", maximum_triggers=1)
    left, died = 0, 0
    for owner, name in ((os, "link"), (Path, "rename"), (durable, "sync_directory")):
        monkeypatch.setattr(owner, name, stepping(getattr(owner, name), lambda: left_one()))

    def left_one() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise DiedError

    while True:
        left = died + 1
        out = f"run{died}"
        try:
            run(tmp_path, out, maximum_triggers=1)
            break
        except DiedError:
            died += 1
            left = 0
            done = run(tmp_path, out, maximum_triggers=1)
            assert done.triggers["model"] == whole.triggers["model"]
            assert done.totals["found"] == 1

    assert died >= 15
    assert trained == [150]
    for store in (ModelStore(tmp_path / "models"), ModelStore(tmp_path / out / "models")):
        store.check(whole.triggers["model"][0])


def test_what_was_trained_before_a_death_is_shared_after_it(
    tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drifting(tmp_path / "stream").close()

    def die(*args: Any, **kwargs: Any) -> None:
        raise DiedError

    with monkeypatch.context() as dying:
        dying.setattr("modyn.pipelines.sharing._link", die)  # the run has its model by then
        with pytest.raises(DiedError):
            run(tmp_path, "one", maximum_triggers=1)
    run(tmp_path, "one", maximum_triggers=1)
    other = run(tmp_path, "other", maximum_triggers=1)

    assert other.totals["found"] == 1
    assert trained == [150]


def stepping(inner: Any, step: Any) -> Any:
    def outer(*args: Any, **kwargs: Any) -> Any:
        step()
        found = inner(*args, **kwargs)
        step()
        return found

    return outer


def test_the_model_of_a_file_is_known_by_what_it_says(tmp_path: Path, trained: list[int]) -> None:
    drifting(tmp_path / "stream").close()
    for hidden in ([8], [9], [8]):
        model = Model(id="MLP", config={"num_classes": 2, "hidden": hidden})
        run(tmp_path, f"run{len(trained)}", model=model, maximum_triggers=1)

    assert trained == [150, 150]
