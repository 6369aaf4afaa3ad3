"""The ledger: what a run did; the only mutable truth of a pipeline.

    identity      what the run is: configuration, datasets, seed; written once
    progress      how far the stream was followed, and the policies' state there
    transitions   one row per trigger: where it fell, what was chosen, the state after it
    trainings     one row per trained trigger: the model's content key and facts
    downsamplings one row per training with downsampling: how many samples it looked at
    windows       the evaluation windows of each handler
    evaluations   one row per (trigger, dataset, window, metric): counts and value
    decisions     what policies looked at when they decided, in order; no part of the digest
    timings       seconds by trigger and stage, the only wall clock; no part of the digest

One transition is one transaction: position, policy state, trigger and training set digest commit
together.  Everything else refers to a transition and can be done again with the same outcome, so
after a crash the run goes on from the last commit and there is nothing to mend.

There are two: a file in the run directory (ledger_sqlite) and tables of a database
(ledger_postgres).  What they hold is the same, and so is the digest, which covers all but the
decisions and timings: two runs that triggered, trained and measured the same have the same digest,
wherever they were interrupted and wherever their ledgers are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from modyn.errors import ConfigError


def canonical(value: Any) -> str:
    """Return JSON that is equal for equal values: sorted keys, no blanks, ASCII.

    Examples
    --------
    >>> canonical({"b": 1, "a": [0.5, None]})
    '{"a":[0.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the stream was followed, and the policies' state there (JSON)."""

    position: int
    trigger_state: str
    selection_state: str
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class TransitionRow:
    """A trigger, as committed; `trained_until` is the last timestamp its model may have seen."""

    trigger: int
    first: int
    position: int
    first_timestamp: int | None
    last_timestamp: int | None
    trained_until: int | None
    candidates_first: int
    candidates: int
    samples: int
    digest: str
    trigger_state: str
    selection_state: str


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """A training: `model` is a content key, or None where there was nothing to train on."""

    trigger: int
    model: str | None
    parent: str | None
    epochs: int
    batches: int
    samples: int
    final_loss: float | None
    losses: str


@dataclass(frozen=True, kw_only=True)
class DownsamplingRow:
    """A training with downsampling: how many samples went forward only, and were trained on."""

    trigger: int
    scored: int
    trained: int


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    """An evaluation window of a handler (by its place in the configuration)."""

    dataset: str
    handler: int
    start: int
    end: int
    anchor: int
    count: int


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One metric of one model on one window; `counts` is JSON and can be merged."""

    trigger: int
    dataset: str
    start: int
    end: int
    metric: str
    model: str
    value: float | None
    count: int
    counts: str


@dataclass(frozen=True, kw_only=True)
class DecisionRow:
    """What a policy looked at when it decided, as JSON; `number` counts through the run."""

    number: int
    position: int
    trigger: int
    timestamp: int | None
    name: str
    noted: str


@dataclass(frozen=True, kw_only=True)
class TimingRow:
    """Seconds of wall clock."""

    trigger: int
    stage: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that a ledger says, at one moment."""

    identity: Mapping[str, Any]
    progress: Progress
    transitions: Sequence[TransitionRow]
    trainings: Sequence[TrainingRow]
    windows: Sequence[WindowRow]
    evaluations: Sequence[EvaluationRow]
    timings: Sequence[TimingRow]
    digest: str
    downsamplings: Sequence[DownsamplingRow] = ()
    decisions: Sequence[DecisionRow] = ()


Row = (
    TransitionRow
    | TrainingRow
    | DownsamplingRow
    | WindowRow
    | EvaluationRow
    | DecisionRow
    | TimingRow
)
RowT = TypeVar(
    "RowT",
    TransitionRow,
    TrainingRow,
    DownsamplingRow,
    WindowRow,
    EvaluationRow,
    DecisionRow,
    TimingRow,
)

# Tables have a column per field of their rows, in that order, and these primary keys.
TABLE_OF: dict[type[Row], str] = {
    TransitionRow: "transitions",
    TrainingRow: "trainings",
    DownsamplingRow: "downsamplings",
    WindowRow: "windows",
    EvaluationRow: "evaluations",
    DecisionRow: "decisions",
    TimingRow: "timings",
}
KEY_OF: dict[type[Row], tuple[str, ...]] = {
    TransitionRow: ("trigger",),
    TrainingRow: ("trigger",),
    DownsamplingRow: ("trigger",),
    WindowRow: ("dataset", "handler", "start", "end", "anchor"),
    EvaluationRow: ("trigger", "dataset", "start", "end", "metric"),
    DecisionRow: ("number",),
    TimingRow: ("trigger", "stage"),
}


class Ledger(Protocol):
    """A ledger, open for writing; one process at a time.

    A method that returns has committed; one that raises has left nothing.
    """

    @property
    def new(self) -> bool:
        """Whether nothing was begun here yet."""

    def begin(self, identity: Mapping[str, Any], start: Progress) -> None:
        """Write the identity of a new run, or hold the run that exists against it.

        Raises
        ------
        ConfigError
            When the run was made from other data or another configuration; says what differs.
        """

    def identity(self) -> dict[str, Any]:
        """Return what the run is, as it was begun."""

    def settle(self, identity: Mapping[str, Any]) -> None:
        """Commit what a run is that was followed, and now covers so many samples and no more."""

    def progress(self) -> Progress:
        """Return how far the stream was followed."""

    def advance(self, progress: Progress, decisions: Sequence[DecisionRow] = ()) -> None:
        """Commit a position between triggers, the policies' state there, and what they noted."""

    def commit(
        self,
        row: TransitionRow,
        seconds: Mapping[str, float],
        decisions: Sequence[DecisionRow] = (),
    ) -> None:
        """Commit a trigger: position, state, choice, notes; all or nothing, and once."""

    def train(
        self,
        row: TrainingRow,
        seconds: Mapping[str, float],
        downsampling: DownsamplingRow | None = None,
    ) -> None:
        """Commit that a trigger's model is in the store."""

    def evaluate(
        self, rows: Sequence[EvaluationRow], seconds: Mapping[int, Mapping[str, float]]
    ) -> None:
        """Commit what models scored, and the seconds of each trigger's."""

    def plan(self, windows: Sequence[WindowRow]) -> None:
        """Commit which windows there are; those that are known already stay as they are."""

    def finish(self) -> None:
        """Commit that nothing is left to do."""

    def transitions(self) -> list[TransitionRow]:
        """Return all triggers, first to last."""

    def trainings(self) -> list[TrainingRow]:
        """Return all trainings, first to last."""

    def evaluations(self, trigger: int | None = None) -> list[EvaluationRow]:
        """Return all results, or those of a trigger's model."""

    def decision_count(self) -> int:
        """Return how many decisions are committed."""

    def seconds(self, stage: str) -> dict[int, float]:
        """Return the seconds of a stage, by trigger."""

    def content(self) -> Content:
        """Return all that the ledger says, and its digest, as of one moment."""

    def close(self) -> None:
        """Let go of it; any number of times."""


