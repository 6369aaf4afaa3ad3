"""Models that are trained for their scores alone, before the model that is wanted begins.

Each begins with weights of its own and is trained on the whole training set; what they say of the
samples is averaged.  Their seeds are a function of the training's, which they take nothing from.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modyn.downsampling.base import Downsampler
from modyn.downsampling.data_diet import EarlyScore
from modyn.pipelines.jobs import Job
from modyn.pipelines.scoring import Scorer

if TYPE_CHECKING:
    import torch

__all__ = ["mean_scores", "wants_proxies"]

PROXIES = 1  # the purpose of their seeds


def wants_proxies(downsampler: Downsampler) -> bool:
    """Return whether scores are those of models that are trained for them."""
    return isinstance(downsampler, EarlyScore) and downsampler.initialisations > 0


def mean_scores(
    job: Job, scorer: Scorer, scores_of: "Callable[[Scorer], torch.Tensor]"
) -> "torch.Tensor":
    """Return the mean score of each sample over all initialisations, float64, shape (n,).

    Parameters
    ----------
    job : Job
        With a downsampler that wants proxies, and its pool.
    scorer : Scorer
        Of the training itself; its count grows by the samples that the others looked at, also
        those that they were trained on.
    scores_of : callable
        Returns the scores of all samples, by a scorer's model, shape (n,).
    """
    import torch

    found = []
    for model, trained in _models(job, scorer.device):
        proxy = replace(scorer, model=model)
        with proxy.session():
            found.append(scores_of(proxy).double())
        scorer.samples += proxy.samples + trained
    return torch.stack(found).mean(dim=0)


def _models(job: Job, device: "torch.device") -> "Iterator[tuple[torch.nn.Module, int]]":
    """Yield models, and on how many samples each was trained."""
    import torch

    from modyn.pipelines.train import train  # which may have been asked for this

    early, pool = job.downsampling, job.pool
    assert isinstance(early, EarlyScore)  # noqa: S101
    assert pool is not None  # noqa: S101
    settings = replace(
        job.training, epochs_per_trigger=max(early.score_epochs, 1), use_previous_model=False
    )
    cuda = [device] if device.type == "cuda" else []
    for i in range(early.initialisations):
        seed = int(np.random.SeedSequence([job.seed, i, PROXIES]).generate_state(1, np.uint64)[0])
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed >> 1)
            model = job.make_model()
        if early.score_epochs > 0:
            alone = Job(
                training=settings,
                make_model=job.make_model,
                fields=job.fields,
                batches=pool.to_train(pool.keys, pool.weights),
                samples=len(pool.keys),
                seed=seed >> 1,
            )
            model.load_state_dict(train(alone).weights)
        yield model.to(device), early.score_epochs * len(pool.keys)
