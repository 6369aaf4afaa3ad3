"""Killed at any call that touches a file, or refused one, a run ends as if nothing had happened.

A library counts the calls of libc that a process makes in the directory of its run, and ends it
before the n-th, or in the middle of a write, or has the call fail (tests/kill/nth_call.c); then the
same command runs again (crash_driver.py).  The pipelines have five triggers, decided by a policy
that asks the models so far; one of them follows its stream first.  With its metadata in Postgres,
what a run says to the server is counted with its files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.python.streams import drifting
from tests.python.test_resume import ROOT, contents, drive


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """The library that counts calls, to preload."""
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no C compiler {compiler[0]!r}")
    path = tmp_path_factory.mktemp("preload") / "nth_call.so"
    source = ROOT / "tests" / "kill" / "nth_call.c"
    command = [*compiler, "-std=c11", "-O1", "-shared", "-fPIC", "-o", str(path), str(source)]
    subprocess.run(command, check=True, timeout=100)
    return path


class Crashes:
    """Runs of a variant, held against one that nobody disturbed."""

    def __init__(self, base: Path, variant: str, library: Path, url: str | None = None) -> None:
        drifting(base / "stream", count=600, order="late").close()
        self.base, self.variant = base, variant
        self.env = {**os.environ, "LD_PRELOAD": str(library)}
        self.env |= {} if url is None else {"CRASH_URL": url}

    def files_at(self, point: str) -> dict[str, bytes]:
        directory, shared = self.base / f"killed-{re.sub('[:,@]', '-', point)}", {}
        if (directory / "run").is_dir():
            shared = {f"shared/{k}": v for k, v in contents(directory / "models").items()}
            directory = directory / "run"
        found = contents(directory) | shared
        # Answers of models are kept for speed, and may be made again; the journal is empty; what
        # was about to go into the shared store goes when somebody is about to do it again.
        beside = "answers/", "ledger.sqlite-", "shared/.locks/", "shared/.tmp-"
        return {k: v for k, v in found.items() if not k.startswith(beside)}

    def check(self, *points: str) -> list[dict[str, Any]]:
        """Go through points, and hold what becomes of them against the undisturbed run."""
        found, different = [], []
        for first in range(0, len(points), 100):
            some = points[first : first + 100]
            whole, *others = drive(self.base, self.variant, "die:-1", *some, env=self.env)
            files = self.files_at("die:-1")
            for one in others:
                same = (one["run"], one["left"]) == (whole["run"], whole["left"])
                if not same or self.files_at(one["point"]) != files:
                    different.append(one)  # and stays, to be looked at
                else:
                    shutil.rmtree(self.base / f"killed-{re.sub('[:,@]', '-', one['point'])}")
            found += others
        assert not different
        assert [one["point"] for one in found] == list(points)
        return found


ERRORS = ["EIO_ONCE", "EIO_EVER", "ENOSPC_ONCE", "ENOSPC_EVER"]
PARTS = 8  # of a sweep, so that each is over before a test counts as hung


def test_a_run_that_dies_or_is_refused_a_call_ends_like_one_that_was_not(tmp_path, library, rand):
    # How often a run asks for something depends on the clock, so its last calls are left out here.
    places = (0.95 * rand.numpy.random(14)).tolist()
    points = [f"{('die', 'tear')[i % 2]}:@{places[i]:.4f}" for i in range(6)]
    points += [f"die:@{places[6]:.4f},@{places[7]:.4f}", f"die:@{places[8]:.4f},3"]
    points += [f"{act}:@{place:.4f}" for act, place in zip(ERRORS, places[9:], strict=False)]

    found = Crashes(tmp_path, "follow", library).check(*points)

    assert [one["deaths"] for one in found[:6]] == [1] * 6
    assert found[7]["deaths"] == 2


@pytest.mark.parametrize("variant", ["rows", "blocks"])
def test_a_run_in_a_database_that_dies_at_a_call_ends_like_one_that_did_not(
    tmp_path, library, database_url, rand, variant
):
    first, second, third, last = (0.95 * rand.numpy.random(4)).tolist()
    kill, lose = {"rows": ("die", "tear"), "blocks": ("die", "EIO_ONCE")}[variant]
    points = [f"{kill}:@{first:.4f}", f"{kill}:@{second:.4f},@{third:.4f}", f"{lose}:@{last:.4f}"]

    found = Crashes(tmp_path, variant, library, database_url).check(*points)

    assert [one["deaths"] > 0 for one in found] == [True, True, lose == "tear"]


@pytest.mark.long
@pytest.mark.parametrize("act", ["die", "tear", "EIO_ONCE"])
@pytest.mark.parametrize("variant", ["rows", "blocks"])
def test_a_run_in_a_database_killed_at_many_calls_ends_like_one_that_was_not(
    tmp_path, library, database_url, variant, act
):
    points = [f"{act}:@{place:.4f}" for place in np.arange(0, 0.98, 0.01)]

    Crashes(tmp_path, variant, library, database_url).check(*points)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("act", ["die", "tear"])
@pytest.mark.parametrize("variant", ["asks", "follow"])
def test_a_run_killed_at_any_call_ends_like_one_that_was_not(tmp_path, library, variant, act, part):
    crashes = Crashes(tmp_path, variant, library)
    (whole,) = drive(tmp_path, variant, f"{act}:-1", env=crashes.env)
    calls = range(part, int(whole["steps"]), PARTS)

    killed = crashes.check(*(f"{act}:{at}" for at in calls))

    assert [one["deaths"] for one in killed] == [1] * len(calls)


@pytest.mark.long
@pytest.mark.parametrize("variant", ["asks", "follow", "rows", "blocks"])
def test_a_run_killed_again_as_it_recovers_gets_there(tmp_path, library, variant, rand, request):
    url = request.getfixturevalue("database_url") if variant in ("rows", "blocks") else None
    pairs = rand.numpy.random((150, 2))
    pairs[:, 1] *= 1 - pairs[:, 0]  # which is about what is left to do

    killed = Crashes(tmp_path, variant, library, url).check(
        *(f"die:@{first:.4f},@{second:.4f}" for first, second in pairs)
    )

    assert sum(one["deaths"] for one in killed) > 1.5 * len(pairs)


@pytest.mark.long
@pytest.mark.parametrize("act", ERRORS)
@pytest.mark.parametrize("variant", ["asks", "follow"])
def test_a_run_whose_disk_failed_goes_on_when_it_works_again(tmp_path, library, variant, act):
    places = np.arange(0, 1, 0.01)

    found = Crashes(tmp_path, variant, library).check(*(f"{act}:@{place:.4f}" for place in places))

    assert sum(one["failures"] for one in found) > len(found) / 2
