"""The models of a run so far, as its policies see them: when, from how much, and in how long."""

from modyn.pipelines.ledger import Ledger
from modyn.policies.context import PastModel

__all__ = ["FOUND", "TRAINING", "past_models"]

TRAINING = "training"  # the stage of the timings that holds what a model took when it was trained

FOUND = "found"  # the stage of triggers whose model was taken over from another run


def past_models(ledger: Ledger) -> tuple[PastModel, ...]:
    """Return what was trained, oldest first; triggers without data have no model.

    Seconds are those that were measured when the model was trained, here or elsewhere: the ledger
    says them once the training is committed, so that a run that goes on later decides alike.
    """
    seconds = ledger.seconds(TRAINING)
    rows = {row.trigger: row for row in ledger.transitions()}
    return tuple(
        PastModel(
            trigger=training.trigger,
            model=training.model,
            position=rows[training.trigger].position,
            last_timestamp=rows[training.trigger].last_timestamp,
            samples=training.samples,
            seconds=seconds.get(training.trigger, 0.0),
        )
        for training in ledger.trainings()
        if training.model is not None
    )
