"""Processes that train together share each batch, and none waits for ever."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.loader import Loader

ROOT = Path(__file__).parents[2]
COUNT = 203  # 12 batches of 16, and one of 11
SIZE = 16
DEADLINE = 240

# Joins a world over loopback, and runs each pass; what it got is printed by every rank.
WORKER = """
import json, sys
import numpy as np, modyn, torch
import torch.distributed as dist

torch.set_num_threads(1)
path, passes, store, rank, size = sys.argv[1:]
before = modyn.Loader(modyn.Dataset.open(path), [1], batch_size=1)
assert (before._rank, before._world_size) == (0, 1)
dist.init_process_group(
    "gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(size)
)
data = modyn.Dataset.open(path)
got = []
for options in json.loads(passes):
    count, state = options.pop("count"), options.pop("state", None)
    steps = options.pop("steps", 10**9)
    loader = modyn.Loader(data, np.arange(count), **options)
    assert (loader._rank, loader._world_size) == (dist.get_rank(), dist.get_world_size())
    if state is not None:
        loader.load_state_dict(state)
    keys = []
    iterator = iter(loader)
    while len(keys) < steps:
        batch = next(iterator, None)
        total = torch.tensor([0 if batch is None else int(batch.labels.sum())])
        dist.all_reduce(total)  # hangs if the ranks had not as many steps
        if batch is None:
            break
        keys.append([batch.numpy("keys").tolist(), int(total)])
    got.append([keys, loader.state_dict()])
print(json.dumps(got), flush=True)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks") / "data"
    with modyn.Dataset.create(path, schema={"text": "bytes"}) as writer:
        keys = np.arange(COUNT)
        texts = [bytes(int(key) % 31) for key in keys]
        writer.append({"text": texts}, labels=keys * 7, timestamps=keys)
    return path


def world(path: Path, size: int, passes: list[dict[str, Any]]) -> list[Any]:
    """What each rank of a world of this size printed: by pass, its batches and its state."""
    store = path.parent / f"store-{os.urandom(4).hex()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    processes = []
    try:
        for rank in range(size):
            arguments = map(str, (path, json.dumps(passes), store, rank, size))
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-c", WORKER, *arguments],
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        printed = [process.communicate(timeout=DEADLINE)[0] for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert [process.returncode for process in processes] == [0] * size
    return [json.loads(text) for text in printed]


def alone(path: Path, options: dict[str, Any]) -> list[list[int]]:
    given = {name: value for name, value in options.items() if name not in ("steps", "state")}
    with modyn.Dataset.open(path) as dataset:
        loader = Loader(dataset, np.arange(given.pop("count")), **given)
        return [batch.numpy("keys").tolist() for batch in loader]


def joined(ranks: list[Any], number: int) -> list[list[int]]:
    """The batches of all ranks in a pass; the ranks agree on how many, and on the sums."""
    shares = [rank[number][0] for rank in ranks]
    assert len({len(share) for share in shares}) == 1
    batches = []
    for step in zip(*shares, strict=True):
        keys = [key for share, _ in step for key in share]
        assert {total for _, total in step} == {7 * sum(keys)}
        batches.append(keys)
    return batches


PASSES: list[dict[str, Any]] = [
    {"count": count, "batch_size": SIZE, "seed": 3, **options}
    for count in (COUNT, 192, 3, 16, 195)
    for options in (
        {"shuffle": "global"},
        {"shuffle": False, "drop_last": True},
        {"shuffle": "partition", "partition_size": 40, "bucket_by": "text", "bucket_batches": 3},
    )
]


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_of_torch_distributed_share_each_batch_and_none_hangs(path, size):
    ranks = world(path, size, PASSES)

    for number, options in enumerate(PASSES):
        expected = alone(path, options)
        got = joined(ranks, number)
        states = [rank[number][1] for rank in ranks]

        assert all(state == states[0] for state in states)
        assert states[0]["complete"]
        if expected and len(expected[-1]) < size:  # filled up, so that each has something
            assert got[-1][: len(expected[-1])] == expected[-1]
            assert len(got[-1]) == size
            got[-1] = expected[-1]
        assert got == expected


def test_a_training_goes_on_in_a_world_of_another_size(path):
    options = {"count": COUNT, "batch_size": SIZE, "seed": 3, "shuffle": "global"}
    whole = alone(path, options)
    got: list[list[int]] = []
    state = None
    for size, steps in ((2, 3), (4, 4), (1, 10**9)):
        ranks = world(path, size, [{**options, "state": state, "steps": steps}])
        got += joined(ranks, 0)
        state = ranks[-1][0][1]

    assert got == whole


# Without torch.distributed -----------------------------------------------------------------------


def test_alone_is_rank_0_of_1(path):
    with modyn.Dataset.open(path) as dataset:
        loader = Loader(dataset, [1], batch_size=1)

        assert (loader._rank, loader._world_size) == (0, 1)
        with pytest.raises(ValueError, match="or neither of them; got rank=1 and world_size=None"):
            Loader(dataset, [1], batch_size=1, rank=1)
        with pytest.raises(ValueError, match="got rank=None and world_size=2"):
            Loader(dataset, [1], batch_size=2, world_size=2)


def test_looking_for_ranks_does_not_import_torch(path):
    script = """
import sys, modyn
loader = modyn.Loader(modyn.Dataset.open(sys.argv[1]), [1, 2], batch_size=2)
next(iter(loader)).numpy("text")
assert not [name for name in sys.modules if name.split(".")[0] == "torch"]
"""
    command = [sys.executable, "-c", script, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, timeout=DEADLINE)
