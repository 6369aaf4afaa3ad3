"""The examples: what they make of their originals, and that all their files are right."""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import modyn
from modyn.pipelines import config

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
YAML = sorted(EXAMPLES.glob("*/*.yaml"))
STREAMS = {"weather": "weather.csv.xz", "flights": "nycflights13_flights.csv.xz"}


def load(stream: str):
    """Import a prepare.py, which is a script and lies in no package."""
    path = EXAMPLES / stream / "prepare.py"
    spec = importlib.util.spec_from_file_location(f"prepare_{stream}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


weather, flights = load("weather"), load("flights")
prepared = sys.modules["prepared"]


def prepare(stream: str, datasets: Path, *more: object):
    script = EXAMPLES / stream / "prepare.py"
    return subprocess.run(
        [sys.executable, script, "--datasets", datasets, *map(str, more)],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )


@pytest.mark.parametrize("file", YAML, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_pipeline_file_is_valid(file):
    settings = config.read(file)

    assert settings.name == f"{file.parent.name}-{file.stem.replace('_', '-')}"
    assert settings.dataset_id == file.parent.name
    assert settings.evaluation.handlers[0].models == "matrix"


def test_each_stream_has_its_three_pipelines():
    for stream in STREAMS:
        names = {file.stem for file in YAML if file.parent.name == stream}
        assert names >= {"never_retrain", "all_data", "balanced_half"}


def test_pipelines_of_a_stream_differ_only_in_when_and_on_what():
    for stream in STREAMS:
        files = [config.read(file) for file in YAML if file.parent.name == stream]
        for other in files[1:]:
            for part in ("model", "training", "evaluation", "order"):
                assert getattr(other, part) == getattr(files[0], part)


@pytest.mark.parametrize("stream", STREAMS)
def test_the_originals_are_those_of_their_notes(stream):
    original = EXAMPLES / "data" / STREAMS[stream]
    note = original.with_name(original.name.split(".")[0] + ".md").read_text()
    digests = re.findall(r"`([0-9a-f]{64})`", note)

    packed = original.read_bytes()

    assert digests[0] == hashlib.sha256(packed).hexdigest()
    assert digests[1] == hashlib.sha256(lzma.decompress(packed)).hexdigest()
    assert f"{len(packed):,}" in note


# prepare.py --------------------------------------------------------------------------------------


def test_weather_is_prepared_once(tmp_path):
    first = prepare("weather", tmp_path)
    before = (tmp_path / "weather" / "manifest").stat()
    second = prepare("weather", tmp_path)

    assert first.returncode == 0, first.stderr
    assert "18,159 samples" in first.stdout
    assert second.returncode == 0
    assert "there already" in second.stdout
    assert (tmp_path / "weather" / "manifest").stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["weather"]
    with modyn.Dataset.open(tmp_path / "weather") as dataset:
        assert len(dataset) == 18_159
        assert dataset.labels.mean() == pytest.approx(0.3138, abs=1e-4)
        assert dataset.timestamps[0] == datetime(1949, 1, 1, tzinfo=UTC).timestamp()
        assert set(np.diff(dataset.timestamps)) == {86_400}
        dense = dataset.fetch([0, 2])["dense"]
        first_row = [19.8, 14.0, 1019.6, 8.4, 9.9, 15.9, 28.9, 14.0]
        assert np.array_equal(dense[0], np.array(first_row, np.float32))
        assert dataset.labels[2] == 1


def test_a_half_dataset_is_built_again(tmp_path):
    with modyn.Dataset.create(tmp_path / "weather", schema=weather.SCHEMA) as half:
        half.append({"dense": np.zeros((5, 8), np.float32)}, labels=[0] * 5, timestamps=range(5))

    result = prepare("weather", tmp_path)

    assert result.returncode == 0, result.stderr
    with modyn.Dataset.open(tmp_path / "weather") as dataset:
        assert len(dataset) == 18_159


def test_what_is_no_dataset_is_left_alone(tmp_path):
    (tmp_path / "weather").mkdir()
    (tmp_path / "weather" / "thesis.tex").write_text("mine")

    result = prepare("weather", tmp_path)

    assert result.returncode == 1
    assert "holds no dataset" in result.stderr
    assert (tmp_path / "weather" / "thesis.tex").read_text() == "mine"


def test_another_dataset_is_left_alone(tmp_path):
    modyn.Dataset.create(tmp_path / "weather", schema={"other": "float32"}).close()

    result = prepare("weather", tmp_path)

    assert result.returncode == 1
    assert "another dataset" in result.stderr
    assert modyn.Dataset.open(tmp_path / "weather").schema == {"other": "float32"}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("kept", [0, 100, 10_000])
def test_a_truncated_original_is_an_error_and_leaves_nothing(tmp_path, stream, kept):
    original = EXAMPLES / "data" / STREAMS[stream]
    short = tmp_path / original.name
    short.write_bytes(original.read_bytes()[:kept])

    result = prepare(stream, tmp_path / "datasets", "--original", short)

    assert result.returncode == 1
    assert result.stderr.startswith(f"prepare {stream}: {short}: ")
    assert len(result.stderr.splitlines()) == 1
    assert not list((tmp_path / "datasets").glob("*"))


def test_an_original_that_ends_early_but_well_is_an_error(tmp_path):
    rows = lzma.decompress((EXAMPLES / "data" / STREAMS["weather"]).read_bytes()).splitlines()
    short = tmp_path / "weather.csv.xz"
    short.write_bytes(lzma.compress(b"\n".join(rows[:100]) + b"\n"))

    result = prepare("weather", tmp_path / "datasets", "--original", short)

    assert result.returncode == 1
    assert "99 rows, expected 18159" in result.stderr


def test_a_missing_original_is_an_error(tmp_path):
    result = prepare("weather", tmp_path, "--original", tmp_path / "none.xz")

    assert result.returncode == 1
    assert "the file is missing" in result.stderr


def test_an_interrupted_build_leaves_no_dataset(tmp_path, monkeypatch):
    def rows():
        yield [0, 1, *range(8)]
        raise KeyboardInterrupt

    table = prepared.Table(
        schema=weather.SCHEMA, fields={"dense": weather.FEATURES}, rows=rows(), count=2
    )
    with pytest.raises(KeyboardInterrupt):
        prepared.build(tmp_path / "weather", table)

    assert not list(tmp_path.iterdir())


# Flights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dep_time", "dep_delay", "minute"),
    [
        ("517", "2", 5 * 60 + 15),
        ("848", "853", 18 * 60 + 35),  # left at 8:48 the next morning
        ("32", "33", 23 * 60 + 59),
        ("2400", "10", 23 * 60 + 50),
        ("2355", "-4", 23 * 60 + 59),
        ("2358", "-7", 5),  # left just before the midnight after which it was due
    ],
)
def test_the_schedule_is_found_around_midnight(dep_time, dep_delay, minute):
    assert flights.scheduled_minute(dep_time, dep_delay) == minute


def some_flights(rand, count: int = 200):
    scheduled = np.sort(rand.integers(0, 2_000, count))
    return flights.Flights(
        scheduled=scheduled,
        delay=rand.integers(-43, 300, count),
        late=rand.integers(-1, 2, count),
        distance=rand.integers(80, 5_000, count),
        ids={kind: rand.integers(0, 3, count) for kind in flights.CATEGORIES},
    )


def test_the_board_matches_a_plain_count(rand):
    them = some_flights(rand)
    group = them.ids["origin"]

    delay, late = flights.board(them, group, 60)

    for i, now in enumerate(them.scheduled):
        left = them.scheduled + them.delay
        on_board = (group == group[i]) & (left >= now - 60) & (left < now)
        on_board[i] = False
        delays = np.clip(them.delay[on_board], -15, 180)
        assert delay[i] == pytest.approx(delays.mean() if len(delays) else 0)
        lates = them.delay[on_board] > flights.LATE_MINUTES
        assert late[i] == pytest.approx(lates.mean() if len(lates) else 0)


def test_a_flight_knows_nothing_of_itself_or_of_later(rand):
    """Whatever becomes of a flight and of those that leave after it was due: same features."""
    them = some_flights(rand)
    before = flights.dense(them)
    at = int(rand.integers(0, 200, 1)[0])
    now = them.scheduled[at]
    unknown = them.scheduled + them.delay >= now
    unknown[at] = True
    # Those still to leave leave at some other time that is no earlier than now.
    delay = them.delay.copy()
    delay[unknown] = np.maximum(now - them.scheduled[unknown], -43) + rand.integers(
        0, 500, int(unknown.sum())
    )
    delay[at] = rand.integers(-43, 500, 1)[0]
    other = flights.Flights(
        scheduled=them.scheduled,
        delay=delay,
        late=1 - them.late,
        distance=them.distance,
        ids=them.ids,
    )

    assert np.allclose(flights.dense(other)[at], before[at])


def test_names_have_ids_in_their_order():
    for names in flights.NAMES.values():
        assert names == sorted(names)
        assert len(names) == len(set(names))
    settings = config.read(EXAMPLES / "flights" / "all_data.yaml")
    sizes = [len(flights.NAMES[kind]) for kind in flights.CATEGORIES]
    assert settings.model.config["categorical"] == sizes
    width = len(flights.TIMETABLE) + len(flights.BOARD)
    assert settings.model.config["num_features"] == width


def test_no_leaking_column_becomes_a_feature():
    used = {*flights.TIMETABLE, *flights.BOARD, *flights.CATEGORIES}
    leaking = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "minute"}

    assert not used & leaking


def test_flights_are_prepared(tmp_path):
    result = prepare("flights", tmp_path)

    assert result.returncode == 0, result.stderr
    with modyn.Dataset.open(tmp_path / "flights") as dataset:
        assert len(dataset) == 336_776 - 9_430
        assert dataset.labels.mean() == pytest.approx(0.2371, abs=1e-4)
        times = np.asarray(dataset.timestamps)
        assert (np.diff(times) >= 0).all()
        assert times[0] == datetime(2013, 1, 1, 5, 15, tzinfo=UTC).timestamp()
        assert times[-1] < datetime(2014, 1, 1, tzinfo=UTC).timestamp()
        fields = dataset.fetch(np.arange(0, len(dataset), 1_000, dtype=np.uint64))
        assert np.isfinite(fields["dense"]).all()
        assert (fields["cat"] < [16, 3, 105]).all()
