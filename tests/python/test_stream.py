"""The stream of a pipeline: all samples, or those of an interval, in arrival or in time order."""

from __future__ import annotations

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.pipelines.stream import stream_of
from tests.python.streams import drifting, pipeline


@pytest.fixture
def late(tmp_path):
    return drifting(tmp_path / "late", order="late")


@pytest.fixture
def ascending(tmp_path):
    return drifting(tmp_path / "ascending")


def expected(dataset, count, start, stop, order):
    times = dataset.timestamps[:count]
    keys = np.arange(count) if order == "arrival" else np.argsort(times, kind="stable")
    inside = (times[keys] >= start) & (times[keys] < stop)
    return keys[inside].tolist()


def keys_of(stream):
    return list(range(stream.count)) if stream.order is None else stream.order.tolist()


@pytest.mark.parametrize("order", ["arrival", "time"])
@pytest.mark.parametrize("count", [1, 150, 599, 600])
@pytest.mark.parametrize(
    ("start", "stop"), [(None, None), (0, None), (None, 47), (-20, 47), (-139, -60), (5, 6)]
)
def test_a_stream_is_its_interval_in_its_order(late, ascending, order, count, start, stop):
    for dataset in (late, ascending):
        made = pipeline(dataset, order=order, start_replay_at=start, stop_replay_at=stop)
        low = -(2**62) if start is None else start
        high = 2**62 if stop is None else stop
        keys = expected(dataset, count, low, high, order)
        if not keys:
            with pytest.raises(ConfigError, match="no samples to follow"):
                stream_of(made, count)
            continue

        stream = stream_of(made, count)

        assert keys_of(stream) == keys
        assert stream.count == len(keys)
        times = dataset.timestamps[keys]
        assert stream.ascending == bool((times[1:] >= times[:-1]).all())


def test_all_keys_in_arrival_order_need_no_order(ascending):
    for order in ("arrival", "time"):
        assert stream_of(pipeline(ascending, order=order), 600).order is None


def test_an_interval_that_ends_before_it_begins_is_empty(late):
    with pytest.raises(ConfigError):
        stream_of(pipeline(late, start_replay_at=10, stop_replay_at=5), 600)


@pytest.mark.parametrize("order", ["arrival", "time"])
@pytest.mark.parametrize("made", ["late", "time"])
@pytest.mark.parametrize(("start", "stop"), [(None, None), (0, None), (-20, 47)])
def test_erasing_keeps_the_living_in_their_order(tmp_path, rand, order, made, start, stop):
    path = tmp_path / "stream"
    before = drifting(path, order=made)
    interval = {"start_replay_at": start, "stop_replay_at": stop}
    whole = keys_of(stream_of(pipeline(before, order=order, **interval), 600))
    gone = np.sort(rand.numpy.choice(600, 90, replace=False)).astype(np.uint64)
    with Dataset.open(path, mode="w") as dataset:
        dataset.erase(gone, reason="test")

    stream = stream_of(pipeline(Dataset.open(path), order=order, **interval), 600)

    living = [key for key in whole if key not in set(gone.tolist())]
    assert [key for key in keys_of(stream) if key not in set(gone.tolist())] == living
    assert keys_of(stream) == whole  # no position moved
    times = before.timestamps[living]
    assert stream.ascending == bool((times[1:] >= times[:-1]).all())
