"""The command line: run pipelines, check their files, write reports, list what is there.

    modyn run examples/weather/*.yaml --out runs/weather
    modyn run examples/weather/*.yaml --out runs/weather --metadata postgresql:///modyn
    modyn run examples/weather/monthly.yaml --out runs/weather --follow
    modyn validate examples/*/*.yaml
    modyn report runs/weather
    modyn ls
    modyn ingest datasets/weather incoming/ --format csv --timestamp day --follow
    modyn dataset info datasets/weather
    modyn dataset verify datasets/weather
    modyn audit datasets/weather
    modyn db start metadata/
    modyn select --dry-run examples/weather/balanced_half.yaml
    modyn backtest space.yaml --datasets datasets --html backtest.html
    modyn provenance who-saw 4711 runs/weather/

Exit codes: 0 all went well, 1 something went wrong on the way, 2 the input is at fault, 130
interrupted.  What went wrong is one message on stderr; --debug adds the traceback.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.commands.answers import InputError, answers, complain, message
from modyn.commands.backtest import backtest
from modyn.commands.dataset import audit, commands
from modyn.commands.db import commands as db_commands
from modyn.commands.follow import Signals
from modyn.commands.follow import follow as follow_all
from modyn.commands.ingest import ingest
from modyn.commands.provenance import commands as provenance_commands
from modyn.commands.select import select

if TYPE_CHECKING:
    from modyn.pipelines.config import PipelineConfig
    from modyn.pipelines.pipeline import Pipeline
    from modyn.pipelines.run import Run

MANIFEST, REPORT, MODELS = "manifest", "report.html", ".models"
NO_PLOTLY = "reports need plotly: pip install 'modyn[report]'"

app = typer.Typer(
    name="modyn",
    help="Train models again and again on growing data, and see what each policy costs and gains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(commands, name="dataset", no_args_is_help=True)
app.add_typer(db_commands, name="db", no_args_is_help=True)
app.add_typer(provenance_commands, name="provenance", no_args_is_help=True)
app.command()(audit)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Files = Annotated[list[Path], typer.Argument(metavar="PIPELINE.yaml", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            typer.echo(f"modyn {installed('modyn')}")
        except PackageNotFoundError:
            typer.echo("modyn, from its source tree")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the entry point of `modyn`."""
    app(prog_name="modyn")


@app.command()
def run(
    files: Files,
    out: Annotated[Path, typer.Option(help="Folder of the runs, one folder per pipeline.")],
    datasets: Annotated[Path, typer.Option(help="Folder of the datasets.")] = Path("datasets"),
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Let model.id name code of this module, which is also looked for here.",
        ),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The Postgres database for metadata, whatever a file says; without a password.",
        ),
    ] = None,
    publish: Annotated[
        bool,
        typer.Option(help="Publish first what a dataset has and the database has not."),
    ] = False,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder of models that runs share, and train once; OUT/.models if not given."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on as samples come, until Ctrl-C or SIGTERM."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Run pipelines, one after the other, and report on them.

    Each pipeline has its folder OUT/NAME/.  A run that was interrupted goes on where it was; one
    that is finished is left as it is.  What one pipeline has trained the others find, from the
    same data, recipe and seed.  With --follow they take turns as samples come, until a signal
    stops them (exit code 0); the same command goes on, and without --follow ends the runs.
    """
    again = shlex.join(["modyn", *sys.argv[1:]])
    with ExitStack() as stack:
        signals = stack.enter_context(Signals()) if follow else None
        stack.enter_context(answers(debug, f"what was done is kept; to go on: {again}"))
        if allow:
            sys.path.append(str(Path.cwd()))  # at the end, so that it hides nothing
        pipelines = [
            (file, _placed(file, settings, metadata, publish))
            for file, settings in _checked(files, out, datasets)
        ]
        shared = models or out / MODELS
        if signals is not None:
            made = partial(_opened, pipelines, datasets, allow or [])
            follow_all(made, out, again, shared, signals)
            return
        runs = _follow(pipelines, out, datasets, allow or [], shared)
        _print_summary(runs)
        _write_reports(runs, out)


@app.command()
def validate(files: Files, debug: Debug = False) -> None:
    """Check pipeline files; nothing that they name is run, imported or opened."""
    from modyn.errors import ConfigError
    from modyn.pipelines import config

    with answers(debug):
        wrong = []
        for file in files:
            try:
                name = config.validate(file)
            except (ConfigError, OSError) as error:
                wrong.append(message(error))
            else:
                typer.echo(f"{file}: ok, pipeline {name!r}")
        if wrong:
            raise InputError("\n".join(wrong))


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a folder of runs.")],
    debug: Debug = False,
) -> None:
    """Write DIR/report.html anew from what the runs in DIR recorded."""
    from modyn.errors import CorruptError, DatabaseError
    from modyn.pipelines import rundir
    from modyn.pipelines.run import Run

    with answers(debug):
        if not directory.is_dir():
            raise InputError(f"{directory}: there is no such folder")
        if rundir.is_run(directory):
            _write_reports([Run.open(directory)], None, needed=True)
            return
        runs = []
        for path in filter(rundir.is_run, sorted(directory.iterdir())):
            try:
                runs.append(Run.open(path))
            except (OSError, ValueError, CorruptError, DatabaseError) as error:
                complain(f"left out: {message(error)}")
        if not runs:
            raise InputError(f"{directory}: holds no runs")
        _write_reports(runs, directory, needed=True)


@app.command()
def ls(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to look.")] = Path(),
    debug: Debug = False,
) -> None:
    """List the datasets and runs in a folder, up to three folders deep."""
    from modyn import listing
    from modyn.pipelines import rundir

    with answers(debug):
        if not directory.is_dir():
            raise InputError(f"{directory}: there is no such folder")
        found = list(_walk(directory, depth=3))
        datasets = [path for path in found if (path / MANIFEST).exists()]
        runs = [path for path in found if rundir.is_run(path)]
        if not found:
            typer.echo(f"{directory}: no datasets and no runs")
        if datasets:
            listing.print_datasets(datasets, directory)
        if runs:
            listing.print_runs(runs, directory)


app.command()(ingest)
app.command()(select)
app.command()(backtest)


# Running -----------------------------------------------------------------------------------------


def _checked(
    files: Sequence[Path], out: Path, datasets: Path
) -> list[tuple[Path, "PipelineConfig"]]:
    """Return the configurations of all files, or one message with all that is wrong with any."""
    from modyn.errors import ConfigError
    from modyn.pipelines import config

    pipelines, wrong = [], []
    for file in files:
        try:
            pipelines.append((file, config.read(file)))
        except (ConfigError, OSError) as error:
            wrong.append(message(error))
    seen: dict[str, Path] = {}
    for file, settings in pipelines:
        wrong += _name_problems(file, settings.name, seen)
        wrong += _dataset_problems(file, settings, datasets)
        seen.setdefault(settings.name, file)
    if out.exists() and not out.is_dir():
        wrong.append(f"{out}: is a file, and --out must be a folder")
    if wrong:
        raise InputError("\n".join(wrong))
    return pipelines


def _placed(
    file: Path, settings: "PipelineConfig", url: str | None, publish: bool
) -> "PipelineConfig":
    """Return a configuration with the database that the command names, or that of the file."""
    from modyn.pipelines.settings import place

    where = place(settings.metadata, url)
    if publish:
        if where is None:
            raise InputError(f"{file}: --publish needs --metadata URL, or metadata in the file")
        where = replace(where, publish=True)
    return replace(settings, metadata=where)


def _name_problems(file: Path, name: str, seen: dict[str, Path]) -> Iterator[str]:
    """Say why a pipeline's name cannot be that of its folder."""
    if name in seen:
        yield f"{file}: pipeline.name {name!r} is that of {seen[name]}, too"
    if re.search(r"[/\x00-\x1f\x7f]", name) or name.startswith(".") or len(name.encode()) > 200:
        yield (
            f"{file}: pipeline.name {name!r} cannot be the name of a folder: "
            "no '/', no control characters, no '.' at the start, at most 200 bytes"
        )
    if name == REPORT:
        yield f"{file}: pipeline.name {name!r} is the name of the report"


