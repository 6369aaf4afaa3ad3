"""Runs a pipeline in processes that die at chosen points; started by test_resume.py.

Usage: crash_driver.py DIRECTORY VARIANT POINT...

    12              a step: everything that makes something durable counts one before, one after
    again:12        12 steps after each start, again until it lives to the end
    die:12,7        before the 12th call of libc that changes a file of the run; then, in the
                    process that goes on, before the 7th
    tear:12         in the middle of the 12th write
    EIO_ONCE:12     no death: the 12th call fails, reading ones counted, too; or from there on
    die:-1          nowhere, but the calls are counted
    die:@0.5        half-way through the calls that there are

After a point one more process runs the pipeline.  Each result is a line of JSON.  Processes are
forked from this one, which has imported everything and started no thread.  Calls are counted by
tests/kill/nth_call.c, which has to be preloaded for that.  The variants "rows" and "blocks" have
their metadata in the database of CRASH_URL, and what they say to it is counted, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modyn
from modyn.downsampling import RS2, Loss, RHOLoss, Schedule
from modyn.drift import MMD
from modyn.errors import ConfigError
from modyn.orchestrator import _Calls
from modyn.pipelines import (
    Metadata,
    OffsetEvalStrategy,
    Training,
    durable,
    measurer,
    models,
    replay,
)
from modyn.pipelines.ledger_sqlite import SqliteLedger
from modyn.policies import (
    AmountWindowingStrategy,
    AtLeastN,
    DataDriftTrigger,
    EnsembleTrigger,
    LabelBalanced,
    PerformanceTrigger,
    StaticPerformanceThresholdCriterion,
    ThresholdDecisionCriterion,
)
from modyn.policies.drift import Metric
from tests.python.streams import pipeline, sgd, slices

DIED = 99
URL = os.environ.get("CRASH_URL")
ACTS = ["die", "tear", "EIO_ONCE", "EIO_EVER", "ENOSPC_ONCE", "ENOSPC_EVER"]  # as in nth_call.c


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
    measurer.COMMIT_SECONDS = 0.0  # every model's results are a commit
    measurer.SLICE_SECONDS = 1e9  # as a whole: how many commits there are is no matter of the clock
    replay.Orchestrator = lambda *a, **k: inner(*a, **{**k, "advance_every": 1})
    return steps


def asking() -> EnsembleTrigger:
    """A trigger where the newest model does badly, or what it makes of the samples has changed."""
    bad = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.75)
    far = Metric(metric=MMD(), decision_criterion=ThresholdDecisionCriterion(threshold=0.03))
    return EnsembleTrigger(
        subtriggers={
            "performance": PerformanceTrigger(
                evaluation_interval_data_points=30, decision_criteria={"bad": bad}
            ),
            "drift": DataDriftTrigger(
                evaluation_interval_data_points=40,
                metrics={"far": far},
                windowing_strategy=AmountWindowingStrategy(amount_ref=80, amount_cur=40),
                sample_size=32,
            ),
        },
        ensemble_strategy=AtLeastN(n=1),
    )


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
        "asks": {"trigger": asking(), "maximum_triggers": 5},
    }
    changes["follow"] = {**changes["asks"], "evaluation": slices(execution_time="after_training")}
    changes["rows"] = {**changes["asks"], "metadata": metadata("rows")}
    changes["blocks"] = {**changes["follow"], "order": "arrival", "metadata": metadata("blocks")}
    one = pipeline(dataset, **{"training": Training(**training), **changes[variant]})
    if variant == "asks":  # models go through a store for several runs
        return one.replay(directory / "run", models=directory / "models")
    if variant in ("follow", "blocks"):
        with contextlib.suppress(ConfigError):  # it does not follow any more
            one.follow(directory)
    return one.replay(directory)


def metadata(layout: str) -> Metadata | None:
    """Return where a run has its metadata: nothing is there when it begins."""
    if URL is None:
        return None
    return Metadata(
        url=URL, layout=layout, publish=True, hash_partition_modulus=2, retry_seconds=5.0
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


def said_by(run: modyn.Run) -> str:
    """Return digests of the ledger, and of what policies noted, which is no part of the first."""
    notes = json.dumps(run.decisions.rows(), sort_keys=True).encode()
    return f"{run.digest()} {hashlib.blake2b(notes, digest_size=16).hexdigest()}"


class Calls:
    """Counts calls of libc, and dies at one of them or has it fail; see nth_call.c."""

    def __init__(self, sockets: bool) -> None:
        self._library = ctypes.CDLL(None)
        kinds = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_bool]
        self._library.nth_call_arm.argtypes = kinds
        self._library.nth_call_count.restype = ctypes.c_long
        self._sockets = sockets

    def arm(self, directory: Path, at: int, act: str) -> None:
        self._library.nth_call_arm(os.fsencode(directory), at, ACTS.index(act), self._sockets)

    @property
    def count(self) -> int:
        return int(self._library.nth_call_count())


class Crashes:
    """Runs of one variant that die."""

    def __init__(self, base: Path, variant: str) -> None:
        self.base, self.variant = base, variant
        self.steps = watch()
        self.calls: Calls | None = None
        self.totals: dict[str, int] = {}  # calls of an undisturbed run

    def _child(self, directory: Path, arm: Callable[[], None]) -> tuple[int, str]:
        """Return the exit status of a process that runs it, and what it says at its end."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                arm()
                done = run(directory, self.variant)
                count = self.steps.count if self.calls is None else self.calls.count
                os.write(writer, f"{count} {said_by(done)}".encode())
                os._exit(0)
            finally:  # an error has been printed by nobody
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(1)
        os.close(writer)
        said = os.read(reader, 1000).decode()
        os.close(reader)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said

    def at_step(self, directory: Path, at: int) -> tuple[int, str]:
        def arm() -> None:
            self.steps.die_at = at

        return self._child(directory, arm)

    def at_call(self, directory: Path, at: int, act: str) -> tuple[int, str]:
        calls = self.calls = self.calls or Calls(sockets=URL is not None)
        return self._child(directory, lambda: calls.arm(directory, at, act))

    def point(self, point: str) -> dict[str, object]:
        """Die at a point, and go on."""
        directory = self.base / f"killed-{re.sub('[:,@]', '-', point)}"
        kind, _, place = point.rpartition(":")
        if kind not in ACTS:
            return {"point": point, **self._steps(directory, kind == "again", int(place))}
        numbers = [self._number(kind, at) for at in place.split(",")]
        clear()
        said = self._calls(directory, kind, numbers)
        return {"point": point, **said, "left": left()}

    def _calls(self, directory: Path, act: str, numbers: list[int]) -> dict[str, object]:
        deaths = failures = 0
        for at in numbers:
            status, said = self.at_call(directory, at, act)
            deaths += status == DIED
            failures += status == 1
        if status != 0:
            status, said = self.at_call(directory, -1, "die")
        if numbers == [-1]:
            self.totals[kind_of(act)] = int(said.partition(" ")[0])
        return outcome(status, said, deaths=deaths, failures=failures)

    def _steps(self, directory: Path, again: bool, at: int) -> dict[str, object]:
        status, said = self.at_step(directory, at)
        deaths = int(status == DIED)
        while again and status == DIED:
            status, said = self.at_step(directory, at)
            deaths += status == DIED
        if status == DIED:
            status, said = self.at_step(directory, -1)
        return outcome(status, said, deaths=deaths)

    def _number(self, act: str, place: str) -> int:
        """Return the number of a call; a part of all is that of an undisturbed run's."""
        if not place.startswith("@"):
            return int(place)
        kind = kind_of(act)
        if kind not in self.totals:
            clear()
            _, said = self.at_call(self.base / f"counted-{kind}", -1, kind)
            self.totals[kind] = int(said.partition(" ")[0])
        return min(int(float(place[1:]) * self.totals[kind]), self.totals[kind] - 1)


def kind_of(act: str) -> str:
    """Return the act that stands for all which count the same calls."""
    return act if act in ("die", "tear") else "EIO_ONCE"


def clear() -> None:
    """Empty the database, if there is one."""
    if URL is not None:
        from tests.python import crash_database

        crash_database.clear(URL)


def left() -> str:
    """Return a digest of what a run left in the database, if there is one."""
    if URL is None:
        return ""
    from tests.python import crash_database

    return crash_database.left(URL)


def outcome(status: int, said: str, **counts: int) -> dict[str, object]:
    count, _, digest = said.partition(" ")
    return {"status": status, "run": digest, "steps": count, **counts}


def main() -> None:
    base, variant, *points = sys.argv[1:]
    crashes = Crashes(Path(base), variant)
    warm_up()
    for point in points:
        print(json.dumps(crashes.point(point)), flush=True)


if __name__ == "__main__":
    main()
