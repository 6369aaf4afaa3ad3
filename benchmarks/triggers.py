"""When to train on real streams: what each family of policies gets, and what it costs.

    python -m benchmarks.triggers --data DIR [--json FILE] [--cells FILE] [--quick] [workload ...]

    races      all families, with a few settings each, beside fixed schedules
    planted    how soon planted drifts are found, and how many alarms are false
    late       labels that are known late: policies that wait, and that do without
    pictures   the pictures of docs/triggers, into --into

`--data` is a folder with the originals (benchmarks/triggering/streams.py says which). Everything
runs through `Pipeline.replay`, in one process with one thread of torch and one of the loader.
Models are shared between the runs, so each is trained once and counts with the seconds of then.
With `--cells` results are kept in files of JSON lines, and a campaign that was interrupted goes on.
Accuracies and triggers depend on the code and the seed alone, seconds on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line
from benchmarks.section import Section, print_section
from benchmarks.selecting.cells import Kept
from benchmarks.selecting.streams import NotThereError
from benchmarks.triggering.site import Site

WORKLOADS = {
    "races": "benchmarks.triggering.races:measure",
    "planted": "benchmarks.triggering.plants:measure",
    "late": "benchmarks.triggering.lates:measure",
    "pictures": "benchmarks.triggering.worked:measure",
}


def measure(name: str, site: Site) -> Section:
    """Run one workload."""
    module, function = WORKLOADS[name].split(":")
    started = time.perf_counter()
    workload: Callable[[Site], Section] = getattr(import_module(module), function)
    section = workload(site)
    section.seconds = round(time.perf_counter() - started, 1)
    return section


def run_all(options: argparse.Namespace, site: Site) -> dict[str, Any]:
    """Run workloads one after the other; return the document of all."""
    flags = ["--data DIR", *(["--quick"] if options.quick else [])]
    document: dict[str, Any] = {
        "benchmark": "triggers",
        "command": " ".join(["python -m benchmarks.triggers", *flags, *options.workload]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine_line(site.folder),
        "load_before": round(os.getloadavg()[0], 2),
        "quick": options.quick,
        "sections": [],
        "not_there": [],
    }
    print(document["machine"], flush=True)
    for name in options.workload:
        try:
            section = measure(name, site)
        except NotThereError as error:
            print(f"\n{name}: {error}", file=sys.stderr, flush=True)
            document["not_there"].append(name)
            continue
        print_section(section)
        sys.stdout.flush()
        document["sections"].append(section.as_json())
    return document


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", help=f"{', '.join(WORKLOADS)}; by default all")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the originals")
    parser.add_argument("--json", type=Path, help="write one document to this file, too")
    parser.add_argument("--cells", type=Path, nargs="*", default=[], help="keep results here")
    parser.add_argument("--quick", action="store_true", help="short streams and one seed")
    parser.add_argument("--streams", nargs="*", default=[], help="of the races: only these")
    parser.add_argument("--no-new", action="store_true", help="run nothing; say what is kept")
    parser.add_argument("--folder", type=Path, help="for datasets, runs and models; is kept")
    parser.add_argument("--into", type=Path, help="the folder of the pictures")
    options = parser.parse_args(arguments)
    for name in options.workload:
        if name not in WORKLOADS:
            parser.error(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    options.workload = options.workload or list(WORKLOADS)
    return options


def main() -> None:
    options = parse()

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="modyn-benchmark-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kept = Kept(options.cells[0] if options.cells else None)
        for more in options.cells[1:]:
            kept.take_in(Kept(more))
        site = Site(
            data=options.data,
            folder=folder,
            kept=kept,
            quick=options.quick,
            only=options.streams,
            no_new=options.no_new,
            into=options.into,
        )
        document = run_all(options, site)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(1 if document["not_there"] else 0)


if __name__ == "__main__":
    main()
