"""SPACE.yaml says which policies to try, strictly; `modyn backtest` shows what they come to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modyn.backtesting.space import parse
from modyn.cli import app
from modyn.errors import ConfigError
from modyn.policies import DataAmountTrigger, NewData, TimeTrigger
from tests.python import streams


def space(*policies: str, head: str = "") -> bytes:
    lines = "".join(f"  - {policy}\n" for policy in policies)
    return f"{head}\npolicies:\n{lines}".encode()


def test_policies_are_all_combinations_of_their_axes():
    text = space(
        "trigger: {id: TimeTrigger, every: {any: [1d, 2d]}, start_timestamp: {any: [0, 5]}}",
        "{name: amount, trigger: {id: DataAmountTrigger, num_samples: {range: [10, 30, 10]}}}",
        "trigger: {id: DataAmountTrigger, num_samples: 7}",
    )

    found = parse(text).triggers("s")

    assert found == {
        "TimeTrigger every=1d, start_timestamp=0": TimeTrigger(every="1d", start_timestamp=0),
        "TimeTrigger every=1d, start_timestamp=5": TimeTrigger(every="1d", start_timestamp=5),
        "TimeTrigger every=2d, start_timestamp=0": TimeTrigger(every="2d", start_timestamp=0),
        "TimeTrigger every=2d, start_timestamp=5": TimeTrigger(every="2d", start_timestamp=5),
        "amount num_samples=10": DataAmountTrigger(num_samples=10),
        "amount num_samples=20": DataAmountTrigger(num_samples=20),
        "amount num_samples=30": DataAmountTrigger(num_samples=30),
        "DataAmountTrigger num_samples=7": DataAmountTrigger(num_samples=7),
    }


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("{range: [1, 7, 3]}", [1, 4, 7]),
        ("{range: [1, 8, 3]}", [1, 4, 7]),
        ("{geomspace: [1, 1000, 4]}", [1, 10, 100, 1000]),
        ("{any: [3, 1]}", [3, 1]),
    ],
)
def test_an_axis_has_these_values(axis, values):
    found = parse(space(f"trigger: {{id: DataAmountTrigger, num_samples: {axis}}}")).triggers("s")

    assert [policy.num_samples for policy in found.values()] == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (space("trigger: {id: DataAmountTrigger, num_samples: 0}"), "num_samples"),
        (space("trigger: {id: DataAmountTrigger, num_sample: 5}"), "num_sample"),
        (space("trigger: {id: NoTrigger}"), "NoTrigger"),
        (space("trigger: {id: TimeTrigger, every: {any: []}}"), "any needs a list"),
        (space("trigger: {id: DataAmountTrigger, num_samples: {range: [1, 2]}}"), "step"),
        (space("trigger: {id: DataAmountTrigger, num_samples: {range: [9, 2, 1]}}"), "no values"),
        (space("trigger: {id: DataAmountTrigger, num_samples: {any: [1, -1]}}"), "num_samples=-1"),
        (
            space("trigger: {id: DataAmountTrigger, num_samples: {range: [1, 9000000, 1]}}"),
            "too many",
        ),
        (
            space(*["trigger: {id: DataAmountTrigger, num_samples: {range: [1, 600000, 1]}}"] * 2),
            "already",
        ),
        (space("trigger: {id: TimeTrigger, every: 1d}", head="cost: {unit: money}"), "cost"),
        (space("trigger: {id: TimeTrigger, every: 1d}", head="budget: 3"), "budget"),
        (b"policies: []", "policies"),
        (b"[]", "the file"),
        (b"policies: *all", "aliases"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(text, words, monkeypatch):
    monkeypatch.setattr("modyn.backtesting.space.POLICIES_MAX", 100)

    if words == "already":
        text = text.replace(b"600000", b"40")
    with pytest.raises(ConfigError, match=words):
        parse(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A dataset, a run over it, and a space of five policies."""
    folder = tmp_path_factory.mktemp("space")
    dataset = streams.drifting(folder / "stream", count=300)
    trigger, selection = DataAmountTrigger(num_samples=50), NewData(tail_triggers=None)
    pipeline = streams.pipeline(dataset, trigger=trigger, selection=selection)
    pipeline.replay(folder / "runs" / "fifty")
    (folder / "space.yaml").write_bytes(
        space(
            "trigger: {id: DataAmountTrigger, num_samples: {range: [50, 250, 50]}}",
            head=f"runs: ['{folder / 'runs'}']\ncost: {{unit: trainings}}",
        )
    )
    return folder


def command(folder: Path, *more: str):
    args = ["backtest", str(folder / "space.yaml"), "--datasets", str(folder), *more]
    return CliRunner().invoke(app, args)


def test_the_command_shows_the_front_and_the_best_at_a_budget(folder):
    done = command(folder, "--budget", "2")

    assert done.exit_code == 0, done.output
    assert "5 policies, 5 exact" in done.output
    assert "oracle: no schedule" in done.output
    assert "best at 2 (trainings): DataAmountTrigger num_samples=" in done.output


def test_as_json_it_says_the_same(folder):
    done = command(folder, "--json", "--budget", "0")

    found = json.loads(done.output)
    assert [row["trainings"] for row in found["policies"]] == [6, 3, 3, 2, 2]
    assert all(row["exact"] for row in found["policies"])
    assert found["best"] is None
    assert found["oracle"]["trainings"] == [1, 2, 3, 4, 5, 6]


def test_the_page_is_one_file_with_every_policy(folder):
    pytest.importorskip("plotly")

    done = command(folder, "--html", str(folder / "page.html"))

    page = (folder / "page.html").read_text(encoding="utf-8")
    assert done.exit_code == 0, done.output
    assert "Which policy at which budget" in page
    for count in (50, 100, 150, 200, 250):
        assert f"DataAmountTrigger num_samples={count}" in page


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--run", "nowhere"], "nowhere: there is no such folder"),
        (["--datasets", "nowhere"], "there is no dataset 'stream' in nowhere"),
    ],
)
def test_wrong_input_is_one_message(folder, args, words):
    done = command(folder, *args)

    assert done.exit_code == 2
    assert words in done.output
