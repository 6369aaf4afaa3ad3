"""Loaders: which sample comes when, in how much memory, on how many threads."""

from __future__ import annotations

import gc
import hashlib
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modyn
from modyn.errors import ClosedError
from modyn.loader import Batch, Loader
from modyn.trainset import TrainingSet
from tests.python.loading import (
    COUNT,
    assert_right,
    contents,
    dataset,
    fill,
    joined,
    key_list,
    path,
)
from tests.python.waiting import DEADLINE, eventually, threads_now

__all__ = ["dataset", "path"]  # fixtures


# The order ----------------------------------------------------------------------------------------


def test_batches_are_the_samples_in_the_order_given(dataset, rand):
    keys = rand.integers(0, COUNT, 333)  # some of them twice

    batches = list(Loader(dataset, keys, batch_size=50))

    assert [len(batch) for batch in batches] == [50] * 6 + [33]
    assert joined(key_list(batches)) == keys.tolist()
    for batch in batches:
        assert_right(batch)


def test_a_shuffled_epoch_holds_each_sample_once(dataset, rand):
    keys = rand.keys(301, below=COUNT)

    batches = list(Loader(dataset, keys, batch_size=32, shuffle="global", seed=rand.seed))

    order = joined(key_list(batches))
    assert order != keys.tolist()
    assert sorted(order) == keys.tolist()
    for batch in batches:
        assert_right(batch)


@pytest.mark.parametrize("shuffle", ["global", False])
def test_the_order_is_the_same_for_all_threads_and_prefetches(dataset, shuffle):
    def run(threads: int, prefetch: int) -> list[list[int]]:
        loader = Loader(
            dataset,
            np.arange(700),
            batch_size=23,
            shuffle=shuffle,
            seed=5,
            threads=threads,
            prefetch=prefetch,
        )
        return key_list(loader)

    expected = run(1, 1)

    for threads in (1, 2, 4):
        for prefetch in range(1, 9):
            assert run(threads, prefetch) == expected


def test_seed_and_epoch_choose_the_order(dataset):
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        loader = Loader(
            dataset, np.arange(100), batch_size=100, shuffle="global", seed=seed, epoch=epoch
        )
        return tuple(key_list(loader)[0])

    orders = {order(seed, epoch) for seed in (0, 1, 2**64 - 1) for epoch in (0, 1, 2**64 - 1)}

    assert len(orders) == 9
    assert order(1, 1) == order(1, 1)


def test_iterating_again_repeats_the_epoch_and_set_epoch_changes_it(dataset):
    loader = Loader(dataset, np.arange(200), batch_size=64, shuffle="global", epoch=3)

    first, again = key_list(loader), key_list(loader)
    loader.set_epoch(4)
    other = key_list(loader)

    assert loader.epoch == 4
    assert first == again
    assert first != other
    assert sorted(joined(first)) == sorted(joined(other))


def test_an_epoch_goes_on_from_any_batch(dataset):
    loader = Loader(dataset, np.arange(100), batch_size=9, shuffle="global", seed=8)
    whole = key_list(loader)

    for first in range(len(loader) + 1):
        assert key_list(loader.batches(first)) == whole[first:]


def test_drop_last_leaves_out_a_short_batch_and_no_other(dataset):
    def sizes(count: int, batch_size: int, drop_last: bool) -> list[int]:
        loader = Loader(dataset, np.arange(count), batch_size=batch_size, drop_last=drop_last)
        found = [len(batch) for batch in loader]
        assert len(loader) == len(found)
        return found

    assert sizes(10, 4, False) == [4, 4, 2]
    assert sizes(10, 4, True) == [4, 4]
    assert sizes(8, 4, True) == [4, 4]
    assert sizes(3, 4, False) == [3]
    assert sizes(3, 4, True) == []
    assert sizes(0, 4, False) == []
    assert sizes(1, 2**63 - 1, False) == [1]


