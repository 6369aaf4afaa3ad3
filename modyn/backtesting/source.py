"""The pipeline of a recorded run, and what its models say of samples."""

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.backtesting.matrix import Matrix
from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.pipelines import rundir, strict_yaml
from modyn.pipelines.answer_cache import AnswerCache
from modyn.pipelines.asking import RunAnswers
from modyn.pipelines.build import maker
from modyn.pipelines.calls import device_of
from modyn.pipelines.models import ModelStore
from modyn.pipelines.pipeline import Pipeline
from modyn.policies.context import Answers, PastModel

if TYPE_CHECKING:
    import torch

    from modyn.pipelines.run import Run

__all__ = ["Asked", "answers_of", "but_for_trigger", "pipeline_of"]

Keys = npt.NDArray[np.uint64]

MEMORY_BYTES = 1 << 28  # of answers
MODULES_HELD = 256  # that are ready to be asked
ROWS_HELD = 1 << 20  # samples that are kept for the next model


def pipeline_of(
    run: "Run",
    dataset: Dataset,
    *,
    pipeline: Pipeline | None = None,
    allow: Collection[str] = (),
) -> Pipeline:
    """Return the pipeline of a run, with its seeds; its trigger is of no meaning.

    Parameters
    ----------
    run : Run
    dataset : Dataset
        Its stream; what else it is measured on lies beside it.
    pipeline : Pipeline, optional
        The one that the run was made of, but for trigger and seed, where the file in the run
        directory cannot say: a model that is a function, a selection of one's own.
    allow : collection of str
        As in `Pipeline.from_yaml`.

    Raises
    ------
    ConfigError
        When that is not the pipeline of the run.
    """
    config = run.identity["config"]
    if pipeline is None:
        pipeline = _read(run, dataset, allow)
    training = replace(pipeline.training, seed=int(config["training"]["seed"]))
    found = replace(
        pipeline,
        training=training,
        seed=int(config["pipeline"]["seed"]),
        metadata=None,
        text=None,
        name=run.name,
    )
    theirs = but_for_trigger(config)
    for name, value in but_for_trigger(found.describe()).items():
        if value != theirs.get(name):
            raise ConfigError(
                f"{run.path}: the pipeline that was given differs from that of the run in {name}"
            )
    return found


def _read(run: "Run", dataset: Dataset, allow: Collection[str]) -> Pipeline:
    """Return what the run's own file says, whatever trigger it names."""
    values = {**run.config, "trigger": {"id": "DataAmountTrigger", "num_samples": 1}}
    values.pop("metadata", None)
    folder = Path(dataset.path).parent
    with tempfile.TemporaryDirectory(prefix="modyn-backtest-") as name:
        path = Path(name) / rundir.CONFIG
        path.write_text(strict_yaml.dump(values), encoding="utf-8")
        try:
            return Pipeline.from_yaml(path, folder, allow=allow)
        except ConfigError as error:
            why = str(error).replace(str(path), str(run.path / rundir.CONFIG))
            raise ConfigError(f"{why}; give the pipeline itself (pipeline=...)") from None


def but_for_trigger(config: Any) -> dict[str, Any]:
    """Return what decides a training and its measuring, but for trigger, seeds and names."""
    training = {name: value for name, value in config["training"].items() if name != "seed"}
    names = ("order", "maximum_triggers", "start_replay_at", "stop_replay_at")
    return {
        "pipeline": {name: config["pipeline"][name] for name in names},
        "model": config["model"],
        "training": training,
        "selection_strategy": config["selection_strategy"],
        "downsampling": config.get("downsampling"),
        "data": {"label_delay": config.get("data", {}).get("label_delay", 0)},
    }


class Asked:
    """Answers that are made ready when a policy first asks.

    Parameters
    ----------
    make : callable
        Returns the answers.
    """

    def __init__(self, make: Callable[[], Answers]) -> None:
        self._make = make
        self._made: Answers | None = None

    def embeddings(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Return the input of the last layer, shape (n, d)."""
        return self._ready().embeddings(model, keys)

    def predictions(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Return class probabilities, shape (n, classes)."""
        return self._ready().predictions(model, keys)

    def losses(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Return the loss of each sample, shape (n,)."""
        return self._ready().losses(model, keys)

    def fields(self, keys: Keys, /) -> Mapping[str, npt.NDArray[Any]]:
        """Return the records, by field."""
        return self._ready().fields(keys)

    def _ready(self) -> Answers:
        if self._made is None:
            self._made = self._make()
        return self._made


def answers_of(matrix: Matrix, pipeline: Pipeline) -> RunAnswers:
    """Return what the recorded models say of samples; answers are kept in memory."""
    make = maker(pipeline.model, allow=pipeline.allow)

    def module(key: str) -> "torch.nn.Module":
        import torch

        run = next(row.run for row in matrix.trainings if row.model == key)
        with torch.random.fork_rng(devices=[]):
            found = make()
        found.load_state_dict(ModelStore(run / rundir.MODELS).load(key).weights)
        return found

    return _Recorded(
        dataset=pipeline.dataset,
        training=pipeline.training,
        module=module,
        cache=AnswerCache(matrix.run.path / ".backtest", memory_bytes=MEMORY_BYTES, disk_bytes=0),
    )


class _Recorded(RunAnswers):
    """Answers of many models to the same questions: what is read for one is kept for the next.

    The batches are those of a run, so the answers are the same, bit for bit.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._read: OrderedDict[bytes, list[Any]] = OrderedDict()
        self._rows = 0

    def _module(self, key: str) -> "torch.nn.Module":
        if key not in self._modules:
            while len(self._modules) >= MODULES_HELD:
                self._modules.popitem(last=False)
            device = device_of(self._training.device, "training.device")
            self._modules[key] = self._make(key).to(device).eval()
        return self._modules[key]

    def _batches(self, keys: Keys, fields: tuple[str, ...]) -> Any:
        place = keys.tobytes()
        if place not in self._read:
            self._read[place] = list(super()._batches(keys, fields))
            self._rows += len(keys)
            while self._rows > ROWS_HELD and len(self._read) > 1:
                gone, _ = self._read.popitem(last=False)
                self._rows -= len(gone) // keys.itemsize
        self._read.move_to_end(place)
        return self._read[place]
