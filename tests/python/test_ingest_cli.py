"""`modyn ingest` from a shell: what it takes, what it says, and what a kill costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from modyn.cli import app
from modyn.dataset import Dataset

ROOT = Path(__file__).parents[2]
DEADLINE = 120
CREATE = ["--create", "--schema", "x:int64", "--format", "csv", "-o", "timestamp=t"]
PLAIN = ["--format", "csv", "--timestamp", "t"]


def modyn(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ingest", *map(str, arguments)])


def values(path: Path) -> list[int]:
    with Dataset.open(path) as dataset:
        keys = np.arange(len(dataset))
        return list(np.asarray(dataset.fetch(keys)["x"]).tolist())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    (made / "a.csv").write_text("t,x\n0,1\n0,2\n")
    return made


def test_files_are_taken_and_known_the_next_time(folder: Path, tmp_path: Path) -> None:
    first = modyn(tmp_path / "d", folder, *CREATE)
    again = modyn(tmp_path / "d", folder / "*.csv", *PLAIN)

    assert (first.exit_code, first.stdout) == (0, "2 samples of 1 file added\n")
    assert again.stdout == "0 samples of 0 files added, 1 file known before\n"
    assert values(tmp_path / "d") == [1, 2]


def test_rejected_files_are_listed(folder: Path, tmp_path: Path) -> None:
    (folder / "bad\x1b[31m.csv").write_text("t,x\n0,none\n")

    stopped = modyn(tmp_path / "d", folder, *CREATE)
    skipped = modyn(tmp_path / "d", folder, *PLAIN, "--on-error", "skip")

    assert stopped.exit_code == 1
    assert "'none' is not an int64" in stopped.stderr
    assert skipped.exit_code == 1
    assert "1 file rejected" in skipped.stdout
    assert "\x1b" not in skipped.stderr.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_a_dry_run_takes_nothing(folder: Path, tmp_path: Path) -> None:
    modyn(tmp_path / "d", folder, *CREATE)
    with open(folder / "a.csv", "a") as file:
        file.write("0,3\n")
    (folder / "b.csv").write_text("t,x\n0,4\n")

    done = modyn(tmp_path / "d", folder, *PLAIN, "--dry-run")

    assert done.stdout.splitlines() == [
        f"{folder}/a.csv: from byte 12 on",
        f"{folder}/b.csv: all of it",
        "2 files to take, 0 known, 0 rejected",
    ]
    assert values(tmp_path / "d") == [1, 2]


def test_a_file_says_what_options_say(folder: Path, tmp_path: Path) -> None:
    (folder / "a.csv").write_text("t;x\n0;1\n")
    config = tmp_path / "days.yaml"
    config.write_text("format: csv\noptions: {timestamp: t, separator: ','}\non_error: skip\n")

    done = modyn(
        *(tmp_path / "d", folder, "--config", config, "-o", "separator=;"),
        *("--create", "--schema", "x:int64"),
    )

    assert (done.exit_code, values(tmp_path / "d")) == (0, [1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "format is missing; there are csv, jsonl,"),
        (["--format", "xls"], "there is no 'xls'"),
        (["--format", "csv", "-o", "sep=;"], "format csv has no option 'sep'; it has timestamp"),
        (["--format", "csv", "-o", "separator=;;"], "format csv: separator must be one byte"),
        (["--format", "csv", "-o", "separator"], "expected NAME=VALUE"),
        ([*PLAIN, "--on-error", "ignore"], "on_error: input should be 'stop' or 'skip'"),
        ([*PLAIN, "--create"], "--create needs the fields"),
        ([*PLAIN, "--create", "--schema", "x"], "expected FIELD:TYPE"),
        ([*PLAIN, "--time-pattern", "("], "is no regular expression"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    path = tmp_path / "d"
    if "--create" not in arguments:
        Dataset.create(path, schema={"x": "int64"}, labels=False).close()

    done = modyn(path, folder, *arguments)

    assert done.exit_code == 2
    assert message in done.stderr.replace("\n", " ")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "modyn.cli", "ingest", *map(str, arguments)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )


def wait_for_samples(path: Path, count: int) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        try:
            with Dataset.open(path) as dataset:
                if len(dataset) >= count:
                    return
        except FileNotFoundError:
            pass
        assert time.monotonic() < end, f"{count} samples never came"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_ends_cleanly(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    child = start(tmp_path / "d", folder, *CREATE, "--follow")
    wait_for_samples(tmp_path / "d", 2)
    with open(folder / "a.csv", "a") as file:
        file.write("0,3\n")
    wait_for_samples(tmp_path / "d", 3)

    child.send_signal(number)
    said, _ = child.communicate(timeout=DEADLINE)

    assert child.returncode == 0
    assert "ended: 3 samples added, 0 files rejected; 3 samples in all" in said


def test_a_kill_at_any_time_costs_nothing(folder: Path, tmp_path: Path) -> None:
    kills = 200 if os.environ.get("MODYN_LONG") else 10
    rand = np.random.default_rng(4711)
    expected = [1, 2]
    Dataset.create(tmp_path / "d", schema={"x": "int64"}, labels=False).close()
    for kill in range(kills):
        child = start(tmp_path / "d", folder, *PLAIN, "--follow")
        number = 1000 * (kill + 1)
        with open(folder / "a.csv", "a", buffering=1) as grows:
            for n in range(rand.integers(1, 200)):
                grows.write(f"0,{number + 2 * n}\n")
                (folder / f"{number + n}.csv").write_text(f"t,x\n0,{number + 2 * n + 1}\n")
                expected += [number + 2 * n, number + 2 * n + 1]
                time.sleep(rand.random() / 100)
        child.kill()
        child.communicate(timeout=DEADLINE)

    done = modyn(tmp_path / "d", folder, *PLAIN)

    assert done.exit_code == 0, done.stderr
    assert sorted(values(tmp_path / "d")) == sorted(expected)
