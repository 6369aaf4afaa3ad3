"""Training with PyTorch: from batches to the weights of one model.

On the CPU a training is a function of its job: weights and dropout draw from a generator seeded
by the job, batches come in an order seeded by the job, and PyTorch runs on one thread, because
the order in which several threads add floats is theirs.  The caller's generator and thread count
are as before afterwards.  On CUDA the same code runs; its kernels need not be bit-identical.

The loss of a batch is sum(w * l) / sum(w) with the weights w of the selection, the mean without.
Where a downsampler picked the samples, with factors f, it is sum(f * w * l) / sum(w): a factor of 1
counts as much as without downsampling, and batches keep their scale; with its option `normalise`
it is sum(f * w * l) / sum(f * w).  A batch in which nothing counts has the loss 0.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from modyn.pipelines.calls import as_compared, call_model, device_of, one_thread
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.downsample import feed_of
from modyn.pipelines.history import History
from modyn.pipelines.jobs import Batch, Batches, Job, Observer, Watch
from modyn.pipelines.models import Downsampled, Facts, StoredModel
from modyn.pipelines.optimizing import (
    criterion_of,
    load_optimizers,
    optimizer_of,
    optimizer_tensors,
    scheduler_of,
    weights_of,
)
from modyn.pipelines.picked import Picked
from modyn.pipelines.scoring import Scorer

if TYPE_CHECKING:
    import torch

_TINY = 1e-30  # instead of a sum of weights that is 0

__all__ = [
    "Batch",
    "Batches",
    "Job",
    "Observer",
    "Stopwatch",
    "Watch",
    "call_model",
    "criterion_of",
    "device_of",
    "one_thread",
    "train",
]


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
        training = job.training
        self._job = job
        self._observer = observer
        self._device = device
        self._clock = clock
        self._model = job.make_model()
        if job.parent is not None:
            self._model.load_state_dict(job.parent.weights)
        self._model.to(device).train()
        self._criterion = criterion_of(training, "mean").to(device)
        self._each = criterion_of(training, "none").to(device)  # a loss per sample
        self._optimizers = [optimizer_of(o, self._model) for o in training.optimizers]
        if job.parent is not None and job.parent.optimizer:
            load_optimizers(self._optimizers, job.parent.optimizer)
        self._history = self._make_history()
        self._scorer = self._make_scorer()
        self._feed = feed_of(job, clock, self._scorer)
        self._total = self._feed.total
        self._scheduler = self._make_scheduler()
        self._done = 0  # batches
        self._paced = 0  # steps of a scheduler that goes by batches
        self._trained = 0  # samples, each as often as it came
        self._final_loss: float | None = None  # the mean over the last epoch
        self._losses: list[tuple[int, float | None]] = []

    def _make_history(self) -> History | None:
        job = self._job
        if job.downsampling is None or "history" not in job.downsampling.needs:
            return None
        if job.pool is None:
            raise ValueError("a downsampler that needs history needs the training set: Job.pool")
        return History(job.pool.keys, job.training)

    def _make_scorer(self) -> Scorer | None:
        if self._job.downsampling is None:
            return None
        return Scorer(
            job=self._job,
            model=self._model,
            each=self._each,
            device=self._device,
            history=self._history,
        )

    def _make_scheduler(self) -> Any:
        training = self._job.training
        if training.lr_scheduler is None:
            return None
        return scheduler_of(
            training.lr_scheduler,
            [optimizer.name for optimizer in training.optimizers],
            self._optimizers,
            batches=self._total,
            epochs=self._job.epochs,
        )

    def run(self, watch: Watch | None) -> StoredModel:
        for epoch, batches in enumerate(self._feed.epochs()):
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
            downsampled=self._downsampled(),
        )
        keep = self._job.training.use_previous_model
        return StoredModel(
            weights=weights_of(self._model),
            optimizer=optimizer_tensors(self._optimizers) if keep else {},
            facts=facts,
        )

    def _downsampled(self) -> Downsampled | None:
        if self._scorer is None:
            return None
        return Downsampled(scored=self._scorer.samples, trained=self._trained)

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
        self._trained += seen
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
            self._keep_pace(self._scheduler)
        every = self._job.training.record_loss_every
        if every and self._done % every == 0:
            self._losses.append((self._done, _finite(loss.item())))
        self._done += 1
        return loss.detach()

    def _loss(self, batch: Batch) -> "torch.Tensor":
        import torch

        output = call_model(self._model, batch, self._job.fields, self._device)
        labels = torch.as_tensor(batch.labels).to(self._device, non_blocking=True)
        output, labels = as_compared(output, labels, self._job.training.optimization_criterion.name)
        if self._observer is not None:
            self._observer.batch(batch, output.detach(), labels, self._each)
        factors = batch.factors if isinstance(batch, Picked) else None
        if batch.weights is None and factors is None:
            self._note(batch, output, labels, None)
            loss: torch.Tensor = self._criterion(output, labels)
            return loss
        losses = self._losses_of(output, labels)
        self._note(batch, output, labels, losses)
        return self._weighted(losses, batch.weights, factors)

    def _losses_of(self, output: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """Return the loss of each sample."""
        losses: torch.Tensor = self._each(output, labels).reshape(len(labels), -1).mean(dim=1)
        return losses

    def _note(
        self, batch: Batch, output: "torch.Tensor", labels: "torch.Tensor", losses: Any
    ) -> None:
        """Keep what a batch said, where a downsampler wants to know."""
        if self._history is None:
            return
        output = output.detach()
        if losses is None:
            losses = self._losses_of(output, labels)
        self._history.note(np.asarray(batch.keys), output, labels, losses)

    def _weighted(self, losses: "torch.Tensor", weights: Any, factors: Any) -> "torch.Tensor":
        """Return the loss of a batch of weighted samples."""
        import torch

        def placed(values: Any) -> torch.Tensor:
            return torch.as_tensor(values).to(losses.device, losses.dtype, non_blocking=True)

        own = None if weights is None else placed(weights)
        if factors is None:
            assert own is not None  # noqa: S101
            return (own * losses).sum() / own.sum().clamp_min(_TINY)
        scaled = placed(factors) if own is None else placed(factors) * own
        if self._job.downsampling is not None and self._job.downsampling.normalise:
            return (scaled * losses).sum() / scaled.sum().clamp_min(_TINY)
        below = len(losses) if own is None else own.sum().clamp_min(_TINY)
        return (scaled * losses).sum() / below

    def _keep_pace(self, scheduler: Any) -> None:
        """Step a scheduler to where the training is."""
        due = self._feed.due(self._done + 1)
        while self._paced < due:
            scheduler.step()
            self._paced += 1

    def _every(self, step: str) -> bool:
        scheduler = self._job.training.lr_scheduler
        return scheduler is not None and scheduler.step_every == step


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
