"""An epoch that is interrupted goes on where it was: every place, any number of times."""

from __future__ import annotations

import copy
import json
import math
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.loader import Loader
from modyn.trainset import TrainingSet

COUNT = 200
SIZE = 16  # of a batch: 12 whole ones, and one of 8
BATCHES = 13

Stream = list[list[int]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "data"
    with modyn.Dataset.create(path, schema={"n": "int64", "text": "bytes"}) as writer:
        keys = np.arange(COUNT)
        texts = [b"%d" % key * (key % 5) for key in keys]
        writer.append({"n": keys * keys, "text": texts}, labels=keys % 7, timestamps=keys)
    return path


@pytest.fixture
def dataset(path: Path) -> Iterator[modyn.Dataset]:
    with modyn.Dataset.open(path) as opened:
        yield opened


def loader_of(dataset: Any, **options: Any) -> Loader:
    given: dict[str, Any] = {"batch_size": SIZE, "shuffle": "global", "seed": 5, "epoch": 2}
    return Loader(dataset, np.arange(COUNT), **(given | options))


def stream(batches: Any) -> Stream:
    """The keys of batches; their content is held against the keys, too."""
    lists = []
    for batch in batches:
        keys = batch.numpy("keys").tolist()
        assert batch.numpy("n").tolist() == [key * key for key in keys]
        lists.append(keys)
    return lists


def take(iterator: Any, count: int) -> Stream:
    return stream(next(iterator) for _ in range(count))


def sent(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a file of JSON gives it back."""
    text = json.dumps(state, allow_nan=False)
    loaded: dict[str, Any] = json.loads(text)
    assert loaded == state
    return loaded


# Where it goes on --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, 50])
def test_partitions_and_windows_of_another_size_are_refused(dataset, size):
    one = loader_of(dataset, shuffle="partition", partition_size=48)
    other = loader_of(dataset, shuffle="partition", partition_size=size)
    with pytest.raises(ValueError, match=rf"^partition_size is {size} here and was 48 when"):
        other.load_state_dict(one.state_at(1))

    one = loader_of(dataset, bucket_by="text", bucket_batches=48)
    other = loader_of(dataset, bucket_by="text", bucket_batches=size)
    with pytest.raises(ValueError, match=rf"^bucket_batches is {size} here and was 48 when"):
        other.load_state_dict(one.state_at(1))


def test_an_endless_pass_has_a_state_of_any_number(dataset):
    loader = loader_of(dataset, num_samples_to_pass=math.inf)
    state = sent(loader.state_at(10**12))
    loader.load_state_dict(state)
    first, second = take(iter(loader), 2)

    assert loader.state_dict()["batch"] == 10**12 + 2
    loader.load_state_dict(loader.state_at(10**12 + 1))
    assert take(iter(loader), 1) == [second] != [first]


def test_a_share_of_a_pass_is_not_what_the_state_is_about(dataset):
    loader = loader_of(dataset)
    take(iter(loader), 4)

    assert len(stream(loader.batches(1, stride=3))) == 4
    assert loader.state_dict() == loader.state_at(4)


@pytest.mark.parametrize("shuffle", ["global", False])
def test_an_epoch_goes_on_behind_every_batch(dataset, shuffle):
    whole = stream(loader_of(dataset, shuffle=shuffle))
    iterator = iter(giver := loader_of(dataset, shuffle=shuffle))

    for batch in range(BATCHES + 1):
        state = sent(giver.state_dict())
        resumed = loader_of(dataset, shuffle=shuffle, epoch=9, threads=1 + batch % 4, prefetch=3)
        resumed.load_state_dict(state)

        assert resumed.epoch == 2
        assert resumed.state_dict() == state == giver.state_at(batch)
        assert stream(resumed) == whole[batch:]
        assert (state["epoch"], state["batch"], state["complete"]) == (2, batch, False)
        if batch < BATCHES:
            next(iterator)


ORDERS: dict[str, dict[str, Any]] = {
    "global": {},
    "given": {"shuffle": False},
    "partition": {"shuffle": "partition", "partition_size": 48},
    "buckets": {"bucket_by": "text", "bucket_batches": 4},
    "long pass": {"num_samples_to_pass": 300},
    "endless": {"num_samples_to_pass": math.inf},
    "drop_last": {"drop_last": True},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("threads", "world"), [(1, 1), (1, 4), (2, 2), (4, 1), (4, 4)])
def test_three_resumes_at_every_batch_give_the_same_stream(dataset, order, threads, world):
    """Resumed at a, at b and at c, for every a and some steps; each time in another world."""

    def ranks_of(resumes: int, state: dict[str, Any] | None) -> list[Loader]:
        size = (1, 2, 4)[({1: 0, 2: 1, 4: 2}[world] + resumes) % 3]
        other = {"threads": 1 + (threads + resumes) % 4, "prefetch": 1 + resumes}
        if resumes == 0:
            size, other = world, {"threads": threads}
        loaders = [
            loader_of(dataset, rank=rank, world_size=size, **other, **ORDERS[order])
            for rank in range(size)
        ]
        for loader in loaders if state else ():
            loader.load_state_dict(state)
        return loaders

    def run(loaders: list[Loader], steps: int) -> Stream:
        """Each batch of all ranks, joined; all of them have as many steps."""
        shares = zip(*loaders, strict=True)
        return [
            [key for batch in share for key in stream([batch])[0]]
            for _, share in zip(range(steps), shares, strict=False)
        ]

    loader = loader_of(dataset, threads=threads, **ORDERS[order])
    until = 30 if order == "endless" else len(loader)
    whole = run([loader], until)
    for first in range(until + 1):
        for step in (0, 1, 5):
            got: Stream = []
            loaders = ranks_of(0, None)
            for resumes, stop in enumerate((first, first + step, first + 2 * step)):
                got += run(loaders, min(stop, until) - len(got))
                states = [sent(each.state_dict()) for each in loaders]
                assert all(state == states[0] for state in states)
                loaders = ranks_of(resumes + 1, states[-1])
            got += run(loaders, until - len(got) if order == "endless" else 10**9)

            assert got == whole


def test_what_is_prefetched_is_not_counted(dataset):
    loader = loader_of(dataset, prefetch=32)
    iterator = iter(loader)

    assert [loader.state_dict()["batch"] for _ in zip(range(5), iterator, strict=False)] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_state_before_any_iteration_is_the_first_batch(dataset):
    loader = loader_of(dataset)

    state = loader.state_dict()

    assert (state["epoch"], state["batch"], state["complete"]) == (2, 0, False)
    loader.set_epoch(7)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"], state["complete"]) == (7, 0, False)


# The end of an epoch -----------------------------------------------------------------------------


def test_behind_the_last_batch_the_rest_is_empty_and_then_an_epoch_follows(dataset):
    whole = stream(loader_of(dataset))
    iterator = iter(loader := loader_of(dataset))
    take(iterator, BATCHES)
    state = sent(loader.state_dict())
    resumed = loader_of(dataset)
    resumed.load_state_dict(state)

    assert not state["complete"]
    assert stream(resumed) == []
    assert resumed.state_dict()["complete"]
    assert stream(resumed) == whole


def test_after_a_complete_iteration_the_next_one_is_a_new_one(dataset):
    whole = stream(loader_of(dataset))
    next_epoch = stream(loader_of(dataset, epoch=3))
    stream(loader := loader_of(dataset))
    state = sent(loader.state_dict())

    assert (state["epoch"], state["batch"], state["complete"]) == (2, BATCHES, True)
    for give, expected in (("none", whole), ("next", next_epoch), ("same", [])):
        resumed = loader_of(dataset, epoch=0)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        if give != "none":
            resumed.set_epoch(3 if give == "next" else 2)
        assert stream(resumed) == expected, give


@pytest.mark.parametrize("stop", range(2 * BATCHES + 3))
def test_the_loop_over_epochs_trains_on_each_batch_once(dataset, stop):
    """The loop of the documentation, interrupted after any of its steps and at ends of epochs."""
    done: list[tuple[int, list[int]]] = []
    states: list[dict[str, Any]] = []

    def train(loader: Loader, steps: int) -> None:
        for epoch in range(loader.epoch, 4):
            loader.set_epoch(epoch)
            for batch in loader:
                done.append((epoch, batch.numpy("keys").tolist()))
                states.append(loader.state_dict())
                steps -= 1
                if steps == 0:
                    return
            states.append(loader.state_dict())
            steps -= 1
            if steps == 0:
                return

    train(loader_of(dataset), 10**9)
    expected, done, states = done, [], []
    train(loader_of(dataset), stop + 1)
    resumed = loader_of(dataset, epoch=0)
    resumed.load_state_dict(sent(states[-1]))
    train(resumed, 10**9)

    assert done == expected


# Which iteration a state is about ----------------------------------------------------------------


def test_of_two_iterators_the_one_begun_last_counts(dataset):
    whole = stream(loader_of(dataset))
    loader = loader_of(dataset)
    one = iter(loader)
    take(one, 5)
    two = iter(loader)
    take(two, 2)
    take(one, 4)

    assert loader.state_dict()["batch"] == 2
    assert take(one, BATCHES - 9) + take(two, 1) == [*whole[9:], whole[2]]
    assert loader.state_dict()["batch"] == 3
    with pytest.raises(StopIteration):
        next(one)
    assert not loader.state_dict()["complete"]


def test_an_iterator_that_was_left_keeps_its_place(dataset):
    whole = stream(loader_of(dataset))
    loader = loader_of(dataset)
    for _ in zip(range(4), loader, strict=False):
        pass
    state = loader.state_dict()

    assert stream(loader) == whole  # a new iteration of the same loader is a new one
    loader.load_state_dict(state)
    assert stream(loader) == whole[4:]


def test_an_iterator_begun_before_a_load_goes_on_and_does_not_count(dataset):
    whole = stream(loader_of(dataset))
    loader = loader_of(dataset)
    old = iter(loader)
    take(old, 2)
    loader.load_state_dict(loader.state_at(7))

    assert take(old, 3) == whole[2:5]
    assert loader.state_dict()["batch"] == 7
    assert stream(loader) == whole[7:]


def test_a_loaded_place_is_gone_on_from_once(dataset):
    whole = stream(loader_of(dataset))
    loader = loader_of(dataset)
    loader.load_state_dict(loader.state_at(10))

    assert stream(loader) == whole[10:]
    assert stream(loader) == whole


def test_setting_the_loaded_epoch_keeps_the_place_and_another_drops_it(dataset):
    whole = stream(loader_of(dataset))
    loader = loader_of(dataset)
    state = loader.state_at(10)

    loader.load_state_dict(state)
    loader.set_epoch(2)
    assert loader.state_dict() == state
    assert stream(loader) == whole[10:]

    loader.load_state_dict(state)
    loader.set_epoch(3)
    assert stream(loader) == stream(loader_of(dataset, epoch=3))
    loader.set_epoch(2)
    assert stream(loader) == whole


def test_batches_from_a_number_count_from_there(dataset):
    loader = loader_of(dataset)
    loader.load_state_dict(loader.state_at(10))

    iterator = loader.batches(3)
    next(iterator)

    assert loader.state_dict()["batch"] == 4
    loader.load_state_dict(loader.state_dict())
    assert loader.state_dict()["batch"] == 4


def test_a_failed_batch_is_not_passed_over(dataset):
    keys = np.arange(80)
    keys[25] = 10**6
    loader = Loader(dataset, keys, batch_size=10)

    with pytest.raises(KeyError, match="batch 2"):
        list(loader)

    assert loader.state_dict()["batch"] == 2


def test_threads_that_share_an_iterator_lose_no_count(dataset):
    loader = Loader(dataset, np.arange(COUNT), batch_size=1)
    iterator = iter(loader)
    barrier = threading.Barrier(4)

    def consume() -> None:
        barrier.wait(60)
        for _ in range(45):
            next(iterator)

    threads = [threading.Thread(target=consume, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert loader.state_dict()["batch"] == 180
    assert len(stream(iterator)) == 20


# What is refused ---------------------------------------------------------------------------------


def test_whatever_changes_the_batches_is_refused_by_name(dataset, tmp_path):
    state = loader_of(dataset).state_at(3)
    with modyn.Dataset.create(tmp_path / "other", schema={"n": "int64"}) as other:
        keys = np.arange(COUNT)
        other.append({"n": keys}, labels=keys, timestamps=keys)
        others = {
            "batch_size": loader_of(dataset, batch_size=17),
            "seed": loader_of(dataset, seed=6),
            "shuffle": loader_of(dataset, shuffle=False),
            "drop_last": loader_of(dataset, drop_last=True),
            "num_samples_to_pass": loader_of(dataset, num_samples_to_pass=math.inf),
            "bucket_by": loader_of(dataset, bucket_by="text"),
            "dataset": loader_of(other),
            "count": Loader(
                dataset, np.arange(10), batch_size=SIZE, shuffle="global", seed=5, epoch=2
            ),
            "samples": Loader(
                dataset, np.arange(COUNT)[::-1], batch_size=SIZE, shuffle="global", seed=5
            ),
        }
        for name, loader in others.items():
            before = loader.state_dict()
            values = rf"{before['plan'][name]!r} here and was {state['plan'][name]!r}"
            with pytest.raises(ValueError, match=f"^{name} is {values} when"):
                loader.load_state_dict(state)
            assert loader.state_dict() == before


def test_what_changes_no_batch_is_not_looked_at(dataset):
    state = loader_of(dataset).state_at(3)
    whole = stream(loader_of(dataset))

    for options in (
        {"threads": 4},
        {"prefetch": 1},
        {"fields": ["n"]},
        {"epoch": 77},
        {"partition_size": 5},  # of a global shuffle
        {"bucket_batches": 5},  # without buckets
    ):
        loader = loader_of(dataset, **options)
        loader.load_state_dict(state)
        assert stream(loader) == whole[3:]


BAD_STATES: list[tuple[dict[str, Any], str]] = [
    ({"version": 99}, "version 99; this modyn reads 1"),
    ({"version": None}, "version None"),
    ({"plan": None}, "plan must be a dictionary in the state, got None"),
    ({"plan": {}}, "dataset is '[0-9a-f]{32}' here and was None"),
    ({"epoch": -1}, "epoch must be 0 to 18446744073709551615 in the state, got -1"),
    ({"epoch": 2**64}, "epoch must be"),
    ({"epoch": None}, "epoch must be .* got None"),
    ({"batch": -1}, "batch must be 0 to 13 in the state, got -1"),
    ({"batch": 14}, "batch must be 0 to 13 in the state, got 14"),
    ({"batch": 1.0}, "batch must be .* got 1.0"),
    ({"batch": True}, "batch must be .* got True"),
    ({"complete": None}, "complete must be true or false in the state, got None"),
    ({"complete": True}, "complete with 3 of 13 batches"),
]


@pytest.mark.parametrize(("change", "message"), BAD_STATES)
def test_a_state_that_is_none_is_refused(dataset, change, message):
    loader = loader_of(dataset)
    before = loader.state_dict()

    with pytest.raises(ValueError, match=message):
        loader.load_state_dict(loader.state_at(3) | change)

    assert loader.state_dict() == before


def test_a_setting_that_only_the_state_has_is_refused(dataset):
    loader = loader_of(dataset)
    state = copy.deepcopy(loader.state_at(3))
    state["plan"]["mixed"] = "yes"

    with pytest.raises(ValueError, match=r"^mixed is None here and was 'yes'"):
        loader.load_state_dict(state)
    with pytest.raises(TypeError, match="state must be what state_dict returned, got list"):
        loader.load_state_dict([])
    with pytest.raises(ValueError, match="batch must be at most 13, got 14"):
        loader.state_at(14)


# What identifies the samples ---------------------------------------------------------------------


def test_a_training_set_is_known_by_its_digest(dataset, tmp_path):
    chosen = TrainingSet.write(tmp_path, np.arange(COUNT), np.ones(COUNT))
    other = TrainingSet.write(tmp_path, np.arange(COUNT), np.full(COUNT, 2.0))
    loader = Loader(dataset, chosen, batch_size=SIZE)

    state = loader.state_at(4)

    assert state["plan"]["samples"] == chosen.digest
    Loader(dataset, TrainingSet.open(chosen.path), batch_size=SIZE).load_state_dict(state)
    with pytest.raises(ValueError, match=f"^samples is '{other.digest}' here and was"):
        Loader(dataset, other, batch_size=SIZE).load_state_dict(state)


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 10_000])
def test_keys_and_weights_have_a_fingerprint(dataset, count):
    def fingerprint(keys: Any, weights: Any = None) -> str:
        loader = Loader(dataset, keys, weights=weights, batch_size=SIZE)
        print_: str = loader.state_dict()["plan"]["samples"]
        return print_

    keys, ones = np.arange(count), np.ones(count)
    found = [fingerprint(keys), fingerprint(np.arange(count + 1)), fingerprint(keys + 1)]
    if count > 0:
        found += [fingerprint(keys, ones), fingerprint(keys, 2 * ones)]
        last, first = keys.copy(), keys.copy()
        last[-1] += 7
        first[0] += 5
        found += [fingerprint(last), fingerprint(first)]

    assert fingerprint(keys.tolist()) == found[0]
    assert len(set(found)) == (len(found) if count > 0 else 2)  # no keys are no keys plus 1


# Copies ------------------------------------------------------------------------------------------


def test_a_pickled_loader_opens_the_dataset_when_it_is_used(path, tmp_path):
    opened = modyn.Dataset.open(path)
    chosen = TrainingSet.write(tmp_path, np.arange(50), np.arange(50.0))
    loader = Loader(opened, chosen, batch_size=SIZE, shuffle="global", seed=3, fields=["n"])
    expected = stream(loader)
    text = pickle.dumps(loader)
    opened.close()

    copied = pickle.loads(text)

    assert len(text) < 2000  # paths, not samples
    assert copied._process is None
    assert len(copied) == len(loader)
    assert stream(copied) == expected
    assert next(iter(copied)).numpy("weights").tolist() == [float(key) for key in expected[0]]
    assert copied.state_dict()["plan"] == loader.state_dict()["plan"]


def test_keys_of_a_caller_are_pickled_with_their_loader(dataset):
    loader = loader_of(dataset, weights=np.arange(COUNT) / 2)

    assert stream(pickle.loads(pickle.dumps(loader))) == stream(loader)


def test_an_iteration_is_not_pickled_and_a_place_is(dataset):
    whole = stream(loader_of(dataset))
    loader = loader_of(dataset)
    take(iter(loader), 4)
    assert stream(pickle.loads(pickle.dumps(loader))) == whole

    loader.load_state_dict(loader.state_at(5))
    copied = pickle.loads(pickle.dumps(loader))
    assert copied.state_dict() == loader.state_dict()
    assert stream(copied) == whole[5:]
    assert stream(loader) == whole[5:]
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(iter(loader))


def test_what_is_not_there_any_more_is_an_error_that_says_so(tmp_path):
    def make(rows: int) -> modyn.Dataset:
        made = modyn.Dataset.create(tmp_path / "d", schema={"n": "int64"}, labels=False)
        made.append({"n": np.arange(rows) ** 2}, timestamps=np.arange(rows))
        return made

    with make(10) as made:
        chosen = TrainingSet.write(tmp_path, [1, 2])
        other = TrainingSet.write(tmp_path, [1, 2, 3])
        text = pickle.dumps(Loader(made, chosen, batch_size=2))
    assert stream(pickle.loads(text)) == [[1, 2]]

    Path(chosen.path).rename(tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match=str(chosen.path)):
        len(pickle.loads(text))
    Path(chosen.path).write_bytes(Path(other.path).read_bytes())
    with pytest.raises(Exception, match=chosen.digest):
        len(pickle.loads(text))
    (tmp_path / "d").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "d")):
        len(pickle.loads(text))
    make(10).close()
    with pytest.raises(ValueError, match="is another dataset than when the loader was pickled"):
        len(pickle.loads(text))


def test_a_dataset_that_has_grown_is_the_same(tmp_path):
    with modyn.Dataset.create(tmp_path / "d", schema={"n": "int64"}, labels=False) as made:
        made.append({"n": np.arange(10) ** 2}, timestamps=np.arange(10))
        loader = Loader(made, np.arange(10), batch_size=4)
        text = pickle.dumps(loader)
        made.append({"n": np.arange(10)}, timestamps=np.arange(10))

        assert stream(pickle.loads(text)) == stream(loader)


def test_infinity_is_no_json():
    """What `sent` stands on."""
    with pytest.raises(ValueError, match="JSON"):
        json.dumps(math.inf, allow_nan=False)
