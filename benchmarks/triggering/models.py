"""What all pipelines of benchmarks.triggers share: the first training, models, and the score."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from benchmarks.selecting.ground import optimizer, training
from benchmarks.triggering.streams import Stream
from modyn import Dataset, Pipeline
from modyn.arrivals import Arrivals
from modyn.pipelines import (
    Accuracy,
    BetweenTwoTriggersEvalStrategy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    Model,
    Run,
)
from modyn.policies import Context, MostRecent, Trigger

FIRST = 2000  # samples, after which all policies train for the first time
EPOCHS, BATCH, RATE, WIDTH = 4, 128, 0.005, 64


@dataclass(kw_only=True)
class Starting(Trigger):
    """A first training after so many samples, and then a policy, which saw nothing before."""

    first: int
    then: Trigger

    def __post_init__(self) -> None:
        self._begun = False

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        if self._begun:
            return self.then.inform(arrivals, context)
        if len(arrivals) < self.first - context.position:
            return None
        self._begun = True
        return self.first - context.position


def pipeline(
    dataset: Dataset, stream: Stream, policy: Trigger, seed: int, label_delay: int = 0
) -> Pipeline:
    """Return a pipeline that trains afresh on the newest samples wherever the policy says so.

    So a model is a function of the position of its trigger, every training costs the same, and
    what a policy gets for its trainings depends on where it puts them alone.
    """
    return Pipeline(
        dataset=dataset,
        model=Model(
            id="MLP",
            config={
                "num_features": stream.width,
                "num_classes": stream.classes,
                "hidden": [WIDTH],
            },
        ),
        trigger=Starting(first=FIRST, then=policy),
        selection=MostRecent(limit=stream.newest),
        training=training(BATCH, EPOCHS, optimizers=optimizer("Adam", lr=RATE)),
        evaluation=Evaluation(
            handlers=(EvalHandler(strategy=BetweenTwoTriggersEvalStrategy(), models="active"),),
            datasets=(EvalDataset(metrics=(Accuracy(),), dataloader_workers=1),),
        ),
        seed=seed,
        label_delay=label_delay,
    )


def score(run: Run) -> tuple[float, dict[str, Any]]:
    """Return percent right of all samples after the first training, each by the model in use.

    Trainings that were found, and not done again, count with the seconds of the first time.
    """
    accuracy = run.score("accuracy")
    assert accuracy is not None
    clocks = [run.path / "models" / str(row.model) / "clock.json" for row in run.trainings]
    trained = sum(json.loads(clock.read_text())["seconds"] for clock in clocks)
    return 100 * accuracy, {
        "positions": [row.position for row in run.transitions],
        "train_seconds": round(trained, 3),
        "policy_seconds": round(run.seconds["policy"], 3),
    }
