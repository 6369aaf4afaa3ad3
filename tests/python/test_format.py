"""The files are what docs/format.md says: read back by a program written from the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import modyn
from tests.reference import dataset_files

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def test_the_page_tells_what_is_in_a_dataset_of_fixed_records(tmp_path, rand):
    n = 9_000  # more than one segment of 8192, more than two column blocks
    fields = {
        "a": rand.numpy.integers(-9, 9, n).astype(np.int32),
        "b": rand.numpy.normal(size=(n, 2, 3)),
        "c": rand.numpy.normal(size=n).astype(np.float16),
    }
    schema = {"a": "int32", "b": "float64[2,3]", "c": "float16"}
    labels, times = rand.numpy.integers(-5, 5, n), np.arange(n) * 7 - 3
    with modyn.Dataset.create(
        tmp_path / "d", schema=schema, timestamp_unit="ms", segment_records=8192
    ) as dataset:
        for part in (slice(0, 10), slice(10, 8192), slice(8192, 8193), slice(8193, n)):
            columns = {name: values[part] for name, values in fields.items()}
            dataset.append(columns, labels=labels[part], timestamps=times[part])
        uuid = dataset.uuid

    files = dataset_files.read(tmp_path / "d")

    assert (files.uuid.hex(), files.unit, files.shift) == (uuid.replace("-", ""), "ms", 13)
    assert [count for count, _, _ in files.commits] == [10, 8192, 8193, n]
    assert files.reach == 4
    assert files.timestamps == times.tolist()
    assert files.labels == labels.tolist()
    for name, values in fields.items():
        assert np.array_equal(np.stack([row[name] for row in files.rows]), values)


def test_the_page_tells_what_is_in_a_dataset_with_bytes(tmp_path, rand):
    texts = [rand.numpy.bytes(int(size)) for size in rand.numpy.integers(0, 50, 300)]
    names = [b"", b"x" * 70_000, *(b"%d" % i for i in range(298))]
    ids = np.arange(300, dtype=np.uint8)
    schema = {"text": "bytes", "id": "uint8", "name": "bytes"}
    with modyn.Dataset.create(tmp_path / "d", schema=schema, labels=False) as dataset:
        dataset.append({"text": texts, "id": ids, "name": names}, timestamps=np.arange(300))

    files = dataset_files.read(tmp_path / "d")

    assert files.labels is None
    assert [row["text"] for row in files.rows] == texts
    assert [row["name"] for row in files.rows] == names
    assert [int(row["id"]) for row in files.rows] == ids.tolist()


def test_the_example_of_the_page_is_what_is_written(tmp_path):
    """All bytes of the example but those that differ each time: uuid, times, checksums."""
    with modyn.Dataset.create(
        tmp_path / "d", schema={"a": "int32", "s": "bytes"}, segment_records=8192
    ) as dataset:
        dataset.append(
            {"a": np.int32([1, -1]), "s": [b"hi", b""]}, labels=[0, 1], timestamps=[5, 6]
        )
    blocks = re.findall(r"```hex (\S+)\n(.*?)```", PAGE.read_text(), re.S)

    assert {name for name, _ in blocks} == {"manifest", "000000.seg", "000000.col"}
    for name, text in blocks:
        data = (tmp_path / "d" / name).read_bytes()
        for line in text.splitlines():
            place, shown = line.split("  ")[:2]
            for i, byte in enumerate(shown.split()):
                if byte != "..":
                    assert data[int(place) + i] == int(byte, 16), (name, int(place) + i)


@pytest.mark.parametrize("name", ["manifest", "000000.col"])
def test_another_version_is_refused_by_name(tmp_path, name):
    with modyn.Dataset.create(tmp_path / "d", schema={"a": "int32"}) as dataset:
        dataset.append({"a": np.int32([1])}, labels=[0], timestamps=[5])
    path = tmp_path / "d" / name
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)

    with pytest.raises(modyn.errors.CorruptError, match=name):
        modyn.Dataset.open(tmp_path / "d").fetch([0])
