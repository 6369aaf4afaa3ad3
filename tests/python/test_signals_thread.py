"""The thread that writes signals while a model is trained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modyn.pipelines import signals
from modyn.pipelines.signals import HandOff, Recorder
from modyn.policies import (
    DataAmountTrigger,
    Random,
)
from modyn.signals import (
    Rows,
)
from tests.python.streams import drifting, pipeline, training, tuples


@dataclass
class Sink:
    """A writer that fails, or waits, at its n-th chunk."""

    fail_at: int = -1
    wait: threading.Event | None = None
    count: int = 0

    def put(self, rows: Rows) -> None:
        if self.wait is not None:
            self.wait.wait(30)
        if self.count == self.fail_at:
            raise OSError("the disk is full")
        self.count += 1

    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def cancel(self) -> None: ...


def some_rows() -> Rows:
    return Rows(np.zeros(1, np.uint64), np.zeros(1, np.int32), {})


def threads() -> int:
    return sum(thread.name == "modyn-signals" for thread in threading.enumerate())


def test_what_the_writer_raises_reaches_the_training():
    thread = HandOff(Sink(fail_at=2))

    with pytest.raises(OSError, match="the disk is full"):  # noqa: PT012 - at whichever of them
        for _ in range(100):
            thread.put(some_rows())
        thread.finish()

    thread.stop()
    assert threads() == 0


def test_a_training_waits_for_a_slow_writer():
    wait = threading.Event()
    sink = Sink(wait=wait)
    thread = HandOff(sink)
    done = threading.Event()

    def train() -> None:
        for _ in range(signals.DEPTH + 3):
            thread.put(some_rows())
        done.set()

    other = threading.Thread(target=train)
    other.start()
    assert not done.wait(0.5)  # one is being written, DEPTH wait, and the training with the next
    wait.set()
    assert done.wait(30)
    other.join(30)
    thread.finish()
    assert sink.count == signals.DEPTH + 3
    assert threads() == 0


def test_a_writer_that_fails_leaves_nothing_and_the_next_run_goes_on(tmp_path, monkeypatch):
    from modyn.pipelines import signal_files

    stream = drifting(tmp_path / "stream")
    whole = pipeline(stream, training=training()).replay(tmp_path / "whole")
    put, seen = signal_files.SignalFile.put, []

    def full(self: Any, rows: Rows) -> None:
        seen.append(1)
        if len(seen) == 3:
            raise OSError(28, "No space left on device")
        put(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(signal_files.SignalFile, "put", full)
        with pytest.raises(OSError, match="No space left"):
            pipeline(stream, training=training()).replay(tmp_path / "run")
    left = sorted(path.name for path in (tmp_path / "run" / "signals").iterdir())
    run = pipeline(stream, training=training()).replay(tmp_path / "run")

    assert left == ["0.sig", "1.sig"]
    assert run.digest() == whole.digest()
    assert tuples(run.signals(2)) == tuples(whole.signals(2))
    assert threads() == 0


def test_a_training_that_fails_leaves_no_thread_and_no_file(tmp_path):
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == 5:
                raise KeyboardInterrupt
            return self.layer(x)

    stream = drifting(tmp_path / "stream")

    with pytest.raises(KeyboardInterrupt):
        pipeline(stream, model=Fails, training=training(), evaluation=None).replay(tmp_path / "run")

    assert list((tmp_path / "run" / "signals").iterdir()) == []
    assert threads() == 0


def test_chunks_are_bounded(monkeypatch):
    monkeypatch.setattr(signals, "CHUNK", 100)
    found: list[int] = []
    recorder = Recorder(("loss",), lambda rows: found.append(len(rows)))

    @dataclass
    class Batch:
        keys: Any

        def __len__(self) -> int:
            return len(self.keys)

    def batches() -> Iterator[int]:
        yield from (30, 30, 30, 30, 250, 7)

    each = nn.CrossEntropyLoss(reduction="none")
    for count in batches():
        batch: Any = Batch(torch.arange(count).to(torch.uint64))
        recorder.batch(batch, torch.zeros(count, 2), torch.zeros(count, dtype=torch.int64), each)
    recorder.flush()
    recorder.flush()

    assert found == [120, 250, 7]


def test_random_policies_do_not_care(tmp_path):
    """A selection that reads no signals chooses as without them."""
    stream = drifting(tmp_path / "stream")
    given = {"selection": Random(ratio=50), "trigger": DataAmountTrigger(num_samples=200)}

    plain = pipeline(stream, training=training(signals=()), **given).replay(tmp_path / "a")
    recorded = pipeline(stream, training=training(), **given).replay(tmp_path / "b")

    assert plain.triggers["digest"] == recorded.triggers["digest"]
    assert plain.triggers["model"] == recorded.triggers["model"]
