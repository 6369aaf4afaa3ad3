"""Batches on a device: order, what waits for which copy, and whose memory pinned memory is."""

from __future__ import annotations

import collections
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modyn
from modyn.errors import BatchError, ClosedError
from modyn.loader import Batch, Loader, RaggedTensor, pinned, plan, process
from modyn.loader.device import AHEAD, check_device
from tests.python.late_device import LateDevice
from tests.python.loading import dataset
from tests.python.waiting import DEADLINE, eventually

__all__ = ["dataset"]  # fixtures

ROOT = Path(__file__).parents[2]
COUNT = 400
SCHEMA = {"text": "bytes", "x": "float32[16]", "n": "int64"}
NO_GPU = not torch.cuda.is_available()


def text_of(key: int) -> bytes:
    return b"%d" % key * (key % 5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("device") / "data"
    dataset = modyn.Dataset.create(path, schema=SCHEMA)
    keys = np.arange(COUNT)
    fields = {
        "text": [text_of(key) for key in keys],
        "x": (keys[:, None] + np.arange(16) / 16).astype(np.float32),
        "n": keys,
    }
    dataset.append(fields, labels=keys % 7, timestamps=keys)
    dataset.close()
    return path


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[LateDevice]:
    """What loaders with device="cuda" get here."""
    late = LateDevice(delay_s=0.0005)
    monkeypatch.setattr(plan, "check_device", lambda name: name)
    monkeypatch.setattr(process, "open_backend", lambda name: late)
    yield late
    late.gate.set()
    late.stop()


def loader(dataset: modyn.Dataset, **options: Any) -> Loader:
    good: dict[str, Any] = {"samples": np.arange(COUNT), "batch_size": 20, "device": "cuda"}
    return Loader(dataset, **(good | options))


def assert_right(batch: Batch) -> None:
    keys = batch.keys.tolist()
    assert len(batch) == len(keys)
    assert batch["n"].tolist() == keys
    assert batch["x"][:, 0].tolist() == keys
    assert batch.labels.tolist() == [key % 7 for key in keys]
    assert [bytes(t.numpy()) for t in batch["text"]] == [text_of(key) for key in keys]


# Without one -------------------------------------------------------------------------------------


def test_the_processor_is_no_device(dataset):
    for name in (None, "cpu", torch.device("cpu"), "cpu:0"):
        assert check_device(name) is None
    (batch,) = loader(dataset, samples=[3], device="cpu")
    assert batch["n"].tolist() == [3]


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", torch.device("cuda:1")])
def test_without_cuda_a_device_is_an_error_before_anything_starts(dataset, name):
    before = threading.active_count()

    with pytest.raises(ValueError, match=r"device='cuda(:\d)?': torch finds no CUDA device here"):
        loader(dataset, device=name)

    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "mps", "meta", 1.5])
def test_what_is_no_device_is_named(dataset, name):
    with pytest.raises(ValueError, match=f'"cuda" or "cuda:N", got {str(name)!r}'):
        loader(dataset, device=name)


def test_a_device_beyond_the_last_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert check_device("cuda:1") == "cuda:1"
    assert check_device("cuda") == "cuda"
    with pytest.raises(ValueError, match="'cuda:2': this machine has 2, numbered from 0"):
        check_device("cuda:2")


# Order and values --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_batches_arrive_in_order_and_whole(dataset, device, prefetch):
    expected = [b.keys.tolist() for b in loader(dataset, device=None, shuffle="global")]

    got = []
    for _ in range(3):  # pinned memory comes with the first batches, and is used again
        for batch in loader(dataset, shuffle="global", prefetch=prefetch):
            assert_right(batch)
            got.append(batch.keys.tolist())

    assert got == expected * 3
    assert device.recorded == 60
    assert len(device.waited) == 60
    assert {tensors for _, tensors in device.waited} == {6}  # two of them ragged


def test_batches_of_one_loader_come_to_lie_in_pinned_memory(dataset, device):
    some = loader(dataset)
    for _ in range(4):
        list(some)
    assert not all(device.asked)  # not the first ones
    device.asked.clear()

    for batch in some:
        assert_right(batch)

    # Of copies that found pinned memory, and of blocks that were lent: they are used again.
    assert sum(device.asked) > 0.9 * len(device.asked)
    assert len(some._process._lender._sizes) <= 2 * some._process._lender._most


