"""Datasets from Python: what is stored and read back, processes, pickles."""

from __future__ import annotations

import copy
import itertools
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn._core import BusyError, ClosedError, CorruptError
from modyn.dataset import Dataset
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


def one_field(tmp_path: Path, kind: str) -> Dataset:
    return Dataset.create(tmp_path / "d", schema={"x": kind}, labels=False)


# Life ---------------------------------------------------------------------------------------------


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


@pytest.fixture
def texts(tmp_path: Path, rand: Rand) -> tuple[Dataset, list[bytes]]:
    """Payloads of all lengths up to 300 KB, of a dataset that can be written."""
    lengths = [0, 1, 300_000, *rand.integers(0, 300_000, 27).tolist()]
    payloads = [rand.numpy.bytes(length) for length in lengths]
    dataset = Dataset.create(
        tmp_path / "texts", schema={"s": "bytes", "n": "int32", "x": "bytes"}, labels=False
    )
    fields = {"s": payloads[::-1], "n": np.arange(30, dtype=np.int32), "x": payloads}
    dataset.append(fields, timestamps=np.arange(30))
    return dataset, payloads


def test_long_payloads_are_copied_by_any_number_of_threads(
    texts: tuple[Dataset, list[bytes]], rand: Rand
) -> None:
    dataset, payloads = texts
    keys = rand.integers(0, 30, 70)

    for threads in range(1, 6):
        got = dataset.fetch(keys, threads=threads)
        assert list(got["x"]) == [payloads[key] for key in keys]
        assert list(got["s"]) == [payloads[29 - key] for key in keys]
        assert np.array_equal(got["n"], keys)


def test_views_show_payloads_where_they_are(texts: tuple[Dataset, list[bytes]], rand: Rand) -> None:
    dataset, payloads = texts
    keys = rand.integers(0, 30, 70)

    views = dataset.views(keys, "x")

    assert [bytes(view) for view in views] == [payloads[key] for key in keys]
    assert [bytes(view) for view in dataset.views([3, 2], "s")] == [payloads[26], payloads[27]]
    assert dataset.views([], "x") == []
    for view in views:
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
    with pytest.raises(KeyError, match="key 30"):
        dataset.views([0, 30], "x")
    with pytest.raises(ValueError, match="'n' is int32, not bytes"):
        dataset.views([0], "n")


def test_views_outlive_all_that_they_came_from(texts: tuple[Dataset, list[bytes]]) -> None:
    dataset, payloads = texts
    reader = Dataset.open(dataset.path)
    views = reader.views(range(30), "x")

    reader.close()
    del reader
    dataset.erase([2, 7], reason="a test")
    dataset.compact()
    path = dataset.path
    dataset.close()

    assert [bytes(view) for view in views] == payloads
    with Dataset.open(path) as later, pytest.raises(KeyError, match=r"sample 7 .* was erased"):
        later.views([1, 7], "x")
    shutil.rmtree(path)
    assert [bytes(view) for view in views] == payloads


def test_damage_is_found_by_the_first_view_of_it(texts: tuple[Dataset, list[bytes]]) -> None:
    dataset, payloads = texts
    dataset.close()
    content = Path(dataset.path, "000000.seg").read_bytes()
    flip(Path(dataset.path, "000000.seg"), content.index(payloads[2]) + 200_000)

    with Dataset.open(dataset.path) as damaged:
        assert bytes(damaged.views([1], "x")[0]) == payloads[1]
        with pytest.raises(CorruptError, match="keys 2 to 2"):
            damaged.views([1, 2], "x")


def test_compressed_payloads_have_no_place_to_be_seen(tmp_path: Path) -> None:
    made = Dataset.create(tmp_path / "d", schema={"x": "bytes"}, labels=False, compression="zstd")
    made.append({"x": [b"one" * 1000]}, timestamps=[0])

    with pytest.raises(ValueError, match="compressed: its payloads can be fetched"):
        made.views([0], "x")


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
