"""The models of a run measured: what handlers ask for and the ledger has not got.

(1) the plan says which models lack which windows (measure)
(2) task by task, a model is loaded and evaluated (evaluate)
(3) results are committed about once a second, and at the end

A run that follows does (2) a slice at a time, between looks at what has come.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from modyn.pipelines import measure
from modyn.pipelines.composite import Trained
from modyn.pipelines.evaluate import Source, evaluate
from modyn.pipelines.ledger import EvaluationRow, canonical
from modyn.pipelines.measure import Plan, State, Task
from modyn.pipelines.trainer import Trainer
from modyn.pipelines.windows import TrainingSpan
from modyn.pipelines.workbench import Workbench

if TYPE_CHECKING:
    import torch

__all__ = ["Measurer"]

COMMIT_SECONDS = 1.0  # between commits of evaluations: a commit waits for the disk
SLICE_SECONDS = 0.1  # that a slice is to take
FIRST_SLICE = 1000  # samples of a slice, before it is known how long they take


class Measurer:
    """What measures the models of a run.

    Parameters
    ----------
    bench : Workbench
        The run.
    trainer : Trainer
        Who has its models.
    """

    def __init__(self, bench: Workbench, trainer: Trainer) -> None:
        self._evaluation = bench.pipeline.evaluation
        self._ledger = bench.backend.ledger
        self._bench = bench
        self._trainer = trainer
        self._sources: dict[str, Source] = {}
        self._model: torch.nn.Module | None = None  # one to load weights into
        self._slice = FIRST_SLICE  # samples

    def cover(self, counts: Mapping[str, int]) -> None:
        """Measure on so many samples of each dataset, by its uuid, from now on."""
        evaluation = self._evaluation
        self._sources = {
            data.dataset_id: Source(
                dataset=data.dataset,
                count=counts[data.dataset.uuid],
                fields=tuple(data.dataset.schema),
                batch_size=data.batch_size,
                threads=data.dataloader_workers,
            )
            for data in (evaluation.datasets if evaluation else ())
        }

    def measure(
        self, when: str, trigger: int | None = None, *, ends: Mapping[str, int | None]
    ) -> None:
        """Measure what handlers ask for at this time and the ledger has not got.

        Parameters
        ----------
        when : str
            AFTER_TRAINING or AFTER_PIPELINE.
        trigger : int, optional
            Only this trigger's model, and what was there once it was trained.
        ends : mapping
            Up to which timestamp datasets are known that still grow; see `Plan.until`.
        """
        plan = self._plan(when, trigger, ends)
        for _ in self._run_tasks(plan.tasks):
            pass

    def slices(
        self, when: str, trigger: int | None = None, *, ends: Mapping[str, int | None]
    ) -> Iterator[None]:
        """Do the same, and yield after every tenth of a second, but never within a window."""
        plan = self._plan(when, trigger, ends)
        yield from self._run_tasks(plan.tasks, sliced=True)

    def _plan(self, when: str, trigger: int | None, ends: Mapping[str, int | None]) -> Plan:
        """Return what is missing, once its windows are committed."""
        evaluation = self._evaluation
        if evaluation is None or all(h.execution_time != when for h in evaluation.handlers):
            return Plan(windows=(), tasks=())
        plan = measure.plan(evaluation, self._sources, self._state(trigger), when, trigger)
        plan = plan.until(ends)
        if plan.windows:
            self._ledger.plan(plan.windows)
        return plan

    def _state(self, last: int | None) -> State:
        """Return what there was to measure once this trigger was trained; None: the last."""
        rows = {row.trigger: row for row in self._ledger.transitions()}
        models, spans = [], []
        for training in self._ledger.trainings():
            if last is not None and training.trigger > last:
                break
            row = rows[training.trigger]
            if training.model is None or row.trained_until is None:
                continue
            models.append(Trained(trigger=row.trigger, trained_until=row.trained_until))
            if row.first_timestamp is not None and row.last_timestamp is not None:
                spans.append(
                    TrainingSpan(
                        trigger=row.trigger, first=row.first_timestamp, last=row.last_timestamp
                    )
                )
        return State(models=models, spans=spans, results=self._ledger.evaluations(last))

    def _run_tasks(self, tasks: Sequence[Task], sliced: bool = False) -> Iterator[None]:
        """Measure task by task, or slice by slice, and commit now and then."""
        keys = {row.trigger: row.model for row in self._ledger.trainings()}
        total = sum(self._size(task) for task in tasks)
        rows: list[EvaluationRow] = []
        seconds: dict[int, dict[str, float]] = {}
        done, committed_at = 0, time.monotonic()
        for task in chain.from_iterable(map(self._cut, tasks)) if sliced else tasks:
            key = keys[task.trigger]
            if key is None:
                raise AssertionError(f"trigger {task.trigger} has no model to measure")
            with self._bench.clock.apart() as taken:
                rows += self._run_task(task, key, done, total)
            size = self._size(task)
            done += size
            if sliced and size:
                self._slice = int(SLICE_SECONDS * size / max(taken["evaluate"], 1e-6))
            before = seconds.setdefault(task.trigger, {})
            before |= {stage: before.get(stage, 0.0) + taken[stage] for stage in taken}
            if time.monotonic() - committed_at > COMMIT_SECONDS:
                self._ledger.evaluate(rows, seconds)
                rows, seconds, committed_at = [], {}, time.monotonic()
            yield
        if rows:
            self._ledger.evaluate(rows, seconds)

    def _size(self, task: Task) -> int:
        return self._sources[task.data.dataset_id].size(task.windows)

    def _cut(self, task: Task) -> Iterator[Task]:
        """Yield the task in slices: each as large as the one before says that it may be."""
        source = self._sources[task.data.dataset_id]
        sizes = [source.size([window]) for window in task.windows]
        first = 0
        while first < len(sizes):
            last, size = first + 1, sizes[first]
            while last < len(sizes) and size + sizes[last] <= self._slice:
                last, size = last + 1, size + sizes[last]
            yield replace(task, windows=task.windows[first:last])
            first = last

    def _run_task(self, task: Task, key: str, before: int, total: int) -> list[EvaluationRow]:
        """Measure one model on one dataset."""
        seen = before

        def progress(samples: int) -> None:
            nonlocal seen
            seen += samples
            self._bench.progress.evaluate(seen, total)

        with self._bench.clock.stage("evaluate"):
            found = evaluate(
                self._stored_model(key),
                self._sources[task.data.dataset_id],
                task.windows,
                task.data.metrics,
                device=self._evaluation.device if self._evaluation else "cpu",
                progress=progress,
            )
        return [
            EvaluationRow(
                trigger=task.trigger,
                dataset=task.data.dataset_id,
                start=one.window.start,
                end=one.window.end,
                metric=one.metric,
                model=key,
                value=one.value,
                count=one.count,
                counts=canonical(one.counts),
            )
            for one in found
        ]

    def _stored_model(self, key: str) -> "torch.nn.Module":
        if self._model is None:
            self._model = self._bench.fresh_model()
        self._model.load_state_dict(self._trainer.load(key).weights)
        return self._model
