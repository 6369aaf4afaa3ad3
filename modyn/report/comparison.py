"""The page that compares runs: what each costs, and what it gains."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

from modyn.listing import STAGES, stage_seconds
from modyn.pipelines.composite import weighted_mean
from modyn.pipelines.run import Run
from modyn.report import facts, figures
from modyn.report.facts import ACTIVE, TRAINED, Series
from modyn.report.page import Cell, Figure, Page, Table
from modyn.report.runpage import REPORT

Span = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A run in a comparison: its windows on the compared dataset, and its colour."""

    run: Run
    series: Series
    colour: str


def write_comparison(runs: Sequence[Run], path: str | Path) -> Path:
    """Write a page that compares runs, and return its path.

    Runs are compared where they were measured on the same dataset, over the windows in which each
    of them had a model.

    Raises
    ------
    ModuleNotFoundError
        When plotly, the extra `report`, is not installed.
    """
    path = Path(path)
    groups = _by_dataset(runs)
    count = "one run" if len(runs) == 1 else f"{len(runs)} runs compared"
    page = Page(f"{', '.join(groups) or 'modyn'}: {count}")
    page.heading("Runs")
    page.table(_runs_table(runs, path.parent))
    page.heading("Cost")
    page.paragraph(
        "Decide: policies, selection and training set files. Load: waiting for batches. Samples "
        "count once per epoch."
    )
    page.table(_cost_table(runs))
    for dataset, entries in groups.items():
        _compare(page, dataset, entries)
    page.footer("Written by modyn from the ledgers of the runs. All times are UTC.")
    return page.write(path)


def _by_dataset(runs: Sequence[Run]) -> dict[str, list[Entry]]:
    """Return the runs by the dataset that they were measured on; the first handler of each."""
    found: dict[str, list[Entry]] = {}
    colours = cycle(figures.COLOURS + figures.MORE_COLOURS)
    for run in runs:
        colour, seen = next(colours), set()
        for series in facts.series_of(run):
            if series.dataset not in seen:
                seen.add(series.dataset)
                found.setdefault(series.dataset, []).append(Entry(run, series, colour))
    return found


def _runs_table(runs: Sequence[Run], folder: Path) -> Table:
    head = [Cell("run"), Cell("trigger"), Cell("selection"), Cell("state")]
    rows = [
        [
            Cell(run.name, name=True, link=_link(run, folder)),
            Cell(facts.policy(run, "trigger")),
            Cell(facts.policy(run, "selection_strategy")),
            Cell("finished" if run.finished else "unfinished", name=True),
        ]
        for run in runs
    ]
    return Table(head, rows)


def _cost_table(runs: Sequence[Run]) -> Table:
    names = ["triggers", "samples trained", *(f"{stage}, s" for stage in (*STAGES, "total"))]
    rows = []
    for run in runs:
        spent = stage_seconds(run)
        counts = [f"{run.totals[name]:,}" for name in ("triggers", "samples_trained")]
        numbers = [*counts, *(f"{value:.1f}" for value in (*spent.values(), sum(spent.values())))]
        rows.append([Cell(run.name, name=True), *(Cell(value, number=True) for value in numbers)])
    return Table([Cell("run"), *(Cell(name, number=True) for name in names)], rows)


def _link(run: Run, folder: Path) -> str:
    relative = os.path.relpath((run.path / REPORT).resolve(), folder.resolve())
    return quote(Path(relative).as_posix())


def _compare(page: Page, dataset: str, entries: Sequence[Entry]) -> None:
    common = _common_windows(entries)
    metrics = [m for m in entries[0].series.metrics if all(m in e.series.metrics for e in entries)]
    page.heading(f"Scores on {dataset}")
    page.paragraph(_explanation(entries, common))
    page.table(_score_table(entries, metrics, common))
    for metric in metrics:
        page.heading(f"{metric} over time", level=3)
        page.paragraph(
            "The currently active model of each run. A click on a name hides or shows its line."
        )
        lines = [
            figures.Curve(e.run.name, facts.composite(e.run, e.series, metric, ACTIVE), e.colour)
            for e in entries
        ]
        figure = figures.curves(lines, metric, entries[0].run.timestamp_unit)
        page.figures([(figure, f"{metric} of each run over time")], height=400)
    for metric in metrics:
        page.heading(f"Cost against {metric}", level=3)
        page.paragraph("Up is better, left is cheaper.")
        samples = [float(e.run.totals["samples_trained"]) for e in entries]
        seconds = [sum(e.run.seconds.values()) for e in entries]
        charts = [
            (_tradeoff(entries, metric, common, samples, "samples trained"), "samples"),
            (_tradeoff(entries, metric, common, seconds, "seconds of all stages"), "seconds"),
        ]
        page.figures([(chart, f"{metric} against {cost}") for chart, cost in charts], height=300)


def _common_windows(entries: Sequence[Entry]) -> set[Span]:
    """Return the windows in which every run had an active model that could be measured."""
    common: set[Span] | None = None
    for entry in entries:
        for metric in entry.series.metrics[:1]:
            rows = facts.composite(entry.run, entry.series, metric, ACTIVE)
            spans = {(row["start"], row["end"]) for row in rows if row["value"] is not None}
            common = spans if common is None else common & spans
    return common or set()


def _explanation(entries: Sequence[Entry], common: set[Span]) -> str:
    ours = {(row["start"], row["end"]) for e in entries for row in e.series.windows}
    mean = "Means over windows, each window counting as its samples do."
    if not common:
        return f"{mean} The runs share no window, so each mean is over windows of its own."
    return (
        f"{mean} Only the {len(common)} of {len(ours)} windows count in which every run had a "
        "model, so that all are held against the same samples. Active: the model in use. "
        "Trained: the one trained next, which has seen the window."
    )


def _score_table(entries: Sequence[Entry], metrics: Sequence[str], common: set[Span]) -> Table:
    columns = [(metric, kind) for metric in metrics for kind in (ACTIVE, TRAINED)]
    head = [Cell("run"), *(Cell(f"{metric}, {kind}", number=True) for metric, kind in columns)]
    scores = [[_score(entry, *column, common) for entry in entries] for column in columns]
    best = [max((s for s in column if s is not None), default=None) for column in scores]
    rows = []
    for i, entry in enumerate(entries):
        cells = [
            Cell(facts.number(column[i]), number=True, best=len(entries) > 1 and column[i] == top)
            for column, top in zip(scores, best, strict=True)
        ]
        rows.append([Cell(entry.run.name, name=True), *cells])
    return Table(head, rows)


def _score(entry: Entry, metric: str, kind: str, common: set[Span]) -> float | None:
    """Return the mean over the common windows, or over all where there are none."""
    rows = [
        row
        for row in facts.composite(entry.run, entry.series, metric, kind)
        if not common or (row["start"], row["end"]) in common
    ]
    return weighted_mean([row["value"] for row in rows], [row["count"] for row in rows])


def _tradeoff(
    entries: Sequence[Entry], metric: str, common: set[Span], costs: Sequence[float], name: str
) -> Figure:
    points = []
    for entry, cost in zip(entries, costs, strict=True):
        value = _score(entry, metric, ACTIVE, common)
        if value is not None:
            points.append(figures.Point(entry.run.name, cost, value, entry.colour))
    return figures.tradeoff(points, metric, name)
