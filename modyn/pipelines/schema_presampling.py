"""The key `presampling_config` of pipeline.yaml: choosing before a model is trained.

A strategy of a file is a class of `modyn.policies`, and its keys are the parameters of the class,
with their types, defaults and rules; a class that comes there needs one name in STRATEGIES. Two
parameters stand one level up, for all strategies: `limit` and `tail_triggers`.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import reduce
from operator import or_
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import Field, create_model

from modyn import policies
from modyn.pipelines.sections import Count, Index, Section

STRATEGIES: dict[str, type[policies.Selection]] = {
    "Random": policies.Random,
    "RandomNoReplacement": policies.RandomNoReplacement,
    "LabelBalanced": policies.LabelBalanced,
    "TriggerBalanced": policies.TriggerBalanced,
    "TimeStratified": policies.TimeStratified,
    "Weighted": policies.Weighted,
    "MostRecent": policies.MostRecent,
    "TopBySignal": policies.TopBySignal,
    "QuantileBand": policies.QuantileBand,
    "Reservoir": policies.Reservoir,
    "ClassBalancedReservoir": policies.ClassBalancedReservoir,
    "GDumb": policies.GDumb,
}
ABOVE = ("limit", "tail_triggers")
IGNORED: dict[str, Any] = {  # known at every strategy of the field, also where it says nothing
    "force_column_balancing": (bool, False),
    "force_required_target_size": (bool, False),
}


class Strategy(Section):
    """A section that stands for a policy."""

    strategy: Any

    def policy(self, tail_triggers: int | None, limit: int) -> policies.Selection:
        """Return the policy, with what stands one level up."""
        kind = STRATEGIES[self.strategy]
        known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
        given = {name: getattr(self, name) for name in known - set(ABOVE)}
        if "limit" in known:
            given["limit"] = limit
        elif limit != -1:
            raise ValueError(f"limit is not for {kind.__name__}, whose size says how many")
        return kind(tail_triggers=tail_triggers, **given)  # type: ignore[call-arg]

    def settings(self) -> policies.Selection:
        """Return the policy over all data, so that its parameters are checked at their place."""
        return self.policy(None, -1)


class No(Strategy):
    """All candidates."""

    strategy: Literal["No"]
    ratio: Index = 100
    ratio_max: Count = 100
    force_column_balancing: bool = False
    force_required_target_size: bool = False

    def policy(self, tail_triggers: int | None, limit: int) -> policies.Selection:
        """Return the policy that takes all, or a uniform draw of `limit`."""
        if self.ratio != self.ratio_max:
            raise ValueError(
                f"strategy No takes all, got ratio {self.ratio} of {self.ratio_max}; "
                "a share is for Random"
            )
        if limit == -1:
            return policies.NewData(tail_triggers=tail_triggers)
        return policies.NewData(tail_triggers=tail_triggers, limit=limit, limit_reset="sampleUAR")


def _section(name: str, kind: type[policies.Selection]) -> type[Strategy]:
    """Return the section of a class: one key for each parameter."""
    hints = get_type_hints(kind)
    keys: dict[str, Any] = {"strategy": (Literal[name], ...)}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in ABOVE:
            default = ... if field.default is MISSING else field.default
            keys[field.name] = (_of_files(hints[field.name]), default)
    if name in ("Random", "RandomNoReplacement"):
        keys |= IGNORED
    return create_model(name, __base__=Strategy, __doc__=kind.__doc__, **keys)


def _of_files(hint: Any) -> Any:
    """Return a type without functions, which no file can say."""
    kinds = tuple(kind for kind in get_args(hint) if get_origin(kind) is not Callable)
    return reduce(or_, kinds) if get_origin(hint) in (Union, UnionType) else hint


if TYPE_CHECKING:
    Presampling = Strategy
else:
    _SECTIONS = [_section(name, kind) for name, kind in STRATEGIES.items()]
    Presampling = Annotated[Union[No, *_SECTIONS], Field(discriminator="strategy")]


def section(policy: policies.Selection) -> dict[str, Any]:
    """Return the section that stands for a policy; empty where a file cannot say it.

    Examples
    --------
    >>> section(policies.Random(ratio=10, limit=7))
    {'strategy': 'Random', 'ratio': 10}
    """
    if type(policy) is policies.NewData:
        plain = policy.limit == -1 or policy.limit_reset == "sampleUAR"
        return {"strategy": "No", "ratio": 100} if plain else {}
    name = type(policy).__name__
    if any(callable(value) for value in vars(policy).values()):
        return {}
    if STRATEGIES.get(name) is not type(policy):
        return {}
    changed = {
        field.name: getattr(policy, field.name)
        for field in fields(policy)  # type: ignore[arg-type]
        if field.name not in ABOVE
        and (field.name == "ratio" or getattr(policy, field.name) != field.default)
    }
    return {"strategy": name, **changed}
