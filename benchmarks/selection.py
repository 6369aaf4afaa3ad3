"""What methods of selection achieve on real data, and what they cost.

    python -m benchmarks.selection --data DIR [--json FILE] [--cells FILE] [--quick] [workload ...]

    gdumb      GDumb on MNIST, beside the published figures
    rs2        RS2 beside ordinary training for fewer epochs, on MNIST
    infobatch  how many steps InfoBatch saves, on MNIST and a stream
    policies   all methods at 50, 25 and 12.5 percent on real streams

`--data` is a folder with the originals (benchmarks/selecting/streams.py says which); a stream that
is not there is named and left out.  Everything runs through `Pipeline.replay`, in one process with
one thread of torch and one of the loader.  A cell is one pipeline with one seed; with `--cells`
results are kept in a file of JSON lines, and a campaign that was interrupted goes on.  Accuracies
depend on the code and the seed alone, seconds on the machine.  `python -m benchmarks.page` puts the
figures into docs/selection.md from what --json writes.
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
from benchmarks.selecting.site import Site
from benchmarks.selecting.streams import NotThereError

WORKLOADS = {
    "gdumb": "benchmarks.selecting.buffers:measure",
    "rs2": "benchmarks.selecting.epochs:rs2",
    "infobatch": "benchmarks.selecting.epochs:infobatch",
    "policies": "benchmarks.selecting.races:measure",
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
    flags = " ".join(["--data DIR", *(["--quick"] if options.quick else [])])
    streams = f" --streams {' '.join(options.streams)}" if options.streams else ""
    document: dict[str, Any] = {
        "benchmark": "selection",
        "command": " ".join(["python -m benchmarks.selection", flags, *options.workload]) + streams,
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
        except (NotThereError, AttributeError) as error:
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
    parser.add_argument("--cells", type=Path, help="keep results in this file, and go on from it")
    parser.add_argument("--quick", action="store_true", help="small, and few seeds")
    parser.add_argument("--streams", nargs="*", default=[], help="of the policies: only these")
    parser.add_argument("--methods", nargs="*", default=[], help="of the policies: only these")
    parser.add_argument("--no-new", action="store_true", help="run nothing; say what is kept")
    parser.add_argument("--folder", type=Path, help="for datasets and runs; keeps the datasets")
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
        site = Site(
            data=options.data,
            folder=folder,
            kept=Kept(options.cells),
            quick=options.quick,
            only=options.streams,
            methods=options.methods,
            no_new=options.no_new,
        )
        document = run_all(options, site)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(1 if document["not_there"] else 0)


if __name__ == "__main__":
    main()
