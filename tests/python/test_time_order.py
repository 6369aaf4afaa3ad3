"""The stored time order is that of NumPy and of the twin, however the samples came."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.errors import CorruptError
from tests.reference import time_order as reference

LOWEST, GREATEST = -(2**63), 2**63 - 1
RANGES = [(0, 3), (-50, 50), (0, 2**40), (LOWEST, GREATEST), (GREATEST - 2, GREATEST)]


def create(path: Path, **more: object) -> Dataset:
    return Dataset.create(path, schema={"x": "uint8"}, labels=False, segment_records=8192, **more)


def append(dataset: Dataset, times: np.ndarray) -> None:
    dataset.append({"x": np.zeros(len(times), np.uint8)}, timestamps=times)


def order_of(dataset: Dataset, threads: int = 1) -> list[int]:
    order = dataset.time_order(threads=threads)
    return list(range(len(dataset))) if order is None else order.tolist()


def batches(rand, count: int) -> list[np.ndarray]:
    """Random times with many ties; some batches ascend, some come behind all before."""
    latest, found = LOWEST, []
    for _ in range(count):
        low, high = RANGES[rand.numpy.integers(len(RANGES))]
        times = rand.numpy.integers(
            low, high, size=rand.numpy.integers(1, 900), dtype=np.int64, endpoint=True
        )
        if rand.numpy.random() < 0.3:
            times.sort()
        if rand.numpy.random() < 0.3:
            times = np.maximum(times, latest)
        latest = max(latest, int(times.max()))
        found.append(times)
    return found


@pytest.mark.parametrize("number", range(8))
def test_an_order_that_grew_is_that_of_its_twin(tmp_path, rand, number):
    dataset, order = create(tmp_path / "d"), []
    times: list[int] = []

    for batch in batches(rand, 12):
        append(dataset, batch)
        times += batch.tolist()
        order, _ = reference.extended(order, times)

        assert order == reference.time_order(times)
        assert order_of(dataset, threads=1 + len(times) % 3) == order
        assert order_of(Dataset.open(tmp_path / "d")) == order


def test_the_order_does_not_depend_on_the_threads(tmp_path, rand):
    with create(tmp_path / "d") as dataset:
        append(dataset, rand.integers(-100, 100, 300_000))
        expected = np.argsort(dataset.timestamps, kind="stable").tolist()

        for threads in (1, 2, 3, 8):
            (tmp_path / "d" / "time.order").unlink(missing_ok=True)
            assert order_of(dataset, threads=threads) == expected


def test_arrival_order_costs_no_bytes_per_sample(tmp_path):
    with create(tmp_path / "d") as dataset:
        for first in range(0, 50_000, 5_000):
            append(dataset, np.arange(first, first + 5_000) // 7)
            assert dataset.time_order() is None

        assert (tmp_path / "d" / "time.order").stat().st_size == 4096


def test_an_empty_dataset_and_one_sample_are_in_order(tmp_path):
    with create(tmp_path / "d") as dataset:
        assert dataset.time_order() is None
        append(dataset, np.array([5]))
        assert dataset.time_order() is None


def test_the_order_is_read_only_and_outlives_the_dataset(tmp_path):
    dataset = create(tmp_path / "d")
    append(dataset, np.array([3, 1, 2]))
    order = dataset.time_order()
    dataset.close()
    del dataset

    assert order.tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 1


def test_the_file_is_what_the_documentation_says(tmp_path, rand):
    with create(tmp_path / "d") as dataset:
        uuid, file = bytes.fromhex(dataset.uuid), tmp_path / "d" / "time.order"
        append(dataset, np.arange(10))
        dataset.time_order()
        assert reference.stored(file.read_bytes(), uuid) == 10

        for low in (0, 0, 100):  # new, merged, put behind
            append(dataset, rand.integers(low, low + 100, 3000))
            order = order_of(dataset)
            assert reference.stored(file.read_bytes(), uuid) == order


@pytest.mark.parametrize("compacted", [False, True])
def test_erased_samples_are_not_in_it(tmp_path, rand, compacted):
    dataset = create(tmp_path / "d")
    append(dataset, rand.integers(100, 10_000, 9000))
    times = dataset.timestamps.copy()
    whole = order_of(dataset)
    gone = np.sort(rand.numpy.choice(9000, 500, replace=False)).astype(np.uint64)

    dataset.erase(gone, reason="test")
    if compacted:
        dataset.compact()
    living = [key for key in whole if key not in set(gone.tolist())]

    assert order_of(dataset) == living
    assert order_of(Dataset.open(tmp_path / "d")) == living
    more = rand.integers(-10, 10_000, 50)
    append(dataset, more)
    times = np.concatenate([times, more])
    assert order_of(dataset) == [
        key for key in np.argsort(times, kind="stable").tolist() if key not in set(gone.tolist())
    ]


def test_compaction_removes_the_places_of_erased_samples(tmp_path, rand):
    with create(tmp_path / "d") as dataset:
        append(dataset, rand.integers(0, 99, 500))
        dataset.time_order()
        dataset.erase([7], reason="test")
        dataset.compact()

        assert not (tmp_path / "d" / "time.order").exists()


def test_living_samples_in_arrival_order_need_no_order(tmp_path):
    with create(tmp_path / "d") as dataset:
        append(dataset, np.array([10, 20, 5, 30]))
        dataset.erase([2], reason="test")

        assert dataset.time_order() is None


def test_a_reader_behind_has_the_order_of_what_it_sees(tmp_path, rand):
    writer = create(tmp_path / "d")
    append(writer, rand.integers(0, 9, 1000))
    reader = Dataset.open(tmp_path / "d")
    append(writer, rand.integers(0, 9, 1000))
    order_of(writer)

    assert order_of(reader) == np.argsort(reader.timestamps, kind="stable").tolist()
    reader.refresh()
    assert order_of(reader) == order_of(writer)


def test_the_file_of_a_copy_that_went_another_way_is_not_believed(tmp_path, rand):
    one, two = tmp_path / "one", tmp_path / "two"
    with create(one) as dataset:
        append(dataset, rand.integers(0, 99, 500))
    shutil.copytree(one, two)
    for path, more in ((one, 400), (two, 700)):
        with Dataset.open(path, mode="w") as dataset:
            append(dataset, rand.integers(0, 99, more))
            order_of(dataset)
    expected = {path: order_of(Dataset.open(path)) for path in (one, two)}

    for source, target in ((one, two), (two, one)):
        shutil.copy(source / "time.order", target / "time.order")
        assert order_of(Dataset.open(target)) == expected[target]
        order_of(Dataset.open(source))


def test_a_file_of_nonsense_is_not_believed(tmp_path, rand):
    with create(tmp_path / "d") as dataset:
        append(dataset, rand.integers(0, 99, 500))
        expected = order_of(dataset)

        for content in (b"", b"x", rand.numpy.bytes(100_000), bytes(70_000)):
            (tmp_path / "d" / "time.order").write_bytes(content)
            assert order_of(dataset) == expected
            assert order_of(dataset) == expected


def test_what_cannot_be_written_is_made_in_memory(tmp_path, rand):
    with create(tmp_path / "d") as dataset:
        append(dataset, rand.integers(0, 99, 500))
        (tmp_path / "d" / "time.order.lock").mkdir()

        expected = np.argsort(dataset.timestamps, kind="stable").tolist()
        assert order_of(dataset) == expected
        assert not (tmp_path / "d" / "time.order").exists()


def test_damaged_timestamps_are_an_error(tmp_path, rand):
    with create(tmp_path / "d") as dataset:
        append(dataset, rand.integers(0, 99, 500))
    with open(tmp_path / "d" / "000000.col", "r+b") as file:
        file.seek(65536 + 80)
        file.write(b"\xff")

    with pytest.raises(CorruptError, match=r"000000\.col.*timestamps"):
        Dataset.open(tmp_path / "d").time_order()


def test_no_threads_are_refused(tmp_path):
    with create(tmp_path / "d") as dataset, pytest.raises(ValueError, match="threads"):
        dataset.time_order(threads=0)


KILLED = """
import os, sys, threading
from modyn.dataset import Dataset
from modyn.errors import CorruptError
dataset = Dataset.open(sys.argv[1])
threading.Timer(float(sys.argv[2]), os._exit, (9,)).start()
while True:
    dataset.time_order()
    os.unlink(sys.argv[1] + "/time.order")
"""


@pytest.mark.parametrize("number", range(3))
def test_a_process_killed_while_it_writes_does_no_harm(tmp_path, rand, number):
    with create(tmp_path / "d") as dataset:
        append(dataset, rand.integers(0, 10**9, 200_000))
        expected = np.argsort(dataset.timestamps, kind="stable").tolist()
        seconds = str(0.01 + 0.05 * rand.numpy.random())

        subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "d"), seconds], check=False, timeout=60
        )

        assert order_of(dataset) == expected
        assert order_of(dataset) == expected
        assert not [name for name in os.listdir(tmp_path / "d") if name.endswith(".tmp")]


@pytest.mark.long
def test_a_file_without_room_for_more_checksums_is_replaced(tmp_path, rand):
    with create(tmp_path / "d") as dataset:
        for count in (61_000_000, 3_000_000):
            append(dataset, rand.integers(0, 10**9, count) + len(dataset) * 100)
            order = dataset.time_order(threads=2)
            assert (order == np.argsort(dataset.timestamps, kind="stable").view(np.uint64)).all()
