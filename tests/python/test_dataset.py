"""Datasets from Python: inputs of every kind, every refusal, processes, pickles."""

from __future__ import annotations

import copy
import itertools
import os
import resource
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn._core import BusyError, ClosedError, CorruptError
from modyn.dataset import Dataset, Ragged
from tests.conftest import Rand

SCHEMA = {"id": "int32", "dense": "float32[3]", "word": "bytes", "flag": "bool", "half": "float16"}


def batch(rand: Rand, count: int) -> dict[str, Any]:
    return {
        "id": rand.integers(-(2**31), 2**31, count).astype(np.int32),
        "dense": rand.numpy.random((count, 3), np.float32),
        "word": [rand.numpy.bytes(int(n)) for n in rand.integers(0, 40, count)],
        "flag": rand.integers(0, 2, count).astype(np.bool_),
        "half": rand.numpy.random(count).astype(np.float16),
    }


class Twin:
    """A dataset in NumPy and lists: what `Dataset` must equal."""

    def __init__(self) -> None:
        self.fields: dict[str, list[Any]] = {name: [] for name in SCHEMA}
        self.labels: list[int] = []
        self.timestamps: list[int] = []

    def append(self, fields: dict[str, Any], labels: Any, timestamps: Any) -> None:
        for name, values in fields.items():
            self.fields[name].extend(values)
        self.labels.extend(labels)
        self.timestamps.extend(timestamps)

    def check(self, dataset: Dataset, keys: Any, threads: int = 1) -> None:
        got = dataset.fetch(keys, threads=threads)
        assert list(got) == list(SCHEMA)
        for name in ("id", "dense", "flag", "half"):
            expected = np.array(self.fields[name])[np.asarray(keys, np.int64)]
            np.testing.assert_array_equal(got[name], expected)
        assert list(got["word"]) == [self.fields["word"][int(key)] for key in keys]
        assert dataset.labels is not None
        assert dataset.labels.tolist() == self.labels
        assert dataset.timestamps.tolist() == self.timestamps


def test_fetch_equals_its_numpy_twin(tmp_path: Path, rand: Rand) -> None:
    twin = Twin()
    dataset = Dataset.create(tmp_path / "d", schema=SCHEMA, segment_records=8192)

    for count in (1, 4000, 0, 8192, 9000, 3):
        fields, labels = batch(rand, count), rand.integers(-5, 5, count)
        timestamps = rand.integers(-(2**62), 2**62, count)
        keys = dataset.append(fields, labels=labels, timestamps=timestamps)
        assert keys.dtype == np.uint64
        assert keys.tolist() == list(range(len(twin.labels), len(twin.labels) + count))
        twin.append(fields, labels, timestamps)

    for again in (dataset, Dataset.open(tmp_path / "d")):
        assert len(again) == len(twin.labels)
        for count in (0, 1, 2, 15, 16, 17, 33, 30_000):
            keys = rand.integers(0, len(again), count).astype(np.uint64)
            for threads in (1, 3):
                twin.check(again, keys, threads)


def test_facts_of_a_dataset(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "a" / "b", schema=SCHEMA, timestamp_unit="ms", labels=False)

    assert dataset.schema == SCHEMA
    assert dataset.timestamp_unit == "ms"
    assert dataset.labels is None
    assert dataset.path == str(tmp_path / "a" / "b")
    assert len(dataset.uuid) == 32
    assert Dataset.open(tmp_path / "a" / "b").uuid == dataset.uuid
    assert dataset.view.count == 0
    assert "mode 'w'" in repr(dataset)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float64", "complex64", "complex128"])
def test_every_dtype_and_shape_comes_back(tmp_path: Path, rand: Rand, dtype: str) -> None:
    dataset = Dataset.create(tmp_path / "d", schema={"x": f"{dtype}[2,3]"}, labels=False)
    x = rand.integers(0, 100, 60).reshape(10, 2, 3).astype(dtype)

    dataset.append({"x": x}, timestamps=range(10))

    got = dataset.fetch([9, 0, 9])["x"]
    assert isinstance(got, np.ndarray)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, x[[9, 0, 9]])


# Inputs of other kinds ---------------------------------------------------------------------------


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


# Refusals ----------------------------------------------------------------------------------------

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


# Life --------------------------------------------------------------------------------------------


def test_arrays_outlive_handle_and_refresh(tmp_path: Path) -> None:
    writer = Dataset.create(tmp_path / "d", schema={"x": "int8"})
    writer.append({"x": [1, 2]}, labels=[7, 8], timestamps=[3, 4])
    reader = Dataset.open(tmp_path / "d")
    labels, view = reader.labels, reader.view

    writer.append({"x": [3]}, labels=[9], timestamps=[5])

    assert len(reader) == 2
    assert reader.refresh() is True
    assert reader.refresh() is False
    assert len(reader) == 3
    assert reader.labels is not None
    reader.close()
    writer.close()
    del reader, writer
    assert labels is not None
    assert labels.tolist() == [7, 8]
    assert view.count == 2
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 1


