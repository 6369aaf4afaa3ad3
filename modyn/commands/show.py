"""What the commands about datasets print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modyn.listing import PLAIN_WIDTH

if TYPE_CHECKING:
    from modyn.erasure import Event
    from modyn.maintenance import Finding, RepairReport, VerifyReport

REPAIRS = {
    "lost": "lost",
    "given up": "given up",
    "left": "left",
    "kept": "kept, damaged",
}


def console() -> Console:
    """Return where to print: as wide as the terminal, or wide enough without one."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def print_info(found: dict[str, Any]) -> None:
    """Print what `facts.facts` has found."""
    out = console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _info_rows(found):
        table.add_row(name, escape(value))
    out.print(f"[bold]{escape(found['path'])}[/bold]", soft_wrap=True)
    out.print(table)
    _print_labels(out, found)
    disk = _table("on disk", "MB", right=("MB",))
    for name, size in found["bytes_on_disk"].items():
        disk.add_row(name, f"{size / 1e6:,.2f}")
    out.print(disk)


def _info_rows(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield (
        "samples",
        f"{found['living']:,}" + (f" living of {found['samples']:,}" if found["erased"] else ""),
    )
    if found["erased"]:
        pending = found["erased_not_compacted"]
        more = f", {pending:,} of them not compacted yet" if pending else ", all compacted"
        yield "erased", f"{found['erased']:,}{more}"
    if found["time"]:
        yield "time", f"{found['time']['from']} to {found['time']['to']} (UTC)"
    yield "timestamps", f"in {found['timestamp_unit']}"
    yield "schema", ", ".join(f"{name}: {kind}" for name, kind in found["schema"].items())
    yield "labels", f"{found['classes']:,} classes" if found["has_labels"] else "none"
    yield "commits", f"{found['commits']:,}"
    yield "segments", f"{found['segments']:,}"
    for file in found["linked_files"]:
        yield "linked", file
    yield "ingested", f"{found['files_ingested']:,} files"
    yield "time order", "stored" if found["time_order_stored"] else "not stored"
    yield "compression", "zstd" if found["compressed"] else "none"
    yield "uuid", found["uuid"]


def _print_labels(out: Console, found: dict[str, Any]) -> None:
    if not found["labels"]:
        return
    table = _table("label", "samples", "share", "", right=("label", "samples", "share"))
    most = max(found["labels"].values())
    for label, count in found["labels"].items():
        share = count / max(1, found["living"])
        table.add_row(label, f"{count:,}", f"{share:.1%}", "█" * max(1, round(30 * count / most)))
    out.print(table)
    if found["classes"] > len(found["labels"]):
        out.print(f"and {found['classes'] - len(found['labels']):,} more labels")


def print_verify(report: VerifyReport, shown: int) -> None:
    """Print what is wrong, and how much was looked at."""
    out = console()
    _print_findings(out, report.findings, shown)
    for stray in report.strays:
        out.print(escape(f"note: {stray}"), soft_wrap=True)
    looked = (
        f"{report.samples:,} samples, {report.commits:,} commits, {report.blocks:,} blocks, "
        f"{report.bytes / 1e6:,.1f} MB checked"
    )
    wrong = len(report.findings) + report.more
    if report.ok:
        out.print(f"[green]{escape(report.path)}: nothing is damaged[/green]; {looked}")
    else:
        words = "finding" if wrong == 1 else "findings"
        out.print(f"[red]{escape(report.path)}: {wrong:,} {words}[/red]; {looked}", soft_wrap=True)


def _print_findings(out: Console, findings: Sequence[Finding], shown: int) -> None:
    if not findings:
        return
    table = _table("file", "place", "samples", "what is wrong")
    for finding in findings[:shown]:
        keys = finding.keys
        span = "" if not keys else f"{keys.start:,} to {keys.stop - 1:,}"
        if len(keys) == 1:
            span = f"{keys.start:,}"
        where = finding.place or ("header" if finding.what == "header" else "the file")
        table.add_row(*map(escape, (finding.file, where, span, finding.text)))
    out.print(table)
    if len(findings) > shown:
        out.print(f"and {len(findings) - shown:,} more; --json lists all")


def print_repair(report: RepairReport, shown: int) -> None:
    """Print the steps, and what is left."""
    out = console()
    for step in report.steps:
        color = {"lost": "red", "given up": "red", "left": "yellow", "kept": "yellow"}.get(
            step.what
        )
        name = REPAIRS.get(step.what, "mend" if report.dry_run else "mended")
        shown_name = f"[{color}]{name}[/{color}]" if color else name
        out.print(f"{shown_name}: {escape(str(step))}", soft_wrap=True)
    if report.dry_run:
        done = "nothing was changed" if report.steps else "nothing is to be repaired"
        out.print(f"{escape(report.path)}: {done}; damaged blocks are found by verify")
        return
    if report.erased:
        out.print(f"{report.erased:,} samples were erased, since their bytes are damaged")
    if not report.steps and not report.erased:
        out.print(f"{escape(report.path)}: nothing was to be repaired")
    if report.left is not None:
        print_verify(report.left, shown)
        if any(finding.what == "block" for finding in report.left.findings):
            out.print(
                "damaged samples stay and are refused when they are read; "
                "--erase-damaged erases them"
            )


def print_audit(path: str, events: Sequence[Event], waiting: Sequence[range]) -> None:
    """Print the journal, and whose bytes are still there."""
    out = console()
    if not events:
        out.print(f"{escape(path)}: nothing was ever erased, compacted or linked")
        return
    table = _table("#", "when (UTC)", "what", "samples", "who", "why", "digest", right=("samples",))
    for event in events:
        count = f"{event.samples:,}" if event.action == "erase" else ""
        why = event.why
        if event.action == "compact":
            why = "segments " + ", ".join(map(str, event.segments[:8]))
        if event.action == "link":
            why = event.file
        when = f"{event.when:%Y-%m-%d %H:%M:%S}"
        cells = [str(event.number), when, event.action, count, event.who, why, event.digest[:16]]
        table.add_row(*map(escape, cells))
    out.print(table)
    out.print(
        f"{escape(path)}: {len(events):,} entries, the chain of digests is whole and ends at "
        f"{events[-1].digest[:32]}",
        soft_wrap=True,
    )
    if waiting:
        spans = [f"{r.start}-{r.stop - 1}" if len(r) > 1 else str(r.start) for r in waiting[:20]]
        more = " ..." if len(waiting) > 20 else ""
        out.print(
            f"[yellow]the bytes of {sum(map(len, waiting)):,} erased samples are still in the "
            f"files[/yellow] (keys {', '.join(spans)}{more}): modyn dataset compact {escape(path)}",
            soft_wrap=True,
        )
    elif any(event.action == "erase" for event in events):
        out.print("no byte of an erased sample is in a file of the dataset any more")
    for file in sorted({event.file for event in events if event.action == "link"}):
        out.print(escape(f"what is linked stays in your own file: {file}"), soft_wrap=True)


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table