def test_fields_are_those_asked_for_in_their_order(dataset):
    (batch,) = Loader(dataset, [3, 1], batch_size=2, fields=["more", "n"])

    assert batch.fields == ("more", "n")
    assert list(batch) == ["more", "n"]
    assert "x" not in batch
    assert batch.numpy("n").tolist() == [9 - 500, 1 - 500]
    assert list(batch.numpy("more")) == [bytes(3), bytes(1)]
    with pytest.raises(KeyError, match="no field 'x' in this batch; it has more, n"):
        batch["x"]


def test_no_field_at_all_leaves_keys_and_labels(dataset):
    (batch,) = Loader(dataset, [9, 8], batch_size=2, fields=[])

    assert batch.keys.tolist() == [9, 8]
    assert batch.labels.tolist() == [2, 1]
    assert batch.tensors() == {}


def test_without_labels_there_are_none(tmp_path):
    opened = modyn.Dataset.open(fill(tmp_path / "data", 10, labels=False))

    (batch,) = Loader(opened, [1], batch_size=1)

    assert batch.labels is None
    with pytest.raises(KeyError, match="no field 'labels'"):
        batch.numpy("labels")
    opened.close()


def test_weights_travel_with_their_samples(dataset, rand):
    keys = rand.integers(0, COUNT, 100)
    weights = rand.numpy.random(100)
    loader = Loader(dataset, keys, weights=weights, batch_size=7, shuffle="global")

    got = [(k, w) for b in loader for k, w in zip(b.keys.tolist(), b.weights.tolist(), strict=True)]

    assert sorted(got) == sorted(zip(keys.tolist(), weights.tolist(), strict=True))


@pytest.mark.parametrize("weighted", [True, False])
def test_a_training_set_brings_its_keys_and_weights(dataset, tmp_path, weighted):
    keys = np.array([2, 30, 400], dtype=np.uint64)
    weights = np.array([0.5, 1.0, 2.0]) if weighted else None
    chosen = TrainingSet.write(tmp_path, keys, weights)

    (batch,) = Loader(dataset, chosen, batch_size=9)

    assert batch.keys.tolist() == [2, 30, 400]
    assert (batch.weights is None) == (not weighted)
    if weighted:
        assert batch.weights.tolist() == [0.5, 1.0, 2.0]
        assert batch.weights.dtype == torch.float64
    with pytest.raises(ValueError, match="weights cannot be given"):
        Loader(dataset, chosen, batch_size=1, weights=[1.0, 2.0, 3.0])


def test_changing_the_key_array_later_changes_nothing(dataset):
    keys, weights = np.arange(100, dtype=np.uint64), np.ones(100)
    loader = Loader(dataset, keys, weights=weights, batch_size=100)

    keys[:], weights[:] = 10**9, 5

    (batch,) = loader
    assert batch.keys.tolist() == list(range(100))
    assert set(batch.weights.tolist()) == {1.0}


def test_a_loader_reads_the_dataset_as_it_was(tmp_path):
    writer = modyn.Dataset.create(tmp_path / "data", schema={"n": "int64"}, labels=False)
    writer.append({"n": np.arange(10)}, timestamps=np.arange(10))
    before = Loader(writer, [9, 10], batch_size=1)

    writer.append({"n": np.arange(10, 12)}, timestamps=np.arange(2))
    after = Loader(writer, [9, 10], batch_size=1)

    assert [batch["n"].tolist() for batch in after] == [[9], [10]]
    with pytest.raises(KeyError, match="key 10"):
        list(before)
    writer.close()


# Memory and threads -------------------------------------------------------------------------------


def digest(batch: Batch) -> str:
    total = hashlib.sha256()
    for name in ("x", "n", "b"):
        total.update(batch[name].numpy().tobytes())
    total.update(batch["text"].values.numpy().tobytes())
    total.update(batch.keys.numpy().tobytes())
    return total.hexdigest()


def test_tensors_stay_valid_when_all_else_is_gone(tmp_path):
    path = fill(tmp_path / "data")
    opened = modyn.Dataset.open(path)
    loader = Loader(opened, np.arange(COUNT), batch_size=100, prefetch=2)
    iterator = iter(loader)
    kept = [next(iterator) for _ in range(3)]
    expected = [digest(batch) for batch in kept]
    tensors = [(batch["x"], batch["x"].clone()) for batch in kept]

    later = [digest(batch) for batch in iterator]  # more batches go through the pool
    opened.close()
    del loader, iterator, opened
    gc.collect()
    shutil.rmtree(path)

    assert len(set(later)) == 7
    assert [digest(batch) for batch in kept] == expected
    del kept
    gc.collect()
    for tensor, copy in tensors:
        assert torch.equal(tensor, copy)


