"""A training loop that is fed in different ways: does it lose anything to its loader?

A small DLRM (26 embeddings of dimension 4, 13 dense features) trains on the
processor, on batches of 160-byte records that are in the page cache.  Everybody feeds the
same loop with the same number of batches:

    one batch         a batch in memory, again and again: no loader at all
    in memory         as many batches in memory as a repetition has
    front to back     slices of the mapping, one after the other: what is shuffled is lost
    loader N          Loader over all keys, shuffle="global", with N threads
    ...               and the rivals of training_rivals.py, all of them by random key

A repetition begins with a fresh iterator, so that nobody has batches in store, and with it
the clock.  The loop notes how long it waits for each batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

import modyn
from benchmarks.loading.data import SCHEMA, Fields, check, keys_of
from benchmarks.loading.ground import Ground, split_rows
from benchmarks.loading.site import Site
from benchmarks.measure import Bar, Outcome, Seconds, Stopwatch, in_turns, spread
from benchmarks.section import Section, Table

ROWS = 1 << 14  # of each embedding
WIDTH = 4
TABLES = 26
LARGE, SMALL = 65_536, 4_096  # batches

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # label, dense, cat
# Yields the batches of repetition k.
Feed = Callable[[int], Iterable[Tensors]]


class Model(nn.Module):
    """A DLRM with the interaction "cat", and one table for all embeddings."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(TABLES * ROWS, WIDTH) * 0.01)
        self.register_buffer("first", torch.arange(TABLES, dtype=torch.int32) * ROWS)
        self.bottom = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, WIDTH), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(WIDTH * (TABLES + 1), 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, dense: torch.Tensor, cat: torch.Tensor) -> torch.Tensor:
        rows = (cat & (ROWS - 1)) + self.first
        sparse = functional.embedding(rows, self.table).flatten(1)
        dense = self.bottom(torch.log1p(dense))
        answer: torch.Tensor = self.top(torch.cat([dense, sparse], 1))
        return answer[:, 0]


class Training:
    """The loop: what it trains, and how long it waited for data."""

    def __init__(self) -> None:
        self.model = Model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.nothing: Tensors = (torch.empty(0), torch.empty(0), torch.empty(0))

    def step(self, batch: Tensors) -> None:
        label, dense, cat = batch
        self.optimizer.zero_grad(set_to_none=True)
        answer = self.model(dense, cat)
        loss = functional.binary_cross_entropy_with_logits(answer, (label & 1).float())
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def run(self, batches: Iterator[Tensors]) -> tuple[float, int, Tensors]:
        """Train on the batches; return the seconds waited, how many, and the last one."""
        waited, count, last = 0.0, 0, self.nothing
        while True:
            before = time.perf_counter()
            batch = next(batches, None)
            waited += time.perf_counter() - before
            if batch is None:
                return waited, count, last
            self.step(batch)
            last, count = batch, count + 1


def tensors(fields: Fields) -> Tensors:
    label, dense, cat = (torch.from_numpy(fields[name]) for name in SCHEMA)
    return label, dense, cat


class Stage:
    """The records, the loop, and what a repetition is."""

    def __init__(self, site: Site, ground: Ground, batches: int) -> None:
        self.ground, self.batches = ground, batches
        self.records, self.batch = ground.records, ground.batch
        self.training = Training()
        self._random = np.random.default_rng(31)
        self.some = [self._made() for _ in range(batches)]

    def _made(self) -> Tensors:
        keys = self.draw(self.batch)
        fetched = self.ground.dataset.fetch(keys)
        return tensors({name: np.asarray(fetched[name]) for name in SCHEMA})

    def draw(self, count: int) -> npt.NDArray[np.uint64]:
        return self._random.integers(self.records, size=count, dtype=np.uint64)

    def keys(self) -> npt.NDArray[np.int64]:
        """Fresh keys for a rival: so many whole batches, one row each."""
        drawn = self.draw(self.batches * self.batch).view(np.int64)
        return drawn.reshape(self.batches, self.batch)


def in_memory(stage: Stage, count: int) -> Feed:
    def feed(repetition: int) -> Iterator[Tensors]:
        return iter([stage.some[number % count] for number in range(stage.batches)])

    return feed


