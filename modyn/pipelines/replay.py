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
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.orchestrator import Orchestrator
from modyn.pipelines import rundir
from modyn.pipelines.answer_cache import AnswerCache
from modyn.pipelines.asking import RunAnswers
from modyn.pipelines.backend import backend_of
from modyn.pipelines.build import maker
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.ledger import FOLLOWING, opened
from modyn.pipelines.ledger import Progress as Position
from modyn.pipelines.lookback import RunHistory
from modyn.pipelines.measure import AFTER_PIPELINE, AFTER_TRAINING
from modyn.pipelines.measurer import Measurer
from modyn.pipelines.progress import Checked, Progress
from modyn.pipelines.rows import identity_of
from modyn.pipelines.signals import RunSignals
from modyn.pipelines.steps import Recorder, Steps, position_of
from modyn.pipelines.stream import Stream, check_labels
from modyn.pipelines.train import device_of
from modyn.pipelines.trainer import Trainer
from modyn.pipelines.workbench import Workbench

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline

BLOCK_COUNT = 65_536  # samples of a block of arrivals
ASKED = 2  # newest models, whose answers are kept


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
        make_model = maker(pipeline.model, allow=pipeline.allow)
        self._description = pipeline.describe()
        self._trigger, self._selection = pipeline.policies()
        self._measured: set[int] = set()  # triggers, by after_training handlers
        self._stream: Stream
        self._key_count = 0  # of the dataset, when the run began
        self._steps: Steps | None = None  # once the loop is there
        self._backend = backend_of(pipeline, directory)
        self._ledger = self._backend.ledger
        self._progress = Checked(progress, self._backend.check)
        self._signals = RunSignals(self._backend.signals, pipeline.training, pipeline.dataset)
        bench = Workbench(
            pipeline=pipeline,
            description=self._description,
            make_model=make_model,
            directory=directory,
            backend=self._backend,
            clock=self._clock,
            progress=self._progress,
        )
        self._trainer = Trainer(bench, self._signals, models, self._may_go_on)
        self._measurer = Measurer(bench, self._trainer)
        self._answers = self._new_answers()

    def _new_answers(self) -> RunAnswers:
        """Return what models say of samples, without those that are erased by now."""
        dataset = self._pipeline.dataset
        return RunAnswers(
            dataset=dataset,
            training=self._pipeline.training,
            module=self._trainer.module,
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
        self._trainer.store.clean()
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
        self._measurer.cover(counts)

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
        self._trainer.check()

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

    # Models --------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Train and measure what is committed and was not trained or measured yet."""
        done = {row.trigger: row.model for row in self._ledger.trainings()}
        for row in self._ledger.transitions():
            if row.trigger not in done:
                done[row.trigger] = self._trainer.train(row)
            self._signals.trained(row.trigger, done[row.trigger])
            if row.trigger not in self._measured:
                self._measure(AFTER_TRAINING, row.trigger)
                self._measured.add(row.trigger)
        if self._steps is not None:
            self._steps.trained()
            self._answers.keep_only({past.model for past in self._steps.models[-ASKED:]})

    def _measure(self, when: str, trigger: int | None = None) -> None:
        self._measurer.measure(when, trigger, ends=self._ends())

    def _ends(self) -> dict[str, int | None]:
        """Return up to which timestamp datasets are known that still grow: there are none."""
        return {}
