"""A replay: along the stream from trigger to trigger, each committed, trained and measured.

    (1) the orchestrator goes on to the next trigger and commits it to the ledger
    (2) the model of every committed trigger that has none is trained and stored, and committed
    (3) after_training handlers measure it, and that is committed
    (4) at the end of the stream, after_pipeline handlers measure what they ask for
    (5) the run is finished

Each of (2) to (4) asks the ledger what is missing and does only that, with the same outcome
whenever it is done, so that a process killed anywhere needs nothing but to be started again.
"""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.loader import Loader
from modyn.orchestrator import Orchestrator
from modyn.pipelines import measure, rundir
from modyn.pipelines.answer_cache import AnswerCache
from modyn.pipelines.asking import RunAnswers
from modyn.pipelines.backend import backend_of
from modyn.pipelines.build import maker
from modyn.pipelines.composite import Trained
from modyn.pipelines.evaluate import Source, evaluate
from modyn.pipelines.irreducible import HeldOut, Irreducible, Place
from modyn.pipelines.ledger import (
    FOLLOWING,
    EvaluationRow,
    TrainingRow,
    TransitionRow,
    canonical,
    opened,
)
from modyn.pipelines.ledger import Progress as Position
from modyn.pipelines.lookback import RunHistory
from modyn.pipelines.measure import AFTER_PIPELINE, AFTER_TRAINING, Plan, State, Task
from modyn.pipelines.models import Facts, ModelStore, Recipe, StoredModel
from modyn.pipelines.past import FOUND, TRAINING
from modyn.pipelines.pipeline import described_downsampling
from modyn.pipelines.progress import Checked, Progress
from modyn.pipelines.rows import downsampling_row, identity_of, training_row
from modyn.pipelines.samples import ChosenSamples, loader_of
from modyn.pipelines.sharing import Sharing
from modyn.pipelines.signals import RunSignals
from modyn.pipelines.steps import Recorder, Steps, position_of
from modyn.pipelines.stream import Stream, check_labels
from modyn.pipelines.train import Job, Stopwatch, device_of, train
from modyn.pipelines.windows import TrainingSpan
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    import torch

    from modyn.pipelines.pipeline import Pipeline

BLOCK_COUNT = 65_536  # samples of a block of arrivals
ASKED = 2  # newest models, whose answers are kept
COMMIT_SECONDS = 1.0  # between commits of evaluations


