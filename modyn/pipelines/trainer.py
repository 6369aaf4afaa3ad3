"""The models of a run: each is found or trained once, and stored under its content key.

    (1) a trigger's training set is what was chosen, less what was erased since
    (2) its recipe says all that decides what is learned; the digest of that is the model's key
    (3) a model that is in the run's store, or in one that is shared, is not trained again
    (4) another is trained and stored, with its signals; then the training is committed

A model that was committed and is gone, since the run goes on in another place, is trained anew by
the same recipe as soon as somebody asks for it, and so are those that it went on from.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.loader import Loader
from modyn.pipelines import rundir
from modyn.pipelines.description import described_downsampling
from modyn.pipelines.irreducible import HeldOut, Irreducible, Place
from modyn.pipelines.ledger import TrainingRow, TransitionRow
from modyn.pipelines.models import Facts, ModelStore, Recipe, StoredModel
from modyn.pipelines.past import FOUND, TRAINING
from modyn.pipelines.rows import downsampling_row, training_row
from modyn.pipelines.samples import ChosenSamples, loader_of
from modyn.pipelines.sharing import Sharing
from modyn.pipelines.signals import RunSignals
from modyn.pipelines.train import Job, train
from modyn.pipelines.workbench import Workbench
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    import torch

__all__ = ["Trainer"]


class Trainer:
    """What has the models of a run.

    Parameters
    ----------
    bench : Workbench
        The run.
    signals : RunSignals
        Where what models say of samples is recorded while they are trained.
    shared : Path or None
        The store of models that is shared with other runs.
    check : callable
        Raises if the run may not go on; asked where another process is waited for.

    Attributes
    ----------
    store : ModelStore
        The models of the run.
    """

    def __init__(
        self,
        bench: Workbench,
        signals: RunSignals,
        shared: Path | None,
        check: Callable[[], None],
    ) -> None:
        self._bench = bench
        self._pipeline = bench.pipeline
        self._backend = bench.backend
        self._ledger = bench.backend.ledger
        self._clock = bench.clock
        self._progress = bench.progress
        self._signals = signals
        self.store = ModelStore(bench.directory / rundir.MODELS)
        known = [self._pipeline.model, *(rho.il_model for rho in self._pipeline.rhos())]
        alone = any(model.factory is not None for model in known)
        self._sharing = Sharing(self.store, None if alone else shared, check)
        self._irreducible = Irreducible(self._place())

    def check(self) -> None:
        """Find out now what would fail at the first trigger.

        Raises
        ------
        ConfigError
            When a model cannot be made, or the device of an IL model is not there.
        """
        self._bench.fresh_model()
        for rho in self._pipeline.rhos():
            self._irreducible.check(rho)

    def train(self, row: TransitionRow) -> str | None:
        """Have the model of a trigger, by finding or by training it, and commit that.

        Returns its content key, None where nothing is left to learn from.
        """
        chosen = self._living(row)
        self._progress.trigger(row.trigger, len(chosen))
        parent = self._parent(row.trigger)
        if len(chosen) == 0:
            nothing = Facts(epochs=0, batches=0, samples=0, final_loss=None, losses=[])
            self._ledger.train(training_row(row, None, parent, nothing), {})
            return None
        held = self._irreducible.plan(row.trigger, chosen)
        recipe = self._recipe(row.trigger, chosen, parent, held)
        key = recipe.key()
        with self._sharing.claim(key) as there:  # also for what a killed process had stored
            if not there or not self._signals.ready(row.trigger, key):
                self._train_now(row.trigger, chosen, recipe, held)
        self._clock.add(TRAINING, self.store.seconds(key))
        if self.store.found(key):
            self._clock.add(FOUND, 0.0)
        facts = self.store.facts(key)
        trained_row = training_row(row, key, parent, facts)
        self._ledger.train(trained_row, self._clock.take(), downsampling_row(row, facts))
        return key

    def load(self, key: str) -> StoredModel:
        """Return a model; what is missing, where a run goes on in another place, is made anew."""
        missing: list[TrainingRow] = []  # and those that they were trained from
        rows = {row.model: row for row in self._ledger.trainings()}
        ancestor: str | None = key
        while ancestor is not None and ancestor not in self.store:
            missing.append(rows[ancestor])
            ancestor = missing[-1].parent
        transitions = self._ledger.transitions() if missing else []
        for row in reversed(missing):
            self._train_again(row, transitions[row.trigger])
        return self.store.load(key)

    def module(self, key: str) -> "torch.nn.Module":
        """Return a module of its own with the weights of a model."""
        module = self._bench.fresh_model()
        module.load_state_dict(self.load(key).weights)
        return module

    # Training ------------------------------------------------------------------------------------

    def _train_now(
        self, trigger: int, chosen: TrainingSet, recipe: Recipe, held: HeldOut | None
    ) -> None:
        """Train a model, with its signals, and store it."""
        began = time.perf_counter()
        job = self._job(chosen, recipe, trigger, held)
        main = chosen if held is None else held.main
        with self._signals.recording(trigger, recipe.key(), main, job) as observer:
            trained = train(job, self._progress, self._clock, observer)
        took = time.perf_counter() - began
        self._note_workers(job)
        with self._clock.stage("store"):
            self.store.put(recipe, trained, took)

    def _train_again(self, row: TrainingRow, transition: TransitionRow) -> None:
        chosen = self._living(transition)
        held = self._irreducible.plan(row.trigger, chosen)
        recipe = self._recipe(row.trigger, chosen, row.parent, held)
        if recipe.key() != row.model:
            raise FileNotFoundError(
                f"{self.store.directory / str(row.model)}: the model is missing, and cannot be "
                "trained again: samples that it learned from were erased since"
            )
        with self._sharing.claim(recipe.key()) as there:
            if there:
                return
            self._progress.trigger(row.trigger, len(chosen))
            job = self._job(chosen, recipe, row.trigger, held)
            trained = train(job, self._progress, self._clock)
            self.store.put(recipe, trained, self._ledger.seconds(TRAINING).get(row.trigger, 0.0))

    def _note_workers(self, job: Job) -> None:
        """Add what the loader's threads did meanwhile to the clock."""
        for read in (job.batches, job.pool):
            if isinstance(read, Loader | ChosenSamples):
                waits = read.waits
                self._clock.add("fill", waits.workers_filling)
                self._clock.add("room", waits.workers_waiting)

    def _job(self, chosen: TrainingSet, recipe: Recipe, trigger: int, held: HeldOut | None) -> Job:
        training = self._pipeline.training
        main, losses = chosen, None
        if held is not None:
            main = held.main
            losses = self._irreducible.losses(held, self._progress, self._clock)
        dataset = self._pipeline.dataset
        seed = recipe.draw(chosen.choice())
        to_pass = training.samples_to_pass(trigger)
        return Job(
            training=training,
            make_model=self._bench.make_model,
            fields=tuple(dataset.schema),
            batches=loader_of(dataset, main, training, seed=seed, to_pass=to_pass),
            samples=len(main),
            to_pass=to_pass,
            seed=seed,
            parent=None if recipe.parent is None else self.load(recipe.parent),
            downsampling=self._pipeline.downsampler_at(trigger),
            pool=ChosenSamples(dataset, main, training, seed),
            irreducible=losses,
        )

    # What decides on a model ---------------------------------------------------------------------

    def _recipe(
        self, trigger: int, chosen: TrainingSet, parent: str | None, held: HeldOut | None
    ) -> Recipe:
        return Recipe(
            parent=parent,
            training_set=chosen.digest,
            training=self._training_of(trigger, held),
            model=self._bench.description["model"],
            seed=self._pipeline.training_seed,
            dataset=self._pipeline.dataset.uuid,
        )

    def _training_of(self, trigger: int, held: HeldOut | None) -> dict[str, Any]:
        """Return what of the settings decides a trigger's training: its own number of samples."""
        described = dict(self._bench.description["training"])
        described.pop("signals", None)  # what is recorded changes nothing that is learned
        if described.pop("num_samples_to_pass", None) is not None:
            to_pass = self._pipeline.training.samples_to_pass(trigger)
            described |= {} if to_pass is None else {"num_samples_to_pass": [to_pass]}
        downsampler = self._pipeline.downsampler_at(trigger)
        if downsampler is not None:
            described["downsampling"] = described_downsampling(downsampler)
        if held is not None:
            described["downsampling"]["irreducible"] = held.keys
        return described

    def _parent(self, trigger: int) -> str | None:
        """Return the model that a trigger's training goes on from: the newest before it."""
        if not self._pipeline.training.use_previous_model:
            return None
        keys = [row.model for row in self._ledger.trainings() if row.trigger < trigger]
        return next((key for key in reversed(keys) if key is not None), None)

    def _living(self, row: TransitionRow) -> TrainingSet:
        """Return the training set of a trigger, less what was erased since it was chosen.

        That is a training set of its own, with a digest of its own: the model that learns from
        it is not the one that would have learned from all.
        """
        chosen = self._backend.training_set(row.trigger, row.digest)
        view = self._pipeline.dataset.view
        if view.erased_count == 0:
            return chosen
        living = ~view.erased(0, view.count)[chosen.keys]
        if living.all():
            return chosen
        return TrainingSet.write(
            self._backend.trainsets,
            chosen.keys[living],
            None if chosen.weights is None else chosen.weights[living],
            dataset_uuid=chosen.dataset_uuid,
        )

    def _place(self) -> Place:
        """Return where the models of holdouts are, for RHO-LOSS."""
        pipeline = self._pipeline
        return Place(
            dataset=pipeline.dataset,
            training=pipeline.training,
            seed=pipeline.training_seed,
            allow=pipeline.allow,
            store=self.store,
            claim=self._sharing.claim,
            trainsets=self._backend.trainsets,
            losses=self._bench.directory / rundir.IRREDUCIBLE,
            rho_at=pipeline.rho_at,
            chosen_at=lambda trigger: self._living(self._ledger.transitions()[trigger]),
        )