def front_to_back(stage: Stage) -> Feed:
    """Batches are views of the mapping: nothing is copied before the model reads it."""
    memmap, size = stage.ground.memmap, stage.batch
    whole = stage.records // size

    def feed(repetition: int) -> Iterator[Tensors]:
        for number in range(stage.batches):
            at = (repetition * stage.batches + number) % whole * size
            yield tensors(split_rows(memmap[at : at + size]))

    return feed


class Load:
    """A loader over all keys, shuffled."""

    def __init__(self, stage: Stage, threads: int) -> None:
        self._batches = stage.batches
        self.loader = modyn.Loader(
            stage.ground.dataset,
            np.arange(stage.records, dtype=np.uint64),
            batch_size=stage.batch,
            shuffle="global",
            drop_last=True,
            threads=threads,
        )

    def __call__(self, repetition: int) -> Iterator[Tensors]:
        """Yield the last batches of an epoch, so that none is made for nobody."""
        self.loader.set_epoch(repetition + 1)
        for batch in self.loader.batches(first=len(self.loader) - self._batches):
            yield batch["label"], batch["dense"], batch["cat"]


def feeds(stage: Stage) -> dict[str, Feed]:
    return {
        "one batch": in_memory(stage, 1),
        "in memory": in_memory(stage, stage.batches),
        "front to back": front_to_back(stage),
        **{f"loader {threads}": Load(stage, threads) for threads in (1, 2, 4)},
    }


def line(site: Site, ground: Ground, batches: int, section: Section) -> None:
    from benchmarks.loading.training_rivals import rivals

    outcome = Outcome("train", 1.0, "front to back", "loader 1", unit="k records")
    outcome.case = f"batches of {ground.batch:,}"
    outcome.bars = [Bar("loader 1", "one batch", 0.98), Bar("loader 2", "front to back", 1.0)]
    stage = Stage(site, ground, batches)
    found, section.skipped = rivals(stage)
    named = {**feeds(stage), **found}
    waited: dict[str, list[float]] = {name: [] for name in named}

    def contender(name: str) -> Callable[[int], Seconds]:
        def run(repetition: int) -> Seconds:
            watch = Stopwatch()
            waiting, count, last = stage.training.run(iter(named[name](repetition)))
            wall, busy = watch.stop()
            outcome.checked += check_last(name, last)
            if repetition >= 0:
                waited[name].append(waiting / wall)
            part = count / batches
            outcome.shares[name] = part
            return wall / part, busy / part

        return run

    in_turns(outcome, {name: contender(name) for name in named}, min(site.repetitions, 5))
    outcome.shares = {name: part for name, part in outcome.shares.items() if part < 1}
    outcome.work = batches * ground.batch / 1e3
    outcome.facts["mapped_mib"] = ground.mapped()
    outcome.facts["training_threads"] = torch.get_num_threads()
    outcome.kinds = {name: "ours" for name in named if name.startswith("loader")}
    outcome.kinds |= dict.fromkeys(("one batch", "in memory", "front to back"), "floor")
    section.lines.append(outcome)
    section.tables.append(waits_table(outcome.case, waited))
    for name, feed in named.items():
        if isinstance(feed, Load):
            section.notes.append(f"{name} itself says, {outcome.case}: {feed.loader.waits}")


def check_last(name: str, last: Tensors) -> int:
    fields = dict(zip(SCHEMA, (tensor.numpy() for tensor in last), strict=True))
    check(name, keys_of(np.ascontiguousarray(fields["label"])), fields)
    return 1


def waits_table(case: str, waited: dict[str, list[float]]) -> Table:
    rows: list[list[Any]] = []
    for name, shares in waited.items():
        share = spread([100 * value for value in shares])
        rows.append([name, share["median"], share["min"], share["max"]])
    heads = ["fed by", "percent of the time", "least", "most"]
    return Table(f"How long the loop waited for data, {case}", heads, rows)


def measure(site: Site) -> Section:
    torch.set_num_threads(1)
    section = Section("train", "A training loop on the processor", __doc__ or "")
    ground = Ground(site.dataset, LARGE)
    cases = [(SMALL, 4)] if site.quick else [(LARGE, 4), (SMALL, 32)]
    for batch, batches in cases:
        ground.use_batches_of(batch)
        line(site, ground, batches, section)
    ground.close()
    return section
