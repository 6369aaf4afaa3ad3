"""What a pipeline would choose at each trigger, without training: the dry run of a selection.

The stream, the trigger policy, the candidates, the seeds and the selection policy are those of a
run, so the training sets are too; they are written into a temporary folder, looked at, and gone.
What needs a model is not done: signals of trainings, and downsampling, are named instead, and
trigger policies that ask a model, or what it cost, are refused.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.dates import PER_SECOND
from modyn.downsampling import RHOLoss
from modyn.errors import ConfigError
from modyn.orchestrator import Orchestrator
from modyn.pipelines.lookback import RunHistory
from modyn.pipelines.looks import Counts, DryRun, Look, Weights
from modyn.pipelines.settings import NUMERIC
from modyn.pipelines.stream import Stream, stream_of
from modyn.pipelines.untrained import UntrainedAnswers, UntrainedModel
from modyn.policies import PlainContext, Selected, Selection, Trigger
from modyn.policies.answers import due_after, selected
from modyn.signals import Signals, no_signals
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    from modyn.orchestrator import Transition
    from modyn.pipelines.pipeline import Pipeline
    from modyn.sampling import Candidates

__all__ = ["dry_run"]

BLOCK_COUNT = 65_536
SLICE = 1 << 20  # keys
TIME_BINS = 24
WEIGHT_BINS = 20


def dry_run(pipeline: "Pipeline", trigger: int | None = None) -> DryRun:
    """Return what the selection policy of a pipeline would choose, without training.

    Nothing is written but training sets, into a temporary folder that is removed.

    Parameters
    ----------
    pipeline : Pipeline
        Its dataset is read where it lies, also where a run would read from a database.
    trigger : int, optional
        Only this one (those before it are gone through too); all if None.

    Raises
    ------
    ConfigError
        When the policy asks for what only a training can tell, there is no such trigger, or the
        dataset is empty.
    """
    if len(pipeline.dataset) == 0:
        raise ConfigError(f"{pipeline.dataset.path}: the dataset is empty")
    stream = stream_of(pipeline, len(pipeline.dataset))
    with tempfile.TemporaryDirectory(prefix="modyn-select-") as folder:
        steps = _Steps(pipeline, Path(folder), stream, trigger)
        loop = steps.loop()
        while not steps.enough and loop.next() is not None:
            pass
    if trigger is not None and not steps.looks:
        there = f"{steps.trigger} triggers" if steps.trigger != 1 else "1 trigger"
        raise ConfigError(f"there is no trigger {trigger}: there are {there}, from 0 on")
    return DryRun(
        name=pipeline.name,
        dataset=pipeline.dataset.path,
        selection=repr(pipeline.selection),
        timestamp_unit=pipeline.dataset.timestamp_unit,
        edges=steps.spans.edges,
        looks=steps.looks,
        triggers=steps.trigger,
        rest=steps.rest(),
    )


# Counting ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spans:
    """Spans of time of equal length, from the first timestamp to the last."""

    edges: tuple[int, ...]

    @classmethod
    def of(cls, first: int, last: int, unit: str) -> "_Spans":
        """Return spans from first to last, both included, which begin at round times."""
        length = next(n for n in _lengths(unit) if last // n - first // n < TIME_BINS)
        start, end = first // length, last // length + 1
        return cls(tuple(i * length for i in range(start, end + 1)))

    def count(self, timestamps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many of these lie in each span."""
        length = self.edges[1] - self.edges[0]
        past = timestamps.astype(np.uint64) - np.uint64(self.edges[0] % 2**64)  # without overflow
        places = (past // np.uint64(length)).astype(np.int64)
        return np.bincount(places, minlength=len(self.edges) - 1)


def _lengths(unit: str) -> Iterator[int]:
    """Yield lengths that people count in, in a unit: from one of it to powers of ten years."""
    second = PER_SECOND[unit]
    yield from (n * 10**p for p in range(len(str(second)) - 1) for n in (1, 2, 5))
    for step, counts in (
        (1, (1, 2, 5, 10, 15, 30)),
        (60, (1, 2, 5, 10, 15, 30)),
        (3600, (1, 2, 3, 6, 12)),
        (86_400, (1, 2, 7, 14, 28, 56, 91, 182)),
    ):
        yield from (second * step * n for n in counts)
    yield from (second * 31_536_000 * n * 10**p for p in range(30) for n in (1, 2, 5))


Keys = npt.NDArray[np.uint64]


def _slices(keys: Keys) -> Iterator[Keys]:
    """Yield keys some at a time, so that what is made of them stays small."""
    for first in range(0, len(keys), SLICE):
        yield keys[first : first + SLICE]


def _span_of(times: Iterator[npt.NDArray[np.int64]], unit: str) -> _Spans:
    """Return spans that cover these times."""
    ends = [(int(some.min()), int(some.max())) for some in times if len(some)]
    if not ends:
        return _Spans((0, 1))
    return _Spans.of(min(first for first, _ in ends), max(last for _, last in ends), unit)


def _tally(labels: Iterator[npt.NDArray[np.int64]]) -> dict[int, int]:
    """Return how often each label occurs."""
    found: dict[int, int] = {}
    for some in labels:
        for label, count in zip(*np.unique(some, return_counts=True), strict=True):
            found[int(label)] = found.get(int(label), 0) + int(count)
    return found


def _weights(weights: npt.NDArray[np.float64] | None) -> Weights | None:
    if weights is None or len(weights) == 0:
        return None
    least, greatest = float(weights.min()), float(weights.max())
    squares = float((weights / (greatest or 1.0)) @ (weights / (greatest or 1.0)))
    total = float((weights / (greatest or 1.0)).sum())
    span = (least, greatest) if least < greatest else (least - 0.5, greatest + 0.5)
    counts, edges = np.histogram(weights, bins=WEIGHT_BINS, range=span)
    return Weights(
        least=least,
        greatest=greatest,
        mean=float(weights.mean()),
        effective=total * total / squares if squares else 0.0,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


# The loop ----------------------------------------------------------------------------------------


@dataclass
class _Sets(Mapping[int, Selected]):
    """What was chosen so far, by trigger: mapped when it is asked for."""

    folder: Path
    digests: list[str] = field(default_factory=list)

    def __getitem__(self, trigger: int) -> Selected:
        found = TrainingSet.open(self.folder / f"{self.digests[trigger]}.set")
        return Selected(found.keys, found.weights)

    def __contains__(self, trigger: object) -> bool:
        return isinstance(trigger, int) and 0 <= trigger < len(self.digests)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.digests)))

    def __len__(self) -> int:
        return len(self.digests)


