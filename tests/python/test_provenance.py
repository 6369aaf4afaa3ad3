"""Which model has seen which sample: what was trained on, through whom, and what was erased."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest
from typer.testing import CliRunner

import modyn
from modyn import cli
from modyn.downsampling import RHOLoss
from modyn.errors import CorruptError
from modyn.pipelines import Training
from modyn.pipelines.settings import Metadata
from modyn.pipelines.trainer import Trainer
from modyn.policies import LabelBalanced
from modyn.provenance import Provenance
from modyn.trainset import TrainingSet
from tests.python.streams import drifting, pipeline, sgd

FRESH = Training(batch_size=64, epochs_per_trigger=1, optimizers=sgd())
WARM = Training(batch_size=64, epochs_per_trigger=1, optimizers=sgd(), use_previous_model=True)


def replay(dataset: modyn.Dataset, out: Path, **changes: object) -> modyn.Run:
    changes = {"evaluation": None, "training": FRESH, "name": out.name, **changes}
    return pipeline(dataset, **changes).replay(out=out)


def erase(dataset: modyn.Dataset, keys: list[int], reason: str = "asked for") -> None:
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(keys, reason=reason)
    dataset.refresh()


def names(found: object) -> list[str]:
    return [f"{s.model.runs[0]}:{s.model.trigger}" for s in found.sightings]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs over 600 samples, a trigger every 150: one trains anew, one goes on."""
    place = tmp_path_factory.mktemp("provenance")
    (place / "datasets").mkdir()
    data = drifting(place / "datasets" / "stream")
    replay(data, place / "runs" / "fresh")
    replay(data, place / "runs" / "warm", training=WARM)
    return place


@pytest.fixture
def seen(place: Path) -> Provenance:
    return Provenance.of([place / "runs" / "fresh", place / "runs" / "warm"])


def test_a_sample_is_seen_directly_or_through_a_parent(seen: Provenance) -> None:
    found = seen.who_saw(200)

    assert names(found) == ["fresh:1", "warm:1", "warm:2", "warm:3"]
    assert [s.directly for s in found.sightings] == [True, True, False, False]
    assert [[m.trigger for m in s.through] for s in found.sightings] == [[], [], [1], [1]]
    assert found.erased is None
    assert names(seen.who_saw(600)) == []


def test_who_saw_agrees_with_the_training_sets(place: Path, rand) -> None:
    """Against a plain reading of the ledger and the files."""
    data = modyn.Dataset.open(place / "datasets" / "stream")
    selection = LabelBalanced(ratio=40, tail_triggers=1)
    run = replay(data, place / "chosen", training=WARM, selection=selection)
    sets = [
        set(TrainingSet.open(run.path / "trainsets" / f"{digest}.set").keys.tolist())
        for digest in run.triggers["digest"]
    ]

    seen = run.provenance()

    for key in rand.integers(0, 600, 60).tolist():
        first = next((t for t, keys in enumerate(sets) if key in keys), len(sets))
        found = seen.who_saw(key)
        assert names(found) == [f"chosen:{t}" for t in range(first, len(sets))]
        assert [s.directly for s in found.sightings] == [key in s for s in sets[first:]]
    for t in range(len(sets)):
        union = set().union(*sets[: t + 1])
        assert seen.seen_by(t).keys.keys().tolist() == sorted(union)
        assert seen.model(t).seen == len(union)
        parts = seen.seen_by(t).parts
        assert [part.samples for part in parts] == [len(s) for s in reversed(sets[: t + 1])]
        assert sum(part.added for part in parts) == len(union)
        for u in range(len(sets)):
            other = set().union(*sets[: u + 1])
            diff = seen.diff(t, u)
            assert (diff.only_a, diff.only_b) == (len(union - other), len(other - union))
            assert diff.both == len(union & other)
            assert diff.keys_only_a().tolist() == sorted(union - other)
            assert diff.keys_only_b(3).tolist() == sorted(other - union)[:3]


def test_two_models_of_different_runs_are_compared(seen: Provenance) -> None:
    diff = seen.diff("fresh:2", "warm:1")

    assert (diff.only_a, diff.only_b, diff.both) == (150, 300, 0)
    assert diff.keys_only_a(2).tolist() == [300, 301]


def test_a_model_is_named_by_trigger_run_key_or_prefix(seen: Provenance) -> None:
    model = seen.model("warm:1")

    assert seen.model(model.key) == seen.model(model.key[:10]) == model
    for name, message in {
        "1": "means 2 models: fresh:1",
        "": "there is no model ''",
        "warm:9": "there is no model 'warm:9'; there are fresh:0",
        "cold:1": "there is no model 'cold:1'",
        "xyz": "there is no model 'xyz'",
    }.items():
        with pytest.raises(ValueError, match=message):
            seen.model(name)


