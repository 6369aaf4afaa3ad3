"""The checks of policies catch policies that are wrong, and say what to do."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest

from modyn.arrivals import example_arrivals
from modyn.policies import PlainContext, Selected, Selection, Trigger, seed_of
from modyn.policies.checks import CheckError, check_selection, check_trigger, example_stream
from modyn.policies.checks.trigger import _MadeUpAnswers
from modyn.policies.context import PastModel


class Every(Trigger):
    """A trigger that is right, from which the wrong ones derive."""

    def __init__(self, *, count=20):
        self.count = count
        self._missing = count

    def inform(self, arrivals, context):
        if len(arrivals) < self._missing:
            self._missing -= len(arrivals)
            return None
        due, self._missing = self._missing, self.count
        return due


class Half(Selection):
    """A selection that is right."""

    def __init__(self, *, ratio=0.5, tail_triggers=0):
        self.ratio = ratio
        self.tail_triggers = tail_triggers

    def select(self, candidates, context):
        rng = np.random.default_rng(seed_of(context))
        rows = rng.permutation(len(candidates))[: int(len(candidates) * self.ratio)]
        return Selected(candidates.keys[rows], rows + 1.0)


def test_right_policies_pass_as_objects_classes_and_factories() -> None:
    for trigger in (Every, Every(count=3), lambda: Every(count=7)):
        check_trigger(trigger)
    for selection in (Half, Half(ratio=0.25), lambda: Half(tail_triggers=None)):
        check_selection(selection)


def test_a_policy_itself_is_not_run() -> None:
    trigger = Every(count=7)
    trigger.inform(example_arrivals(5), PlainContext())

    check_trigger(trigger)

    assert trigger.state_dict() == {"_missing": 2}


def test_a_dataclass_passes() -> None:
    @dataclass(kw_only=True)
    class Counted(Every):
        count: int = 9

        def __post_init__(self):
            self._missing = self.count

    check_trigger(Counted(count=11))


def test_the_example_stream_is_the_same_for_everybody() -> None:
    stream = example_stream(5)

    assert sorted(stream.keys.tolist()) == [1000, 1001, 1002, 1003, 1004]
    assert example_stream(5).timestamps.tolist() == stream.timestamps.tolist()
    assert not stream.keys.flags.writeable


# Wrong constructors.


class ForgetsItsParameter(Every):
    def __init__(self, *, count=20):
        self._missing = self.size = count


class TakesAnything(Every):
    def __init__(self, **options):
        super().__init__(count=options.get("count", 20))


class StartsAnywhere(Every):
    def __init__(self):
        super().__init__()
        self._missing = int(np.random.default_rng().integers(1, 2**60))


class OpensAFile(Every):
    def __init__(self, *, path="/etc/hostname"):
        super().__init__()
        self.path = path
        with open(path) as file:
            self._first = file.read(1)


# Wrong answers.


class AnswersTrue(Every):
    def inform(self, arrivals, context):
        return len(arrivals) > 5


class AnswersTooMuch(Every):
    def inform(self, arrivals, context):
        return len(arrivals) + 1


class AnswersLess(Every):
    def inform(self, arrivals, context):
        return -1


class NeverGoesOn(Every):
    def inform(self, arrivals, context):
        return 0


class CountsBlocks(Every):
    def inform(self, arrivals, context):
        return len(arrivals)


class DropsTheRest(Every):
    """Forgets, at the end of a block, how many samples there were since the last trigger."""

    def inform(self, arrivals, context):
        return self.count if len(arrivals) >= self.count else None


# Wrong in what they depend on.


class RollsADie(Every):
    def inform(self, arrivals, context):
        self._missing -= np.random.randint(2) if self._missing > 1 else 0
        return super().inform(arrivals, context)


class LooksAtTheClock(Every):
    """Fires for every half hour on the machine's clock."""

    def __init__(self):
        super().__init__()
        self._last = 0.0

    def inform(self, arrivals, context):
        late = time.time() - self._last > 1800
        self._last = time.time()
        return 1 if late else None


class SharesItsState(Every):
    counts = {"missing": 21}  # noqa: RUF012

    def inform(self, arrivals, context):
        self._missing = self.counts["missing"]
        due = super().inform(arrivals, context)
        self.counts["missing"] = self._missing
        return due


class KeepsStateInPublic(Every):
    def __init__(self, *, count=20):
        super().__init__(count=count)
        self.total = 0

    def inform(self, arrivals, context):
        self.total += len(arrivals)
        return super().inform(arrivals, context)


