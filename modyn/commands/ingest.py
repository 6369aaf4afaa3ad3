"""`modyn ingest`: take files into a dataset, once or as they come."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modyn.commands.answers import answers

if TYPE_CHECKING:
    from modyn.commands.ingest_config import IngestConfig
    from modyn.dataset import Dataset
    from modyn.ingest import IngestReport

__all__ = ["ingest"]

Rest = Annotated[
    list[Path], typer.Argument(metavar="FILES...", help="Files, folders or 'patterns*'.")
]


def ingest(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Where the dataset is.")],
    files: Rest,
    format: Annotated[
        str | None,
        typer.Option(help="csv, jsonl, fixed, npy, tar, files, parquet or arrow."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with these options under their names.")
    ] = None,
    timestamp: Annotated[str | None, typer.Option(help="The column of the timestamp.")] = None,
    label: Annotated[str | None, typer.Option(help="The column of the label.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="Of the format; value in YAML."),
    ] = None,
    mtime: Annotated[
        bool, typer.Option("--mtime", help="Timestamps are when files were changed.")
    ] = False,
    time_pattern: Annotated[
        str | None, typer.Option(help="Timestamps are in file names: this group of them.")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option(help="How they are written there, as in strptime.")
    ] = None,
    folder_labels: Annotated[
        bool, typer.Option("--folder-labels", help="Folders are classes.")
    ] = False,
    label_file: Annotated[
        Path | None, typer.Option(help="A CSV file with columns name and label.")
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the dataset if there is none.")
    ] = False,
    schema: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD:TYPE", help="With --create: a field, as in x:float32[13]."),
    ] = None,
    unit: Annotated[str, typer.Option(help="With --create: of time, s, ms, us or ns.")] = "s",
    link: Annotated[
        bool, typer.Option("--link", help="Leave fixed records in their files, which must stay.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as files come, until Ctrl-C.")
    ] = False,
    on_error: Annotated[
        str | None, typer.Option(help="stop (default) at a bad file, or skip it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be taken.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="To parse with.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback.")] = False,
) -> None:
    """Take what is new in files into a dataset; what is known is not read again.

    Run it again at any time, also after it was killed: each sample is taken once.
    """
    from modyn.commands.ingest_config import read
    from modyn.errors import ConfigError

    left_out = 0
    with answers(debug, "what was taken is kept; run it again to go on"):
        options = {"timestamp": timestamp, "label": label, **_options(option or [])}
        times: Any = {"pattern": time_pattern, "format": time_format} if time_pattern else None
        settings = read(
            config,
            {
                "format": format,
                "options": {name: value for name, value in options.items() if value is not None},
                "timestamps": "mtime" if mtime else times,
                "folder_labels": folder_labels,
                "label_file": None if label_file is None else str(label_file),
                "mode": "link" if link else None,
                "on_error": on_error,
                "threads": threads,
            },
        )
        made = settings.make_format()
        if follow and settings.mode == "link":
            raise ConfigError("files that come are copied: --follow and --link exclude each other")
        with _opened(dataset, create, schema or [], unit, settings, made) as opened:
            if dry_run:
                _list(opened, files, settings, made)
            elif follow:
                _follow(opened, files, settings, made)
            else:
                left_out = _take(opened, files, settings, made)
    if left_out:
        raise typer.Exit(1)


def _options(given: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs; values are read as YAML."""
    import yaml

    from modyn.errors import ConfigError

    options = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--option {pair!r}: expected NAME=VALUE")
        try:
            options[name.strip().replace("-", "_")] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--option {pair!r}: {error}") from error
    return options


@contextmanager
def _opened(
    path: Path,
    create: bool,
    schema: Sequence[str],
    unit: str,
    settings: IngestConfig,
    format: object,
) -> Iterator[Dataset]:
    """Open the dataset, or make it."""
    from modyn.dataset import Dataset
    from modyn.errors import ConfigError

    if create and not (path / "manifest").exists():
        fields = {}
        for line in schema:
            name, colon, kind = line.partition(":")
            if not colon:
                raise ConfigError(f"--schema {line!r}: expected FIELD:TYPE, as in x:float32[13]")
            fields[name.strip()] = kind.strip()
        if not fields:
            raise ConfigError("--create needs the fields: --schema FIELD:TYPE, for each")
        own = (getattr(format, name, None) for name in ("label", "label_size"))
        labels = any(one is not None for one in own) or settings.make_labels() is not None
        dataset = Dataset.create(path, schema=fields, timestamp_unit=unit, labels=labels)
    else:
        dataset = Dataset.open(path, mode="w")
    with dataset:
        yield dataset


def _take(dataset: Dataset, files: Sequence[Path], settings: IngestConfig, format: object) -> int:
    """Ingest, and return how many files were rejected."""
    report = dataset.ingest(
        files,
        format=format,
        mode=settings.mode,
        on_error=settings.on_error,
        threads=settings.threads,
        timestamps=settings.make_times(),
        labels=settings.make_labels(),
    )
    _show(report)
    return len(report.skipped)


def _list(dataset: Dataset, files: Sequence[Path], settings: IngestConfig, format: object) -> None:
    """Say what would be done."""
    from modyn.ingest.driver import Intake
    from modyn.ingest.names import expand

    intake = Intake(
        dataset, format, timestamps=settings.make_times(), labels=settings.make_labels()
    )
    plan = intake.plan(expand(files, without=dataset.path, ending=intake.ending))
    for place in plan.take:
        start = plan.start(place)
        path = _printable(plan.facts.paths[place])
        typer.echo(f"{path}: from byte {start} on" if start else f"{path}: all of it")
    for new, old in plan.renamed:
        typer.echo(f"{_printable(new)}: known as {_printable(old)}")
    _show_rejected([(path, str(error)) for _, path, error in plan.rejected])
    typer.echo(f"{len(plan.take)} files to take, {plan.known} known, {len(plan.rejected)} rejected")


def _follow(
    dataset: Dataset, files: Sequence[Path], settings: IngestConfig, format: object
) -> None:
    """Follow a folder until somebody interrupts."""
    from modyn.errors import ConfigError

    if len(files) != 1:
        raise ConfigError(f"--follow follows one folder, got {len(files)}")
    samples = rejected = 0

    def tell(report: IngestReport) -> None:
        nonlocal samples, rejected
        samples += report.samples
        rejected += len(report.skipped)
        _show(report)

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    watch = dataset.watch(
        files[0],
        format=format,
        timestamps=settings.make_times(),
        labels=settings.make_labels(),
        threads=settings.threads,
        on_report=tell,
    )
    typer.echo(f"following {_printable(str(files[0]))}; Ctrl-C ends it")
    while not ended.wait(0.2) and not watch.wait(0):
        pass
    watch.stop()
    typer.echo(
        f"ended: {samples} samples added, {rejected} files rejected; {len(dataset)} samples in all"
    )


def _show(report: IngestReport) -> None:
    _show_rejected(report.skipped)
    if report.classes:
        typer.echo("classes: " + ", ".join(f"{k}={v}" for k, v in report.classes.items()))
    typer.echo(str(report))


def _show_rejected(skipped: Sequence[tuple[str, str]]) -> None:
    if not skipped:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("rejected", "why")
    for path, reason in skipped:
        name = _printable(path)
        table.add_row(Text(name), Text(_printable(reason).removeprefix(f"{name}: ")))
    Console(stderr=True).print(table)


def _printable(text: str) -> str:
    """Return a name that no terminal takes for a command, and that has an encoding."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
