"""A pipeline: a dataset, a model, when to train, on what, how, and what to measure."""

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modyn.dataset import Dataset
from modyn.downsampling import Downsampler, RHOLoss, Schedule
from modyn.errors import ConfigError
from modyn.pipelines import dump, rundir, strict_yaml
from modyn.pipelines.build import fitted, model_of
from modyn.pipelines.description import described
from modyn.pipelines.fit_downsampling import check_downsampling, completed_downsampling
from modyn.pipelines.fit_trigger import check_fits
from modyn.pipelines.progress import Progress, Silent
from modyn.pipelines.run import Run
from modyn.pipelines.settings import (
    Evaluation,
    Metadata,
    Model,
    Training,
    place,
)
from modyn.policies import Selection, Trigger
from modyn.policies.time import units_of

if TYPE_CHECKING:
    from modyn.pipelines.config import PipelineConfig


@dataclass(kw_only=True)
class Pipeline:
    """Trains a series of models along a stream, and measures them.

    Parameters
    ----------
    dataset : Dataset
        The stream; with labels.
    model : Model, str or callable
        What is trained: settings, the id of a built-in model, or what makes a torch module.
        A callable is known to a run by its name alone.
    trigger : Trigger
        When to train.
    selection : Selection
        On which samples.
    training : Training
        How.
    evaluation : Evaluation, optional
        What to measure; nothing if None.
    name : str
        What the run is called.
    seed : int, optional
        Seed of all that draws; that of `training`, or 0, if None.
    order : {"time", "arrival"}
        Stream order: by timestamp, then key; or by key.
    maximum_triggers : int, optional
        End after so many triggers.
    start_replay_at, stop_replay_at : int or str, optional
        Follow only the samples with start <= timestamp < stop.
    allow : collection of str
        Modules from which a model's import path may come.
    text : bytes, optional
        The pipeline.yaml that the pipeline was made from.
    label_delay : int or str
        How long after its timestamp the label of a sample is known to policies: in units of
        timestamps, or a time string such as "7d". Until then trigger policies cannot ask for it.
    downsampling : Downsampler or Schedule, optional
        On which samples of a training set to train, decided while a model is trained; on all if
        None, and at the first `warmup_triggers` of a selection that has them.
    metadata : str or Metadata, optional
        The database that holds arrivals, candidates, training sets and the ledger: its URL,
        without a password, or `Metadata(url=..., ...)`. The run directory if None. It changes
        nothing that is computed.
    """

    dataset: Dataset
    model: Any
    trigger: Trigger
    selection: Selection
    training: Training
    evaluation: Evaluation | None = None
    name: str = "pipeline"
    seed: int | None = None
    order: Literal["time", "arrival"] = "time"
    maximum_triggers: int | None = None
    start_replay_at: int | str | None = None
    stop_replay_at: int | str | None = None
    allow: Collection[str] = ()
    text: bytes | None = None
    metadata: Metadata | str | None = None
    downsampling: Downsampler | Schedule | None = None
    label_delay: int | str = 0

    def __post_init__(self) -> None:
        if self.order not in ("time", "arrival"):
            raise ValueError(f"order must be 'time' or 'arrival', got {self.order!r}")
        if self.maximum_triggers is not None and self.maximum_triggers < 1:
            raise ValueError(f"maximum_triggers must be at least 1, got {self.maximum_triggers}")
        if self.seed is None:
            self.seed = self.training.seed or 0
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")
        self.label_delay = self._label_delay()
        if isinstance(self.allow, str):
            self.allow = (self.allow,)
        self.metadata = place(None, self.metadata)
        for downsampler in self._downsamplers():
            check_downsampling(downsampler, self.training)
        self.model: Model = fitted(model_of(self.model), self.dataset.schema)
        self.downsampling = completed_downsampling(
            self.downsampling, self.model, self.training, self.dataset
        )
        check_fits(self.trigger, self.dataset, self.model, self.training)
        if self.evaluation is not None:
            self.evaluation = _with_data(self.evaluation, self.dataset)

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        datasets: str | Path = "datasets",
        *,
        allow: Collection[str] = (),
        metadata: Metadata | str | None = None,
    ) -> "Pipeline":
        """Return the pipeline that a file describes.

        Parameters
        ----------
        path : path
            A pipeline.yaml.
        datasets : path
            The folder in which datasets lie under their ids.
        allow : collection of str
            Modules from which `model.id` may name a function.
        metadata : str or Metadata, optional
            The database to use in place of the one that the file names; the other settings of
            the section `metadata` stay as they are if this is a URL.

        Raises
        ------
        ConfigError
            When the file is wrong, or names a dataset that is not there.
        """
        from modyn.pipelines import config

        settings = config.read(path)
        stream = _open(Path(datasets), settings.dataset_id, f"{path}: data.dataset_id")
        try:
            pipeline = cls._of(settings, stream, Path(datasets), path, allow)
            pipeline.metadata = place(settings.metadata, metadata)
            return pipeline
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def _of(
        cls,
        settings: "PipelineConfig",
        stream: Dataset,
        datasets: Path,
        path: str | Path,
        allow: Collection[str],
    ) -> "Pipeline":
        evaluation = settings.evaluation
        if evaluation is not None:
            opened = []
            for i, entry in enumerate(evaluation.datasets):
                data = stream
                if entry.dataset_id != settings.dataset_id:
                    place = f"{path}: evaluation.datasets[{i}].dataset_id"
                    data = _open(datasets, entry.dataset_id, place)
                opened.append(replace(entry, dataset=data))
            evaluation = replace(evaluation, datasets=tuple(opened))
        return cls(
            dataset=stream,
            model=settings.model,
            trigger=settings.trigger(stream.timestamp_unit),
            selection=settings.selection,
            training=settings.training,
            downsampling=settings.downsampling,
            evaluation=evaluation,
            name=settings.name,
            seed=settings.seed,
            order=settings.order,
            maximum_triggers=settings.maximum_triggers,
            start_replay_at=settings.start_replay_at,
            stop_replay_at=settings.stop_replay_at,
            allow=allow,
            text=settings.text,
            label_delay=settings.label_delay,
        )

    def _label_delay(self) -> int:
        """Return the delay of labels in units of timestamps."""
        delay = self.label_delay
        if isinstance(delay, str):
            delay = units_of(delay, self.dataset.timestamp_unit)
        if delay < 0:
            raise ValueError(f"label_delay must be at least 0, got {delay}")
        return delay

    @property
    def training_seed(self) -> int:
        """The seed of weights and shuffling."""
        return self.seed_value if self.training.seed is None else self.training.seed

    @property
    def seed_value(self) -> int:
        """The seed of the pipeline."""
        return self.seed or 0

    def describe(self) -> dict[str, Any]:
        """Return what decides the outcome of a run, in the sections of pipeline.yaml.

        Two pipelines with equal descriptions on equal data do the same.
        """
        return described(self)

    def downsampler_at(self, trigger: int) -> Downsampler | None:
        """Return what decides on which samples of a trigger's training set to train, if any.

        A schedule counts triggers from the end of the warm-up, in which there is none.
        """
        after = trigger - int(getattr(self.selection, "warmup_triggers", 0))
        if after < 0:
            return None
        if isinstance(self.downsampling, Schedule):
            return self.downsampling.at(after)
        return self.downsampling

    def rho_at(self, trigger: int) -> RHOLoss | None:
        """Return the RHO-LOSS that decides at a trigger, if it is one."""
        found = self.downsampler_at(trigger)
        return found if isinstance(found, RHOLoss) else None

    def rhos(self) -> list[RHOLoss]:
        """Return every RHO-LOSS that may decide."""
        return [one for one in self._downsamplers() if isinstance(one, RHOLoss)]

    def _downsamplers(self) -> list[Downsampler]:
        found = self.downsampling
        all_of_them = found.downsamplers if isinstance(found, Schedule) else [found]
        return [downsampler for downsampler in all_of_them if downsampler is not None]

    def replay(
        self,
        out: str | Path,
        progress: Progress | None = None,
        *,
        models: str | Path | None = None,
    ) -> Run:
        """Follow the stream to its end, and return what happened.

        A run that was interrupted, however that came about, goes on where it was and ends as if
        nothing had happened; one that is finished is left as it is.  It covers the samples that
        the datasets held when it began.

        Parameters
        ----------
        out : path
            The run directory; made if it is not there.
        progress : Progress, optional
            Who is told how it goes.
        models : path, optional
            A folder of models that runs share: what one of them has trained the others find, from
            the same data, recipe and seed, also while they are all at work. It is made if it is
            not there, and may be removed at any time: a run has its own models. One that may be
            read only is read, and a warning says that the run keeps what it trains to itself.
            Models that a callable makes are not shared.

        Raises
        ------
        ConfigError
            When the directory holds another pipeline's run, or something is missing that the
            configuration names.
        BusyError
            When another process runs in this directory.
        """
        from modyn.pipelines.replay import Replay

        directory = Path(out)
        watch: Progress = Silent() if progress is None else progress
        shared = None if models is None else Path(models)
        with rundir.locked(directory), Replay(self, directory, watch, shared) as replay:
            replay.run()
        return Run.open(directory)

    def follow(
        self,
        out: str | Path,
        progress: Progress | None = None,
        *,
        stop: Callable[[], bool] = lambda: False,
        models: str | Path | None = None,
    ) -> Run:
        """Follow a stream that goes on: train and measure as samples come, until told to stop.

        Samples are picked up within a second of their commit, unless a model is trained just
        then.  A run that was stopped, however that came about, goes on where it was.  `replay`
        in the same directory ends it: the run then covers the samples of that moment, and is what
        a replay of them would have been.

        In time order, a sample whose timestamp is before that of an earlier one is late, and ends
        this with an error.  Evaluation windows are measured once they are over: in time order, when
        timestamps have gone on beyond them; in arrival order, and by handlers that run after the
        pipeline, when the run ends.  Other datasets are measured on as they were when it began.

        Parameters
        ----------
        out : path
            The run directory; made if it is not there.
        progress : Progress, optional
            Who is told how it goes.
        stop : callable, optional
            Returns whether to stop, such as `threading.Event().is_set`.  It is asked several
            times a second, and before each batch: a training that is under way is given up, and
            done when the run goes on.
        models : path, optional
            A folder of models that runs share; see `replay`.

        Returns
        -------
        Run
            What happened so far: after a stop, or where nothing more can come, since there were
            `maximum_triggers` or a timestamp from `stop_replay_at` on.

        Raises
        ------
        ValueError
            When the dataset is open for writing.
        ConfigError
            When a sample is late, a label fits neither the model nor a metric, or the directory
            holds a run of another pipeline, or one that does not follow.
        BusyError
            When another process runs in this directory.
        FileNotFoundError
            When it was stopped before there was a run.
        """
        from modyn.pipelines.follow import Followed, follow

        watch: Progress = Silent() if progress is None else progress
        one = Followed(pipeline=self, directory=Path(out), progress=watch)
        follow([one], stop, None if models is None else Path(models))
        return Run.open(out)

    def policies(self) -> tuple[Trigger, Selection]:
        """Return both policies as copies, so that one pipeline can be run many times."""
        return copy.deepcopy(self.trigger), copy.deepcopy(self.selection)

    def config_text(self) -> bytes:
        """Return the pipeline.yaml of a run: as submitted, or written from the settings."""
        return strict_yaml.dump(dump.values(self)).encode() if self.text is None else self.text


def _open(folder: Path, name: str, place: str) -> Dataset:
    try:
        return Dataset.open(folder / name)
    except FileNotFoundError:
        raise ConfigError(f"{place}: there is no dataset {name!r} in {folder}") from None


def _name(dataset: Dataset) -> str:
    return Path(dataset.path).name


def _with_data(evaluation: Evaluation, stream: Dataset) -> Evaluation:
    """Give every evaluation dataset its data and a name."""
    named = []
    for entry in evaluation.datasets:
        data = stream if entry.dataset is None else entry.dataset
        named.append(replace(entry, dataset=data, dataset_id=entry.dataset_id or _name(data)))
    for entry in named:
        if dict(entry.dataset.schema) != dict(stream.schema):
            raise ConfigError(
                f"evaluation dataset {entry.dataset_id!r} has the fields "
                f"{dict(entry.dataset.schema)}, the pipeline's {dict(stream.schema)}"
            )
    ids = tuple(entry.dataset_id for entry in named)
    handlers = tuple(replace(h, datasets=h.datasets or ids) for h in evaluation.handlers)
    return replace(evaluation, datasets=tuple(named), handlers=handlers)