def _dataset_problems(file: Path, settings: "PipelineConfig", datasets: Path) -> Iterator[str]:
    """Say which datasets are not there, and how to make them."""
    evaluated = settings.evaluation.datasets if settings.evaluation else ()
    for name in dict.fromkeys([settings.dataset_id, *(data.dataset_id for data in evaluated)]):
        if (datasets / name / MANIFEST).exists():
            continue
        script = file.parent / "prepare.py"
        hint = ""
        if script.exists():
            hint = f"; make it with: python {script} --datasets {datasets}"
        yield f"{file}: data.dataset_id: there is no dataset {name!r} in {datasets}{hint}"


def _follow(
    pipelines: Sequence[tuple[Path, "PipelineConfig"]],
    out: Path,
    datasets: Path,
    allow: Sequence[str],
    models: Path,
) -> list["Run"]:
    from rich.console import Console

    from modyn.progress import shown

    runs = []
    console = Console()
    with shown(console, len(pipelines)) as progress:
        for one in pipelines:
            directory = out / one[1].name
            (pipeline,) = _opened([one], datasets, allow)
            if _is_finished(directory):
                console.print(f"{pipeline.name}: finished already", markup=False, highlight=False)
            runs.append(pipeline.replay(directory, progress=progress, models=models))
    return runs


def _opened(
    pipelines: Sequence[tuple[Path, "PipelineConfig"]], datasets: Path, allow: Sequence[str]
) -> "list[Pipeline]":
    """Return the pipelines, each with dataset handles of its own."""
    from modyn.pipelines.pipeline import Pipeline

    return [
        Pipeline.from_yaml(file, datasets, allow=allow, metadata=settings.metadata)
        for file, settings in pipelines
    ]


def _is_finished(directory: Path) -> bool:
    from modyn.pipelines.run import Run

    try:
        return Run.open(directory).finished
    except FileNotFoundError:  # or killed before anything was in its ledger
        return False


def _print_summary(runs: Sequence["Run"]) -> None:
    from modyn import listing

    listing.print_summary(runs)


# Reports -----------------------------------------------------------------------------------------


def _write_reports(runs: Sequence["Run"], out: Path | None, needed: bool = False) -> None:
    """Write a page per run, and one that compares them if `out` is given."""
    from modyn import report as pages

    try:
        for one in runs:
            path = pages.write_run(one)
        if out is not None:
            path = pages.write_comparison(runs, out / REPORT)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "plotly":
            raise
        if needed:
            raise ModuleNotFoundError(NO_PLOTLY, name="plotly") from None
        complain(f"no report was written; {NO_PLOTLY}, then modyn report {out}")
        return
    typer.echo(f"report: {path}")


# Listing -----------------------------------------------------------------------------------------


def _walk(directory: Path, depth: int) -> Iterator[Path]:
    """Yield the folders that are datasets or runs, in the order of their names."""
    from modyn.pipelines import rundir

    if (directory / MANIFEST).exists() or rundir.is_run(directory):
        yield directory
        return
    if depth == 0:
        return
    try:
        inner = sorted(path for path in directory.iterdir() if path.is_dir())
    except PermissionError:
        return
    for path in inner:
        if not path.name.startswith("."):
            yield from _walk(path, 0 if path.is_symlink() else depth - 1)


if __name__ == "__main__":
    main()