def test_erased_samples_are_shown_with_the_models_that_had_seen_them(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream")
    run = replay(data, tmp_path / "warm", training=WARM)
    erase(data, [5, 160, 161], reason="user 4711 left")
    erase(data, [599], reason="a mistake")

    seen = run.provenance(data)

    found = seen.who_saw(160)
    assert names(found) == ["warm:1", "warm:2", "warm:3"]
    assert found.erased is not None
    assert (found.erased.why, found.erased.samples) == ("user 4711 left", 3)
    assert [(lost.erasure.why, lost.samples) for lost in seen.seen_by(0).lost] == [
        ("user 4711 left", 1)
    ]
    (first, models), (second, others) = seen.lost()
    assert [(m.trigger, n) for m, n in models] == [(0, 1), (1, 3), (2, 3), (3, 3)]
    assert [(m.trigger, n) for m, n in others] == [(3, 1)]
    assert (first.number, second.number) == (1, 2)
    assert run.provenance().erasures is None


class DiedError(Exception):
    """What a killed process would not say."""


def killed_before_training(data: modyn.Dataset, out: Path, **changes: object) -> modyn.Run:
    """A run that committed trigger 1, died, and went on after erasures of what it had chosen."""
    train = Trainer.train

    def dying(self: Trainer, row: object) -> str | None:
        if row.trigger == 1:  # type: ignore[attr-defined]
            raise DiedError
        return train(self, row)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train", dying)
        with pytest.raises(DiedError):
            replay(data, out, **changes)
    erase(data, [7, 170, 333])
    return replay(data, out, **changes)


def test_what_was_erased_before_the_training_was_not_seen(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream")
    run = killed_before_training(data, tmp_path / "warm", training=WARM)

    seen = run.provenance(data)

    assert run.triggers["samples"][1] == 150  # so many were chosen
    assert seen.model(1).samples == 149
    assert names(seen.who_saw(170)) == names(seen.who_saw(333)) == []
    assert names(seen.who_saw(7)) == ["warm:0", "warm:1", "warm:2"]
    (erasure, models) = seen.lost()[0]
    assert erasure.samples == 3
    assert [n for _, n in models] == [1, 1, 1]


def test_without_the_models_the_ledger_says_what_it_can(tmp_path: Path) -> None:
    data = drifting(tmp_path / "stream")
    whole = replay(data, tmp_path / "whole")
    cut = killed_before_training(data, tmp_path / "cut")
    said = [seen.key for seen in whole.provenance().models]
    for run in (whole, cut):
        shutil.rmtree(run.path / "models")

    assert [model.key for model in modyn.Run.open(whole.path).provenance().models] == said
    with pytest.raises(CorruptError, match="only it tells which of the chosen samples"):
        modyn.Run.open(cut.path).provenance()


def test_a_missing_training_set_is_an_error(tmp_path: Path) -> None:
    run = replay(drifting(tmp_path / "stream"), tmp_path / "run")
    next((run.path / "trainsets").glob("*.set")).unlink()

    with pytest.raises(FileNotFoundError, match="nobody knows what it has seen"):
        run.provenance()


def test_runs_of_different_datasets_are_refused(tmp_path: Path) -> None:
    one, other = drifting(tmp_path / "one"), drifting(tmp_path / "other")
    runs = [replay(one, tmp_path / "a"), replay(other, tmp_path / "b")]

    with pytest.raises(ValueError, match="followed different datasets"):
        Provenance.of(runs)
    with pytest.raises(ValueError, match="is not the dataset of the runs"):
        runs[0].provenance(other)
    with pytest.raises(ValueError, match="no runs were given"):
        Provenance.of([])


@pytest.mark.parametrize("layout", ["rows", "blocks"])
def test_a_run_in_a_database_answers_the_same(tmp_path: Path, database_url, layout: str) -> None:
    data = drifting(tmp_path / "stream")
    files = replay(data, tmp_path / "here" / "run", training=WARM)
    place = Metadata(url=database_url, layout=layout, publish=True)
    run = replay(data, tmp_path / "there" / "run", training=WARM, metadata=place)
    shutil.rmtree(run.path / "trainsets")  # as where the directory was made anew

    here, there = files.provenance(), modyn.Run.open(run.path).provenance()

    assert here.models == there.models
    for key in (0, 149, 150, 599):
        assert here.who_saw(key) == there.who_saw(key)
    assert not (run.path / "trainsets").exists()


@pytest.mark.parametrize("strategy", ["Simple", "Twin"])
def test_a_model_that_chose_samples_hands_on_what_it_has_seen(
    tmp_path: Path, strategy: Literal["Simple", "Twin"]
) -> None:
    """The models of holdouts go on from one another, those that train with them do not."""
    data = drifting(tmp_path / "stream", count=300)
    rho = RHOLoss(ratio=50, holdout_set_strategy=strategy, holdout_set_ratio=50, il_training=WARM)
    run = replay(data, tmp_path / "run", downsampling=rho)
    count = 1 if strategy == "Simple" else 2

    seen = run.provenance()
    first, second = seen.model("0"), seen.model("1")
    chose = [model for model in seen.models if model.holdout]
    found = seen.seen_by("1")

    assert [model.trigger for model in seen.models] == [0] * (count + 1) + [1] * (count + 1)
    assert [model.samples for model in chose] == [75] * 2 * count
    assert first.parents == tuple(model.key for model in chose[:count])
    assert second.parents == tuple(model.key for model in chose[count:])
    assert [model.parents for model in chose[count:]] == [(m.key,) for m in chose[:count]]
    assert (first.seen, second.seen) == (150, 150 + 75 * count)
    assert [part.model.key for part in found.parts][1:] == [m.key for m in chose[count:]] + [
        m.key for m in chose[:count]
    ]
    assert [part.added for part in found.parts] == [75 if count == 1 else 0] + [75] * 2 * count
    held = int(seen.seen_by(chose[0]).keys.keys(limit=1)[0])
    sighting = next(s for s in seen.who_saw(held).sightings if s.model == second)
    assert not sighting.directly
    assert sighting.through == (chose[0],)


# The command --------------------------------------------------------------------------------------


def command(*arguments: object):
    return CliRunner().invoke(cli.app, ["provenance", *map(str, arguments)])


def test_the_commands_say_what_the_class_says(place: Path, seen: Provenance) -> None:
    runs, where = place / "runs", ("--datasets", place / "datasets", "--json")

    who = json.loads(command("who-saw", 200, runs, *where).output)
    by = json.loads(command("seen-by", "warm:1", runs, "--keys", 3, *where).output)
    diff = json.loads(command("diff", "fresh:2", "warm:1", runs, "--keys", 1, *where).output)
    gone = json.loads(command("erased", runs, *where).output)

    assert [model["model"] for model in who["models"]] == [
        one.model.key for one in seen.who_saw(200).sightings
    ]
    assert who["erased"] is None
    assert who["erasures_known"] is True
    assert (by["samples"], by["seen"], by["keys"]) == (150, 300, [0, 1, 2])
    assert [part["added"] for part in by["parts"]] == [150, 150]
    assert (diff["only_a"], diff["only_b"], diff["both"]) == (150, 300, 0)
    assert (diff["keys_only_a"], diff["keys_only_b"]) == ([300], [0])
    assert gone == []


def test_the_commands_print_tables(place: Path) -> None:
    runs, where = place / "runs", ("--datasets", place / "datasets")

    assert "seen by 4 of 8 models" in command("who-saw", 200, runs, *where).output
    assert "has seen 300 samples" in command("seen-by", "warm:1", runs, *where).output
    assert "keys: 0 1 and 298 more" in (
        command("seen-by", "warm:1", runs, "--keys", 2, *where).output
    )
    assert "only model" in command("diff", "fresh:2", "warm:1", runs, *where).output
    assert "nothing was ever erased" in command("erased", runs, *where).output


def test_what_cannot_be_answered_is_one_message(place: Path, tmp_path: Path) -> None:
    runs = place / "runs"
    for arguments, message in [
        (("who-saw", 1, tmp_path / "none"), "there is no such folder"),
        (("who-saw", 1, tmp_path), "holds no runs"),
        (("seen-by", 1, runs), "'1' means 2 models"),
        (("who-saw", 2**64, runs), "KEY is below 2**64"),
        (("erased", runs, "--datasets", tmp_path), "there is no dataset 'stream'"),
    ]:
        done = command(*arguments)

        assert done.exit_code == 2
        assert message in done.output
        assert "Traceback" not in done.output


def test_without_the_dataset_erasures_are_said_to_be_unknown(place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place / "runs")

    done = command("who-saw", 3, "warm")

    assert done.exit_code == 0
    assert "erasures are not known: there is no dataset 'stream' in datasets" in done.output
