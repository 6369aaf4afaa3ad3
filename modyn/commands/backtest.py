"""`modyn backtest`: trigger policies held against recorded runs, shown as a table and a picture."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modyn.commands.answers import InputError, answers

if TYPE_CHECKING:
    from modyn.backtesting.backtest import Bench
    from modyn.backtesting.result import Backtest, Entry
    from modyn.backtesting.space import Space
    from modyn.pipelines.run import Run

ROWS = 30  # of the front


def backtest(
    file: Annotated[Path, typer.Argument(metavar="SPACE.yaml", show_default=False)],
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", metavar="RUN", help="A run, or a folder of runs; in place of the file's."
        ),
    ] = None,
    datasets: Annotated[Path, typer.Option(help="Folder of the datasets.")] = Path("datasets"),
    budget: Annotated[
        float | None, typer.Option(min=0, help="Name the best policy that costs no more.")
    ] = None,
    train_missing: Annotated[
        bool,
        typer.Option("--train-missing", help="Do the trainings that estimates lack, in OUT."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Folder of trainings for backtests.")
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Begin no further round after so many trainings."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Let model.id name code of this module."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the picture, too.")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a picture of that page; needs a browser."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Say what trigger policies would have cost and scored, from what runs recorded.

    Exact where their trainings were recorded, and marked as estimated elsewhere. Nothing is
    trained, unless --train-missing says so: then the missing trainings are done, each once, those
    of policies first that may still be on the front. What earlier backtests left in OUT counts as
    recorded.
    """
    again = shlex.join(["modyn", *sys.argv[1:]])
    with answers(debug, f"what was trained is kept; to go on: {again}"):
        from modyn.backtesting import space as spaces
        from modyn.backtesting.backtest import Bench, recordings

        if train_missing and out is None:
            raise InputError("--train-missing needs --out OUT, the folder for its runs")
        space = spaces.read(file)
        runs_found = _opened(file, space, runs or [])
        dataset, matrices = recordings(runs_found, datasets=datasets, metric=space.metric)
        if allow:
            sys.path.append(str(Path.cwd()))  # at the end, so that it hides nothing
        bench = Bench(
            matrices=matrices,
            dataset=dataset,
            policies=space.triggers(dataset.timestamp_unit),
            cost=space.cost,
            without_model=space.without_model,
            allow=allow or (),
        )
        found = _judged(bench, out, most if train_missing else 0, quiet=as_json)
        if as_json:
            _print_json(found, budget)
        else:
            _print(found, budget)
        _write(found, file.stem, html, png, quiet=as_json)


def _judged(bench: Bench, out: Path | None, most: int | None, *, quiet: bool) -> Backtest:
    """Return what the policies come to, with at most so many more trainings."""
    if out is None:
        return bench.judge()
    if most == 0 or quiet:
        return bench.complete(out, most=most)
    from rich.console import Console

    from modyn.progress import shown

    with shown(Console(), len(bench.matrices)) as progress:
        return bench.complete(out, most=most, progress=progress)


def _opened(file: Path, space: Space, paths: Sequence[Path]) -> list[Run]:
    from modyn.pipelines import rundir
    from modyn.pipelines.run import Run

    chosen = list(paths) or list(space.runs)
    if not chosen:
        raise InputError(f"{file}: names no runs; name them there, or with --run RUN")
    runs = []
    for path in chosen:
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder")
        inside = [path] if rundir.is_run(path) else sorted(filter(rundir.is_run, path.iterdir()))
        if not inside:
            raise InputError(f"{path}: holds no runs")
        runs += [Run.open(one) for one in inside]
    return runs


def _write(found: Backtest, about: str, html: Path | None, png: Path | None, quiet: bool) -> None:
    if html is None and png is None:
        return
    from modyn.report.backtestpage import height_of, write_backtest
    from modyn.report.shot import write_png

    try:
        if html is not None:
            write_backtest(found, html, about=about)
        if png is not None:
            write_png(
                lambda page: write_backtest(found, page, about=about), png, height=height_of(found)
            )
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "plotly":
            raise
        needed = "the page needs plotly: pip install 'modyn[report]'"
        raise ModuleNotFoundError(needed, name="plotly") from None
    for path in filter(None, () if quiet else (html, png)):
        typer.echo(f"written: {path}")


# Printing ----------------------------------------------------------------------------------------


def _print(found: Backtest, budget: float | None) -> None:
    from rich.markup import escape

    from modyn.commands.show import console

    out = console()
    exact = sum(entry.exact for entry in found)
    seeds = "one seed" if found.seeds == 1 else f"{found.seeds} seeds"
    out.print(
        f"{len(found):,} policies, {exact:,} exact, on {found.compared} of {found.windows} windows "
        f"and {seeds}; {len(found.front):,} are dominated by none:"
    )
    out.print(_front(found))
    if len(found.front) > ROWS:
        out.print(f"and {len(found.front) - ROWS:,} more; --json lists all")
    best = found.oracle.score
    most = next(k for k in found.oracle.trainings.tolist() if best[k - 1] >= best[-1] - 1e-12)
    out.print(
        f"oracle: no schedule of the recorded models scores more than {best[-1]:.4f} "
        f"({most} trainings), and none with one training more than {best[0]:.4f}",
        soft_wrap=True,
    )
    if exact < len(found):
        out.print(
            f"{len(found) - exact:,} policies are estimated: the nearest earlier models stand in "
            "for trainings that were not recorded",
            soft_wrap=True,
        )
    if budget is not None:
        out.print(escape(_at(found, budget)), soft_wrap=True)


def _at(found: Backtest, budget: float) -> str:
    entry = found.best(budget)
    limit = f"{budget:,.6g} ({found.cost.name})"
    if entry is None:
        return f"no policy costs at most {limit}"
    return f"best at {limit}: {entry.name}, {found.metric} {entry.score:.4f}"


def _front(found: Backtest) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("policy", overflow="fold")
    names = ["trainings", found.cost.name, found.metric]
    names += ["from", "to"] if found.seeds > 1 else []
    for name in [*names, "bound"]:
        table.add_column(name, justify="right")
    table.add_column("")
    for entry in found.front[:ROWS]:
        table.add_row(*map(escape, _cells(found, entry)))
    return table


def _cells(found: Backtest, entry: Entry) -> list[str]:
    from modyn.backtesting.cost import shown

    band = [f"{value:.4f}" for value in entry.scores] if found.seeds > 1 else []
    bound = f"{found.oracle.at(entry.cost):.4f}" if entry.exact else "-"
    state = "exact" if entry.exact else f"estimated ({entry.missing} missing)"
    numbers = [shown(entry.trainings), shown(entry.cost), f"{entry.score:.4f}"]
    return [entry.name, *numbers, *band, bound, state]


def _print_json(found: Backtest, budget: float | None) -> None:
    import json

    best = None if budget is None else found.best(budget)
    value = {
        "metric": found.metric,
        "cost": found.cost.name,
        "seeds": found.seeds,
        "windows": {"compared": found.compared, "all": found.windows},
        "policies": found.table.rows(),
        "oracle": {
            "trainings": found.oracle.trainings.tolist(),
            "score": found.oracle.score.tolist(),
            "costs": found.oracle.costs.tolist(),
            "scores": found.oracle.scores.tolist(),
        },
        "best": None if best is None else best.name,
    }
    typer.echo(json.dumps(value, indent=2, allow_nan=False))
