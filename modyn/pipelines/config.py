"""pipeline.yaml comes in here: text to checked settings, or an error that says where and why.

Nothing in a file is executed or imported, whatever it says: it is plain data (`strict_yaml`), held
against sections with known keys (`schema`).  Behind this border there are frozen records only.
"""

import difflib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from modyn.downsampling import Downsampler, Schedule
from modyn.errors import ConfigError
from modyn.pipelines import schema, strict_yaml
from modyn.pipelines.settings import Evaluation, Metadata, Model, Training
from modyn.policies import Selection, Trigger

VALUE_SHOWN = 60  # characters of a wrong value in a message
TAGS = ("id", "name", "type", "strategy")  # keys that choose among sections


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """A pipeline.yaml, checked.

    Attributes
    ----------
    text : bytes
        The file as it was.
    values : mapping
        The file as plain values.
    trigger : callable
        Makes the trigger policy, given the timestamp unit of the dataset.
    """

    text: bytes
    values: Mapping[str, Any]
    name: str
    seed: int | None
    order: Literal["time", "arrival"]
    maximum_triggers: int | None
    start_replay_at: int | str | None
    stop_replay_at: int | str | None
    model: Model
    dataset_id: str
    trigger: Callable[[str], Trigger]
    selection: Selection
    downsampling: Downsampler | Schedule | None
    training: Training
    evaluation: Evaluation | None
    metadata: Metadata | None
    label_delay: int | str = 0


def read(path: str | Path) -> PipelineConfig:
    """Return the configuration in a file.

    Raises
    ------
    ConfigError
        When the file holds none: one line per mistake, with its place in the file.
    OSError
        When the file cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as file:
        text = file.read(strict_yaml.SIZE_MAX + 1)
    return parse(text, name=str(path))


def validate(path: str | Path) -> str:
    """Check a file, and return the name of its pipeline; runs and imports nothing it names.

    Raises
    ------
    ConfigError, OSError
        As `read`.
    """
    return read(path).name


def parse(text: bytes, *, name: str = "pipeline.yaml") -> PipelineConfig:
    """Return the configuration that a text describes; `name` is for messages."""
    values = strict_yaml.load(text, name)
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected sections such as 'pipeline:', got {_shown(values)}")
    try:
        file = schema.File.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_messages(error, values, name))) from None
    return PipelineConfig(
        text=text,
        values=values,
        name=file.pipeline.name,
        seed=file.pipeline.seed,
        order=file.pipeline.order,
        maximum_triggers=file.pipeline.maximum_triggers,
        start_replay_at=file.pipeline.start_replay_at,
        stop_replay_at=file.pipeline.stop_replay_at,
        model=file.model.settings(),
        dataset_id=file.data.dataset_id,
        trigger=file.trigger.settings,
        selection=file.selection_strategy.settings(),
        downsampling=file.selection_strategy.downsampling(),
        training=file.training_settings(),
        evaluation=file.evaluation.settings() if file.evaluation else None,
        metadata=file.metadata.settings() if file.metadata else None,
        label_delay=file.data.label_delay,
    )


def _messages(error: ValidationError, values: Any, name: str) -> Iterator[str]:
    for found in error.errors(include_url=False):
        path, section = _place(found["loc"], values)
        yield f"{name}: {path or 'the file'}: {_reason(dict(found), section)}"


def _reason(error: Mapping[str, Any], section: type[BaseModel]) -> str:
    """Return what is wrong, what was found, and what may have been meant."""
    kind, got, about = error["type"], _shown(error["input"]), error.get("ctx", {})
    text = str(error["msg"])
    if kind == "missing":
        return "this key is required"
    if kind == "extra_forbidden":
        return "unknown key" + _meant(str(error["loc"][-1]), list(section.model_fields))
    if kind == "unknown_name":
        return f"{text} {got}" + _meant(str(error["input"]), about["names"])
    if kind == "union_tag_invalid":
        names = [tag.strip().strip("'") for tag in about["expected_tags"].split(",")]
        tag, key = about["tag"], about["discriminator"].strip("'")
        return f"{key} {_shown(tag)} is unknown" + _meant(tag, names)
    if kind == "union_tag_not_found":
        return f"the key {about['discriminator']} is required"
    if kind in ("value_error", "code", "not_supported"):
        return text.removeprefix("Value error, ")
    return f"{text[:1].lower()}{text[1:]}, got {got}".replace("input should", "should")


def _meant(word: str, names: list[str]) -> str:
    """Return the end of a message about an unknown name: the nearest one, or all."""
    folded = {name.lower().replace("_", ""): name for name in names}
    plain = word.lower().replace("_", "").replace("-", "")
    near = difflib.get_close_matches(plain, list(folded), n=1, cutoff=0.6)
    if near:
        return f"; did you mean {folded[near[0]]!r}?"
    return f"; known are {', '.join(names)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 3] + "..."


def _place(loc: tuple[int | str, ...], values: Any) -> tuple[str, type[BaseModel]]:
    """Return the path of an error as in the file, and the section that holds its last key.

    pydantic also names the variant of a union that it looked at; the file does not.
    """
    path = ""
    kind: Any = schema.File
    section: type[BaseModel] = schema.File
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        variants = _variants(kind)
        if isinstance(step, str) and len(variants) > 1 and step in variants:
            kind = variants[step]
            continue
        if isinstance(step, str) and step.startswith("<"):
            continue
        if isinstance(step, str) and isinstance(values, dict) and (step in values or last):
            section = next(iter(variants.values()), section)
            path += f".{step}" if path else step
        elif isinstance(step, int):
            path += f"[{step}]"
        else:
            continue  # a name of pydantic's own
        kind = _inner(kind, step)
        values = _entry(values, step)
    return path, section


def _entry(values: Any, step: int | str) -> Any:
    if isinstance(values, dict):
        return values.get(step)
    return values[step] if isinstance(values, list) and isinstance(step, int) else None


def _inner(kind: Any, step: int | str) -> Any:
    """Return the annotation of a key of a section, or of an entry of a list or a mapping."""
    if isinstance(step, int):
        return next((get_args(k)[0] for k in _alternatives(kind) if get_origin(k) is list), Any)
    for alternative in _alternatives(kind):
        if get_origin(alternative) is dict:
            return get_args(alternative)[1]
    for section in _variants(kind).values():
        if step in section.model_fields:
            return section.model_fields[step].annotation
    return Any


def _variants(kind: Any) -> dict[str, type[BaseModel]]:
    """Return the sections that an annotation allows, by the tag that chooses among them."""
    found: dict[str, type[BaseModel]] = {}
    for section in _alternatives(kind):
        if isinstance(section, type) and issubclass(section, BaseModel):
            tags = [
                get_args(field.annotation)[0]
                for name, field in section.model_fields.items()
                if name in ("id", "name", "type", "strategy")
                and get_origin(field.annotation) is Literal
            ]
            found[tags[0] if tags else section.__name__] = section
    return found


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [inner for entry in get_args(kind) for inner in _alternatives(entry)]
    return [kind]