def test_writing_to_a_batch_changes_no_other(dataset):
    loader = Loader(dataset, [5] * 60, batch_size=10)

    for batch in loader:
        assert_right(batch)
        batch["x"].fill_(-1)
        batch.labels.fill_(-1)
        assert batch.numpy("x").max() == -1  # the same memory
    for batch in loader:
        assert_right(batch)
    assert dataset.fetch([5])["x"].tolist() == contents([5])["x"].tolist()


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_abandoned_iterators_release_threads_and_memory(tmp_path):
    schema = {"x": "float32[256]"}
    writer = modyn.Dataset.create(tmp_path / "data", schema=schema, labels=False)
    writer.append({"x": np.ones((2000, 256), np.float32)}, timestamps=np.arange(2000))
    # A batch is 2 MiB: 200 times a window of 4 would be 1.6 GiB.
    loader = Loader(writer, np.arange(2000).repeat(10), batch_size=2000, threads=2)

    def abandon(count: int) -> None:
        for number in range(count):
            iterator = iter(loader)
            for _ in range(number % 3):
                assert next(iterator)["x"].sum() == 2000 * 256

    abandon(10)
    threads, memory = threads_now(), resident_kib()
    abandon(200)

    assert eventually(lambda: threads_now() == threads)
    assert resident_kib() - memory < 20 * 1024
    writer.close()


def test_a_closed_iterator_says_so(dataset):
    loader = Loader(dataset, np.arange(100), batch_size=10)
    before = threads_now()
    with loader.batches() as batches:
        next(batches)
    batches.close()

    assert eventually(lambda: threads_now() == before)
    with pytest.raises(ClosedError):
        next(batches)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run work in threads that start together; none may outlast the deadline."""
    barrier, errors = threading.Barrier(count), []

    def run(index: int) -> None:
        try:
            barrier.wait(DEADLINE)
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a thread stands still"
    assert errors == []


def test_threads_that_share_an_iterator_get_each_batch_once(dataset):
    iterator = iter(Loader(dataset, np.arange(COUNT), batch_size=3, threads=2))
    got: list[list[int]] = [[], [], []]

    def take(index: int) -> None:
        for batch in iterator:
            assert_right(batch)
            got[index] += batch.keys.tolist()

    in_threads(3, take)

    assert sorted(joined(got)) == list(range(COUNT))


def exhaust(iterator: Iterator[Batch]) -> None:
    while True:
        next(iterator)


def test_closing_from_any_thread_ends_the_others(dataset):
    iterator = iter(Loader(dataset, np.arange(COUNT), batch_size=1))

    def act(index: int) -> None:
        if index == 0:
            next(iterator, None)
            return iterator.close()
        with pytest.raises((ClosedError, StopIteration)):
            exhaust(iterator)

    in_threads(3, act)


def test_loaders_share_a_dataset(dataset):
    loader = Loader(dataset, np.arange(COUNT), batch_size=64, shuffle="global")
    expected = key_list(loader)

    in_threads(4, lambda _: [None for _ in range(5) if key_list(loader) != expected and 1 / 0])


def test_a_tensor_lives_on_in_another_thread(dataset):
    channel: queue.Queue[Any] = queue.Queue()
    right: list[bool] = []

    def consume() -> None:
        while (pair := channel.get()) is not None:
            tensor, keys = pair
            right.append(bool(np.array_equal(tensor.numpy(), contents(keys)["x"])))
            del tensor, pair

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    for batch in Loader(dataset, np.arange(COUNT), batch_size=10, prefetch=2):
        channel.put((batch["x"], batch.numpy("keys").copy()))
    channel.put(None)
    thread.join(DEADLINE)

    assert right == [True] * 100
