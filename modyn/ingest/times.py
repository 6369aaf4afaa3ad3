"""Timestamps of samples that have none in their file."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modyn.formats import FileNameTime
from modyn.inputs import as_timestamps

__all__ = ["Times", "TimesOf", "times_rule"]

Times = Literal["mtime"] | FileNameTime | Callable[[str, int], Any]
"""What users give: where the timestamps of a file come from."""

TimesOf = Callable[[str, int, int], npt.NDArray[np.int64]]
"""The timestamps of samples: of a path, its mtime in ns, and how many they are."""

NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def times_rule(times: Times | None, unit: str) -> TimesOf:
    """Return the function that gives the timestamps of a file's samples."""
    if times is None:
        return _none
    if times == "mtime":
        return functools.partial(_of_mtime, unit)
    if isinstance(times, FileNameTime):
        return functools.partial(_of_name, _NameReader(times, unit))
    if callable(times):
        return functools.partial(_of_call, times, unit)
    raise TypeError(
        "timestamps must be 'mtime', a modyn.formats.FileNameTime or a function of a path and "
        f"a count, got {times!r}"
    )


def _none(path: str, mtime: int, count: int) -> npt.NDArray[np.int64]:
    raise ValueError(f"{path}: has no timestamps")


def _of_mtime(unit: str, path: str, mtime: int, count: int) -> npt.NDArray[np.int64]:
    return np.full(count, mtime // NANOSECONDS[unit], np.int64)


def _of_name(name: _NameReader, path: str, mtime: int, count: int) -> npt.NDArray[np.int64]:
    return np.full(count, name.time(path), np.int64)


def _of_call(
    call: Callable[[str, int], Any], unit: str, path: str, mtime: int, count: int
) -> npt.NDArray[np.int64]:
    given = call(path, count)
    if isinstance(given, int | np.integer):
        given = np.full(count, int(given), object)
    try:
        times = as_timestamps(given, unit)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the function that gives timestamps: {error}") from error
    if len(times) != count:
        raise ValueError(
            f"{path}: the function that gives timestamps gave {len(times)} for {count} samples"
        )
    return times


class _NameReader:
    """The time in the name of a file."""

    def __init__(self, rule: FileNameTime, unit: str) -> None:
        self._rule = rule
        self._unit = unit
        self._pattern = re.compile(rule.pattern)
        # Many files share a day, and strptime takes long.
        self._parse = functools.lru_cache(maxsize=4096)(self._parsed)

    def time(self, path: str) -> int:
        name = path.rpartition("/")[2]
        match = self._pattern.search(name)
        if match is None:
            raise ValueError(f"{path}: no time in its name: {self._rule.pattern!r} does not match")
        text = match["time"] if "time" in self._pattern.groupindex else match[1]
        try:
            return self._parse(text)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: no time in its name: {error}") from None

    def _parsed(self, text: str) -> int:
        if self._rule.format is None:
            return int(text)
        time = datetime.strptime(text, self._rule.format)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        since = time - datetime(1970, 1, 1, tzinfo=UTC)
        microseconds = (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
        return microseconds * 1000 // NANOSECONDS[self._unit]
