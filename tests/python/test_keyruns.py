"""Sets of keys: the same answers as plain sets, little memory, and refusals that say why."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from modyn.keyruns import KeyRuns
from tests.conftest import Rand
from tests.reference import keyruns as twin

PART = 65_536


def keys_of_all_shapes(rand: Rand) -> list[int]:
    """Parts in a row, of which some are full, some in runs, some few keys, some of half."""
    found: list[int] = []
    for part in rand.numpy.choice(20, 5, replace=False):
        first, kind = int(part) * PART, int(rand.numpy.integers(5))
        if kind == 0:
            found += range(first, first + PART)
        elif kind == 1:
            found += range(first + 77, first + 40_000)
        elif kind == 2:
            found += range(first, first + PART, 130)
        elif kind == 3:
            found += (first + np.flatnonzero(rand.numpy.random(PART) < 0.4)).tolist()
        else:
            found += [k for k in range(first, first + PART) if k % 700 < 20]
    return sorted(found)


def test_answers_are_those_of_plain_sets(rand: Rand) -> None:
    for _ in range(4):
        one, other = keys_of_all_shapes(rand), keys_of_all_shapes(rand)
        a, b = KeyRuns(one), KeyRuns(other, threads=2)
        x, y = twin.KeyRuns(one), twin.KeyRuns(other)
        asked = rand.integers(0, 21 * PART, 500)
        first = int(rand.integers(0, 20 * PART, 1)[0])

        assert (len(a), len(b), a.common(b)) == (len(x), len(y), x.common(y))
        assert a.contains(asked).tolist() == [key in x for key in asked.tolist()]
        assert (a | b).keys().tolist() == x.union(y).keys()
        assert a.keys(limit=9, first=first).tolist() == x.keys(9, first)
        assert a.both(b, first=first).tolist() == x.both(y, None, first)
        assert b.without(a, limit=1000).tolist() == y.without(x, 1000)
        assert list(b) == y.keys()


def test_ranges_and_keys_make_the_same_set() -> None:
    ranges = [range(200_000, 700_000), range(5, 6), range(131_072, 131_080)]
    keys = sorted(key for one in ranges for key in one)

    made = KeyRuns.of_ranges(ranges)

    assert made.keys().tolist() == keys
    assert made.nbytes == KeyRuns(keys).nbytes < 500


def test_memory_is_a_bit_for_each_key_below_the_last_at_most(rand: Rand) -> None:
    below = 40 * PART
    for share in (0.001, 0.02, 0.1, 0.5, 0.999):
        keys = np.flatnonzero(rand.numpy.random(below) < share)

        assert KeyRuns(keys).nbytes <= below / 8 * 1.01 + 100


def test_a_union_shares_what_one_side_has_alone() -> None:
    random = np.random.default_rng(1).permutation(PART)[:20_000]
    one, other = KeyRuns(np.sort(random)), KeyRuns(np.sort(random) + 5 * PART)

    united = one | other

    assert united.nbytes < 200
    assert one.nbytes > 8192


@pytest.mark.parametrize("keys", [[3, 2], [1, 1], [70_000, 5], [1, 2, 3, 2 * PART, PART]])
def test_keys_that_do_not_ascend_are_refused(keys: list[int]) -> None:
    with pytest.raises(ValueError, match="keys must ascend, each once"):
        KeyRuns(keys)
    with pytest.raises(ValueError, match="keys must ascend"):
        twin.KeyRuns(keys)


def test_ranges_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="must ascend and not overlap"):
        KeyRuns.of_ranges([range(0, 10), range(9, 12)])
    with pytest.raises(ValueError, match="have the step 1"):
        KeyRuns.of_ranges([range(0, 10, 2)])


def test_numbers_that_make_no_sense_are_refused() -> None:
    keys = KeyRuns([1, 2])

    with pytest.raises(ValueError, match=r"first must be 0 to 2\*\*64 - 1, got -1"):
        keys.keys(first=-1)
    with pytest.raises(ValueError, match="limit must be at least 0, or None, got -1"):
        keys.keys(limit=-1)
    with pytest.raises(ValueError, match="keys at most, got 1152921504606846976"):
        KeyRuns.of_ranges([range(0, 2**60)])
    with pytest.raises(ValueError, match="keys must be 0 to"):
        KeyRuns.of_ranges([range(-3, 3)])


def test_the_core_checks_what_it_is_given() -> None:
    core = KeyRuns([1, 2])._core
    with pytest.raises(TypeError, match="expected KeyRuns"):
        core.common([1], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected KeyRuns"):
        core.list(None, 2, 0, np.empty(1, np.uint64))
    with pytest.raises(ValueError, match="which must be 0, 1 or 2"):
        core.list(core, 3, 0, np.empty(1, np.uint64))
    with pytest.raises(ValueError, match="expected 2 bools, got 1"):
        core.contains(np.array([1, 2], np.uint64), np.empty(1, np.bool_))
    with pytest.raises(ValueError, match="lasts: expected 1 numbers, got 2"):
        type(core).of_ranges(np.array([1], np.uint64), np.array([1, 2], np.uint64))


def test_many_threads_may_ask_one_set() -> None:
    one = KeyRuns(np.arange(0, 3_000_000, 3))
    other = KeyRuns(np.arange(0, 3_000_000, 7))
    start, found = threading.Barrier(4), []

    def ask() -> None:
        start.wait(timeout=10)
        found.extend(one.common(other, threads=2) for _ in range(20))

    askers = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in askers:
        thread.start()
    for thread in askers:
        thread.join(timeout=30)

    assert found == [len(range(0, 3_000_000, 21))] * 80
