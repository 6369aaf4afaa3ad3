"""A small share of each campaign of tests/loader, and that each of them sees what it looks for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.loader import Loader
from tests.loader import lifetime, memory, training

ROOT = Path(__file__).parents[2]
DEADLINE = 300


def run(module: str, *arguments: str) -> str:
    """What a campaign says in a process group of its own, which ends with this call."""
    command = [sys.executable, "-W", "ignore", "-m", f"tests.loader.{module}", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, _ = process.communicate(timeout=DEADLINE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, out
    return out


# Lifetime ----------------------------------------------------------------------------------------


def test_a_batch_that_is_held_does_not_change(tmp_path, rand):
    path = lifetime.fill(tmp_path / "data")

    done = lifetime.campaign(path, batches=10_000, seed=rand.seed)

    assert (done.batches, done.changed) == (10_000, 0)
    assert all(done.how[form] > 1000 for form in lifetime.FORMS)
    assert done.most_held > 16


def test_batches_may_be_held_until_the_interpreter_ends(tmp_path):
    assert lifetime.run_to_its_exit(lifetime.fill(tmp_path / "data")) == "0 changed at exit\n"


@pytest.mark.parametrize("form", lifetime.FORMS)
def test_a_change_of_a_byte_is_seen(tmp_path, form):
    with modyn.Dataset.open(lifetime.fill(tmp_path / "data")) as dataset:
        (batch,) = Loader(dataset, [7, 8, 9], batch_size=3)
        held, again = lifetime.hold(batch, form), lifetime.hold(batch, form)
        batch.numpy("x")[1, 1] ^= 1

        assert lifetime.let_go(held)
        assert lifetime.let_go(again)  # what the first one overwrote


# Forks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "cycles", "workers"), [("fork", "4", "0,4"), ("forkserver,spawn", "1", "0,2")]
)
def test_processes_started_among_threads_read_right_and_end(methods, cycles, workers):
    out = run("forks", "--methods", methods, "--cycles", cycles, "--workers", workers)

    assert out.rstrip().endswith("; 0 wrong, 0 hangs")


# Memory ------------------------------------------------------------------------------------------


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    with modyn.Dataset.open(memory.fill(tmp_path / "data")) as dataset:
        yield Loader(dataset, np.arange(memory.SAMPLES), batch_size=250, threads=3)


def test_epochs_and_abandoned_iterators_keep_nothing():
    out = run("memory", "--rounds", "100")

    assert len(out.splitlines()) == 4


def test_the_probe_sees_what_is_kept(loader):
    kept: list[Any] = []

    def keep(number: int) -> None:
        iterator = iter(loader)
        kept.append((iterator, next(iterator), os.dup(1)))

    kib, threads, descriptors = memory.drift(keep, 50)

    for _, _, descriptor in kept:
        os.close(descriptor)
    assert kib > memory.ALLOWED_KIB
    assert (threads, descriptors) == (150, 50)


# Training ----------------------------------------------------------------------------------------


def test_a_training_killed_three_times_ends_with_the_same_weights(rand):
    out = run("training", "--runs", "6", "--seed", str(rand.seed))

    assert out.rstrip().endswith("; 0 different")
    assert "6 orders" in out
    assert "6 runs" in out


def test_a_training_that_skips_a_batch_is_seen(tmp_path):
    data = training.fill(tmp_path / "data")
    outcomes = []
    for name, skipped in (("right", 0), ("wrong", 1)):
        home = tmp_path / name
        home.mkdir()
        trainer = training.Trainer(data, home, {"shuffle": "global"}, training.Plan(1, 1))
        trainer.loader.load_state_dict(trainer.loader.state_at(skipped))
        trainer.run()
        outcomes.append(trainer.outcome())

    assert outcomes[0] != outcomes[1]