def test_a_closed_dataset_says_so(tmp_path: Path) -> None:
    with one_field(tmp_path, "int8") as dataset:
        dataset.append({"x": [1]}, timestamps=[0])
    dataset.close()

    for use in (
        lambda: dataset.fetch([0]),
        lambda: len(dataset),
        dataset.refresh,
        lambda: dataset.append({"x": [1]}, timestamps=[0]),
        lambda: dataset.labels,
    ):
        with pytest.raises(ClosedError, match="was closed"):
            use()


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Dataset.open(tmp_path / "d")
    (tmp_path / "d").mkdir()
    with pytest.raises(FileNotFoundError):
        Dataset.open(tmp_path / "d", mode="w")
    with pytest.raises(ValueError, match="mode must be"):
        Dataset.open(tmp_path / "d", mode="a")  # type: ignore[arg-type]
    (tmp_path / "d" / "manifest").write_bytes(b"no manifest at all" * 100)
    with pytest.raises(CorruptError, match="does not begin like a manifest"):
        Dataset.open(tmp_path / "d")


def test_creating_twice_keeps_the_first(tmp_path: Path) -> None:
    with one_field(tmp_path, "int8") as dataset:
        dataset.append({"x": [1]}, timestamps=[0])

    with pytest.raises(FileExistsError, match="there already"):
        one_field(tmp_path, "int8")

    assert len(Dataset.open(tmp_path / "d")) == 1


def test_a_dataset_open_for_reading_is_not_written(tmp_path: Path) -> None:
    one_field(tmp_path, "int8").close()

    with pytest.raises(ValueError, match="mode 'w'"):
        Dataset.open(tmp_path / "d").append({"x": [1]}, timestamps=[0])


def test_copies_and_pickles_go_by_path_and_only_for_readers(tmp_path: Path) -> None:
    writer = one_field(tmp_path, "int8")
    writer.append({"x": [5]}, timestamps=[0])
    reader = Dataset.open(tmp_path / "d")

    again = copy.copy(reader)  # through what pickles use, too

    assert again.fetch([0])["x"].tolist() == [5]
    with pytest.raises(TypeError, match="open for writing"):
        copy.copy(writer)
    with pytest.raises(TypeError, match="View"):
        copy.copy(reader.view)


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in another process."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    writer = one_field(tmp_path, "int8")

    with pytest.raises(BusyError, match=f"pid {os.getpid()} on .* since "):
        Dataset.open(tmp_path / "d", mode="w")
    other = python(
        """
        import sys
        from modyn.dataset import Dataset
        from modyn.errors import BusyError
        try:
            Dataset.open(sys.argv[1], mode="w")
        except BusyError as error:
            print(error)
        """,
        tmp_path / "d",
    )

    assert f"pid {os.getpid()} on " in other.stdout
    writer.close()
    Dataset.open(tmp_path / "d", mode="w").close()


def test_another_process_sees_whole_commits_only(tmp_path: Path) -> None:
    """A writer appends batches of one value each; the value of a batch is its length."""
    writer = Dataset.create(tmp_path / "d", schema={"x": "int64", "w": "bytes"})
    script = """
        import sys
        import numpy as np
        from modyn.dataset import Dataset
        dataset = Dataset.open(sys.argv[1])
        print("ready", flush=True)
        seen = set()
        while len(dataset) < int(sys.argv[2]):
            dataset.refresh()
            seen.add(len(dataset))
            got = dataset.fetch(np.arange(len(dataset)))
            at = 0
            while at < len(dataset):  # batch of n samples n, labelled n
                n = int(got["x"][at])
                assert (got["x"][at : at + n] == n).all() and at + n <= len(dataset)
                assert (dataset.labels[at : at + n] == n).all()
                assert list(got["w"])[at] == b"w" * n
                at += n
        print(len(seen))
        """
    sizes = [1 + i % 17 for i in range(100)]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "d"), str(sum(sizes))],
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"

        for n in sizes:
            fields = {"x": np.full(n, n), "w": [b"w" * n] * n}
            writer.append(fields, labels=[n] * n, timestamps=[0] * n)

        assert reader.wait(timeout=60) == 0
        assert int(reader.stdout.read()) >= 2


