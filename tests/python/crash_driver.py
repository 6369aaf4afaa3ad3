"""Runs a pipeline in processes that die at chosen steps; started by test_resume.py.

Usage: crash_driver.py DIRECTORY VARIANT STEP...

Everything that makes something durable counts one step before and one after.  For each STEP a
process runs the pipeline and dies there, again until it lives to the end (STEP "again:N" dies N
steps after each start); then one more runs it.  Each result is a line of JSON.  Processes are
forked from this one, which has imported everything and started no thread.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modyn
from modyn.downsampling import RS2, Loss, RHOLoss, Schedule
from modyn.orchestrator import _Calls
from modyn.pipelines import OffsetEvalStrategy, Training, durable, models, replay
from modyn.pipelines.ledger_sqlite import SqliteLedger
from modyn.policies import LabelBalanced
from tests.python.streams import pipeline, sgd, slices

DIED = 99


class Steps:
    """Counts steps, and ends the process at one of them."""

    def __init__(self, end: Callable[[], object] = lambda: os._exit(DIED)) -> None:
        self.count = 0
        self.die_at = -1
        self._end = end

    def step(self) -> None:
        if self.count == self.die_at:
            self._end()
        self.count += 1

    def around(self, owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = inner(*args, **kwargs)
            self.step()
            return result

        setattr(owner, name, outer)


def watch() -> Steps:
    steps = Steps()
    steps.around(SqliteLedger, "_commit")
    steps.around(models.ModelStore, "put")
    steps.around(durable, "write")
    steps.around(durable, "sync_directory")
    steps.around(Path, "rename")
    steps.around(Path, "replace")
    steps.around(_Calls, "commit")  # before: the training set has its name and no commit
    # Blocks are not the trigger's 150: positions between triggers are committed as well.
    inner = replay.Orchestrator
    replay.BLOCK_COUNT = 100
    replay.COMMIT_SECONDS = 0.0  # every model's results are a commit
    replay.Orchestrator = lambda *a, **k: inner(*a, **{**k, "advance_every": 1})
    return steps


def run(directory: Path, variant: str) -> modyn.Run:
    dataset = modyn.Dataset.open(directory.parent / "stream")
    training = {"batch_size": 64, "optimizers": sgd()}
    changes: dict[str, dict[str, Any]] = {
        "fresh": {},
        "rho": {"downsampling": RHOLoss(ratio=50, holdout_set_ratio=30)},
        "previous": {
            "training": Training(**training, use_previous_model=True, drop_last_batch=False),
            "downsampling": Schedule(
                downsamplers=[Loss(ratio=50), RS2(ratio=25, with_replacement=False)],
                thresholds=[1],
            ),
        },
        "late": {
            "order": "arrival",
            "selection": LabelBalanced(ratio=50, tail_triggers=1),
            "evaluation": slices(
                strategy=OffsetEvalStrategy(offsets=("-inf", "0s")),
                execution_time="after_training",
            ),
        },
    }
    return pipeline(dataset, **{"training": Training(**training), **changes[variant]}).replay(
        directory
    )


def warm_up() -> None:
    """Let torch import what its first step needs, once for all processes."""
    import safetensors.torch  # noqa: F401
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.zeros(1, 1)).sum().backward()
    optimizer.step()


def in_a_process(steps: Steps, die_at: int, directory: Path, variant: str) -> tuple[int, str]:
    """Return the exit status of a run that dies at a step, and what it says at its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            steps.die_at = die_at
            done = run(directory, variant)
            os.write(writer, f"{steps.count} {done.digest()}".encode())
            os._exit(0)
        finally:  # an error has been printed by nobody
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
    os.close(writer)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def main() -> None:
    base, variant, *points = sys.argv[1:]
    steps = watch()
    warm_up()
    for point in points:
        directory = Path(base) / f"killed-{point.replace(':', '-')}"
        again, _, at = point.rpartition(":")
        status, said = in_a_process(steps, int(at), directory, variant)
        deaths = int(status == DIED)
        while again and status == DIED:
            status, said = in_a_process(steps, int(at), directory, variant)
            deaths += status == DIED
        if not again and status == DIED:
            status, said = in_a_process(steps, -1, directory, variant)
        count, _, digest = said.partition(" ")
        line = {"point": point, "status": status, "deaths": deaths, "steps": count, "run": digest}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
