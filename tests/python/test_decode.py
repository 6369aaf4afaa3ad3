"""Decode and collate: what the user's functions get, in which order, and what when they fail."""

from __future__ import annotations

import gc
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from modyn.errors import BatchError, ClosedError
from modyn.loader import Batch, RaggedTensor
from tests.python import decoders
from tests.python.decoding import COUNT, loader, path, text_of, zipped_of
from tests.python.loading import dataset, joined, key_list
from tests.python.waiting import DEADLINE, eventually, threads_now

__all__ = ["dataset", "path"]  # fixtures

WAYS = [(1, False), (3, False), (2, True)]  # workers, processes


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "processes"), WAYS)
def test_decoded_values_replace_their_fields_in_order(dataset, workers, processes):
    decode = {"zipped": decoders.unzip, "x": decoders.doubled, "text": decoders.identity}
    plain = key_list(loader(dataset))

    batches = list(
        loader(dataset, decode=decode, decode_workers=workers, decode_processes=processes)
    )

    assert key_list(batches) == plain
    for batch in batches:
        keys = batch.numpy("keys").tolist()
        assert batch.fields == ("text", "zipped", "n", "x")
        assert batch["zipped"].shape == (len(keys), 40)
        assert batch["zipped"].dtype == torch.uint8
        assert [bytes(row.numpy()) for row in batch["zipped"]] == [zipped_of(k) for k in keys]
        assert batch["x"].tolist() == [[6.0 * k, 6.0 * k + 2, 6.0 * k + 4] for k in keys]
        assert batch["text"] == [text_of(k) for k in keys]  # no arrays: a list
        assert batch["n"].tolist() == keys
        assert batch.labels.tolist() == [k % 7 for k in keys]


@pytest.mark.parametrize(("workers", "processes"), WAYS)
def test_values_that_are_not_alike_stay_a_list(dataset, workers, processes):
    (batch,) = loader(
        dataset,
        samples=range(10),
        batch_size=10,
        shuffle=False,
        decode={"text": decoders.nested, "n": decoders.as_tensor, "zipped": decoders.length},
        decode_workers=workers,
        decode_processes=processes,
    )

    assert batch["n"].dtype == torch.bfloat16
    assert batch["n"].tolist() == list(range(10))
    assert batch["zipped"] == [len(zlib.compress(zipped_of(k))) for k in range(10)]
    for key, value in enumerate(batch["text"]):
        assert bytes(value["array"]) == text_of(key)
        assert value["tensor"].tolist() == [[len(text_of(key))]] * 2
        assert value["pair"][0] == len(text_of(key))
        assert value["pair"][1][0].shape == (0, 3)


def test_a_function_gets_the_bytes_or_the_array_of_one_sample(dataset):
    seen: dict[str, Any] = {}

    def look(name: str) -> Callable[[Any], Any]:
        return lambda value: seen.setdefault(name, value)

    (batch,) = loader(
        dataset,
        samples=[7],
        batch_size=1,
        decode={name: look(name) for name in ("text", "n", "x")},
    )

    assert isinstance(seen["text"], memoryview)
    assert bytes(seen["text"]) == text_of(7)
    assert seen["n"].shape == ()
    assert seen["n"].dtype == np.int64
    assert seen["x"].shape == (3,)
    assert len(batch) == 1


def test_a_value_may_refer_to_the_memory_of_the_batch(dataset):
    view = {"text": lambda payload: np.frombuffer(payload, np.uint8)}

    values = [v for batch in loader(dataset, decode=view, shuffle=False) for v in batch["text"]]
    gc.collect()

    assert [bytes(value) for value in values] == [text_of(key) for key in range(COUNT)]


@pytest.mark.parametrize(("workers", "processes"), WAYS)
def test_a_function_of_batches_replaces_and_adds(dataset, workers, processes):
    for batch in loader(
        dataset, decode=decoders.sums, decode_workers=workers, decode_processes=processes
    ):
        keys = batch.numpy("keys")
        assert batch.fields == ("text", "zipped", "n", "x", "total", "keys_seen")
        assert batch["total"].tolist() == [sum(text_of(key)) for key in keys.tolist()]
        assert batch["n"].tolist() == (keys + 1).tolist()
        assert batch["keys_seen"].tolist() == keys.tolist()
        assert batch.numpy("total").dtype == np.int64
        assert isinstance(batch["text"], RaggedTensor)


