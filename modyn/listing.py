"""Tables for the terminal: what a run came to, and which datasets and runs are there."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modyn.dates import moment
from modyn.errors import CorruptError, DatabaseError

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.pipelines.run import Run

PLAIN_WIDTH = 160  # columns where there is no terminal to ask

# What a damaged folder raises; it is a row of the list all the same.
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, CorruptError)

# Stages that are shown as one column: what deciding costs, what training costs, and the rest.
STAGES = {
    "decide": ("policy", "select", "write"),
    "load": ("load",),
    "train": ("irreducible", "score", "train"),
    "store": ("store",),
    "evaluate": ("evaluate",),
}


def print_summary(runs: Sequence["Run"]) -> None:
    """Print a row per run: triggers, samples trained, seconds per stage, composite scores."""
    console = _console()
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.metrics))
    amounts = ["triggers", "samples\ntrained"]
    seconds = [f"{stage}\ns" for stage in (*STAGES, "total")]
    scores = [f"{metric}\n(active)" for metric in metrics]
    rows = [
        (run.name, [*_amounts(run), *_seconds(run), *(_score(run, metric) for metric in metrics)])
        for run in runs
    ]
    whole = _table("pipeline", amounts + seconds + scores, rows)
    if _natural_width(whole) <= console.width:
        console.print(whole)
        return
    # Too narrow for one: a table of costs below one of amounts and scores.
    first, last = len(amounts), len(amounts) + len(seconds)
    short = [(name, cells[:first] + cells[last:]) for name, cells in rows]
    console.print(_table("pipeline", amounts + scores, short))
    costs = [(name, cells[first:last]) for name, cells in rows]
    console.print(_table("pipeline", seconds, costs))


def print_datasets(paths: Iterable[Path], folder: Path) -> None:
    """Print a row per dataset: samples, time span, fields, size on disk."""
    from modyn.dataset import Dataset

    table = _head("dataset", "samples", "from", "to", "fields", "MB")
    for path in paths:
        try:
            with Dataset.open(path) as dataset:
                cells = _dataset_cells(dataset, path)
        except UNREADABLE as error:
            cells = ["-", "-", "-", f"cannot be read: {error}", "-"]
        table.add_row(*map(escape, (_relative(path, folder), *cells)))
    _console().print(table)


def print_runs(paths: Iterable[Path], folder: Path) -> None:
    """Print a row per run: how far it is, and its scores."""
    from modyn.pipelines import rundir

    table = _head("run", "state", "triggers", "samples trained", "total s", "scores (active)")
    away: dict[str | None, str] = {}  # databases, and why: each is tried once
    for path in paths:
        url = rundir.metadata_url(path)
        try:
            cells = _not_reached(away[url]) if url in away else _run_cells(path)
        except FileNotFoundError:
            cells = ["not begun", "-", "-", "-", ""]
        except (DatabaseError, ModuleNotFoundError) as error:
            away[url] = str(error).removeprefix(f"{path}: ")
            cells = _not_reached(away[url])
        except UNREADABLE as error:
            cells = ["broken", "-", "-", "-", str(error)]
        table.add_row(*map(escape, (_relative(path, folder), *cells)))
    _console().print(table)


def _run_cells(path: Path) -> list[str]:
    from modyn.pipelines.run import Run

    run = Run.open(path)
    scores = ", ".join(f"{metric} {_score(run, metric)}" for metric in run.metrics)
    state = "finished" if run.finished else "unfinished"
    return [state, *_amounts(run), _seconds(run)[-1], scores]


def _not_reached(why: str) -> list[str]:
    return ["database not reached", "-", "-", "-", why]


def stage_seconds(run: "Run") -> dict[str, float]:
    """Return the seconds of a run by the stages of STAGES."""
    spent = run.seconds
    return {name: sum(spent.get(part, 0.0) for part in parts) for name, parts in STAGES.items()}


def _amounts(run: "Run") -> list[str]:
    found = f" ({run.totals['found']:,} found)" if run.totals["found"] else ""
    return [f"{run.totals['triggers']:,}{found}", f"{run.totals['samples_trained']:,}"]


def _seconds(run: "Run") -> list[str]:
    spent = stage_seconds(run)
    return [f"{value:.1f}" for value in (*spent.values(), sum(spent.values()))]


def _score(run: "Run", metric: str) -> str:
    if metric not in run.metrics:
        return "-"
    value = run.score(metric)
    return "-" if value is None else f"{value:.4f}"


def _dataset_cells(dataset: "Dataset", path: Path) -> list[str]:
    unit, times = dataset.timestamp_unit, dataset.timestamps
    span = [moment(int(times.min()), unit), moment(int(times.max()), unit)] if len(dataset) else []
    fields = ", ".join(f"{name}: {kind}" for name, kind in dataset.schema.items())
    size = sum(file.stat().st_blocks * 512 for file in path.iterdir() if file.is_file())
    return [f"{len(dataset):,}", *(span or ["-", "-"]), fields, f"{size / 1e6:.1f}"]


def _table(first: str, names: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Table:
    table = _head(first, *names)
    for name, cells in rows:
        table.add_row(escape(name), *map(escape, cells))
    return table


def _head(first: str, *names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in names:
        is_text = name in ("state", "from", "to", "fields", "scores (active)")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    return table


def _natural_width(table: Table) -> int:
    """Return the columns that a table takes where nothing is folded."""
    wide = Console(width=10_000)
    return wide.measure(table).maximum


def _relative(path: Path, folder: Path) -> str:
    return str(path) if folder == Path() or path == folder else str(path.relative_to(folder))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)
