"""JSON lines: against the twin over Python's json module, and what bad lines say."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modyn import _core
from modyn.dataset import Dataset
from modyn.formats import JSONL
from tests.reference import jsonl
from tests.reference.jsonl import Target

relaxed = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

TARGETS = {
    "a": Target("a", "float32", (2,)),
    "b": Target("o.b", "bytes"),
    "c": Target("o.c.d", "uint8"),
    "e": Target("e", "bool"),
    "f": Target("f", "float64"),
    "raw": Target("raw", "bytes", base64=True),
}
LABEL, TIMESTAMP = Target("f2"), Target("t")


def type_of(target: Target) -> str:
    return target.dtype + (str(list(target.shape)).replace(" ", "") if target.shape else "")


def open_jsonl(path: Path, targets: dict[str, Target], **more: Any) -> _core.Reader:
    settings = {"label": None, "timestamp": None, "threads": 1, "growing": False, "piece_size": 0}
    settings |= more
    return _core.read_jsonl(
        path,
        "".join(f"{name}: {type_of(target)}\n" for name, target in targets.items()),
        tuple(target.key for target in targets.values()),
        tuple(target.base64 for target in targets.values()),
        *settings.values(),
    )


def read_all(reader: _core.Reader, size_max: int = 1 << 20) -> list[list[Any]]:
    """Rows of the whole file: one item per field, then label and timestamp, if there are any."""
    rows: list[list[Any]] = []
    ended = False
    while not ended:
        columns, labels, timestamps, ended = reader.read(size_max)
        items = []
        for column in columns:
            if isinstance(column, tuple):
                values, offsets = column
                items.append([values[a:b].tobytes() for a, b in pairwise(offsets.tolist())])
            else:
                items.append(list(column))
        items += [list(column) for column in (labels, timestamps) if column is not None]
        rows += [list(row) for row in zip(*items, strict=True)]
    return rows


def same(a: Any, b: Any) -> bool:
    return a == b if isinstance(a, bytes) else np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def check_file(path: Path, targets: dict[str, Target], **more: Any) -> None:
    """A file is read as the twin reads it, or refused as it is."""
    wanted = [*targets.values()]
    wanted += [Target(more[name]) for name in ("label", "timestamp") if more.get(name)]
    try:
        expected = jsonl.samples(path.read_bytes(), wanted)
    except (ValueError, OverflowError):
        with pytest.raises(ValueError, match=r"a\.jsonl: line"):
            read_all(open_jsonl(path, targets, **more))
        return
    got = read_all(open_jsonl(path, targets, **more))
    assert len(got) == len(expected)
    for row, other in zip(got, expected, strict=True):
        assert all(
            same(np.asarray(a) if not isinstance(a, bytes) else a, b)
            for a, b in zip(row, other, strict=True)
        ), (row, other)


# Against the twin ------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from(list('ab"\\/\b\f\n\r\t\x00\x7f é€\U0001f600')), max_size=8)
NUMBERS = st.one_of(st.integers(-300, 300), st.floats(allow_nan=False, allow_infinity=False))
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
RAW = st.sampled_from(["", "QQ==", "QUI=", "QUJD", "QQ=", "Q===", "QUJDRA==", "QR==", "=QQ=", "é"])
LINES = st.fixed_dictionaries(
    {
        "a": st.one_of(st.tuples(NUMBERS, NUMBERS), st.just([None, 1.5]), ANY),
        "o": st.fixed_dictionaries(
            {"b": st.one_of(TEXTS, ANY), "c": st.one_of(st.just({"d": 7}), ANY)},
            optional={"x": ANY},
        ),
        "e": st.booleans(),
        "f": st.one_of(NUMBERS, st.none()),
        "raw": RAW,
        "t": st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers()),
    },
    optional={"unknown": ANY, "z": ANY},
)
GOOD = st.fixed_dictionaries(
    {
        "a": st.tuples(NUMBERS, NUMBERS),
        "o": st.fixed_dictionaries({"b": TEXTS, "c": st.just({"d": 7})}, optional={"x": ANY}),
        "e": st.booleans(),
        "f": st.one_of(NUMBERS, st.none()),
        "raw": st.binary(max_size=7).map(lambda b: base64.b64encode(b).decode()),
        "t": st.integers(-(2**63), 2**63 - 1),
    },
    optional={"unknown": ANY},
)


@relaxed
@given(
    lines=st.one_of(
        st.lists(GOOD, min_size=1, max_size=6), st.lists(LINES, min_size=1, max_size=3)
    ),
    ascii=st.booleans(),
    separators=st.sampled_from([(",", ":"), (" ,\t", "  : ")]),
    end=st.sampled_from(["\n", "\r\n", "\n \n"]),
    threads=st.integers(1, 3),
    piece_size=st.sampled_from([0, 1, 20]),
)
def test_objects_are_read_as_the_twin_reads_them(
    tmp_path: Path,
    lines: list[dict[str, Any]],
    ascii: bool,
    separators: tuple[str, str],
    end: str,
    threads: int,
    piece_size: int,
) -> None:
    path = tmp_path / "a.jsonl"
    texts = [json.dumps(line, ensure_ascii=ascii, separators=separators) for line in lines]
    path.write_bytes(end.join(texts).encode())

    check_file(path, TARGETS, timestamp="t", threads=threads, piece_size=piece_size)


PARTS = [
    *(
        '{"x":',
        '"x"',
        ":",
        ",",
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud83d",
    ),
    *(
        "0",
        "1",
        "-",
        ".",
        "e",
        "E+",
        "true",
        "false",
        "null",
        " ",
        "\t",
        "\r",
        "\n",
        "NaN",
        "é",
        "x",
    ),
]


@relaxed
@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_any_text_is_read_as_the_twin_reads_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"

    for line in (
        '{"x":' + text + "}",
        text + '\n{"x":1}',
        '{"x":1,"y":' + text + "}",
        '{"x":"' + text + '"}',
    ):
        path.write_text(line, newline="")
        check_file(path, {"x": Target("x", "float64")})
        check_file(path, {"x": Target("x", "bytes")})


@relaxed
@given(st.binary(max_size=6))
def test_any_bytes_in_a_string_are_checked_to_be_utf8(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.jsonl"

    for line in (b'{"x":"%s"}', b'{"x":"","y":"%s"}', b'{"%s":1,"x":""}'):
        path.write_bytes(line % text)
        check_file(path, {"x": Target("x", "bytes")})


@pytest.mark.parametrize("depth", [1, 254, 255, 256, 1000, 200_000])
@pytest.mark.parametrize("text", ["[%s]", '{"a":%s}'])
def test_depth_is_bounded(tmp_path: Path, depth: int, text: str) -> None:
    opening, closing = text.split("%s")
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": 1, "y": ' + opening * depth + "0" + closing * depth + "}")
    reader = open_jsonl(path, {"x": Target("x")})

    if depth <= 255:
        assert read_all(reader) == [[1]]
    else:
        with pytest.raises(ValueError, match=r"line 1, byte .*: too many values within each other"):
            reader.check()


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("piece_size", [100, 0])
def test_a_large_file_is_read_as_the_twin_reads_it(
    tmp_path: Path, rand: Any, threads: int, piece_size: int
) -> None:
    path = tmp_path / "a.jsonl"
    values = rand.numpy.normal(size=(800, 2)).tolist()
    path.write_text(
        "\n".join(
            json.dumps({"t": i, "n": {"a": a, "s": "é" * (i % 7)}}) for i, a in enumerate(values)
        )
    )

    check_file(
        path,
        {"a": Target("n.a", "float64", (2,)), "s": Target("n.s", "bytes")},
        timestamp="t",
        label="t",
        threads=threads,
        piece_size=piece_size,
    )


# What bad lines say ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"x": [1, 2]}', "line 2: key 'o.n' is missing"),
        ('{"o": {"n": 1}, "x": [1, 2], "x": 1}', "line 2: key 'x' is there twice"),
        ('{"o": {"n": 1, "n": 1}}', r"line 2: key 'o\.n' is there twice"),
        ('{"o": 1}', "line 2, key 'o': '1' is not an object"),
        ('{"o": {"n": 256}}', r"line 2, key 'o\.n': '256' does not fit a uint8"),
        ('{"o": {"n": 1.0}}', r"line 2, key 'o\.n': '1\.0' is not a uint8"),
        ('{"o": {"n": "7"}}', r"line 2, key 'o\.n': '\"7\"' is not a uint8"),
        ('{"o": {"n": null}}', r"line 2, key 'o\.n': 'null' is not a uint8"),
        ('{"x": [1]}', r"line 2, key 'x': '\[1\]' has not the shape of float32\[2\]"),
        ('{"x": [1, 2, 3]}', r"line 2, key 'x': '\[1, 2, 3\]' has not the shape of"),
        ('{"x": 7}', r"line 2, key 'x': '7' has not the shape of float32\[2\]"),
        ('{"x": [1, "a"]}', "line 2, key 'x': '\"a\"' is not a float32"),
        ('{"x": [1, 1e39]}', "line 2, key 'x': '1e39' does not fit a float32"),
        ('{"x": [1, 2]', "line 2, byte 13: no ',' or '}' here"),
        ('{"x": [1, 2]} ,', "line 2, byte 15: something stands behind the object"),
        ('{"y": 01}', "line 2, byte 8: a digit behind a leading zero"),
        ('{"y": "\\ud800"}', r"line 2, byte 8: a \\u escape that is no character"),
        ("[1]", r"line 2: not a JSON object: '\[1\]'"),
        ("{'y': 1}", "line 2, byte 2: no key in quotes here"),
        ('{"y": nan}', "line 2, byte 7: no value begins here"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str, threads: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"o": {"n": 1}, "x": [1, 2]}\n' + line + "\n{}\n")
    targets = {"x": Target("x", "float32", (2,)), "n": Target("o.n", "uint8")}
    reader = open_jsonl(path, targets, threads=threads, piece_size=10)

    with pytest.raises(ValueError, match=message):
        reader.check()
    assert reader.position == 29


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("a", "a.b"), "key 'a.b' goes through a key that is a value itself"),
        (("a.b", "a"), "key 'a' is a value, but other keys go through it"),
        (("a..b", "a"), "key 'a..b' has an empty name"),
        ((".".join("a" * 17), "a"), "has more than 16 names"),
        (("a",), "the schema has 2 fields, but 1 keys are given"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    tmp_path: Path, keys: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}")

    with pytest.raises(ValueError, match=message):
        _core.read_jsonl(
            path, "x: int8\ny: int8\n", keys, (False,) * len(keys), None, None, 1, False
        )


def test_one_key_may_feed_several_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": 7}\n')
    targets = {"x": Target("t", "float32"), "y": Target("t", "uint16")}

    assert read_all(open_jsonl(path, targets, label="t", timestamp="t")) == [[7, 7, 7, 7]]


def test_keys_may_be_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"\\u0061\\u00e9": 1}\n{"a\u00e9": 2}\n')

    assert read_all(open_jsonl(path, {"x": Target("aé")})) == [[1], [2]]


# Growing files ---------------------------------------------------------------------------------


def test_a_growing_file_is_read_line_by_whole_line(tmp_path: Path) -> None:
    text = '\ufeff{"x": 1}\n\n{"x": 2}\r\n {"x": 3}\n'.encode()
    path = tmp_path / "a.jsonl"
    position, got = 0, []

    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        reader = open_jsonl(path, {"x": Target("x")}, growing=True)
        reader.seek(position)
        got += read_all(reader)
        position = reader.position

    assert got == [[1], [2], [3]]
    assert position == len(text)


def test_an_empty_file_is_refused_unless_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")

    with pytest.raises(ValueError, match="the file is empty"):
        open_jsonl(path, {"x": Target("x")})
    assert read_all(open_jsonl(path, {"x": Target("x")}, growing=True)) == []


def test_lines_go_into_a_dataset_and_on_from_there(tmp_path: Path) -> None:
    days = Dataset.create(tmp_path / "days", schema={"temp": "float32", "city": "bytes"})
    format = JSONL(timestamp="day", label="rain", fields={"temp": "at.temp"})
    path = tmp_path / "a.jsonl"
    path.write_text('{"day": 1, "rain": 0, "city": "Oslo", "at": {"temp": 1.5}}\n')

    first = days.ingest(path, format=format)
    with path.open("a") as file:
        file.write('{"city": "\\u00c5s", "at": {"temp": null}, "day": 2, "rain": 1}\n')
    second = days.ingest(path, format=format)

    assert (first.keys, second.keys) == (range(1), range(1, 2))
    fields = days.fetch([0, 1])
    assert list(fields["city"]) == [b"Oslo", "Ås".encode()]
    np.testing.assert_array_equal(fields["temp"], [1.5, np.nan])
    assert days.timestamps.tolist() == [1, 2]


def test_a_bad_line_leaves_the_dataset_as_it_was(tmp_path: Path) -> None:
    days = Dataset.create(tmp_path / "days", schema={"x": "int8"}, labels=False)
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": 1, "x": 1}\n{"t": 2, "x": 128}\n')

    with pytest.raises(ValueError, match="line 2, key 'x': '128' does not fit an int8"):
        days.ingest(path, format=JSONL(timestamp="t"))

    assert len(days) == 0


# The format ------------------------------------------------------------------------------------


def test_fields_have_keys_of_their_own_names_unless_told() -> None:
    format = JSONL(timestamp="t", fields={"b": "o.b"}, base64=["c"])

    assert format.keys(["a", "b", "c"]) == ("a", "o.b", "c")
    with pytest.raises(ValueError, match="fields names field 'b'; the schema has"):
        format.keys(["a", "c"])
    with pytest.raises(ValueError, match="base64 names field 'c'; the schema has"):
        format.keys(["a", "b"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"timestamp": "a..b"}, ValueError, "timestamp must be a key without empty names"),
        ({"label": ""}, ValueError, "label must be a key without empty names"),
        ({"fields": {"x": 3}}, TypeError, "the key of field 'x' must be a key"),
        ({"base64": "x"}, TypeError, "base64 must be a sequence of field names"),
    ],
)
def test_a_format_that_makes_no_sense(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        JSONL(**settings)
