"""Training with PyTorch: from batches to the weights of one model.

On the CPU a training is a function of its job: weights and dropout draw from a generator seeded
by the job, batches come in an order seeded by the job, and PyTorch runs on one thread, because
the order in which several threads add floats is theirs.  The caller's generator and thread count
are as before afterwards.  On CUDA the same code runs; its kernels need not be bit-identical.

The loss of a batch is sum(w * l) / sum(w) with weights and the mean without.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from modyn.errors import ConfigError
from modyn.pipelines.models import Facts, StoredModel, Tensors
from modyn.pipelines.settings import NUMERIC, LrScheduler, Optimizer, Training

if TYPE_CHECKING:
    import torch

# Optimizers that can take a step in one kernel, which is a quarter off a small model's time; a
# configuration with `fused: false` or `foreach` has it the other way.
FUSED = {"Adam", "AdamW", "SGD", "Adagrad"}


class Batch(Protocol):
    """What training reads of a batch; arrays or tensors, one row per sample."""

    @property
    def keys(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def weights(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, field: str, /) -> Any: ...


class Batches(Protocol):
    """The batches of an epoch, in an order that depends on the epoch's number alone."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def set_epoch(self, epoch: int, /) -> None: ...


class Watch(Protocol):
    """Somebody who looks on."""

    def epoch(self, index: int, epochs: int, /) -> None: ...
    def batch(self, done: int, total: int, /) -> None: ...


class Observer(Protocol):
    """Somebody who is shown what the model says of each batch, and changes nothing."""

    def epoch(self, index: int, /) -> None: ...
    def batch(
        self,
        batch: Batch,
        output: "torch.Tensor",
        labels: "torch.Tensor",
        each: "torch.nn.Module",
        /,
    ) -> None: ...


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds by stage.

    Examples
    --------
    >>> watch = Stopwatch()
    >>> with watch.stage("train"):
    ...     pass
    >>> list(watch.seconds)
    ['train']
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """Return the seconds so far and start at zero."""
        taken, self.seconds = self.seconds, {}
        return taken


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that decides the outcome of a training.

    Parameters
    ----------
    training : Training
        Settings.
    make_model : callable
        Makes a model with fresh weights.
    fields : tuple of str
        The fields of a sample; one goes to the model as it is, several go in by name.
    batches : Batches
        The training set.
    samples : int
        Its size.
    seed : int
        Below 2**63.
    to_pass : int, optional
        Samples to train on; then `batches` are those of so many, which is one round of them.
        Whole epochs if None.
    parent : StoredModel, optional
        Where to go on from.
    """

    training: Training
    make_model: Callable[[], "torch.nn.Module"]
    fields: tuple[str, ...]
    batches: Batches
    samples: int
    seed: int
    to_pass: int | None = None
    parent: StoredModel | None = None

    @property
    def rounds(self) -> int:
        """How often all of `batches` are trained on."""
        return self.training.epochs_per_trigger if self.to_pass is None else 1

    @property
    def epochs(self) -> int:
        """How many epochs begin."""
        if self.to_pass is None:
            return self.training.epochs_per_trigger
        return -(-self.to_pass // self.samples)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch's kernels on the calling thread alone, so that sums have one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(name: str, what: str) -> "torch.device":
    """Return a device.

    Raises
    ------
    ConfigError
        When it is a CUDA device that is not there; `what` names the setting.
    """
    import torch

    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{what} is {name!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices here"
        )
    return device


def call_model(
    model: "torch.nn.Module",
    batch: Batch,
    fields: tuple[str, ...],
    device: "torch.device",
) -> "torch.Tensor":
    """Return the model's output for a batch: one field as it is, several by name."""
    import torch

    moved = {name: torch.as_tensor(batch[name]).to(device, non_blocking=True) for name in fields}
    output = model(moved[fields[0]]) if len(fields) == 1 else model(**moved)
    if not isinstance(output, torch.Tensor) or len(output) != len(batch):
        raise TypeError(f"the model must return a tensor of {len(batch)} rows, got {output!r:.80}")
    return output


def train(
    job: Job,
    watch: Watch | None = None,
    clock: Stopwatch | None = None,
    observer: Observer | None = None,
) -> StoredModel:
    """Return the model that a job results in, whoever looks on.

    Raises
    ------
    ConfigError
        When a device, a parameter path or an option does not exist.
    """
    import torch

    device = device_of(job.training.device, "training.device")
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), one_thread():
        torch.manual_seed(job.seed)
        return _Loop(job, device, clock or Stopwatch(), observer).run(watch)