class Replay:
    """One process at work on a run; holds the ledger open.  The caller holds the run's lock.

    Parameters
    ----------
    pipeline : Pipeline
        What to do.
    directory : Path
        Where.
    progress : Progress
        Who looks on.
    models : Path, optional
        The store of models that is shared with other runs.
    """

    def __init__(
        self,
        pipeline: "Pipeline",
        directory: Path,
        progress: Progress,
        models: Path | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._directory = directory
        self._clock = Stopwatch()
        self._make_model = maker(pipeline.model, allow=pipeline.allow)
        self._description = pipeline.describe()
        self._store = ModelStore(directory / rundir.MODELS)
        self._trigger, self._selection = pipeline.policies()
        self._model: torch.nn.Module | None = None  # one to load weights into, for evaluation
        self._measured: set[int] = set()  # triggers, by after_training handlers
        self._sources: dict[str, Source] = {}
        self._stream: Stream
        self._key_count = 0  # of the dataset, when the run began
        self._steps: Steps | None = None  # once the loop is there
        self._backend = backend_of(pipeline, directory)
        self._ledger = self._backend.ledger
        self._progress = Checked(progress, self._backend.check)
        self._signals = RunSignals(self._backend.signals, pipeline.training, pipeline.dataset)
        known = [pipeline.model, *(rho.il_model for rho in pipeline.rhos())]
        shared = None if any(model.factory is not None for model in known) else models
        self._sharing = Sharing(self._store, shared, self._may_go_on)
        self._irreducible = Irreducible(self._place())
        self._answers = self._new_answers()

    def _new_answers(self) -> RunAnswers:
        """Return what models say of samples, without those that are erased by now."""
        dataset = self._pipeline.dataset
        return RunAnswers(
            dataset=dataset,
            training=self._pipeline.training,
            module=self._module,
            cache=AnswerCache(
                self._directory / rundir.ANSWERS, erased_count=dataset.view.erased_count
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._backend.close()

    def run(self) -> None:
        """Do all that is left."""
        self._begin()
        self._signals.sweep()
        if self._ledger.progress().finished:
            return
        self._store.clean()
        self._progress.pipeline(self._pipeline.name, self._stream.count)
        self._catch_up()
        loop = self._loop()
        while not self._enough() and loop.next() is not None:
            self._catch_up()
        self._measure(AFTER_PIPELINE)
        self._ledger.finish()
        self._progress.done()

    # The start ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Hold the pipeline against what the run is, or begin a new run."""
        counts = self._counts()
        self._check_data(counts)
        self._key_count = counts[self._pipeline.dataset.uuid]
        begin = self._ledger.new
        identity = self._identity(counts), position_of(0, self._trigger, self._selection)
        if begin:
            self._check_names()
        else:
            self._meet(*identity)
        self._stream = self._stream_of(counts[self._pipeline.dataset.uuid])
        rundir.prepare(self._directory, self._pipeline.config_text(), self._backend.url)
        if begin:
            self._ledger.begin(*identity)
        self._sources = self._sources_of(counts)

    def _meet(self, identity: dict[str, Any], start: Position) -> None:
        """Hold the run that exists against ours; one that followed covers what is there now."""
        following = self._ledger.identity().get(FOLLOWING)
        if following is None:
            self._ledger.begin(identity, start)
            return
        since = int(following["since"])
        self._ledger.begin(opened(identity, since), start)
        stream = self._backend.followed(since, identity["dataset"]["count"])
        self._backend.keep_stream(stream)
        self._ledger.settle(identity)

    def _stream_of(self, count: int) -> Stream:
        return self._backend.stream(count)

    def _sources_of(self, counts: dict[str, int]) -> dict[str, Source]:
        evaluation = self._pipeline.evaluation
        return {
            data.dataset_id: Source(
                dataset=data.dataset,
                count=counts[data.dataset.uuid],
                fields=tuple(data.dataset.schema),
                batch_size=data.batch_size,
                threads=data.dataloader_workers,
            )
            for data in (evaluation.datasets if evaluation else ())
        }

    def _datasets(self) -> list[Dataset]:
        evaluation = self._pipeline.evaluation
        others = [data.dataset for data in evaluation.datasets] if evaluation else []
        return [self._pipeline.dataset, *others]

    def _counts(self) -> dict[str, int]:
        """Return how many samples of each dataset take part: those of when the run began."""
        counts = {dataset.uuid: len(dataset) for dataset in self._datasets()}
        counts[self._pipeline.dataset.uuid] = self._backend.count()
        if not self._ledger.new:
            identity = self._ledger.identity()
            entries = [identity["dataset"], *identity["evaluation_datasets"]]
            known = {entry["uuid"]: entry["count"] for entry in entries}
            counts |= {uuid: count for uuid, count in known.items() if count is not None}
        return counts

    def _check_data(self, counts: dict[str, int]) -> None:
        for dataset in self._datasets():
            if len(dataset) == 0:
                raise ConfigError(f"{dataset.path}: the dataset is empty")
            if dataset.labels is None:
                raise ConfigError(f"{dataset.path}: the dataset has no labels to train on")
            if len(dataset) < counts[dataset.uuid]:
                raise ConfigError(
                    f"{dataset.path}: the run began with {counts[dataset.uuid]} samples, "
                    f"now there are {len(dataset)}"
                )

    def _check_names(self) -> None:
        """Find out now what would fail at the first trigger."""
        device_of(self._pipeline.training.device, "training.device")
        check_labels(self._pipeline)
        if self._pipeline.evaluation is not None:
            device_of(self._pipeline.evaluation.device, "evaluation.device")
        self._fresh_model()
        for rho in self._pipeline.rhos():
            self._irreducible.check(rho)

    def _identity(self, counts: dict[str, int]) -> dict[str, Any]:
        evaluation = self._pipeline.evaluation
        # The dataset is known by its uuid, wherever it lies.
        config = {k: v for k, v in self._description.items() if k != "data"}
        if self._pipeline.label_delay:
            config["data"] = {"label_delay": self._pipeline.label_delay}
        return {
            "config": config,
            "dataset": identity_of(self._pipeline.dataset, counts),
            "evaluation_datasets": [
                {"id": data.dataset_id, **identity_of(data.dataset, counts)}
                for data in (evaluation.datasets if evaluation else ())
            ],
        }

    # The stream ---------------------------------------------------------------------------------

    def _loop(self) -> Orchestrator:
        """Return the orchestrator at the place that the ledger says."""
        pipeline = self._pipeline
        progress = self._ledger.progress()
        self._trigger.load_state_dict(json.loads(progress.trigger_state))
        self._selection.load_state_dict(json.loads(progress.selection_state))
        recorder = Recorder(
            backend=self._backend,
            clock=self._clock,
            progress=self._progress,
            ascending=self._stream.ascending,
            seed=pipeline.seed_value,
            timestamp_unit=pipeline.dataset.timestamp_unit,
            signals=self._signals,
            history=self._history(),
            answers=self._answers,
            label_delay=int(pipeline.label_delay),
        )
        steps = self._steps = Steps(recorder, self._trigger, self._selection)
        starts = [0, *(row.position for row in self._ledger.transitions())]
        steps.orchestrator = Orchestrator(
            pipeline.dataset,
            order=self._stream.order,
            source=self._stream.source,
            steps=steps,
            tail_triggers=self._selection.tail_triggers,
            trainset_directory=self._backend.trainsets,
            block_count=BLOCK_COUNT,
            position=progress.position,
            trigger=len(starts) - 1,
            trigger_starts=starts,
            trigger_name=type(self._trigger).__name__,
            selection_name=type(self._selection).__name__,
            known=recorder.known(),
        )
        self._progress.position(progress.position)
        return steps.orchestrator

    def _may_go_on(self) -> None:
        """Raise if the run is not ours any more; asked where another process is waited for."""
        self._backend.check()

    def _history(self) -> RunHistory:
        """Return the stream as policies look back at it."""
        return RunHistory(
            view=self._pipeline.dataset.view,
            stream=self._stream,
            by_time=self._pipeline.order == "time",
            key_count=self._key_count,
        )

    def _enough(self) -> bool:
        most = self._pipeline.maximum_triggers
        return most is not None and len(self._ledger.transitions()) >= most

    # Training -----------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Train and measure what is committed and was not trained or measured yet."""
        done = {row.trigger: row.model for row in self._ledger.trainings()}
        for row in self._ledger.transitions():
            if row.trigger not in done:
                done[row.trigger] = self._train(row)
            self._signals.trained(row.trigger, done[row.trigger])
            if row.trigger not in self._measured:
                self._measure(AFTER_TRAINING, row.trigger)
                self._measured.add(row.trigger)
        if self._steps is not None:
            self._steps.trained()
            self._answers.keep_only({past.model for past in self._steps.models[-ASKED:]})

    def _train(self, row: TransitionRow) -> str | None:
        """Have the model of a trigger, by finding or by training it, and commit that."""
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
        if key not in self._store or not self._signals.ready(row.trigger, key):
            with self._sharing.claim(key) as there:
                if not there or not self._signals.ready(row.trigger, key):
                    self._train_now(row.trigger, chosen, recipe, held)
        self._clock.add(TRAINING, self._store.seconds(key))
        if self._store.found(key):
            self._clock.add(FOUND, 0.0)
        facts = self._store.facts(key)
        trained_row = training_row(row, key, parent, facts)
        self._ledger.train(trained_row, self._clock.take(), downsampling_row(row, facts))
        return key

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
            self._store.put(recipe, trained, took)

    def _recipe(
        self, trigger: int, chosen: TrainingSet, parent: str | None, held: HeldOut | None
    ) -> Recipe:
        return Recipe(
            parent=parent,
            training_set=chosen.digest,
            training=self._training_of(trigger, held),
            model=self._description["model"],
            seed=self._pipeline.training_seed,
            dataset=self._pipeline.dataset.uuid,
        )

    def _load(self, key: str) -> StoredModel:
        """Return a model; what is missing, where a run goes on in another place, is made anew."""
        missing: list[TrainingRow] = []  # and those that they were trained from
        rows = {row.model: row for row in self._ledger.trainings()}
        ancestor: str | None = key
        while ancestor is not None and ancestor not in self._store:
            missing.append(rows[ancestor])
            ancestor = missing[-1].parent
        transitions = self._ledger.transitions() if missing else []
        for row in reversed(missing):
            self._train_again(row, transitions[row.trigger])
        return self._store.load(key)

    def _train_again(self, row: TrainingRow, transition: TransitionRow) -> None:
        chosen = self._living(transition)
        held = self._irreducible.plan(row.trigger, chosen)
        recipe = self._recipe(row.trigger, chosen, row.parent, held)
        if recipe.key() != row.model:
            raise FileNotFoundError(
                f"{self._store.directory / str(row.model)}: the model is missing, and cannot be "
                "trained again: samples that it learned from were erased since"
            )
        with self._sharing.claim(recipe.key()) as there:
            if there:
                return
            self._progress.trigger(row.trigger, len(chosen))
            job = self._job(chosen, recipe, row.trigger, held)
            trained = train(job, self._progress, self._clock)
            self._store.put(recipe, trained, self._ledger.seconds(TRAINING).get(row.trigger, 0.0))

    def _training_of(self, trigger: int, held: HeldOut | None) -> dict[str, Any]:
        """Return what of the settings decides a trigger's training: its own number of samples."""
        described = dict(self._description["training"])
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

    def _place(self) -> Place:
        """Return where the models of holdouts are, for RHO-LOSS."""
        pipeline = self._pipeline
        return Place(
            dataset=pipeline.dataset,
            training=pipeline.training,
            seed=pipeline.training_seed,
            allow=pipeline.allow,
            store=self._store,
            claim=self._sharing.claim,
            trainsets=self._backend.trainsets,
            losses=self._directory / rundir.IRREDUCIBLE,
            rho_at=pipeline.rho_at,
            chosen_at=lambda trigger: self._living(self._ledger.transitions()[trigger]),
        )

    def _note_workers(self, job: Job) -> None:
        """Add what the loader's threads did meanwhile to the clock."""
        for read in (job.batches, job.pool):
            if isinstance(read, Loader | ChosenSamples):
                waits = read.waits
                self._clock.add("fill", waits.workers_filling)
                self._clock.add("room", waits.workers_waiting)

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
            make_model=self._make_model,
            fields=tuple(dataset.schema),
            batches=loader_of(dataset, main, training, seed=seed, to_pass=to_pass),
            samples=len(main),
            to_pass=to_pass,
            seed=seed,
            parent=None if recipe.parent is None else self._load(recipe.parent),
            downsampling=self._pipeline.downsampler_at(trigger),
            pool=ChosenSamples(dataset, main, training, seed),
            irreducible=losses,
        )

    # Evaluation ---------------------------------------------------------------------------------

    def _measure(self, when: str, trigger: int | None = None) -> None:
        """Measure what handlers ask for at this time and the ledger has not got."""
        evaluation = self._pipeline.evaluation
        if evaluation is None or all(h.execution_time != when for h in evaluation.handlers):
            return
        plan = measure.plan(evaluation, self._sources, self._state(trigger), when, trigger)
        plan = self._measurable(plan)
        if plan.windows:
            self._ledger.plan(plan.windows)
        self._run_tasks(plan, evaluation.device)

    def _measurable(self, plan: Plan) -> Plan:
        """Return the part of a plan that can be measured now: all of it."""
        return plan

    def _state(self, last: int | None) -> State:
        """Return what there was to measure once this trigger was trained; None: the last."""
        rows = {row.trigger: row for row in self._ledger.transitions()}
        models, spans = [], []
        for training in self._ledger.trainings():
            if last is not None and training.trigger > last:
                break
            row = rows[training.trigger]
            if training.model is None or row.trained_until is None:
                continue
            models.append(Trained(trigger=row.trigger, trained_until=row.trained_until))
            if row.first_timestamp is not None and row.last_timestamp is not None:
                spans.append(
                    TrainingSpan(
                        trigger=row.trigger, first=row.first_timestamp, last=row.last_timestamp
                    )
                )
        return State(models=models, spans=spans, results=self._ledger.evaluations())

    def _run_tasks(self, plan: Plan, device: str) -> None:
        """Measure task by task, and commit about once a second: a commit waits for the disk."""
        keys = {row.trigger: row.model for row in self._ledger.trainings()}
        sizes = [self._sources[t.data.dataset_id].size(t.windows) for t in plan.tasks]
        rows: list[EvaluationRow] = []
        seconds: dict[int, dict[str, float]] = {}
        done, committed_at = 0, time.monotonic()
        for task, size in zip(plan.tasks, sizes, strict=True):
            key = keys[task.trigger]
            if key is None:
                raise AssertionError(f"trigger {task.trigger} has no model to measure")
            rows += self._run_task(task, key, device, done, sum(sizes))
            done += size
            taken = self._clock.take()
            before = seconds.get(task.trigger, {})
            seconds[task.trigger] = {s: before.get(s, 0.0) + taken[s] for s in taken}
            if time.monotonic() - committed_at > COMMIT_SECONDS:
                self._ledger.evaluate(rows, seconds)
                rows, seconds, committed_at = [], {}, time.monotonic()
        if rows:
            self._ledger.evaluate(rows, seconds)

    def _run_task(
        self, task: Task, key: str, device: str, before: int, total: int
    ) -> list[EvaluationRow]:
        """Measure one model on one dataset."""
        seen = before

        def progress(samples: int) -> None:
            nonlocal seen
            seen += samples
            self._progress.evaluate(seen, total)

        with self._clock.stage("evaluate"):
            found = evaluate(
                self._stored_model(key),
                self._sources[task.data.dataset_id],
                task.windows,
                task.data.metrics,
                device=device,
                progress=progress,
            )
        return [
            EvaluationRow(
                trigger=task.trigger,
                dataset=task.data.dataset_id,
                start=one.window.start,
                end=one.window.end,
                metric=one.metric,
                model=key,
                value=one.value,
                count=one.count,
                counts=canonical(one.counts),
            )
            for one in found
        ]

    def _fresh_model(self) -> "torch.nn.Module":
        """Return a model to load weights into; the caller's random numbers stay as they are."""
        import torch

        with torch.random.fork_rng(devices=[]):
            return self._make_model()

    def _module(self, key: str) -> "torch.nn.Module":
        """Return a module of its own with the weights of a model."""
        module = self._fresh_model()
        module.load_state_dict(self._load(key).weights)
        return module

    def _stored_model(self, key: str) -> "torch.nn.Module":
        if self._model is None:
            self._model = self._fresh_model()
        self._model.load_state_dict(self._load(key).weights)
        return self._model
