"""What datasets take in, of every kind, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.dataset import Dataset, Ragged
from tests.conftest import Rand

# Inputs of other kinds ----------------------------------------------------------------------------


def one_field(tmp_path: Path, kind: str) -> Dataset:
    return Dataset.create(tmp_path / "d", schema={"x": kind}, labels=False)


def test_torch_tensors_are_inputs(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    dataset = Dataset.create(tmp_path / "d", schema={"x": "float32[2]", "y": "bool"})
    x = torch.arange(12, dtype=torch.float32).reshape(2, 6).T  # not contiguous

    dataset.append(
        {"x": x, "y": torch.tensor([True, False] * 3)},
        labels=torch.arange(6),
        timestamps=torch.arange(6, dtype=torch.int32),
    )

    got = dataset.fetch(torch.tensor([5, 0]))
    np.testing.assert_array_equal(got["x"], x.numpy()[[5, 0]])
    assert dataset.labels is not None
    assert dataset.labels.tolist() == list(range(6))
    with pytest.raises(TypeError, match="field 'x'"):
        dataset.append(
            {"x": x.to(torch.bfloat16), "y": torch.ones(6, dtype=torch.bool)},
            labels=range(6),
            timestamps=range(6),
        )


class Producer:
    """An object that has nothing but DLPack."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "value",
    [
        Producer(np.array([1, 2, 3], np.int32)),
        memoryview(np.array([1, 2, 3], np.int32)),
        np.array([1, 2, 3], ">i4"),
        np.array([1, 2, 3], np.int8),
        np.array([1, 9, 2, 9, 3, 9], np.int32)[::2],
        [1, 2, 3],
        (1, 2, 3),
    ],
    ids=["dlpack", "buffer", "big-endian", "safe cast", "strided", "list", "tuple"],
)
def test_anything_with_memory_is_an_input(tmp_path: Path, value: Any) -> None:
    dataset = one_field(tmp_path, "int32")

    dataset.append({"x": value}, timestamps=[0, 0, 0])

    np.testing.assert_array_equal(dataset.fetch([0, 1, 2])["x"], [1, 2, 3])


