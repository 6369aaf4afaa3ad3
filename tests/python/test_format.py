"""docs/format.md says every byte: its example is read, and a reader made from it agrees."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from modyn._core import CorruptError
from modyn.dataset import Dataset
from tests.conftest import Rand
from tests.reference.format import Reference, crc32c

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def from_hexdump(text: str) -> bytes:
    """The bytes that `hexdump -C` has printed."""
    data, repeat = bytearray(), False
    for line in text.splitlines():
        if line == "*":
            repeat = True
            continue
        offset, *rest = line.split("  ", 1)
        if repeat:
            data += data[-16:] * ((int(offset, 16) - len(data)) // 16)
        repeat = False
        assert len(data) == int(offset, 16)
        data += bytes.fromhex(rest[0].split("|")[0]) if rest else b""
    return bytes(data)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The dataset of the page, as files."""
    dumps = re.findall(r"^`([\w.]+)`:\n\n```hexdump\n(.*?)```", PAGE.read_text(), re.DOTALL | re.M)
    assert [name for name, _ in dumps] == ["manifest", "000000.seg", "000000.col"]
    for name, dump in dumps:
        (tmp_path / name).write_bytes(from_hexdump(dump))
    return tmp_path


def test_the_example_of_the_page_is_read(example: Path) -> None:
    for mode in ("r", "w"):
        with Dataset.open(example, mode=mode) as dataset:  # type: ignore[arg-type]
            fields = dataset.fetch([0, 1, 2])

            assert dataset.schema == {"x": "int16[2]", "word": "bytes"}
            assert dataset.timestamp_unit == "s"
            assert np.array_equal(fields["x"], [[1, 2], [-1, 258], [7, 8]])
            assert list(fields["word"]) == [b"modyn", b"", b"!"]
            assert dataset.labels is not None
            assert dataset.labels.tolist() == [0, 1, -1]
            assert dataset.timestamps.tolist() == [1000, 1060, 1030]


def test_the_example_of_the_page_can_be_continued(example: Path) -> None:
    with Dataset.open(example, mode="w") as dataset:
        dataset.append({"x": [[5, 6]], "word": [b"more"]}, labels=[2], timestamps=[1100])

    reference = Reference(example)
    assert [sample["word"] for sample in reference.samples] == [b"modyn", b"", b"!", b"more"]
    assert reference.reach == 3


def test_what_the_page_says_about_the_example(example: Path) -> None:
    reference = Reference(example)

    assert (reference.count, reference.head, reference.reach) == (3, 8, 2)
    assert [sample["label"] for sample in reference.samples] == [0, 1, -1]
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    ("schema", "labels"),
    [
        ({"a": "int32", "b": "float16[3]", "c": "bool"}, True),
        ({"a": "uint8[20000]"}, False),
        ({"w": "bytes", "a": "int8", "v": "bytes"}, True),
        ({"w": "bytes"}, False),
    ],
)
def test_a_reader_made_from_the_page_agrees(
    tmp_path: Path, rand: Rand, schema: dict[str, str], labels: bool
) -> None:
    large = "20000" in str(schema)
    dataset = Dataset.create(
        tmp_path / "d", schema=schema, labels=labels, timestamp_unit="ns", segment_records=8192
    )
    for count in (3, 40) if large else (3, 4093, 4096, 2000):
        fields = {}
        for name, kind in schema.items():
            if kind == "bytes":
                fields[name] = [rand.numpy.bytes(int(n)) for n in rand.integers(0, 9, count)]
            else:
                scalar, _, extent = kind.rstrip("]").partition("[")
                shape = (count, int(extent)) if extent else (count,)
                fields[name] = rand.numpy.integers(0, 2, shape).astype(scalar)
        dataset.append(
            fields,
            labels=rand.integers(-9, 9, count) if labels else None,
            timestamps=rand.integers(-(2**60), 2**60, count),
        )

    reference = Reference(tmp_path / "d")

    assert (reference.count, reference.unit) == (len(dataset), "ns")
    assert reference.uuid.hex() == dataset.uuid
    got = dataset.fetch(np.arange(len(dataset)))
    assert [sample["timestamp"] for sample in reference.samples] == dataset.timestamps.tolist()
    if dataset.labels is not None:
        assert [sample["label"] for sample in reference.samples] == dataset.labels.tolist()
    for name in schema:
        for mine, theirs in zip(got[name], reference.samples, strict=True):
            assert np.array_equal(mine, theirs[name])


@pytest.mark.parametrize("name", ["manifest", "000000.col"])
def test_another_version_is_refused_by_name(example: Path, name: str) -> None:
    data = bytearray((example / name).read_bytes())
    data[8] = 2
    (example / name).write_bytes(data)

    with pytest.raises(CorruptError, match=rf"{name}.*version 2"):
        Dataset.open(example).fetch([0])
