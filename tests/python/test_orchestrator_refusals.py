"""The loop when a policy or a step is wrong: named, and nothing lost."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.orchestrator import Orchestrator
from modyn.policies import (
    DataAmountTrigger,
    NewData,
    PlainContext,
    Selection,
    Trigger,
)
from modyn.trainset import TrainingSet
from tests.python.loops import (
    COUNT,
    Ledger,
    Policies,
    Steps,
    by_amount,
    dataset,
    order,
    start,
)

__all__ = ["dataset", "order"]  # fixtures


# Wrong answers.


def answering(answer: object) -> Policies:
    class Odd(Trigger):
        def inform(self, arrivals: Arrivals, context: object) -> object:
            return answer

    return lambda: (Odd(), NewData())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (65, "Odd answered 65 when informed of 64 samples: a trigger falls due after 0 to 64"),
        (-1, "Odd answered -1 when informed of 64 samples"),
        (2**63, "Odd answered 9223372036854775807 when"),
        (-(2**80), "Odd answered -9223372036854775808 when"),
        (True, "Odd.inform answered True"),
        (1.0, "Odd.inform answered 1.0"),
        ("1", "Odd.inform answered '1'"),
        ([1], r"Odd.inform answered \[1\]"),
    ],
)
def test_a_trigger_that_answers_nonsense_is_named(
    dataset: Dataset, tmp_path: Path, answer: object, message: str
) -> None:
    ledger = Ledger()

    with pytest.raises((TypeError, ValueError), match=message):
        start(dataset, answering(answer), tmp_path, ledger).next()

    assert ledger.transitions == []


def test_a_trigger_without_new_samples_comes_once(dataset: Dataset, tmp_path: Path) -> None:
    ledger = Ledger()
    loop = start(dataset, answering(0), tmp_path, ledger)

    first = loop.next()
    with pytest.raises(ValueError, match="Odd answered 0 again at position 0"):
        loop.next()
    with pytest.raises(ValueError, match="Odd answered 0 again at position 0"):
        start(dataset, answering(0), tmp_path, ledger).next()

    assert (first.first, first.position, first.samples) == (0, 0, 0)
    assert (first.first_timestamp, first.last_timestamp) == (None, None)
    assert len(TrainingSet.open(tmp_path / f"{first.digest}.set")) == 0


def choosing(answer: Callable[[object], object]) -> Policies:
    class Odd(Selection):
        def select(self, candidates: object, context: object) -> object:
            return answer(candidates)

    return lambda: (DataAmountTrigger(num_samples=50), Odd())


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c: [COUNT - 1], "Odd chose key 499, which is not among its 50 candidates"),
        (lambda c: [2**64 - 1], "Odd chose key 18446744073709551615, which is not among"),
        (lambda c: np.repeat(c.keys[:1], 2), "Odd chose key [0-9]+ twice"),
        (lambda c: (c.keys, np.full(50, np.nan)), "Odd gave key [0-9]+ the weight nan"),
        (lambda c: (c.keys, np.full(50, -0.5)), "Odd gave key [0-9]+ the weight -0.5"),
        (lambda c: (c.keys, [1.0]), r"Odd.select answered weights of shape \(1,\) for 50 keys"),
        (lambda c: None, "Odd.select answered NoneType"),
        (lambda c: c.labels == 1, "Odd.select answered a mask of bool"),
        (lambda c: c.keys * 1.0, "Odd.select answered keys of float64"),
        (lambda c: [-1], "Odd chose key -1"),
    ],
)
def test_a_selection_that_chooses_nonsense_is_named(
    dataset: Dataset,
    order: np.ndarray,
    tmp_path: Path,
    ordered: bool,
    answer: Callable[[object], object],
    message: str,
) -> None:
    ledger = Ledger()
    use = order if ordered else None

    with pytest.raises((TypeError, ValueError), match=message):
        start(dataset, choosing(answer), tmp_path, ledger, order=use).next()

    assert ledger.transitions == []
    assert list(tmp_path.iterdir()) == []


def test_a_choice_is_let_go_when_it_is_committed(dataset: Dataset, tmp_path: Path) -> None:
    kept = []

    def choose(candidates: object) -> object:
        keys = candidates.keys[:10].copy()
        kept.append(weakref.ref(keys))
        return keys

    loop = start(dataset, choosing(choose), tmp_path, Ledger())
    loop.next()

    assert [ref() for ref in kept] == [None]


def test_no_key_is_an_answer(dataset: Dataset, tmp_path: Path) -> None:
    row = start(dataset, choosing(lambda c: []), tmp_path, Ledger()).next()

    assert row.samples == 0


def test_a_training_set_that_cannot_be_written_is_tried_again(
    dataset: Dataset, tmp_path: Path
) -> None:
    informed = []

    class Notes(DataAmountTrigger):
        def inform(self, arrivals: Arrivals, context: PlainContext) -> int | None:
            informed.append(context.position)
            return super().inform(arrivals, context)

    ledger = Ledger()
    sets = tmp_path / "sets"
    loop = start(dataset, lambda: (Notes(num_samples=50), NewData()), sets, ledger)

    with pytest.raises(OSError, match="sets"):
        loop.next()
    assert ledger.transitions == []
    sets.mkdir()
    row = loop.next()

    assert (row.trigger, row.position, informed) == (0, 50, [0])


# Wrong places.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"position": COUNT + 1}, "position 501 is beyond the end of the stream at 500"),
        ({"position": -1}, "position must be at least 0, got -1"),
        ({"block_count": 0}, "block_count must be at least 1, got 0"),
        ({"advance_every": 0}, "advance_every must be at least 1, got 0"),
        ({"tail_triggers": -1}, "tail_triggers must be at least 0, got -1"),
        ({"trigger": 2}, "first positions of triggers 0 to 2, which is 3 numbers, got 1"),
        ({"trigger": 1, "trigger_starts": [0, 9], "position": 8}, "beyond the position 8"),
        ({"trigger_starts": [5], "position": 8}, "trigger 0 must start at position 0, not 5"),
    ],
)
def test_a_place_that_cannot_be_is_refused(
    dataset: Dataset, tmp_path: Path, wrong: dict, message: str
) -> None:
    steps = Steps(*by_amount(), Ledger())
    given = {"tail_triggers": 0, **wrong}

    with pytest.raises(ValueError, match=message):
        Orchestrator(dataset, steps=steps, trainset_directory=tmp_path, **given)


@pytest.mark.parametrize("wrong", [np.arange(3), np.arange(3.0), [0, 1], np.zeros((2, 2))])
def test_an_order_of_another_type_is_refused(dataset: Dataset, tmp_path: Path, wrong) -> None:
    with pytest.raises(TypeError):
        start(dataset, by_amount, tmp_path, Ledger(), order=wrong)


def test_an_order_with_a_key_that_is_none_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    wrong = np.array([1, COUNT], dtype=np.uint64)

    with pytest.raises(KeyError, match="500"):
        start(dataset, by_amount, tmp_path, Ledger(), order=wrong).next()
