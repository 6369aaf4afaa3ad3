"""Which samples come in which order, so many to a batch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from modyn import _core
from modyn.loader import state as states
from modyn.loader.arguments import (
    ENDLESS,
    as_number,
    bucket_field,
    field_indices,
    field_names,
    pass_rows,
    read_samples,
)
from modyn.loader.batches import Batches
from modyn.loader.decode import Collate, Decode
from modyn.loader.device import check_device
from modyn.loader.process import Memory, Process, Stages
from modyn.loader.ranks import rank_and_world_size
from modyn.loader.source import Source
from modyn.loader.staging import Chosen, Resident, Staging, chosen
from modyn.loader.waits import Waits

if TYPE_CHECKING:
    import torch

    from modyn.dataset import Dataset
    from modyn.loader.torch_dataset import LoaderDataset
    from modyn.trainset import TrainingSet

__all__ = ["Loader"]

THREADS_MAX = 1024
PREFETCH_MAX = 4096


class Loader:
    """Chosen samples of a dataset, in batches, for a training loop.

    ``for batch in loader`` runs the epoch `epoch`; `set_epoch` chooses another.
    The order of the samples depends on them, on how they are shuffled and
    bucketed, and on (seed, epoch); threads and prefetch change the speed only.

    Parameters
    ----------
    dataset : Dataset or its view
        What it shows now is what the loader reads, also when it grows later.
    samples : TrainingSet, or integers of shape (n,)
        Keys, in the order in which they are to come; repeats are allowed.  A
        training set is read where it is mapped, anything else is copied.
    batch_size : int
        Samples per batch, at least 1, of all ranks together; the last batch of a
        pass may have fewer.
    fields : sequence of str, optional
        Which fields a batch has, in which order; by default all of them.
    shuffle : "global", "partition" or False
        "global": the samples of an epoch come in an order drawn from all of them
        by a keyed permutation, a new one each epoch.  "partition": contiguous
        partitions of the samples come in an order drawn for the epoch, and so do
        the samples inside each; what lies near each other is read together.
    seed, epoch : int
        Choose the permutations; 0 to 2**64 - 1.
    threads : int
        Workers that fill batches, at least 1.
    drop_last : bool
        Leave out a last batch of fewer samples.
    prefetch : int
        Batches filled or being filled ahead of the loop, at least 1.
    weights : float64, shape (n,), optional
        Travel with their samples; a training set brings its own.
    num_samples_to_pass : int or math.inf, optional
        How many samples a pass has: those of epochs `epoch`, `epoch` + 1, ... one
        after the other, so that a batch may have samples of two epochs.
        math.inf: it never ends, and has no `len`.  By default a pass is one
        epoch.
    partition_size : int, optional
        Samples of a partition; the last may have fewer.  By default the power of
        two whose records take 64 MiB, or else the next below it, where a payload
        counts as 4 KiB: it follows from the schema alone.
    bucket_by : str, optional
        A field of bytes.  The samples of `bucket_batches` batches are sorted by
        its length before they are cut into batches, so that a batch holds
        payloads of like length; with `shuffle` these batches then come in an
        order drawn anew.  A bad key is then an error of the first of them.
    bucket_batches : int
        See `bucket_by`; at least 1.
    rank, world_size : int, optional
        This is process `rank` of `world_size`, which share each batch equally: it
        is the same samples for every world size, which must divide `batch_size`.
        All have the same number of batches: a last one with fewer samples than
        processes is filled up with the first samples of the pass.  By default
        those of torch.distributed, if it is initialised when the loader is made,
        and otherwise 0 of 1.
    num_prefetched_partitions : int or "auto"
        Partitions, in the order of the pass, whose samples are read from disk
        ahead of the one in use; 0: none.  "auto": none when they are in memory;
        else as many as take half a second to be read, at most 8.
    parallel_prefetch_requests : int or "auto"
        Reads under way at a time, 1 to 1024.  "auto": 8, 32 and 128 take turns at
        the first partitions, for two seconds at most, and the fewest that come
        close to the best are kept.  `chosen` says what was found.
    resident : "hugepages", optional
        Copy the records from the smallest to the largest key into huge pages,
        when the loader is made; they are verified there, and stay until the
        loader and its iterations are gone.
    memory_budget : int, optional
        Bytes for all of this: the resident copy; half of what is left beside
        `prefetch` batches for what was read ahead and is not used yet (without a
        budget, half of the memory that the system can give); and batches, filled
        or being filled, until the loop takes them.  Fewer than `prefetch` are
        ahead when they do not fit.  Payloads count as well: a batch that is
        larger than all of it comes alone.
    decode : dict of functions by field, or function, optional
        By field: called with each sample of the field, a memoryview of its bytes
        or an array.  What it returns takes the place of the field: one tensor
        where all samples of a batch give arrays or tensors that are alike, else
        a list.  A function: called with each `Batch`; returns a mapping of names
        to values, which replace fields or are added.
    decode_workers : int
        Threads that call them, several at the same time, ahead of the loop: at
        most `prefetch` batches.
    decode_processes : bool
        Call them in as many processes instead, for functions that hold the
        interpreter's lock.  They must be importable there.
    collate : function of a batch, optional
        Called last, by the same threads; the loop gets what it returns.
    device : str or torch.device, optional
        "cuda" or "cuda:N": batches are in pinned memory, and copied there ahead
        of the loop.  "cpu" is as None.

    Raises
    ------
    ValueError
        Also when `memory_budget` cannot hold one batch; gives both numbers.
    KeyError
        While iterating, in place of the batch with a key that the dataset has
        not got, and after all batches before it.
    modyn.errors.CorruptError
        Likewise, for a sample whose stored bytes are damaged.
    modyn.errors.BatchError
        Likewise, where `decode` or `collate` raised: names batch, key and field,
        and has what was raised as its cause.
    modyn.errors.ClosedError
        From an iterator that was begun before a fork, in the child: its threads
        belong to the process that made them.  The loader itself begins new ones
        there.

    Notes
    -----
    A loader can be pickled.  What another process gets opens the dataset, and
    the training set, by their paths when it first needs them; keys that are no
    training set travel along.  Iterations do not travel.

    Examples
    --------
    >>> import numpy as np, tempfile, modyn
    >>> folder = tempfile.TemporaryDirectory()
    >>> schema = {"x": "float32[2]"}
    >>> clicks = modyn.Dataset.create(folder.name + "/clicks", schema=schema)
    >>> x = np.arange(10, dtype=np.float32).reshape(5, 2)
    >>> keys = clicks.append({"x": x}, labels=[0, 1, 0, 1, 1], timestamps=range(5))
    >>> loader = modyn.Loader(clicks, [4, 0, 2], batch_size=2)
    >>> [batch.numpy("x").tolist() for batch in loader]
    [[[8.0, 9.0], [0.0, 1.0]], [[4.0, 5.0]]]
    >>> [batch.numpy("labels").tolist() for batch in loader]
    [[1, 0], [0]]
    >>> clicks.close(); folder.cleanup()
    """

    def __init__(
        self,
        dataset: Dataset | _core.View,
        samples: TrainingSet | npt.ArrayLike,
        *,
        batch_size: int,
        fields: Sequence[str] | None = None,
        shuffle: Literal["global", "partition", False] = False,
        seed: int = 0,
        epoch: int = 0,
        threads: int = 2,
        drop_last: bool = False,
        prefetch: int = 4,
        weights: npt.ArrayLike | None = None,
        num_samples_to_pass: float | None = None,
        partition_size: int | None = None,
        bucket_by: str | None = None,
        bucket_batches: int = 64,
        rank: int | None = None,
        world_size: int | None = None,
        num_prefetched_partitions: int | Literal["auto"] = "auto",
        parallel_prefetch_requests: int | Literal["auto"] = "auto",
        resident: Literal["hugepages"] | None = None,
        memory_budget: int | None = None,
        decode: Decode | None = None,
        decode_workers: int = 2,
        decode_processes: bool = False,
        collate: Collate | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if shuffle is not False and shuffle not in ("global", "partition"):
            raise ValueError(f'shuffle must be "global", "partition" or False, got {shuffle!r}')
        view = dataset if isinstance(dataset, _core.View) else dataset.view
        self._source = Source(view)
        self._samples = read_samples(samples, weights)
        self._threads = as_number("threads", threads, 1, THREADS_MAX)
        self._prefetch = as_number("prefetch", prefetch, 1, PREFETCH_MAX)
        self._cursor = states.Cursor(as_number("epoch", epoch, 0, 2**64 - 1))
        self._rank, self._world_size = rank_and_world_size(rank, world_size)
        self._pass_rows = pass_rows(num_samples_to_pass)
        window = as_number("bucket_batches", bucket_batches, 1, 2**32)
        if partition_size is not None:
            partition_size = as_number("partition_size", partition_size, 1, 2**63 - 1)
        self._options: dict[str, Any] = {
            "fields": field_indices(fields, field_names(view)),
            "batch_size": as_number("batch_size", batch_size, 1, 2**63 - 1),
            "drop_last": bool(drop_last),
            "shuffle": shuffle or "",
            "seed": as_number("seed", seed, 0, 2**64 - 1),
            "pass_rows": self._pass_rows,
            "partition_size": partition_size or 0,
            "bucket_batches": 0 if bucket_by is None else window,
            "bucket_field": 0 if bucket_by is None else bucket_field(bucket_by, view),
            "rank": self._rank,
            "world_size": self._world_size,
        }
        self._bucket_by = bucket_by
        self._stages = Stages(
            decode=dict(decode) if isinstance(decode, Mapping) else decode,
            decode_workers=decode_workers,
            decode_processes=decode_processes,
            collate=collate,
            device=check_device(device),
        )
        self._ahead = Staging.of(
            num_prefetched_partitions, parallel_prefetch_requests, self._prefetch
        )
        self._resident = Resident.of(resident, self._threads)
        self._memory_budget = memory_budget
        self._process: Process | None = self._new_process()

    def __len__(self) -> int:
        """Return how many batches a pass has; TypeError if it never ends."""
        return len(self._ours().core)

    @property
    def partition_size(self) -> int:
        """Samples of a partition: what was given or follows from the schema."""
        return self._ours().core.partition_size

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration runs."""
        return self._cursor.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration run this epoch; the one under way goes on.

        An epoch that was loaded with `load_state_dict` goes on where it was; any
        other begins at its first batch.
        """
        self._cursor.set_epoch(as_number("epoch", epoch, 0, 2**64 - 1))

    @property
    def chosen(self) -> Chosen | None:
        """What the pass that began last reads ahead, and why; None before the first."""
        return chosen(self._ours().core)

    @property
    def waits(self) -> Waits:
        """What all iterations delivered so far, and who waited for whom."""
        return self._ours().tally.total()

    def __iter__(self) -> Batches:
        return self._begin(self._cursor.next_first())

    def batches(self, first: int = 0, stride: int = 1) -> Batches:
        """Return batches `first`, `first` + `stride`, ... of the pass.

        An interrupted pass goes on at its next batch without reading those before
        it.  With stride n and first 0 to n - 1, n iterations share a pass; one
        that would begin beyond its last batch is empty.
        """
        stride = as_number("stride", stride, 1, 2**63 - 1)
        first = as_number("first", first, 0, min(self._batch_count() + stride - 1, 2**63 - 1))
        return self._begin(first, stride)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration begun last is, as JSON values.

        What counts is what the loop was given, not what is prefetched.  Before
        any iteration, and after `set_epoch` of another epoch, it is the first
        batch of the epoch.
        """
        progress = self._cursor.progress
        return states.describe(self._plan(), progress.epoch, *progress.place)

    def state_at(self, batch: int) -> dict[str, Any]:
        """Return the state of this epoch after this many batches.

        For loops that know better than the loader what they were given: those
        that take batches from a queue, or from the workers of a DataLoader.
        """
        number = as_number("batch", batch, 0, self._batch_count())
        return states.describe(self._plan(), self._cursor.progress.epoch, number, False)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where the state was taken.

        That takes no time: nothing is read that is not delivered.  Threads,
        prefetch and world size may be others than they were.  Iterators that were
        begun before go on, and are no longer what `state_dict` is about.

        Parameters
        ----------
        state : dict
            What `state_dict` or `state_at` of a loader with the same samples in the
            same order returned.  Taken after a complete iteration it leaves the next
            one to begin at the first batch, of the same epoch unless `set_epoch`
            names another.

        Raises
        ------
        ValueError
            The batches of this loader are others than those of the one that gave
            the state: the message has the setting and both values.

        Examples
        --------
        >>> import modyn, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> data = modyn.Dataset.create(folder.name + "/d", schema={"x": "int8"}, labels=False)
        >>> keys = data.append({"x": range(6)}, timestamps=range(6))
        >>> loader = modyn.Loader(data, keys, batch_size=2)
        >>> first = next(iter(loader))
        >>> state = loader.state_dict()
        >>> again = modyn.Loader(data, keys, batch_size=2, threads=1)
        >>> again.load_state_dict(state)
        >>> [batch.numpy("x").tolist() for batch in again]
        [[2, 3], [4, 5]]
        >>> data.close(); folder.cleanup()
        """
        states.check_plan(state, self._plan())
        self._cursor.load(*states.read_place(state, self._batch_count()))

    def torch_dataset(self) -> LoaderDataset:
        """Return this loader as a dataset for torch's DataLoader, for code that wants one.

        ``DataLoader(loader.torch_dataset(), batch_size=None, num_workers=4)`` gives the
        batches of the loader, in its order, as dictionaries of tensors; with any
        number of workers and any way to start them.  `set_epoch` and
        `load_state_dict`, of the loader or of the dataset, are for the iteration
        that begins next, also with ``persistent_workers=True``.

        Only the loop knows how many batches it was given by workers: save
        ``loader.state_at(count)``.  After such a state was loaded, call `set_epoch`
        before each iteration.

        Examples
        --------
        >>> import modyn, tempfile
        >>> from torch.utils.data import DataLoader
        >>> folder = tempfile.TemporaryDirectory()
        >>> data = modyn.Dataset.create(folder.name + "/d", schema={"x": "int8"}, labels=False)
        >>> keys = data.append({"x": range(3)}, timestamps=range(3))
        >>> loader = modyn.Loader(data, keys, batch_size=2)
        >>> [item["x"].tolist() for item in DataLoader(loader.torch_dataset(), batch_size=None)]
        [[0, 1], [2]]
        >>> data.close(); folder.cleanup()
        """
        try:
            from modyn.loader.torch_dataset import Board, LoaderDataset
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "torch is needed for its DataLoader (pip install 'modyn[torch]'); "
                "the loader itself needs none",
                name="torch",
            ) from error
        if not self._cursor.is_shared:
            self._cursor.share(Board())
        return LoaderDataset(self)

    def _share(self, worker: int, workers: int, user: int) -> Batches:
        """Return the batches of one of these workers of a DataLoader, in its process.

        They stay in main memory: a device is for the process that trains.
        """
        first = self._cursor.begin_share(user) + worker
        return self._begin(first, stride=workers, on_device=False)

    # ----- of one process -----

    def _ours(self) -> Process:
        """Return what this process reads with: made anew in a fork, and when unpickled."""
        if self._process is None or self._process.pid != os.getpid():
            self._process = self._new_process()
        return self._process

    def _new_process(self) -> Process:
        return Process(
            self._source,
            self._samples,
            self._options,
            self._stages,
            Memory(self._ahead, self._resident, self._memory_budget),
        )

    def _begin(self, first: int, stride: int = 1, *, on_device: bool = True) -> Batches:
        progress = states.Progress(self._cursor.epoch, first)
        batches = self._ours().begin(
            progress, stride, threads=self._threads, depth=self._prefetch, on_device=on_device
        )
        if stride == 1:  # otherwise it is no place in the pass
            self._cursor.follow(progress)
        return batches

    def _batch_count(self) -> int:
        """Return beyond which number no batch is."""
        return 2**63 - 1 if self._pass_rows == ENDLESS else len(self)

    def _plan(self) -> dict[str, Any]:
        """Return what decides which samples are in which batch of all ranks."""
        options = self._options
        rows: int | str | None = self._pass_rows or None
        return {
            "dataset": self._source.uuid,
            "count": self._samples.count,
            "samples": self._samples.fingerprint(),
            "shuffle": options["shuffle"] or False,
            "seed": options["seed"],
            "partition_size": self.partition_size if options["shuffle"] == "partition" else None,
            "batch_size": options["batch_size"],
            "drop_last": options["drop_last"],
            "num_samples_to_pass": "endless" if rows == ENDLESS else rows,
            "bucket_by": self._bucket_by,
            "bucket_batches": options["bucket_batches"] if self._bucket_by else None,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}
