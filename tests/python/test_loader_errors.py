"""Loaders when something goes wrong: which batch says so, and which come before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import modyn
from modyn.errors import CorruptError
from modyn.loader import Loader
from tests.python.loading import COUNT, dataset, joined, key_list, path

__all__ = ["dataset", "path"]  # fixtures


@pytest.mark.parametrize("threads", [1, 4])
def test_a_bad_key_is_an_error_after_exactly_the_batches_before_it(dataset, threads):
    for at in (0, 1, 25, 79):
        keys = np.arange(80)
        keys[at] = COUNT + 5
        iterator = iter(Loader(dataset, keys, batch_size=10, threads=threads))

        good = [next(iterator) for _ in range(at // 10)]

        message = rf"batch {at // 10}: .*key {COUNT + 5}.* {COUNT - 1}"
        for _ in range(2):  # the error stays
            with pytest.raises(KeyError, match=message):
                next(iterator)
        assert joined(key_list(good)) == keys[: at // 10 * 10].tolist()


def test_damaged_bytes_are_an_error_in_their_batch(tmp_path):
    path = tmp_path / "data"
    writer = modyn.Dataset.create(path, schema={"n": "int64[512]"}, labels=False)
    writer.append({"n": np.arange(100 * 512).reshape(100, 512)}, timestamps=np.arange(100))
    writer.close()
    with (path / "000000.seg").open("r+b") as file:
        file.seek(60 * 4096 + 17)
        file.write(b"\xff")
    opened = modyn.Dataset.open(path)
    iterator = iter(Loader(opened, np.arange(100), batch_size=16))

    assert len(next(iterator)) == 16
    with pytest.raises(CorruptError, match=r"batch \d: .*000000\.seg"):
        list(iterator)


Bad = tuple[dict[str, Any], type[Exception], str]
BAD: list[Bad] = [
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ({"batch_size": -3}, ValueError, "batch_size must be at least 1, got -3"),
    ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, got 2.5"),
    ({"batch_size": 2**63}, ValueError, "batch_size must be at most"),
    ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
    ({"threads": 1025}, ValueError, "threads must be at most 1024, got 1025"),
    ({"prefetch": 0}, ValueError, "prefetch must be at least 1, got 0"),
    ({"prefetch": "4"}, TypeError, "prefetch must be an integer, got '4'"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"seed": 2**64}, ValueError, "seed must be at most"),
    ({"epoch": -1}, ValueError, "epoch must be at least 0, got -1"),
    ({"shuffle": True}, ValueError, 'shuffle must be "global", "partition" or False, got'),
    ({"shuffle": "local"}, ValueError, "shuffle must be .* got 'local'"),
    ({"fields": ["x", "y"]}, ValueError, "no field 'y' in the dataset; it has x, text, n, b"),
    ({"fields": "x"}, TypeError, "sequence of names, got the string 'x'"),
    ({"fields": ["x", "x"]}, ValueError, "names a field twice"),
    ({"samples": [[1, 2]]}, ValueError, r"shape \(n,\), got shape \(1, 2\)"),
    ({"samples": 5}, ValueError, r"shape \(n,\), got shape \(\)"),
    ({"samples": [1.0, 2.0]}, TypeError, "integers, got float64"),
    ({"samples": [True, False]}, TypeError, "integers, got bool"),
    ({"samples": ["a"]}, TypeError, "integers, got <U1"),
    ({"samples": [3, -2, -1]}, ValueError, "not negative, got -2 at 1"),
    ({"weights": [1.0]}, ValueError, r"weights must have shape \(3,\) as the keys, got \(1,\)"),
    ({"weights": [1.0, np.nan, 1.0]}, ValueError, "weights must be finite, got nan at 1"),
    ({"weights": ["a", "b", "c"]}, TypeError, "weights must be real numbers"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_a_bad_argument_is_named(dataset, arguments, error, message):
    good: dict[str, Any] = {"samples": [1, 2, 3], "batch_size": 2}

    with pytest.raises(error, match=message):
        Loader(dataset, **(good | arguments))


def test_a_batch_beyond_the_last_is_no_place_to_start(dataset):
    loader = Loader(dataset, np.arange(10), batch_size=5)

    assert list(loader.batches(2)) == []
    with pytest.raises(ValueError, match="first must be at most 2, got 3"):
        loader.batches(3)


def test_the_core_refuses_what_the_face_lets_no_one_pass(dataset):
    keys = np.arange(4, dtype=np.uint64)
    core = modyn._core.Loader
    good: dict[str, Any] = {
        "fields": (0,),
        "batch_size": 2,
        "drop_last": False,
        "shuffle": "",
        "seed": 0,
        "pass_rows": 0,
        "partition_size": 0,
        "bucket_batches": 0,
        "bucket_field": 0,
        "rank": 0,
        "world_size": 1,
        "ascending": False,
    }
    begin: dict[str, Any] = {
        "epoch": 0,
        "first": 0,
        "threads": 1,
        "depth": 1,
        "stride": 1,
        "memory": 0,
    }
    loader = core(dataset.view, keys, None, **good)

    with pytest.raises(TypeError, match="View"):
        core(object(), keys, None, **good)
    with pytest.raises(TypeError, match="keys"):
        core(dataset.view, keys.astype(np.float64), None, **good)
    with pytest.raises(TypeError, match="weights"):
        core(dataset.view, keys, keys, **good)
    with pytest.raises(ValueError, match="3 weights for 4 keys"):
        core(dataset.view, keys, np.ones(3), **good)
    with pytest.raises(ValueError, match="field 9 was asked for, the schema has 5"):
        core(dataset.view, keys, None, **(good | {"fields": (9,)}))
    with pytest.raises(OverflowError):
        core(dataset.view, keys, None, **(good | {"fields": (2**40,)}))
    with pytest.raises(ValueError, match="at most 256 fields"):
        core(dataset.view, keys, None, **(good | {"fields": (0,) * 257}))
    with pytest.raises(ValueError, match="batch_size"):
        core(dataset.view, keys, None, **(good | {"batch_size": 0}))
    for bad in ({"threads": 0}, {"depth": 0}, {"first": 3}, {"threads": 1025}, {"depth": 10**6}):
        with pytest.raises(ValueError, match=r"must be|was asked for"):
            loader.begin(**(begin | bad))
    with pytest.raises(ValueError, match=r"a batch takes \d+ bytes, and there are 1 for all"):
        loader.begin(**(begin | {"memory": 1}))
    with pytest.raises(TypeError):
        modyn._core.Batch()
    with pytest.raises(TypeError):
        modyn._core.Epoch()
    with pytest.raises(IndexError, match="part 99 of 3"):
        next(loader.begin(**begin)).part(99)
