"""`modyn dataset ...` and `modyn audit`: what is in a dataset, is it whole, and what is done to it.

Exit codes are those of modyn/cli.py; `verify`, `repair` and `audit` end with 1 when something is
wrong, too, so that a script need not read what they print.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modyn.commands.answers import FAILED, InputError, answers

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.maintenance import RepairReport, VerifyReport

SHOWN = 50
"""Findings that are printed; --json has all of them."""

Where = Annotated[Path, typer.Argument(metavar="PATH", help="The folder of the dataset.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Threads = Annotated[int, typer.Option(min=1, max=64, help="How many read.")]


commands = typer.Typer(help="Look into a dataset, check and repair it, erase and export.")


@commands.command()
def info(path: Where, as_json: Json = False, debug: Debug = False) -> None:
    """Say what is in a dataset: samples, time, labels, files, bytes on disk."""
    with answers(debug):
        from modyn.commands import facts, show

        with _open(path) as dataset:
            found = facts.facts(dataset)
        _print_json(found) if as_json else show.print_info(found)


@commands.command()
def verify(path: Where, threads: Threads = 2, as_json: Json = False, debug: Debug = False) -> None:
    """Hold every byte against its checksum and list all damage; nothing is changed.

    Exit code 1 if anything is damaged.
    """
    with answers(debug):
        from modyn.commands import show
        from modyn.maintenance import verify as check

        report = check(path, threads=threads)
        if as_json:
            _print_json(_report(report))
        else:
            show.print_verify(report, SHOWN)
        if not report.ok:
            raise typer.Exit(FAILED)


@commands.command()
def repair(
    path: Where,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    erase_damaged: Annotated[
        bool,
        typer.Option(
            "--erase-damaged",
            help="Erase samples whose bytes are damaged, so that the others read without errors.",
        ),
    ] = False,
    cut_sources: Annotated[
        bool,
        typer.Option(
            "--cut-sources",
            help="Cut a damaged journal of ingested files; files may then come in twice.",
        ),
    ] = False,
    threads: Threads = 2,
    debug: Debug = False,
) -> None:
    """Make a damaged dataset open again; every whole commit is kept.

    Exit code 1 if damage is left, or would be.
    """
    with answers(debug):
        from modyn.commands import show
        from modyn.maintenance import repair as mend

        report = mend(
            path,
            dry_run=dry_run,
            erase_damaged=erase_damaged,
            cut_sources=cut_sources,
            threads=threads,
        )
        show.print_repair(report, SHOWN)
        if _is_left(report):
            raise typer.Exit(FAILED)


@commands.command()
def compact(path: Where, debug: Debug = False) -> None:
    """Remove the bytes of erased samples from the files; keys of others stay."""
    with answers(debug):
        with _open(path, "w") as dataset:
            done = dataset.compact()
        typer.echo(
            f"{path}: {done.segments:,} segments written anew; the bytes of "
            f"{done.samples:,} erased samples are gone"
        )
        for file, samples in done.linked:
            typer.echo(f"{path}: {samples:,} erased samples are still in your own file {file}")


@commands.command()
def erase(
    path: Where,
    reason: Annotated[str, typer.Option(help="Why; it goes into the journal.")],
    keys: Annotated[
        str | None, typer.Option(metavar="1,2,5-9", help="Samples by their keys.")
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option(help="A file of keys, one or more per line.")
    ] = None,
    label: Annotated[
        list[int] | None, typer.Option(help="Samples with this label; may be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="From this time on: an ISO date or a number."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before this time.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Samples that were ingested from this file.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Erase samples for good; all conditions that are given must hold."""
    with answers(debug):
        from modyn.erasure import Erasure, check_reason

        try:
            check_reason(reason)
            wanted = Erasure(
                keys=_keys(keys, keys_file),
                labels=label or None,
                since=_time(since),
                until=_time(until),
                file=file,
            )
            with _open(path, "w") as dataset:
                found = wanted.find(dataset)
                count = _newly_erased(dataset, found)
                if count and not yes:
                    typer.confirm(f"{path}: erase {count:,} samples?", abort=True)
                done = dataset.erase(found, reason=reason)
        except (ValueError, KeyError) as error:
            raise InputError(error.args[0] if error.args else str(error)) from error
        typer.echo(f"{path}: {done:,} samples erased")
        if done:
            typer.echo(f"their bytes are in the files until: modyn dataset compact {path}")


