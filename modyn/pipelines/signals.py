"""Training signals as a training runs: measured beside the loop, handed on in chunks by a thread.

Nothing of it changes what is learned.  The loss that is minimised is computed as without it; what
a sample's own loss and gradient are is worked out from the output of the same forward pass, cut
off from its graph, and draws no random number.  So the content key of a model does not say whether
signals were recorded, and a model that is found in the store without them is trained again.

    gradient_norm  norm of the gradient of a sample's loss with respect to its row of the output;
                   with cross entropy that is || softmax(output) - onehot(label) ||

Rows stay on the device until there are CHUNK of them, and move as one block.  A thread takes the
chunks, counts forgetting, and gives them to a file or a database; DEPTH of them may wait, so that
memory is bounded, and the training waits when the writer is slower.

References
----------
Katharopoulos and Fleuret, Not All Samples Are Created Equal, ICML 2018 (arXiv 1803.00942): the
norm with respect to the last layer's output bounds that of the whole gradient.  Paul et al., Deep
Learning on a Data Diet, NeurIPS 2021 (arXiv 2107.07075): the same number as EL2N score; there it
is a mean over several initialisations.  Toneva et al., An Empirical Study of Example Forgetting,
ICLR 2019 (arXiv 1812.05159): forgetting events, from one presentation of a sample to its next.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.dataset import Dataset
from modyn.pipelines.jobs import Batch, Job, Observer
from modyn.pipelines.once import Once
from modyn.pipelines.picked import Picked
from modyn.pipelines.settings import BORDERS, NUMERIC, Training
from modyn.signals import (
    Recording,
    Rows,
    Signals,
    SignalStore,
    SignalWriter,
    no_signals,
    of_keys,
)
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    import torch

CHUNK = 65_536  # rows that go to the writer together
DEPTH = 4  # chunks that wait for it
WAIT_SECONDS = 0.05  # between two looks at whether the writer is well, and for Ctrl-C
CLASSES_MAX = 2**24  # predictions travel as float32


def measured(
    output: "torch.Tensor",
    labels: "torch.Tensor",
    each: "torch.nn.Module",
    names: Sequence[str],
    border: float | None,
) -> "torch.Tensor":
    """Return a row of float32 values for each of these names; for forgetting, whether right.

    Parameters
    ----------
    output : tensor, shape (n, classes) or (n,)
    labels : tensor, shape (n,)
    each : module
        The criterion, with a loss per sample.
    names : sequence of str
        Of `SIGNALS`.
    border : float or None
        What an output of class 1 is above, where there is one output.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    leaf = output.detach()
    if "gradient_norm" in names:
        leaf.requires_grad_()
        with torch.enable_grad():
            losses = each(leaf, labels)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        found["gradient_norm"] = gradient.reshape(len(labels), -1).norm(dim=1)
    elif "loss" in names:
        with torch.no_grad():
            losses = each(leaf, labels)
    leaf = leaf.detach()
    if "loss" in names:
        found["loss"] = losses.detach().reshape(len(labels), -1).mean(dim=1)
    if "prediction" in names or "forgetting" in names:
        found["prediction"], found["forgetting"] = _predicted(leaf, labels, border)
    return torch.stack([found[name].float() for name in names])