def test_decoded_values_are_pinned_where_they_are_stacked(dataset, device):
    some = loader(dataset, decode={"x": lambda row: row * 2, "text": bytes})
    for _ in range(4):
        list(some)
    device.asked.clear()
    blocks = len(some._process._lender._sizes)

    for batch in some:
        assert batch["x"][:, 0].tolist() == [2.0 * key for key in batch.keys.tolist()]
        assert batch["text"] == [text_of(key) for key in batch.keys.tolist()]
    assert sum(device.asked) > 0.9 * len(device.asked)
    assert blocks <= some._process._lender._most  # none for payloads, which nobody copies


Pair = collections.namedtuple("Pair", ["a", "b"])


def test_tensors_in_what_collate_returns_are_copied(dataset, device):
    def collate(batch: Batch) -> Any:
        return {
            "pair": Pair(batch["n"], [batch["x"][:, ::2], "text"]),
            "tuple": (batch["text"], 5, batch),
            "empty": torch.zeros(0, 3),
        }

    for made in loader(dataset, collate=collate):
        ragged, five, batch = made["tuple"]
        assert_right(batch)
        assert five == 5
        assert isinstance(ragged, RaggedTensor)
        assert isinstance(made["pair"], Pair)
        assert made["pair"].b[0].shape == (20, 8)
        assert made["pair"].b[0][:, 0].tolist() == batch.keys.tolist()
        assert made["pair"].b[1] == "text"
        assert made["empty"].shape == (0, 3)


def test_an_array_on_a_device_is_refused_with_advice():
    batch = Batch.of_values(2, {"keys": np.arange(2)}, {"x": torch.zeros(2, device="meta")})

    with pytest.raises(ValueError, match=r"'x' lies on meta.*batch\['x'\].cpu\(\)"):
        batch.numpy("x")
    assert batch["x"].device.type == "meta"


# What waits for a copy ---------------------------------------------------------------------------


def test_copies_run_ahead_of_the_loop_and_not_far(dataset, device):
    iterator = iter(loader(dataset, prefetch=2))

    for taken in range(6):
        assert eventually(lambda taken=taken: device.recorded == taken + AHEAD)
        time.sleep(0.01)
        assert device.recorded == taken + AHEAD
        assert_right(next(iterator))


def test_a_batch_is_not_used_again_before_it_was_copied(dataset, device):
    """The loop never looks at a batch while copies stand still, and all of them arrive whole."""
    some = loader(dataset, prefetch=1, threads=1)
    for _ in range(2):
        list(some)  # now all batches lie in lent memory
    iterator = iter(some)
    got = []
    device.wait = lambda event, tensors: None  # the loop does not wait on the host
    device.gate.clear()
    for _ in range(AHEAD + 1):
        got.append(next(iterator))
    assert all(bool((batch["n"] == 77).all()) for batch in got)  # nothing was copied yet
    device.gate.set()
    got += list(iterator)

    assert len(got) == 20
    for batch in got:
        assert_right(batch)


def test_closing_waits_for_copies_that_are_under_way(dataset, device):
    iterator = iter(loader(dataset))
    next(iterator)
    assert eventually(lambda: device.recorded == 1 + AHEAD)
    device.gate.clear()
    threading.Timer(0.05, device.gate.set).start()

    iterator.close()

    assert not iterator._stage._flying._held
    assert device.gate.is_set()
    with pytest.raises(ClosedError):
        next(iterator)


def test_an_abandoned_iterator_leaves_no_thread_and_no_memory(dataset, device):
    list(loader(dataset))
    before = threading.active_count()

    for number in range(20):
        iterator = iter(loader(dataset, decode={"n": lambda row: row}))
        for _ in range(number % 4):
            next(iterator)
    del iterator
    gc.collect()

    assert eventually(lambda: threading.active_count() <= before)
    pinned.sweep()
    assert pinned._OUTLIVING == []


# Errors ------------------------------------------------------------------------------------------


def test_errors_come_after_all_batches_before_them(dataset, device):
    keys = np.arange(100)
    keys[50] = COUNT + 1
    iterator = iter(loader(dataset, samples=keys, batch_size=10))
    assert [b.keys.tolist() for b in (next(iterator) for _ in range(5))] == [
        list(range(10 * b, 10 * b + 10)) for b in range(5)
    ]
    for _ in range(2):
        with pytest.raises(KeyError, match="batch 5"):
            next(iterator)

    def fail(row: Any) -> Any:
        return row if row < 50 else 1 / 0

    iterator = iter(loader(dataset, batch_size=10, decode={"n": fail}))
    assert len([next(iterator) for _ in range(5)]) == 5
    with pytest.raises(BatchError, match="batch 5: decode of field 'n' of key 50"):
        next(iterator)


