"""SPACE.yaml: which policies to try, as one section `trigger` with axes in place of values.

    runs: [runs/weather/all-data]
    metric: Accuracy
    cost: {unit: money, per_hour: 3.0, per_training: 0.5, currency: EUR}
    policies:
      - trigger: {id: TimeTrigger, every: {any: [30d, 90d, 1y]}}
      - name: amount
        trigger: {id: DataAmountTrigger, num_samples: {range: [500, 20000, 500]}}

An axis is a mapping with one of the keys `any` (the values), `range` (first, last, step),
`linspace` and `geomspace` (first, last, how many; both ends included).  Policies are all
combinations of the axes of an entry.  Everything else is as in pipeline.yaml, and as strict.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from modyn.backtesting.cost import Cost
from modyn.errors import ConfigError
from modyn.pipelines import schema_trigger, strict_yaml
from modyn.pipelines.sections import Config, NonEmpty, Section
from modyn.policies import Trigger

__all__ = ["Space", "read"]

POLICIES_MAX = 1_000_000
AXES = ("any", "range", "linspace", "geomspace")


class CostSection(Section):
    """What trainings cost."""

    unit: Literal["seconds", "samples", "money", "trainings"] = "seconds"
    per_hour: Annotated[int | float, Field(ge=0)] = 0.0
    per_training: Annotated[int | float, Field(ge=0)] = 0.0
    currency: Annotated[str, Field(min_length=1, max_length=20)] = "money"

    def settings(self) -> Cost:
        return Cost(
            unit=self.unit,
            per_hour=float(self.per_hour),
            per_training=float(self.per_training),
            currency=self.currency,
        )


class Entry(Section):
    """A trigger with axes, and what its policies are called."""

    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    trigger: Config


class File(Section):
    """A whole SPACE.yaml."""

    runs: NonEmpty[str] | None = None
    metric: Annotated[str, Field(min_length=1)] = "Accuracy"
    cost: CostSection = CostSection()
    without_model: Literal["first", "zero"] = "first"
    policies: NonEmpty[Entry]


@dataclass(frozen=True, kw_only=True)
class Space:
    """A SPACE.yaml, checked.

    Parameters
    ----------
    runs : sequence of Path
        What to go by; may be empty.
    metric : str
    cost : Cost
    without_model : str
    policies : mapping of str to callable
        Each makes a policy, given the timestamp unit of the dataset.
    """

    runs: Sequence[Path]
    metric: str
    cost: Cost
    without_model: Literal["first", "zero"]
    policies: Mapping[str, Callable[[str], Trigger]]

    def triggers(self, unit: str) -> dict[str, Trigger]:
        """Return the policies for a dataset with timestamps in `unit`."""
        return {name: make(unit) for name, make in self.policies.items()}


def read(path: str | Path) -> Space:
    """Return the space that a file describes.

    Raises
    ------
    ConfigError
        When it describes none: what is wrong, and where in the file.
    OSError
        When the file cannot be read.
    """
    with open(path, "rb") as file:
        text = file.read(strict_yaml.SIZE_MAX + 1)
    return parse(text, name=str(path))


def parse(text: bytes, *, name: str = "SPACE.yaml") -> Space:
    """Return the space that a text describes; `name` is for messages."""
    values = strict_yaml.load(text, name)
    try:
        file = File.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{name}: {line}" for line in _wrong(error))) from None
    policies: dict[str, Callable[[str], Trigger]] = {}
    for i, entry in enumerate(file.policies):
        place = f"{name}: policies[{i}].trigger"
        for called, make in _expanded(entry, place, POLICIES_MAX - len(policies)):
            if called in policies:
                raise ConfigError(f"{place}: a policy is called {called!r} already; give it a name")
            policies[called] = make
    return Space(
        runs=[Path(run) for run in file.runs or ()],
        metric=file.metric,
        cost=file.cost.settings(),
        without_model=file.without_model,
        policies=policies,
    )


def _expanded(
    entry: Entry, place: str, most: int
) -> Iterator[tuple[str, Callable[[str], Trigger]]]:
    """Yield the policies of an entry with their names."""
    axes = list(_axes(entry.trigger, (), place))
    count = math.prod(len(values) for _, values in axes)
    if count > most:
        raise ConfigError(f"{place}: {count:,} policies; at most {POLICIES_MAX:,} are allowed")
    names = _short([path for path, _ in axes])
    head = entry.name or str(entry.trigger.get("id"))
    for chosen in itertools.product(*(values for _, values in axes)):
        said = ", ".join(
            f"{name}={_shown(value)}" for name, value in zip(names, chosen, strict=True)
        )
        filled = entry.trigger
        for (path, _), value in zip(axes, chosen, strict=True):
            filled = _with(filled, path, value)
        called = f"{head} {said}" if said else (entry.name or _plain(entry.trigger))
        try:
            section = _sections().validate_python(filled)
        except ValidationError as error:
            about = f" with {said}" if said else ""
            lines = [f"{place}{about}: {line}" for line in _wrong(error)]
            raise ConfigError("\n".join(lines)) from None
        yield called, section.settings


@cache
def _sections() -> TypeAdapter[Any]:
    kinds: Any = schema_trigger.Trigger
    return TypeAdapter(kinds)


def _axes(value: Any, path: tuple[str | int, ...], place: str) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the path of each axis in a section, and its values."""
    if isinstance(value, Mapping):
        if len(value) == 1 and next(iter(value)) in AXES:
            kind, given = next(iter(value.items()))
            yield path, _values(kind, given, f"{place}.{_dotted(path)}")
            return
        for key, entry in value.items():
            yield from _axes(entry, (*path, key), place)
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            yield from _axes(entry, (*path, i), place)


