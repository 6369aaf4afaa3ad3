"""Reading ahead of a loader: what it changes (nothing), what it chooses, and how it ends."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import modyn
from modyn.errors import CorruptError

COUNT = 30_000


@pytest.fixture
def path(tmp_path):
    """A dataset of COUNT samples; key k has x = [k, k + 1/2] and the label k % 10."""
    name = tmp_path / "data"
    with modyn.Dataset.create(name, schema={"x": "float64[2]", "t": "bytes"}) as dataset:
        x = np.arange(COUNT)[:, None] + [0, 0.5]
        texts = [bytes([key % 256]) * (key % 50) for key in range(COUNT)]
        dataset.append(
            {"x": x, "t": texts}, labels=np.arange(COUNT) % 10, timestamps=np.arange(COUNT)
        )
    return name


@pytest.fixture
def dataset(path):
    with modyn.Dataset.open(path) as dataset:
        yield dataset


def drop(path):
    """Let the system forget what it holds of these files, where it can."""
    for file in path.iterdir():
        fd = os.open(file, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def content(loader):
    with loader.batches() as batches:
        return [
            (batch.numpy("keys").tolist(), batch.numpy("x").tobytes(), batch.numpy("labels").sum())
            for batch in batches
        ]


@pytest.mark.parametrize("shuffle", [False, "global", "partition"])
@pytest.mark.parametrize("partitions", [1, 3, "auto"])
@pytest.mark.parametrize("requests", [1, 32, "auto"])
def test_batches_do_not_depend_on_what_is_read_ahead(path, rand, shuffle, partitions, requests):
    keys = np.random.default_rng(rand.seed).integers(0, COUNT, 5000)
    plan = {"batch_size": 64, "shuffle": shuffle, "seed": rand.seed, "partition_size": 700}
    drop(path)
    with modyn.Dataset.open(path) as cold, modyn.Dataset.open(path) as other:
        ahead = modyn.Loader(
            cold,
            keys,
            num_prefetched_partitions=partitions,
            parallel_prefetch_requests=requests,
            **plan,
        )
        without = modyn.Loader(other, keys, num_prefetched_partitions=0, **plan)

        assert content(ahead) == content(without)


def test_a_resident_pass_is_not_read_ahead(dataset):
    dataset.view.warm()
    loader = modyn.Loader(dataset, np.arange(COUNT), batch_size=100)

    assert loader.chosen is None
    content(loader)

    assert loader.chosen.num_prefetched_partitions == 0
    assert "in memory" in loader.chosen.why


def test_what_is_asked_for_is_what_is_chosen(dataset):
    loader = modyn.Loader(
        dataset,
        np.arange(COUNT),
        batch_size=100,
        num_prefetched_partitions=3,
        parallel_prefetch_requests=7,
    )
    content(loader)

    chosen = loader.chosen
    assert (chosen.num_prefetched_partitions, chosen.parallel_prefetch_requests) == (3, 7)
    assert chosen.why == "as asked for"


def test_none_is_none(dataset):
    loader = modyn.Loader(dataset, [1, 2, 3], batch_size=2, num_prefetched_partitions=0)
    content(loader)

    assert loader.chosen.num_prefetched_partitions == 0
    assert loader.chosen.why == "no partitions were asked for"


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("num_prefetched_partitions", -1, ValueError),
        ("num_prefetched_partitions", 2000, ValueError),
        ("num_prefetched_partitions", "many", ValueError),
        ("num_prefetched_partitions", 1.5, TypeError),
        ("parallel_prefetch_requests", 0, ValueError),
        ("parallel_prefetch_requests", 5000, ValueError),
        ("parallel_prefetch_requests", None, TypeError),
        ("memory_budget", -1, ValueError),
        ("memory_budget", "all", TypeError),
    ],
)
def test_settings_are_checked(dataset, setting, value, error):
    with pytest.raises(error, match=setting):
        modyn.Loader(dataset, [1], batch_size=1, **{setting: value})


@pytest.mark.parametrize("budget", [4000, 20_000, 400_000])
def test_a_small_budget_costs_no_sample(path, budget):
    drop(path)
    with modyn.Dataset.open(path) as cold:
        loader = modyn.Loader(
            cold,
            np.arange(COUNT),
            batch_size=50,
            shuffle="global",
            num_prefetched_partitions=2,
            memory_budget=budget,
        )
        keys = [key for batch, _, _ in content(loader) for key in batch]

    assert sorted(keys) == list(range(COUNT))


def test_bring_tells_what_keys_need_and_what_was_there(path):
    keys = np.arange(0, COUNT, 3, dtype=np.uint64)
    with modyn.Dataset.open(path) as dataset:
        needed, _ = dataset.view.bring(keys, 8)
        again, resident = dataset.view.bring(keys, 8)

    assert needed == again == resident
    assert needed >= len(keys) * 24


def test_bring_accepts_keys_that_are_not_there(dataset):
    assert dataset.view.bring(np.array([COUNT, 2**63], np.uint64), 8) == (0, 0)
    assert dataset.view.bring(np.array([], np.uint64), 8) == (0, 0)
    with pytest.raises(TypeError):
        dataset.view.bring(np.array([1.5]), 8)
    with pytest.raises(TypeError):
        dataset.view.bring([1], 8)


def test_a_damaged_record_is_an_error_of_its_batch_only(path):
    file = path / "000000.seg"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    drop(path)
    good = []
    with modyn.Dataset.open(path) as damaged:
        loader = modyn.Loader(
            damaged, np.arange(COUNT), batch_size=100, num_prefetched_partitions=2
        )
        with pytest.raises(CorruptError, match="batch"):
            good.extend(len(batch) for batch in loader)

    assert len(good) > 50
    assert set(good) == {100}


def test_an_endless_pass_is_left_at_any_time(path):
    for batches_taken in (0, 1, 40):
        drop(path)
        with modyn.Dataset.open(path) as cold:
            loader = modyn.Loader(
                cold,
                np.arange(COUNT),
                batch_size=64,
                shuffle="partition",
                partition_size=500,
                num_samples_to_pass=math.inf,
                num_prefetched_partitions=4,
            )
            batches = loader.batches()
            for _ in range(batches_taken):
                next(batches)
            batches.close()


def test_closing_from_another_thread_ends_the_pass(path):
    drop(path)
    with modyn.Dataset.open(path) as cold:
        loader = modyn.Loader(
            cold,
            np.arange(COUNT),
            batch_size=8,
            num_samples_to_pass=math.inf,
            num_prefetched_partitions=2,
        )
        batches = loader.batches()
        closer = threading.Timer(0.2, batches.close)
        closer.start()
        with pytest.raises(modyn.errors.ClosedError):
            for _ in batches:
                pass
        closer.join(timeout=60)

    assert not closer.is_alive()


def test_no_threads_are_left(path):
    before = set(os.listdir("/proc/self/task"))
    for _ in range(20):
        drop(path)
        with modyn.Dataset.open(path) as cold:
            loader = modyn.Loader(
                cold, np.arange(COUNT), batch_size=50, num_prefetched_partitions=2
            )
            next(iter(loader))  # and dropped
    deadline = time.monotonic() + 30
    while set(os.listdir("/proc/self/task")) - before and time.monotonic() < deadline:
        time.sleep(0.01)

    assert not set(os.listdir("/proc/self/task")) - before


CHILD = """
import math, os, sys
import numpy as np
import modyn
dataset = modyn.Dataset.open(sys.argv[1])
loader = modyn.Loader(
    dataset, np.arange(30_000), batch_size=64, shuffle="global",
    num_samples_to_pass=math.inf, num_prefetched_partitions=2,
)
batches = iter(loader)
next(batches)
"""


def run_child(code, path, **settings):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def test_ctrl_c_ends_a_loop(path):
    drop(path)
    child = run_child("print('ready', flush=True)\nfor batch in batches: pass\n", path)
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()

    assert "KeyboardInterrupt" in errors
    assert child.returncode in (1, -signal.SIGINT)


def test_a_forked_child_ends_and_says_what_it_is(path):
    drop(path)
    code = """