def content_of(
    *,
    identity: Mapping[str, Any],
    progress: Progress,
    transitions: Sequence[TransitionRow],
    trainings: Sequence[TrainingRow],
    windows: Sequence[WindowRow],
    evaluations: Sequence[EvaluationRow],
    timings: Sequence[TimingRow],
    downsamplings: Sequence[DownsamplingRow] = (),
    decisions: Sequence[DecisionRow] = (),
) -> Content:
    """Return what a ledger says, with its digest.

    That is BLAKE2b of 32 bytes over a line per row, canonical JSON of table and values: identity by
    name, progress, then transitions, trainings, windows, evaluations and downsamplings, by primary
    key.
    """
    state = blake2b(digest_size=32)

    def add(*row: Any) -> None:
        state.update(canonical(row).encode() + b"\n")

    for name in sorted(identity):
        add("identity", name, canonical(identity[name]))
    states = progress.trigger_state, progress.selection_state
    add("progress", 0, progress.position, *states, int(progress.finished))
    for rows in (transitions, trainings, windows, evaluations, downsamplings):
        for row in sorted(rows, key=_key):
            add(TABLE_OF[type(row)], *(getattr(row, field.name) for field in fields(row)))
    return Content(
        identity=identity,
        progress=progress,
        transitions=transitions,
        trainings=trainings,
        windows=windows,
        evaluations=evaluations,
        timings=timings,
        downsamplings=downsamplings,
        decisions=decisions,
        digest=state.hexdigest(),
    )


FOLLOWING = "following"  # the entry of the identity while a run follows


def opened(identity: Mapping[str, Any], since: int) -> dict[str, Any]:
    """Return the identity of a run while it follows: nobody knows of how many samples.

    Parameters
    ----------
    identity : mapping
        Of a run over some samples.
    since : int
        How many samples there were when it began.

    Examples
    --------
    >>> opened({"dataset": {"uuid": "a", "count": 9}, "evaluation_datasets": []}, since=5)
    {'dataset': {'uuid': 'a', 'count': None}, 'evaluation_datasets': [], 'following': {'since': 5}}
    """
    uuid = identity["dataset"]["uuid"]

    def one(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {**entry, "count": None} if entry["uuid"] == uuid else dict(entry)

    return {
        **identity,
        "dataset": one(identity["dataset"]),
        "evaluation_datasets": [one(entry) for entry in identity["evaluation_datasets"]],
        FOLLOWING: {"since": since},
    }


def check_identity(
    old: Mapping[str, Any], new: Mapping[str, Any], *, where: str, advice: str
) -> None:
    """Refuse to go on with a run that is another one.

    Raises
    ------
    ConfigError
        Names what differs by its place in the configuration, then gives the advice.
    """
    new = json.loads(canonical(new))
    differences = list(_differences("", old, new))
    if differences:
        shown = "; ".join(differences[:5])
        raise ConfigError(f"{where} holds a run of another pipeline or dataset: {shown}. {advice}")


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in KEY_OF[type(row)])


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    """Yield what differs, by its place in the configuration."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            place = f"{path}.{name}" if path else str(name)
            yield from _differences(place, old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{i}]", one, other)
    elif old != new:
        yield f"{path} is {canonical(old)} there and {canonical(new)} here"
