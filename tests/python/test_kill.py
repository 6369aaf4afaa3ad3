"""A run that is killed again and again ends where an undisturbed one ends."""

from __future__ import annotations

import pytest

from tests.kill import kill_run


@pytest.mark.parametrize(
    "kills", [pytest.param(6, id="6"), pytest.param(100, id="100", marks=pytest.mark.long)]
)
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path, rand, kills):
    job = kill_run.tiny_job(tmp_path)

    done = kill_run.campaign(job, tmp_path, kills=kills, seed=rand.seed, verbose=False)

    assert done.kills >= kills
    assert done.resumed >= 1


def test_the_harness_sees_a_change(tmp_path):
    changes = kill_run.Changes(tmp_path)
    before = changes()
    (tmp_path / "file").write_text("a")

    assert (before, changes(), changes()) == (0, 1, 1)


def test_the_harness_sees_a_run_that_fails(tmp_path):
    job = kill_run.tiny_job(tmp_path)
    job.pipeline.write_text("pipeline: {}\n")

    with pytest.raises(AssertionError, match="modyn run ended with"):
        kill_run.campaign(job, tmp_path, kills=1, seed=0, verbose=False)


@pytest.mark.long
def test_what_follows_is_killed_while_samples_arrive_and_ends_like_a_replay(tmp_path, rand):
    done = kill_run.follow_campaign(tmp_path, kills=40, seed=rand.seed)

    assert done.kills == 40
    assert done.resumed > 20
