"""Twin of csrc/ingest/json.c and jsonl_parse.c, over the json module of Python."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.reference import csv_rows

DEPTH = 256
BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


class Number(str):
    """The text of a number."""


class Object(list[tuple[str, Any]]):
    """The pairs of an object, those of one key all of them."""


@dataclass(frozen=True)
class Target:
    """A value of every sample: where it is and what it has to be."""

    key: str
    dtype: str = "int64"
    shape: tuple[int, ...] = ()
    base64: bool = False


def samples(text: bytes, targets: Sequence[Target]) -> list[list[Any]]:
    """Return the values of every line; ValueError or OverflowError for what has to be refused."""
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    lines = [line.strip(b" \t\r") for line in lines]
    return [_sample(line, targets) for line in lines if line]


def _sample(line: bytes, targets: Sequence[Target]) -> list[Any]:
    try:
        value = json.loads(
            line.decode(),
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse,
            object_pairs_hook=Object,
        )
    except RecursionError:
        raise ValueError("too deep") from None
    _check(value, 0)
    return [_convert(_find(value, target.key.split(".")), target) for target in targets]


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _check(value: Any, depth: int) -> None:
    """What the json module lets pass: lone surrogates, and any depth."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        if depth == DEPTH:
            raise ValueError("too deep")
        items = [part for pair in value for part in pair] if isinstance(value, Object) else value
        for item in items:
            _check(item, depth + 1)


def _find(value: Any, names: list[str]) -> Any:
    for name in names:
        if not isinstance(value, Object):
            raise ValueError("not an object")
        found = [item for key, item in value if key == name]
        if len(found) != 1:
            raise ValueError(f"{name} is there {len(found)} times")
        value = found[0]
    return value


def _convert(value: Any, target: Target) -> Any:
    if target.dtype == "bytes":
        return _bytes(value, target.base64)
    return np.array(_numbers(value, target.dtype, target.shape), target.dtype)


def _numbers(value: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    if not shape:
        return _number(value, dtype)
    if not isinstance(value, list) or isinstance(value, Object) or len(value) != shape[0]:
        raise ValueError("not of this shape")
    return [_numbers(item, dtype, shape[1:]) for item in value]


def _number(value: Any, dtype: str) -> Any:
    if dtype == "bool" or isinstance(value, bool):
        if dtype == "bool" and isinstance(value, bool):
            return value
        raise ValueError("not a bool, or not a number")
    if value is None and dtype.startswith("float"):
        return np.nan
    if not isinstance(value, Number):
        raise ValueError("not a number")
    return csv_rows.number(dtype, value.encode())


def _bytes(value: Any, is_base64: bool) -> bytes:
    if not isinstance(value, str) or isinstance(value, Number):
        raise ValueError("not a string")
    if not is_base64:
        return value.encode()
    text = value.encode()
    if len(text) % 4 or not BASE64.fullmatch(text):
        raise ValueError("not base64")
    return base64.b64decode(text)
