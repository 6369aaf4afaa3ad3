"""Which training a policy asks for at a trigger, told apart by what decides its outcome.

Where a model is trained from scratch on all samples of a range of the stream, that range is all
there is to know: two policies that ask for it ask for the same training, whenever else they
train.  In all other cases (draws, a model that goes on from the one before it, candidates that
begin where labels were known at another trigger) the training is taken for a function of all
triggers so far, which it always is.

Ranges are in places of a `Tape`: first <= place < last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Ask", "Recipes"]

Places = npt.NDArray[np.int64]

ROOT = 0  # of the history: no trigger so far


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """The trainings that a schedule asks for, in order.

    Parameters
    ----------
    first, last : int64, shape (n,)
        The ranges of their candidates; none is empty.
    trigger : int64, shape (n,)
        The number of the trigger, which differs where one had no candidates.
    name : int64, shape (n,)
        What tells trainings apart: equal names, equal trainings.
    """

    first: Places
    last: Places
    trigger: Places
    name: Places

    def __len__(self) -> int:
        return len(self.last)


@dataclass
class Recipes:
    """What tells the trainings of a pipeline apart.

    Parameters
    ----------
    tail : int or None
        `tail_triggers` of the selection.
    by_range : bool
        Whether the range of its candidates says all of a training.
    length : int
        Samples of the stream.
    takes_all : bool
        Whether all candidates are chosen.
    """

    tail: int | None
    by_range: bool
    length: int
    takes_all: bool = False
    _nodes: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any], length: int) -> "Recipes":
        """Return those of a pipeline, given what decides the outcome of its runs.

        Parameters
        ----------
        config : mapping
            As `Pipeline.describe` returns it.
        length : int
            Samples of the stream.
        """
        selection, training = config["selection_strategy"], config["training"]
        downsampling = config.get("downsampling") or {}
        tail = selection.get("tail_triggers", 0)
        newest = tail is None and selection.get("limit_reset") == "lastX"
        takes_all = selection["name"] == "NewData" and selection["limit"] == -1
        whole = takes_all or (selection["name"] == "NewData" and newest)
        alone = not training["use_previous_model"] and not training.get("num_samples_to_pass")
        delay = int(config.get("data", {}).get("label_delay", 0))
        alone = alone and (delay == 0 or tail is None)  # else they begin where labels were known
        steady = "downsamplers" not in downsampling and downsampling.get("strategy") != "RHOLoss"
        by_range = whole and alone and steady
        return cls(tail=tail, by_range=by_range, length=length, takes_all=takes_all)

    def ask(self, places: Places) -> Ask:
        """Return the trainings of a schedule.

        Parameters
        ----------
        places : int64, shape (n,)
            Where its triggers fell, ascending.
        """
        numbers = np.arange(len(places))
        if self.tail is None:
            first = np.zeros(len(places), dtype=np.int64)
        else:
            starts = np.concatenate(([0], places))
            first = starts[np.maximum(numbers - self.tail, 0)]
        return self.of_ranges(first, places)

    def of_ranges(self, first: Places, places: Places) -> Ask:
        """Return the trainings of a schedule, given where the candidates of each trigger begin."""
        numbers = np.arange(len(places))
        names = first * (self.length + 1) + places if self.by_range else self._history(places)
        some = first < places
        return Ask(first=first[some], last=places[some], trigger=numbers[some], name=names[some])

    def steps(self, nodes: Places, place: int) -> Places:
        """Return the names of histories that go on with a trigger at a place, given theirs so far.

        Of trainings that are told apart by their history: the name before the first is 0.
        """
        known, which = np.unique(nodes, return_inverse=True)
        found = [
            self._nodes.setdefault((node, place), len(self._nodes) + 1) for node in known.tolist()
        ]
        return np.array(found, dtype=np.int64)[which]

    def _history(self, places: Places) -> Places:
        """Return a number for each beginning of a schedule; equal beginnings, equal numbers."""
        node, found = ROOT, []
        for place in places.tolist():
            node = self._nodes.setdefault((node, place), len(self._nodes) + 1)
            found.append(node)
        return np.array(found, dtype=np.int64)
