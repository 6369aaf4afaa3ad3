"""The lock of a run directory, which keeps it to one process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from modyn.errors import BusyError, ConfigError
from modyn.pipelines import rundir


def test_a_second_process_is_refused_and_told_who_runs(tmp_path):
    code = (
        "import pathlib\nfrom modyn.pipelines import rundir\n"
        f"with rundir.locked(pathlib.Path({str(tmp_path)!r})): pass"
    )

    with rundir.locked(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
        )

    assert done.returncode == 1
    assert f"pid {os.getpid()} on " in done.stderr
    assert "BusyError" in done.stderr


def test_the_lock_is_free_when_its_holder_is_gone(tmp_path):
    busy = pytest.raises(BusyError, match=f"pid {os.getpid()} on .* is running this pipeline")
    with rundir.locked(tmp_path), busy:
        rundir.locked(tmp_path).__enter__()

    with rundir.locked(tmp_path):
        pass


def test_a_directory_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(ConfigError, match=r"is no run and not empty: it holds 'thesis\.tex'"):
        rundir.locked(tmp_path).__enter__()

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
