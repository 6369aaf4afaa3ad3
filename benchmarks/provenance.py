"""How fast it is told which model has seen which sample, and in how much memory.

    python -m benchmarks.provenance [--json] [--quick] [--models 100] [--threads 2] [case ...]

    tenth     each model chose a random tenth of a dataset of --keys samples (100 M)
    lineage   the same, and each went on from the one before: it has seen what that had seen
    spread    each model chose --keys samples (100 M), a random tenth of ten times as many
    rows      each model chose --keys samples in a row of ten times as many, as new data are
    loading   training sets from files: each is verified, and put into its short form

All but the last answer the three questions, loaded: who saw a key (of all models), what has a model
seen, and how do two models differ, with the first 1,000 keys that only one has seen.  Figures are
milliseconds: the median and the greatest of many questions.  `floor` is what NumPy takes to count
the bits that two bitmaps of all keys have in common, in 64 KiB pieces; `pyroaring`, where it is
installed, is asked the same of its own sets.  A case for which there is no memory has fewer models,
and says so.  --quick takes a hundredth of the keys.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_line
from modyn.keyruns import KeyRuns
from modyn.pipelines.lineage import keys_of
from modyn.pipelines.sightings import Erased, TrainedModel
from modyn.provenance import Known, Provenance
from modyn.trainset import TrainingSet

Keys = npt.NDArray[np.uint64]

ASKED = 60  # questions of a kind
SPARE = 3 << 30  # bytes of memory left to others
PIECE = 8192  # words


def tenth_of(count: int, rng: np.random.Generator) -> Keys:
    """Return about `count` keys, ascending: a random tenth of all up to the last of them."""
    found = []
    last = 0
    for first in range(0, count, 1 << 24):
        gaps = rng.geometric(0.1, size=min(1 << 24, count - first))
        steps = last + np.cumsum(gaps)
        last = int(steps[-1])
        found.append(steps.astype(np.uint64))
    return np.concatenate(found)


def shifted(base: Keys, below: int, rng: np.random.Generator) -> Keys:
    """Return other keys below `below` that look like the base: it, turned by a random amount."""
    turn = int(rng.integers(0, below))
    start = int(np.searchsorted(base, np.uint64(below - turn)))
    moved = np.concatenate((base[start:] - np.uint64(below - turn), base[:start] + np.uint64(turn)))
    return moved[np.searchsorted(moved, np.uint64(0)) :]


def free_bytes() -> int:
    """Return how much memory may be taken."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 33


# The cases ---------------------------------------------------------------------------------------


