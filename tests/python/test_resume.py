"""Killed anywhere, a run that is started again ends as if nothing had happened.

A process dies at every commit of the ledger, before and after it, and before and after every file
that gets its name, one place per process; then the same command runs again (crash_driver.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modyn.pipelines import Run
from tests.python.streams import drifting

ROOT = Path(__file__).parents[2]
VARIANTS = ["fresh", "previous", "late"]


def drive(
    base: Path, variant: str, *points: str, env: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """What runs that died at these points, and were started again, came to."""
    command = [sys.executable, "-m", "tests.python.crash_driver", str(base), variant, *points]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=550, cwd=ROOT, env=env
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(one["status"] == 0 for one in found), done.stderr
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """All files by name, with the bytes of training sets, models and configuration."""
    files = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file():
            if path.name == "clock.json":  # seconds, which are never the same
                continue
            bytes_matter = name.startswith(("trainsets/", "models/", "pipeline.yaml"))
            files[name] = path.read_bytes() if bytes_matter else b""
    return files


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_killed_at_any_step_ends_like_one_that_was_not(tmp_path, variant, rand):
    drifting(tmp_path / "stream", count=330, order="late").close()
    (whole,) = drive(tmp_path, variant, "-1")
    expected = contents(tmp_path / "killed--1")
    steps = int(whole["steps"])

    points = [str(point) for point in range(steps)]
    if not os.environ.get("MODYN_LONG"):  # of each place in a step one variant, now and then
        points = points[int(rand.numpy.integers(4 * len(VARIANTS))) :: 4 * len(VARIANTS)]
    killed = drive(tmp_path, variant, *points)

    assert whole["deaths"] == 0
    assert steps > 40
    assert [one["deaths"] for one in killed] == [1] * len(points)
    for one in killed:
        assert one["run"] == whole["run"], f"killed at step {one['point']} of {steps}"
        found = contents(tmp_path / f"killed-{one['point']}")
        assert found == expected, f"killed at step {one['point']} of {steps}"


def test_a_run_killed_again_and_again_gets_there(tmp_path):
    drifting(tmp_path / "stream", count=330, order="late").close()

    whole, *killed = drive(tmp_path, "previous", "-1", "again:12", "again:25", "again:40")

    assert killed[0]["deaths"] >= 5
    for one in killed:
        assert one["run"] == whole["run"]
        directory = tmp_path / f"killed-{one['point'].replace(':', '-')}"
        assert contents(directory) == contents(tmp_path / "killed--1")
        assert Run.open(directory).finished
