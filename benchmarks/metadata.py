"""How fast sample metadata goes into Postgres and out of it, and how fast it could.

    python -m benchmarks.metadata [--json FILE] [--quick] [--repetitions N] [workload ...]

    M1   samples in, a row for each, with all rivals; one and two connections
    M2   the same in blocks of 16,384 samples
    M3   samples out, into columns
    M4   inserting into tables that grow, with and without an index
    M5   10 million samples published, a million chosen, and written back
    M6   transitions of a pipeline, in Postgres and in SQLite
    M7   signals of a training, into Postgres and into files

The server is a private one in a temporary folder (or --folder), on a Unix socket, with the settings
that `modyn db start` gives it: logged tables, fsync on.  They are printed and kept; --set changes
one.  In each repetition every contender does the same work, one after the other in an order that
rotates.  A figure is the median over the repetitions of the ratio within a repetition, with its
least and greatest.  "By processor" is the same ratio of processor time, of client and server
together.

Rivals come with `pip install --no-deps -r benchmarks/rivals.txt`; one that is not installed is
named and left out.  `python -m benchmarks.page` makes docs/postgres-figures.md from the JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line
from benchmarks.postgres.server import private_server
from benchmarks.postgres.site import Site
from benchmarks.section import Section, print_section

WORKLOADS = {
    "M1": "benchmarks.postgres.filling:measure_rows",
    "M2": "benchmarks.postgres.filling:measure_blocks",
    "M3": "benchmarks.postgres.reading:measure",
    "M4": "benchmarks.postgres.growing:measure",
    "M5": "benchmarks.postgres.whole:measure",
    "M6": "benchmarks.postgres.committing:measure",
    "M7": "benchmarks.postgres.signalling:measure",
}


def measure(name: str, site: Site) -> Section:
    """Run one workload."""
    module, function = WORKLOADS[name].split(":")
    started = time.perf_counter()
    section: Section = getattr(import_module(module), function)(site)
    section.seconds = round(time.perf_counter() - started, 1)
    return section


def head(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a document says before its sections."""
    flags = ["--quick"] if options.quick else []
    flags += [f"--repetitions {options.repetitions}"] if options.repetitions else []
    flags += [f"--samples {options.samples}"] if options.samples else []
    flags += [f"--set {name}={value}" for name, value in options.settings.items()]
    return {
        "benchmark": "metadata",
        "command": " ".join(["python -m benchmarks.metadata", *flags, *options.workload]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load_before": round(os.getloadavg()[0], 2),
        "quick": options.quick,
        "sections": [],
        "not_there": [],
    }


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run workloads one after the other, on one server; return the document of all."""
    document = head(options)
    document["machine"] = machine_line(folder)
    with private_server(folder / "server", options.settings) as server:
        document["server"] = server.settings()
        print(document["machine"])
        print(", ".join(f"{name} {value}" for name, value in document["server"].items()))
        site = Site(server, folder, options.quick, options.repetitions, options.samples)
        for name in options.workload:
            try:
                section = measure(name, site)
            except Exception:
                traceback.print_exc()
                document["not_there"].append(name)
                continue
            print_section(section)
            sys.stdout.flush()
            document["sections"].append(section.as_json())
    return document


@contextlib.contextmanager
def folder_for(given: Path | None) -> Iterator[Path]:
    """Yield a folder that the user of the server may enter, and remove it."""
    with tempfile.TemporaryDirectory(prefix="modyn-benchmark-", dir=given) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"NAME=VALUE was expected, got {text!r}")
    return name, value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", help="M1, M2, ...; by default all of them")
    parser.add_argument("--json", type=Path, help="write one document to this file, too")
    parser.add_argument("--quick", action="store_true", help="small, and few repetitions")
    parser.add_argument("--repetitions", type=int, help="9, or 2 when quick")
    parser.add_argument("--samples", type=int, help="of a contender in a repetition")
    parser.add_argument("--folder", type=Path, help="on which file system")
    parser.add_argument("--set", dest="settings", type=setting, action="append", default=[])
    options = parser.parse_args(arguments)
    for name in options.workload:
        if name not in WORKLOADS:
            parser.error(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    options.workload = options.workload or list(WORKLOADS)
    options.settings = dict(options.settings)
    return options


def main() -> None:
    options = parse()
    with folder_for(options.folder) as folder:
        document = run_all(options, folder)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(1 if document["not_there"] else 0)


if __name__ == "__main__":
    main()
