"""Which model has seen which sample: asked of the training sets of runs.

A model has seen what it was trained on and, where its training went on from another model, what
that one had seen.  All is told by what a run keeps anyway: the ledger, training sets by digest,
and the models, which name the training set that they really learned from.  Nothing is written.

Sets of keys are held in short form (`modyn.keyruns`): a hundred models that chose a tenth of
100 million keys take 1.3 GB, and any answer some milliseconds.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from modyn.keyruns import KeyRuns
from modyn.pipelines.lineage import Lesson, Trainsets, keys_of, lessons
from modyn.pipelines.run import Run
from modyn.pipelines.sightings import (
    Difference,
    Erased,
    Lost,
    Part,
    SeenBy,
    Sighting,
    TrainedModel,
    WhoSaw,
)

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.erasure import Event

__all__ = [
    "Difference",
    "Erased",
    "Lost",
    "Part",
    "Provenance",
    "SeenBy",
    "Sighting",
    "TrainedModel",
    "WhoSaw",
]

INDEX_DIGITS = 8  # a number this long or longer begins a content key


@dataclass(frozen=True, kw_only=True)
class Known:
    """A model with its sets of keys."""

    model: TrainedModel
    own: KeyRuns
    seen: KeyRuns


class Provenance:
    """Which models have seen which samples.  `Provenance.of` and `Run.provenance` make one.

    A model counts as having seen the whole training set that it was trained on, also where the
    training passed over a part of it (num_samples_to_pass, downsampling): it may have.

    Examples
    --------
    Two pipelines, one of which goes on from its former model::

        seen = modyn.Provenance.of(["runs/fresh", "runs/warm"], dataset)
        [str(s.model.name) for s in seen.who_saw(4711).sightings]
        seen.seen_by("warm:3").parts
        seen.diff("fresh:3", "warm:3").keys_only_b(limit=10)
    """

    def __init__(
        self,
        known: Mapping[str, Known],
        dataset_uuid: str,
        erasures: Sequence[tuple[Erased, KeyRuns]] | None,
        threads: int,
    ) -> None:
        self._known = dict(known)
        self._erasures = erasures
        self._threads = threads
        self.dataset_uuid = dataset_uuid

    @classmethod
    def of(
        cls,
        runs: Iterable[Run | str | os.PathLike[str]],
        dataset: "Dataset | None" = None,
        *,
        threads: int = 2,
    ) -> Self:
        """Load what runs have trained on.

        Parameters
        ----------
        runs : runs, or run directories
            On the same dataset; also such whose metadata is in a database.
        dataset : Dataset, optional
            That dataset, to know of erasures.
        threads : int
            How many threads read training sets, and compare large sets.

        Raises
        ------
        ValueError
            When the runs followed different datasets, or `dataset` is another one.
        FileNotFoundError
            When there is no run, or a training set is missing.
        CorruptError, DatabaseError
            When something is damaged or out of reach.
        """
        opened = [run if isinstance(run, Run) else Run.open(os.fspath(run)) for run in runs]
        uuid = _one_dataset(opened, dataset)
        erasures = None if dataset is None else _erasures(dataset.audit())
        return cls(_load(opened, threads), uuid, erasures, threads)

    @property
    def models(self) -> list[TrainedModel]:
        """All models, run by run in the order of triggers."""
        return [known.model for known in self._known.values()]

    @property
    def erasures(self) -> list[Erased] | None:
        """All erasures, oldest first; None where no dataset was given to know of them."""
        return None if self._erasures is None else [erased for erased, _ in self._erasures]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of memory that the sets take."""
        sets = [known.own for known in self._known.values()]
        sets += [known.seen for known in self._known.values()]
        sets += [keys for _, keys in self._erasures or ()]
        return sum({id(one): one.nbytes for one in sets}.values())

    def model(self, name: str | int) -> TrainedModel:
        """Return the model that a name means.

        Parameters
        ----------
        name : str or int
            The index of a trigger, that and its pipeline ("weather:3"), a content key, or the
            beginning of one that no other has.

        Raises
        ------
        ValueError
            When it means none, or several; says which there are.
        """
        text = str(name)
        found = self._of_trigger(text) or [m for m in self.models if m.key.startswith(text)]
        if not text or not found:
            raise ValueError(f"there is no model {text!r}; there are {self._listed()}")
        if len(found) > 1:
            listed = ", ".join(one.name for one in found[:8])
            raise ValueError(
                f"{text!r} means {len(found)} models: {listed}; say NAME:TRIGGER, or the "
                "beginning of a content key"
            )
        return found[0]

    def _of_trigger(self, text: str) -> list[TrainedModel]:
        run, _, index = text.rpartition(":")
        if not index.isdecimal() or len(index) >= INDEX_DIGITS:
            return []
        return [
            model
            for model in self.models
            if model.trigger == int(index) and not model.holdout and (not run or run in model.runs)
        ]

    def _listed(self) -> str:
        names = [model.name for model in self.models]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return (", ".join(names[:8]) + more) or "none"

    def who_saw(self, key: int) -> WhoSaw:
        """Return which models have seen a sample, and whether it is erased."""
        asked = np.array([_checked(key)], dtype=np.uint64)
        direct = {name for name, known in self._known.items() if bool(known.own.contains(asked)[0])}
        sightings = []
        for name, known in self._known.items():
            through = [self._known[a].model for a in self._ancestors(name) if a in direct]
            if name in direct or through:
                sightings.append(
                    Sighting(model=known.model, directly=name in direct, through=tuple(through))
                )
        erased = next((e for e, keys in self._erasures or () if keys.contains(asked)[0]), None)
        return WhoSaw(key=key, sightings=tuple(sightings), erased=erased)

    def seen_by(self, model: str | int | TrainedModel) -> SeenBy:
        """Return what a model has seen: by its own training, and through which ancestors."""
        known = self._find(model)
        parts = []
        for name in (known.model.key, *self._ancestors(known.model.key)):
            one = self._known[name]
            before = sum(self._known[p].model.seen for p in one.model.parents[:1])
            alone = len(one.model.parents) < 2
            added = one.model.seen - before if alone else self._added(one)
            parts.append(Part(model=one.model, samples=one.model.samples, added=added))
        return SeenBy(
            model=known.model, parts=tuple(parts), lost=tuple(self._lost(known)), keys=known.seen
        )

    def diff(self, a: str | int | TrainedModel, b: str | int | TrainedModel) -> Difference:
        """Return how what two models have seen differs."""
        one, other = self._find(a), self._find(b)
        both = self._common(one, other)
        return Difference(
            a=one.model,
            b=other.model,
            only_a=one.model.seen - both,
            only_b=other.model.seen - both,
            both=both,
            sets=(one.seen, other.seen),
        )

    def lost(self) -> list[tuple[Erased, list[tuple[TrainedModel, int]]]]:
        """Return for each erasure the models that had seen of it, and how many samples."""
        return [
            (
                erased,
                [
                    (known.model, seen)
                    for known in self._known.values()
                    if (seen := keys.common(known.seen, threads=self._threads))
                ],
            )
            for erased, keys in self._erasures or ()
        ]

    def _find(self, model: str | int | TrainedModel) -> Known:
        found = model if isinstance(model, TrainedModel) else self.model(model)
        return self._known[found.key]

    def _ancestors(self, name: str) -> tuple[str, ...]:
        """Return all models whose knowledge one took over, the nearest first, each once."""
        return self._lines[name]

    @cached_property
    def _lines(self) -> dict[str, tuple[str, ...]]:
        """The ancestors of each model, whose parents all stand before it."""
        lines: dict[str, tuple[str, ...]] = {}
        for name, known in self._known.items():
            parents = known.model.parents
            older = (one for parent in parents for one in lines[parent])
            lines[name] = tuple(dict.fromkeys((*parents, *older)))
        return lines

    def _added(self, known: Known) -> int:
        """Return how many samples of a training none of several parents had seen."""
        before = _united(self._known[parent].seen for parent in known.model.parents)
        return len(known.own) - known.own.common(before, threads=self._threads)

    def _common(self, a: Known, b: Known) -> int:
        """Return how many samples both have seen; an ancestor has seen nothing else."""
        if a.model.key in (b.model.key, *self._ancestors(b.model.key)):
            return a.model.seen
        if b.model.key in self._ancestors(a.model.key):
            return b.model.seen
        return a.seen.common(b.seen, threads=self._threads)

    def _lost(self, known: Known) -> Iterator[Lost]:
        for erased, keys in self._erasures or ():
            if samples := keys.common(known.seen, threads=self._threads):
                yield Lost(erasure=erased, samples=samples)

    def __repr__(self) -> str:
        return f"Provenance({len(self._known)} models, {self.nbytes:,} bytes)"


