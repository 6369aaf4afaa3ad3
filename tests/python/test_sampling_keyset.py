"""KeySet, held against a set of integers."""

from __future__ import annotations

import numpy as np
import pytest

from modyn.sampling import KeySet


def test_a_key_set_is_a_set(rand):
    mine, theirs = KeySet(), set()
    for _ in range(30):
        keys = rand.integers(0, 5000, 200).astype(np.uint64)
        gone = rand.integers(0, 9000, 50).astype(np.uint64)
        new = len(set(keys.tolist()) - theirs)
        theirs |= set(keys.tolist())
        assert mine.add(keys) == new
        left = len(theirs & set(gone.tolist()))
        theirs -= set(gone.tolist())
        assert mine.discard(gone) == left
        assert len(mine) == len(theirs)

    asked = np.arange(10_000)
    assert mine.contains(asked).tolist() == [key in theirs for key in asked.tolist()]
    assert list(mine) == sorted(theirs)
    assert (mine & asked).tolist() == sorted(theirs)
    assert all(key in mine for key in theirs)
    assert 9_999 not in mine


def test_a_bit_for_each_key():
    keys = KeySet([0])
    keys.add(np.arange(1_000_000))

    assert keys.nbytes == 125_000
    assert len(keys) == 1_000_000


def test_update_adds_the_keys_of_another():
    small, large = KeySet([1, 70]), KeySet([1, 5000])

    small.update(large)
    large.update(KeySet())

    assert list(small) == [1, 70, 5000]
    assert len(small) == 3
    assert list(large) == [1, 5000]


def test_keys_out_of_range_are_refused_and_change_nothing():
    keys = KeySet([3])

    with pytest.raises(ValueError, match=r"up to 2[*][*]40 - 1, got 1099511627776"):
        keys.add([5, 2**40])
    with pytest.raises(ValueError, match="keys must be uint64 numbers, got -1"):
        keys.add([5, -1])
    with pytest.raises(TypeError, match="keys must be integers"):
        keys.add([0.5])

    assert list(keys) == [3]
    assert keys.contains([2**63, 2**64 - 1]).tolist() == [False, False]
