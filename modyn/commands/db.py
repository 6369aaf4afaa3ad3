"""`modyn db ...`: a private PostgreSQL in a folder, for metadata, and what lies in a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.commands.answers import FAILED, InputError, answers

if TYPE_CHECKING:
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
    typer.echo("In the file of a pipeline, or behind modyn run --metadata:")
    typer.echo(f"    metadata: {server.url}")
