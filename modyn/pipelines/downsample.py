"""The batches that are trained on where a downsampler decides: between the loader and the loop.

    batch-then-sample   (1) the next batch comes; (2) the model of the moment looks at it, in eval
                        mode; (3) the share that is chosen is put to what waits; (4) as soon as a
                        batch is full it is trained on, and the surplus waits on, also from one
                        epoch to the next; (5) what waits at the end is a last, smaller batch,
                        unless drop_last_batch says otherwise
    sample-then-batch   at every `period`-th epoch (1) the model looks at the whole training set,
                        or at nothing where no sample has to be looked at; (2) the share is chosen,
                        of all at once, of each class, or of each block of `pool_samples`;
                        (3) that is trained on, shuffled anew in each epoch

A batch that is kept whole while nothing waits is trained on as it is, so that a share of 100
percent is plain training.

The forward pass of (1) and (2) is not trained on.  What it kept for a backward pass belongs to all
of the batch, and torch can go back through all of it or none.  Where a backward pass costs twice a
forward pass, that is more than a second forward pass of what is kept for every share below two
thirds: seen on an MLP and on a small convolutional network, batches took 1.65 and 1.36 times as
long at 12.5 percent, 1.36 and 1.07 at 50, and 0.86 and 0.72 at 75.  Dropout, batch normalisation
and a surplus that waits for the next step forbid it besides.  What training itself says of its
samples is used where a method goes by that: `history` takes no forward pass of its own.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from modyn.downsampling import Chosen, Context, Downsampler
from modyn.downsampling.answers import chosen, scored
from modyn.downsampling.base import WIDE, has_score
from modyn.downsampling.pool import ArrayPool
from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.feed import Feed, Whole
from modyn.pipelines.jobs import Batch, Batches, Job, Samples
from modyn.pipelines.picked import Gathering
from modyn.pipelines.proxies import mean_scores, wants_proxies
from modyn.pipelines.scoring import Scorer

if TYPE_CHECKING:
    import torch

__all__ = ["BatchThenSample", "SampleThenBatch", "feed_of"]


def feed_of(job: Job, clock: Stopwatch, scorer: Scorer | None) -> Feed:
    """Return what gives a training its batches; a scorer is there where there is downsampling."""
    if job.downsampling is None or scorer is None:
        return Whole(job, clock)
    kind = SampleThenBatch if job.downsampling.sample_then_batch else BatchThenSample
    return kind(job, clock, scorer, copy.deepcopy(job.downsampling))


class BatchThenSample:
    """A share of each batch, collected until it fills one."""

    def __init__(
        self, job: Job, clock: Stopwatch, scorer: Scorer, downsampler: Downsampler
    ) -> None:
        self._job = job
        self._clock = clock
        self._scorer = scorer
        self._downsampler = downsampler
        self._whole = Whole(job, clock)
        self._gathering = Gathering(job.training.batch_size)
        self._trained = False

    @property
    def total(self) -> int:
        """How many batches will be trained on."""
        whole, size = self._whole, self._job.training.batch_size
        if self._downsampler.ratio == self._downsampler.ratio_max:
            return whole.total
        kept = sum(self._downsampler.share(length) for length in whole.lengths())
        kept *= self._job.rounds
        return max(kept // size, 1) if self._job.training.drop_last_batch else -(-kept // size)

    def due(self, done: int) -> int:
        """Return `done`."""
        return done

    def epochs(self) -> Iterator[Iterator[Batch]]:
        """Yield the batches of each epoch."""
        for epoch, batches in enumerate(self._whole.epochs()):
            yield self._epoch(epoch, batches)

    def _epoch(self, epoch: int, batches: Iterator[Batch]) -> Iterator[Batch]:
        for step, batch in enumerate(batches):
            context = _context(self._job, epoch, step)
            for full in self._clock.through("score", self._kept(batch, context)):
                self._trained = True
                yield full
        if epoch == self._job.epochs - 1:
            if self._trained and self._job.training.drop_last_batch:
                return
            last = self._gathering.flush()
            if last is not None:
                yield last

    def _kept(self, batch: Batch, context: Context) -> Iterator[Batch]:
        """Yield the batches that this one fills up, if any."""
        d = self._downsampler
        placed = self._scorer.placed(batch, context.epoch)
        with self._scorer.session():
            pool = self._scorer.pool(placed)
            if has_score(d):
                pool = pool.scored(scored(d, d.score(pool), len(pool)))
            picked = choose(d, pool, d.share(len(batch)), context)
        rows = picked.rows
        whole = len(rows) == len(batch) and np.array_equal(rows, np.arange(len(batch)))
        if whole and self._gathering.waiting == 0 and d.ratio == d.ratio_max:
            yield replace(placed, factors=picked.weights)
        else:
            yield from self._gathering.add(placed, rows, picked.weights)


class SampleThenBatch:
    """A share of the whole training set, chosen every so many epochs."""

    def __init__(
        self, job: Job, clock: Stopwatch, scorer: Scorer, downsampler: Downsampler
    ) -> None:
        if job.pool is None:
            raise ValueError("sample_then_batch needs the samples of the training set: Job.pool")
        if job.to_pass is not None:
            raise ValueError("sample_then_batch trains whole epochs; num_samples_to_pass is given")
        self._job = job
        self._clock = clock
        self._scorer = scorer
        self._downsampler = downsampler
        self._samples: Samples = job.pool
        self._batches: Batches
        self._epochs_done = 0
        self._given = 0  # batches, in these epochs
        self._groups = _groups(downsampler, job.pool)

    @property
    def total(self) -> int:
        """How many batches will be trained on; at most so many where choices are not exact."""
        training = self._job.training
        kept = sum(self._downsampler.share(len(rows)) for rows in self._groups)
        if not self._downsampler.exact:
            kept = len(self._samples.keys)
        size = training.batch_size
        full = training.drop_last_batch and kept >= size
        return (kept // size if full else -(-kept // size)) * self._job.epochs

    def due(self, done: int) -> int:
        """Return how far along in `total` a training is: evenly through each epoch."""
        full = self.total // self._job.epochs
        return self._epochs_done * full + (done - self._given) * full // len(self._batches)

    def epochs(self) -> Iterator[Iterator[Batch]]:
        """Yield the batches of each epoch."""
        for epoch in range(self._job.epochs):
            yield self._epoch(epoch)
            self._epochs_done, self._given = epoch + 1, self._given + len(self._batches)

    def _epoch(self, epoch: int) -> Iterator[Batch]:
        period = self._downsampler.period
        if epoch == 0 or (period > 0 and epoch % period == 0):
            with self._clock.stage("score"), self._scorer.session():
                picked = self._choose(epoch)
            keys = self._samples.keys[picked.rows]
            self._batches = self._samples.to_train(keys, picked.weights)
        self._batches.set_epoch(epoch)
        for batch in self._clock.through("load", self._batches):
            yield self._weighed(batch, epoch)

    def _weighed(self, batch: Batch, epoch: int) -> Batch:
        """Return a batch whose weights are the factors of the downsampler."""
        weights = self._samples.weights
        if batch.weights is None and weights is None:
            return batch
        placed = self._scorer.placed(batch, epoch)
        own = None if weights is None else weights[np.searchsorted(self._samples.keys, placed.keys)]
        return replace(placed, weights=own, factors=placed.weights)

    def _choose(self, epoch: int) -> Chosen:
        """Return rows of the training set, ascending."""
        d, found, step = self._downsampler, [], 0
        scores = self._scores() if has_score(d) else None
        for group in self._groups:
            for rows, count in _blocks(d, group, whole=scores is not None):
                pool = self._pool(rows, scores)
                picked = choose(d, pool, count, _context(self._job, epoch, step))
                found.append(Part(Chosen(rows[picked.rows], picked.weights), len(rows)))
                step += 1
        return _joined(found, even=d.exact)

    def _pool(self, rows: npt.NDArray[np.int64], scores: "torch.Tensor | None") -> ArrayPool:
        """Return some of the training set, as `choose` sees it."""
        import torch

        if scores is None and self._scorer.reads:
            return _together(list(self._pools(self._samples.keys[rows], self._scorer)))
        keys = self._samples.keys[rows]
        return ArrayPool(
            keys=keys,
            labels=torch.from_numpy(self._samples.labels[rows]).to(self._scorer.device),
            history=self._scorer.recorded(keys),
            scores=None if scores is None else scores[torch.from_numpy(rows).to(scores.device)],
        )

    def _scores(self) -> "torch.Tensor":
        """Return the score of every sample of the training set."""
        if wants_proxies(self._downsampler):
            return mean_scores(self._job, self._scorer, self._scores_by)
        return self._scores_by(self._scorer)

    def _scores_by(self, scorer: Scorer) -> "torch.Tensor":
        """Return the score of every sample, as a scorer's model has it."""
        import torch

        d = self._downsampler
        pools = self._pools(self._samples.keys, scorer)
        return torch.cat([scored(d, d.score(pool), len(pool)) for pool in pools])

    def _pools(self, keys: npt.NDArray[np.uint64], scorer: Scorer) -> Iterator[ArrayPool]:
        """Yield pools of these samples, a batch at a time."""
        for batch in self._samples.in_order(keys):
            yield scorer.pool(scorer.placed(batch, 0))


