"""What must hold of a downsampler that chooses from the whole training set."""

from modyn.downsampling.base import Downsampler

__all__ = ["check_each_epoch", "check_whole"]


def check_whole(sampler: Downsampler) -> None:
    """Refuse to choose from single batches."""
    if not sampler.sample_then_batch:
        raise ValueError(
            f"{type(sampler).__name__} chooses from the whole training set: "
            "sample_then_batch must be true"
        )


def check_each_epoch(sampler: Downsampler) -> None:
    """Refuse a period other than 1."""
    if sampler.period != 1:
        raise ValueError(
            f"{type(sampler).__name__} chooses anew in every epoch: period must be 1, "
            f"got {sampler.period}"
        )
