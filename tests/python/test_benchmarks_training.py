"""The training loop of the benchmarks and who feeds it, on tiny data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.loading import training, training_rivals  # noqa: E402
from benchmarks.loading.ground import Ground  # noqa: E402
from benchmarks.loading.site import Site  # noqa: E402

# Warnings of rivals are theirs: files left open, forks of a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[training.Stage]:
    site = Site(tmp_path, quick=True, records=20_000)
    ground = Ground(site.dataset, 512)
    yield training.Stage(site, ground, 3)
    ground.close()


def test_every_feed_gives_whole_batches_of_stored_records(stage: training.Stage) -> None:
    found, _ = training_rivals.rivals(stage)
    for name, feed in {**training.feeds(stage), **found}.items():
        for repetition in range(2):
            batches = [batch[0].clone() for batch in feed(repetition)]
            assert {len(labels) for labels in batches} == {512}, name
            assert len(batches) == (1 if name == "a file at a time" else 3), name


def test_the_last_batch_is_compared_with_the_truth(stage: training.Stage) -> None:
    for last in training.Load(stage, 1)(0):
        training.check_last("loader", last)
    last[1][0, 0] += 1

    with pytest.raises(AssertionError, match="loader: the batch is not what was stored"):
        training.check_last("loader", last)


def test_the_loop_counts_and_trains(stage: training.Stage) -> None:
    before = stage.training.model.table.detach().clone()

    waited, count, last = stage.training.run(iter(training.in_memory(stage, 1)(0)))

    assert count == 3
    assert waited >= 0
    assert last is stage.some[0]
    assert not torch.equal(before, stage.training.model.table.detach())


def test_two_epochs_of_the_loader_are_not_the_same(stage: training.Stage) -> None:
    feed = training.Load(stage, 2)

    first, second = (np.concatenate([b[0].numpy().copy() for b in feed(n)]) for n in (0, 1))

    assert not np.array_equal(first, second)
