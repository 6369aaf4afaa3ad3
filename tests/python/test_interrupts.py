"""Ctrl-C in the middle of a call leaves a dataset that is whole, and a process that goes on."""

from __future__ import annotations

import random

import pytest

from tests.kill import interrupts


@pytest.mark.parametrize("name", interrupts.NAMES)
def test_a_call_that_is_interrupted_leaves_everything_whole(tmp_path, rand, name):
    found = interrupts.probe(
        name, times=5, mebibytes=32, rand=random.Random(rand.seed), home=tmp_path
    )

    print(f"{name}: {found} ms")
    assert len(found) == 5
