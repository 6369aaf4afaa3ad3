"""Downsampling as a pipeline has it: held against the training, and with nothing left open."""

from dataclasses import replace

from modyn.dataset import Dataset
from modyn.downsampling import EL2N, Downsampler, Forgetting, RHOLoss, Schedule, Uncertainty
from modyn.downsampling.base import check_settings
from modyn.pipelines.settings import BORDERS, NUMERIC, Model, Training

__all__ = ["check_downsampling", "completed_downsampling"]


def check_downsampling(downsampler: object, training: Training) -> None:
    """Refuse a downsampler that cannot work with this training.

    Raises
    ------
    TypeError, ValueError
        Which say why.
    """
    if not isinstance(downsampler, Downsampler):
        raise TypeError(
            f"downsampling must be a Downsampler or a Schedule, got {downsampler!r:.80}"
        )
    check_settings(downsampler)
    if downsampler.sample_then_batch and training.num_samples_to_pass is not None:
        raise ValueError(
            f"{type(downsampler).__name__} with sample_then_batch trains whole epochs: "
            "num_samples_to_pass is for batch-then-sample"
        )
    _check_criterion(downsampler, training.optimization_criterion.name)


def _check_criterion(downsampler: Downsampler, criterion: str) -> None:
    """Refuse what goes by classes where there are none, and logits that are taken for others."""
    if not isinstance(downsampler, Uncertainty | EL2N | Forgetting):
        return
    name = type(downsampler).__name__
    if criterion in NUMERIC and criterion not in BORDERS:
        raise ValueError(f"{name} goes by classes, and {criterion} knows numbers alone")
    given = getattr(downsampler, "probabilities", None)
    if criterion in BORDERS and given is not None and given != (criterion == "BCELoss"):
        outputs = "probabilities" if criterion == "BCELoss" else "no probabilities"
        raise ValueError(f"{name}.probabilities is {given}, but {criterion} takes {outputs}")


def completed_downsampling(
    downsampling: Downsampler | Schedule | None, model: Model, training: Training, dataset: Dataset
) -> Downsampler | Schedule | None:
    """Return the downsampling with what RHO-LOSS leaves to the pipeline."""
    from modyn.pipelines.irreducible import completed

    def one(downsampler: Downsampler | None) -> Downsampler | None:
        if not isinstance(downsampler, RHOLoss):
            return downsampler
        return completed(downsampler, model, training, dataset)

    if isinstance(downsampling, Schedule):
        entries = tuple(one(entry) for entry in downsampling.downsamplers)
        return replace(downsampling, downsamplers=entries)
    return one(downsampling)
