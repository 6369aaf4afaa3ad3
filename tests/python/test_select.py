"""What a dry run shows is what a run chooses, and nothing of it stays behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import modyn
from modyn import cli
from modyn.downsampling import GradNorm, RHOLoss, Schedule
from modyn.errors import ConfigError
from modyn.pipelines import Training
from modyn.pipelines.dry_run import _Spans, dry_run
from modyn.pipelines.looks import Counts
from modyn.pipelines.warmup import Warmup
from modyn.policies import (
    DataAmountTrigger,
    FreshnessSampling,
    GDumb,
    LabelBalanced,
    MostRecent,
    NewData,
    Random,
    RandomNoReplacement,
    Reservoir,
    Selected,
    Selection,
    TimeStratified,
)
from modyn.report import write_choices
from modyn.report.shot import browser, write_png
from modyn.trainset import TrainingSet
from tests.python.streams import drifting, pipeline, sgd

QUICK = Training(batch_size=256, epochs_per_trigger=1, optimizers=sgd())
POLICIES = [
    NewData(tail_triggers=None, limit=70),
    Random(ratio=30, tail_triggers=1),
    RandomNoReplacement(ratio=40),
    LabelBalanced(ratio=50, tail_triggers=None),
    FreshnessSampling(unused_data_ratio=50, limit=90, tail_triggers=None),
    MostRecent(ratio=20),
    TimeStratified(ratio=20, every="1m", tail_triggers=None),
    GDumb(size=60),
    Reservoir(size=60),
    Warmup(warmup_triggers=2, selection=Random(ratio=10)),
]


class ByTime(Selection):
    """Every second sample, the later the heavier."""

    tail_triggers = None

    def select(self, candidates: Any, context: Any) -> Selected:
        keys = candidates.keys[::2]
        return Selected(keys, 1.0 + candidates.timestamps[::2] % 4)


def erased(data: modyn.Dataset, keys: list[int]) -> modyn.Dataset:
    with modyn.Dataset.open(data.path, mode="w") as writer:
        writer.erase(keys, reason="asked for")
    data.refresh()
    return data


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_what_is_shown_is_what_a_run_chooses(tmp_path: Path, policy: Selection) -> None:
    data = erased(drifting(tmp_path / "stream", count=400, order="late"), [3, 50, 51, 399])
    trigger = DataAmountTrigger(num_samples=90)
    plan = pipeline(data, selection=policy, trigger=trigger, evaluation=None, training=QUICK)

    found = dry_run(plan)

    run = plan.replay(tmp_path / "run")
    assert [look.digest for look in found.looks] == run.triggers["digest"]
    assert [look.total.chosen for look in found.looks] == run.triggers["samples"]
    assert (found.triggers, found.rest) == (4, 36)


def test_counts_are_those_of_the_samples(tmp_path: Path) -> None:
    data = erased(drifting(tmp_path / "stream", count=400, order="late"), [3, 50, 51, 399])
    plan = pipeline(data, selection=LabelBalanced(ratio=50, tail_triggers=1), evaluation=None)

    found = dry_run(plan)

    run = plan.replay(tmp_path / "run")
    ends = list(run.triggers["position"])
    assert len(found.looks) == len(ends) == 2
    whole = data.view.time_order(1).tolist()
    for look, first, end in zip(found.looks, [0, 0], ends, strict=True):
        candidates = [key for key in whole[first:end] if key not in (3, 50, 51, 399)]
        chosen = TrainingSet.open(tmp_path / "run" / "trainsets" / f"{look.digest}.set").keys
        for label, counts in (look.labels or {}).items():
            assert counts.candidates == int((data.labels[candidates] == label).sum())
            assert counts.chosen == int((data.labels[chosen] == label).sum())
        for counts, start, stop in zip(look.times, found.edges, found.edges[1:], strict=False):
            here, there = data.timestamps[candidates], data.timestamps[chosen]
            assert counts.candidates == int(((here >= start) & (here < stop)).sum())
            assert counts.chosen == int(((there >= start) & (there < stop)).sum())
        assert look.total == sum(look.times, Counts(candidates=0, chosen=0))
        assert look.total == sum((look.labels or {}).values(), Counts(candidates=0, chosen=0))


def test_weights_are_described(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream", count=400)

    (look,) = dry_run(pipeline(data, selection=ByTime()), trigger=1).looks

    keys = np.arange(0, 300, 2)
    weights = 1.0 + data.timestamps[keys] % 4
    assert look.weights is not None
    assert (look.weights.least, look.weights.greatest) == (weights.min(), weights.max())
    assert look.weights.mean == pytest.approx(weights.mean())
    assert look.weights.effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert sum(look.weights.counts) == len(weights)


def test_one_trigger_is_shown_as_among_all(tmp_path: Path) -> None:
    plan = pipeline(drifting(tmp_path / "stream"), selection=RandomNoReplacement(ratio=40))

    (one,) = dry_run(plan, trigger=2).looks

    there = dry_run(plan).looks[2]
    assert (one.digest, one.labels, one.total) == (there.digest, there.labels, there.total)
    with pytest.raises(ConfigError, match="there is no trigger 9: there are 4 triggers, from 0 on"):
        dry_run(plan, trigger=9)


def test_a_stream_without_triggers_says_so(tmp_path: Path) -> None:
    plan = pipeline(
        drifting(tmp_path / "stream", count=60), trigger=DataAmountTrigger(num_samples=99)
    )

    found = dry_run(plan)

    assert (found.looks, found.triggers, found.rest) == ([], 0, 60)
    assert write_choices(found, tmp_path / "page.html").exists()


def test_what_needs_a_model_is_said(tmp_path: Path) -> None:
    class Hardest(Selection):
        def select(self, candidates: Any, context: Any) -> Selected:
            seen = context.signals(names=["loss"])
            return Selected(candidates.keys[: 10 + len(seen)])

    data = drifting(tmp_path / "stream")
    plan = pipeline(
        data,
        selection=Hardest(),
        training=Training(batch_size=32, epochs_per_trigger=1, optimizers=sgd(), signals=("loss",)),
    )

    assert dry_run(plan, trigger=0).looks[0].total.chosen == 10
    with pytest.raises(ConfigError, match="the choice of trigger 1 depends on what an earlier"):
        dry_run(plan)


def test_downsampling_is_named_with_its_share(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream")
    schedule = Schedule(
        downsamplers=[
            GradNorm(ratio=25),
            None,
            GradNorm(ratio=10, sample_then_batch=True, period=0),
        ],
        thresholds=[1, 2],
    )

    looks = dry_run(pipeline(data, downsampling=schedule)).looks

    assert looks[0].downsampling == (
        "GradNorm would train on 25 % of each batch; which ones needs the model"
    )
    assert looks[1].downsampling == ""
    assert looks[2].downsampling == (
        "GradNorm would train on 10 % of the training set (15 samples), chosen once; "
        "which ones needs the model"
    )


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    rho = RHOLoss(ratio=50, holdout_set_ratio=20, sample_then_batch=True)

    look = dry_run(pipeline(drifting(tmp_path / "stream"), downsampling=rho), trigger=0).looks[0]

    assert look.total.chosen == 150
    assert "50 % of the training set (60 samples)" in look.downsampling


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    data = drifting(tmp_path / "stream")
    data.time_order()  # which whoever reads in time order keeps with the dataset
    before = sorted(path.name for path in (tmp_path / "stream").iterdir())

    dry_run(pipeline(data, selection=Random(ratio=50)))

    assert list((tmp_path / "temporary").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == before


@pytest.mark.parametrize(
    ("first", "last", "unit"),
    [(0, 0, "s"), (-5, 5, "s"), (0, 2**40, "ms"), (-(2**63), 2**63 - 1, "ns"), (7, 9, "us")],
)
def test_spans_cover_any_times(first: int, last: int, unit: str) -> None:
    spans = _Spans.of(first, last, unit)

    assert spans.edges[0] <= first <= last < spans.edges[-1]
    assert 2 <= len(spans.edges) <= 25
    assert spans.count(np.array([first, last], np.int64)).sum() == 2


# The command --------------------------------------------------------------------------------------

FILE = """
pipeline: {name: half}
model: {id: MLP, config: {num_classes: 2}}
training: {device: cpu, epochs_per_trigger: 1, batch_size: 32, use_previous_model: false,
  shuffle: true,
  optimizers: [{name: default, algorithm: SGD, source: PyTorch,
    param_groups: [{module: model, config: {lr: 0.1}}]}],
  optimization_criterion: {name: CrossEntropyLoss}}