pid = os.fork()
if pid == 0:
    try:
        next(batches)
    except modyn.errors.ClosedError:
        assert len(next(iter(loader))) == 64  # anew
        del batches, loader
        os._exit(7)
    os._exit(1)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
next(batches)
"""
    child = run_child(code, path)
    try:
        out, errors = child.communicate(timeout=60)
    finally:
        child.kill()

    assert (out, errors) == ("7\n", "")


# resident="hugepages" ---------------------------------------------------------------------------


def anonymous_memory():
    """Return the bytes of memory of its own that this process has in use."""
    with open("/proc/self/status") as status:
        facts = dict(line.split(":", 1) for line in status)
    return int(facts["RssAnon"].split()[0]) * 1024


@pytest.mark.parametrize("first", [0, 7000])
def test_a_resident_loader_gives_the_same_batches(dataset, rand, first):
    keys = np.random.default_rng(rand.seed).integers(first, COUNT, 3000)
    plan = {"batch_size": 128, "shuffle": "global", "seed": rand.seed}
    loader = modyn.Loader(dataset, keys, resident="hugepages", **plan)

    assert content(loader) == content(modyn.Loader(dataset, keys, **plan))


def test_a_resident_loader_needs_its_budget(dataset):
    with pytest.raises(
        ValueError, match=r"memory_budget of 1000 bytes .* resident copy, (\d+) bytes"
    ):
        modyn.Loader(
            dataset, np.arange(COUNT), batch_size=1, resident="hugepages", memory_budget=1000
        )
    with pytest.raises(ValueError, match="resident must be"):
        modyn.Loader(dataset, [1], batch_size=1, resident="yes")


def test_a_resident_loader_takes_keys_that_are_not_there(dataset):
    loader = modyn.Loader(dataset, [1, COUNT, 2], batch_size=2, resident="hugepages")
    with pytest.raises(KeyError, match=str(COUNT)):
        content(loader)
    none = modyn.Loader(dataset, [], batch_size=2, resident="hugepages")
    beyond = modyn.Loader(dataset, [2**63], batch_size=2, resident="hugepages")

    assert content(none) == []
    with pytest.raises(KeyError):
        content(beyond)


def test_memory_of_a_resident_loader_goes_with_its_last_user(tmp_path):
    size = 64 << 20
    with modyn.Dataset.create(tmp_path / "d", schema={"x": "uint8[4096]"}) as dataset:
        rows = size // 4096
        x = np.ones((rows, 4096), np.uint8)
        dataset.append({"x": x}, labels=np.arange(rows), timestamps=np.arange(rows))
        before = anonymous_memory()
        loader = modyn.Loader(dataset, np.arange(rows), batch_size=8, resident="hugepages")
        during = anonymous_memory()
        batches = iter(loader)
        batch = next(batches)
        del loader
        held = anonymous_memory()
        batches.close()
        del batches
        after = anonymous_memory()

    assert during - before >= size
    assert held - before >= size  # the batches under way use it
    assert after - before < size // 2
    assert (batch.numpy("x") == 1).all()


def test_a_resident_loader_keeps_what_is_erased_later(dataset, path):
    loader = modyn.Loader(dataset, np.arange(100), batch_size=50, resident="hugepages")
    with modyn.Dataset.open(path, mode="w") as writer:
        writer.erase([7], reason="test")
        writer.compact()
    dataset.refresh()

    assert [key for keys, _, _ in content(loader) for key in keys] == list(range(100))
    after = modyn.Loader(dataset, np.arange(100), batch_size=50, resident="hugepages")
    with pytest.raises(KeyError, match="7"):
        content(after)


def test_damage_is_told_when_a_resident_loader_is_made(path):
    file = path / "000000.seg"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with modyn.Dataset.open(path) as damaged, pytest.raises(CorruptError, match=r"000000|key"):
        modyn.Loader(damaged, np.arange(COUNT), batch_size=8, resident="hugepages")
