"""Datasets of every released version of the format are read, for ever."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.errors import CorruptError
from tests.reference.format import Reference

GOLDEN = Path(__file__).parents[1] / "golden"


def load(version: str) -> Any:
    spec = importlib.util.spec_from_file_location(version, GOLDEN / version / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


V1 = load("v1")


@pytest.fixture
def v1(tmp_path):
    with tarfile.open(GOLDEN / "v1" / "datasets.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path


def assert_holds(dataset: modyn.Dataset, name: str, skip: tuple[int, ...] = ()) -> None:
    fields, labels, timestamps = V1.samples(name)
    keys = np.array([key for key in range(len(timestamps)) if key not in skip], np.uint64)
    found = dataset.fetch(keys)
    for field, values in fields.items():
        if isinstance(values, list):
            assert list(found[field]) == [values[key] for key in keys]
        else:
            assert found[field].dtype == values.dtype
            assert found[field].tobytes() == values[keys].tobytes()
    assert np.array_equal(dataset.timestamps[keys], timestamps[keys])
    if dataset.labels is not None:
        assert np.array_equal(dataset.labels[keys], labels[keys])


@pytest.mark.parametrize("name", V1.DATASETS)
def test_a_dataset_of_version_1_is_read(v1, name):
    schema, unit, has_labels, sizes = V1.DATASETS[name]

    with modyn.Dataset.open(v1 / name) as dataset:
        assert dataset.schema == schema
        assert dataset.timestamp_unit == unit
        assert len(dataset) == sum(sizes)
        assert (dataset.labels is not None) == has_labels
        assert not dataset.erased.any()
        assert dataset.audit() == []
        assert_holds(dataset, name)


@pytest.mark.parametrize("name", ["fixed", "ragged", "two"])
def test_the_twin_reads_a_dataset_of_version_1(v1, name):
    reference = Reference(v1 / name)

    assert len(reference.commits) == len(V1.DATASETS[name][3])
    assert reference.count == sum(V1.DATASETS[name][3])


@pytest.mark.parametrize("name", V1.DATASETS)
def test_a_dataset_of_version_1_goes_on(v1, name):
    fields, labels, timestamps = V1.samples("fixed" if name == "empty" else name)
    if name == "empty":
        fields = {"x": np.zeros((len(labels), 3), np.float32)}
    with modyn.Dataset.open(v1 / name, mode="w") as dataset:
        before = len(dataset)
        more = dataset.append(
            fields,
            labels=labels if dataset.labels is not None else None,
            timestamps=timestamps,
        )
        dataset.erase([0, *more[:2].tolist()], reason="to see")
        dataset.compact()
        if before:
            assert_holds(dataset, name, skip=(0,))

    with modyn.Dataset.open(v1 / name) as dataset:
        assert len(dataset) == before + len(timestamps)
        assert dataset.erased.sum() == (3 if before else 2)
        if before:
            assert_holds(dataset, name, skip=(0,))


def test_a_version_of_the_future_is_refused(v1):
    manifest = v1 / "fixed" / "manifest"
    data = bytearray(manifest.read_bytes())
    data[8] = 2
    manifest.write_bytes(data)

    with pytest.raises(CorruptError, match="format version 2; this modyn reads version 1"):
        modyn.Dataset.open(v1 / "fixed")
