"""What a run cost: seconds, and samples that went through models."""

from dataclasses import dataclass
from functools import cached_property

from modyn.loader import Waits
from modyn.pipelines.ledger import Content, DownsamplingRow, TrainingRow
from modyn.pipelines.past import FOUND, TRAINING

__all__ = ["STAGES", "WORKERS", "Costs"]

STAGES = (
    *("policy", "select", "write", "load"),
    *("irreducible", "score"),  # of downsampling: training what scores, and scoring
    *("train", "store", "evaluate"),
)
WORKERS = ("fill", "room")  # of the loader's threads, beside the stages load and train


@dataclass(frozen=True)
class Costs:
    """What a run cost, as its ledger says.

    Parameters
    ----------
    content : Content
        The ledger.
    """

    content: Content

    @cached_property
    def by_trigger(self) -> dict[int, float]:
        """Seconds of each trigger's training; see `Run.training_seconds`."""
        found: dict[int, float] = {}
        for row in self.content.timings:
            if row.stage in ("load", "irreducible", "score", "train"):
                found[row.trigger] = found.get(row.trigger, 0.0) + row.seconds
        noted = {row.trigger: row.seconds for row in self.content.timings if row.stage == TRAINING}
        return found | noted

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage; see `Run.seconds`."""
        spent = self._spent
        return {stage: seconds for stage, seconds in spent.items() if stage not in WORKERS}

    @cached_property
    def waits(self) -> Waits:
        """Who waited for whom in all trainings: the loop for batches, or workers for room."""
        spent = self._spent
        return Waits(
            batches=self.totals["batches"],
            rows=self.totals["samples_trained"],
            consumer_waited=spent["load"],
            consumer_held=spent["train"],
            workers_filling=spent["fill"],
            workers_waiting=spent["room"],
        )

    @cached_property
    def _spent(self) -> dict[str, float]:
        total = dict.fromkeys((*STAGES, *WORKERS), 0.0)
        for row in self.content.timings:
            if row.stage not in (TRAINING, FOUND):  # what the model took, perhaps elsewhere
                total[row.stage] = total.get(row.stage, 0.0) + row.seconds
        return total

    @cached_property
    def totals(self) -> dict[str, int]:
        """How many of what; see `Run.totals`."""
        trainings = [row for row in self.content.trainings if row.model is not None]
        return {
            "position": self.content.progress.position,
            "triggers": len(self.content.transitions),
            "trainings": len(trainings),
            "found": self._found(trainings),
            "samples": sum(row.samples for row in trainings),
            "samples_trained": sum(map(self.passed, trainings)),
            "samples_scored": sum(self.scored(row.trigger) for row in trainings),
            "batches": sum(row.batches for row in trainings),
            "evaluations": len(self.content.evaluations),
        }

    def _found(self, trainings: list[TrainingRow]) -> int:
        """Return how many of these trainings were found instead of done."""
        elsewhere = {row.trigger for row in self.content.timings if row.stage == FOUND}
        here = {row.model for row in trainings if row.trigger not in elsewhere}
        return len(trainings) - len(here)

    def passed(self, row: TrainingRow) -> int:
        """Return how many samples a training went through, each as often as it came."""
        if row.trigger in self._downsamplings:
            return self._downsamplings[row.trigger].trained
        training = self.content.identity["config"]["training"]
        listed = training.get("num_samples_to_pass") or ()
        if row.trigger >= len(listed):
            return row.samples * row.epochs
        return min(int(listed[row.trigger]), row.batches * int(training["batch_size"]))

    def scored(self, trigger: int) -> int:
        """Return how many samples a training took the scores of, to choose from them."""
        found = self._downsamplings.get(trigger)
        return 0 if found is None else found.scored

    @cached_property
    def _downsamplings(self) -> dict[int, DownsamplingRow]:
        return {row.trigger: row for row in self.content.downsamplings}