def _predicted(
    output: "torch.Tensor", labels: "torch.Tensor", border: float | None
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return predictions, and whether they are right; what is not a number is never right."""
    if output.ndim == 1:
        right = (output > (border or 0.0)) == (labels > 0.5)
        return output, right & (output == output)
    top, index = output.max(dim=1)
    return index, (index == labels) & (top == top)


class Forgetting:
    """Counts of forgetting events (arXiv 1812.05159), within one training.

    An event is a presentation at which a sample is wrong and was right the last time.  Four bytes
    per sample: -1 until it was right once, then twice the count, plus 1 while it is right.

    Parameters
    ----------
    keys : uint64, ascending
        The training set.

    Examples
    --------
    >>> keys = np.array([3, 5], dtype=np.uint64)
    >>> forgetting = Forgetting(keys)
    >>> for right in ([True, False], [False, False], [True, True], [False, True]):
    ...     print(forgetting.counts(keys, np.array(right)).tolist())
    [0, 2147483647]
    [1, 2147483647]
    [1, 0]
    [2, 0]
    """

    def __init__(self, keys: npt.NDArray[np.uint64]) -> None:
        self._keys = keys
        self._range = len(keys) > 0 and int(keys[-1] - keys[0]) + 1 == len(keys)
        self._state = np.full(len(keys), -1, dtype=np.int32)

    def counts(
        self, keys: npt.NDArray[np.uint64], right: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int32]:
        """Return the counts of these samples, each of which comes once, after a presentation."""
        rows = keys - self._keys[0] if self._range else np.searchsorted(self._keys, keys)
        before = self._state[rows]
        learned = before >= 0
        count = np.where(learned, before >> 1, 0) + (learned & (before & 1 == 1) & ~right)
        known = learned | right
        self._state[rows] = np.where(known, count << 1 | right, -1)
        return np.where(known, count, np.iinfo(np.int32).max).astype(np.int32)


class Counting:
    """A writer before another one: turns what was right into counts of forgetting."""

    def __init__(self, writer: SignalWriter, keys: npt.NDArray[np.uint64]) -> None:
        self._writer = writer
        self._forgetting = Forgetting(keys)

    def put(self, rows: Rows, /) -> None:
        """Count, epoch by epoch: in each, a sample comes once."""
        right = rows.columns["forgetting"]
        counts = np.empty(len(rows), dtype=np.int32)
        starts = [0, *(np.flatnonzero(rows.epoch[1:] != rows.epoch[:-1]) + 1).tolist()]
        for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
            part = slice(first, last)
            counts[part] = self._forgetting.counts(rows.keys[part], right[part])
        self._writer.put(Rows(rows.keys, rows.epoch, {**rows.columns, "forgetting": counts}))

    def commit(self) -> None:
        """Commit what was put."""
        self._writer.commit()

    def abort(self) -> None:
        """Forget what was put."""
        self._writer.abort()

    def cancel(self) -> None:
        """End a `put` that another thread is at."""
        self._writer.cancel()


class HandOff:
    """A thread that gives chunks to a writer, in order, while the training goes on.

    What the writer raises is raised by the next `put`, or by `finish`.  Waits are short ones, so
    that Ctrl-C is heard.  After `stop` the thread ends, and a wait for a server with it.
    """

    def __init__(self, writer: SignalWriter) -> None:
        self._writer = writer
        self._queue: queue.Queue[Rows | None] = queue.Queue(DEPTH)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="modyn-signals", daemon=True)
        self._thread.start()

    def put(self, rows: Rows) -> None:
        """Hand over a chunk, when there is room."""
        self._hand(rows)

    def finish(self) -> None:
        """Wait until all chunks are written, and raise what went wrong."""
        self._hand(None)
        while self._thread.is_alive():
            self._thread.join(WAIT_SECONDS)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Let the thread end now."""
        self._stopped.set()
        self._writer.cancel()
        self._thread.join()

    def _hand(self, rows: Rows | None) -> None:
        while self._error is None:
            try:
                self._queue.put(rows, timeout=WAIT_SECONDS)
            except queue.Full:
                continue
            return
        raise self._error

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    rows = self._queue.get(timeout=WAIT_SECONDS)
                except queue.Empty:
                    continue
                if rows is None:
                    return
                self._writer.put(rows)
        except BaseException as error:
            self._error = error


class Recorder:
    """What looks on while a model is trained, and hands on what it saw.

    Parameters
    ----------
    names : tuple of str
        Of `SIGNALS`.
    hand : callable
        Takes the rows, a chunk at a time.
    border : float, optional
        As in `measured`.
    samples : int, optional
        Where a training passes so many samples instead of whole epochs: those of one epoch.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        hand: Callable[[Rows], None],
        *,
        border: float | None = None,
        samples: int | None = None,
    ) -> None:
        self._names = names
        self._hand = hand
        self._border = border
        self._samples = samples
        self._epoch = 0
        self._passed = 0
        self._keys: list[npt.NDArray[np.uint64]] = []
        self._epochs: list[npt.NDArray[np.int32]] = []
        self._values: list[torch.Tensor] = []
        self._waiting = 0

    def epoch(self, index: int) -> None:
        """Remember which epoch begins."""
        self._epoch = index

    def batch(
        self,
        batch: Batch,
        output: "torch.Tensor",
        labels: "torch.Tensor",
        each: "torch.nn.Module",
    ) -> None:
        """Measure a batch; what belongs to the loader's memory is copied."""
        count = len(batch)
        if output.ndim == 2 and output.shape[1] > CLASSES_MAX:
            raise ValueError(f"signals know {CLASSES_MAX} classes, the model has {output.shape[1]}")
        self._values.append(measured(output, labels, each, self._names, self._border))
        self._keys.append(np.asarray(batch.keys).astype(np.uint64))
        self._epochs.append(batch.epochs if isinstance(batch, Picked) else self._epochs_of(count))
        self._passed += count
        self._waiting += count
        if self._waiting >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand on what waits."""
        import torch

        if self._waiting == 0:
            return
        values = torch.cat(self._values, dim=1).cpu().numpy()
        columns = dict(zip(self._names, values, strict=True))
        if "prediction" in columns and self._border is None:
            columns["prediction"] = columns["prediction"].astype(np.int32)
        if "forgetting" in columns:
            columns["forgetting"] = columns["forgetting"] > 0
        self._hand(Rows(np.concatenate(self._keys), np.concatenate(self._epochs), columns))
        self._keys, self._epochs, self._values, self._waiting = [], [], [], 0

    def _epochs_of(self, count: int) -> npt.NDArray[np.int32]:
        if self._samples is None:
            return np.full(count, self._epoch, dtype=np.int32)
        positions = np.arange(self._passed, self._passed + count)
        return (positions // self._samples).astype(np.int32)


class RunSignals:
    """The signals of a run: recorded for one training after the other, and read by policies.

    Parameters
    ----------
    store : SignalStore
        Where they lie.
    training : Training
        Which are recorded.
    dataset : Dataset
        The samples; rows of those that are erased are shown to nobody.
    """

    def __init__(
        self,
        store: SignalStore,
        training: Training,
        dataset: Dataset,
    ) -> None:
        self._store = store
        self._dataset = dataset
        self._criterion = training.optimization_criterion.name
        self._triggers: list[int] = []
        self._last: tuple[int, tuple[str, ...], int, Signals] | None = None
        self.names = training.signals

    def trained(self, trigger: int, model: str | None) -> None:
        """Note that a trigger's training is over; without a model there was none."""
        if model is not None and trigger > max(self._triggers[-1:], default=-1):
            self._triggers.append(trigger)

    def ready(self, trigger: int, model: str) -> bool:
        """Return whether nothing is left to record of a training."""
        return not self.names or self._store.ready(trigger, model)

    def sweep(self) -> None:
        """Remove the rows of samples that were erased since they were written."""
        if not self.names:
            return
        self._store.clean()
        with Dataset.open(self._dataset.path) as latest:
            if latest.view.erased_count > 0:
                self._store.erase(latest.erased)

    @contextmanager
    def recording(
        self, trigger: int, model: str, chosen: TrainingSet, job: Job
    ) -> Iterator[Observer | None]:
        """Record the training that the block does; its rows are there when the block is over.

        When it fails, there are none.  A sample that a downsampler picked several times in an
        epoch has one row of it, of the first time.
        """
        if not self.names:
            yield None
            return
        numeric = self._criterion in NUMERIC
        what = Recording(
            trigger=trigger,
            model=model,
            names=self.names,
            classes=not numeric,
            erased=self._dataset.view.erased_count,
        )
        writer = self._store.begin(what)
        if "forgetting" in self.names:
            writer = Counting(writer, chosen.keys)
        if job.downsampling is not None:
            writer = Once(writer, chosen.keys)
        thread = HandOff(writer)
        border = BORDERS.get(self._criterion, 0.0) if numeric else None
        counted = job.to_pass is not None and job.downsampling is None
        samples = len(chosen) if counted else None
        recorder = Recorder(self.names, thread.put, border=border, samples=samples)
        try:
            yield recorder
            recorder.flush()
            thread.finish()
            writer.commit()
            self.sweep()  # what was erased meanwhile
        except BaseException:
            thread.stop()
            writer.abort()
            raise
        self._last = None

    # What policies read -------------------------------------------------------------------------

    def triggers(self) -> Sequence[int]:
        """Return the triggers that were trained, ascending."""
        return self._triggers

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Return the signals of one of them, without samples that are erased."""
        view = self._dataset.view
        wanted = self.names if names is None else tuple(names)
        asked = trigger, wanted, view.erased_count
        if self._last is not None and self._last[:3] == asked:
            return self._last[3]
        self._last = None  # before the next one comes into memory
        found = self._store.read(trigger, wanted)
        if view.erased_count > 0:
            found = found.where(~of_keys(self._dataset.erased, found.keys))
        self._last = *asked, found
        return found

    def nothing(self) -> Signals:
        """Return signals without rows."""
        return no_signals(self.names, classes=self._criterion not in NUMERIC)
