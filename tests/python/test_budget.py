"""A loader's memory stays within its budget, and the budget changes nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import modyn
from modyn.loader.budget import Budget

ROOT = Path(__file__).parents[2]
COUNT = 2000


@pytest.fixture
def dataset(tmp_path):
    dataset = modyn.Dataset.create(tmp_path / "d", schema={"x": "float32[16]", "text": "bytes"})
    x = np.arange(16 * COUNT, dtype=np.float32).reshape(COUNT, 16)
    text = [b"a" * (i * 7919 % 500) for i in range(COUNT)]
    dataset.append({"x": x, "text": text}, labels=range(COUNT), timestamps=range(COUNT))
    yield dataset
    dataset.close()


def contents(loader: modyn.Loader) -> list[tuple[bytes, bytes, bytes]]:
    return [
        (
            batch.numpy("keys").tobytes(),
            batch.numpy("x").tobytes(),
            batch.numpy("text").values.tobytes(),
        )
        for batch in loader
    ]


@pytest.mark.parametrize("budget", [12_000, 50_000, 200_000, 2**40])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_budget_changes_no_batch(dataset, budget, threads):
    keys = np.arange(COUNT)
    options = {"batch_size": 100, "shuffle": "global", "seed": 5}

    free = contents(modyn.Loader(dataset, keys, **options))
    bound = modyn.Loader(
        dataset, keys, **options, threads=threads, prefetch=16, memory_budget=budget
    )

    assert contents(bound) == free


def test_a_batch_larger_than_the_budget_comes_alone(dataset):
    loader = modyn.Loader(
        dataset, np.arange(COUNT), batch_size=100, prefetch=8, threads=3, memory_budget=10_240
    )

    batches = [len(batch.numpy("text").values) for batch in loader]

    assert max(batches) > 10_240
    assert sum(batches) == sum(i * 7919 % 500 for i in range(COUNT))


def test_an_error_comes_where_it_is_with_a_budget(dataset):
    keys = np.arange(COUNT)
    keys[777] = COUNT
    loader = modyn.Loader(dataset, keys, batch_size=100, threads=3, memory_budget=30_000)

    batches = iter(loader)
    for _ in range(7):
        next(batches)
    with pytest.raises(KeyError, match="batch 7"):
        next(batches)


def test_a_budget_for_less_than_a_batch_is_refused(dataset):
    with pytest.raises(
        ValueError, match="memory_budget must hold a batch, which takes 192 bytes, got 1"
    ):
        modyn.Loader(dataset, [0], batch_size=1, fields=["x"], memory_budget=100)
    with pytest.raises(ValueError, match="memory_budget must be at least 1, got 0"):
        modyn.Loader(dataset, [0], batch_size=1, memory_budget=0)
    with pytest.raises(ValueError, match=r"takes \d+ bytes, got 5000"):
        modyn.Loader(dataset, np.arange(COUNT), batch_size=1000, memory_budget=5000)


def test_what_is_reserved_is_taken_from_batches():
    budget = Budget(1000, batch_bytes=100)

    budget.reserve("the resident copy", 700)

    assert budget.for_batches == 300
    assert budget.spare(depth=2) == 100
    assert budget.spare(depth=4) == 0
    with pytest.raises(ValueError, match="1000 bytes cannot hold the resident copy, 700 bytes; "):
        budget.reserve("staged partitions", 201)


def test_without_a_budget_there_is_no_bound():
    budget = Budget(None, batch_bytes=100)

    budget.reserve("the resident copy", 2**50)

    assert budget.for_batches == 0
    assert budget.spare(depth=4) is None


@pytest.mark.parametrize("field", ["fixed", "bytes"])
def test_memory_stays_within_the_budget(tmp_path, field):
    """A batch takes about 4 MiB and 48 could be ahead; there is memory for 8."""
    script = """
        import sys, time
        from pathlib import Path
        import numpy as np, modyn

        def anonymous():
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024

        folder, kind = sys.argv[1:]
        size = 4096
        schema = {"x": f"uint8[{size}]" if kind == "fixed" else "bytes"}
        dataset = modyn.Dataset.create(folder, schema=schema, labels=False)
        for _ in range(16):
            rows = np.zeros((4096, size), np.uint8)
            x = rows if kind == "fixed" else [row[: size - i % 700].tobytes()
                                              for i, row in enumerate(rows)]
            dataset.append({"x": x}, timestamps=np.zeros(4096, np.int64))
        del rows, x
        budget = 32 << 20
        loader = modyn.Loader(dataset, np.arange(len(dataset)), batch_size=1024, threads=3,
                              prefetch=48, memory_budget=budget)
        before, most = anonymous(), 0
        for number, batch in enumerate(loader):
            if number % 8 == 0:
                time.sleep(0.1)  # workers fill what they may
            most = max(most, anonymous() - before)
        print(most - budget, number)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "d"), field],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr
    beyond, last = map(int, done.stdout.split())
    assert last == 63
    assert beyond < 24 << 20  # the loop's own two batches, threads, and what Python needs
