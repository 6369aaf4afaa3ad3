"""How fast samples come into a dataset, and what its size and its changes cost.

    python -m benchmarks.storage [--json] [--only NAME] [--quick] [--folder FOLDER]

    append      batches of 64 Ki records, against fallocate + write + fdatasync
    csv         a large CSV file on two threads, against pyarrow.csv into memory
    binary      a file of fixed records, against cp --reflink=never
    link        a file of fixed records, linked, against copied
    linked      fetch by key of linked samples, against copied ones
    files       50,000 small files, against reading them in C
    open        a dataset of 1e9 samples
    erased      fetch by key with samples erased, against none erased
    appending   fetch by key beside a process that appends, and beside one that writes

In each repetition every contender does the same work once, in an order that rotates.  A
figure is the median over the repetitions of the ratio within a repetition, with its
least and greatest: how many times the speed of the floor.  "By processor" is the same
ratio of processor time of this process (not of those that it starts).  What was
stored is read back and compared in every repetition.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.appending import append_line
from benchmarks.fetching import appending_line, erased_line
from benchmarks.ingesting import binary_line, csv_line, files_line
from benchmarks.linking import link_line, linked_line
from benchmarks.machine import machine_line
from benchmarks.measure import Outcome, Settings, print_outcome
from benchmarks.opening import open_report, print_open

LINES: dict[str, Callable[[Settings], Outcome]] = {
    "append": append_line,
    "csv": csv_line,
    "binary": binary_line,
    "link": link_line,
    "linked": linked_line,
    "files": files_line,
    "erased": erased_line,
    "appending": appending_line,
}


def load() -> str:
    return "load " + " ".join(f"{value:.1f}" for value in os.getloadavg())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=[*LINES, "open"], action="append")
    parser.add_argument("--quick", action="store_true", help="small, and few repetitions")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on which file system")
    options = parser.parse_args()

    chosen = options.only or [*LINES, "open"]
    with tempfile.TemporaryDirectory(prefix="modyn-benchmark-", dir=options.folder) as folder:
        settings = Settings(Path(folder), quick=options.quick)
        report: dict[str, Any] = {"machine": machine_line(settings.folder), "lines": {}}
        if not options.json:
            print(report["machine"])
        for name, line in LINES.items():
            if name not in chosen:
                continue
            outcome = line(settings)
            outcome.facts["load"] = load()
            report["lines"][name] = outcome.as_json()
            if not options.json:
                print_outcome(outcome)
        if "open" in chosen:
            report["lines"]["open"] = open_report(settings)
            if not options.json:
                print_open(report["lines"]["open"])
    if options.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
