"""Streams for presampling policies, in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies import (
    PlainContext,
    Selected,
    Selection,
)
from modyn.sampling import Candidates
from modyn.signals import Kept, Rows, Signals, sorted_signals
from tests.reference import presampling as twin

SEED = 11
ENDS = (40, 41, 200, 330, 330, 600)


def by_key(block: Arrivals) -> npt.NDArray[np.float64]:
    """A weight of one's own."""
    return (block.keys % np.uint64(10)).astype(np.float64)


@dataclass(frozen=True)
class Stream:
    """Samples in stream order, how many there are at each trigger, and what is erased behind it."""

    keys: npt.NDArray[np.uint64]
    timestamps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    ends: tuple[int, ...] = ENDS
    gone: tuple[tuple[int, ...], ...] = ()

    @property
    def samples(self) -> list[twin.Sample]:
        columns = (self.keys, self.timestamps, self.labels)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def windows(self, tail: int | None) -> list[list[list[twin.Sample]]]:
        return twin.windows(self.samples, self.ends, tail, self.gone)

    def flat(self, tail: int | None) -> list[list[int]]:
        return [twin.flat(parts) for parts in self.windows(tail)]

    def candidates(self, trigger: int, tail: int | None, block_count: int = 65_536) -> Candidates:
        parts = self.windows(tail)[trigger]
        starts, rows = [], []
        for one, part in enumerate(parts, start=trigger + 1 - len(parts)):
            starts.append((one, len(rows)))
            rows += part
        keys, timestamps, labels = zip(*rows, strict=True) if rows else ((), (), ())
        return Candidates.from_arrays(
            keys, timestamps, labels, starts=starts, block_count=block_count
        )


def made(rand: Any, count: int = 600, *, erased: bool = False, classes: int = 5) -> Stream:
    """Keys below 4096 in any order, late timestamps, labels of which the first is most common."""
    keys = rand.numpy.permutation(4096)[:count].astype(np.uint64)
    timestamps = np.sort(rand.numpy.integers(-400, 4000, count)) + rand.numpy.integers(0, 90, count)
    labels = 7 - np.minimum(rand.numpy.geometric(0.5, count), classes)
    gone = tuple(
        tuple(rand.numpy.choice(keys[:end], end // 8, replace=False).tolist()) if erased else ()
        for end in ENDS
    )
    return Stream(keys, timestamps, labels, gone=gone)


def run(
    policy: Selection,
    stream: Stream,
    *,
    seed: int = SEED,
    block_count: int = 65_536,
    resumed: bool = False,
    signals: dict[int, Signals] | None = None,
) -> list[list[int]]:
    """The chosen keys of each trigger, as a run asks for them."""
    policy = replace(policy)  # type: ignore[type-var]
    chosen: dict[int, Selected] = {}
    for trigger, end in enumerate(stream.ends):
        candidates = stream.candidates(trigger, policy.tail_triggers, block_count)
        context = PlainContext(
            seed=seed,
            trigger=trigger,
            position=end,
            training_sets=chosen,
            recorded=None if signals is None else Kept(signals),
        )
        found = policy.select(candidates, context) if len(candidates) else Selected(np.empty(0))
        chosen[trigger] = found
        if resumed:
            state = json.loads(json.dumps(policy.state_dict()))
            policy = replace(policy)  # type: ignore[type-var]
            policy.load_state_dict(state)
    return [chosen[trigger].keys.tolist() for trigger in range(len(stream.ends))]


def some_signals(data: Stream) -> dict[int, Signals]:
    """Of the trainings of triggers 0, 2 and 3: two epochs over some samples, with ties and nan."""
    rng = np.random.default_rng(3)
    found = {}
    for trigger in (0, 2, 3):
        keys = rng.permutation(data.keys[: data.ends[trigger]])[: data.ends[trigger] // 2]
        loss = rng.integers(0, 9, 2 * len(keys)).astype(np.float32)
        loss[-3:] = np.nan
        rows = Rows(
            np.concatenate((keys, keys)),
            np.repeat(np.arange(2, dtype=np.int32), len(keys)),
            {
                "loss": loss,
                "gradient_norm": loss / 9,
                "prediction": rng.integers(0, 4, len(loss), dtype=np.int32),
                "forgetting": rng.integers(0, 3, len(loss)).astype(np.int32),
            },
        )
        found[trigger] = sorted_signals(rows, trigger)
    return found
