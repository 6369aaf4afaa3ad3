"""What `modyn ingest` is told, by options or by a YAML file with the same names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from modyn import formats
from modyn.errors import ConfigError

__all__ = ["IngestConfig", "read"]

FORMATS: dict[str, type] = {
    "csv": formats.CSV,
    "jsonl": formats.JSONL,
    "fixed": formats.FixedRecord,
    "npy": formats.Npy,
    "tar": formats.Tar,
    "files": formats.Files,
    "parquet": formats.Parquet,
    "arrow": formats.Arrow,
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Time(_Strict):
    """The time in the name of a file."""

    pattern: str
    format: str | None = None


class IngestConfig(_Strict):
    """Everything that `modyn ingest` can be told besides dataset and files."""

    format: str | None = None
    options: dict[str, Any] = {}
    """Of the format, under the names that modyn.formats has."""
    timestamps: Literal["mtime"] | _Time | None = None
    folder_labels: bool | dict[str, int] = False
    label_file: str | None = None
    mode: Literal["copy", "link"] = "copy"
    on_error: Literal["stop", "skip"] = "stop"
    threads: int | None = None

    def make_format(self) -> object:
        """Return the format; ConfigError says which option is wrong."""
        if self.format is None:
            raise ConfigError(f"format is missing; there are {', '.join(FORMATS)}")
        kind = FORMATS.get(self.format)
        if kind is None:
            raise ConfigError(
                f"format: there is no {self.format!r}; there are {', '.join(FORMATS)}"
            )
        known = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        for name in self.options:
            if name not in known:
                raise ConfigError(
                    f"format {self.format} has no option {name!r}; it has {', '.join(known)}"
                )
        try:
            return kind(**{name: _as_tuples(value) for name, value in self.options.items()})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"format {self.format}: {error}") from error

    def make_times(self) -> Any:
        if not isinstance(self.timestamps, _Time):
            return self.timestamps
        try:
            return formats.FileNameTime(self.timestamps.pattern, self.timestamps.format)
        except ValueError as error:
            raise ConfigError(f"timestamps: {error}") from error

    def make_labels(self) -> formats.FolderLabels | formats.LabelFile | None:
        if self.label_file is not None:
            if self.folder_labels:
                raise ConfigError("label_file and folder_labels are both given; which?")
            return formats.LabelFile(path=self.label_file)
        if self.folder_labels is False:
            return None
        classes = self.folder_labels if isinstance(self.folder_labels, dict) else None
        return formats.FolderLabels(classes=classes)


def read(path: Path | None, given: Mapping[str, Any]) -> IngestConfig:
    """Return what a file says, and what was given in its place on the command line.

    Raises
    ------
    ConfigError
        Something is unknown or wrong: the message names it.
    """
    found: Any = {}
    if path is not None:
        try:
            found = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must hold names with their values")
    said = {name: value for name, value in given.items() if value not in (None, {}, False)}
    options = {**(found.get("options") or {}), **said.pop("options", {})}
    try:
        return IngestConfig(**{**found, **said, "options": options})
    except ValidationError as error:
        where = f"{path}: " if path is not None else ""
        lines = [
            f"{where}{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}"
            for one in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from error


def _as_tuples(value: Any) -> Any:
    """YAML has lists where the formats have pairs."""
    return tuple(value) if isinstance(value, list) else value
