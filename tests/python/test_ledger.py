"""The ledger: whole, and never another run's."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from modyn.errors import ConfigError, CorruptError, DatabaseError
from modyn.pipelines import ledger_sqlite
from modyn.pipelines.ledger import (
    Content,
    DecisionRow,
    DownsamplingRow,
    EvaluationRow,
    Ledger,
    Progress,
    TrainingRow,
    TransitionRow,
    WindowRow,
    content_of,
)
from modyn.pipelines.ledger_sqlite import SqliteLedger, read

IDENTITY = {"name": "a", "config": {"training": {"batch_size": 1, "sizes": [1, 2]}}}
START = Progress(position=0, trigger_state="{}", selection_state="{}")
# Of what `fill` writes; never changes.
DIGEST = "daf9be63722fd7a86480a179eddac23883e67b44ca21809ad7f93976849c2fe7"
# With a training more, and what downsampling cost in it.
WITH_DOWNSAMPLING = "b2be1d53ae0c8f7c83e1d891c25d5cff0af723247e7275c1f67027008b67cc63"


def transition(trigger: int) -> TransitionRow:
    return TransitionRow(
        trigger=trigger,
        first=10 * trigger,
        position=10 * trigger + 10,
        first_timestamp=-5,
        last_timestamp=None,
        trained_until=4,
        candidates_first=0,
        candidates=10,
        samples=3,
        digest="ab" * 32,
        trigger_state=f'{{"_n":{trigger}}}',
        selection_state="{}",
    )


def training(trigger: int) -> TrainingRow:
    return TrainingRow(
        trigger=trigger,
        model="cd" * 32,
        parent=None,
        epochs=1,
        batches=2,
        samples=3,
        final_loss=0.1 + trigger,
        losses="[]",
    )


def evaluation(trigger: int, metric: str = "Accuracy") -> EvaluationRow:
    return EvaluationRow(
        trigger=trigger,
        dataset="d",
        start=-1,
        end=2**62,
        metric=metric,
        model="cd" * 32,
        value=None,
        count=0,
        counts='{"correct":0}',
    )


WINDOW = WindowRow(dataset="d", handler=0, start=-1, end=2**62, anchor=-1, count=0)


class InFile:
    """Ledgers in run directories."""

    integrity = sqlite3.IntegrityError

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = str(directory)

    def open(self) -> Ledger:
        return SqliteLedger(self.directory)

    def read(self) -> Content:
        return ledger_sqlite.read(self.directory)

    def another(self) -> InFile:
        directory = self.directory / "another"
        directory.mkdir()
        return InFile(directory)

    def close(self) -> None:
        pass


class InDatabase:
    """Ledgers of pipelines in a database."""

    integrity = DatabaseError

    def __init__(self, database: Any, name: str) -> None:
        from modyn.pipelines.lease import Lease

        self.database, self.name = database, name
        self.said = f"pipeline {name!r} in {database.url}"
        self.lease = Lease(database, database.pipeline_id(name))
        self.lease.acquire()
        self.others: list[InDatabase] = []

    def open(self) -> Ledger:
        from modyn.pipelines.ledger_postgres import PostgresLedger

        return PostgresLedger(self.database, self.name, self.lease)

    def read(self) -> Content:
        from modyn.pipelines import ledger_postgres

        return ledger_postgres.read(self.database, self.name)

    def another(self) -> InDatabase:
        self.others.append(InDatabase(self.database, f"{self.name}/another"))
        return self.others[-1]

    def close(self) -> None:
        for place in (self, *self.others):
            place.lease.release()


@pytest.fixture(params=["file", "database"])
def place(request, tmp_path):
    """Where a ledger is; everything that ledgers promise, each of them promises."""
    if request.param == "file":
        yield InFile(tmp_path)
        return
    url = request.getfixturevalue("database_url")
    from modyn.metadata.database import Database

    with Database(url) as database:
        place = InDatabase(database, "a")
        try:
            yield place
        finally:
            place.close()


@pytest.fixture
def ledger(place):
    ledger = place.open()
    ledger.begin(IDENTITY, START)
    yield ledger
    ledger.close()


@pytest.fixture
def in_file(tmp_path):
    ledger = SqliteLedger(tmp_path)
    ledger.begin(IDENTITY, START)
    yield ledger
    ledger.close()


def test_what_is_committed_is_read_back(ledger, place):
    ledger.commit(transition(0), {"policy": 0.5})
    ledger.train(training(0), {"train": 1.0})
    ledger.plan([WINDOW])
    ledger.evaluate([evaluation(0)], {0: {"evaluate": 2.0}})
    ledger.advance(Progress(position=17, trigger_state="[1]", selection_state="{}"))
    ledger.finish()

    content = place.read()

    assert content.identity == ledger.identity() == IDENTITY
    assert content.transitions == ledger.transitions() == [transition(0)]
    assert content.trainings == ledger.trainings() == [training(0)]
    assert content.windows == [WINDOW]
    assert content.evaluations == ledger.evaluations() == [evaluation(0)]
    assert content.progress == Progress(
        position=17, trigger_state="[1]", selection_state="{}", finished=True
    )
    assert {(t.stage, t.seconds) for t in content.timings} == {
        *[("policy", 0.5), ("train", 1.0), ("evaluate", 2.0)]
    }
    assert content == ledger.content()


def fill(ledger: Ledger) -> None:
    """Whatever numbers and texts there are, in an order that is not theirs."""
    ledger.begin(IDENTITY, START)
    for trigger, loss in enumerate([0.1, 3, math.nan, -0.0, -math.inf]):
        ledger.commit(transition(trigger), {"policy": 0.5})
        ledger.train(replace(training(trigger), final_loss=loss), {})
    for metric in ["b", "\u00c4", "a", "B", "-", "\U0001f600", "\uffff"]:
        ledger.evaluate([evaluation(0, metric)], {0: {"evaluate": 2.0}})
    ledger.plan([replace(WINDOW, handler=handler) for handler in (2, 10, 1)])
    ledger.advance(Progress(position=57, trigger_state="[1]", selection_state="{}"))


def test_the_digest_is_that_of_the_first_version_wherever_the_ledger_is(place):
    ledger = place.open()

    fill(ledger)

    assert ledger.content().digest == DIGEST
    assert [row.final_loss for row in ledger.trainings()] == [0.1, 3.0, None, 0.0, -math.inf]
    assert math.copysign(1, ledger.trainings()[3].final_loss) == 1
    assert [row.metric for row in ledger.evaluations()] == [
        *["-", "B", "a", "b", "\u00c4", "\uffff", "\U0001f600"]
    ]
    ledger.close()


def test_decisions_are_committed_with_what_follows_them_and_once(place):
    ledger = place.open()
    fill(ledger)
    assert ledger.decision_count() == 0
    rows = [
        DecisionRow(number=i, position=9 * i, trigger=5, timestamp=None, name="A", noted="{}")
        for i in range(4)
    ]

    ledger.commit(transition(5), {}, rows[:2])
    ledger.commit(transition(5), {}, rows[:2])
    for _ in range(2):
        at = Progress(position=60, trigger_state="[1]", selection_state="{}")
        ledger.advance(at, rows[2:])

    assert list(place.read().decisions) == rows
    assert ledger.decision_count() == 4
    content = ledger.content()
    ledger.close()
    without = {f.name: getattr(content, f.name) for f in fields(Content)}
    del without["digest"], without["decisions"]
    assert content_of(**without).digest == content.digest


def test_the_seconds_of_a_stage_are_those_of_each_trigger(place):
    ledger = place.open()
    fill(ledger)

    assert ledger.seconds("policy") == dict.fromkeys(range(5), 0.5)
    assert ledger.seconds("evaluate") == {0: 14.0}
    assert ledger.seconds("nothing") == {}
    ledger.close()


def test_what_downsampling_cost_is_kept_and_part_of_the_digest(place):
    ledger = place.open()
    fill(ledger)
    row = DownsamplingRow(trigger=5, scored=2**40, trained=7)
    ledger.commit(transition(5), {})

    ledger.train(training(5), {}, row)

    content = place.read()
    assert list(content.downsamplings) == [row]
    assert content.digest == WITH_DOWNSAMPLING
    without = {f.name: getattr(content, f.name) for f in fields(Content)}
    del without["digest"], without["downsamplings"]
    assert content_of(**without).digest != content.digest
    with pytest.raises(place.integrity):
        ledger.train(training(5), {}, row)
    ledger.close()


def test_the_journal_survives_power_cuts(in_file):
    pragmas = {
        name: in_file._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "application_id", "user_version")
    }

    assert pragmas == {
        "journal_mode": "truncate",
        "synchronous": 3,  # EXTRA
        "application_id": ledger_sqlite.APPLICATION_ID,
        "user_version": ledger_sqlite.VERSION,
    }


def test_a_commit_moves_position_and_state_together(ledger):
    ledger.commit(transition(0), {})

    assert ledger.progress() == Progress(
        position=10, trigger_state='{"_n":0}', selection_state="{}"
    )


def test_a_commit_that_fails_leaves_nothing(ledger, place):
    ledger.commit(transition(0), {})
    before = ledger.content()

    with pytest.raises(place.integrity):
        ledger.commit(replace(transition(0), position=99), {"policy": 1.0})

    assert ledger.content() == before


def test_a_commit_is_harmless_when_it_had_happened(ledger):
    ledger.commit(transition(0), {"policy": 1.0})
    before = ledger.content()

    ledger.commit(transition(0), {"policy": 1.0})

    assert ledger.content() == before


def test_results_refer_to_what_exists(ledger, place):
    with pytest.raises(place.integrity):
        ledger.train(training(0), {})
    with pytest.raises(place.integrity):
        ledger.evaluate([evaluation(0)], {})


def test_seconds_add_up_and_are_no_part_of_the_digest(ledger):
    ledger.commit(transition(0), {"policy": 1.0})
    before = ledger.content().digest
    ledger.train(training(0), {})
    ledger.evaluate([], {0: {"policy": 2.0}})

    content = ledger.content()

    assert [t.seconds for t in content.timings] == [3.0]
    assert content.digest != before  # by the training
    ledger.evaluate([], {0: {"policy": 2.0}})
    assert ledger.content().digest == content.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.advance(replace(START, position=1)),
        lambda ledger: ledger.advance(replace(START, trigger_state="[]")),
        lambda ledger: ledger.commit(transition(0), {}),
        lambda ledger: ledger.plan([WINDOW]),
        lambda ledger: ledger.finish(),
    ],
)
def test_everything_else_is_part_of_the_digest(ledger, change):
    before = ledger.content().digest

    change(ledger)

    assert ledger.content().digest != before


def test_the_digest_does_not_depend_on_the_order_of_writing(place):
    digests = []
    for where, metrics in ((place, ["A", "B"]), (place.another(), ["B", "A"])):
        ledger = where.open()
        ledger.begin(IDENTITY, START)
        ledger.commit(transition(0), {})
        ledger.train(training(0), {})
        for metric in metrics:
            ledger.evaluate([evaluation(0, metric)], {})
        digests.append(ledger.content().digest)
        ledger.close()

    assert digests[0] == digests[1]


def test_what_is_planned_stays_as_it_is(ledger):
    ledger.plan([WINDOW])

    ledger.plan([replace(WINDOW, count=3), replace(WINDOW, handler=1)])

    assert ledger.content().windows == [WINDOW, replace(WINDOW, handler=1)]


def test_the_same_run_is_taken_up_again(ledger, place):
    ledger.commit(transition(0), {})
    ledger.close()

    again = place.open()
    again.begin(IDENTITY, START)

    assert not again.new
    assert again.progress().position == 10
    again.close()


def test_another_run_is_refused_and_the_difference_named(ledger, place):
    other = {"name": "a", "config": {"training": {"batch_size": 2, "sizes": [1, 3]}, "more": None}}

    with pytest.raises(ConfigError) as caught:
        ledger.begin(other, START)

    said = str(caught.value)
    assert f"{place.said} holds a run of another pipeline or dataset" in said
    assert "config.training.batch_size is 1 there and 2 here" in said
    assert "config.training.sizes[1] is 2 there and 3 here" in said


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(CorruptError, match="not a ledger of modyn"):
        SqliteLedger(tmp_path)

    (tmp_path / "ledger.sqlite").write_bytes(b"some text, longer than a header" * 100)
    with pytest.raises(CorruptError, match=r"ledger\.sqlite: damaged \(file is not a database\)"):
        SqliteLedger(tmp_path)


def test_a_ledger_of_the_future_is_refused(in_file, tmp_path):
    in_file._db.execute("PRAGMA user_version = 99")
    in_file.close()

    with pytest.raises(CorruptError, match="ledger of version 99; this modyn reads those up to 2"):
        SqliteLedger(tmp_path)


def test_reading_where_there_is_no_run_makes_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run there"):
        read(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_ledger_whose_process_died_before_it_began_is_no_run_yet(tmp_path):
    SqliteLedger(tmp_path).close()
    (tmp_path / "ledger.sqlite").write_bytes(b"")

    with pytest.raises(FileNotFoundError, match="no run there"):
        read(tmp_path)


CRASHING = """
import os, sys
from modyn.pipelines import ledger_sqlite as m
from tests.python.test_ledger import IDENTITY, START, transition
ledger = m.SqliteLedger({directory!r})
ledger.begin(IDENTITY, START)
ledger.commit(transition(0), {{}})
ledger._commit = lambda: os._exit(9)  # all is written but the last step
ledger.commit(transition(1), {{}})
"""


def test_a_process_that_dies_in_a_transaction_leaves_the_one_before(tmp_path):
    code = CRASHING.format(directory=str(tmp_path))

    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)

    assert done.returncode == 9
    assert [row.trigger for row in read(tmp_path).transitions] == [0]
