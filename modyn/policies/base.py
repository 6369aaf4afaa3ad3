"""What a policy is: the base classes of triggers and selections, and what both may look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies.context import Context, PlainContext
from modyn.policies.state import decode, encode

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = [
    "Context",
    "PlainContext",
    "Selected",
    "Selection",
    "Trigger",
    "inner_policies",
    "seed_of",
]


_INNER = "_policies"  # the state of policies among the parameters


class _Policy:
    """State that travels: all private attributes, whole, as JSON values.

    Those that begin with `_cached` do not travel: what they hold is made again when it is missing.
    The state of policies among the parameters (one, or a mapping of them) travels along.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return every private attribute (`_name`) as new JSON values.

        NumPy numbers and arrays, nan and inf are carried without a loss; see
        `modyn.policies.state`.

        Raises
        ------
        TypeError
            Naming the attribute that JSON cannot hold.
        """
        owner = type(self).__name__
        state = {
            name: encode(getattr(self, name), f"{owner}.{name}")
            for name in _private_names(self)
            if _is_state(name)
        }
        inner = {name: policy.state_dict() for name, policy in inner_policies(self)}
        return {**state, _INNER: inner} if inner else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the private attributes exactly those of `state`.

        Private attributes that `state` does not name are removed: the state travels whole.
        So is what is cached.
        """
        for name in state:
            if not name.startswith("_"):
                raise ValueError(
                    f"state of {type(self).__name__} names {name!r}, but only private "
                    "attributes (_name) are state"
                )
        for name in _private_names(self):
            object.__delattr__(self, name)
        for name, value in state.items():
            if name != _INNER:
                object.__setattr__(self, name, decode(value))
        for name, policy in inner_policies(self):
            policy.load_state_dict(state[_INNER][name])


def _private_names(policy: object) -> list[str]:
    """Return which private attributes are set, in a fixed order; also those in slots."""
    names = set(getattr(policy, "__dict__", ()))
    for base in type(policy).__mro__:
        slots = base.__dict__.get("__slots__", ())
        names.update([slots] if isinstance(slots, str) else slots)
    own = (name for name in names if name.startswith("_") and not name.startswith("__"))
    return sorted(name for name in own if hasattr(policy, name))


def inner_policies(policy: object) -> list[tuple[str, "_Policy"]]:
    """Return the policies among the parameters of one, by name."""
    found: list[tuple[str, _Policy]] = []
    for name, value in getattr(policy, "__dict__", {}).items():
        if name.startswith("_"):
            continue
        if isinstance(value, _Policy):
            found.append((name, value))
        elif isinstance(value, Mapping):
            inner = value.items()
            found += [(f"{name}.{key}", one) for key, one in inner if isinstance(one, _Policy)]
    return found


def _is_state(name: str) -> bool:
    return not name.startswith("_cached")


class Trigger(_Policy):
    """Decides when to train.

    A subclass (a plain class or a dataclass, in a package, a script or a notebook) takes keywords
    in its constructor, keeps them under the same names, and touches no data there. What changes
    from sample to sample lives in private attributes (`self._name`): they are saved with each
    trigger and brought back after a crash. `modyn.policies.checks.check_trigger` tries all of it.

    Examples
    --------
    A trigger for every Monday, and one story of its life:

    >>> from modyn.arrivals import example_arrivals
    >>> class EveryMonday(Trigger):
    ...     def __init__(self):
    ...         self._week = None
    ...
    ...     def inform(self, arrivals, context):
    ...         weeks = (arrivals.timestamps // 86_400 + 3) // 7
    ...         for n, week in enumerate(weeks.tolist()):
    ...             over = self._week is not None and week > self._week
    ...             self._week = week
    ...             if over:
    ...                 return n
    ...         return None
    >>> trigger = EveryMonday()
    >>> days = example_arrivals(14, step=86_400)
    >>> trigger.inform(days, PlainContext())  # 1 January 1970 was a Thursday
    4
    >>> trigger.state_dict()
    {'_week': 1}
    """

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        """Return after how many of `arrivals` a trigger is due, or None.

        With None, all of `arrivals` are consumed. With n, the first n are consumed, they end the
        new data of the trigger, and the rest comes again in the next call. The answer n may
        depend on the samples 0 to n of the block (sample n may be what shows that a period is
        over) and on none later. A block is never empty; how the stream is cut into blocks must not
        matter.

        Parameters
        ----------
        arrivals : Arrivals
            The next samples of the stream, at least one.
        context : Context
            As of the last sample consumed, which is the one before `arrivals`. It may be asked
            about `arrivals` too; `context.at(n)` is as of the first n of them, and no later.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define inform()")


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """The answer of a selection: keys, each once and in any order, and perhaps their weights.

    Parameters
    ----------
    keys : uint64, shape (n,)
        Keys of candidates.
    weights : float64, shape (n,), or None
        Finite and at least 0; None weighs all alike.
    """

    keys: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.float64] | None = None


class Selection(_Policy):
    """Decides on which samples to train. Rules for subclasses are those of `Trigger`.

    Attributes
    ----------
    tail_triggers : int or None
        Which samples are candidates: those of this trigger (0, unless a subclass says otherwise),
        those of the n triggers before it too (n), or all so far (None).

    Examples
    --------
    >>> class EveryThird(Selection):
    ...     tail_triggers = None
    ...
    ...     def select(self, candidates, context):
    ...         return Selected(candidates.keys[::3])
    """

    tail_triggers: int | None = 0

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return which of `candidates` to train on.

        A bare array of keys, or a pair (keys, weights), is accepted as well.

        Parameters
        ----------
        candidates : Candidates
            What may be chosen, in stream order: `candidates.keys`, `.timestamps`, `.labels`, or
            `candidates.blocks()` to go through them in bounded memory. At least one.
        context : Context
            As of the end of the trigger's data. Whoever draws takes the seed `seed_of(context)`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define select()")


MASK = (1 << 64) - 1
STREAM_TRIGGER = 5  # MDN_STREAM_TRIGGER of csrc/base/random.h


def seed_of(context: Context) -> int:
    """Return the seed of this trigger's draws, a function of (context.seed, context.trigger).

    It is draw number `trigger` of stream MDN_STREAM_TRIGGER of the pipeline's seed
    (csrc/base/random.h), so that a trigger draws alike whatever was drawn before it, and the
    seeds of two triggers of one pipeline are never equal.

    Examples
    --------
    >>> seed_of(PlainContext(seed=7, trigger=0)) == seed_of(PlainContext(seed=7, trigger=1))
    False
    """
    golden = 0x9E3779B97F4A7C15
    start = _mix(_mix(context.seed + golden) ^ (STREAM_TRIGGER * 0xD1B54A32D192ED03 & MASK))
    return _mix(_mix(start + context.trigger * golden))


def _mix(x: int) -> int:
    """mdn_mix of csrc/base/random.h."""
    x &= MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)
