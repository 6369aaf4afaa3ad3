"""RHO-LOSS in a run: the IL models of a trigger, and what they say of its samples.

    (1) plan     the training set is split (`holdout`), and the recipes of the IL models follow
    (2) losses   models that the store has not got are trained and stored; then each sample is
                 shown, in eval mode, to those of them that did not learn from it

The IL models lie in the run's model store under content keys of their own, which are part of the
recipe of the model that trains with their losses.  So a run that was killed finds what was trained
before, and nothing is trained twice.  The losses of the newest trigger are kept in a file that is
mapped, not in memory:

    irreducible/<BLAKE2b of models, samples and criterion>.f32    a little-endian float32 for each
                 sample that is trained on, in the order of keys; then 32 bytes, the BLAKE2b of them

A sample has the loss of the criterion that the model itself minimises, so that both can be
compared; an IL model may be trained with another.
"""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.dataset import Dataset
from modyn.downsampling.rho import RHOLoss
from modyn.loader import Loader
from modyn.pipelines import durable
from modyn.pipelines.build import fitted, maker, model_of
from modyn.pipelines.calls import as_compared, call_model, device_of, one_thread
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.dump_downsampling import bare
from modyn.pipelines.holdout import contained, split
from modyn.pipelines.jobs import Job, Watch
from modyn.pipelines.ledger import canonical
from modyn.pipelines.models import ModelStore, Recipe
from modyn.pipelines.optimizing import criterion_of
from modyn.pipelines.samples import loader_of
from modyn.pipelines.settings import Model, Training, describe
from modyn.pipelines.train import train
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    import torch

BLOCK = 1 << 20  # samples that are scored by one pass of a loader
SEAL_BYTES = 32

Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]


def completed(rho: RHOLoss, model: Model, training: Training, dataset: Dataset) -> RHOLoss:
    """Return a RHO-LOSS with what it leaves to the pipeline.

    Raises
    ------
    ValueError
        When the IL model's training asks for what such a training has not.
    """
    il_training = rho.il_training
    if il_training is None:
        il_training = replace(training, drop_last_batch=False, num_samples_to_pass=None, signals=())
    if not isinstance(il_training, Training):
        raise TypeError(f"il_training must be a Training, got {type(il_training).__name__}")
    for name in ("num_samples_to_pass", "signals"):
        if getattr(il_training, name):
            raise ValueError(f"il_training: {name} is not for the model of a holdout")
    il_model = model if rho.il_model is None else fitted(model_of(rho.il_model), dataset.schema)
    return replace(rho, il_model=il_model, il_training=il_training)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a trigger with RHO-LOSS takes.

    Parameters
    ----------
    main : TrainingSet
        What the model trains on.
    holdouts : tuple of TrainingSet
        What the IL models learn from, one after the other.
    recipes : tuple of Recipe
        Of the IL models.
    rho : RHOLoss
        What asks for it.
    """

    main: TrainingSet
    holdouts: tuple[TrainingSet, ...]
    recipes: tuple[Recipe, ...]
    rho: RHOLoss

    @property
    def keys(self) -> list[str]:
        """The content keys of the IL models."""
        return [recipe.key() for recipe in self.recipes]


class Losses:
    """The irreducible loss of each sample that a trigger trains on.

    Parameters
    ----------
    keys : uint64, shape (n,), ascending
    values : float32, shape (n,), or None
        None stands for zeros.
    """

    def __init__(self, keys: Keys, values: Floats | None) -> None:
        self._keys = keys
        self._values = values

    def __call__(self, keys: Keys, /) -> Floats:
        """Return the losses of these samples, float32 of shape (len(keys),).

        Raises
        ------
        KeyError
            When one of them is not trained on.
        """
        keys = np.asarray(keys, dtype=np.uint64)
        inside = contained(keys, self._keys)
        if not inside.all():
            raise KeyError(f"sample {keys[~inside][0]} has no irreducible loss")
        if self._values is None:
            return np.zeros(len(keys), dtype=np.float32)
        return np.asarray(self._values[np.searchsorted(self._keys, keys)])


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run does its work, as RHO-LOSS needs it.

    Parameters
    ----------
    dataset : Dataset
        Of the run.
    training : Training
        How the run's own models are trained.
    seed : int
        Of weights and shuffling.
    allow : collection of str
        Modules from which the import path of a model may come.
    store : ModelStore
        The models of the run.
    claim : callable
        Gives the right to train a model, and says whether the store has it by now.
    trainsets : Path
        The folder of training sets.
    losses : Path
        The folder of losses.
    rho_at : callable
        Returns the RHO-LOSS of a trigger, None where there is another downsampler or none.
    chosen_at : callable
        Returns what an earlier trigger chose and is not erased.
    """

    dataset: Dataset
    training: Training
    seed: int
    allow: Collection[str]
    store: ModelStore
    claim: Callable[[str], AbstractContextManager[bool]]
    trainsets: Path
    losses: Path
    rho_at: Callable[[int], RHOLoss | None]
    chosen_at: Callable[[int], TrainingSet]


