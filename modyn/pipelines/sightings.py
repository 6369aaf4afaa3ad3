"""What is answered about models and the samples that they have seen."""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from modyn.keyruns import KeyRuns


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model of a run.

    Parameters
    ----------
    key : str
        Its content key.
    runs : tuple of str
        The pipelines that have it, which are several where they did the same.
    trigger : int
        The trigger it was trained at, in the first of them.
    parents : tuple of str
        The models whose knowledge it took over; the first of them it went on from.
    training_set : str
        The digest of what it was trained on.
    samples : int
        How many samples that is.
    seen : int
        How many it has seen, with what its ancestors have.
    holdout : bool
        Whether it was only made to choose samples for another.
    """

    key: str
    runs: tuple[str, ...]
    trigger: int
    parents: tuple[str, ...]
    training_set: str
    samples: int
    seen: int
    holdout: bool = False

    @property
    def name(self) -> str:
        """How it is shown: run, trigger, and the beginning of its key."""
        kind = ", holdout" if self.holdout else ""
        return f"{self.runs[0]}:{self.trigger}{kind} ({self.key[:12]})"


@dataclass(frozen=True, kw_only=True)
class Erased:
    """An erasure: when, by whom and why; `number` is its place in the dataset's journal."""

    number: int
    when: datetime
    who: str
    why: str
    samples: int


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A model that has seen a sample.

    Parameters
    ----------
    model : TrainedModel
    directly : bool
        Whether it was trained on the sample itself.
    through : tuple of TrainedModel
        Its ancestors that were, the nearest first.
    """

    model: TrainedModel
    directly: bool
    through: tuple[TrainedModel, ...]


@dataclass(frozen=True, kw_only=True)
class WhoSaw:
    """Who has seen a sample; `erased` is None while it is not, or where nobody asked a dataset."""

    key: int
    sightings: tuple[Sighting, ...]
    erased: Erased | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a model has seen by one training, its own or an ancestor's.

    Parameters
    ----------
    model : TrainedModel
        Whose training.
    samples : int
        On how many samples.
    added : int
        How many of them none of that model's own ancestors had seen.
    """

    model: TrainedModel
    samples: int
    added: int


@dataclass(frozen=True, kw_only=True)
class Lost:
    """How many samples of an erasure a model has seen."""

    erasure: Erased
    samples: int


@dataclass(frozen=True, kw_only=True)
class SeenBy:
    """What a model has seen.

    Parameters
    ----------
    model : TrainedModel
    parts : tuple of Part
        Its own training, then those of its ancestors, the nearest first.
    lost : tuple of Lost
        What of it was erased since, by erasure.
    keys : KeyRuns
        All of it.
    """

    model: TrainedModel
    parts: tuple[Part, ...]
    lost: tuple[Lost, ...]
    keys: KeyRuns = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What two models have seen: how many samples only one, only the other, and both."""

    a: TrainedModel
    b: TrainedModel
    only_a: int
    only_b: int
    both: int
    sets: tuple[KeyRuns, KeyRuns] = field(repr=False)

    def keys_only_a(self, limit: int | None = None) -> npt.NDArray[np.uint64]:
        """Return samples that only `a` has seen, the first `limit` of them, ascending."""
        return _some(self.sets[0], self.sets[1], self.only_a, limit)

    def keys_only_b(self, limit: int | None = None) -> npt.NDArray[np.uint64]:
        """Return samples that only `b` has seen, the first `limit` of them, ascending."""
        return _some(self.sets[1], self.sets[0], self.only_b, limit)


def _some(these: KeyRuns, those: KeyRuns, known: int, limit: int | None) -> npt.NDArray[np.uint64]:
    """Return keys of the one that the other has not; known is how many there are."""
    return these.without(those, limit=known if limit is None else min(known, limit))
