"""Which training sets the models of a run learned from, as the run directory or database has them.

A trigger chooses a training set, and the ledger names its digest; but what was erased between the
choice and the training was not trained on.  So the digest is taken from the model: its recipe
names the training set that it really learned from, and its content key is made of that.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.errors import CorruptError, DatabaseError
from modyn.pipelines import rundir
from modyn.pipelines.models import ModelStore, Recipe
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    from modyn.pipelines.ledger import TrainingRow, TransitionRow
    from modyn.pipelines.run import Run
    from modyn.postgres import Connection

_PIPELINE = "SELECT id FROM modyn.pipelines WHERE name = %s"
HOLDOUT = "irreducible"  # of a recipe's downsampling: the models that scored its samples


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A model, and what it learned from.

    Parameters
    ----------
    key : str
        Its content key.
    trigger : int
    parents : tuple of str
        The models that it was made with: the one that its training went on from, and those
        that chose its samples after they were trained on others (holdouts).
    digest : str
        The training set that it was trained on.
    chosen : str or None
        That of its trigger, of which erasures before the training have left it.
    holdout : bool
        Whether it is one of those that only choose.
    """

    key: str
    trigger: int
    parents: tuple[str, ...]
    digest: str
    chosen: str | None
    holdout: bool = False


def lessons(run: "Run") -> Iterator[Lesson]:
    """Yield the models of a run, each after its parents.

    Raises
    ------
    CorruptError
        When a model's description is damaged, or gone where only it would tell.
    """
    store = ModelStore(run.path / rundir.MODELS)
    transitions = {row.trigger: row for row in run.transitions}
    for row in run.trainings:
        if row.model is not None:
            yield from _of_trigger(store, row, transitions[row.trigger])


def _of_trigger(
    store: ModelStore, row: "TrainingRow", transition: "TransitionRow"
) -> Iterator[Lesson]:
    key = str(row.model)
    parents = () if row.parent is None else (row.parent,)
    if key not in store:
        # What is trained on is part of what was chosen: if it is as many, it is the same.
        if row.samples != transition.samples:
            raise CorruptError(
                f"{store.directory / key}: the model of trigger {row.trigger} is missing, and "
                "only it tells which of the chosen samples were erased before it was trained"
            )
        digest = transition.digest
    else:
        recipe = _recipe(store, key)
        digest = recipe.training_set
        for holdout in _holdouts(recipe):
            parents = (*parents, holdout)
            yield from _of_holdout(store, holdout, row.trigger)
    yield Lesson(
        key=key,
        trigger=row.trigger,
        parents=parents,
        digest=digest,
        chosen=transition.digest,
    )


def _of_holdout(store: ModelStore, key: str, trigger: int) -> Iterator[Lesson]:
    """Yield a model that only chooses, after the one that its training went on from, if any."""
    recipe = _recipe(store, key)
    parents = () if recipe.parent is None else (recipe.parent,)
    for parent in parents:
        yield from _of_holdout(store, parent, trigger)
    digest = recipe.training_set
    yield Lesson(
        key=key, trigger=trigger, parents=parents, digest=digest, chosen=None, holdout=True
    )


def _recipe(store: ModelStore, key: str) -> Recipe:
    try:
        return store.recipe(key)
    except KeyError:
        raise CorruptError(
            f"{store.directory / key}: the model is missing, and only it tells what it learned from"
        ) from None


def _holdouts(recipe: Recipe) -> Sequence[str]:
    downsampling = recipe.training.get("downsampling") or {}
    return [str(key) for key in downsampling.get(HOLDOUT, ())]


class Trainsets:
    """The training sets of a run: files, or tables of its database where a file is not there.

    Nothing is written.  One thread at a time may read from the database, any number files.

    Parameters
    ----------
    run : Run
        Whose.
    """

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._folder = run.path / rundir.TRAINSETS
        self._url = rundir.metadata_url(run.path)

    def path(self, digest: str) -> Path | None:
        """Return the file of a training set, if there is one."""
        path = self._folder / f"{digest}.set"
        return path if path.exists() else None

    def read(self, lesson: Lesson) -> npt.NDArray[np.uint64]:
        """Return the keys of a training set that has no file: uint64, shape (n,), ascending.

        Raises
        ------
        FileNotFoundError
            When it is in no database either.
        CorruptError, DatabaseError
            When it is damaged there, or cannot be reached.
        """
        wanted = self._folder / f"{lesson.digest}.set"
        # A database has the sets of triggers, not those that erasures have left.
        if self._url is None or lesson.chosen != lesson.digest:
            raise FileNotFoundError(
                f"{wanted}: the training set of model {lesson.key[:12]} is missing, so nobody "
                "knows what it has seen"
            )
        return self._from_database(self._url, lesson.trigger, lesson.digest)

    def _from_database(self, url: str, trigger: int, digest: str) -> npt.NDArray[np.uint64]:
        from modyn.metadata.database import Database
        from modyn.metadata.trainsets import read

        with ExitStack() as opened:
            try:
                database: Database = opened.enter_context(Database(url, retry_seconds=0))
                connection: Connection = opened.enter_context(database.bulk(retry_seconds=0))
                row = database.fetch_one(_PIPELINE, [self._run.name])
                kept = None if row is None else read(database, connection, int(row[0]), trigger)
            except DatabaseError as error:
                raise DatabaseError(
                    f"{self._run.path}: its metadata is in {url}: {error}"
                ) from None
        if kept is None or kept.digest != digest:
            said = "none" if kept is None else kept.digest
            raise CorruptError(
                f"{url}: the ledger of pipeline {self._run.name!r} says that trigger {trigger} "
                f"has the training set {digest}; there is {said}"
            )
        return kept.keys


def keys_of(path: Path) -> npt.NDArray[np.uint64]:
    """Return the keys of a training set file, which is verified: uint64, shape (n,), mapped."""
    return TrainingSet.open(path).keys
