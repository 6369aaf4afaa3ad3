"""Which samples come in which order, so many to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy.typing as npt

from modyn import _core
from modyn.loader.ahead import Source
from modyn.loader.arguments import (
    ENDLESS,
    as_number,
    bucket_field,
    field_indices,
    field_names,
    pass_rows,
    rank_of,
    read_samples,
)
from modyn.loader.batch import Parts
from modyn.loader.batches import Batches, Filled
from modyn.loader.decode import Collate, Decode, Decoding
from modyn.loader.staging import Chosen, Staging, chosen, memory_of, resident_view
from modyn.loader.waits import Tally, Waits

if TYPE_CHECKING:
    from modyn.dataset import Dataset
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
        processes is filled up with the first samples of the pass.
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
        loader and its batches under way are gone.
    memory_budget : int, optional
        Bytes of the resident copy, and of what was read ahead and is not used
        yet, never more; by default half of what is available when the loader is
        made.

    Raises
    ------
    KeyError
        While iterating, in place of the batch with a key that the dataset has
        not got, and after all batches before it.
    modyn.errors.CorruptError
        Likewise, for a sample whose stored bytes are damaged.
    modyn.errors.ClosedError
        In a forked child: threads and mappings belong to the process that made
        them.  Open the dataset and make a loader there.

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
    ) -> None:
        if shuffle is not False and shuffle not in ("global", "partition"):
            raise ValueError(f'shuffle must be "global", "partition" or False, got {shuffle!r}')
        view = dataset if isinstance(dataset, _core.View) else dataset.view
        names = field_names(view)
        keys, weights = read_samples(samples, weights)
        self._threads = as_number("threads", threads, 1, THREADS_MAX)
        self._prefetch = as_number("prefetch", prefetch, 1, PREFETCH_MAX)
        self._rank, self._world_size = rank_of(rank, world_size)
        self._pass_rows = pass_rows(num_samples_to_pass)
        window = as_number("bucket_batches", bucket_batches, 1, 2**32)
        if partition_size is not None:
            partition_size = as_number("partition_size", partition_size, 1, 2**63 - 1)
        budget = memory_of(memory_budget)
        self._staging = Staging.of(num_prefetched_partitions, parallel_prefetch_requests, budget)
        view, taken = resident_view(view, keys, resident, budget=budget, threads=self._threads)
        self._staging = replace(self._staging, budget=budget - taken)
        self.set_epoch(epoch)
        self._core = _core.Loader(
            view,
            keys,
            weights,
            fields=field_indices(fields, names),
            batch_size=as_number("batch_size", batch_size, 1, 2**63 - 1),
            drop_last=bool(drop_last),
            shuffle=shuffle or "",
            seed=as_number("seed", seed, 0, 2**64 - 1),
            pass_rows=self._pass_rows,
            partition_size=partition_size or 0,
            bucket_batches=0 if bucket_by is None else window,
            bucket_field=0 if bucket_by is None else bucket_field(bucket_by, view),
            rank=self._rank,
            world_size=self._world_size,
        )
        self._parts = Parts.of(self._core, names)
        self._decoding = Decoding.of(
            decode, decode_workers, decode_processes, collate, tuple(self._parts.fields)
        )
        self._tally = Tally()

    def __len__(self) -> int:
        """Return how many batches a pass has; TypeError if it never ends."""
        return len(self._core)

    @property
    def partition_size(self) -> int:
        """Samples of a partition: what was given or follows from the schema."""
        return self._core.partition_size

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration runs."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration run this epoch; the one under way goes on."""
        self._epoch = as_number("epoch", epoch, 0, 2**64 - 1)

    @property
    def chosen(self) -> Chosen | None:
        """What the pass that began last reads ahead, and why; None before the first."""
        return chosen(self._core)

    @property
    def waits(self) -> Waits:
        """What all iterations delivered so far, and who waited for whom."""
        return self._tally.total()

    def __iter__(self) -> Batches:
        return self.batches()

    def batches(self, first: int = 0, stride: int = 1) -> Batches:
        """Return batches `first`, `first` + `stride`, ... of the pass.

        An interrupted pass goes on at its next batch without reading those before
        it.  With stride n and first 0 to n - 1, n iterations share a pass; one
        that would begin beyond its last batch is empty.
        """
        stride = as_number("stride", stride, 1, 2**63 - 1)
        beyond = 2**63 - 1 if self._pass_rows == ENDLESS else len(self) + stride - 1
        first = as_number("first", first, 0, beyond)
        core = self._core.begin(
            epoch=self._epoch,
            first=first,
            threads=self._threads,
            depth=self._prefetch,
            stride=stride,
            partitions=self._staging.partitions,
            requests=self._staging.requests,
            budget=self._staging.budget,
        )
        stage = self._stages(Filled(core, self._parts), first, stride)
        return Batches(stage, core, self._tally)

    def _stages(self, filled: Filled, first: int, stride: int) -> Source:
        """Return the last of the stages that batches pass on their way to the loop."""
        stage: Source = filled
        if self._decoding is not None:
            stage = self._decoding.begin(stage, depth=self._prefetch, first=first, stride=stride)
        return stage