class _Loop:
    """One training in progress."""

    def __init__(
        self, job: Job, device: "torch.device", clock: Stopwatch, observer: Observer | None
    ) -> None:
        self._job = job
        self._observer = observer
        self._device = device
        self._clock = clock
        self._model = job.make_model()
        if job.parent is not None:
            self._model.load_state_dict(job.parent.weights)
        self._model.to(device).train()
        self._criterion = _criterion(job.training, "mean").to(device)
        self._each = _criterion(job.training, "none").to(device)  # a loss per sample
        self._optimizers = [_optimizer(o, self._model) for o in job.training.optimizers]
        if job.parent is not None and job.parent.optimizer:
            _load_optimizers(self._optimizers, job.parent.optimizer)
        self._total = len(job.batches) * job.rounds
        self._scheduler = self._make_scheduler(job.training.lr_scheduler)
        self._done = 0  # batches
        self._passed = 0  # samples
        self._final_loss: float | None = None  # the mean over the last epoch
        self._losses: list[tuple[int, float | None]] = []

    def run(self, watch: Watch | None) -> StoredModel:
        for epoch, batches in enumerate(self._epochs()):
            if watch is not None:
                watch.epoch(epoch, self._job.epochs)
            if self._observer is not None:
                self._observer.epoch(epoch)
            self._epoch(batches, watch)
        facts = Facts(
            epochs=self._job.epochs,
            batches=self._done,
            samples=self._job.samples,
            final_loss=self._final_loss,
            losses=self._losses,
        )
        keep = self._job.training.use_previous_model
        return StoredModel(
            weights=_weights(self._model),
            optimizer=_optimizer_tensors(self._optimizers) if keep else {},
            facts=facts,
        )

    def _epochs(self) -> Iterator[Iterator[Batch]]:
        """Yield the batches of each epoch.

        Where so many samples are passed there is one round of batches.  A batch with samples of
        two epochs belongs to the first.
        """
        batches: Iterator[Batch] = iter(())
        for epoch in range(self._job.epochs):
            if epoch < self._job.rounds:
                self._job.batches.set_epoch(epoch)
                batches = iter(self._job.batches)
            end = math.inf if self._job.to_pass is None else (epoch + 1) * self._job.samples
            yield self._loaded(batches, end)

    def _loaded(self, batches: Iterator[Batch], end: float) -> Iterator[Batch]:
        """Yield batches until `end` samples were passed, and clock the wait for each."""
        while self._passed < end:
            with self._clock.stage("load"):
                batch = next(batches, None)
            if batch is None:
                return
            self._passed += len(batch)
            yield batch

    def _epoch(self, batches: Iterator[Batch], watch: Watch | None) -> None:
        """Train on these batches and keep their mean loss."""
        import torch

        total = torch.zeros((), dtype=torch.float64, device=self._device)
        seen = 0
        for batch in batches:
            with self._clock.stage("train"):
                total += self._step(batch).double() * len(batch)
            seen += len(batch)
            if watch is not None:
                watch.batch(self._done, self._total)
        with self._clock.stage("train"):
            if self._scheduler is not None and self._every("epoch") and self._done:
                self._scheduler.step()
            if seen:
                self._final_loss = _finite(total.item() / seen)

    def _step(self, batch: Batch) -> "torch.Tensor":
        """Train on a batch and return its loss."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self._optimizers:
            optimizer.step()
        if self._scheduler is not None and self._every("batch"):
            self._scheduler.step()
        every = self._job.training.record_loss_every
        if every and self._done % every == 0:
            self._losses.append((self._done, _finite(loss.item())))
        self._done += 1
        return loss.detach()

    def _loss(self, batch: Batch) -> "torch.Tensor":
        import torch

        output = call_model(self._model, batch, self._job.fields, self._device)
        labels = torch.as_tensor(batch.labels).to(self._device, non_blocking=True)
        if self._job.training.optimization_criterion.name in NUMERIC:
            output = output.reshape(len(output)) if output.ndim == 2 else output
            labels = labels.to(output.dtype)
        if self._observer is not None:
            self._observer.batch(batch, output.detach(), labels, self._each)
        if batch.weights is None:
            loss: torch.Tensor = self._criterion(output, labels)
            return loss
        losses: torch.Tensor = self._each(output, labels)
        weights = torch.as_tensor(batch.weights).to(self._device, losses.dtype, non_blocking=True)
        return (weights * losses.reshape(len(labels), -1).mean(dim=1)).sum() / weights.sum()

    def _every(self, step: str) -> bool:
        scheduler = self._job.training.lr_scheduler
        return scheduler is not None and scheduler.step_every == step

    def _make_scheduler(self, settings: LrScheduler | None) -> Any:
        import torch

        if settings is None:
            return None
        numbers = {
            "MODYN_NUM_BATCHES": max(self._total, 1),
            "MODYN_NUM_EPOCHS": self._job.epochs,
        }
        names = [optimizer.name for optimizer in self._job.training.optimizers]
        optimizer = self._optimizers[names.index(settings.optimizers[0])]
        make = getattr(torch.optim.lr_scheduler, settings.name)
        config = replaced(settings.config, numbers)
        return _made(f"training.lr_scheduler {settings.name}", lambda: make(optimizer, **config))


def replaced(value: Any, numbers: Mapping[str, int]) -> Any:
    """Return a configuration with the names in it replaced by numbers, at any depth.

    Examples
    --------
    >>> replaced({"total_steps": "MODYN_NUM_BATCHES"}, {"MODYN_NUM_BATCHES": 7})
    {'total_steps': 7}
    """
    if isinstance(value, Mapping):
        return {key: replaced(entry, numbers) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(entry, numbers) for entry in value]
    return numbers.get(value, value) if isinstance(value, str) else value


def _criterion(training: Training, reduction: str) -> "torch.nn.Module":
    """Return the loss of a batch or of each sample; lists in its configuration become tensors."""
    import torch

    settings = training.optimization_criterion
    config = {
        name: torch.tensor(value) if isinstance(value, list | tuple) else value
        for name, value in settings.config.items()
    }
    make = getattr(torch.nn, settings.name)
    criterion: torch.nn.Module = _made(
        f"training.optimization_criterion {settings.name}",
        lambda: make(reduction=reduction, **config),
    )
    return criterion


def _optimizer(settings: Optimizer, model: "torch.nn.Module") -> "torch.optim.Optimizer":
    import torch

    make = getattr(torch.optim, settings.algorithm)
    what = f"training.optimizers {settings.name} ({settings.algorithm})"
    groups = []
    for group in settings.param_groups:
        parameters = _parameters(model, group.module)
        config = dict(group.config)
        if settings.algorithm in FUSED and "foreach" not in config:
            config.setdefault("fused", True)
        # As arguments the options are checked; in a group torch takes whatever comes.
        _made(what, lambda: make(parameters, **config))  # noqa: B023 - called at once
        groups.append({"params": parameters, **config})
    optimizer: torch.optim.Optimizer = _made(what, lambda: make(groups))
    return optimizer


def _parameters(model: "torch.nn.Module", path: str) -> "list[torch.nn.Parameter]":
    """Return the parameters below a path such as model.head; only submodules are walked."""
    try:
        part = model.get_submodule(path.removeprefix("model").removeprefix("."))
    except AttributeError as error:
        raise ConfigError(f"training.optimizers: the model has no module {path}: {error}") from None
    return list(part.parameters())


def _made(what: str, make: Callable[[], Any]) -> Any:
    """Return what `make` makes; its complaint about an option names the setting."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: {error}") from error


def _weights(model: "torch.nn.Module") -> Tensors:
    import torch

    weights = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"state {name} of the model is no tensor: {type(value).__name__}")
        weights[name] = value.detach().cpu().clone()
    return weights


def _optimizer_tensors(optimizers: "list[torch.optim.Optimizer]") -> Tensors:
    """Return the state of all optimizers, named optimizer/parameter/quantity."""
    import torch

    tensors = {}
    for i, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{i}/{parameter}/{name}"] = value.detach().cpu().clone()
    return tensors


def _load_optimizers(optimizers: "list[torch.optim.Optimizer]", tensors: Tensors) -> None:
    """Put moments and step counts back; options stay as the configuration has them."""
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for path, value in tensors.items():
        i, parameter, name = path.split("/")
        states[int(i)].setdefault(int(parameter), {})[name] = value.clone()
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
