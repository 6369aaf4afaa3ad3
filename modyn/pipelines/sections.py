"""What the sections of pipeline.yaml are made of: strict mappings, and kinds of values."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from modyn.pipelines import settings
from modyn.pipelines.times import microseconds
from modyn.policies.time import seconds_of

INT64_MAX = 2**63 - 1


class Section(BaseModel):
    """A mapping of the file: no other keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="after")
    def _settings_are_possible(self) -> Any:
        """Let the record that the section stands for check itself, where the path is known."""
        self.settings()
        return self

    def settings(self) -> Any:
        """Return what this section stands for."""
        return None


def not_supported(what: str, available: str = "") -> PydanticCustomError:
    """Return the error for what is known and not built yet."""
    more = f"; available: {available}" if available else ""
    # Braces would be taken for places to fill in.
    text = f"{what} is not supported yet{more}".replace("{", "(").replace("}", ")")
    return PydanticCustomError("not_supported", text)


def only(*values: Any) -> AfterValidator:
    """Accept these values; others are known and not supported yet."""

    def check(value: Any) -> Any:
        if value not in values:
            raise not_supported(repr(value), ", ".join(str(v) for v in values))
        return value

    return AfterValidator(check)


def no_code(value: Any) -> Any:
    """Refuse source text."""
    if value not in (None, "", []):
        raise PydanticCustomError(
            "code",
            "code in configurations is never executed; store typed fields and labels instead",
        )
    return value


def known(names: tuple[str, ...], later: tuple[str, ...] = ()) -> AfterValidator:
    """Accept these names, and suggest the nearest one for others."""

    def check(value: str) -> str:
        if value in later:
            raise not_supported(repr(value), ", ".join(names))
        if value not in names:
            raise PydanticCustomError("unknown_name", "unknown name", {"names": list(names)})
        return value

    return AfterValidator(check)


def tagged(key: str, later: tuple[str, ...], *available: str) -> BeforeValidator:
    """Refuse variants that are known and not built yet, before the variant is looked up."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and value.get(key) in later:
            raise not_supported(repr(value[key]), ", ".join(available))
        return value

    return BeforeValidator(check)


def checked(check: Callable[[str], Any]) -> AfterValidator:
    """Accept a text that the check does not refuse."""

    def keep(value: str) -> str:
        check(value)
        return value

    return AfterValidator(keep)


def moment(value: Any) -> Any:
    """Accept a timestamp, or a date and time as text."""
    if isinstance(value, str):
        microseconds(value)
    return value


def shuffle_kind(value: Any) -> Any:
    """Accept true, false and partition."""
    if not isinstance(value, bool) and value != "partition":
        raise ValueError(f"should be true, false or 'partition', got {value!r:.60}")
    return value


def number_or_auto(least: int) -> AfterValidator:
    """Accept an integer of at least this, or the word that leaves the choice to modyn."""

    def check(value: Any) -> Any:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value != "auto" and not (is_number and least <= value <= INT64_MAX):
            raise ValueError(f"should be 'auto' or an integer from {least}, got {value!r:.60}")
        return value

    return AfterValidator(check)


T = TypeVar("T")
Duration = Annotated[str, checked(seconds_of)]
Moment = Annotated[Annotated[int, Field(ge=-INT64_MAX, le=INT64_MAX)] | str, AfterValidator(moment)]
DatasetId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
Device = Annotated[str, checked(settings.check_device)]
Config = dict[str, JsonValue]
NonEmpty = Annotated[list[T], Field(min_length=1, max_length=10_000)]
Count = Annotated[int, Field(ge=1, le=INT64_MAX)]
Index = Annotated[int, Field(ge=0, le=INT64_MAX)]
Code = Annotated[JsonValue, AfterValidator(no_code)]
