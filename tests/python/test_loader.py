"""Loaders: which sample comes when, and what happens when something goes wrong."""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modyn
from modyn.errors import ClosedError, CorruptError
from modyn.loader import Batch, Loader, RaggedTensor
from modyn.trainset import TrainingSet

ROOT = Path(__file__).parents[2]
COUNT = 1000
SCHEMA = {"x": "float32[3]", "text": "bytes", "n": "int64", "b": "bool", "more": "bytes"}
DEADLINE = 60  # seconds, for what would otherwise hang


def contents(keys: Any) -> dict[str, Any]:
    """What the samples of these keys hold."""
    keys = np.asarray(keys, dtype=np.int64)
    return {
        "x": (keys[:, None] * 3 + np.arange(3)).astype(np.float32),
        "text": [b"%d" % key * (key % 5) for key in keys],
        "n": keys * keys - 500,
        "b": keys % 3 == 0,
        "more": [bytes(int(key) % 50) for key in keys],
    }


def fill(path: Path, count: int = COUNT, **options: Any) -> Path:
    dataset = modyn.Dataset.create(path, schema=SCHEMA, **options)
    keys = np.arange(count)
    labels = keys % 7 if options.get("labels", True) else None
    dataset.append(contents(keys), labels=labels, timestamps=keys)
    dataset.close()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("loader") / "data")


@pytest.fixture
def dataset(path: Path) -> Iterator[modyn.Dataset]:
    opened = modyn.Dataset.open(path)
    yield opened
    opened.close()


def key_list(batches: Any) -> list[list[int]]:
    return [batch.numpy("keys").tolist() for batch in batches]


