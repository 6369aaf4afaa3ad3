"""A drift trigger over a made-up stream with made-up models, as a run would ask it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies import HeldHistory, PastModel, PlainContext, Trigger
from modyn.policies.context import Note

Keys = npt.NDArray[np.uint64]
WIDTH = 3


@dataclass
class Models:
    """Answers that are a function of model and key, and how often each was asked for."""

    rows: npt.NDArray[np.float64]  # of each key
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)

    def row(self, of: str, model: int, key: int) -> list[float]:
        """What a model says of one sample; it begins with 1."""
        seen = self.rows[key]
        if of in ("embeddings", "predictions"):
            seen = seen * (1 + model % 3) + (0.5 if of == "predictions" else 0.0)
        return [float(x) for x in np.asarray(seen, dtype=np.float32)]

    def _rows(self, of: str, model: int, keys: Keys) -> npt.NDArray[np.float32]:
        self.asked.update((of, int(key)) for key in keys)
        rows = np.array([self.row(of, model, int(key)) for key in keys], dtype=np.float32)
        return rows.reshape(len(keys), self.rows.shape[1])

    def embeddings(self, model: PastModel, keys: Keys) -> npt.NDArray[np.float32]:
        return self._rows("embeddings", model.trigger + 1, keys)

    def predictions(self, model: PastModel, keys: Keys) -> npt.NDArray[np.float32]:
        return self._rows("predictions", model.trigger + 1, keys)

    def losses(self, model: PastModel, keys: Keys) -> npt.NDArray[np.float32]:
        return self._rows("losses", model.trigger + 1, keys)[:, 0]

    def fields(self, keys: Keys) -> dict[str, npt.NDArray[np.float32]]:
        return {"dense": self._rows("features", 0, keys)}


@dataclass
class Played:
    """What came of it."""

    fired: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def scores(self, name: str) -> Iterator[tuple[int, Any]]:
        """The distances of a metric by interval."""
        for note in self.notes:
            if name in note.values["metrics"]:
                yield note.values["interval"], note.values["metrics"][name]["distance"]


def play(
    trigger: Trigger,
    stream: Arrivals,
    answers: Models,
    cuts: list[int] | None = None,
    *,
    seed: int = 0,
    resume: bool = False,
    label_delay: int = 0,
) -> Played:
    """Run a policy over blocks of the sizes `cuts`, in turn; a model is there at each trigger."""
    out = Played()
    history = HeldHistory(stream)
    models: list[PastModel] = []
    position, block = 0, 0
    sizes = cuts or [len(stream)]
    while position < len(stream):
        end = min(position + sizes[block % len(sizes)], len(stream))
        block += 1
        while position < end:
            context = PlainContext(
                clock=int(stream.timestamps[position - 1]) if position else None,
                position=position,
                trigger=len(out.fired),
                triggered_at=out.fired[-1] if out.fired else 0,
                seed=seed,
                models=tuple(models),
                informed=end - position,
                history=history,
                answers=answers,
                notes=out.notes.append,
                label_delay=label_delay,
            )
            due = trigger.inform(stream[position:end], context)
            position = end if due is None else position + due
            if due is not None:
                models.append(_model(len(models), position, out.fired, stream))
                out.fired.append(position)
            if resume:
                trigger = reborn(trigger)
    return out


def reborn(trigger: Trigger) -> Trigger:
    """A new policy with the state of the old, as after a crash; a copy of what is inside."""
    public = {n: v for n, v in vars(trigger).items() if not n.startswith("_")}
    state = json.loads(json.dumps(trigger.state_dict(), allow_nan=False))
    fresh = type(trigger)(**public)
    fresh.load_state_dict(state)
    return fresh


def _model(trigger: int, position: int, fired: list[int], stream: Arrivals) -> PastModel:
    return PastModel(
        trigger=trigger,
        model=f"model {trigger} at {position}",
        position=position,
        last_timestamp=int(stream.timestamps[position - 1]),
        samples=position - (fired[-1] if fired else 0),
        seconds=1.0,
    )
