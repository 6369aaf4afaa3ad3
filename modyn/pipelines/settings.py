"""What a pipeline is told: frozen records with the names that pipeline.yaml uses.

Values of one file come in through `modyn.pipelines.config`, which checks shapes and names; the
records check what must hold however they were made.  A field marked with SPEED changes how fast
a run goes and nothing that it computes, so it takes no part in the identity of a run.  A field
marked with OPTIONAL takes part only where it is set: it came later than the first runs.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

from modyn.loader.staging import Staging
from modyn.metadata.url import Url
from modyn.pipelines.metrics import Metric
from modyn.pipelines.windows import BetweenTwoTriggersEvalStrategy, Strategy
from modyn.signals import SIGNALS

SPEED = {"speed": True}
OPTIONAL = {"optional": True}
_DEVICE = re.compile(r"cpu|cuda:[0-9]{1,3}")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")

OPTIMIZERS = (
    *(
        "ASGD",
        "Adadelta",
        "Adafactor",
        "Adagrad",
        "Adam",
        "AdamW",
        "Adamax",
        "NAdam",
        "RAdam",
    ),
    *("RMSprop", "Rprop", "SGD"),
)
CRITERIA = (
    *("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "BCEWithLogitsLoss", "BCELoss"),
    *("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"),
)
# Those that compare the output with a number instead of a class.
NUMERIC = {
    "BCEWithLogitsLoss",
    "BCELoss",
    "MSELoss",
    "L1Loss",
    "SmoothL1Loss",
    "HuberLoss",
}
# Outputs above this are class 1, where there is one output and the labels are 0 and 1.
BORDERS = {"BCEWithLogitsLoss": 0.0, "BCELoss": 0.5}
LR_SCHEDULERS = (
    *(
        "StepLR",
        "MultiStepLR",
        "ConstantLR",
        "LinearLR",
        "ExponentialLR",
        "PolynomialLR",
    ),
    *("CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"),
)


def check_device(device: str) -> None:
    """Refuse what is neither `cpu` nor `cuda:N`."""
    if _DEVICE.fullmatch(device) is None:
        raise ValueError(f"device must be 'cpu' or 'cuda:N', got {device!r}")


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _one_of(names: tuple[str, ...], what: str, value: str) -> None:
    if value not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which model is trained.

    Parameters
    ----------
    id : str
        A built-in model ("MLP"), or an import path "package.module:function".
    config : mapping
        Keyword arguments of its constructor.
    factory : callable, optional
        Makes the model instead, from the keyword arguments in `config`; Python only.
    """

    id: str
    config: Mapping[str, Any] = field(default_factory=dict)
    factory: Callable[..., Any] | None = field(default=None, compare=False, metadata=SPEED)


@dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """The parameters below `module` (a path such as "model" or "model.head") and their options."""

    module: str = "model"
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.module.split(".")
        if _MODULE.fullmatch(self.module) is None or any(n.startswith("__") for n in names):
            raise ValueError(f"module must be a path of identifiers, got {self.module!r}")
        if names[0] != "model":
            raise ValueError(f"module must be 'model' or begin with 'model.', got {self.module!r}")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """One optimizer of torch.optim over some of the parameters."""

    name: str = "default"
    algorithm: str = "Adam"
    source: Literal["PyTorch"] = "PyTorch"
    param_groups: tuple[ParamGroup, ...] = (ParamGroup(),)

    def __post_init__(self) -> None:
        _one_of(OPTIMIZERS, "algorithm", self.algorithm)
        if not self.param_groups:
            raise ValueError(f"optimizer {self.name!r} needs at least one entry in param_groups")


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """The loss of torch.nn that training minimises; weights are averaged by modyn."""

    name: str = "CrossEntropyLoss"
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of(CRITERIA, "optimization_criterion", self.name)
        for key in ("reduction", "reduce", "size_average"):
            if key in self.config:
                raise ValueError(f"{key} of {self.name} is fixed: the mean over the batch")


