"""Rows of the ledger, from what was done."""

from typing import Any

from modyn.dataset import Dataset
from modyn.pipelines.ledger import DownsamplingRow, TrainingRow, TransitionRow, canonical
from modyn.pipelines.models import Facts

__all__ = ["downsampling_row", "identity_of", "training_row"]


def identity_of(dataset: Dataset, counts: dict[str, int]) -> dict[str, Any]:
    """Return what tells a dataset, as far as a run covers it, from others."""
    return {
        "uuid": dataset.uuid,
        "count": counts[dataset.uuid],
        "timestamp_unit": dataset.timestamp_unit,
        "schema": dict(dataset.schema),
    }


def downsampling_row(row: TransitionRow, facts: Facts) -> DownsamplingRow | None:
    """Return what downsampling cost in a training, None where there was none."""
    found = facts.downsampled
    if found is None:
        return None
    return DownsamplingRow(trigger=row.trigger, scored=found.scored, trained=found.trained)


def training_row(
    row: TransitionRow, key: str | None, parent: str | None, facts: Facts
) -> TrainingRow:
    """Return a training, of the model of this key from this parent; None: there is none."""
    return TrainingRow(
        trigger=row.trigger,
        model=key,
        parent=parent,
        epochs=facts.epochs,
        batches=facts.batches,
        samples=facts.samples,
        final_loss=facts.final_loss,
        losses=canonical(facts.losses),
    )
