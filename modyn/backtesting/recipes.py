"""Which training a policy asks for at a trigger, told apart by what decides its outcome.

Where a model is trained from scratch on all samples of a range of the stream, that range is all
there is to know: two policies that ask for it ask for the same training, whenever else they
train.  In all other cases (draws, a model that goes on from the one before it) the training is
taken for a function of all triggers so far, which it always is.

Ranges are in places of a `Tape`: first <= place < last.  Where labels come late, the candidates of
a trigger are the samples whose labels became known since: both ends of their range are places up
to which labels were known at a trigger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.backtesting.tape import Tape

__all__ = ["Ask", "Recipes"]

Places = npt.NDArray[np.int64]

ROOT = 0  # of the history: no trigger so far


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """The trainings that a schedule asks for, in order.

    Parameters
    ----------
    first : int64, shape (n,)
        Where their candidates begin.
    last : int64, shape (n,)
        Where their triggers fell.
    size : int64, shape (n,)
        How many candidates there are, at least 1.
    trigger : int64, shape (n,)
        The number of the trigger, which differs where one had no candidates.
    name : int64, shape (n,)
        What tells trainings apart: equal names, equal trainings.
    """

    first: Places
    last: Places
    size: Places
    trigger: Places
    name: Places

    def __len__(self) -> int:
        return len(self.last)

    def where(self, kept: npt.NDArray[np.bool_]) -> "Ask":
        """Return some of the trainings."""
        return Ask(**{one.name: getattr(self, one.name)[kept] for one in fields(self)})


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
    known : int64, shape (length + 1,), or None
        Up to which place labels are known after so many samples each; None: they are at once.
    """

    tail: int | None
    by_range: bool
    length: int
    takes_all: bool = False
    known: Places | None = None
    _nodes: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any], tape: Tape) -> "Recipes":
        """Return those of a pipeline, given what decides the outcome of its runs.

        Parameters
        ----------
        config : mapping
            As `Pipeline.describe` returns it.
        tape : Tape
            The stream.
        """
        selection, training = config["selection_strategy"], config["training"]
        downsampling = config.get("downsampling") or {}
        tail = selection.get("tail_triggers", 0)
        newest = tail is None and selection.get("limit_reset") == "lastX"
        takes_all = selection["name"] == "NewData" and selection["limit"] == -1
        whole = takes_all or (selection["name"] == "NewData" and newest)
        alone = not training["use_previous_model"] and not training.get("num_samples_to_pass")
        delay = int(config.get("data", {}).get("label_delay", 0))
        steady = "downsamplers" not in downsampling and downsampling.get("strategy") != "RHOLoss"
        by_range = whole and alone and steady
        return cls(
            tail=tail,
            by_range=by_range,
            length=len(tape),
            takes_all=takes_all,
            known=tape.known(delay) if delay else None,
        )

    def known_at(self, places: Places) -> Places:
        """Return up to where labels are known after so many samples each."""
        return places if self.known is None else self.known[places]

    def begin(self, first: int) -> int:
        """Return the first place at which a trigger could fall whose next candidates begin here."""
        return first if self.known is None else int(np.searchsorted(self.known, first))

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
            first = self.known_at(starts[np.maximum(numbers - self.tail, 0)])
        every = Ask(
            first=first,
            last=places,
            size=self.known_at(places) - first,
            trigger=numbers,
            name=self.names(first, places),
        )
        return every.where(every.size > 0)

    def names(self, first: Places, places: Places) -> Places:
        """Return what tells the trainings of a schedule apart, also those without candidates.

        Parameters
        ----------
        first : int64, shape (n,)
            Where the candidates of each trigger begin.
        places : int64, shape (n,)
            Where its triggers fell.
        """
        return first * (self.length + 1) + places if self.by_range else self._history(places)

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