def _values(kind: str, given: Any, place: str) -> list[Any]:
    """Return the values of an axis."""
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{place}: {kind} needs a list, got {given!r:.60}")
    if kind == "any":
        return list(given)
    numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != len(given) or len(given) != 3 or not all(map(math.isfinite, numbers)):
        third = "step" if kind == "range" else "how many"
        raise ConfigError(f"{place}: {kind} needs [first, last, {third}], got {given!r:.60}")
    first, last, third_number = given
    if kind == "range":
        if third_number <= 0 or last < first or (last - first) / third_number > POLICIES_MAX:
            raise ConfigError(f"{place}: range {given} has no values, or too many")
        count = math.floor((last - first) / third_number + 1e-9) + 1
        return [_round(first + i * third_number) for i in range(count)]
    if not isinstance(third_number, int) or not 2 <= third_number <= POLICIES_MAX:
        raise ConfigError(f"{place}: {kind} needs at least 2 values, got {third_number!r}")
    shares = [i / (third_number - 1) for i in range(third_number)]
    if kind == "linspace":
        return [_round(first + (last - first) * share) for share in shares]
    if first <= 0 or last <= 0:
        raise ConfigError(f"{place}: geomspace needs numbers above 0, got {given!r:.60}")
    found = [first * (last / first) ** share for share in shares]
    if isinstance(first, int) and isinstance(last, int):
        return list(dict.fromkeys(round(value) for value in found))
    return [_round(value) for value in found]


def _round(value: float) -> float:
    """Return a number without the dust of binary fractions; integers stay integers."""
    return value if isinstance(value, int) else float(f"{value:.12g}")


def _with(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """Return a section with another value at a path."""
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, list):
        return [_with(entry, rest, new) if i == head else entry for i, entry in enumerate(value)]
    return {key: _with(entry, rest, new) if key == head else entry for key, entry in value.items()}


def _short(paths: Sequence[tuple[str | int, ...]]) -> list[str]:
    """Return what axes are called: the last of their keys, or all where that says too little."""
    last = [str(path[-1]) if path else "trigger" for path in paths]
    return [
        name if last.count(name) == 1 else _dotted(path)
        for name, path in zip(last, paths, strict=True)
    ]


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(section: Mapping[str, Any]) -> str:
    """Return the name of a policy without axes: its class, and settings that are one value."""
    rest = [
        f"{name}={_shown(value)}"
        for name, value in section.items()
        if name != "id" and isinstance(value, str | int | float)
    ]
    return f"{section.get('id')} {', '.join(rest)}".strip()


def _wrong(error: ValidationError) -> Iterator[str]:
    """Yield what is wrong, with its place."""
    for found in error.errors(include_url=False):
        steps = [str(step) for step in found["loc"] if not str(step).startswith("<")]
        reason = str(found["msg"]).removeprefix("Value error, ")
        got = f", got {found['input']!r:.60}" if found["type"] not in ("missing",) else ""
        yield f"{'.'.join(steps) or 'the file'}: {reason[:1].lower()}{reason[1:]}{got}"