class Irreducible:
    """The IL models of a run, and their losses.

    Parameters
    ----------
    place : Place
        Where they are.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._earlier: list[tuple[Recipe, ...]] = []  # by trigger: the newest IL models then
        self._holdouts: dict[str, tuple[Recipe, str, RHOLoss]] = {}  # by the key of the model

    def check(self, rho: RHOLoss) -> None:
        """Find out now what would fail at the first trigger with this RHO-LOSS.

        Raises
        ------
        ConfigError
            When the IL model cannot be made, or its device is not there.
        """
        device_of(rho.il_training.device, "il_training_config.device")
        self._fresh(rho)

    def plan(self, trigger: int, chosen: TrainingSet) -> HeldOut | None:
        """Return what a trigger takes, None where it has no RHO-LOSS; trains nothing.

        Parameters
        ----------
        trigger : int
            Its number.
        chosen : TrainingSet
            What was chosen and is not erased, at least one sample.
        """
        rho, place = self._place.rho_at(trigger), self._place
        if rho is None:
            return None
        parts = split(chosen, rho, place.seed, place.trainsets)
        seed = place.seed if rho.il_training.seed is None else rho.il_training.seed
        model = bare(describe(rho.il_model))
        parents = self._parents(trigger, rho, model, len(parts.holdouts))
        recipes = tuple(
            Recipe(
                parent=parent,
                training_set=holdout.digest,
                training=_described(rho.il_training, seed),
                model=model,
                seed=seed,
                dataset=place.dataset.uuid,
            )
            for parent, holdout in zip(parents, parts.holdouts, strict=True)
        )
        plan = HeldOut(main=parts.main, holdouts=parts.holdouts, recipes=recipes, rho=rho)
        self._remember(plan)
        return plan

    def losses(self, plan: HeldOut, watch: Watch | None, clock: Stopwatch) -> Losses:
        """Return the irreducible losses of all that a trigger trains on.

        Trains what is missing, and scores what was not scored before.
        """
        if not plan.recipes:
            return Losses(plan.main.keys, None)
        self._remember(plan)
        with clock.stage("irreducible"):
            for key in plan.keys:
                self._have(key, watch)
            criterion = describe(self._place.training.optimization_criterion)
            path = _path(self._place.losses, plan, criterion)
            if not _whole(path, len(plan.main)):
                self._score(plan, path)
            values = np.memmap(path, dtype="<f4", mode="r", shape=(len(plan.main),))
        return Losses(plan.main.keys, values)

    def _plan_at(self, trigger: int) -> HeldOut | None:
        """Return what an earlier trigger took."""
        if self._place.rho_at(trigger) is None:
            return None
        chosen = self._place.chosen_at(trigger)
        return self.plan(trigger, chosen) if len(chosen) else None

    # Models -------------------------------------------------------------------------------------

    def _parents(
        self, trigger: int, rho: RHOLoss, model: dict[str, Any], count: int
    ) -> list[str | None]:
        """Return the models that IL models go on from: those before, if they are alike."""
        fresh: list[str | None] = [None] * count
        if not rho.il_training.use_previous_model or trigger == 0:
            return fresh
        while len(self._earlier) < trigger:
            known = self._earlier[-1] if self._earlier else ()
            plan = self._plan_at(len(self._earlier))
            self._earlier.append(plan.recipes if plan is not None and plan.recipes else known)
        before = self._earlier[trigger - 1]
        if len(before) != count or any(recipe.model != model for recipe in before):
            return fresh
        return [recipe.key() for recipe in before]

    def _remember(self, plan: HeldOut) -> None:
        for recipe, holdout in zip(plan.recipes, plan.holdouts, strict=True):
            self._holdouts[recipe.key()] = recipe, holdout.digest, plan.rho

    def _have(self, key: str, watch: Watch | None) -> None:
        """Train a model and those that it goes on from, as far as the store has them not."""
        missing: list[str] = []
        ancestor: str | None = key
        while ancestor is not None and ancestor not in self._place.store:
            missing.append(ancestor)
            ancestor = self._holdouts[ancestor][0].parent
        for one in reversed(missing):
            recipe, digest, rho = self._holdouts[one]
            holdout = TrainingSet.open(self._place.trainsets / f"{digest}.set")
            with self._place.claim(one) as there:
                if not there:
                    began = time.perf_counter()
                    trained = train(self._job(recipe, holdout, rho), watch)
                    self._place.store.put(recipe, trained, time.perf_counter() - began)

    def _job(self, recipe: Recipe, holdout: TrainingSet, rho: RHOLoss) -> Job:
        training: Training = rho.il_training
        dataset = self._place.dataset
        seed = recipe.draw(holdout.choice())
        parent = recipe.parent
        return Job(
            training=training,
            make_model=maker(rho.il_model, allow=self._place.allow),
            fields=tuple(dataset.schema),
            batches=loader_of(dataset, holdout, training, seed=seed),
            samples=len(holdout),
            seed=seed,
            parent=None if parent is None else self._place.store.load(parent),
        )

    # Losses -------------------------------------------------------------------------------------

    def _score(self, plan: HeldOut, path: Path) -> None:
        """Write the file of losses, in place of those of earlier triggers."""
        durable.make_directory(path.parent)
        for old in path.parent.iterdir():
            old.unlink()
        building = path.with_name(f".tmp-{path.name}")
        values = np.memmap(building, dtype="<f4", mode="w+", shape=(len(plan.main),))
        asked = np.zeros(len(values), dtype=np.uint8)  # how many models
        for recipe, holdout in zip(plan.recipes, plan.holdouts, strict=True):
            model = self._model(plan.rho, recipe)
            for keys, losses in self._outcomes(model, plan, holdout):
                rows = np.searchsorted(plan.main.keys, keys)
                values[rows] += losses
                asked[rows] += 1
        for first in range(0, len(values), BLOCK):
            values[first : first + BLOCK] /= asked[first : first + BLOCK]
        values.flush()
        with open(building, "ab") as file:
            file.write(_seal(building, values.nbytes))
            file.flush()
            os.fsync(file.fileno())
        building.rename(path)
        durable.sync_directory(path.parent)

    def _fresh(self, rho: RHOLoss) -> "torch.nn.Module":
        import torch

        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            return maker(rho.il_model, allow=self._place.allow)()

    def _model(self, rho: RHOLoss, recipe: Recipe) -> "torch.nn.Module":
        model = self._fresh(rho)
        model.load_state_dict(self._place.store.load(recipe.key()).weights)
        return model

    def _outcomes(
        self, model: "torch.nn.Module", plan: HeldOut, holdout: TrainingSet
    ) -> Iterator[tuple[Keys, Floats]]:
        """Yield keys, and the losses of a model that did not learn from them."""
        import torch

        dataset, training = self._place.dataset, self._place.training
        device = device_of(plan.rho.il_training.device, "il_training_config.device")
        model.to(device).eval()
        each, criterion = criterion_of(training, "none"), training.optimization_criterion.name
        each.to(device)
        for first in range(0, len(plan.main), BLOCK):
            keys = plan.main.keys[first : first + BLOCK]
            keys = keys[~contained(keys, holdout.keys)]
            if len(keys) == 0:
                continue
            loader = Loader(
                dataset,
                keys,
                batch_size=max(training.batch_size, plan.rho.il_training.batch_size),
                threads=training.dataloader_workers,
            )
            with one_thread(), torch.inference_mode():
                for batch in loader:
                    output = call_model(model, batch, tuple(dataset.schema), device)
                    labels = torch.as_tensor(batch.labels).to(device)
                    output, labels = as_compared(output, labels, criterion)
                    losses = each(output, labels).reshape(len(labels), -1).mean(dim=1)
                    yield np.asarray(batch.keys).astype(np.uint64), losses.float().cpu().numpy()


def _described(training: Training, seed: int) -> dict[str, Any]:
    """Return what of the settings decides the training of an IL model."""
    described = bare(describe(training))
    found: dict[str, Any] = {**described, "seed": seed, "device": training.device.split(":")[0]}
    return found


def _path(folder: Path, plan: HeldOut, criterion: Any) -> Path:
    text = canonical([plan.keys, plan.main.digest, criterion])
    return folder / f"{hashlib.blake2b(text.encode(), digest_size=32).hexdigest()}.f32"


def _whole(path: Path, count: int) -> bool:
    """Return whether the file is there, and as it was written."""
    if not path.is_file() or path.stat().st_size != 4 * count + SEAL_BYTES:
        return False
    with open(path, "rb") as file:
        file.seek(4 * count)
        return file.read() == _seal(path, 4 * count)


def _seal(path: Path, size_bytes: int) -> bytes:
    """Return the BLAKE2b of the first bytes of a file."""
    hashed = hashlib.blake2b(digest_size=SEAL_BYTES)
    with open(path, "rb") as file:
        left = size_bytes
        while left > 0:
            piece = file.read(min(left, BLOCK))
            hashed.update(piece)
            left -= len(piece)
    return hashed.digest()