def choose(downsampler: Downsampler, pool: ArrayPool, count: int, context: Context) -> Chosen:
    """Return a downsampler's choice, checked: rows ascending, weights that are not all 1."""
    return chosen(downsampler, downsampler.choose(pool, count, context), len(pool), count)


def _context(job: Job, epoch: int, step: int) -> Context:
    return Context(epoch=epoch, epochs=job.epochs, step=step, seed=job.seed)


def _groups(downsampler: Downsampler, samples: Samples) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each class, or all rows."""
    if not downsampler.balance:
        return [np.arange(len(samples.keys))]
    order = np.argsort(samples.labels, kind="stable")
    ordered = samples.labels[order]
    return np.split(order, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)


def _blocks(
    downsampler: Downsampler, rows: npt.NDArray[np.int64], *, whole: bool
) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """Yield blocks of a group, and how many to choose of each: in sum, what the group has."""
    count = downsampler.share(len(rows))
    if whole or not set(downsampler.needs) & set(WIDE):
        yield rows, count
        return
    blocks = -(-len(rows) // downsampler.pool_samples)
    for i in range(blocks):
        first, last = len(rows) * i // blocks, len(rows) * (i + 1) // blocks
        mine = count * last // len(rows) - count * first // len(rows)
        if mine > 0:
            yield rows[first:last], mine


def _together(pools: list[ArrayPool]) -> ArrayPool:
    """Return one pool of several."""
    return pools[0] if len(pools) == 1 else ArrayPool.joined(pools)


class Part(NamedTuple):
    """What was chosen of a class or of a block, of `size` samples."""

    chosen: Chosen
    size: int


def _joined(parts: Sequence[Part], *, even: bool) -> Chosen:
    """Return choices of different rows as one, ascending.

    Where they have weights, a part counts as much as it has samples, also where what was chosen
    of it is not just its share: one sample of a small class, or a share rounded down.  Weights
    that are not `even` do so already.
    """
    rows = np.concatenate([part.chosen.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    if all(part.chosen.weights is None for part in parts):
        return Chosen(rows[order])
    mean = sum(part.size for part in parts) / len(rows)  # for how many samples each stands
    weights = []
    for one, size in parts:
        count = len(one.rows)
        own = np.ones(count) if one.weights is None else one.weights
        weights.append(own * (size / count / mean) if even and len(parts) > 1 else own)
    return Chosen(rows[order], np.concatenate(weights)[order])