def joined(lists: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def assert_right(batch: Batch) -> None:
    """All that a batch holds belongs to its keys, read in two ways."""
    keys = batch.numpy("keys")
    expected = contents(keys)
    assert len(batch) == len(keys)
    for name in ("x", "n", "b"):
        assert np.array_equal(batch.numpy(name), expected[name]), name
        assert np.array_equal(batch[name].numpy(), expected[name]), name
    for name in ("text", "more"):
        ragged = batch[name]
        assert isinstance(ragged, RaggedTensor)
        assert list(batch.numpy(name)) == expected[name]
        assert [bytes(payload.numpy()) for payload in ragged] == expected[name]
    assert np.array_equal(batch.labels.numpy(), keys.astype(np.int64) % 7)
    assert np.array_equal(batch.keys.numpy(), keys)


# The order ---------------------------------------------------------------------------------------


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


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_a_bad_key_is_an_error_after_exactly_the_batches_before_it(dataset, threads):
    for at in (0, 1, 25, 79):
        keys = np.arange(80)
        keys[at] = COUNT + 5
        iterator = iter(Loader(dataset, keys, batch_size=10, threads=threads))

        good = [next(iterator) for _ in range(at // 10)]

        message = rf"batch {at // 10}: .*key {COUNT + 5}.* {COUNT - 1}"
        for _ in range(2):  # the error stays
            with pytest.raises(KeyError, match=message):
                next(iterator)
        assert joined(key_list(good)) == keys[: at // 10 * 10].tolist()


def test_damaged_bytes_are_an_error_in_their_batch(tmp_path):
    path = tmp_path / "data"
    writer = modyn.Dataset.create(path, schema={"n": "int64[512]"}, labels=False)
    writer.append({"n": np.arange(100 * 512).reshape(100, 512)}, timestamps=np.arange(100))
    writer.close()
    with (path / "000000.seg").open("r+b") as file:
        file.seek(60 * 4096 + 17)
        file.write(b"\xff")
    opened = modyn.Dataset.open(path)
    iterator = iter(Loader(opened, np.arange(100), batch_size=16))

    assert len(next(iterator)) == 16
    with pytest.raises(CorruptError, match=r"batch \d: .*000000\.seg"):
        list(iterator)


Bad = tuple[dict[str, Any], type[Exception], str]
BAD: list[Bad] = [
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ({"batch_size": -3}, ValueError, "batch_size must be at least 1, got -3"),
    ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, got 2.5"),
    ({"batch_size": 2**63}, ValueError, "batch_size must be at most"),
    ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
    ({"threads": 1025}, ValueError, "threads must be at most 1024, got 1025"),
    ({"prefetch": 0}, ValueError, "prefetch must be at least 1, got 0"),
    ({"prefetch": "4"}, TypeError, "prefetch must be an integer, got '4'"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"seed": 2**64}, ValueError, "seed must be at most"),
    ({"epoch": -1}, ValueError, "epoch must be at least 0, got -1"),
    ({"shuffle": True}, ValueError, 'shuffle must be "global", "partition" or False, got'),
    ({"shuffle": "local"}, ValueError, "shuffle must be .* got 'local'"),
    ({"fields": ["x", "y"]}, ValueError, "no field 'y' in the dataset; it has x, text, n, b"),
    ({"fields": "x"}, TypeError, "sequence of names, got the string 'x'"),
    ({"fields": ["x", "x"]}, ValueError, "names a field twice"),
    ({"samples": [[1, 2]]}, ValueError, r"shape \(n,\), got shape \(1, 2\)"),
    ({"samples": 5}, ValueError, r"shape \(n,\), got shape \(\)"),
    ({"samples": [1.0, 2.0]}, TypeError, "integers, got float64"),
    ({"samples": [True, False]}, TypeError, "integers, got bool"),
    ({"samples": ["a"]}, TypeError, "integers, got <U1"),
    ({"samples": [3, -2, -1]}, ValueError, "not negative, got -2 at 1"),
    ({"weights": [1.0]}, ValueError, r"weights must have shape \(3,\) as the keys, got \(1,\)"),
    ({"weights": [1.0, np.nan, 1.0]}, ValueError, "weights must be finite, got nan at 1"),
    ({"weights": ["a", "b", "c"]}, TypeError, "weights must be real numbers"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_a_bad_argument_is_named(dataset, arguments, error, message):
    good: dict[str, Any] = {"samples": [1, 2, 3], "batch_size": 2}

    with pytest.raises(error, match=message):
        Loader(dataset, **(good | arguments))


def test_a_batch_beyond_the_last_is_no_place_to_start(dataset):
    loader = Loader(dataset, np.arange(10), batch_size=5)

    assert list(loader.batches(2)) == []
    with pytest.raises(ValueError, match="first must be at most 2, got 3"):
        loader.batches(3)


def test_the_core_refuses_what_the_face_lets_no_one_pass(dataset):
    keys = np.arange(4, dtype=np.uint64)
    core = modyn._core.Loader
    good: dict[str, Any] = {
        "fields": (0,),
        "batch_size": 2,
        "drop_last": False,
        "shuffle": "",
        "seed": 0,
        "pass_rows": 0,
        "partition_size": 0,
        "bucket_batches": 0,
        "bucket_field": 0,
        "rank": 0,
        "world_size": 1,
        "ascending": False,
    }
    begin: dict[str, Any] = {
        "epoch": 0,
        "first": 0,
        "threads": 1,
        "depth": 1,
        "stride": 1,
        "memory": 0,
    }
    loader = core(dataset.view, keys, None, **good)

    with pytest.raises(TypeError, match="View"):
        core(object(), keys, None, **good)
    with pytest.raises(TypeError, match="keys"):
        core(dataset.view, keys.astype(np.float64), None, **good)
    with pytest.raises(TypeError, match="weights"):
        core(dataset.view, keys, keys, **good)
    with pytest.raises(ValueError, match="3 weights for 4 keys"):
        core(dataset.view, keys, np.ones(3), **good)
    with pytest.raises(ValueError, match="field 9 was asked for, the schema has 5"):
        core(dataset.view, keys, None, **(good | {"fields": (9,)}))
    with pytest.raises(OverflowError):
        core(dataset.view, keys, None, **(good | {"fields": (2**40,)}))
    with pytest.raises(ValueError, match="at most 256 fields"):
        core(dataset.view, keys, None, **(good | {"fields": (0,) * 257}))
    with pytest.raises(ValueError, match="batch_size"):
        core(dataset.view, keys, None, **(good | {"batch_size": 0}))
    for bad in ({"threads": 0}, {"depth": 0}, {"first": 3}, {"threads": 1025}, {"depth": 10**6}):
        with pytest.raises(ValueError, match=r"must be|was asked for"):
            loader.begin(**(begin | bad))
    with pytest.raises(ValueError, match=r"a batch takes \d+ bytes, and there are 1 for all"):
        loader.begin(**(begin | {"memory": 1}))
    with pytest.raises(TypeError):
        modyn._core.Batch()
    with pytest.raises(TypeError):
        modyn._core.Epoch()
    with pytest.raises(IndexError, match="part 99 of 3"):
        next(loader.begin(**begin)).part(99)


# Memory and threads ------------------------------------------------------------------------------


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


def threads_now() -> int:
    return len(os.listdir("/proc/self/task"))


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

    assert threads_now() == threads
    assert resident_kib() - memory < 20 * 1024
    writer.close()


def test_a_closed_iterator_says_so(dataset):
    loader = Loader(dataset, np.arange(100), batch_size=10)
    before = threads_now()
    with loader.batches() as batches:
        next(batches)
    batches.close()

    assert threads_now() == before
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


# Processes ---------------------------------------------------------------------------------------


IMPORTS = """
import os, signal, sys, threading, time
import modyn, numpy as np
from modyn.errors import ClosedError
"""


def start(script: str, *arguments: Any) -> subprocess.Popen[str]:
    """Start a Python process with this script."""
    text = IMPORTS + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it prints until its end, which must come before the deadline."""
    try:
        return process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def run(script: str, *arguments: Any) -> str:
    """Run it to its end, which must be a good one, and return what it printed."""
    with start(script, *arguments) as process:
        out, err = end_of(process)
    assert process.returncode == 0, (process.returncode, out, err)
    assert err == ""
    return out


def test_tensors_may_live_until_the_interpreter_ends(path):
    out = run(
        """
        dataset = modyn.Dataset.open(sys.argv[1])
        loader = modyn.Loader(dataset, np.arange(1000), batch_size=10)
        iterator = iter(loader)
        batch = next(iterator)
        x, n = batch["x"], batch.numpy("n")
        threading.Thread(target=lambda _: time.sleep(99), args=(batch["n"],), daemon=True).start()
        sys.modules["kept"] = [x, n, iterator, loader, dataset]
        print(float(x.sum()))
        """,
        path,
    )

    assert float(out) == contents(range(10))["x"].sum()


def test_ctrl_c_ends_a_wait(tmp_path):
    """The worker is starved, so that without an answer the wait would go on for long."""
    path = tmp_path / "data"
    writer = modyn.Dataset.create(path, schema={"n": "uint8"}, labels=False)
    writer.append({"n": np.zeros(10, np.uint8)}, timestamps=np.zeros(10, np.int64))
    writer.close()
    script = """
    dataset = modyn.Dataset.open(sys.argv[1])
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    keys = np.zeros(20_000_000, np.uint64)
    loader = modyn.Loader(dataset, keys, batch_size=len(keys), shuffle="global", threads=1)
    parent = os.getpid()
    hog = os.fork()
    if hog == 0:
        while os.getppid() == parent:
            pass
        os._exit(0)
    before = set(os.listdir("/proc/self/task"))
    iterator = iter(loader)
    for worker in set(os.listdir("/proc/self/task")) - before:
        os.sched_setscheduler(int(worker), os.SCHED_IDLE, os.sched_param(0))
    print("waiting", flush=True)
    started = time.monotonic()
    try:
        next(iterator)
        print("no interrupt")
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - started)
    finally:
        os.kill(hog, signal.SIGKILL)
        os.waitpid(hog, 0)
    """
    with start(script, path) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = end_of(process)

    assert out.startswith("interrupted"), (out, err)
    assert float(out.split()[1]) < 2
    assert process.returncode == 0, err


def test_a_forked_child_begins_anew_and_ends(path):
    out = run(
        """
        dataset = modyn.Dataset.open(sys.argv[1])
        loader = modyn.Loader(dataset, np.arange(1000), batch_size=10)
        iterator = iter(loader)
        batch = next(iterator)
        sum_before = int(batch.numpy("n").sum())

        child = os.fork()
        if child == 0:
            signal.alarm(30)
            try:
                next(iterator)
                os._exit(1)
            except ClosedError as error:
                if "fork" not in str(error):
                    os._exit(2)
            if [len(batch) for batch in loader] != [10] * 100:
                os._exit(5)
            iterator.close()
            if int(batch.numpy("n").sum()) != sum_before:
                os._exit(3)
            own = modyn.Loader(modyn.Dataset.open(sys.argv[1]), [1, 2, 3], batch_size=2)
            if [b.numpy("keys").tolist() for b in own] != [[1, 2], [3]]:
                os._exit(4)
            del iterator, loader, batch
            sys.exit(0)  # the interpreter ends as always
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(iterator)))
        """,
        path,
    )

    assert out == "0 99\n"


def test_a_killed_consumer_leaves_nothing_behind(path, dataset):
    script = """
    loader = modyn.Loader(modyn.Dataset.open(sys.argv[1]), np.arange(1000), batch_size=10)
    while True:
        for number, batch in enumerate(loader):
            if number == 3:
                print("running", flush=True)
    """
    for _ in range(3):
        with start(script, path) as process:
            assert process.stdout.readline() == "running\n"
            process.kill()

    for batch in Loader(dataset, np.arange(COUNT), batch_size=100):
        assert_right(batch)


def test_arrays_need_no_torch(path):
    out = run(
        """
        sys.modules["torch"] = None
        dataset = modyn.Dataset.open(sys.argv[1])
        (batch,) = modyn.Loader(dataset, [7, 3], batch_size=2)
        print(batch.numpy("n").tolist(), batch.numpy("labels").tolist(), list(batch.numpy("text")))
        try:
            batch["x"]
        except ModuleNotFoundError as error:
            print(error)
        """,
        path,
    )

    assert out.splitlines()[0] == "[-451, -491] [0, 3] [b'77', b'333']"
    assert "pip install 'modyn[torch]'" in out
