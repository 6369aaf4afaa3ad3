"""Rows of other libraries become the samples that they were."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.formats import Arrow, Parquet
from modyn.ingest.driver import Intake

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
import pandas as pd  # noqa: E402

SCHEMA = {"f": "float32", "n": "int64", "shape": "int16[2,2]", "word": "bytes"}
FORMAT = Parquet(label="label", timestamp="at")


def columns(first: int, stop: int) -> dict[str, Any]:
    rows = range(first, stop)
    return {
        "f": [None if n % 5 == 4 else n / 4 for n in rows],
        "n": list(rows),
        "shape": [[[n, 1], [2, n % 100]] for n in rows],
        "word": [b"w" * (n % 7) for n in rows],
        "label": [n % 3 for n in rows],
        "at": [1000 + n for n in rows],
    }


def table(first: int, stop: int, **types: Any) -> Any:
    kinds = {
        "f": pa.float32(),
        "n": pa.int32(),
        "shape": pa.list_(pa.list_(pa.int16())),
        "word": pa.binary(),
        "label": pa.int8(),
        "at": pa.int64(),
        **types,
    }
    given = columns(first, stop)
    return pa.table({name: pa.array(given[name], kind) for name, kind in kinds.items()})


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Dataset]:
    with Dataset.create(tmp_path / "dataset", schema=SCHEMA) as made:
        yield made


def check(dataset: Dataset, first: int, stop: int) -> None:
    """The dataset holds these rows, in their order."""
    expected = columns(first, stop)
    found = dataset.fetch(np.arange(len(dataset)))
    floats = np.array([np.nan if one is None else one for one in expected["f"]], np.float32)
    np.testing.assert_array_equal(found["f"], floats)  # type: ignore[arg-type]
    assert np.asarray(found["n"]).tolist() == expected["n"]
    assert np.asarray(found["shape"]).tolist() == expected["shape"]
    assert list(found["word"]) == expected["word"]
    assert dataset.labels is not None
    assert dataset.labels.tolist() == expected["label"]
    assert dataset.timestamps.tolist() == expected["at"]


@pytest.mark.parametrize("row_group_size", [7, 1000])
def test_parquet_files_are_taken_once(
    dataset: Dataset, tmp_path: Path, row_group_size: int
) -> None:
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(table(0, 100), path, row_group_size=row_group_size)

    assert dataset.ingest(path, format=FORMAT).samples == 100
    assert dataset.ingest(path, format=FORMAT).known == 1
    check(dataset, 0, 100)


@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
def test_feather_and_arrow_files_are_taken_once(
    dataset: Dataset, tmp_path: Path, compression: Any
) -> None:
    path = tmp_path / "a.feather"
    feather = pytest.importorskip("pyarrow.feather")
    feather.write_feather(table(0, 100), path, chunksize=9, compression=compression)

    assert dataset.ingest(path, format=Arrow(label="label", timestamp="at")).samples == 100
    check(dataset, 0, 100)


@pytest.mark.parametrize("commits", range(4))
def test_a_crash_in_a_file_goes_on_at_its_row_group(
    dataset: Dataset, tmp_path: Path, commits: int
) -> None:
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(table(0, 100), path, row_group_size=10)
    commit, left = dataset._commit, commits

    def until_killed(*what: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        commit(*what)

    dataset._commit = until_killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        Intake(dataset, FORMAT, batch_bytes=1).take([str(path)])
    dataset._commit = commit  # type: ignore[method-assign]
    assert len(dataset) == 10 * commits

    assert dataset.ingest(path, format=FORMAT).samples == 100 - 10 * commits
    check(dataset, 0, 100)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"n": pa.float64()}, "column 'n'.*float64 does not cast safely to int64"),
        ({"n": pa.string()}, "column 'n'"),
        ({"word": pa.int64()}, "column 'word': is int64, where the schema has bytes"),
        ({"f": pa.list_(pa.float32())}, "column 'f': a list, where the schema has float32"),
    ],
)
def test_types_that_do_not_fit_are_named(
    dataset: Dataset, types: dict[str, Any], message: str
) -> None:
    rows = table(0, 3)
    for name, kind in types.items():
        values = [[1.0]] * 3 if name == "f" else [1, 2, 3]
        if kind == pa.string():
            values = ["a", "b", "c"]
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, pa.array(values, kind))

    with pytest.raises(ValueError, match=message):
        dataset.append_from(rows, label="label", timestamp="at")
    assert len(dataset) == 0


@pytest.mark.parametrize("name", ["n", "shape", "word", "label", "at"])
@pytest.mark.parametrize("library", ["pyarrow", "pandas"])
def test_a_missing_value_is_an_error_that_names_its_row(
    dataset: Dataset, name: str, library: str
) -> None:
    given = columns(0, 10)
    given[name][6] = None
    rows: Any = pd.DataFrame(given)
    if library == "pyarrow":
        rows = table(0, 10)
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, pa.array(given[name], rows.column(name).type))

    with pytest.raises(ValueError, match=rf"column '{name}'.* row 6: a value is missing"):
        dataset.append_from(rows, label="label", timestamp="at")


def test_a_missing_file_and_a_missing_column(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 is not all of it")
    with pytest.raises(ValueError, match=r"a\.parquet"):
        dataset.ingest(path, format=FORMAT)

    with pytest.raises(ValueError, match=r"there is no column 'when'; it has \['f'"):
        dataset.append_from(table(0, 3), label="label", timestamp="when")


@pytest.mark.parametrize("batch_bytes", [1, 1000, 1 << 30])
def test_tables_of_all_kinds(
    dataset: Dataset, batch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modyn.ingest.tables.BATCH_BYTES", batch_bytes)
    more: Any = {"label": "label", "timestamp": "at"}
    whole = table(0, 50)

    dataset.append_from(whole, **more)
    dataset.append_from(table(50, 60).to_batches()[0], **more)
    dataset.append_from(table(60, 90).to_reader(max_chunksize=7), **more)
    dataset.append_from(pd.DataFrame(columns(90, 10_000)), **more)

    check(dataset, 0, 10_000)


def test_text_and_dictionaries(tmp_path: Path) -> None:
    words = pa.array(["a", "bb", "", "bb"])
    rows = pa.table({"w": words.dictionary_encode(), "v": words.cast(pa.large_string())})
    with Dataset.create(tmp_path / "d", schema={"w": "bytes", "v": "bytes"}, labels=False) as made:
        made.append_from(rows.slice(1), timestamps=7)
        made.append_from(rows.to_pandas(), timestamps=[1, 2, 3, 4])

        found = made.fetch(range(7))
        assert list(found["w"]) == list(found["v"]) == [b"bb", b"", b"bb", b"a", b"bb", b"", b"bb"]
        assert made.timestamps.tolist() == [7, 7, 7, 1, 2, 3, 4]


def test_timestamps_of_times(dataset: Dataset) -> None:
    rows = table(0, 2).set_column(5, "at", pa.array([10**6, 2 * 10**6], pa.timestamp("us")))

    dataset.append_from(rows, label="label", timestamp="at")

    assert dataset.timestamps.tolist() == [1, 2]


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets(dataset: Dataset, streaming: bool) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset(table(0, 5000))
    if streaming:
        rows = rows.to_iterable_dataset()

    keys = dataset.append_from(rows, label="label", timestamp="at")

    assert len(keys) == 5000
    check(dataset, 0, 5000)


def test_without_the_library_the_error_says_what_to_install(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ImportError, match=r"Parquet needs pyarrow: pip install 'modyn\[arrow\]'"):
        dataset.ingest(tmp_path / "a.parquet", format=FORMAT)


@pytest.mark.parametrize(
    ("rows", "more", "error", "message"),
    [
        ([1], {"timestamp": "at", "label": "label"}, TypeError, "rows must be"),
        (None, {"label": "label"}, ValueError, "give the column of the timestamp"),
        (None, {"timestamp": "at"}, ValueError, "has labels; give their column"),
        (None, {"timestamps": [1], "label": "label"}, ValueError, "1 timestamps for more rows"),
        (None, {"timestamps": range(9), "label": "label"}, ValueError, "9 timestamps for 3 rows"),
        (
            None,
            {"timestamp": "at", "label": "label", "columns": {"x": "y"}},
            ValueError,
            "columns names field 'x'",
        ),
    ],
)
def test_what_makes_no_sense(
    dataset: Dataset, rows: Any, more: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dataset.append_from(table(0, 3) if rows is None else rows, **more)
    assert len(dataset) == 0