data: {dataset_id: stream}
trigger: {id: DataAmountTrigger, num_samples: 150}
selection_strategy:
  name: CoresetStrategy
  tail_triggers: null
  presampling_config: {strategy: LabelBalanced, ratio: 50}

"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "datasets").mkdir()
    drifting(tmp_path / "datasets" / "stream")
    (tmp_path / "half.yaml").write_text(FILE)
    return tmp_path


def command(place: Path, *arguments: object):
    where = ["--datasets", str(place / "datasets")]
    return CliRunner().invoke(
        cli.app, ["select", str(place / "half.yaml"), *where, *map(str, arguments)]
    )


def test_without_dry_run_the_command_says_what_to_use(place: Path) -> None:
    done = command(place)

    assert done.exit_code == 2
    assert "modyn select --dry-run" in done.output
    assert "modyn run" in done.output


def test_the_command_prints_tables_and_bars(place: Path) -> None:
    done = command(place, "--dry-run")

    assert done.exit_code == 0
    assert "half on " in done.output
    assert "50.0%" in done.output
    assert "█" in done.output
    assert command(place, "--dry-run", "--trigger", 7).exit_code == 2


def test_json_holds_all_of_it(place: Path) -> None:
    said = json.loads(command(place, "--dry-run", "--json").output)

    assert [look["total"]["candidates"] for look in said["looks"]] == [150, 300, 450, 600]
    assert said["total"] == {"candidates": 1500, "chosen": 748}
    assert len(said["edges"]) == len(said["looks"][0]["times"]) + 1


def test_the_page_is_one_file(place: Path) -> None:
    done = command(place, "--dry-run", "--html", place / "page.html")

    text = (place / "page.html").read_text()
    assert done.exit_code == 0
    assert "half: what would be chosen" in text
    assert 'src="http' not in text


def test_without_a_browser_a_picture_is_refused(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))

    with pytest.raises(FileNotFoundError, match="a PNG needs a browser"):
        write_png(lambda page: None, tmp_path / "a.png", height=100)


@pytest.mark.long
@pytest.mark.skipif(browser() is None, reason="no browser is installed")
def test_a_browser_takes_the_picture(place: Path) -> None:
    done = command(place, "--dry-run", "--trigger", 1, "--png", place / "page.png")

    assert done.exit_code == 0, done.output
    content = (place / "page.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 1200
