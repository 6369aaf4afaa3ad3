"""How fast presampling chooses among 200 million keys, and how fast it could.

    python -m benchmarks.selection_core [--json FILE] [--quick] [--repetitions N] [line ...]

    uniform    1 million of 200 million keys, against NumPy's choice
    weighted   the same by weight: sequential, priority, with replacement, pps
    balanced   a fair share of each of 100 labels
    top        the million largest of 200 million values, and a band of as many
    small      2**24 candidates, the most that torch.multinomial takes
    billion    1e9 keys in blocks, uniform, two threads

The floor of a line is a loop in C that looks at every candidate once, draws where a sampler must,
and compares; one thread.  In each repetition every contender does the same work, one after the
other in an order that rotates.  A figure is the median over the repetitions of the ratio within a
repetition, with its least and greatest; "by processor" is the same ratio of processor time.
Memory is the greatest resident size during one call, less that before it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import compile_source, machine_line
from benchmarks.measure import Outcome, Seconds, Settings, Stopwatch, in_turns, print_outcome
from modyn.sampling import Candidates, Sampler, balanced, band, top, uniform, weighted

FULL, QUICK = 200_000_000, 10_000_000
SHARE = 200  # one of so many candidates is chosen
LABELS = 100
START, SEED = 12345, 7
SCHEMES = ("sequential", "priority", "with_replacement", "pps")
Work = Callable[[int], Any]  # of the number of the repetition


class Site:
    """The candidates of all lines, each column made when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.count = settings.size(FULL, QUICK)
        self.chosen = self.count // SHARE
        self.rand = np.random.default_rng(SEED)
        self.floor = compile_source("selection_floor.c", flags=["-march=native"])
        for name in ("uniform", "weighted", "balanced", "top"):
            getattr(self.floor, f"floor_{name}").restype = ctypes.c_uint64
        self._made: dict[str, npt.NDArray[Any]] = {}

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        return self._column("keys", lambda: np.arange(self.count, dtype=np.uint64))

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        return self._column("weights", lambda: self.rand.random(self.count) + 0.1)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self._column("labels", lambda: self.rand.integers(0, LABELS, self.count))

    def _column(self, name: str, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def forget(self, *names: str) -> None:
        for name in names:
            self._made.pop(name, None)

    def line(self, name: str, ours: str, case: str = "") -> Outcome:
        return Outcome(
            name, 0.0, "floor in C", ours, work=self.count / 1e6, unit="M keys", case=case
        )

    def run(self, outcome: Outcome, works: dict[str, Work]) -> Outcome:
        """Measure all contenders, and the memory of ours."""
        contenders = {name: timed(work) for name, work in works.items()}
        in_turns(outcome, contenders, self.settings.repetitions)
        outcome.kinds = {name: kind_of(name) for name in works}
        for name in works:
            if outcome.kinds[name] == "ours":
                key = f"MiB_of_{name.replace(' ', '_')}"
                outcome.facts[key] = round(peak_of(lambda work=works[name]: work(0)) / 2**20, 1)
        return outcome


def kind_of(name: str) -> str:
    if name.startswith("floor"):
        return "floor"
    return "rival" if name.startswith(("NumPy", "torch")) else "ours"


def timed(work: Work) -> Callable[[int], Seconds]:
    def contender(repetition: int) -> Seconds:
        watch = Stopwatch()
        work(repetition)
        return watch.stop()

    return contender


def peak_of(work: Callable[[], Any]) -> int:
    """Return by how many bytes the resident size grew at most while this ran."""
    ctypes.CDLL(None).malloc_trim(0)  # what is free is given back
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = status("VmRSS")
    work()
    return max(0, status("VmHWM") - before)


def status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def uniform_line(site: Site) -> Outcome:
    keys, count, chosen = site.keys, ctypes.c_size_t(site.count), site.chosen
    cut = ctypes.c_uint64(2**64 // SHARE)
    return site.run(
        site.line("uniform", "uniform", f"{chosen:,} of {site.count:,}"),
        {
            "floor in C": lambda n: site.floor.floor_uniform(
                pointer(keys), count, ctypes.c_uint64(START + n), cut
            ),
            "uniform": lambda n: uniform(keys, chosen, seed=n + 1),
            "uniform, 2 threads": lambda n: uniform(keys, chosen, seed=n + 1, threads=2),
            "NumPy choice": lambda n: keys[
                np.random.default_rng(n + 1).choice(site.count, chosen, replace=False)
            ],
        },
    )


def weighted_line(site: Site) -> Outcome:
    keys, weights, count = site.keys, site.weights, ctypes.c_size_t(site.count)
    cut = ctypes.c_double(1 / SHARE)
    works: dict[str, Work] = {
        "floor in C": lambda n: site.floor.floor_weighted(
            pointer(keys), pointer(weights), count, ctypes.c_uint64(START + n), cut
        )
    }
    for scheme in SCHEMES:
        for threads in (1, 2):
            name = scheme.replace("_", " ") + (", 2 threads" if threads == 2 else "")
            works[name] = lambda n, scheme=scheme, threads=threads: weighted(
                keys, site.chosen, weights=weights, seed=n + 1, scheme=scheme, threads=threads
            )
    works["NumPy choice with replacement"] = lambda n: np.random.default_rng(n + 1).choice(
        site.count, site.chosen, p=weights / weights.sum()
    )
    return site.run(
        site.line("weighted", "sequential", f"{site.chosen:,} of {site.count:,}"), works
    )


def balanced_line(site: Site) -> Outcome:
    keys, labels, count = site.keys, site.labels, ctypes.c_size_t(site.count)
    cut = ctypes.c_uint64(2**64 // SHARE)

    def ours(n: int, threads: int) -> Any:
        return balanced(keys, site.chosen, labels=labels, seed=n + 1, threads=threads)

    return site.run(
        site.line("balanced", "balanced", f"{LABELS} labels, {site.chosen:,} of {site.count:,}"),
        {
            "floor in C": lambda n: site.floor.floor_balanced(
                pointer(keys), pointer(labels), count, ctypes.c_uint64(START + n), cut
            ),
            "balanced": lambda n: ours(n, 1),
            "balanced, 2 threads": lambda n: ours(n, 2),
        },
    )


def top_line(site: Site) -> Outcome:
    keys, values, chosen = site.keys, site.weights, site.chosen
    cut = ctypes.c_double(1.1 - 1 / SHARE)
    high = 0.5 + 1 / SHARE
    return site.run(
        site.line("top", "top", f"{chosen:,} of {site.count:,} values"),
        {
            "floor in C": lambda n: site.floor.floor_top(
                pointer(values), ctypes.c_size_t(site.count), cut
            ),
            "top": lambda n: top(keys, chosen, values),
            "top, 2 threads": lambda n: top(keys, chosen, values, threads=2),
            "band": lambda n: band(keys, 0.5, high, values),
            "band, 2 threads": lambda n: band(keys, 0.5, high, values, threads=2),
            "NumPy argpartition": lambda n: keys[np.argpartition(values, -chosen)[-chosen:]],
        },
    )


def small_line(site: Site) -> Outcome:
    """All rivals, where all of them can; NumPy without replacement is slow beyond this."""
    count = 2**24
    keys, weights = site.keys[:count], site.weights[:count]
    chosen = len(keys) // SHARE
    outcome = site.line("weighted", "sequential", f"{chosen:,} of {len(keys):,}")
    outcome.work = len(keys) / 1e6
    cut = ctypes.c_double(1 / SHARE)
    works: dict[str, Work] = {
        "floor in C": lambda n: site.floor.floor_weighted(
            pointer(keys),
            pointer(weights),
            ctypes.c_size_t(len(keys)),
            ctypes.c_uint64(START + n),
            cut,
        )
    }
    for scheme in SCHEMES:
        works[scheme.replace("_", " ")] = lambda n, scheme=scheme: weighted(
            keys, chosen, weights=weights, seed=n + 1, scheme=scheme
        )
    works["NumPy choice"] = lambda n: np.random.default_rng(n + 1).choice(
        len(keys), chosen, replace=False, p=weights / weights.sum()
    )
    try:
        import torch
    except ModuleNotFoundError:
        outcome.facts["left_out"] = "torch is not installed"
        return site.run(outcome, works)
    torch.set_num_threads(1)
    tensor = torch.from_numpy(weights)
    for name, again in (("torch multinomial", False), ("torch multinomial with rep.", True)):
        works[name] = lambda n, again=again: torch.multinomial(tensor, chosen, replacement=again)
    try:
        torch.multinomial(torch.ones(2**24 + 1), 1)
    except RuntimeError as error:
        outcome.facts["torch_beyond"] = str(error).splitlines()[0]
    return site.run(outcome, works)


def billion_line(site: Site) -> Outcome:
    """Blocks that are made on the way; making them counts."""
    block, blocks = site.settings.size(50_000_000, 5_000_000), 20
    outcome = site.line("uniform", "uniform, 2 threads", f"1,000,000 of {block * blocks:,}")
    outcome.work, outcome.floor = block * blocks / 1e6, "making the keys"
    keys = np.arange(block, dtype=np.uint64)

    def make(n: int) -> None:
        for _ in range(blocks):
            np.add(keys, np.uint64(block), out=keys)

    def choose(n: int, threads: int) -> Any:
        sampler = Sampler.uniform(1_000_000, seed=n + 1)
        for _ in range(blocks):
            np.add(keys, np.uint64(block), out=keys)
            sampler.offer(keys, threads=threads)
        return sampler.finish()

    return site.run(
        outcome,
        {
            "making the keys": make,
            "uniform, 1 thread": lambda n: choose(n, 1),
            "uniform, 2 threads": lambda n: choose(n, 2),
        },
    )


LINES: dict[str, Callable[[Site], Outcome]] = {
    "uniform": uniform_line,
    "weighted": weighted_line,
    "balanced": balanced_line,
    "top": top_line,
    "small": small_line,
    "billion": billion_line,
}


def check(site: Site) -> int:
    """What is measured is right: two threads choose what one does, of as many as asked for."""
    keys = site.keys[: site.settings.size(5_000_000, 1_000_000)]
    weights = site.weights[: len(keys)]
    for scheme in SCHEMES:
        one, two = (
            weighted(keys, 5000, weights=weights, seed=3, scheme=scheme, threads=threads)
            for threads in (1, 2)
        )
        assert one.keys.tolist() == two.keys.tolist()
        assert len(one) == 5000 or scheme == "with_replacement"
    candidates = Candidates.from_arrays(keys, keys.astype(np.int64))
    assert top(candidates, 9, "timestamp").tolist() == keys[-9:].tolist()
    return len(SCHEMES) + 1


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("line", nargs="*", help="by default all of them")
    parser.add_argument("--json", type=Path, help="write one document to this file, too")
    parser.add_argument("--quick", action="store_true", help="small, and few repetitions")
    parser.add_argument("--repetitions", type=int, help="9, or 3 when quick")
    options = parser.parse_args(arguments)
    for name in options.line:
        if name not in LINES:
            parser.error(f"no line {name!r}; there are {', '.join(LINES)}")
    return options


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Path(folder), options.quick, options.repetitions)
        document: dict[str, Any] = {
            "benchmark": "selection_core",
            "command": "python -m benchmarks.selection_core" + " --quick" * options.quick,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine_line(Path(folder)),
            "load_before": round(os.getloadavg()[0], 2),
            "lines": [],
        }
        print(document["machine"])
        site = Site(settings)
        document["checked"] = check(site)
        for name in options.line or LINES:
            outcome = LINES[name](site)
            print_outcome(outcome)
            sys.stdout.flush()
            document["lines"].append(outcome.as_json())
            if name == "balanced":
                site.forget("labels")
            if name == "small":
                site.forget("keys", "weights")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
