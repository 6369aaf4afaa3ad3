"""A writer that is killed again and again leaves what it acknowledged, and nothing else."""

from __future__ import annotations

import pytest

from tests.kill import kill_store, store_story


@pytest.mark.parametrize(
    "kills", [pytest.param(100, id="100"), pytest.param(2000, id="2000", marks=pytest.mark.long)]
)
def test_what_a_killed_writer_acknowledged_is_there(tmp_path, rand, kills):
    done = kill_store.campaign(tmp_path, kills=kills, seed=rand.seed, per_story=25)

    assert done.kills == kills
    assert done.early > 0
    assert done.steps > kills


def test_the_oracle_sees_what_is_missing(tmp_path):
    story = store_story.Story(tmp_path / "story", seed=1)
    story.hear('{"op": "append", "count": 2, "take": 7}\nack\n')

    with pytest.raises(AssertionError, match="0 samples instead of 2"):
        story.judge()
