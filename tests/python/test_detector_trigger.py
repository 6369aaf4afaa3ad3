"""A trigger by a streaming detector: what it looks at, when it fires, and what it carries."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from modyn.arrivals import Arrivals
from modyn.drift.detectors import ADWIN, DDM, EDDM, KSWIN, PageHinkley
from modyn.pipelines import dump
from modyn.pipelines.description import described_policy
from modyn.pipelines.schema_trigger import DetectorTrigger as Section
from modyn.policies import DataAmountTrigger, DetectorTrigger, PlainContext
from modyn.policies.checks import check_trigger, example_stream
from modyn.policies.context import Note, PastModel
from modyn.policies.history import HeldHistory

COUNT, TURN = 3000, 1700
MODEL = PastModel(trigger=0, model="m0", position=0, last_timestamp=None, samples=9, seconds=1.0)
EAGER = PageHinkley(threshold=8.0)


class Answers:
    """A model that says class 0 of everything, and is unsure where the key is late."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predictions(self, model: PastModel, keys: np.ndarray) -> np.ndarray:
        self.asked += keys.tolist()
        sure = np.where(keys < TURN, 0.9, 0.6)
        return np.stack([sure, 1 - sure], axis=1).astype(np.float32)

    def losses(self, model: PastModel, keys: np.ndarray) -> np.ndarray:
        losses = np.where(keys < TURN, 0.1, 1.1).astype(np.float32)
        losses[keys == 5] = np.nan
        return losses

    def embeddings(self, model, keys):
        raise AssertionError

    fields = embeddings


def stream() -> Arrivals:
    """Labels are 0 until TURN, and then 1."""
    keys = np.arange(COUNT, dtype=np.uint64)
    return Arrivals(keys, np.arange(COUNT, dtype=np.int64), (keys >= TURN).astype(np.int64))


def played(trigger: DetectorTrigger, delay: int = 0, block: int = 450) -> tuple[list, list[Note]]:
    """The positions of triggers, and what was noted; after each there is a new model."""
    samples, notes, fired, position = stream(), [], [], 0
    while position < COUNT:
        end = min((position // block + 1) * block, COUNT)
        models = [MODEL] + [
            replace(MODEL, trigger=n + 1, model=f"m{n + 1}", position=at)
            for n, at in enumerate(fired)
        ]
        context = PlainContext(
            position=position,
            clock=position - 1 if position else None,
            trigger=len(models),
            triggered_at=fired[-1] if fired else 0,
            informed=end - position,
            label_delay=delay,
            models=models,
            history=HeldHistory(samples),
            answers=Answers(),
            notes=notes.append,
        )
        shown = samples[position:end]
        if delay:
            shown = Arrivals(shown.keys, shown.timestamps)
        due = trigger.inform(shown, context)
        position = end if due is None else position + due
        fired += [] if due is None else [position]
    return fired, notes


@pytest.mark.parametrize("of", ["errors", "losses", "uncertainty"])
def test_it_fires_at_the_end_of_the_interval_in_which_the_numbers_change(of):
    detector = PageHinkley(threshold=8.0 if of != "uncertainty" else 2.0)
    trigger = DetectorTrigger(evaluation_interval_data_points=100, detector=detector, of=of)

    fired, notes = played(trigger)

    assert fired[0] == TURN + 100
    values = [note.values for note in notes if note.values["fires"]]
    assert values[0]["first"] == TURN
    assert 0 <= values[0]["drifts"][0] < 50
    assert values[0]["model"] == "m0"
    json.dumps([note.values for note in notes], allow_nan=False)


def test_a_new_model_begins_with_a_fresh_detector():
    anew = DetectorTrigger(evaluation_interval_data_points=100, detector=EAGER)
    on = DetectorTrigger(evaluation_interval_data_points=100, detector=EAGER, reset_on_model=False)

    assert played(anew)[0] == [TURN + 100]  # all is wrong from then on, and stays so
    assert played(on)[0][0] == TURN + 100


def test_labels_that_come_late_are_waited_for_and_none_is_left_out():
    trigger = DetectorTrigger(evaluation_interval_data_points=100, detector=EAGER)

    fired, notes = played(trigger, delay=350)

    assert fired[0] == TURN + 100 + 400  # the first end of an interval at which all are known
    judged = [note.values["first"] for note in notes if note.position <= fired[0]]
    assert judged == list(range(0, TURN + 100, 100))


def test_intervals_that_wait_are_not_read_at_every_look(monkeypatch):
    read = []
    whole = PlainContext.samples
    monkeypatch.setattr(
        PlainContext,
        "samples",
        lambda self, first, last: read.append(last - first) or whole(self, first, last),
    )

    played(DetectorTrigger(evaluation_interval_data_points=10, detector=EAGER), delay=COUNT)

    assert sum(read) <= 2 * COUNT


def test_intervals_that_wait_for_a_model_of_the_past_are_left_out():
    trigger = DetectorTrigger(evaluation_interval_data_points=100, detector=EAGER)

    fired, notes = played(trigger, delay=350)

    after = [note.values["first"] for note in notes if note.position > fired[0]]
    assert after
    assert min(after) == fired[0]


@pytest.mark.parametrize("delay", [0, 350])
def test_a_note_says_what_was_decided_in_the_warm_up_too(delay):
    trigger = DetectorTrigger(
        evaluation_interval_data_points=100,
        detector=EAGER,
        warmup_intervals=5,
        warmup_policy=DataAmountTrigger(num_samples=200),
    )

    fired, notes = played(trigger, delay=delay)

    assert fired[:2] == [200, 400]
    noted = {note.position for note in notes if note.values["fires"]}
    assert noted == set(fired)
    warm = [note.values["fires"] for note in notes if note.values["warmup"] and not delay]
    assert warm == ([] if delay else [False, True, False, True, False])


def test_the_first_interval_of_all_is_noted_without_a_model():
    notes: list[Note] = []
    context = PlainContext(informed=10, history=HeldHistory(stream()), notes=notes.append)

    due = DetectorTrigger(evaluation_interval_data_points=10).inform(stream()[:10], context)

    assert due == 10
    assert [(note.values["model"], note.values["fires"]) for note in notes] == [(None, True)]


def test_what_is_no_prediction_is_a_mistake():
    class Astray(Answers):
        def predictions(self, model, keys):
            return np.full((len(keys), 2), np.nan, dtype=np.float32)

    notes: list[Note] = []
    context = PlainContext(
        models=[MODEL],
        informed=10,
        history=HeldHistory(stream()),
        answers=Astray(),
        notes=notes.append,
    )
    DetectorTrigger(evaluation_interval_data_points=10).inform(stream()[:10], context)

    assert notes[0].values["mean"] == 1.0  # the class of the first that is no number would be right


def test_uncertainty_waits_for_no_labels():
    detector = PageHinkley(threshold=2.0)
    trigger = DetectorTrigger(
        evaluation_interval_data_points=100, detector=detector, of="uncertainty"
    )

    assert played(trigger, delay=350)[0][0] == TURN + 100


def test_each_sample_is_asked_for_once_however_the_stream_is_cut():
    fired = [
        played(DetectorTrigger(evaluation_interval_data_points=70, detector=EAGER), block=block)[0]
        for block in (1, 69, 1000, COUNT)
    ]

    assert len({tuple(one) for one in fired}) == 1


@pytest.mark.parametrize(
    "trigger",
    [
        DetectorTrigger(
            evaluation_interval_data_points=23, detector=ADWIN(delta=0.9, clock=1), of="losses"
        ),
        DetectorTrigger(
            evaluation_interval_data_points=11,
            detector=DDM(warm_start=5, drift_threshold=1.0),
            warmup_intervals=3,
            warmup_policy=DataAmountTrigger(num_samples=30),
        ),
        DetectorTrigger(
            evaluation_interval_data_points=40,
            detector=KSWIN(alpha=0.3, window_size=20, stat_size=10),
            of="uncertainty",
        ),
        DetectorTrigger(
            evaluation_interval_data_points=17,
            detector=PageHinkley(threshold=1.0, min_instances=5),
            of=lambda samples, context: context.embeddings(samples.keys)[:, 0],
            reset_on_model=False,
        ),
        DetectorTrigger(evaluation_interval_data_points=30, detector=EDDM(warm_start=5)),
    ],
    ids=lambda t: type(t.detector).__name__,
)
@pytest.mark.parametrize("delay", [0, 4 * 86_400])
def test_it_keeps_the_promises_of_a_trigger(trigger, delay):
    shown = example_stream()
    if delay:
        shown = Arrivals(shown.keys, shown.timestamps, shown.labels)

    check_trigger(trigger, stream=shown, context=PlainContext(seed=3, label_delay=delay))


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"detector": "ADWIN"}, TypeError, "must be a Detector"),
        ({"of": "mistakes"}, ValueError, "one of errors"),
        ({"detector": DDM(), "of": "losses"}, ValueError, "DDM takes only 0 and 1"),
        ({"reset_on_model": 1}, TypeError, "reset_on_model"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters, error, words):
    with pytest.raises(error, match=words):
        DetectorTrigger(evaluation_interval_data_points=10, **parameters)