class LosesItsState(Every):
    """Carries state past the base class, which does not know of it."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class KeepsASet(Every):
    def inform(self, arrivals, context):
        self._keys = set(arrivals.keys.tolist())
        return super().inform(arrivals, context)


class LooksAhead(Every):
    """Fires before a quiet time: looks at the sample after the one that is due."""

    def inform(self, arrivals, context):
        gaps = np.flatnonzero(np.diff(arrivals.timestamps, append=0) > 86_400)
        return int(gaps[0]) if len(gaps) and gaps[0] > 0 else None


class RemembersTheFuture(Every):
    """Fires at the right place, but its state has seen the rest of the block."""

    def inform(self, arrivals, context):
        due = super().inform(arrivals, context)
        if due is not None:
            self._newest = int(arrivals.timestamps[-1])
        return due


class AsksAhead(Every):
    def inform(self, arrivals, context):
        context.embeddings(arrivals.keys + np.uint64(1))
        return super().inform(arrivals, context)


class NoTrigger:
    def inform(self, arrivals, context):
        return None


class NoInform(Trigger):
    pass


@pytest.mark.parametrize(
    ("wrong", "seen", "advice"),
    [
        (ForgetsItsParameter, "takes count but does not keep it", "set self.count = count"),
        (TakesAnything, r"takes \*\*options", "take it as a keyword"),
        (StartsAnywhere, "starts in different states", "from its parameters alone"),
        (lambda: OpensAFile(path=__file__), "opens a file or a connection", "as a parameter"),
        (AnswersTrue, "inform answered (True|False)", "after how many of these samples"),
        (AnswersTooMuch, "answered 501 when informed of 500 samples", "0 <= n <= len"),
        (AnswersLess, "answered -1 when informed of 500 samples", "0 <= n <= len"),
        (NeverGoesOn, "answers 0 again and again at position 0", "consume at least one sample"),
        (CountsBlocks, "cut .* trigger 0 comes at 500, in blocks of 1, at 1;", "first trigger of"),
        (DropsTheRest, "how the stream is cut into blocks changes", "carry what is unfinished"),
        (RollsADie, "two runs over the same stream with the same seed differ", "seed_of"),
        (LooksAtTheClock, "two runs over the same stream", "take the time from context.clock"),
        (SharesItsState, "two runs over the same stream", "nothing in class attributes"),
        (KeepsStateInPublic, "its attribute total changed while it ran", "such as self._total"),
        (LosesItsState, "saved and resumed between blocks fires elsewhere", "private attributes"),
        (KeepsASet, "does not travel as JSON: KeepsASet._keys is a set", "lists, dicts"),
        (LooksAhead, "how the stream is cut into blocks changes", "samples and their positions"),
        (RemembersTheFuture, "its state at a trigger before them changed", "first n samples"),
        (AsksAhead, "asked for the sample with key .*, which it has not reached", "informed of"),
        (NoTrigger, "it is no Trigger", "derive its class from modyn.policies.Trigger"),
        (NoInform, r"does not define inform\(\)", r"write its inform\(\) method"),
        (7, "it is no Trigger", "derive"),
    ],
)
def test_a_wrong_trigger_is_caught_and_told(wrong, seen: str, advice: str) -> None:
    with pytest.raises(CheckError, match=seen) as caught:
        check_trigger(wrong, stream=example_stream(500))

    assert caught.match(advice)


def test_a_look_ahead_is_caught_even_where_blocks_do_not_show_it() -> None:
    """What it looks for comes only where the rest of the stream is changed."""
    stream = example_stream(300)
    end = int(stream.timestamps[-1])

    class Peeks(Every):
        def inform(self, arrivals, context):
            due = super().inform(arrivals, context)
            return 1 if due and int(arrivals.timestamps[-1]) > end else due

    with pytest.raises(CheckError, match="were changed, and triggers before it moved"):
        check_trigger(Peeks, stream=stream)


def test_a_trigger_that_never_fires_is_reported() -> None:
    with pytest.warns(UserWarning, match="Every never fired on these 500 samples"):
        check_trigger(Every(count=1000))


def test_an_exception_of_a_policy_surfaces_as_it_is() -> None:
    class Broken(Every):
        def inform(self, arrivals, context):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        check_trigger(Broken)


def test_a_policy_cannot_write_to_what_it_is_given() -> None:
    class Scribbles(Every):
        def inform(self, arrivals, context):
            arrivals.timestamps[0] = 0
            return None

    with pytest.raises(ValueError, match="read-only"):
        check_trigger(Scribbles)


# Selections.


class ChoosesPositions(Half):
    def select(self, candidates, context):
        return np.arange(len(candidates) // 2)


class ChoosesTwice(Half):
    def select(self, candidates, context):
        return np.repeat(candidates.keys, 2)


class AnswersAMask(Half):
    def select(self, candidates, context):
        return candidates.labels == 1


class AnswersNothing(Half):
    def select(self, candidates, context):
        candidates.keys.copy()


class WeighsByNothing(Half):
    def select(self, candidates, context):
        with np.errstate(divide="ignore"):
            return Selected(candidates.keys, 1.0 / (candidates.labels == candidates.labels[0]))


class WeighsBelowNothing(Half):
    def select(self, candidates, context):
        return Selected(candidates.keys, np.full(len(candidates), -1.0))


class WeighsTooFew(Half):
    def select(self, candidates, context):
        return Selected(candidates.keys, np.ones(1 + len(candidates)))


class DrawsFreely(Half):
    def select(self, candidates, context):
        return np.random.permutation(candidates.keys)[: len(candidates) // 2]


class DrawsFreshly(Half):
    def select(self, candidates, context):
        rng = np.random.default_rng()
        return rng.permutation(candidates.keys)[: len(candidates) // 2]


class FirstOfEachBlock(Half):
    def select(self, candidates, context):
        return np.concatenate([block.keys[:1] for block in candidates.blocks()])


class CountsTriggers(Half):
    def __init__(self):
        super().__init__()
        self.turn = 0

    def select(self, candidates, context):
        self.turn += 1
        return candidates.keys[: self.turn]


class HidesItsTurn(Half):
    """Its turn does not travel: the name in the state is not the one it uses."""

    def __init__(self):
        super().__init__()
        self._turn = [0]

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def select(self, candidates, context):
        self._turn[0] += 1
        return candidates.keys[: self._turn[0]]


@pytest.mark.parametrize(
    ("wrong", "seen", "advice"),
    [
        (ChoosesPositions, "chose key 0, which is no candidate", "a position .* is not a key"),
        (ChoosesTwice, "chose key [0-9]+ twice", "choose each key once"),
        (AnswersAMask, "answered a mask of bool", r"candidates\.keys\[mask\]"),
        (AnswersNothing, "answered NoneType", r"return Selected\(keys\)"),
        (WeighsByNothing, "the weight inf", "make all weights finite"),
        (WeighsBelowNothing, "the weight -1.0", "at least 0"),
        (WeighsTooFew, r"weights of shape \(2,\) for 1 keys", "one weight per key"),
        (DrawsFreely, "two runs .* differ", "seed_of"),
        (DrawsFreshly, "two runs .* differ", "seed_of"),
        (FirstOfEachBlock, "chooses otherwise .* has blocks of 1;", "not on blocks"),
        (CountsTriggers, "its attribute turn changed while it ran", "such as self._turn"),
        (HidesItsTurn, "resumed between triggers chooses otherwise", "private attributes"),
        (lambda: Half(tail_triggers=-1), "its tail_triggers is -1", "at least 0"),
        (lambda: Half(tail_triggers="all"), "its tail_triggers is 'all'", "None"),
        (lambda: Half(tail_triggers=True), "its tail_triggers is True", "None"),
        (Every, "it is no Selection", "modyn.policies.Selection"),
        (Selection, r"does not define select\(\)", "write its select"),
    ],
)
def test_a_wrong_selection_is_caught_and_told(wrong, seen: str, advice: str) -> None:
    with pytest.raises(CheckError, match=seen) as caught:
        check_selection(wrong)

    assert caught.match(advice)


class KeepsWhatIsErased(Selection):
    """Remembers its first ten samples for ever."""

    tail_triggers = None

    def __init__(self):
        self._keys = np.empty(0, dtype=np.uint64)

    def select(self, candidates, context):
        if len(self._keys) < 10:
            self._keys = candidates.keys[:10].copy()
        return self._keys


class LetsGoOfIt(KeepsWhatIsErased):
    """The same, and right."""

    def select(self, candidates, context):
        self._keys = self._keys[candidates.living(self._keys)]
        return super().select(candidates, context)


def test_a_memory_has_to_let_go_of_what_is_erased() -> None:
    check_selection(LetsGoOfIt)
    with pytest.raises(CheckError, match=r"no candidate any more.*candidates\.living\(keys\)"):
        check_selection(KeepsWhatIsErased)


def test_made_up_predictions_are_shares_of_every_key_and_model() -> None:
    keys = np.arange(5, dtype=np.uint64)
    model = PastModel(trigger=0, model="m", position=0, last_timestamp=None, samples=1, seconds=1.0)

    assert np.allclose(_MadeUpAnswers().predictions(model, keys).sum(axis=1), 1.0)
