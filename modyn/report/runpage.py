"""The page of one run: what it is, how its models did, and what it cost."""

from pathlib import Path

from modyn.dates import duration, moment
from modyn.pipelines.run import Run
from modyn.report import decisions, facts, figures
from modyn.report.facts import ACTIVE, TRAINED, Series
from modyn.report.page import Cell, Page, Table

OF_DOWNSAMPLING = ("irreducible", "score")  # stages that only such runs have

CONFIG, REPORT = "pipeline.yaml", "report.html"
CHARTS = 8  # of decisions


def write_run(run: Run, path: str | Path | None = None) -> Path:
    """Write the page of a run and return its path; into its directory if `path` is None.

    Raises
    ------
    ModuleNotFoundError
        When plotly, the extra `report`, is not installed.
    """
    page = Page(run.name)
    _head(page, run)
    for series in facts.series_of(run):
        _composites(page, run, series)
    for series in facts.series_of(run):
        _matrices(page, run, series)
    _triggers(page, run)
    _decisions(page, run)
    _sources(page, run)
    return page.write(run.path / REPORT if path is None else Path(path))


def _head(page: Page, run: Run) -> None:
    if facts.description(run):
        page.paragraph(facts.description(run), lead=True)
    totals = run.totals
    tiles = [
        (f"{totals['triggers']:,}", "triggers"),
        (f"{totals['samples_trained']:,}", "samples trained, over all epochs"),
        (duration(sum(run.seconds.values())), "in all stages"),
    ]
    if totals["samples_scored"]:
        scored = (f"{totals['samples_scored']:,}", "samples scored, and perhaps not trained on")
        tiles.insert(2, scored)
    if run.waits.seconds:
        share = _share(run.waits.consumer_waited, run.waits.seconds)
        tiles.append((share, "of training spent waiting for data"))
    for series in facts.series_of(run)[:1]:
        for metric in series.metrics:
            value = facts.number(facts.score(run, series, metric, ACTIVE))
            tiles.append((value, f"{metric}, currently active"))
    page.tiles(tiles)
    page.facts(facts.about(run))


def _composites(page: Page, run: Run, series: Series) -> None:
    page.heading(f"Composite model on {series.dataset}")
    page.paragraph(
        "The models of the run as one. Currently active: in each window the newest model that was "
        "trained on nothing in it or after it, as it would have been in use. Currently trained: "
        "the model that follows it, which has seen the window; the distance shows what fresher "
        "training would have given."
    )
    for metric in series.metrics:
        lines = [
            figures.Curve(
                f"currently {kind} (mean {facts.number(facts.score(run, series, metric, kind))})",
                facts.composite(run, series, metric, kind),
                figures.COLOURS[0] if kind == ACTIVE else figures.COLOURS[1],
                kind,
            )
            for kind in (ACTIVE, TRAINED)
        ]
        page.heading(metric, level=3)
        figure = figures.curves(lines, metric, run.timestamp_unit)
        page.figures([(figure, f"{metric} of the composite model over time")], height=330)


def _matrices(page: Page, run: Run, series: Series) -> None:
    page.heading(f"Every model on every window of {series.dataset}")
    page.paragraph(
        "A row is a model, a column an evaluation window; darker is better. Boxes mark the model "
        "that was in use in a window. What lies left of them is the past of a model, what lies "
        "right of them its future: fading colours to the right show that it ages. Colours leave "
        "out the two percent of extreme values at either end."
    )
    for metric in series.metrics:
        page.heading(metric, level=3)
        figure, height = figures.matrix(run, series, metric)
        page.figures([(figure, f"{metric} of every model on every window")], height=height)


def _triggers(page: Page, run: Run) -> None:
    page.heading("Triggers")
    if not len(run.triggers):
        page.paragraph("No trigger has fallen due.")
        return
    page.paragraph(
        "Each bar spans the samples that came between two triggers; its height is their number."
    )
    if any(at is not None for at in run.triggers["first_timestamp"]):
        ends = [row["end"] - 1 for row in run.windows]
        figure = figures.timeline(run, max(ends, default=None))
        page.figures([(figure, "Triggers over the time of the samples")], height=280)
    page.heading("Samples per trigger", level=3)
    page.figures([(figures.amounts(run), "Candidates and training set per trigger")], height=280)
    page.heading("Seconds per stage", level=3)
    page.figures([(figures.costs(run), "Seconds of each stage per trigger")], height=300)
    page.table(_stage_table(run))
    if run.waits.seconds:
        page.paragraph(f"While training, {run.waits}.")
    page.table(_trigger_table(run), folded="All triggers as a table")


def _decisions(page: Page, run: Run) -> None:
    scores = decisions.scores_of(run)
    if not scores:
        return
    page.heading("Decisions")
    page.paragraph(
        "What the trigger policy looked at: its scores over the time of the samples, what they "
        "were held against, and where a trigger fell, be it for this score or for another."
    )
    for one in scores[:CHARTS]:
        page.heading(one.name, level=3)
        page.figures(
            [(decisions.chart(one, run.timestamp_unit), f"{one.name} over time")], height=260
        )
    if len(scores) > CHARTS:
        page.paragraph(f"{len(scores) - CHARTS} more are in run.decisions.")


def _stage_table(run: Run) -> Table:
    spent = run.seconds
    total = sum(spent.values())
    stages = [s for s in facts.STAGES if s not in OF_DOWNSAMPLING or spent.get(s, 0.0) > 0.0]
    names = [*(facts.STAGES[stage] for stage in stages), "total"]
    seconds = [*(spent.get(stage, 0.0) for stage in stages), total]
    rows = [
        [Cell("seconds"), *(Cell(f"{value:.2f}", number=True) for value in seconds)],
        [Cell("share"), *(Cell(_share(value, total), number=True) for value in seconds)],
    ]
    return Table([Cell(""), *(Cell(name, number=True) for name in names)], rows)


def _share(value: float, total: float) -> str:
    return f"{100 * value / total:.1f} %" if total else "-"


def _trigger_table(run: Run) -> Table:
    names = ["new", "candidates", "training set", "epochs", "batches", "final loss", "seconds"]
    head = [Cell("trigger", number=True), Cell("first sample"), Cell("last sample")]
    rows = []
    for row in run.triggers:
        loss = row["final_loss"]
        numbers = [
            *(f"{row['position'] - row['first']:,}", f"{row['candidates']:,}"),
            *(f"{row['samples']:,}", f"{row['epochs']}", f"{row['batches']:,}"),
            "-" if loss is None else f"{loss:.4f}",
            f"{sum(row[f'seconds_{stage}'] for stage in facts.STAGES):.2f}",
        ]
        times = [_moment(row[name], run) for name in ("first_timestamp", "last_timestamp")]
        cells = [Cell(value, number=True) for value in numbers]
        rows.append([Cell(str(row["trigger"]), number=True), *map(Cell, times), *cells])
    return Table([*head, *(Cell(name, number=True) for name in names)], rows)


def _moment(timestamp: int | None, run: Run) -> str:
    return "-" if timestamp is None else moment(timestamp, run.timestamp_unit)


def _sources(page: Page, run: Run) -> None:
    config = (run.path / CONFIG).read_text(encoding="utf-8", errors="replace")
    page.source(config, folded="pipeline.yaml")
    page.footer(f"Written by modyn from the ledger in {run.path.name}. All times are UTC.")