@commands.command()
def export(
    path: Where,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to be written.")],
    format: Annotated[
        str | None,
        typer.Option(help="npz, csv, jsonl or parquet; by default as the file's name ends."),
    ] = None,
    keys: Annotated[str | None, typer.Option(metavar="1,2,5-9", help="Only these samples.")] = None,
    keys_file: Annotated[
        Path | None, typer.Option(help="A file of keys, one or more per line.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write samples to a file; those that are erased are left out."""
    with answers(debug):
        from modyn.export import FORMATS

        chosen = format or out.suffix.removeprefix(".")
        if chosen not in FORMATS:
            raise InputError(f"{out}: say the format: --format {'|'.join(FORMATS)}, got {chosen!r}")
        with _open(path) as dataset:
            try:
                count = dataset.export(
                    out,
                    format=chosen,  # type: ignore[arg-type]
                    keys=_keys(keys, keys_file),
                )
            except (ValueError, KeyError) as error:
                raise InputError(error.args[0] if error.args else str(error)) from error
        typer.echo(f"{out}: {count:,} samples")


@commands.command()
def publish(
    path: Where,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="postgresql://user@host/database, without a password in it."
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option(help="rows (one per sample; the default) or blocks (one per 16,384, faster)."),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=64, help="How many send.")] = 2,
    unlogged: Annotated[
        bool,
        typer.Option("--unlogged", help="Faster; a crash of the server empties the tables."),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Send keys, timestamps and labels that are new to Postgres, and take out what was erased.

    Safe to interrupt and to repeat: every sample is sent once.
    """
    with answers(debug, "what was sent stays; the same command goes on from there"):
        if layout not in (None, "rows", "blocks"):
            raise InputError(f"--layout must be rows or blocks, got {layout!r}")
        with _open(path) as dataset, _bar(shown=not as_json) as progress:
            report = dataset.publish(
                url,
                layout=layout,  # type: ignore[arg-type]
                connections=connections,
                unlogged=True if unlogged else None,
                progress=progress,
            )
        _print_json(asdict(report)) if as_json else typer.echo(f"{path}: {report}")


@contextmanager
def _bar(*, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show how far it is, where somebody looks at a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task("samples", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def audit(path: Where, as_json: Json = False, debug: Debug = False) -> None:
    """Print what was erased and compacted, when, by whom and why, and verify the journal.

    Exit code 1 if the journal was changed or is damaged.
    """
    with answers(debug):
        from modyn.commands import facts, show

        with _open(path) as dataset:
            events = dataset.audit()
            erased, pending = facts.pending_erasures(dataset, events)
            waiting = facts.waiting_keys(dataset, events)
        if as_json:
            _print_json(
                {
                    "path": str(path),
                    "verified": True,
                    "erased": erased,
                    "erased_not_compacted": pending,
                    "keys_not_compacted": [[part.start, part.stop] for part in waiting],
                    "events": [_plain(event) for event in events],
                }
            )
        else:
            show.print_audit(str(path), events, waiting)


def _open(path: Path, mode: str = "r") -> Dataset:
    from modyn.dataset import Dataset

    return Dataset.open(path, mode=mode)  # type: ignore[arg-type]


def _is_left(report: RepairReport) -> bool:
    if report.left is not None:
        return not report.left.ok
    return bool(report.steps)


def _newly_erased(dataset: Dataset, keys: Any) -> int:
    if len(keys) and int(keys[-1]) >= len(dataset):
        raise KeyError(f"no sample has key {int(keys[-1])}: {dataset.path} has {len(dataset)}")
    return int((~dataset.erased[keys]).sum()) if len(keys) else 0


# Reading arguments -------------------------------------------------------------------------------


def _keys(text: str | None, file: Path | None) -> Any:
    """Return keys from the command line and from a file, or None if neither is given."""
    import numpy as np

    if text is None and file is None:
        return None
    words = [] if text is None else text.split(",")
    if file is not None:
        words += file.read_text().replace(",", " ").split()
    parts = [np.arange(part.start, part.stop, dtype=np.uint64) for part in _ranges(words)]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)


def _ranges(words: list[str]) -> Iterator[range]:
    for word in words:
        found = re.fullmatch(r"\s*(\d{1,15})(?:-(\d{1,15}))?\s*", word)
        if found is None:
            raise ValueError(f"{word!r} is neither a key nor a range of keys such as 5-9")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ValueError(f"{word!r}: the range ends before it begins")
        yield range(first, last + 1)


def _time(text: str | None) -> Any:
    """Return a time as a number in the unit of the dataset, or as a datetime64 in UTC."""
    import numpy as np

    if text is None:
        return None
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a number nor an ISO date (2024-05-31T12:00)"
        ) from None
    if when.tzinfo is not None:
        from datetime import UTC

        when = when.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(when, "us" if when.microsecond else "s")


# JSON --------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, range):
        return [value.start, value.stop]
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def _report(report: VerifyReport) -> dict[str, Any]:
    return {"ok": report.ok, **asdict(report)}