@pytest.mark.parametrize("decode", [None, {"n": decoders.doubled}, decoders.sums])
def test_what_collate_returns_is_what_the_loop_gets(dataset, decode):
    def collate(batch: Batch) -> tuple[list[int], list[int]]:
        return batch.keys.tolist(), batch["n"].tolist()

    got = list(loader(dataset, decode=decode, collate=collate))

    assert [keys for keys, _ in got] == key_list(loader(dataset))
    change = {None: lambda k: k, decoders.sums: lambda k: k + 1}.get(
        decode if decode is None or callable(decode) else 0, lambda k: 2 * k
    )
    for keys, n in got:
        assert n == [change(key) for key in keys]


def test_an_epoch_of_no_batches_and_fields_of_no_bytes(dataset):
    assert list(loader(dataset, samples=[], decode={"n": decoders.doubled})) == []
    (batch,) = loader(dataset, samples=[0, 5], batch_size=2, decode={"text": decoders.identity})
    assert batch["text"] == [b"", b""]


def test_an_epoch_with_decode_goes_on_from_any_batch(dataset):
    some = loader(dataset, decode={"n": decoders.doubled})
    whole = key_list(some)

    for first in range(len(some) + 1):
        assert key_list(some.batches(first)) == whole[first:]


def test_replaced_values_behave_like_fields(dataset):
    (batch,) = loader(
        dataset, samples=[1, 2], batch_size=2, shuffle=False, decode=lambda b: {"new": np.ones(2)}
    )
    more = batch.with_values({"n": [1, "two"], "names": np.array(["a", "b"])})

    assert list(more) == ["text", "zipped", "n", "x", "new", "names"]
    assert "new" in more
    assert "names" not in batch
    assert batch["n"].tolist() == [1, 2]
    assert more["n"] == more.numpy("n") == [1, "two"]
    assert more["names"].tolist() == ["a", "b"]  # torch has no text: as it is
    assert more["new"] is more["new"]
    assert set(more.tensors()) == set(more)
    more["new"].fill_(5)
    assert more.numpy("new").tolist() == [5, 5]  # the same memory
    assert more.keys.tolist() == batch.keys.tolist() == [1, 2]
    with pytest.raises(KeyError, match=r"no field 'y' in this batch; it has .*, new, names"):
        more["y"]


# Bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_never_more_than_prefetch_batches_beyond_the_loop(dataset, workers):
    lock, seen = threading.Lock(), set()
    taken, worst = 0, 0

    def watch(row: Any) -> Any:
        nonlocal worst
        with lock:
            seen.add(int(row) // 4)
            worst = max(worst, len(seen) - taken)
        return row

    for _ in loader(
        dataset,
        batch_size=4,
        shuffle=False,
        prefetch=3,
        decode={"n": watch},
        decode_workers=workers,
    ):
        time.sleep(0.002)  # the workers run ahead as far as they may
        with lock:
            taken += 1

    assert taken == 25
    assert worst <= 3 + 1  # the loop counts a batch a moment after it took it


def test_all_workers_decode_one_batch(dataset):
    meeting = threading.Barrier(3, timeout=DEADLINE)
    met: set[int] = set()

    def meet(row: Any) -> Any:
        if len(met) < 3 and threading.get_ident() not in met:
            meeting.wait()  # breaks, and fails, unless three workers are at this batch
            met.add(threading.get_ident())
        return row

    (batch,) = loader(dataset, batch_size=COUNT, decode={"n": meet}, decode_workers=3)

    assert len(met) == 3
    assert len(batch) == COUNT


def test_waits_say_that_the_loop_waited_for_decode(dataset):
    def slow(row: Any) -> Any:
        time.sleep(0.001)
        return row

    some = loader(dataset, decode={"n": slow}, decode_workers=1)
    batches = some.batches()
    list(batches)
    waits = batches.waits

    (stage,) = waits.stages
    assert stage.name == "decode"
    assert stage.busy >= 0.001 * COUNT
    assert waits.consumer_waited > 0
    assert waits.rows == COUNT
    assert some.waits == waits
    del batches
    gc.collect()
    assert some.waits == waits


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "processes"), WAYS)
def test_a_failure_names_batch_key_and_field_after_all_before_it(dataset, workers, processes):
    iterator = iter(
        loader(
            dataset,
            shuffle=False,
            batch_size=10,
            decode={"x": decoders.doubled, "n": decoders.unlucky},
            decode_workers=workers,
            decode_processes=processes,
        )
    )

    good = [next(iterator) for _ in range(5)]

    for _ in range(2):  # the error stays
        with pytest.raises(BatchError, match="batch 5: decode of field 'n' of key 57") as caught:
            next(iterator)
        assert (caught.value.batch, caught.value.key, caught.value.field) == (5, 57, "n")
        assert isinstance(caught.value.__cause__, LookupError)
        assert str(caught.value.__cause__) == "nothing for 57"
    assert joined(key_list(good)) == list(range(50))
    if processes:
        assert any("unlucky" in note for note in caught.value.__cause__.__notes__)