@dataclass(frozen=True, kw_only=True)
class LrScheduler:
    """A scheduler of torch.optim.lr_scheduler; it starts anew with every trigger.

    The strings MODYN_NUM_BATCHES and MODYN_NUM_EPOCHS in `config` stand for the batches and the
    epochs of the training at hand.
    """

    name: str
    step_every: Literal["epoch", "batch"]
    source: Literal["PyTorch"] = "PyTorch"
    optimizers: tuple[str, ...] = ("default",)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of(LR_SCHEDULERS, "lr_scheduler", self.name)
        if len(self.optimizers) != 1:
            raise ValueError(f"lr_scheduler {self.name} needs exactly one entry in optimizers")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained at a trigger.

    Parameters
    ----------
    batch_size : int
        Samples per batch.
    epochs_per_trigger : int
        Passes over the training set.
    num_samples_to_pass : tuple of int, optional
        Samples that the i-th trigger trains on, instead of whole passes: fewer or more than its
        training set has, which is gone through again and again.  Later triggers fall back to
        `epochs_per_trigger`.
    use_previous_model : bool
        Go on with the last trigger's weights and optimizer state, or start with fresh weights.
    shuffle : bool or "partition"
        Permute the whole training set in each epoch; or go through its partitions in an order
        drawn for each epoch, with the samples of each permuted, which is faster where the
        dataset is larger than memory.
    partition_size : int, optional
        Samples of a partition where `shuffle` is "partition"; by default what a schema gives.
    drop_last_batch : bool
        Leave out a last batch that is not full (what is smaller than one batch is one batch all
        the same).
    device : str
        "cpu" or "cuda:N".
    seed : int, optional
        Seed of weights and shuffling; that of the pipeline if None.
    optimizers, optimization_criterion, lr_scheduler
        What minimises what, and how the step size moves.
    record_loss_every : int
        Record the loss of every n-th batch; 0 records none.
    dataloader_workers : int
        Threads that fill batches.
    num_prefetched_partitions, parallel_prefetch_requests : int or "auto"
        Partitions that are brought into memory ahead of the loop, and how many requests at a
        time bring them; 0 partitions: none are.
    signals : tuple of str
        What is recorded of each sample as a model is trained, for policies to read: "loss",
        "gradient_norm", "prediction", "forgetting" (docs/signals.md).  Part of what a run is,
        since its policies may decide by them, but not of what a model is.
    """

    batch_size: int
    epochs_per_trigger: int = 1
    num_samples_to_pass: tuple[int, ...] | None = field(default=None, metadata=OPTIONAL)
    use_previous_model: bool = False
    shuffle: bool | Literal["partition"] = True
    partition_size: int | None = field(default=None, metadata=OPTIONAL)
    drop_last_batch: bool = True
    device: str = "cpu"
    seed: int | None = None
    optimizers: tuple[Optimizer, ...] = (Optimizer(),)
    optimization_criterion: Criterion = Criterion()
    lr_scheduler: LrScheduler | None = None
    record_loss_every: int = 0
    dataloader_workers: int = field(default=2, metadata=SPEED)
    num_prefetched_partitions: int | Literal["auto"] = field(default="auto", metadata=SPEED)
    parallel_prefetch_requests: int | Literal["auto"] = field(default="auto", metadata=SPEED)
    signals: tuple[str, ...] = field(default=(), metadata=OPTIONAL)

    def __post_init__(self) -> None:
        self._check_signals()
        _at_least(1, batch_size=self.batch_size, epochs_per_trigger=self.epochs_per_trigger)
        _at_least(1, dataloader_workers=self.dataloader_workers)
        _at_least(0, record_loss_every=self.record_loss_every, seed=self.seed or 0)
        Staging.of(self.num_prefetched_partitions, self.parallel_prefetch_requests, depth=1)
        check_device(self.device)
        self._check_passes()
        names = [optimizer.name for optimizer in self.optimizers]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"optimizers need different names, at least one; got {names}")
        for name in self.lr_scheduler.optimizers if self.lr_scheduler else ():
            if name not in names:
                raise ValueError(f"lr_scheduler names the optimizer {name!r}; there are {names}")

    def _check_passes(self) -> None:
        if self.num_samples_to_pass is not None:
            if not self.num_samples_to_pass:
                raise ValueError("num_samples_to_pass needs at least one entry")
            for i, samples in enumerate(self.num_samples_to_pass):
                _at_least(1, **{f"num_samples_to_pass[{i}]": samples})
        if self.shuffle != "partition" and not isinstance(self.shuffle, bool):
            raise ValueError(f"shuffle must be true, false or 'partition', got {self.shuffle!r}")
        if self.partition_size is not None:
            _at_least(1, partition_size=self.partition_size)
            if self.shuffle != "partition":
                raise ValueError(
                    f"partition_size {self.partition_size} needs shuffle 'partition', "
                    f"got {self.shuffle!r}"
                )

    def _check_signals(self) -> None:
        for name in self.signals:
            _one_of(SIGNALS, "signals", name)
        if len(set(self.signals)) != len(self.signals):
            raise ValueError(f"signals names one twice: {', '.join(self.signals)}")
        criterion = self.optimization_criterion.name
        if "forgetting" in self.signals and criterion in NUMERIC - {"BCEWithLogitsLoss", "BCELoss"}:
            raise ValueError(f"signals: there is no right and wrong to forget with {criterion}")
        in_order = tuple(name for name in SIGNALS if name in self.signals)
        object.__setattr__(self, "signals", in_order)

    def samples_to_pass(self, trigger: int) -> int | None:
        """Return how many samples a trigger trains on; None: whole epochs."""
        listed = self.num_samples_to_pass or ()
        return listed[trigger] if trigger < len(listed) else None


@dataclass(frozen=True, kw_only=True)
class EvalDataset:
    """Data that models are measured on, and how.

    Parameters
    ----------
    metrics : tuple of Metric
        Accuracy(), F1Score(...), RocAuc().
    dataset_id : str
        Its name in results; the name of its folder if "".
    dataset : Dataset, optional
        The data; the pipeline's own if None.
    batch_size, dataloader_workers : int
        Samples per batch, and threads that fill batches.
    """

    metrics: tuple[Metric, ...]
    dataset_id: str = ""
    dataset: Any = field(default=None, compare=False, metadata=SPEED)
    batch_size: int = field(default=8192, metadata=SPEED)
    dataloader_workers: int = field(default=2, metadata=SPEED)

    def __post_init__(self) -> None:
        _at_least(1, batch_size=self.batch_size, dataloader_workers=self.dataloader_workers)
        if self.dataset is not None and not self.dataset_id:
            object.__setattr__(self, "dataset_id", Path(self.dataset.path).name)
        names = [metric.name for metric in self.metrics]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"metrics need different names, at least one; got {names}")


@dataclass(frozen=True, kw_only=True)
class EvalHandler:
    """Which models are measured on which windows, and when.

    Parameters
    ----------
    strategy : Strategy
        The windows.
    execution_time : {"after_pipeline", "after_training"}
        Once the stream has ended, or for each model when it is trained.
    models : {"matrix", "active", "training"}
        Every model on every window, or in each window the currently active model only, or the
        currently trained one.
    datasets : tuple of str
        The ids of the datasets; all of them if empty.
    """

    strategy: Strategy
    name: str = "Modyn EvalHandler"
    execution_time: Literal["after_pipeline", "after_training"] = "after_pipeline"
    models: Literal["matrix", "active", "training"] = "active"
    datasets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of(("after_pipeline", "after_training"), "execution_time", self.execution_time)
        _one_of(("matrix", "active", "training"), "models", self.models)
        if self.execution_time == "after_training" and isinstance(
            self.strategy, BetweenTwoTriggersEvalStrategy
        ):
            raise ValueError("execution_time after_training knows no windows between triggers yet")
        if self.execution_time == "after_training" and self.models != "matrix":
            raise ValueError(
                f"execution_time after_training needs models matrix, got {self.models}: "
                "which model is current is known when all are trained"
            )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured: handlers say which models and windows, datasets say on what.

    Examples
    --------
    >>> from modyn.pipelines.metrics import Accuracy
    >>> from modyn.pipelines.windows import SlicingEvalStrategy
    >>> slices = SlicingEvalStrategy(eval_every="1y")
    >>> evaluation = Evaluation(
    ...     handlers=(EvalHandler(strategy=slices, models="matrix"),),
    ...     datasets=(EvalDataset(metrics=(Accuracy(),)),),
    ... )
    """

    handlers: tuple[EvalHandler, ...]
    datasets: tuple[EvalDataset, ...]
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_device(self.device)
        ids = [dataset.dataset_id for dataset in self.datasets]
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"datasets need different ids, at least one; got {ids}")
        if not self.handlers:
            raise ValueError("handlers needs at least one entry")
        for handler in self.handlers:
            for name in handler.datasets:
                if name not in ids:
                    raise ValueError(f"handler {handler.name!r} names {name!r}; there are {ids}")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The database that holds the metadata of a run; nothing here changes what a run computes.

    Parameters
    ----------
    url : str
        What libpq takes: a `postgresql://` URI or `keyword=value` pairs, without a password.
    layout : {"rows", "blocks"}
        One SQL row per sample of a training set, or per 16,384 of them, which is faster to write
        and to read, and of no use to other SQL. A dataset has the layout that it was published in.
    hash_partition_modulus : int, optional
        Into how many partitions the rows of a training set, and its signals, are cut; 1 leaves
        them whole. One for each 4 Mi rows of a training set if None, at most 16.
    unlogged : bool
        Keep training sets and signals out of the log of the server, and a dataset that `publish`
        sends for the first time: less to write, and all of it gone from the database when the
        server crashes.
    connections : int
        How many connections publish, at least 1.
    lease_seconds : float
        How long a controller that fell silent keeps others out.
    retry_seconds : float
        How long a server that went away is waited for.
    publish : bool
        Publish what the dataset has and the database has not, before the run.

    Raises
    ------
    ConfigError
        When the URL cannot be understood, or holds a password.
    """

    url: str
    layout: Literal["rows", "blocks"] = "rows"
    hash_partition_modulus: int | None = None
    unlogged: bool = False
    connections: int = 2
    lease_seconds: float = 30.0
    retry_seconds: float = 60.0
    publish: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", str(Url.parse(self.url)))  # without blanks around it
        _one_of(("rows", "blocks"), "layout", self.layout)
        _at_least(1, connections=self.connections)
        if self.hash_partition_modulus is not None:
            _at_least(1, hash_partition_modulus=self.hash_partition_modulus)
        if not 1.0 <= self.lease_seconds < math.inf:
            raise ValueError(f"lease_seconds must be at least 1, got {self.lease_seconds}")
        if not 0.0 <= self.retry_seconds < 1e6:
            raise ValueError(
                f"retry_seconds must be at least 0 and below 1e6, got {self.retry_seconds}"
            )


def place(of_file: Metadata | None, given: Metadata | str | None) -> Metadata | None:
    """Return where metadata lies: what was given, with all else as the file says.

    Examples
    --------
    >>> place(Metadata(url="service=a", layout="blocks"), "service=b").layout
    'blocks'
    """
    if isinstance(given, str):
        return Metadata(url=given) if of_file is None else replace(of_file, url=given)
    return of_file if given is None else given


def describe(value: Any) -> Any:
    """Return settings as plain JSON values, without what only changes the speed.

    A function, which may stand among the parameters of a policy, is described by its name.

    Examples
    --------
    >>> describe(Criterion(name="MSELoss"))
    {'class': 'Criterion', 'name': 'MSELoss', 'config': {}}
    """
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in fields(value) if f.compare and not f.metadata.get("speed")]
        settings = {
            f.name: describe(getattr(value, f.name))
            for f in kept
            if not (f.metadata.get("optional") and getattr(value, f.name) == f.default)
        }
        return {"class": type(value).__name__, **settings}
    if isinstance(value, Mapping):
        return {str(key): describe(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, FunctionType):
        return f"{value.__module__}:{value.__qualname__}"
    raise TypeError(f"a setting must be a plain value, got {type(value).__name__}: {value!r}")
