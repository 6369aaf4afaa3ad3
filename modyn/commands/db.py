"""`modyn db ...`: a private PostgreSQL in a folder, for metadata, and what lies in a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.commands.answers import FAILED, InputError, answers

if TYPE_CHECKING:
    from modyn.metadata.contents import Contents
    from modyn.metadata.server import LocalServer, Status

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the server.")]
Bin = Annotated[
    Path | None,
    typer.Option("--bin", metavar="DIR", help="Where initdb and postgres lie, if not found."),
]
Seconds = Annotated[float, typer.Option(min=1, help="How long to wait.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

commands = typer.Typer(help="Run a private PostgreSQL for metadata in a folder.")


@commands.command()
def start(
    folder: Folder, bin_directory: Bin = None, seconds: Seconds = 60, debug: Debug = False
) -> None:
    """Start the server of a folder, and make it if there is none; it lives on by itself.

    It can be reached only on this machine, by whoever started it.
    """
    with answers(debug):
        from modyn.metadata.server import LocalServer

        server = LocalServer(folder, bin_directory=bin_directory)
        ran = server.pid is not None
        server.start(seconds=seconds)
        typer.echo(f"{folder}: {'runs already' if ran else 'started'}")
        _print_status(server.status())
        _print_use(server)


@commands.command()
def stop(folder: Folder, seconds: Seconds = 60, debug: Debug = False) -> None:
    """Stop the server of a folder; what was committed stays."""
    with answers(debug):
        stopped = _server(folder).stop(seconds=seconds)
        typer.echo(f"{folder}: {'stopped' if stopped else 'was not running'}")


@commands.command()
def status(folder: Folder, bin_directory: Bin = None, debug: Debug = False) -> None:
    """Say how the server of a folder is; exit code 1 if it does not run."""
    with answers(debug):
        server = _server(folder, bin_directory)
        found = server.status()
        _print_status(found)
        if not found.running:
            raise typer.Exit(FAILED)
        _print_use(server)


@commands.command()
def info(
    url: Annotated[str, typer.Argument(metavar="URL", help="The database, without a password.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Say what is in a database: datasets, pipelines, size. Nothing is changed."""
    with answers(debug):
        from modyn.metadata.contents import contents
        from modyn.metadata.database import Database

        with Database(url, prepare=False) as database:
            found = contents(database)
        if found is None:
            raise InputError(
                f"{database.url.place}: holds no metadata yet; modyn dataset publish brings some"
            )
        if as_json:
            import json
            from dataclasses import asdict

            typer.echo(json.dumps(asdict(found), indent=2))
        else:
            _print_contents(str(database.url), found)


@commands.command()
def forget(
    url: Annotated[str, typer.Argument(metavar="URL", help="The database, without a password.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the pipeline.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Remove a pipeline from a database: its ledger, stream, training sets and signals.

    Its run directory stays, with the models; datasets stay. Refused while somebody runs it.
    """
    with answers(debug):
        from modyn.metadata.database import Database
        from modyn.pipelines import forget as removal

        with Database(url) as database:
            triggers = removal.triggers_of(database, name)
            if triggers is None:
                raise InputError(f"{url}: there is no pipeline {name!r}")
            if not yes:
                what = f"{url}: forget pipeline {name!r} and its {triggers:,} triggers?"
                typer.confirm(what, abort=True)
            removal.forget(database, name)
        typer.echo(f"{url}: pipeline {name!r} is forgotten")


def _server(folder: Path, bin_directory: Path | None = None) -> LocalServer:
    """Return the server of a folder that is there."""
    from modyn.metadata.server import LocalServer

    if not folder.exists():
        raise InputError(f"{folder}: there is no such folder")
    server = LocalServer(folder, bin_directory=bin_directory)
    server.check_folder()
    return server


def _print_status(found: Status) -> None:
    from rich.markup import escape
    from rich.table import Table

    from modyn.commands.show import console

    if found.running:
        state = f"running, process {found.pid}"
    elif found.pid is not None:
        state = f"not ready, process {found.pid}"
    else:
        state = "not running"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("server", state)
    table.add_row("folder", escape(str(found.folder)))
    table.add_row("version", f"PostgreSQL {found.version}" if found.version else "none yet")
    table.add_row("data", f"{found.size_bytes / 1e6:,.1f} MB")
    console().print(table)


def _print_use(server: LocalServer) -> None:
    # Plain lines, whole: they are there to be copied.
    typer.echo(f"url     {server.url}")
    typer.echo("")
    typer.echo("In the file of a pipeline, or in quotes behind modyn run --metadata:")
    typer.echo(f"    metadata: {server.url}")


def _print_contents(url: str, found: Contents) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from modyn.commands.show import console

    typer.echo(url)
    typer.echo(f"schema {found.schema}, {found.size_bytes / 1e6:,.1f} MB")
    out = console()
    datasets = Table("dataset", box=SIMPLE_HEAD, pad_edge=False)
    datasets.add_column("samples", justify="right")
    datasets.add_column("erased", justify="right")
    for name in ("layout", "order", "uuid"):
        datasets.add_column(name)
    for data in found.datasets:
        datasets.add_row(
            escape(data.name),
            f"{data.count:,}",
            f"{data.erased:,}",
            data.layout + (", unlogged" if data.unlogged else ""),
            "ascending" if data.ascending else "mixed",
            data.uuid,
        )
    pipelines = Table("pipeline", box=SIMPLE_HEAD, pad_edge=False)
    pipelines.add_column("triggers", justify="right")
    for name in ("state", "held by"):
        pipelines.add_column(name)
    for line in found.pipelines:
        state = "finished" if line.finished else "unfinished"
        pipelines.add_row(
            escape(line.name), f"{line.triggers:,}", state, escape(line.holder or "nobody")
        )
    for table in (datasets, pipelines):
        out.print(table if table.row_count else f"no {table.columns[0].header}s")
