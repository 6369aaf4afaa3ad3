"""A plan as one process carries it out: a loader of the core, and the stages behind it.

Threads, memory and mappings belong to the process that made them.  A loader makes these anew in
a forked child, and where it was unpickled.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from modyn import _core
from modyn.loader.ahead import Source as Stage
from modyn.loader.arguments import field_names
from modyn.loader.batch import Parts
from modyn.loader.batches import Batches, Filled
from modyn.loader.budget import Budget
from modyn.loader.decode import Collate, Decode, Decoding
from modyn.loader.device import AHEAD, Backend, OnDevice, open_backend
from modyn.loader.pinned import Lender
from modyn.loader.source import Samples, Source
from modyn.loader.stacking import Memory as Lent
from modyn.loader.staging import Resident, Staging
from modyn.loader.state import Progress
from modyn.loader.waits import Tally

__all__ = ["Memory", "Process", "Stages"]


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What happens to a filled batch, as asked for; see Loader."""

    decode: Decode | None
    decode_workers: int
    decode_processes: bool
    collate: Collate | None
    device: str | None  # checked; None: main memory


@dataclass(frozen=True)
class Memory:
    """What is kept in memory, and how much of it there may be; see Loader."""

    ahead: Staging
    resident: Resident | None
    budget: int | None


class Process:
    """What the iterations of a loader in one process share.

    Parameters
    ----------
    source, samples
        What is read.
    options : dict
        Of _core.Loader.
    stages : Stages
        What comes behind it.
    memory : Memory
        What is kept besides.
    """

    def __init__(
        self,
        source: Source,
        samples: Samples,
        options: dict[str, Any],
        stages: Stages,
        memory: Memory,
    ) -> None:
        self.pid = os.getpid()
        options = {**options, "ascending": samples.ascending}
        self.core = _core.Loader(source.view, samples.keys, samples.weights, **options)
        self.budget = Budget(memory.budget, batch_bytes=self.core.batch_bytes)
        if memory.resident is not None:
            view = memory.resident.view(source.view, samples.keys, self.budget)
            self.core = _core.Loader(view, samples.keys, samples.weights, **options)
        self._ahead = memory.ahead
        self._ahead_bytes = memory.ahead.reserve(self.budget)
        self._parts = Parts.of(self.core, field_names(source.view))
        self._device = stages.device
        self._lender: Lender | None = None  # made when a device is first used
        self.decoding = Decoding.of(
            stages.decode,
            stages.decode_workers,
            stages.decode_processes,
            stages.collate,
            tuple(self._parts.fields),
        )
        self.tally = Tally()

    def begin(
        self, progress: Progress, stride: int, *, threads: int, depth: int, on_device: bool
    ) -> Batches:
        """Return the batches from where `progress` is; in main memory, or where they belong."""
        first, _ = progress.place
        core = self.core.begin(
            epoch=progress.epoch,
            first=first,
            threads=threads,
            depth=depth,
            stride=stride,
            memory=self.budget.for_batches,
            partitions=self._ahead.partitions,
            requests=self._ahead.requests,
            budget=self._ahead_bytes,
        )
        device = self._device if on_device else None
        stages = self._stages(core, first, stride, depth, device)
        return Batches(stages, progress, self.tally)

    def _stages(
        self, core: _core.Epoch, first: int, stride: int, depth: int, device: str | None
    ) -> Stage:
        """Return the last of the stages that batches pass on their way to the loop."""
        if device is None:
            return self._decoded(Filled(core, self._parts), first, stride, depth, None)
        backend = open_backend(device)
        if self._lender is None:
            self._lender = self._new_lender(backend, depth)
        filled = Filled(core, self._parts, self._lender)
        decoded = self._decoded(filled, first, stride, depth, backend.pinned)
        return OnDevice(decoded, backend, first=first, stride=stride)

    def _decoded(
        self, filled: Filled, first: int, stride: int, depth: int, memory: Lent | None
    ) -> Stage:
        if self.decoding is None:
            return filled
        return self.decoding.begin(filled, depth=depth, first=first, stride=stride, memory=memory)

    def _new_lender(self, backend: Backend, depth: int) -> Lender:
        """Return who lends pinned memory to batches, but not for payloads that are decoded."""
        decoded = self.decoding.fields if self.decoding is not None else ()
        parts = (self._parts.fields[name] for name in decoded)
        return Lender(
            self.core.memory,
            backend.pinned,
            most=2 * depth + 2 * AHEAD + 2,
            others=frozenset(1 + part for part, is_bytes in parts if is_bytes),
        )
