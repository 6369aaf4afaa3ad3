"""What a run keeps on disk: a flipped bit is an error that names the file, or it means nothing."""

from __future__ import annotations

import io
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import modyn
from modyn.errors import BusyError, RunCorruptError
from modyn.pipelines import Run, Training, ledger_sqlite
from modyn.pipelines.ledger import Progress
from modyn.pipelines.ledger_sqlite import SqliteLedger
from modyn.pipelines.models import ModelStore
from modyn.pipelines.stream import Stream, keep, kept
from modyn.policies import DataAmountTrigger
from tests.python.streams import drifting, pipeline, sgd

KEYS = np.array([5, 2, 9, 0, 7, 1], np.uint64)

# Every kind of file in a run directory or a shared store of models, and who notices damage of it.
KNOWN = {
    r"pipeline\.yaml": "the ledger has what it says, and a run or backtest is held against that",
    r"ledger\.sqlite(-journal)?": "seals of its tables, also after a journal was rolled back",
    r"stream\.npy": "its seal",
    r"trainsets/[0-9a-f]{64}\.set": "its digest, which is its name",
    r"models/[0-9a-f]{64}/(weights|optimizer)\.safetensors": "checksums in model.json",
    r"models/[0-9a-f]{64}/(model|clock)\.json": "their seals",
    r"models/[0-9a-f]{64}/found": "nothing is in it",
    r"signals/[0-9]+\.sig": "its seal",
    r"irreducible/[0-9a-f]+\.f32": "its seal; it is made again",
    r"answers/erased": "all answers are made again",
    r"answers/[0-9a-f]{64}/[a-z]+-[0-9a-f]+\.npy": "its seal; it is made again",
    r"report\.html": "nobody reads it",
    r"lock|models/\.locks/[0-9a-f]{64}": "who holds it is for people",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run in time order, of samples that came in another, in `run`; with its shared store."""
    base = tmp_path_factory.mktemp("damage")
    drifting(base / "stream", order="late").close()
    replayed(base, "run")
    return base


def replayed(base: Path, name: str) -> Run:
    dataset = modyn.Dataset.open(base / "stream")
    training = Training(batch_size=32, optimizers=sgd(), use_previous_model=True, signals=("loss",))
    settings = {"order": "time", "training": training, "maximum_triggers": 2}
    made = pipeline(dataset, trigger=DataAmountTrigger(num_samples=150), **settings)
    return made.replay(base / name, models=base / "models")


@pytest.fixture
def own(base, tmp_path):
    """A copy of the run, with its stream."""
    for name in ("stream", "run"):
        shutil.copytree(base / name, tmp_path / name)
    return tmp_path


def flips(content: bytes, count: int):
    """Yield a content with one bit flipped, at so many places all over it."""
    for at in np.linspace(0, len(content) - 1, min(count, len(content))).astype(int).tolist():
        yield content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]


def test_there_is_no_file_that_nobody_holds_against_anything(base):
    files = [path.relative_to(base) for path in base.rglob("*") if path.is_file()]
    names = [str(path.relative_to("run")) for path in files if path.parts[0] == "run"]
    names += [str(path) for path in files if path.parts[0] == "models"]

    assert len(names) > 15
    assert [n for n in names if not any(re.fullmatch(known, n) for known in KNOWN)] == []


# The stream -----------------------------------------------------------------------------------


def test_a_flip_or_a_cut_anywhere_in_an_order_is_noticed(tmp_path):
    path = tmp_path / "stream.npy"
    keep(Stream(count=len(KEYS), order=KEYS, ascending=True), path)
    whole = path.read_bytes()

    for damaged in [*flips(whole, len(whole)), *(whole[:size] for size in range(0, len(whole), 8))]:
        path.write_bytes(damaged)
        with pytest.raises(RunCorruptError, match=r"stream\.npy: damaged .* --models "):
            kept(path)

    path.write_bytes(whole)
    found = kept(path)
    assert found is not None
    assert (found.count, found.ascending) == (len(KEYS), True)
    assert np.array_equal(found.order, KEYS)


def test_an_order_of_before_there_were_seals_is_read(tmp_path):
    path = tmp_path / "stream.npy"
    content = io.BytesIO()
    np.save(content, np.array([len(KEYS), 0], np.uint64))
    np.save(content, KEYS)
    path.write_bytes(content.getvalue())

    found = kept(path)

    assert found is not None
    assert (found.count, found.ascending) == (len(KEYS), False)
    assert np.array_equal(found.order, KEYS)
    path.write_bytes(content.getvalue() + b"more")
    with pytest.raises(RunCorruptError, match="4 bytes behind the keys"):
        kept(path)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_run_without_its_order_does_not_go_on(own, change):
    path = own / "run" / "stream.npy"
    change(path)

    with pytest.raises(RunCorruptError, match=r"stream\.npy: damaged"):
        replayed(own, "run")


# The ledger -----------------------------------------------------------------------------------


def test_a_flip_in_a_ledger_is_noticed_or_means_nothing(own):
    path = own / "run" / "ledger.sqlite"
    whole, content = path.read_bytes(), ledger_sqlite.read(own / "run")
    said = []

    for damaged in flips(whole, 300):
        path.write_bytes(damaged)
        try:
            assert ledger_sqlite.read(own / "run") == content
        except RunCorruptError as error:
            said.append(str(error))

    assert len(said) > 30
    assert all(str(path) in one for one in said)


@pytest.fixture
def small(tmp_path):
    """A ledger that has only begun."""
    ledger = SqliteLedger(tmp_path)
    ledger.begin({"seed": 3}, Progress(position=0, trigger_state="{}", selection_state="{}"))
    ledger.close()
    return tmp_path / "ledger.sqlite"


def test_a_table_definition_that_is_no_text_any_more_is_damage(small):
    whole = small.read_bytes()

    for found in re.finditer(rb"TEXT|INTEGER", whole[:4096]):
        at = found.start()
        small.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        with pytest.raises(RunCorruptError, match=r"ledger\.sqlite: damaged"):
            ledger_sqlite.read(small.parent)


def test_a_ledger_that_cannot_be_read_now_is_not_called_damaged(small, monkeypatch):
    monkeypatch.setattr(ledger_sqlite, "WAIT_SECONDS", 0.01)

    with closing(sqlite3.connect(small, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BusyError, match=r"ledger\.sqlite: database is locked"):
            ledger_sqlite.read(small.parent)
    with pytest.raises(OSError, match=r"x/ledger\.sqlite: unable to open"):
        SqliteLedger(small.parent / "x")

    assert ledger_sqlite.read(small.parent).identity == {"seed": 3}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE progress SET position = position + 1",
        "UPDATE transitions SET trigger_state = replace(trigger_state, '1', '3') WHERE trigger = 1",
        "UPDATE timings SET seconds = seconds * 2 WHERE stage = 'training' AND trigger = 0",
        "UPDATE identity SET value = replace(value, '150', '151')",
        "DELETE FROM evaluations WHERE trigger = 1",
        "DROP TABLE seals",
        "UPDATE seals SET seal = replace(seal, '0', '1')",
    ],
)
def test_a_value_that_was_changed_beside_modyn_is_noticed(own, change):
    with closing(sqlite3.connect(own / "run" / "ledger.sqlite")) as db, db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(change)

    for go in (lambda: Run.open(own / "run"), lambda: replayed(own, "run")):
        with pytest.raises(RunCorruptError, match=r"ledger\.sqlite: damaged"):
            go()


def test_a_ledger_of_before_there_were_seals_is_read_and_goes_on(own):
    digest = Run.open(own / "run").digest()
    with closing(sqlite3.connect(own / "run" / "ledger.sqlite")) as db, db:
        db.execute("DROP TABLE seals")
        db.execute("PRAGMA user_version = 1")
        db.execute("UPDATE progress SET finished = 0")
        db.execute("DELETE FROM evaluations WHERE trigger = 1")

    assert replayed(own, "run").digest() == digest


# Models ---------------------------------------------------------------------------------------


def test_a_flip_in_how_long_a_training_took_is_noticed(own):
    store = ModelStore(own / "run" / "models")
    key = Run.open(own / "run").triggers["model"][0]
    path = store.directory / key / "clock.json"
    whole = path.read_bytes()

    for damaged in flips(whole, len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(RunCorruptError, match=r"clock\.json"):
            store.seconds(key)