def test_a_function_must_give_a_number_for_each_sample():
    trigger = DetectorTrigger(
        evaluation_interval_data_points=10, of=lambda samples, context: np.zeros(3)
    )

    with pytest.raises(ValueError, match="of must give 10 numbers"):
        played(trigger)


@pytest.mark.parametrize(
    "detector",
    [ADWIN(delta=0.1), KSWIN(seed=4), PageHinkley(mode="up"), DDM(warm_start=9), EDDM(beta=0.5)],
    ids=lambda d: type(d).__name__,
)
def test_a_file_can_say_all_of_it(detector):
    expected = DetectorTrigger(
        evaluation_interval_data_points=50,
        warmup_intervals=2,
        warmup_policy=DataAmountTrigger(num_samples=70),
        detector=detector,
        reset_on_model=False,
    )

    described = dump._tagged_within(described_policy(expected, "id"), "id")
    section = Section.model_validate(json.loads(json.dumps(described)))

    assert section.settings() == expected


def test_a_file_need_not_say_much():
    section = Section(id="DetectorTrigger", evaluation_interval_data_points=50)

    assert section.settings() == DetectorTrigger(evaluation_interval_data_points=50)


def test_samples_that_the_model_has_learned_from_are_not_shown():
    """As in an ensemble, whose trigger may fall in the middle of an interval."""
    samples, answers = stream(), Answers()
    trigger = DetectorTrigger(evaluation_interval_data_points=100)
    notes: list[Note] = []
    known = {"history": HeldHistory(samples), "answers": answers, "notes": notes.append}
    old = PlainContext(models=[MODEL], informed=130, **known)
    assert trigger.inform(samples[:130], old) is None

    newer = replace(MODEL, trigger=1, model="m1", position=130)
    new = PlainContext(
        position=130, clock=129, triggered_at=130, models=[MODEL, newer], informed=70, **known
    )
    assert trigger.inform(samples[130:200], new) is None

    assert answers.asked == [*range(100), *range(130, 200)]
    assert [note.values["first"] for note in notes] == [0, 130]