@pytest.mark.parametrize("workers", range(1, 6))
def test_of_several_failures_in_a_batch_the_first_sample_counts(dataset, workers):
    def late_first(row: Any) -> Any:
        time.sleep(0.02 if int(row) < 20 else 0)
        raise LookupError(int(row))

    samples = np.arange(COUNT)[::-1]  # not the smallest key, but the first sample

    with pytest.raises(BatchError) as caught:
        next(
            iter(
                loader(
                    dataset,
                    samples=samples,
                    shuffle=False,
                    batch_size=COUNT,
                    decode={"n": late_first},
                    decode_workers=workers,
                )
            )
        )

    assert caught.value.key == COUNT - 1


def test_a_resumed_epoch_numbers_batches_from_its_beginning(dataset):
    some = loader(dataset, shuffle=False, batch_size=10, decode={"n": decoders.unlucky})

    with pytest.raises(BatchError, match="batch 5"):
        list(some.batches(3))


def test_an_error_of_the_core_comes_at_its_batch_with_decode_too(dataset):
    keys = np.arange(40)
    keys[25] = COUNT + 3
    iterator = iter(
        loader(dataset, samples=keys, shuffle=False, batch_size=10, decode={"n": decoders.doubled})
    )

    assert joined(key_list([next(iterator), next(iterator)])) == list(range(20))
    for _ in range(2):
        with pytest.raises(KeyError, match=f"batch 2: .*{COUNT + 3}"):
            next(iterator)


@pytest.mark.parametrize("processes", [False, True])
def test_a_failure_on_a_batch_names_it(dataset, processes):
    bad = loader(dataset, decode=decoders.raise_on_batch, decode_processes=processes)
    with pytest.raises(BatchError, match="batch 0: decode failed: EOFError: no more") as caught:
        next(iter(bad))
    assert isinstance(caught.value.__cause__, EOFError)
    assert caught.value.key is None

    bad = loader(dataset, decode=decoders.no_mapping, decode_processes=processes)
    with pytest.raises(BatchError, match=r"mapping of names to values, got \[16\]"):
        next(iter(bad))