def test_datetimes_are_converted_to_the_unit(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", schema={"x": "int8"}, labels=False)
    times = np.array(["1970-01-02", "1969-12-31T23:59:59"], "datetime64[ns]")

    dataset.append({"x": [1, 2]}, timestamps=times)

    assert dataset.timestamps.tolist() == [86400, -1]
    with pytest.raises(
        ValueError, match=r"row 1: 1970-01-01T00:00:00\.500 is no whole number of s"
    ):
        dataset.append({"x": [1, 2]}, timestamps=np.array([0, 500], "datetime64[ms]"))
    with pytest.raises(ValueError, match="row 0: not a time"):
        dataset.append({"x": [1]}, timestamps=np.array(["NaT"], "datetime64[s]"))


def test_payloads_may_be_empty_or_large(tmp_path: Path, rand: Rand) -> None:
    payloads = [b"", rand.numpy.bytes(9_000_000), b"x", bytearray(b"yz"), memoryview(b"w"), b""]
    dataset = Dataset.create(
        tmp_path / "d", schema={"a": "bytes", "n": "int8", "b": "bytes"}, labels=False
    )

    dataset.append(
        {"a": payloads, "n": range(6), "b": Ragged.pack([b"q"] * 6)}, timestamps=range(6)
    )

    got = Dataset.open(tmp_path / "d").fetch([1, 0, 5, 4, 3, 1, 2], threads=2)
    assert list(got["a"]) == [bytes(payloads[i]) for i in (1, 0, 5, 4, 3, 1, 2)]
    assert list(got["b"]) == [b"q"] * 7
    assert isinstance(got["a"], Ragged)
    assert got["a"][-1] == b"x"
    with pytest.raises(IndexError):
        got["a"][7]


# Refusals -----------------------------------------------------------------------------------------


GOOD: dict[str, Any] = {"x": np.ones((2, 3), np.float32), "word": [b"a", b""]}
WRONG: list[tuple[str, dict[str, Any], dict[str, Any], type[Exception], str]] = [
    ("missing", {"x": GOOD["x"]}, {}, ValueError, "field 'word' is missing"),
    ("unknown", {**GOOD, "z": [1, 2]}, {}, ValueError, "field 'z' is not in the schema"),
    ("dtype", {"x": np.ones((2, 3))}, {}, TypeError, "field 'x': float64 does not cast safely"),
    ("shape", {"x": np.ones((2, 4), np.float32)}, {}, ValueError, "field 'x': expected shape"),
    ("rows", {"x": np.ones((3, 3), np.float32)}, {}, ValueError, r"\(2, 3\) for 2 timestamps"),
    ("str", {"word": "ab"}, {}, TypeError, "field 'word' needs a sequence of bytes"),
    ("item", {"word": [b"a", "b"]}, {}, TypeError, "field 'word', row 1: expected bytes, got str"),
    ("payloads", {"word": [b"a"]}, {}, ValueError, "field 'word': 1 payloads for 2 timestamps"),
    ("S dtype", {"word": np.array([b"a", b"b"])}, {}, TypeError, "field 'word' needs a sequence"),
    (
        "offsets",
        {"word": Ragged(np.zeros(4, np.uint8), np.array([0, 3, 1]))},
        {},
        ValueError,
        "field 'word', row 1: bytes from 3 to 1",
    ),
    (
        "beyond",
        {"word": Ragged(np.zeros(4, np.uint8), np.array([0, 3, 5]))},
        {},
        ValueError,
        "field 'word': 4 bytes where 5 are due",
    ),
    ("object", {"x": [[object()] * 3] * 2}, {}, TypeError, "field 'x'"),
    ("no array", {"x": [[1.0, 2.0, 3.0], [1.0]]}, {}, TypeError, "field 'x' cannot be read"),
    ("nan", {}, {"timestamps": [1.0, np.nan]}, ValueError, "timestamps, row 1: nan"),
    ("inf", {}, {"timestamps": [np.inf, 1.0]}, ValueError, "timestamps, row 0: inf"),
    ("fraction", {}, {"timestamps": [1.0, 2.5]}, ValueError, "timestamps, row 1: 2.5"),
    ("text", {}, {"timestamps": ["a", "b"]}, TypeError, "timestamps: expected integers"),
    ("scalar", {}, {"timestamps": 3}, ValueError, "timestamps: expected shape"),
    ("bool", {}, {"timestamps": [True, False]}, TypeError, "timestamps: expected integers"),
    ("labels", {}, {"labels": [1, 2, 3]}, ValueError, "3 labels for 2 timestamps"),
    ("no labels", {}, {"labels": None}, ValueError, "labels are missing"),
    ("none", {}, {"labels": [1, None]}, TypeError, "labels, row 1: None is no integer"),
    ("2**63", {}, {"labels": [0, 2**63]}, ValueError, "labels, row 1: 9223372036854775808 is no"),
    ("-2**64", {}, {"labels": [-(2**64), 0]}, ValueError, "labels, row 0: -18446744073709551616"),
    (
        "uint64",
        {},
        {"labels": np.array([0, 2**64 - 1], np.uint64)},
        ValueError,
        "labels, row 1: 18446744073709551615",
    ),
]


@pytest.mark.parametrize(
    ("fields", "others", "error", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_a_wrong_input_is_named_and_nothing_is_written(
    tmp_path: Path, fields: Any, others: Any, error: type[Exception], message: str
) -> None:
    dataset = Dataset.create(tmp_path / "d", schema={"x": "float32[3]", "word": "bytes"})
    given = fields if {"missing"} & {message.split()[-1]} else {**GOOD, **fields}

    with pytest.raises(error, match=message):
        dataset.append(given, **{"labels": [0, 1], "timestamps": [5, 6], **others})

    assert len(dataset) == 0
    dataset.append(GOOD, labels=[0, 1], timestamps=[5, 6])
    assert len(Dataset.open(tmp_path / "d")) == 2


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("int8", [1, 200], "row 1: 200 is no int8"),
        ("int8", [1.0, 2.0], "row 0: 1.0 is no int8"),
        ("float32", [1e300, 2.0], "row 0: 1e\\+300 is no float32"),
        ("float32", [1, 16777217], "row 1: 16777217 is no float32"),
    ],
)
def test_numbers_that_the_schema_does_not_hold_are_named(
    tmp_path: Path, kind: str, values: list[float], message: str
) -> None:
    dataset = one_field(tmp_path, kind)

    with pytest.raises(ValueError, match=f"field 'x', {message}"):
        dataset.append({"x": values}, timestamps=[0, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"schema": {}}, ValueError, "at least one"),
        ({"schema": {"x": "int7"}}, ValueError, "field 'x': unknown dtype 'int7'"),
        ({"schema": {"x y": "int8"}}, ValueError, "expected ':' after field name 'x'"),
        ({"schema": {"x": "int8\ny: int8"}}, ValueError, "line end"),
        ({"schema": {"x": np.int8}}, TypeError, "must be str"),
        ({"timestamp_unit": "h"}, ValueError, "timestamp_unit must be one of"),
        ({"segment_records": 5000}, ValueError, "power of two from 8192"),
        ({"segment_records": 4096}, ValueError, "power of two from 8192"),
    ],
)
def test_wrong_options_make_no_dataset(
    tmp_path: Path, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Dataset.create(tmp_path / "d", **{"schema": {"x": "int8"}, **options})

    assert not (tmp_path / "d").exists()


def test_keys_that_are_not_there_are_named(tmp_path: Path) -> None:
    dataset = one_field(tmp_path, "int8")
    with pytest.raises(KeyError, match=r"key 0: .* is empty"):
        dataset.fetch([0])
    dataset.append({"x": [1, 2]}, timestamps=[0, 0])

    with pytest.raises(KeyError, match="key 2: keys are 0 to 1"):
        dataset.fetch([0, 2])
    with pytest.raises(KeyError, match="key -1"):
        dataset.fetch([0, -1])
    with pytest.raises(TypeError, match="keys: expected integers, got float64"):
        dataset.fetch([0.5])
    with pytest.raises(ValueError, match="keys: expected shape"):
        dataset.fetch([[0]])
    with pytest.raises(ValueError, match="field 'y' is not in the schema"):
        dataset.fetch([0], fields=["y"])
    with pytest.raises(ValueError, match="threads must be at least 1"):
        dataset.fetch([0], threads=0)


def test_fetch_fills_what_it_is_given(tmp_path: Path) -> None:
    dataset = Dataset.create(
        tmp_path / "d", schema={"x": "int32[2]", "y": "int8", "w": "bytes"}, labels=False
    )
    dataset.append({"x": [[1, 2], [3, 4]], "y": [5, 6], "w": [b"", b"w"]}, timestamps=[0, 0])
    x = np.zeros((3, 2), np.int32)

    got = dataset.fetch([1, 0, 1], fields=["x", "w"], out={"x": x})

    assert got["x"] is x
    assert x.tolist() == [[3, 4], [1, 2], [3, 4]]
    assert list(got) == ["x", "w"]
    for wrong in (
        np.zeros((3, 2), np.int64),
        np.zeros((2, 2), np.int32),
        np.zeros((2, 3), np.int32).T,
        np.broadcast_to(np.int32(0), (3, 2)),
    ):
        with pytest.raises(ValueError, match="out"):
            dataset.fetch([1, 0, 1], fields=["x"], out={"x": wrong})
    with pytest.raises(TypeError, match="must be a Ragged for a bytes field"):
        dataset.fetch([1], out={"w": np.zeros(1, np.uint8)})
    with pytest.raises(ValueError, match="not among those to be read"):
        dataset.fetch([1], fields=["y"], out={"x": x})


def test_fetch_puts_payloads_where_there_is_room(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", schema={"v": "bytes", "w": "bytes"}, labels=False)
    dataset.append({"v": [b"ab", b"", b"cde"], "w": [b"1", b"22", b""]}, timestamps=[0, 0, 0])
    room = Ragged(np.full(7, 0xFF, np.uint8), np.zeros(4, np.int64))

    got = dataset.fetch([2, 1, 0], out={"v": room})

    assert list(got["v"]) == [b"cde", b"", b"ab"]
    assert list(got["w"]) == [b"", b"22", b"1"]
    assert got["v"].offsets is room.offsets
    assert np.shares_memory(got["v"].values, room.values)
    assert room.values.tobytes() == b"cdeab\xff\xff"
    exact = dataset.fetch([0, 0], out={"v": Ragged(np.zeros(4, np.uint8), np.zeros(3, np.int64))})
    assert list(exact["v"]) == [b"ab", b"ab"]


@pytest.mark.parametrize(
    ("values", "offsets", "error", "message"),
    [
        (np.zeros(4, np.uint8), np.zeros(3, np.int64), ValueError, "room for 4 bytes, .* are 5"),
        (np.zeros(9, np.int8), np.zeros(3, np.int64), ValueError, r"uint8\[n\], got int8\[9\]"),
        (np.zeros(9, np.uint8), np.zeros(2, np.int64), ValueError, r"int64\[3\], got int64\[2\]"),
        (np.zeros(9, np.uint8), np.zeros(3, np.int32), ValueError, r"int64\[3\], got int32\[3\]"),
        (np.zeros(18, np.uint8)[::2], np.zeros(3, np.int64), ValueError, "C-contiguous"),
        (np.frombuffer(bytes(9), np.uint8), np.zeros(3, np.int64), ValueError, "writable"),
        (bytearray(9), np.zeros(3, np.int64), TypeError, "must be a NumPy array"),
    ],
)
def test_fetch_refuses_room_that_it_cannot_fill(
    tmp_path: Path, values: Any, offsets: Any, error: type[Exception], message: str
) -> None:
    dataset = Dataset.create(tmp_path / "d", schema={"v": "bytes"}, labels=False)
    dataset.append({"v": [b"ab", b"cde"]}, timestamps=[0, 0])

    with pytest.raises(error, match=message):
        dataset.fetch([0, 1], out={"v": Ragged(values, offsets)})
