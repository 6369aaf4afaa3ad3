"""Who waited for whom: counted per iteration, added up per loader."""

from __future__ import annotations

import dataclasses
import gc
import threading
import time

import numpy as np
import pytest

import modyn
from modyn.loader.waits import Stage, Waits

COUNT = 1000


@pytest.fixture
def dataset(tmp_path):
    schema = {"x": "float32[3]", "text": "bytes"}
    dataset = modyn.Dataset.create(tmp_path / "d", schema=schema)
    x = np.arange(3 * COUNT, dtype=np.float32).reshape(COUNT, 3)
    text = [b"a" * (i % 7) for i in range(COUNT)]
    dataset.append({"x": x, "text": text}, labels=range(COUNT), timestamps=range(COUNT))
    yield dataset
    dataset.close()


def test_what_the_loop_took_is_counted(dataset):
    loader = modyn.Loader(dataset, np.arange(COUNT), batch_size=64)
    batches = iter(loader)

    rows = size = 0
    for number, batch in enumerate(batches, 1):
        text = batch.numpy("text")
        arrays = [batch.numpy(name) for name in ("keys", "labels", "x")]
        rows += len(batch)
        size += sum(array.nbytes for array in (*arrays, text.values, text.offsets))
        waits = batches.waits
        assert (waits.batches, waits.rows, waits.bytes) == (number, rows, size)

    assert (rows, number) == (COUNT, 16)


def test_no_second_is_counted_twice(dataset):
    loader = modyn.Loader(dataset, np.arange(COUNT), batch_size=100, threads=2)

    began = time.perf_counter()
    with iter(loader) as batches:
        for _ in batches:
            time.sleep(0.002)
    wall = time.perf_counter() - began

    waits = batches.waits
    assert waits.consumer_held >= 10 * 0.002  # a sleep is never shorter
    assert 0 < waits.seconds <= wall
    assert waits.workers_filling > 0
    assert waits.workers_filling + waits.workers_waiting <= 3 * wall  # the loop may fill, too
    assert waits.consumer_share == waits.consumer_waited / waits.seconds


def test_what_comes_after_the_last_batch_is_not_the_loops_time(dataset):
    batches = iter(modyn.Loader(dataset, np.arange(COUNT), batch_size=100))

    list(batches)
    at_the_end = batches.waits
    time.sleep(0.01)
    assert next(batches, None) is None
    batches.close()

    assert batches.waits.seconds == at_the_end.seconds


def test_an_iteration_of_nothing_has_waited_for_nothing(dataset):
    loader = modyn.Loader(dataset, [], batch_size=100)

    assert loader.waits == Waits()
    assert loader.waits.consumer_share == 0.0
    assert list(loader) == []
    assert loader.waits.batches == 0


def test_a_loader_adds_up_all_its_iterations(dataset):
    loader = modyn.Loader(dataset, np.arange(COUNT), batch_size=100)

    list(loader)
    abandoned = iter(loader)
    next(abandoned)
    del abandoned
    running = iter(loader)
    next(running), next(running)

    assert loader.waits.batches == 10 + 1 + 2
    assert loader.waits.rows == 100 * (10 + 1 + 2)
    next(running)
    assert loader.waits.batches == 10 + 1 + 3


def test_a_thousand_iterations_leave_one_sum(dataset):
    loader = modyn.Loader(dataset, np.arange(COUNT), batch_size=100)

    for _ in range(1000):
        next(iter(loader))
    gc.collect()

    assert loader.waits.batches == 1000
    assert len(loader._process.tally._gone) == 1
    assert not loader._process.tally._running


def test_iterations_that_end_on_many_threads_are_all_added_up(dataset):
    loader = modyn.Loader(dataset, np.arange(COUNT), batch_size=100)
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        for _ in range(25):
            list(loader)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert loader.waits.batches == 4 * 25 * 10


def test_waits_can_be_read_while_another_thread_takes(dataset):
    loader = modyn.Loader(dataset, np.arange(COUNT), batch_size=1)
    batches = iter(loader)
    seen: list[int] = []

    def read() -> None:
        while not seen or seen[-1] < COUNT:
            seen.append(batches.waits.batches)

    thread = threading.Thread(target=read)
    thread.start()
    list(batches)
    thread.join(60)

    assert not thread.is_alive()
    assert seen == sorted(seen)


def test_they_say_it_in_a_sentence():
    waits = Waits(
        consumer_waited=0.5,
        consumer_held=1.5,
        workers_filling=1.0,
        workers_waiting=3.0,
        stages=(Stage(name="decode", busy=4.0, waiting=1.0),),
    )

    assert str(waits) == (
        "the loop waited 25.0 % of 2 s for data; "
        "workers: 25 % filling, 75 % waiting for room; "
        "decode: 80 % at work, 20 % waiting for others"
    )
    assert str(Waits()) == "the loop waited 0.0 % of 0 s for data"


def test_sums_keep_every_stage():
    one = Waits(batches=1, stages=(Stage(name="decode", busy=1.0, waiting=2.0),))
    other = Waits(
        batches=2,
        rows=5,
        stages=(
            Stage(name="transfer", busy=7.0, waiting=0.0),
            Stage(name="decode", busy=3.0, waiting=4.0),
        ),
    )

    assert one + other == Waits(
        batches=3,
        rows=5,
        stages=(
            Stage(name="decode", busy=4.0, waiting=6.0),
            Stage(name="transfer", busy=7.0, waiting=0.0),
        ),
    )


def test_they_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Waits().batches = 3  # type: ignore[misc]
