"""A loader inside of torch's DataLoader: the same batches in the same order, whoever fills them."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import modyn
from modyn.loader import Loader, RaggedTensor

ROOT = Path(__file__).parents[2]
COUNT = 200
SIZE = 16
BATCHES = 13
DEADLINE = 60

Stream = list[list[int]]

pytestmark = [
    # Of torch, where there are fewer processors than workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    # Of Python 3.12 and later: our locks are made for forks, which is what is tested here.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "data"
    with modyn.Dataset.create(path, schema={"n": "int64", "text": "bytes"}) as writer:
        keys = np.arange(COUNT)
        texts = [b"%d" % key * (key % 5) for key in keys]
        writer.append({"n": keys * keys, "text": texts}, labels=keys % 7, timestamps=keys)
    return path


@pytest.fixture
def dataset(path: Path) -> Iterator[modyn.Dataset]:
    with modyn.Dataset.open(path) as opened:
        yield opened


def loader_of(dataset: modyn.Dataset, **options: Any) -> Loader:
    given: dict[str, Any] = {"batch_size": SIZE, "shuffle": "global", "seed": 5}
    return Loader(dataset, np.arange(COUNT), **(given | options))


def torch_loader(loader: Loader, workers: int, method: str = "fork", **options: Any) -> Any:
    context = method if workers else None
    if workers:
        options = {"timeout": DEADLINE} | options
    return DataLoader(
        loader.torch_dataset(),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context,
        **options,
    )


def stream(items: Any) -> Stream:
    """The keys of items; all else in them is held against the keys."""
    lists = []
    for item in items:
        keys = item["keys"].tolist()
        assert item["n"].tolist() == [key * key for key in keys]
        assert item["labels"].tolist() == [key % 7 for key in keys]
        assert isinstance(item["text"], RaggedTensor)
        texts = [bytes(text.numpy()) for text in item["text"]]
        assert texts == [b"%d" % key * (key % 5) for key in keys]
        lists.append(keys)
    return lists


def expected_of(loader: Loader, epoch: int = 0) -> Stream:
    """All of an epoch, from a copy that knows no place."""
    own = pickle.loads(pickle.dumps(loader))
    own.set_epoch(epoch)
    return [batch.numpy("keys").tolist() for batch in own.batches(0)]


# The stream --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("options", [{}, {"shuffle": False, "drop_last": True, "threads": 1}])
def test_workers_together_give_the_batches_in_order(dataset, workers, options):
    loader = loader_of(dataset, **options)
    expected = expected_of(loader)

    items = torch_loader(loader, workers)

    assert len(items) == len(expected)
    assert stream(items) == expected
    assert stream(items) == expected  # an iteration is as good as the next


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_inherit_nothing_do_too(dataset, method):
    loader = loader_of(dataset, weights=np.arange(COUNT) / 2)

    items = list(torch_loader(loader, 2, method))

    assert stream(items) == expected_of(loader)
    for item in items:
        assert torch.equal(item["weights"] * 2, item["keys"].to(torch.float64))


def test_more_workers_than_batches_have_nothing_to_do(dataset):
    loader = loader_of(dataset, batch_size=150)

    assert stream(torch_loader(loader, 4)) == expected_of(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_no_sample_is_no_batch(dataset, workers):
    loader = Loader(dataset, [], batch_size=5)

    assert list(torch_loader(loader, workers)) == []


def test_an_endless_pass_goes_on_until_it_is_left(dataset):
    loader = loader_of(dataset, num_samples_to_pass=math.inf)
    expected = [b.numpy("keys").tolist() for _, b in zip(range(40), loader, strict=False)]

    items = torch_loader(loader, 2)

    assert stream(item for _, item in zip(range(40), items, strict=False)) == expected
    with pytest.raises(TypeError):
        len(items)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_batches(dataset, workers):
    whole = expected_of(loader_of(dataset))
    shares = [
        stream(torch_loader(loader_of(dataset, rank=rank, world_size=2), workers))
        for rank in range(2)
    ]

    assert [one + two for one, two in zip(*shares, strict=True)] == whole


def test_an_item_holds_keys_unless_a_field_has_that_name(tmp_path):
    with modyn.Dataset.create(tmp_path / "d", schema={"keys": "int8"}, labels=False) as made:
        made.append({"keys": [5, 6]}, timestamps=[0, 1])
        (item,) = Loader(made, [1, 0], batch_size=2).torch_dataset()

        assert {name: part.tolist() for name, part in item.items()} == {"keys": [6, 5]}


# Errors and ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_worker_is_raised_in_its_place(dataset, workers):
    keys = np.arange(80)
    keys[55] = 10**6
    items = iter(torch_loader(Loader(dataset, keys, batch_size=10), workers))

    good = [next(items)["keys"].tolist() for _ in range(5)]

    assert good == keys[:50].reshape(5, 10).tolist()
    with pytest.raises(KeyError, match=r"batch 5: .*key 1000000"):
        next(items)


def children() -> set[int]:
    return {process.pid for process in multiprocessing.active_children() if process.pid}


def test_an_iteration_that_is_left_early_ends_its_workers(dataset):
    before = children()
    for left in (0, 1, 5):
        items = iter(torch_loader(loader_of(dataset), 2))
        for _ in range(left):
            next(items)
        assert len(children() - before) == 2
        del items
        assert children() <= before


PARENT = """
import os, signal, sys, modyn, multiprocessing, numpy as np
from torch.utils.data import DataLoader
def main():
    data = modyn.Dataset.open(sys.argv[1])
    loader = modyn.Loader(data, np.arange(200), batch_size=1, num_samples_to_pass=10**9)
    items = iter(DataLoader(loader.torch_dataset(), batch_size=None, num_workers=2,
                            multiprocessing_context=sys.argv[2]))
    for _ in zip(range(20), items):
        pass
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    for _ in items:
        pass
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def parent(path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Any, list[int]]]:
    """A process that iterates for ever with two workers, which are named, too."""
    file = path.parent / "parent.py"
    file.write_text(PARENT)
    command = [sys.executable, "-W", "ignore", str(file), str(path), request.param]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    workers: list[int] = []
    try:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        yield process, workers
    finally:
        process.kill()
        for pid in filter(is_running, workers):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("parent", ["fork", "spawn", "forkserver"], indirect=True)
