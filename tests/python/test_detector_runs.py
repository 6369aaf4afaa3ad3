"""A run whose trainings follow from a streaming detector, from file to ledger."""

from __future__ import annotations

import numpy as np

from modyn import Dataset, Pipeline, Training
from modyn.drift.detectors import ADWIN
from modyn.pipelines import Model
from modyn.policies import DetectorTrigger, NewData

COUNT, TURN, EACH = 1200, 700, 100


def test_a_run_trains_anew_where_labels_turn_and_says_why(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, 4)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64)
    labels[TURN:] = 1 - labels[TURN:]
    with Dataset.create(tmp_path / "data", schema={"dense": "float32[4]"}) as dataset:
        dataset.append({"dense": x}, labels=labels, timestamps=np.arange(COUNT))
    pipeline = Pipeline(
        dataset=Dataset.open(tmp_path / "data"),
        model=Model(id="MLP", config={"num_features": 4, "num_classes": 2}),
        trigger=DetectorTrigger(evaluation_interval_data_points=EACH, detector=ADWIN()),
        selection=NewData(),
        training=Training(batch_size=10, epochs_per_trigger=8),
        seed=1,
    )

    run = pipeline.replay(tmp_path / "run")

    positions = [row.position for row in run.transitions]
    assert positions[0] == EACH
    assert TURN < next(p for p in positions if p > TURN) <= TURN + 2 * EACH
    fired = [v for v in run.decisions["values"] if v["fires"]]
    assert [v["last"] for v in fired] == positions
    assert all(0 <= place < EACH for v in fired for place in v["drifts"])
    assert pipeline.replay(tmp_path / "again").digest() == run.digest()
