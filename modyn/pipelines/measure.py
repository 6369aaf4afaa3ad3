"""What is left to measure in a run: windows of handlers, and models that lack results on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modyn.pipelines import composite
from modyn.pipelines.composite import Trained
from modyn.pipelines.evaluate import Source
from modyn.pipelines.ledger import EvaluationRow, WindowRow
from modyn.pipelines.settings import EvalDataset, EvalHandler, Evaluation
from modyn.pipelines.windows import OffsetEvalStrategy, TrainingSpan, Window

AFTER_TRAINING, AFTER_PIPELINE = "after_training", "after_pipeline"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One model on some windows of one dataset."""

    trigger: int
    data: EvalDataset
    windows: tuple[Window, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The windows of some handlers, and which models are measured on them."""

    windows: tuple[WindowRow, ...]
    tasks: tuple[Task, ...]

    def until(self, ends: Mapping[str, int | None]) -> "Plan":
        """Return the part of which the windows are over.

        Parameters
        ----------
        ends : mapping
            Up to which timestamp a dataset is known, by id; None: up to none.  Datasets that are
            not in it are known whole.
        """

        def over(dataset: str, end: int) -> bool:
            if dataset not in ends:
                return True
            known = ends[dataset]
            return known is not None and end <= known

        tasks = []
        for task in self.tasks:
            windows = tuple(w for w in task.windows if over(task.data.dataset_id, w.end))
            tasks += [replace(task, windows=windows)] if windows else []
        rows = tuple(row for row in self.windows if over(row.dataset, row.end))
        return Plan(windows=rows, tasks=tuple(tasks))


@dataclass(frozen=True, kw_only=True)
class State:
    """What there is to measure, and what was measured."""

    models: Sequence[Trained]
    spans: Sequence[TrainingSpan]
    results: Sequence[EvaluationRow]


def plan(
    evaluation: Evaluation,
    sources: dict[str, Source],
    state: State,
    when: str,
    trigger: int | None = None,
) -> Plan:
    """Return the windows of the handlers that run at `when`, and what is missing on them.

    Parameters
    ----------
    evaluation : Evaluation
    sources : dict
        The samples of each evaluation dataset.
    state : State
        Models in the order of their triggers.
    when : str
        AFTER_TRAINING or AFTER_PIPELINE.
    trigger : int, optional
        Only this trigger's model.
    """
    rows: list[WindowRow] = []
    tasks: list[Task] = []
    for data in evaluation.datasets:
        source = sources[data.dataset_id]
        wanted: dict[int, set[Window]] = {}
        for place, handler in enumerate(evaluation.handlers):
            if handler.execution_time != when or data.dataset_id not in handler.datasets:
                continue
            windows = _windows(handler, source, state.spans, trigger)
            rows += [_row(data, place, source, window) for window in windows]
            for window in windows:
                for one in _models(handler, state.models, window):
                    if trigger is None or one == trigger:
                        wanted.setdefault(one, set()).add(window)
        tasks += _missing(data, wanted, state.results)
    return Plan(windows=tuple(rows), tasks=tuple(tasks))


def _windows(
    handler: EvalHandler, source: Source, spans: Sequence[TrainingSpan], trigger: int | None
) -> list[Window]:
    if isinstance(handler.strategy, OffsetEvalStrategy) and trigger is not None:
        spans = [span for span in spans if span.trigger == trigger]
    return sorted(set(handler.strategy.windows(source.span(), spans)))


def _models(handler: EvalHandler, models: Sequence[Trained], window: Window) -> list[int]:
    """Return the triggers whose models a handler measures on a window."""
    if handler.models == "matrix":
        return [model.trigger for model in models]
    kind = composite.ACTIVE if handler.models == "active" else composite.TRAINED
    one = composite.current(models, window.anchor, kind)
    return [] if one is None else [one]


def _missing(
    data: EvalDataset, wanted: dict[int, set[Window]], results: Sequence[EvaluationRow]
) -> list[Task]:
    """Return tasks for the windows on which a model lacks a metric; each interval once."""
    known = {
        (row.trigger, row.start, row.end, row.metric)
        for row in results
        if row.dataset == data.dataset_id
    }
    tasks = []
    for trigger in sorted(wanted):
        left: dict[tuple[int, int], Window] = {}
        for window in sorted(wanted[trigger]):
            place = (trigger, window.start, window.end)
            if not all((*place, metric.name) in known for metric in data.metrics):
                left.setdefault((window.start, window.end), window)
        if left:
            tasks.append(Task(trigger=trigger, data=data, windows=tuple(left.values())))
    return tasks


def _row(data: EvalDataset, handler: int, source: Source, window: Window) -> WindowRow:
    return WindowRow(
        dataset=data.dataset_id,
        handler=handler,
        start=window.start,
        end=window.end,
        anchor=window.anchor,
        count=source.size([window]),
    )