def _checked(key: int) -> int:
    if not 0 <= key < 2**64:
        raise ValueError(f"a key is from 0 to 2**64 - 1, got {key}")
    return key


def _one_dataset(runs: Sequence[Run], dataset: "Dataset | None") -> str:
    if not runs:
        raise ValueError("no runs were given")
    uuids = {run.dataset_uuid: run.name for run in runs}
    if len(uuids) > 1:
        listed = ", ".join(f"{name} ({uuid[:12]})" for uuid, name in uuids.items())
        raise ValueError(
            f"the runs followed different datasets, so a key means different samples: {listed}"
        )
    (uuid,) = uuids
    if dataset is not None and dataset.uuid != uuid:
        raise ValueError(
            f"{dataset.path} is not the dataset of the runs: its uuid is {dataset.uuid}, "
            f"they followed {uuid}"
        )
    return uuid


def _erasures(events: "Sequence[Event]") -> list[tuple[Erased, KeyRuns]]:
    return [
        (
            Erased(
                number=event.number,
                when=event.when,
                who=event.who,
                why=event.why,
                samples=event.samples,
            ),
            KeyRuns.of_ranges(event.keys),
        )
        for event in events
        if event.action == "erase"
    ]


def _load(runs: Sequence[Run], threads: int) -> dict[str, Known]:
    """Return all models with their sets, each after its parents."""
    found: dict[str, Lesson] = {}
    names: dict[str, list[str]] = {}
    wanted: dict[str, tuple[Trainsets, Lesson]] = {}
    for run in runs:
        trainsets = Trainsets(run)
        for lesson in lessons(run):
            found.setdefault(lesson.key, lesson)
            if run.name not in names.setdefault(lesson.key, []):
                names[lesson.key].append(run.name)
            wanted.setdefault(lesson.digest, (trainsets, lesson))
    sets = _read(wanted, threads)
    known: dict[str, Known] = {}
    for key, lesson in found.items():
        own = sets[lesson.digest]
        seen = _united([own, *(known[parent].seen for parent in lesson.parents)])
        model = TrainedModel(
            key=key,
            runs=tuple(names[key]),
            trigger=lesson.trigger,
            parents=lesson.parents,
            training_set=lesson.digest,
            samples=len(own),
            seen=len(seen),
            holdout=lesson.holdout,
        )
        known[key] = Known(model=model, own=own, seen=seen)
    return known


def _united(sets: Iterable[KeyRuns]) -> KeyRuns:
    """Return the union; one that holds all others is it itself, and takes no memory again."""
    found = KeyRuns([])
    for one in sorted(sets, key=len, reverse=True):
        united = found | one
        found = one if len(found) == 0 else united if len(united) > len(found) else found
    return found


def _read(wanted: Mapping[str, tuple[Trainsets, Lesson]], threads: int) -> dict[str, KeyRuns]:
    """Return each training set; files side by side, databases one after the other."""
    paths = {digest: sets.path(digest) for digest, (sets, _) in wanted.items()}
    files = {digest: path for digest, path in paths.items() if path is not None}
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        loaded = pool.map(lambda path: KeyRuns(keys_of(path)), files.values())
        found = dict(zip(files, loaded, strict=True))
    for digest, (sets, lesson) in wanted.items():
        if digest not in found:
            found[digest] = KeyRuns(sets.read(lesson))
    return found
