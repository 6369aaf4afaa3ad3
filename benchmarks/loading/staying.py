"""W14: a thousand epochs of a small set, and a thousand that are left in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import modyn
from benchmarks.loading.data import RECORD, check, rows_of
from benchmarks.loading.site import Site
from benchmarks.loading.stores import as_tensors
from benchmarks.section import Curves, Section, Table, Verdict

ABOUT = """\
A process runs epoch after epoch over 20,000 samples in batches of 512, shuffled, and looks at
its resident memory after every twenty. Then it begins a thousand epochs and leaves each after
its first batch. torch's DataLoader (whole batches from an array in memory, no workers) does the
same."""

SAMPLES, BATCH, EVERY = 20_000, 512, 20
SETTLED = 100  # epochs after which memory has to stay where it is


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def watch(epoch: Callable[[int], None], count: int) -> tuple[list[tuple[float, float]], float]:
    """Run epochs; return resident memory after some of them, and the seconds of all."""
    seen, started = [], time.perf_counter()
    for number in range(count):
        epoch(number)
        if (number + 1) % EVERY == 0:
            seen.append((float(number + 1), resident_mib()))
    return seen, time.perf_counter() - started


def drift(seen: list[tuple[float, float]]) -> float:
    """Return by how much memory changed once it had settled, as a share of it."""
    sizes = [size for number, size in seen if number >= SETTLED] or [seen[-1][1]]
    return max(abs(size / sizes[0] - 1) for size in sizes)


def ours(dataset: modyn.Dataset) -> tuple[Callable[[int], None], Callable[[int], None]]:
    loader = modyn.Loader(
        dataset, np.arange(SAMPLES), batch_size=BATCH, shuffle="global", threads=1
    )

    def epoch(number: int) -> None:
        loader.set_epoch(number)
        for batch in loader:
            tensors = batch.tensors()
        if number % 100 == 0:
            fields: dict[str, Any] = {n: t.numpy() for n, t in tensors.items()}  # type: ignore
            check("modyn Loader", batch.numpy("keys"), fields)

    def leave(number: int) -> None:
        loader.set_epoch(number)
        next(iter(loader)).tensors()

    return epoch, leave


def torch_loader() -> tuple[Callable[[int], None], Callable[[int], None]]:
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    rows = rows_of(np.arange(SAMPLES, dtype=np.uint64)).view("V160")

    class Rows:
        def __len__(self) -> int:
            return SAMPLES

        def __getitem__(self, positions: list[int]) -> Any:
            return as_tensors(rows[positions].view(RECORD).view("V160"))

    sampler = BatchSampler(RandomSampler(range(SAMPLES)), BATCH, drop_last=False)
    loader = DataLoader(Rows(), sampler=sampler, batch_size=None)  # type: ignore[arg-type]

    def epoch(number: int) -> None:
        for _ in loader:
            pass

    def leave(number: int) -> None:
        next(iter(loader))

    return epoch, leave


def measure(site: Site) -> Section:
    section = Section("W14", "A thousand epochs", " ".join(ABOUT.split()))
    count = site.size(1000, 120)
    rows: list[list[Any]] = []
    curves = {}
    with modyn.Dataset.open(site.dataset) as dataset:
        for name, (epoch, leave) in {
            "modyn Loader": ours(dataset),
            "DataLoader": torch_loader(),
        }.items():
            seen, seconds = watch(epoch, count)
            left, _ = watch(leave, count)
            curves[name] = seen + [(count + number, size) for number, size in left]
            rows.append(
                [
                    name,
                    round(seconds, 2),
                    seen[0][1],
                    seen[-1][1],
                    left[-1][1],
                    100 * drift(seen),
                    100 * drift(left),
                ]
            )
    section.tables.append(
        Table(
            f"Resident memory, MiB, over {count:,} epochs and {count:,} left after a batch",
            ["loader", "seconds", "first", "last", "after leaving", "drift %", "leaving, drift %"],
            rows,
        )
    )
    section.curves.append(
        Curves("Resident memory of the process", "epochs, then epochs that are left", "MiB", curves)
    )
    worst = max(rows[0][-2], rows[0][-1])
    section.verdicts.append(
        Verdict(
            "resident memory of modyn's Loader stays", "within 1 %", f"{worst:.2f} %", worst <= 1
        )
    )
    return section