def chosen(case: str, keys: int, models: int, rng: np.random.Generator) -> Iterator[Keys | range]:
    """Yield what each model chose."""
    if case == "rows":
        for i in range(models):
            yield range(i * keys // 10, i * keys // 10 + keys)
        return
    many = 10 * keys if case == "spread" else keys
    base = tenth_of(many // 10, rng)
    base = base[base < many]
    for _ in range(models):
        yield shifted(base, many, rng)


def provenance(
    case: str, keys: int, models: int, threads: int
) -> tuple[Provenance, dict[str, Any]]:
    """Return a provenance of models that were never trained, and facts of how it was made."""
    rng = np.random.default_rng(7)
    known: dict[str, Known] = {}
    spent, taken, room = 0.0, 0, free_bytes() - SPARE
    previous: Known | None = None
    for i, some in enumerate(chosen(case, keys, models, rng)):
        started = time.perf_counter()
        own = (
            KeyRuns.of_ranges([some]) if isinstance(some, range) else KeyRuns(some, threads=threads)
        )
        seen = own | previous.seen if previous is not None and case == "lineage" else own
        spent += time.perf_counter() - started
        model = TrainedModel(
            key=f"{i:064x}",
            runs=(case,),
            trigger=i,
            parents=(previous.model.key,) if seen is not own and previous else (),
            training_set="",
            samples=len(own),
            seen=len(seen),
        )
        previous = known[model.key] = Known(model=model, own=own, seen=seen)
        taken += own.nbytes + (seen.nbytes if seen is not own else 0)
        if taken * (i + 2) / (i + 1) > room:
            break
    some_erased = KeyRuns(tenth_of(keys // 1000, rng))
    event = Erased(
        number=1, when=datetime.now(UTC), who="us", why="to be told", samples=len(some_erased)
    )
    found = Provenance(known, "", [(event, some_erased)], threads)
    total = sum(one.model.samples for one in known.values())
    facts = {
        "models": len(known),
        "asked_models": models,
        "keys_per_model": total // len(known),
        "megabytes": round(found.nbytes / 1e6, 1),
        "made_million_keys_per_second": round(total / spent / 1e6, 1),
    }
    return found, facts


def milliseconds(questions: list[Callable[[], object]]) -> dict[str, float]:
    """Return the median and the greatest of the milliseconds that each question takes."""
    spent = []
    for ask in questions:
        started = time.perf_counter()
        ask()
        spent.append(1e3 * (time.perf_counter() - started))
    return {"median": round(statistics.median(spent), 3), "max": round(max(spent), 3)}


def answers(case: str, keys: int, models: int, threads: int) -> dict[str, Any]:
    """Return what a case takes."""
    found, facts = provenance(case, keys, models, threads)
    rng = np.random.default_rng(1)
    below = 10 * keys if case in ("rows", "spread") else keys
    asked = rng.integers(0, below, ASKED).tolist()
    names = [model.key for model in found.models]
    pairs = [rng.choice(names, 2, replace=False).tolist() for _ in range(ASKED)]
    facts["who_saw_ms"] = milliseconds([lambda k=k: found.who_saw(k) for k in asked])
    facts["seen_by_ms"] = milliseconds([lambda m=m: found.seen_by(m) for m in names[:ASKED]])
    facts["diff_ms"] = milliseconds([lambda a=a, b=b: found.diff(a, b) for a, b in pairs])
    facts["diff_and_keys_ms"] = milliseconds(
        [lambda a=a, b=b: found.diff(a, b).keys_only_b(1000) for a, b in pairs]
    )
    facts["diff_one_thread_ms"] = milliseconds(
        [lambda a=a, b=b: sets(found, a).common(sets(found, b)) for a, b in pairs[:20]]
    )
    one, other = sets(found, pairs[0][0]), sets(found, pairs[0][1])
    facts["floor_ms"], common = numpy_floor(one, other, below)
    check(one.common(other) == common, "NumPy counts others")
    if find_spec("pyroaring") and below < 2**32:
        facts["pyroaring_ms"], common = roaring(one, other)
        check(one.common(other) == common, "pyroaring counts others")
    return facts


def sets(found: Provenance, name: str) -> KeyRuns:
    return found.seen_by(name).keys


def check(right: bool, words: str) -> None:
    if not right:
        raise AssertionError(words)


def numpy_floor(one: KeyRuns, other: KeyRuns, below: int) -> tuple[dict[str, float], int]:
    """Return the milliseconds of NumPy over two bitmaps, and what it counts."""
    bits = []
    for keys in (one, other):
        flags = np.zeros(-(-below // 64) * 8, dtype=np.uint8)
        first = 0
        while len(some := keys.keys(limit=1 << 22, first=first)):
            np.bitwise_or.at(flags, some // 8, (1 << (some % 8)).astype(np.uint8))
            first = int(some[-1]) + 1
        bits.append(flags.view(np.uint64))
    scratch = np.empty(PIECE, dtype=np.uint64)
    counted = 0

    def count() -> None:
        nonlocal counted
        counted = 0
        for at in range(0, len(bits[0]), PIECE):
            part = bits[0][at : at + PIECE]
            both = np.bitwise_and(part, bits[1][at : at + PIECE], out=scratch[: len(part)])
            counted += int(np.bitwise_count(both).sum(dtype=np.uint64))

    return milliseconds([count] * 7), counted


def roaring(one: KeyRuns, other: KeyRuns) -> tuple[dict[str, float], int]:
    """Return the milliseconds of pyroaring, and what it counts."""
    from pyroaring import BitMap

    maps = []
    for keys in (one, other):
        found, first = BitMap(), 0
        while len(some := keys.keys(limit=1 << 22, first=first)):
            found.update(some.astype(np.uint32))
            first = int(some[-1]) + 1
        found.run_optimize()
        maps.append(found)
    spent = milliseconds([lambda: maps[0].intersection_cardinality(maps[1])] * 7)
    return spent, int(maps[0].intersection_cardinality(maps[1]))


def loading(keys: int, threads: int) -> dict[str, Any]:
    """Return how fast a training set file becomes a set: median of five, from the page cache."""
    rng = np.random.default_rng(3)
    taken = {"random tenth": tenth_of(keys // 10, rng), "in a row": np.arange(keys // 10)}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, some in taken.items():
            path = Path(TrainingSet.write(folder, some).path)
            verify, make = [], []
            for _ in range(5):
                started = time.perf_counter()
                mapped = keys_of(path)
                middle = time.perf_counter()
                KeyRuns(mapped, threads=1)
                verify.append(middle - started)
                make.append(time.perf_counter() - middle)
            found[name] = {
                "keys": len(some),
                "verified_million_keys_per_second": rate(len(some), verify),
                "made_million_keys_per_second": rate(len(some), make),
            }
    return found


def rate(count: int, seconds: list[float]) -> float:
    return round(count / statistics.median(seconds) / 1e6, 1)


CASES = ("loading", "tenth", "lineage", "rows", "spread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keys", type=int, default=100_000_000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("case", nargs="*", metavar="case", help=", ".join(CASES))
    given = parser.parse_args()
    if unknown := set(given.case) - set(CASES):
        parser.error(f"there is no case {unknown.pop()!r}; there are {', '.join(CASES)}")
    keys = given.keys // 100 if given.quick else given.keys
    report: dict[str, Any] = {
        "machine": machine_line(Path.cwd()),
        "load_before": round(os.getloadavg()[0], 2),
        "keys": keys,
        "threads": given.threads,
        "cases": {},
    }
    for case in given.case or CASES:
        report["cases"][case] = (
            loading(keys, given.threads)
            if case == "loading"
            else answers(case, keys, given.models, given.threads)
        )
        if not given.json:
            print(case, json.dumps(report["cases"][case], indent=1), flush=True)
    if given.json:
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