@dataclass(frozen=True)
class _Untrained:
    """Signals of trainings that are not done: there are none before the first, then that is why."""

    names: tuple[str, ...]
    trigger: int
    classes: bool

    def triggers(self) -> Sequence[int]:
        """Return that nothing was trained before trigger 0."""
        if self.trigger > 0:
            raise ConfigError(
                f"the choice of trigger {self.trigger} depends on what an earlier model said of "
                "its samples (training.signals), and a dry run trains none; --trigger 0 shows "
                "the choice before the first training"
            )
        return []

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Raise: there is nothing to read."""
        raise KeyError(trigger)

    def nothing(self) -> Signals:
        """Return signals without rows."""
        return no_signals(self.names, classes=self.classes)


class _Steps:
    """What the loop asks for: the policies' answers, which are looked at and not kept."""

    def __init__(
        self, pipeline: "Pipeline", folder: Path, stream: Stream, wanted: int | None
    ) -> None:
        self.looks: list[Look] = []
        self.spans = _Spans((0, 1))
        self.position = 0  # behind the last trigger
        self._pipeline = pipeline
        self._stream = stream
        self._wanted = wanted
        self._sets = _Sets(folder)
        self._timestamps = pipeline.dataset.timestamps
        self._labels = pipeline.dataset.labels
        self._policies: tuple[Trigger, Selection] = pipeline.policies()
        self._models: list[UntrainedModel] = []
        self._history = RunHistory(
            view=pipeline.dataset.view,
            stream=stream,
            by_time=pipeline.order == "time",
            key_count=len(pipeline.dataset),
        )
        self._candidates: Candidates | None = None
        self._orchestrator: Orchestrator
        if wanted is None:
            self.spans = self._whole()

    def _whole(self) -> _Spans:
        """Return the spans of the whole stream."""
        times = (self._timestamps[keys] for keys in self._living(0, self._stream.count))
        return _span_of(times, self._pipeline.dataset.timestamp_unit)

    def _living(self, first: int, end: int) -> Iterator[npt.NDArray[np.uint64]]:
        """Yield the keys at places of the stream, less those that are erased."""
        order, erased = self._stream.order, self._pipeline.dataset.erased
        for at in range(first, end, SLICE):
            last = min(at + SLICE, end)
            keys = np.arange(at, last, dtype=np.uint64) if order is None else order[at:last]
            yield keys[~erased[keys]]

    def rest(self) -> int:
        """Return how many samples lie behind the last trigger."""
        return sum(map(len, self._living(self.position, self._stream.count)))

    @property
    def trigger(self) -> int:
        """The trigger that is sought."""
        return len(self._sets)

    @property
    def enough(self) -> bool:
        """Whether what is behind needs not to be looked at."""
        most = self._pipeline.maximum_triggers
        if self._wanted is not None and self.trigger > self._wanted:
            return True
        return most is not None and self.trigger >= most

    def loop(self) -> Orchestrator:
        """Return the loop, at the beginning of the stream."""
        trigger, selection = self._policies
        self._orchestrator = Orchestrator(
            self._pipeline.dataset,
            order=self._stream.order,
            source=self._stream.source,
            steps=self,
            tail_triggers=selection.tail_triggers,
            trainset_directory=self._sets.folder,
            block_count=BLOCK_COUNT,
            trigger_name=type(trigger).__name__,
            selection_name=type(selection).__name__,
            known=self._known if self._pipeline.label_delay else None,
        )
        return self._orchestrator

    def _known(self, position: int) -> int:
        return self._history.known(position, int(self._pipeline.label_delay))

    def inform(self, arrivals: Arrivals) -> int | None:
        """Ask the trigger policy."""
        at = self._orchestrator
        policy = self._policies[0]
        context = replace(
            self._context(at.clock, at.position, at.trigger),
            triggered_at=at.triggered_at,
            informed=len(arrivals),
        )
        if self._pipeline.label_delay:
            arrivals = Arrivals(arrivals.keys, arrivals.timestamps)
        return due_after(policy.inform(arrivals, context), type(policy).__name__)

    def select(self, transition: "Transition", candidates: "Candidates") -> Selected:
        """Ask the selection policy."""
        policy = self._policies[1]
        context = replace(
            self._context(transition.last_timestamp, transition.position, transition.trigger),
            triggered_at=transition.first,
        )
        self._candidates = candidates
        return selected(policy.select(candidates, context), type(policy).__name__)

    def commit(self, transition: "Transition") -> None:
        """Look at what was chosen."""
        self._sets.digests.append(transition.digest)
        if transition.samples:
            model = UntrainedModel(
                trigger=transition.trigger,
                model="",
                position=transition.position,
                last_timestamp=transition.last_timestamp,
                samples=transition.samples,
                seconds=0.0,
            )
            self._models.append(model)
        self.position = transition.position
        if self._wanted in (None, transition.trigger):
            self.looks.append(self._look(transition))
        self._candidates = None

    def advance(self, position: int) -> None:
        """Do nothing."""

    def _blocks(self) -> Iterator[Arrivals]:
        return iter(()) if self._candidates is None else self._candidates.blocks()

    def _look(self, transition: "Transition") -> Look:
        chosen = self._sets[transition.trigger]
        if self._wanted is not None:  # a picture of its own
            self.spans = _span_of(self._times(chosen.keys), self._pipeline.dataset.timestamp_unit)
        candidates, times = 0, np.zeros((2, len(self.spans.edges) - 1), dtype=np.int64)
        for block in self._blocks():  # without those that are erased
            times[0] += self.spans.count(block.timestamps)
            candidates += len(block)
        for keys in _slices(chosen.keys):
            times[1] += self.spans.count(self._timestamps[keys])
        return Look(
            trigger=transition.trigger,
            new=sum(map(len, self._living(transition.first, transition.position))),
            total=Counts(candidates=candidates, chosen=len(chosen.keys)),
            first_timestamp=transition.first_timestamp,
            last_timestamp=transition.last_timestamp,
            labels=self._by_label(chosen.keys),
            times=tuple(Counts(candidates=a, chosen=b) for a, b in times.T.tolist()),
            weights=_weights(chosen.weights),
            digest=transition.digest,
            downsampling=_downsampling(self._pipeline, transition.trigger, len(chosen.keys)),
        )

    def _times(self, chosen: Keys) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the times of the candidates and of what was chosen."""
        for block in self._blocks():
            yield block.timestamps
        for keys in _slices(chosen):
            yield self._timestamps[keys]

    def _by_label(self, chosen: Keys) -> dict[int, Counts] | None:
        labels = self._labels
        if labels is None:
            return None
        there = _tally(b.labels for b in self._blocks() if b.labels is not None)
        taken = _tally(labels[keys] for keys in _slices(chosen))
        return {
            label: Counts(candidates=there.get(label, 0), chosen=taken.get(label, 0))
            for label in sorted({*there, *taken})
        }

    def _context(self, clock: int | None, position: int, trigger: int) -> PlainContext:
        training = self._pipeline.training
        names, classes = training.signals, training.optimization_criterion.name not in NUMERIC
        return PlainContext(
            clock=clock,
            position=position,
            trigger=trigger,
            seed=self._pipeline.seed_value,
            timestamp_unit=self._pipeline.dataset.timestamp_unit,
            models=tuple(self._models),
            label_delay=int(self._pipeline.label_delay),
            history=self._history,
            answers=UntrainedAnswers(self._pipeline.dataset),
            recorded=_Untrained(names, trigger, classes) if names else None,
            training_sets=self._sets,
        )


def _downsampling(pipeline: "Pipeline", trigger: int, count: int) -> str:
    """Return what would choose during the training of a trigger, in words."""
    how = pipeline.downsampler_at(trigger)
    if how is None or count == 0:
        return ""
    if isinstance(how, RHOLoss) and how.holdout_set_strategy == "Simple":
        count -= how.held_out(count)
    about = "" if how.exact else "about "
    share = f"{about}{100 * how.ratio / how.ratio_max:g} %"
    if not how.sample_then_batch:
        what = f"{share} of each batch"
    else:
        often = {0: "once", 1: "every epoch"}.get(how.period, f"every {how.period} epochs")
        what = f"{share} of the training set ({about}{how.share(count):,} samples), chosen {often}"
    return f"{type(how).__name__} would train on {what}; which ones needs the model"