def test_a_file_that_may_not_grow_costs_one_batch(tmp_path: Path) -> None:
    """As on a full disk: the system refuses to write, the handle goes on."""
    outcome = python(
        """
        import resource, sys
        import numpy as np
        from modyn.dataset import Dataset
        dataset = Dataset.create(sys.argv[1], schema={"x": "uint8[1000]"}, labels=False)
        x = np.arange(500_000).reshape(500, 1000).astype(np.uint8)
        dataset.append({"x": x}, timestamps=range(500))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
        try:
            dataset.append({"x": np.ones((2000, 1000), np.uint8)}, timestamps=range(2000))
        except OSError as error:
            print("refused:", error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        dataset.append({"x": x[::-1]}, timestamps=range(500))
        """,
        tmp_path / "d",
    )

    assert outcome.returncode == 0, outcome.stderr
    assert "refused:" in outcome.stdout
    assert "000000.seg" in outcome.stdout
    dataset = Dataset.open(tmp_path / "d")
    x = np.arange(500_000).reshape(500, 1000).astype(np.uint8)
    np.testing.assert_array_equal(dataset.fetch(range(1000))["x"], np.concatenate([x, x[::-1]]))


def test_truncated_records_are_an_error_and_no_signal(tmp_path: Path) -> None:
    with Dataset.create(tmp_path / "d", schema={"x": "int64"}, labels=False) as dataset:
        dataset.append({"x": range(100)}, timestamps=range(100))
    os.truncate(tmp_path / "d" / "000000.seg", 799)

    with pytest.raises(CorruptError, match=r"000000\.seg: truncated: 799 bytes, of 800"):
        Dataset.open(tmp_path / "d").fetch([0])
    with pytest.raises(CorruptError, match=r"000000\.seg"):
        Dataset.open(tmp_path / "d", mode="w")


def test_threads_share_one_handle(tmp_path: Path) -> None:
    """Four append, four fetch; every batch stays together and nothing is lost."""
    dataset = Dataset.create(tmp_path / "d", schema={"x": "int64"})
    barrier = threading.Barrier(8)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            barrier.wait(10)
            for i in range(30):
                if number < 4:
                    value = [number * 1000 + i] * 20
                    keys = dataset.append({"x": value}, labels=value, timestamps=value)
                    assert dataset.fetch(keys)["x"].tolist() == value  # type: ignore[union-attr]
                elif len(dataset):
                    keys = np.arange(len(dataset), dtype=np.uint64)
                    got = dataset.fetch(keys, threads=2)["x"]
                    assert isinstance(got, np.ndarray)
                    assert (got.reshape(-1, 20) == got[::20, None]).all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    assert len(dataset) == 4 * 30 * 20


def test_opening_holds_no_more_files_than_a_few(tmp_path: Path) -> None:
    with Dataset.create(
        tmp_path / "d", schema={"x": "int8"}, labels=False, segment_records=8192
    ) as dataset:
        dataset.append({"x": np.zeros(8192 * 20, np.int8)}, timestamps=np.zeros(8192 * 20, int))
    before = len(os.listdir("/proc/self/fd"))

    dataset = Dataset.open(tmp_path / "d")
    assert dataset.fetch(np.arange(0, 8192 * 20, 100))["x"].shape == (1639,)  # type: ignore[union-attr]

    assert len(os.listdir("/proc/self/fd")) <= before + 1
    dataset.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0


def test_keys_may_mix_numbers_of_python_and_numpy(tmp_path):
    dataset = Dataset.create(tmp_path / "d", schema={"x": "int8"}, labels=False)
    dataset.append({"x": [5, 6, 7]}, timestamps=[0, 0, 0])

    assert dataset.fetch([0, np.uint64(2)])["x"].tolist() == [5, 7]
    with pytest.raises(TypeError, match="expected integers"):
        dataset.fetch([0, np.uint64(2), 1.0])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_bad_row_is_the_error_whatever_is_wrong_with_later_ones(
    tmp_path: Path, threads: int
) -> None:
    rows = 8192
    numbers = np.arange(2 * rows)
    with Dataset.create(tmp_path / "d", schema={"x": "int64[20]"}, segment_records=rows) as made:
        made.append({"x": np.repeat(numbers[:, None], 20, 1)}, timestamps=numbers, labels=numbers)
        made.erase([7], reason="a test")
    flip(tmp_path / "d" / "000001.seg", 160 * (12_000 - rows))
    flip(tmp_path / "d" / "000000.col", 65_536 + 8 * rows + 8 * 5_000)  # of the labels
    bad = {7: "7 of .* was erased", 99_999: "key 99999", 5_000: "labels block", 12_000: "records"}
    keys = np.resize(np.arange(100, 4_000, dtype=np.uint64), 3 * 4_096)
    values, labels = np.empty((len(keys), 20), np.int64), np.empty(len(keys), np.int64)

    for order in itertools.permutations(bad):
        wrong = keys.copy()
        wrong[[4_095, 4_096, 4_100, 12_000]] = order
        with Dataset.open(tmp_path / "d") as dataset:
            fetch = dataset.view.fetch
            with pytest.raises((KeyError, CorruptError), match=bad[order[0]]):
                fetch(wrong, ((0, values, None),), labels, None, threads)
            fetch(keys, ((0, values, None),), labels, None, threads)
            assert np.array_equal(labels, keys)
            assert np.array_equal(values[:, 19], keys)


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
