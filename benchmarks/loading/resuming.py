"""W12: going on in the middle of an epoch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.loading.data import Keys, check
from benchmarks.loading.rivals import present
from benchmarks.loading.site import Site
from benchmarks.measure import spread
from benchmarks.section import Chart, Mark, Section, Table, Verdict
from modyn.trainset import TrainingSet

ABOUT = """\
Of an epoch over all samples, shuffled, in batches of 4,096, the batches from a random one on
are asked for, and the time until the first of them is there is measured.
`loader.batches(first=)` has the loader at hand; `from a state` makes a loader from an open
training set and hands it a state, as a process that was killed and begins anew would; opening
the training set reads and checks all of it and is a line of its own. What comes is compared
with an epoch that was not interrupted: three batches at each place, key by key.
StatefulDataLoader and a DataLoader whose batches are skipped get batches of positions from a
permutation in memory, and return these alone."""

BATCH = 1 << 12


def reference(loader: modyn.Loader) -> list[Keys]:
    """Return the keys of all batches of an epoch that nobody interrupts."""
    return [batch.numpy("keys").copy() for batch in loader]


def first_batch(begin: Callable[[], Iterator[Any]]) -> tuple[float, Iterator[Any], Any]:
    """Return milliseconds to the first batch, the iterator, and the batch."""
    started = time.perf_counter()
    batches = begin()
    batch = next(batches)
    return 1e3 * (time.perf_counter() - started), batches, batch


def compare(batches: Iterator[Any], batch: Any, keys: list[Keys]) -> None:
    """The batches from here on are those of the epoch that was not interrupted."""
    for number, expected in enumerate(keys):
        batch = batch if number == 0 else next(batches)
        if not np.array_equal(batch.numpy("keys"), expected):
            raise AssertionError("not the batches of the epoch that was not interrupted")
        check("resumed", expected, {name: batch.numpy(name) for name in ("label", "dense", "cat")})


def ours(site: Site, places: npt.NDArray[np.int64], folder: str) -> dict[str, list[float]]:
    """Resume at all places in the ways that there are."""
    dataset = modyn.Dataset.open(site.dataset)
    dataset.view.warm()
    chosen = TrainingSet.write(folder, np.arange(site.count))

    def open_set() -> Iterator[Any]:
        TrainingSet.open(chosen.path)
        return iter([None])

    def plan(**more: Any) -> modyn.Loader:
        return modyn.Loader(
            dataset, chosen, batch_size=BATCH, shuffle="global", seed=12, epoch=3, **more
        )

    def from_state(place: int, **more: Any) -> Callable[[], Iterator[Any]]:
        def begin() -> Iterator[Any]:
            loader = plan(**more)
            if not hasattr(loader, "load_state_dict"):
                return loader.batches(first=place)
            loader.load_state_dict(states[place])
            return iter(loader)

        return begin

    loader = plan()
    whole = reference(loader)
    states = {}
    if hasattr(loader, "state_at"):
        states = {int(place): loader.state_at(int(place)) for place in places}
    taken: dict[str, list[float]] = {}
    for place in places.tolist():
        ways = {
            "modyn, batches(first=)": partial(loader.batches, place),
            "modyn, from a state": from_state(place),
            "modyn, from a state, 4 threads": from_state(place, threads=4),
        }
        for name, begin in ways.items():
            milliseconds, batches, batch = first_batch(begin)
            compare(batches, batch, whole[place : place + 3])
            taken.setdefault(name, []).append(milliseconds)
    taken["modyn, opening its training set"] = [first_batch(open_set)[0] for _ in range(5)]
    dataset.close()
    return taken


class Positions:
    """Batches of positions, which are their own data: what a rival resumes is the order alone."""

    def __init__(self, order: npt.NDArray[np.int64]) -> None:
        self.order = order

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        for first in range(0, len(self.order), BATCH):
            yield self.order[first : first + BATCH]

    def __len__(self) -> int:
        return -(-len(self.order) // BATCH)

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return positions


def skipping(site: Site, places: npt.NDArray[np.int64]) -> dict[str, list[float]]:
    """torch's loaders: both go through what was delivered before."""
    from torch.utils.data import DataLoader

    data = Positions(np.random.default_rng(1).permutation(site.count))
    more: dict[str, Any] = {"sampler": data, "batch_size": None, "collate_fn": _as_it_is}

    def check_batch(batch: Any, place: int) -> None:
        assert np.array_equal(batch, data.order[place * BATCH : (place + 1) * BATCH])

    taken: dict[str, list[float]] = {"DataLoader, batches skipped": []}
    for place in places.tolist():

        def skip(place: int = place) -> Iterator[Any]:
            batches = iter(DataLoader(data, **more))  # type: ignore[arg-type]
            for _ in range(place):
                next(batches)
            return batches

        milliseconds, _, batch = first_batch(skip)
        check_batch(batch, place)
        taken["DataLoader, batches skipped"].append(milliseconds)
    if "StatefulDataLoader" not in present("StatefulDataLoader")[0]:
        return taken
    from torchdata.stateful_dataloader import StatefulDataLoader

    taken["StatefulDataLoader"] = []
    for place in places.tolist():
        before = StatefulDataLoader(data, **more)  # type: ignore[arg-type]
        batches = iter(before)
        for _ in range(place):
            next(batches)
        state = before.state_dict()

        def resume(state: Any = state) -> Iterator[Any]:
            loader = StatefulDataLoader(data, **more)  # type: ignore[arg-type]
            loader.load_state_dict(state)
            return iter(loader)

        milliseconds, _, batch = first_batch(resume)
        check_batch(batch, place)
        taken["StatefulDataLoader"].append(milliseconds)
    return taken


def _as_it_is(batch: Any) -> Any:
    return batch


def measure(site: Site) -> Section:
    section = Section("W12", "Going on in the middle of an epoch", " ".join(ABOUT.split()))
    _, section.skipped = present("StatefulDataLoader")
    last = site.count // BATCH - 3
    places = np.random.default_rng(7).integers(1, last, site.size(200, 20))
    with tempfile.TemporaryDirectory(dir=site.folder) as folder:
        taken = ours(site, places, folder)
    if not hasattr(modyn.Loader, "load_state_dict"):
        section.notes.append("Loader.load_state_dict: not there yet; batches(first=) instead.")
    taken |= skipping(site, places[: site.size(9, 3)])
    figures = {name: spread(values) for name, values in taken.items()}
    rows = [
        [name, len(taken[name]), f["median"], f["min"], f["max"]] for name, f in figures.items()
    ]
    section.tables.append(
        Table("Milliseconds to the first batch", ["way", "places", "median", "min", "max"], rows)
    )
    marks = [
        Mark(name, f["median"], f["min"], f["max"], "ours" if "modyn" in name else "rival")
        for name, f in figures.items()
    ]
    section.charts.append(Chart("To the first batch", "ms", [("", marks)]))
    names = ("modyn, batches(first=)", "modyn, from a state", "modyn, from a state, 4 threads")
    worst = max(figures[name]["median"] for name in names)
    section.verdicts.append(
        Verdict("resume at any place, bit by bit the same", "10 ms", f"{worst:.2f} ms", worst <= 10)
    )
    return section
