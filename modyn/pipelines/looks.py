"""What a dry run shows: counts of what could be chosen and was, by label and time, and weights."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Counts", "DryRun", "Look", "Weights"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many samples could be chosen, and how many were."""

    candidates: int
    chosen: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            candidates=self.candidates + other.candidates, chosen=self.chosen + other.chosen
        )


NOTHING = Counts(candidates=0, chosen=0)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of a choice.

    Parameters
    ----------
    least, greatest, mean : float
    effective : float
        The effective sample size, (sum w)**2 / sum w**2: how many samples of equal weight would
        say as much.
    edges, counts : tuples
        A histogram.
    """

    least: float
    greatest: float
    mean: float
    effective: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one trigger would choose.

    Parameters
    ----------
    trigger : int
    new : int
        Samples since the trigger before.
    total : Counts
    first_timestamp, last_timestamp : int or None
        Of the new samples.
    labels : mapping of int to Counts, or None
        None without labels.
    times : tuple of Counts
        In the spans of `DryRun.edges`.
    weights : Weights or None
        None where all count alike.
    digest : str
        That of the training set, which a run would have, too.
    downsampling : str
        What would choose further during training, and how much; empty if nothing does.
    """

    trigger: int
    new: int
    total: Counts
    first_timestamp: int | None
    last_timestamp: int | None
    labels: Mapping[int, Counts] | None
    times: tuple[Counts, ...]
    weights: Weights | None
    digest: str
    downsampling: str


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a pipeline would choose.

    Parameters
    ----------
    name : str
        The pipeline's.
    dataset : str
        Where its samples lie.
    selection : str
        The policy, with its parameters.
    timestamp_unit : str
    edges : tuple of int
        Between the spans of time, one more than there are.
    looks : list of Look
        Trigger by trigger.
    triggers : int
        How many have fallen due, also those that were not asked for.
    rest : int
        Samples behind the last of them.
    """

    name: str
    dataset: str
    selection: str
    timestamp_unit: str
    edges: tuple[int, ...]
    looks: list[Look]
    triggers: int
    rest: int

    @property
    def total(self) -> Counts:
        """Of all triggers; a sample that several could choose counts for each."""
        return sum((look.total for look in self.looks), NOTHING)

    @property
    def labels(self) -> dict[int, Counts]:
        """By label, of all triggers; empty without labels."""
        found: dict[int, Counts] = {}
        for look in self.looks:
            for label, counts in (look.labels or {}).items():
                found[label] = found.get(label, NOTHING) + counts
        return dict(sorted(found.items()))

    @property
    def times(self) -> list[Counts]:
        """By span of time, of all triggers."""
        return [
            sum((look.times[i] for look in self.looks), NOTHING) for i in range(len(self.edges) - 1)
        ]
