"""What the checks of both kinds of policies share."""

import copy
import inspect
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from unittest import mock

import numpy as np

from modyn.arrivals import Arrivals
from modyn.policies.base import PlainContext, Selection, Trigger
from modyn.signals import SIGNALS, Signals, example_signals, no_signals

P = TypeVar("P", Trigger, Selection)
DEFAULT = PlainContext(seed=17)


class CheckError(AssertionError):
    """A policy broke a promise; the message says which, and what to do."""


def fail(policy: object, seen: str, advice: str) -> NoReturn:
    """Raise `CheckError`: what was seen of a policy, and what its author can do."""
    raise CheckError(f"{type(policy).__name__}: {seen}; {advice}")


def example_stream(count: int = 500, *, seed: int = 0) -> Arrivals:
    """Return made-up samples in time order: hours apart with bursts and gaps, five labels.

    The keys are mixed, so that nobody takes a position for a key.

    Examples
    --------
    >>> stream = example_stream(100)
    >>> len(stream), bool((stream.timestamps[1:] >= stream.timestamps[:-1]).all())
    (100, True)
    """
    rng = np.random.default_rng(seed)
    seconds = [0, 1, 3600, 7 * 3600, 20 * 86_400]
    gaps = rng.choice(seconds, size=count, p=[0.2, 0.2, 0.4, 0.19, 0.01])
    labels = np.minimum(rng.geometric(0.5, size=count), 5) - 1
    return read_only(1000 + rng.permutation(count), np.cumsum(gaps), labels)


@dataclass(frozen=True)
class MadeUp:
    """Made-up signals of trainings: of trigger i on the samples before position ends[i].

    They begin at the trigger before, and are the same however the policy came there.
    """

    stream: Arrivals
    ends: Sequence[int]
    names: tuple[str, ...] = SIGNALS

    def triggers(self) -> Sequence[int]:
        """Return the triggers so far that had samples."""
        starts = [0, *self.ends]
        return [i for i, end in enumerate(self.ends) if end > starts[i]]

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Return the signals of a trigger."""
        first, last = [0, *self.ends][trigger : trigger + 2]
        found = example_signals(self.stream.keys[first:last], trigger=trigger)
        return found if names is None else found.only(names)

    def nothing(self) -> Signals:
        """Return signals without rows."""
        return no_signals(self.names, classes=True)


def read_only(keys: Any, timestamps: Any, labels: Any) -> Arrivals:
    """Return arrivals whose arrays cannot be written, as those of a run cannot."""
    given = Arrivals(
        np.array(keys, dtype=np.uint64),
        np.array(timestamps, dtype=np.int64),
        None if labels is None else np.array(labels, dtype=np.int64),
    )
    for array in (given.keys, given.timestamps, given.labels):
        if array is not None:
            array.flags.writeable = False
    return given


def factory(policy: P | Callable[[], P], base: type[P]) -> Callable[[], P]:
    """Return what makes fresh policies of this kind, and check that their constructor is right."""
    given = policy if isinstance(policy, base) or not callable(policy) else policy()
    kind = base.__name__
    if not isinstance(given, base):
        fail(given, f"it is no {kind}", f"derive its class from modyn.policies.{kind}")
    verb = "inform" if base is Trigger else "select"
    if getattr(type(given), verb) is getattr(base, verb):
        fail(given, f"it does not define {verb}()", f"write its {verb}() method")
    parameters = parameters_of(given)

    def rebuild() -> P:
        return type(given)(**copy.deepcopy(parameters))

    with no_input_or_output(given):
        states = state_after_json(rebuild()), state_after_json(rebuild())
    if states[0] != states[1]:
        fail(
            given,
            "made twice from the same parameters it starts in different states",
            "let the constructor set private attributes from its parameters alone",
        )
    return rebuild


def parameters_of(policy: object) -> dict[str, Any]:
    """Return what the constructor was given, as the policy keeps it: under the same names."""
    kept = {}
    for parameter in _signature(policy):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            fail(
                policy,
                f"its constructor takes {parameter}",
                "give each parameter a name and take it as a keyword",
            )
        if not hasattr(policy, parameter.name):
            fail(
                policy,
                f"its constructor takes {parameter.name} but does not keep it",
                f"set self.{parameter.name} = {parameter.name} in the constructor",
            )
        kept[parameter.name] = getattr(policy, parameter.name)
    return kept


def _signature(policy: object) -> list[inspect.Parameter]:
    if type(policy).__init__ is object.__init__:
        return []
    return list(inspect.signature(type(policy)).parameters.values())


@contextmanager
def no_input_or_output(policy: object) -> Iterator[None]:
    """Fail when the block, which makes a policy, opens a file or a connection."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        fail(
            policy,
            "its constructor opens a file or a connection",
            "keep the path or address as a parameter and open it where it is needed",
        )

    with ExitStack() as patches:
        for name in ("builtins.open", "io.open", "os.open", "socket.socket.connect"):
            patches.enter_context(mock.patch(name, refuse))
        yield


def check_public_attributes(
    make: Callable[[], Any], run: Callable[[Callable[[], Any]], object]
) -> None:
    """Check that what changes is private: only private attributes travel with a run."""
    policy = make()
    before = copy.deepcopy(_public(policy))
    run(lambda: policy)
    after = _public(policy)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not _same(before[name], after[name]):
            fail(
                policy,
                f"its attribute {name} changed while it ran, so a resumed run would not have it",
                f"keep what changes in a private attribute, such as self._{name}",
            )


def _public(policy: object) -> dict[str, Any]:
    attributes = getattr(policy, "__dict__", {})
    return {name: value for name, value in attributes.items() if not name.startswith("_")}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def check_repeats(
    make: Callable[[], Any], run: Callable[[Callable[[], Any]], object], expected: object
) -> None:
    """Check that a run with other global seeds, on another day, is the same."""
    for seed in (1, 2):
        with _other_surroundings(seed):
            same = run(make) == expected
        if not same:
            fail(
                make(),
                "two runs over the same stream with the same seed differ",
                "draw only from np.random.default_rng(seed_of(context)), take the time from "
                "context.clock, and keep nothing in class attributes or module globals",
            )


@contextmanager
def _other_surroundings(seed: int) -> Iterator[None]:
    """Seed the shared generators, and let the clocks go on by an hour with each look."""
    legacy, shared = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    hours = itertools.count(round(time.time() / 3600) + 24 * 365)
    with ExitStack() as patches:
        for name, units in (("time", 1), ("monotonic", 1), ("time_ns", 10**9)):

            def look(units: int = units) -> int:
                return next(hours) * 3600 * units

            patches.enter_context(mock.patch(f"time.{name}", look))
        yield
    np.random.set_state(legacy)
    random.setstate(shared)


def state_after_json(policy: Trigger | Selection) -> Any:
    """Return the state of a policy as it comes back from a ledger."""
    try:
        return json.loads(json.dumps(policy.state_dict(), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckError(
            f"{type(policy).__name__}: its state does not travel as JSON: {error}"
        ) from error


def reborn(policy: P, make: Callable[[], P]) -> P:
    """Return a new policy with the state of the old, as after a crash."""
    fresh = make()
    fresh.load_state_dict(state_after_json(policy))
    return fresh