def test_a_copy_that_fails_is_an_error_of_its_batch(dataset, device):
    device.fail_at = 6 * 4 + 2  # the third of six copies of batch 4
    iterator = iter(loader(dataset))

    for _ in range(4):
        assert_right(next(iterator))
    with pytest.raises(MemoryError, match="the device is full") as caught:
        next(iterator)
    assert caught.value.__notes__ == ["while batch 4 was copied to the device"]
    iterator.close()


# Pinned memory -----------------------------------------------------------------------------------


def test_a_tensor_outlives_the_loader_in_pinned_memory(dataset, device):
    """Without a device stage in between: what the batch lies in is what the user holds."""
    some = loader(dataset, device=None, fields=["x"])
    block = aligned_block(2048)
    first, dead = block.ctypes.data, weakref.ref(block)
    memory = some._process.core.memory
    memory.lend(block)
    del block

    kept = [batch["x"] for batch in some]
    held = [tensor for tensor in kept if first <= tensor.data_ptr() < first + 2048]

    assert held
    pinned._outlive(memory)
    del memory, some
    gc.collect()
    assert len(pinned._OUTLIVING) == 1
    keys = [key for tensor in kept for key in tensor[:, 0].tolist()]
    assert keys == list(range(COUNT))
    del kept, held
    pinned.sweep()
    assert pinned._OUTLIVING == []
    assert dead() is None


def aligned_block(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    whole = np.zeros(size + 64, np.uint8)
    first = -whole.ctypes.data % 64
    return whole[first : first + size]


def test_memory_is_held_as_long_as_a_batch_lies_in_it(dataset):
    some = loader(dataset, device=None, fields=["x"])
    block = aligned_block(2048)
    memory = some._process.core.memory
    memory.lend(block)
    dead = weakref.ref(block)
    iterator = iter(some)
    batch = next(iterator)
    tensor = batch["x"]
    inside = block.ctypes.data <= tensor.data_ptr() < block.ctypes.data + 2048
    del block, batch
    iterator.close()

    assert inside
    assert len(memory) == 1
    assert memory.reclaim() == 1
    assert dead() is not None
    del tensor
    assert memory.reclaim() == 0
    assert dead() is None
    with pytest.raises(ValueError, match="aligned to 64 bytes"):
        memory.lend(aligned_block(200)[8:])
    with pytest.raises((BufferError, ValueError)):
        memory.lend(b"read only")


def test_lent_memory_is_valid_to_the_end_of_the_interpreter(path):
    script = """
import sys, numpy as np, threading, time, torch, modyn
dataset = modyn.Dataset.open(sys.argv[1])
loader = modyn.Loader(dataset, range(400), batch_size=20, fields=["x"])
whole = np.zeros(4096 + 64, np.uint8)
first = -whole.ctypes.data % 64
memory = loader._process.core.memory
memory.lend(whole[first:first + 2048])
iterator = iter(loader)
kept = next(iterator)["x"]
iterator.close()
sys.modules["kept"] = [kept, memory]
threading.Thread(target=lambda t: time.sleep(99), args=(kept,), daemon=True).start()
del whole, memory, loader, iterator
print(kept[:, 0].tolist() == list(range(20)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


# With one ----------------------------------------------------------------------------------------


@pytest.mark.skipif(NO_GPU, reason="no GPU here")
def test_batches_arrive_on_a_gpu(dataset):
    for _ in range(3):
        for batch in loader(dataset, shuffle="global"):
            assert batch["x"].device.type == "cuda"
            keys = batch.keys.cpu().tolist()
            assert batch["n"].tolist() == keys
            assert batch["x"][:, 0].tolist() == keys
            assert [bytes(t.cpu().numpy()) for t in batch["text"]] == [text_of(k) for k in keys]


@pytest.mark.skipif(NO_GPU, reason="no GPU here")
def test_a_gpu_sees_whole_batches_under_load(dataset):
    some = loader(dataset, shuffle="global", prefetch=2)
    busy = torch.rand(2000, 2000, device="cuda")
    sums = []
    for _ in range(20):
        for batch in some:
            busy = busy @ busy / 1000
            sums.append((batch["n"].sum(), batch.keys.to(torch.int64).sum()))
    torch.cuda.synchronize()

    assert all(int(a) == int(b) for a, b in sums)
