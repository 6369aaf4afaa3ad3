"""`modyn select --dry-run`: what a pipeline would choose, shown and not trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modyn.commands.answers import InputError, answers

if TYPE_CHECKING:
    from modyn.pipelines.looks import Counts, DryRun, Look

BAR = 40  # characters
LABELS = 20  # shown, those with most candidates
MANY = 30  # triggers shown one by one


def select(
    file: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", show_default=False)],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be chosen; train nothing.")
    ] = False,
    datasets: Annotated[Path, typer.Option(help="Folder of the datasets.")] = Path("datasets"),
    trigger: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Show only this trigger.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with pictures, too.")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a picture of that page; needs a browser."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Show what the selection of a pipeline would choose at each trigger, without training.

    Counts by label and by time, and weights. No run is made, and nothing is written but FILE.
    """
    with answers(debug):
        if not dry_run:
            raise InputError(
                f"to see what would be chosen: modyn select --dry-run {file}; to choose and train: "
                f"modyn run {file} --out DIR"
            )
        from modyn.pipelines.dry_run import dry_run as look
        from modyn.pipelines.pipeline import Pipeline

        found = look(Pipeline.from_yaml(file, datasets), trigger)
        if as_json:
            _print_json(found)
        else:
            _print_found(found)
        _write(found, html, png, quiet=as_json)


def _write(found: DryRun, html: Path | None, png: Path | None, quiet: bool) -> None:
    if html is None and png is None:
        return
    from modyn.report.choices import height_of, write_choices
    from modyn.report.shot import write_png

    try:
        if html is not None:
            write_choices(found, html)
        if png is not None:
            write_png(lambda page: write_choices(found, page), png, height=height_of(found))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "plotly":
            raise
        needed = "the page needs plotly: pip install 'modyn[report]'"
        raise ModuleNotFoundError(needed, name="plotly") from None
    for path in filter(None, () if quiet else (html, png)):
        typer.echo(f"written: {path}")


# Printing ----------------------------------------------------------------------------------------


def _print_found(found: DryRun) -> None:
    from rich.markup import escape

    from modyn.commands.show import console

    out = console()
    out.print(f"[bold]{escape(found.name)}[/bold] on {escape(found.dataset)}", soft_wrap=True)
    out.print(escape(found.selection), soft_wrap=True)
    if not found.looks:
        out.print(f"no trigger falls due in {found.rest:,} samples: nothing would be chosen")
        return
    out.print(_triggers(found))
    for line in _notes(found):
        out.print(escape(line), soft_wrap=True)
    if found.labels:
        out.print(_labels(found))
        if len(found.labels) > LABELS:
            out.print(f"and {len(found.labels) - LABELS:,} more labels")
    out.print(_times(found))


def _notes(found: DryRun) -> list[str]:
    notes = []
    if len(found.looks) > MANY:
        notes.append(
            f"and {len(found.looks) - MANY:,} more triggers; --trigger N shows one, --json all"
        )
    said = dict.fromkeys(look.downsampling for look in found.looks if look.downsampling)
    notes += [f"downsampling: {line}" for line in list(said)[:3]]
    if found.rest and len(found.looks) == found.triggers:
        notes.append(f"{found.rest:,} samples behind the last trigger are in no choice")
    return notes


def _triggers(found: DryRun) -> Any:
    from modyn.dates import moment

    names = ["trigger", "from", "to", "new", "candidates", "chosen", "share"]
    weighted = any(look.weights for look in found.looks)
    table = _table(*names, *(["weights", "mean", "counts as"] if weighted else []))
    unit = found.timestamp_unit
    for look in found.looks[:MANY]:
        span = [
            "-" if at is None else moment(at, unit)
            for at in (look.first_timestamp, look.last_timestamp)
        ]
        cells = [str(look.trigger), *span, f"{look.new:,}", *_numbers(look.total)]
        table.add_row(*cells, *(_weights(look) if weighted else []))
    if len(found.looks) > 1:
        cells = ["all", "", "", f"{sum(look.new for look in found.looks):,}"]
        table.add_section()
        table.add_row(*cells, *_numbers(found.total), *([""] * 3 if weighted else []))
    return table


def _weights(look: Look) -> list[str]:
    """Return range and mean of the weights, and the effective sample size."""
    weights = look.weights
    if weights is None:
        return ["1", "1", f"{look.total.chosen:,}"]
    return [
        f"{weights.least:.4g} to {weights.greatest:.4g}",
        f"{weights.mean:.4g}",
        f"{weights.effective:,.0f}",
    ]


def _labels(found: DryRun) -> Any:
    labels = found.labels
    most = sorted(labels, key=lambda label: -labels[label].candidates)[:LABELS]
    rows = [(str(label), labels[label]) for label in sorted(most)]
    return _bars("label", rows)


def _times(found: DryRun) -> Any:
    from modyn.dates import moment

    starts = [moment(at, found.timestamp_unit) for at in found.edges[:-1]]
    return _bars("time from", list(zip(starts, found.times, strict=True)))


def _bars(name: str, rows: Sequence[tuple[str, Counts]]) -> Any:
    """Return a table with a bar per row: what was chosen, then what could have been besides."""
    table = _table(name, "candidates", "chosen", "share", "")
    most = max((max(c.candidates, c.chosen) for _, c in rows), default=0) or 1
    for words, counts in rows:
        full = round(BAR * counts.chosen / most)
        rest = max(round(BAR * counts.candidates / most) - full, 0)
        if counts.chosen and full == 0:
            full, rest = 1, max(rest - 1, 0)
        bar = f"[cyan]{'█' * full}[/cyan][bright_black]{'░' * rest}[/bright_black]"
        table.add_row(words, *_numbers(counts), bar)
    return table


def _numbers(counts: Counts) -> list[str]:
    share = f"{counts.chosen / counts.candidates:.1%}" if counts.candidates else "-"
    return [f"{counts.candidates:,}", f"{counts.chosen:,}", share]


def _table(*names: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        left = name in ("from", "to", "time from", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    return table


def _print_json(found: DryRun) -> None:
    import json

    typer.echo(
        json.dumps({**asdict(found), "total": asdict(found.total)}, indent=2, allow_nan=False)
    )
