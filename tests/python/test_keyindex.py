"""Ids to keys: against the twin, with ids that are drawn and ids that are chosen badly."""

from __future__ import annotations

import os
import threading
from itertools import count, islice

import numpy as np
import numpy.typing as npt
import pytest

import modyn
from modyn.keyindex import KeyIndex
from tests.conftest import Rand
from tests.reference import keyindex as reference
from tests.reference.permutation import mix

Ids = npt.NDArray[np.uint64]


def crowded() -> list[int]:
    """Ids whose hashes all begin with the same 14 bits."""
    return list(islice((number for number in count() if mix(number) >> 50 == 0x1FFF), 60))


KINDS = {
    "ascending": np.arange(40_000, dtype=np.uint64),
    "descending": np.arange(40_000, dtype=np.uint64)[::-1] + np.uint64(2**63),
    "same low bits": np.arange(40_000, dtype=np.uint64) << np.uint64(40),
    "ends": np.array([0, 2**64 - 1, 1, 2**63, 2**63 - 1], np.uint64),
    "crowded": np.array(crowded(), np.uint64),
    "none": np.zeros(0, np.uint64),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 3])
def test_ids_of_any_kind_have_the_keys_of_the_twin(kind: str, threads: int, rand: Rand) -> None:
    ids = KINDS[kind]
    twin = reference.KeyIndex()
    twin.add(ids.tolist())

    index = KeyIndex(ids, threads=threads)

    asked = rand.numpy.permutation(ids)
    assert index.keys(asked, threads=threads).tolist() == twin.keys(asked.tolist())
    others = ids ^ np.uint64(0x8421)
    assert index.keys(others, missing=5).tolist() == twin.keys(others.tolist(), missing=5)
    assert len(index) == len(twin)


def test_any_sequence_of_additions_agrees_with_the_twin(rand: Rand) -> None:
    pool = np.concatenate(
        [rand.numpy.integers(0, 2**64 - 1, 3_000, dtype=np.uint64), KINDS["crowded"]]
    )
    index, twin = KeyIndex([]), reference.KeyIndex()

    for step in range(40):
        ids = pool[rand.numpy.integers(0, len(pool), int(rand.numpy.integers(0, 300)))]
        keys = None if step % 3 else rand.numpy.integers(0, 2**38 - 1, len(ids), dtype=np.uint64)
        if step == 20:
            keys = None  # the largest key there can be was not among those drawn
        index.add(ids, keys, threads=1 + step % 2)
        twin.add(ids.tolist(), None if keys is None else keys.tolist())

        asked = pool[rand.numpy.integers(0, len(pool), 500)]
        assert index.keys(asked, missing=9).tolist() == twin.keys(asked.tolist(), missing=9)
        assert len(index) == len(twin)


def test_an_index_that_grows_by_a_hundredth_stays_small(rand: Rand) -> None:
    ids = rand.numpy.permutation(2 * 60_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    index = KeyIndex(ids[:60_000])

    for first in range(60_000, 120_000, 600):
        index.add(ids[first : first + 600])
        assert index.nbytes <= 26 * len(index)

    assert np.array_equal(index.keys(ids), np.arange(120_000))
    index.add(np.repeat(ids[:1_000], 500))
    assert index.nbytes <= 26 * len(index)


def test_the_first_id_that_is_missing_is_named() -> None:
    index = KeyIndex([7, 8, 9])

    with pytest.raises(KeyError, match=r"no sample has id 5, ids\[1\]"):
        index.keys([7, 5, 4])
    with pytest.raises(KeyError, match="no sample has id -3"):
        index.keys([7, -3])
    assert 5 not in index
    assert "8" not in index
    assert -8 not in index
    assert 2**64 + 8 not in index
    assert np.uint64(8) in index


def test_what_cannot_be_added_changes_nothing() -> None:
    index = KeyIndex([7, 8])

    for ids, keys, why in (
        ([1, 2], [0], "expected 2 numbers, got 1"),
        ([1, 2], [0, 2**38 - 1], r"keys\[1\] is 274877906943; keys are at most 274877906942"),
        ([1, -2], None, "0 or more: no sample has id -2"),
        ([[1, 2]], None, "expected shape"),
    ):
        with pytest.raises(ValueError, match=why):
            index.add(ids, keys)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        index.add([1], threads=0)
    with pytest.raises(TypeError, match="ids: expected integers"):
        index.add([1.5])

    assert len(index) == 2
    assert index.keys([8, 7]).tolist() == [1, 0]


def test_out_is_filled_and_must_fit() -> None:
    index = KeyIndex([7, 8])
    out = np.zeros(3, np.uint64)

    assert index.keys([8, 8, 7], out=out) is out
    assert out.tolist() == [1, 1, 0]
    for wrong in (np.zeros(2, np.uint64), np.zeros(3, np.int64), np.zeros(6, np.uint64)[::2]):
        with pytest.raises((ValueError, TypeError, BufferError)):
            index.keys([8, 8, 7], out=wrong)


def test_threads_look_up_while_one_adds(rand: Rand) -> None:
    ids = rand.numpy.permutation(30_000).astype(np.uint64) << np.uint64(30)
    index = KeyIndex(ids[:1_000])
    stop, wrong = threading.Event(), []

    def look_up() -> None:
        while not stop.is_set():
            have = len(index)
            if not np.array_equal(index.keys(ids[:have]), np.arange(have)):
                wrong.append(have)

    threads = [threading.Thread(target=look_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for first in range(1_000, 30_000, 1_000):
        index.add(ids[first : first + 1_000])
    stop.set()
    for thread in threads:
        thread.join(timeout=30)

    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_a_forked_child_has_its_own_copy() -> None:
    index = KeyIndex([7, 8])

    child = os.fork()
    if child == 0:
        index.add([9])
        os._exit(0 if index.keys([9, 7]).tolist() == [2, 0] else 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert 9 not in index


def test_samples_are_fetched_by_ids_of_their_own(tmp_path: os.PathLike[str], rand: Rand) -> None:
    ids = rand.numpy.integers(0, 2**64 - 1, 5_000, dtype=np.uint64)
    with modyn.Dataset.create(
        tmp_path, schema={"id": "uint64", "x": "float32[3]"}, labels=False
    ) as dataset:
        x = rand.numpy.random((5_000, 3), np.float32)
        dataset.append({"id": ids, "x": x}, timestamps=np.arange(5_000))
        index = modyn.KeyIndex(ids)
        chosen = rand.numpy.permutation(5_000)[:700]

        got = dataset.fetch(index.keys(ids[chosen]))

        assert np.array_equal(got["id"], ids[chosen])
        assert np.array_equal(got["x"], x[chosen])
