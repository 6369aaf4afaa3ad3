"""What all pipelines of benchmarks.selection share: how models are trained and measured."""

from __future__ import annotations

from typing import Any

from benchmarks.selecting.methods import PARTS
from benchmarks.selecting.streams import LATER, Stream
from modyn import Dataset, Pipeline
from modyn.pipelines import (
    Accuracy,
    BetweenTwoTriggersEvalStrategy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    F1Score,
    Model,
    Optimizer,
    ParamGroup,
    Run,
    StaticEvalStrategy,
    Training,
)
from modyn.policies import DataAmountTrigger

EPOCHS, BATCH, RATE, WIDTH = 4, 128, 0.005, 64


def optimizer(algorithm: str, **options: Any) -> tuple[Optimizer, ...]:
    return (Optimizer(algorithm=algorithm, param_groups=(ParamGroup(config=options),)),)


def training(batch_size: int, epochs: int, **more: Any) -> Training:
    """Return settings of a training in one process with one loader thread."""
    settings: dict[str, Any] = {
        "shuffle": True,
        "drop_last_batch": False,
        "dataloader_workers": 1,
        "num_prefetched_partitions": 0,
        **more,
    }
    return Training(batch_size=batch_size, epochs_per_trigger=epochs, **settings)


def over_parts(
    stream: Stream, dataset: Dataset, seed: int, given: dict[str, Any], epochs: int = EPOCHS
) -> Pipeline:
    """Return a pipeline with a fresh model after each part of a stream, measured on the next.

    `given` is what a method makes; `passes` in it is the share of the epochs to train.
    """
    given = dict(given)
    part = len(dataset) // PARTS
    passes = given.pop("passes", None)
    samples = [part * (trigger + 1) * epochs for trigger in range(PARTS - 1)]
    to_pass = None if passes is None else tuple(max(int(s * passes), 1) for s in samples)
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
        trigger=DataAmountTrigger(num_samples=part),
        training=training(
            BATCH,
            epochs,
            optimizers=optimizer("Adam", lr=RATE),
            num_samples_to_pass=to_pass,
            signals=given.pop("signals", ()),
        ),
        evaluation=Evaluation(
            handlers=(EvalHandler(strategy=BetweenTwoTriggersEvalStrategy(), models="active"),),
            datasets=(
                EvalDataset(
                    metrics=(
                        Accuracy(),
                        F1Score(num_classes=stream.classes, average="macro"),
                    ),
                    dataloader_workers=1,
                ),
            ),
        ),
        seed=seed,
        maximum_triggers=PARTS - 1,
        name=stream.name,
        **given,
    )


def composite(run: Run) -> tuple[float, dict[str, Any]]:
    """Return percent of all samples after the first part that the composite model has right."""
    accuracy = run.composite("accuracy")
    f1 = run.composite("F1-macro")
    windows = [round(100 * v, 2) for v in accuracy["value"] if v is not None]
    score = run.score("accuracy")
    assert score is not None
    known = [(v, n) for v, n in zip(f1["value"], f1["count"], strict=True) if v is not None]
    macro = sum(v * n for v, n in known) / sum(n for _, n in known)
    return 100 * score, {"windows": windows, "f1_macro": round(100 * macro, 3)}


def on_test(test: Dataset) -> Evaluation:
    """Return an evaluation of every model on all of another dataset, later in time."""
    return Evaluation(
        handlers=(
            EvalHandler(strategy=StaticEvalStrategy(intervals=((LATER, None),)), models="active"),
        ),
        datasets=(EvalDataset(metrics=(Accuracy(),), dataset=test, dataloader_workers=1),),
    )


def last_accuracy(run: Run) -> tuple[float, dict[str, Any]]:
    """Return percent of the test set that the last model has right."""
    score = run.score("accuracy")
    assert score is not None
    return 100 * score, {}
