"""How fast samples reach a training loop by key, and how fast they could.

    python -m benchmarks.loader [--json] [--quick] [--records N] [workload ...]

    W1   records of 160 bytes by key, batches of 1 Ki, 4 Ki and 64 Ki, one thread
    W2   the same by the ids of users, through an index
    W3   the same as W1 on two threads
    W4   the whole loop, from keys to tensors, with all rivals
    W5   records of varying length
    W6   records that are not in memory
    W7   partitions read ahead of the loop
    W10  opening, and memory per key
    W11  fetching while the dataset changes
    W12  resuming in the middle of an epoch
    W13  selections and weights
    W14  a thousand epochs
    train  a training loop

In each repetition every contender fetches the same keys, which no other repetition fetches,
one contender after the other, in an order that rotates.  A figure is the median over the
repetitions of the ratio within a repetition, with its least and greatest.  "By processor" is
the same ratio of processor time (all threads of this process) instead of time on the wall.
The last batch of every contender in every repetition is hashed and compared with the truth,
which is computed from the keys alone.

Rivals come with `pip install --no-deps -r benchmarks/rivals.txt`; one that is not installed is
named and left out.  Every workload runs in a process of its own.  `python -m benchmarks.page`
makes docs/performance.md from what --json writes.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.loading.site import Site
from benchmarks.machine import machine_line
from benchmarks.section import Section, print_section

WORKLOADS = {
    "W1": "benchmarks.loading.gathering:measure_one",
    "W2": "benchmarks.loading.indexing:measure",
    "W3": "benchmarks.loading.gathering:measure_two",
    "W4": "benchmarks.loading.looping:measure",
    "W5": "benchmarks.loading.ragged:measure",
    "W6": "benchmarks.loading.cold:measure",
    "W7": "benchmarks.loading.staging:measure",
    "W10": "benchmarks.loading.opening:measure",
    "W11": "benchmarks.loading.changing:measure",
    "W12": "benchmarks.loading.resuming:measure",
    "W13": "benchmarks.loading.selecting:measure",
    "W14": "benchmarks.loading.staying:measure",
    "train": "benchmarks.loading.training:measure",
}
LONG = ("train",)  # not among the quick ones, unless asked for
LIMIT_S = 1800  # of a workload: one that stands still is ended


def measure(name: str, site: Site) -> Section:
    """Run one workload in this process."""
    warnings.simplefilter("ignore")  # of rivals, about arrays that nobody writes to
    module, function = WORKLOADS[name].split(":")
    function_of = getattr(import_module(module), function)
    gc.collect()
    gc.freeze()  # a collection before each contender then looks at what is new
    started = time.perf_counter()
    section: Section = function_of(site)
    section.seconds = round(time.perf_counter() - started, 1)
    return section


def run_here(name: str, site: Site, outcome: Path, *, quiet: bool) -> None:
    """Run one workload, show it, and leave it where the process that asked looks for it."""
    with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
        section = measure(name, site)
        print_section(section)
        sys.stdout.flush()
    outcome.write_text(json.dumps(section.as_json()))


def run_apart(name: str, site: Site, *, quiet: bool) -> dict[str, Any] | None:
    """Run one workload in a process of its own; return its section, None if it died.

    This process does nothing but fork, so that what takes long to import is there already.
    """
    outcome = site.folder / f"{name}.json"
    outcome.unlink(missing_ok=True)
    child = multiprocessing.get_context("fork").Process(
        target=run_here, args=(name, site, outcome), kwargs={"quiet": quiet}
    )
    child.start()
    child.join(LIMIT_S)
    if child.is_alive():
        child.kill()
        child.join()
    if child.exitcode != 0 or not outcome.exists():
        print(f"{name}: ended with {child.exitcode}", file=sys.stderr)
        return None
    section: dict[str, Any] = json.loads(outcome.read_text())
    return section


def run_all(names: list[str], site: Site, *, quiet: bool) -> dict[str, Any]:
    """Run workloads one after the other; return the document of all."""
    flags = ["--quick"] if site.quick else []
    flags += [f"--records {site.records}"] if site.records else []
    document: dict[str, Any] = {
        "benchmark": "loader",
        "command": " ".join(["python -m benchmarks.loader --json", *flags, *names]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine_line(site.folder),
        "load_before": round(os.getloadavg()[0], 2),
        "quick": site.quick,
        "records": site.count,
        "sections": [],
        "not_there": [],
    }
    print(document["machine"], file=sys.stderr if quiet else sys.stdout, flush=True)
    for name in names:
        module = WORKLOADS[name].split(":")[0]
        if find_spec(module) is None:
            document["not_there"].append(name)
            print(f"\n{name}: not there yet", file=sys.stderr if quiet else sys.stdout, flush=True)
            continue
        section = run_apart(name, site, quiet=quiet)
        if section is None:
            document["not_there"].append(name)
        else:
            document["sections"].append(section)
    return document


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", help="W1, W2, ...; by default all of them")
    parser.add_argument("--json", action="store_true", help="print one document, and nothing else")
    parser.add_argument("--quick", action="store_true", help="small, and few repetitions")
    parser.add_argument("--records", type=int, help="of the dataset")
    parser.add_argument("--folder", type=Path, help="on which file system; keeps what it made")
    options = parser.parse_args()
    for name in options.workload:
        if name not in WORKLOADS:
            parser.error(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    options.left_out = LONG if options.quick else ()
    return options


def main() -> None:
    options = parse()

    import torch

    torch.set_num_threads(1)

    import torch

    torch.set_num_threads(1)
    names = options.workload or [name for name in WORKLOADS if name not in options.left_out]
    with tempfile.TemporaryDirectory(prefix="modyn-benchmark-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        site = Site(folder, options.quick, options.records)
        document = run_all(names, site, quiet=options.json)
    if options.json:
        print(json.dumps(document, indent=1))
    died = [name for name in document["not_there"] if find_spec(WORKLOADS[name].split(":")[0])]
    sys.exit(1 if died else 0)


if __name__ == "__main__":
    main()