def test_workers_end_when_their_parent_is_killed(parent):
    process, workers = parent

    process.kill()
    process.wait()

    assert all_end(workers)


@pytest.mark.parametrize("parent", ["fork"], indirect=True)
def test_a_worker_that_is_killed_is_reported_and_all_end(parent):
    process, workers = parent

    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=DEADLINE)

    # Of torch; or of a connection, when it was just about to take a tensor from that worker.
    assert "Error" in errors
    assert process.returncode == 1
    assert all_end(workers)


def all_end(workers: list[int]) -> bool:
    """Whether they end, all before the deadline."""
    deadline = time.monotonic() + DEADLINE
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(is_running, workers))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Epochs and places -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "options"),
    [(0, {}), (2, {}), (2, {"persistent_workers": True}), (3, {"prefetch_factor": 1})],
)
def test_epochs_reach_the_workers(dataset, workers, options):
    loader = loader_of(dataset)
    items = torch_loader(loader, workers, **options)
    for number, epoch in enumerate((0, 1, 5, 1, 2**64 - 1)):
        (loader if number % 2 else items.dataset).set_epoch(epoch)

        assert items.dataset.epoch == epoch
        assert stream(items) == expected_of(loader, epoch)


def test_persistent_workers_that_inherit_nothing_hear_of_epochs_and_places(dataset):
    loader = loader_of(dataset)
    items = torch_loader(loader, 2, "spawn", persistent_workers=True)
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        assert stream(items) == expected_of(loader, epoch)
    loader.load_state_dict(loader.state_at(7))

    assert stream(items) == expected_of(loader, 3)[7:]
    assert stream(items) == expected_of(loader, 3)


@pytest.mark.parametrize(
    ("workers", "options"), [(0, {}), (2, {}), (2, {"persistent_workers": True})]
)
@pytest.mark.parametrize("batch", [0, 1, 7, 12, 13])
def test_a_place_is_gone_on_from_and_epochs_follow(dataset, workers, options, batch):
    loader = loader_of(dataset, epoch=3)
    state = loader.state_at(batch)
    resumed = loader_of(dataset)
    items = torch_loader(resumed, workers, **options)
    if options:
        stream(items)  # the workers are there before the state is loaded
    items.dataset.load_state_dict(state)
    got = []
    for epoch in range(items.dataset.epoch, 6):
        items.dataset.set_epoch(epoch)
        got += stream(items)

    rest = [expected_of(loader, epoch) for epoch in (3, 4, 5)]
    assert got == list(itertools.chain.from_iterable(rest))[batch:]


def test_new_workers_do_not_begin_in_the_middle_twice(dataset):
    loader = loader_of(dataset)
    whole = expected_of(loader)
    items = torch_loader(loader, 2)
    loader.load_state_dict(loader.state_at(10))

    assert stream(items) == whole[10:]
    with pytest.raises(RuntimeError, match=r"began at batch 10 of epoch 0.*call set_epoch before"):
        stream(items)
    loader.set_epoch(0)
    assert stream(items) == whole  # it was gone on from
    assert stream(items) == whole


def test_persistent_workers_go_on_to_the_first_batch(dataset):
    loader = loader_of(dataset)
    items = torch_loader(loader, 2, persistent_workers=True)
    loader.load_state_dict(loader.state_at(10))

    assert stream(items) == expected_of(loader)[10:]
    assert stream(items) == expected_of(loader)
    assert stream(loader_items(loader)) == expected_of(loader)


def loader_items(loader: Loader) -> Any:
    """The loader itself, after workers went on where it was to."""
    return loader.torch_dataset()


def test_the_end_of_an_epoch_reaches_the_workers(dataset):
    """A state that is complete: nothing is left of the epoch that set_epoch names again."""
    done = loader_of(dataset)
    list(done)
    loader = loader_of(dataset)
    items = torch_loader(loader, 2)

    loader.load_state_dict(done.state_dict())
    assert stream(items) == expected_of(loader)  # the next iteration
    loader.load_state_dict(done.state_dict())
    loader.set_epoch(0)
    assert stream(items) == []
    loader.set_epoch(1)
    assert stream(items) == expected_of(loader, 1)


def test_a_copied_dataset_has_a_board_of_its_own(dataset):
    loader = loader_of(dataset)
    one = loader.torch_dataset()
    two = pickle.loads(pickle.dumps(one))

    two.set_epoch(4)

    assert (one.epoch, two.epoch) == (0, 4)
    assert stream(DataLoader(two, batch_size=None, num_workers=2)) == expected_of(loader, 4)
    assert stream(DataLoader(one, batch_size=None, num_workers=2)) == expected_of(loader)