@pytest.mark.parametrize("error", [StopIteration, KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_collate_raises_is_an_error_of_its_batch(dataset, error):
    def collate(batch: Batch) -> Any:
        if 40 in batch.keys.tolist():
            raise error("no")
        return len(batch)

    iterator = iter(loader(dataset, shuffle=False, batch_size=10, collate=collate))

    assert [next(iterator) for _ in range(4)] == [10] * 4
    with pytest.raises(BatchError, match="batch 4: collate failed") as caught:
        next(iterator)
    assert isinstance(caught.value.__cause__, error)


Bad = tuple[dict[str, Any], type[Exception], str]
BAD: list[Bad] = [
    ({"decode": 5}, TypeError, "mapping of fields to functions, or a function of a batch, got 5"),
    ({"decode": {}}, ValueError, "decode names no field"),
    ({"decode": {"y": len}}, ValueError, "decode: no field 'y' in the batches"),
    ({"decode": {"n": len}, "fields": ["x"]}, ValueError, "no field 'n' .* they have \\('x',\\)"),
    ({"decode": {"n": "len"}}, TypeError, "decode of field 'n' must be callable, got 'len'"),
    ({"decode": len, "decode_workers": 0}, ValueError, "decode_workers must be at least 1, got 0"),
    ({"decode_workers": 1.5}, TypeError, "decode_workers must be an integer"),
    ({"decode_processes": True}, ValueError, "decode_processes=True needs decode="),
    ({"collate": 3}, TypeError, "collate must be callable with a batch, got 3"),
    (
        {"decode": {"n": lambda row: row}, "decode_processes": True},
        TypeError,
        "functions that another process can import",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_a_bad_argument_is_named(dataset, arguments, error, message):
    with pytest.raises(error, match=message):
        loader(dataset, **arguments)


def test_changing_the_mapping_later_changes_nothing(dataset):
    decode = {"n": decoders.doubled}
    some = loader(dataset, samples=[3], decode=decode)

    decode["n"] = decoders.unlucky

    assert next(iter(some))["n"].tolist() == [6]


# Closing ------------------------------------------------------------------------------------------


def test_exhausted_closed_and_abandoned_iterators_leave_no_thread(dataset):
    some = loader(dataset, decode={"n": decoders.doubled}, decode_workers=3)
    list(some)
    before = threads_now()

    for number in range(30):
        iterator = iter(some)
        for _ in range(number % 5):
            next(iterator)
        if number % 2:
            iterator.close()
            iterator.close()
            with pytest.raises(ClosedError):
                next(iterator)
    del iterator

    assert eventually(lambda: threads_now() <= before)
    list(some)
    assert eventually(lambda: threads_now() <= before)


def test_closing_waits_for_no_more_than_the_sample_at_hand(dataset):
    begun, go_on, count = threading.Event(), threading.Event(), 0

    def wait(row: Any) -> Any:
        nonlocal count
        count += 1
        begun.set()
        assert go_on.wait(DEADLINE)
        return row

    iterator = iter(loader(dataset, decode={"n": wait}, decode_workers=1))
    assert begun.wait(DEADLINE)
    closer = threading.Thread(target=iterator.close, daemon=True)
    closer.start()
    assert eventually(lambda: iterator._stage._shared.is_stopped)
    go_on.set()
    closer.join(DEADLINE)

    assert not closer.is_alive()
    assert count == 1


def test_closing_from_another_thread_ends_a_wait(dataset):
    go_on = threading.Event()
    iterator = iter(loader(dataset, decode={"n": lambda row: go_on.wait(DEADLINE)}))
    found: list[BaseException] = []

    def take() -> None:
        try:
            next(iterator)
        except BaseException as error:
            found.append(error)

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    closer = threading.Thread(target=iterator.close, daemon=True)
    closer.start()
    taker.join(DEADLINE)
    go_on.set()
    closer.join(DEADLINE)

    assert [type(error) for error in found] == [ClosedError]
    assert not closer.is_alive()


def test_threads_that_share_an_iterator_get_each_batch_once(dataset):
    iterator = iter(loader(dataset, batch_size=3, decode={"n": decoders.doubled}))
    got: list[list[int]] = [[], [], []]
    barrier = threading.Barrier(3)

    def take(index: int) -> None:
        barrier.wait(DEADLINE)
        for batch in iterator:
            got[index] += batch.keys.tolist()

    threads = [threading.Thread(target=take, args=(i,), daemon=True) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()

    assert sorted(joined(got)) == list(range(COUNT))


def test_garbage_may_be_collected_on_any_thread(dataset):
    """Iterators in cycles are found by whichever thread allocates, their workers included."""

    class Holder:
        pass

    def collect(row: Any) -> Any:
        if int(row) % 8 == 0:
            gc.collect()
        return row

    def drop_one() -> None:
        holder = Holder()
        holder.me, holder.iterator = holder, iter(loader(dataset, decode={"n": decoders.doubled}))
        next(holder.iterator)

    gc.disable()
    try:
        before = threads_now()
        for _ in range(10):
            drop_one()
            drop_one()
            list(loader(dataset, samples=range(20), batch_size=4, decode={"n": collect}))
    finally:
        gc.enable()
    gc.collect()

    assert eventually(lambda: threads_now() <= before)


# Ragged -------------------------------------------------------------------------------------------


def test_ragged_tensors_pad_cut_and_nest(dataset, rand):
    payloads = [torch.arange(n) for n in (3, 0, 5, 1)]

    ragged = RaggedTensor.pack(payloads)

    assert ragged.lengths.tolist() == [3, 0, 5, 1]
    assert [p.tolist() for p in ragged] == [p.tolist() for p in payloads]
    for length in (None, 0, 1, 4, 9):
        padded = ragged.to_padded(length, value=-1)
        wide = 5 if length is None else length
        assert padded.shape == (4, wide)
        assert padded.tolist() == [(p.tolist() + [-1] * 9)[:wide] for p in payloads]
    assert [t.tolist() for t in ragged.to_nested().unbind()] == [p.tolist() for p in payloads]
    assert ragged.to("meta").values.device.type == "meta"
    assert RaggedTensor.pack([]).to_padded().shape == (0, 0)
    assert RaggedTensor.pack([np.zeros(0, np.int32)]).to_padded(3, 7).tolist() == [[7, 7, 7]]
    with pytest.raises(ValueError, match="length must be at least 0, got -1"):
        ragged.to_padded(-1)
    with pytest.raises(ValueError, match="payload 1 must be one-dimensional"):
        RaggedTensor.pack([torch.zeros(2), torch.zeros(2, 2)])


def test_a_bytes_field_pads_to_rows_of_bytes(dataset):
    (batch,) = loader(dataset, samples=[4, 0, 12], batch_size=3, shuffle=False, fields=["text"])

    assert [bytes(row) for row in batch["text"].to_padded(6).numpy()] == [
        b"4444\0\0",
        b"\0" * 6,
        b"1212\0\0",
    ]
