"""A dataset of which all samples are known, to be damaged and looked at."""

from __future__ import annotations

import numpy as np
import pytest

import modyn

SCHEMA = {"x": "float32[2]", "flag": "bool", "word": "bytes"}


def fill(dataset, first, count):
    keys = np.arange(first, first + count)
    words = [bytes([k % 251]) * (k % 7) for k in keys.tolist()]
    dataset.append(
        {
            "x": np.stack([keys, keys / 3], 1).astype(np.float32),
            "flag": keys % 2 == 0,
            "word": words,
        },
        labels=keys % 5,
        timestamps=1_700_000_000 + keys * 60,
    )


@pytest.fixture
def home(tmp_path):
    """A dataset of two segments: some samples erased and compacted, others only erased."""
    path = tmp_path / "words"
    with modyn.Dataset.create(path, schema=SCHEMA, segment_records=8192) as dataset:
        for first in range(0, 12_000, 4000):
            fill(dataset, first, 4000)
        dataset.erase(np.arange(100, 110), reason="user 4711 left")
        dataset.compact()
        dataset.erase([7000, 9000, 9001], reason="wrong [labels]")
    return path


GONE = {*range(100, 110), 7000, 9000, 9001}


def poke(file, at, data):
    with open(file, "r+b") as stream:
        stream.seek(at, 0 if at >= 0 else 2)
        stream.write(data)


def samples(dataset):
    keys = dataset.keys()
    fields = dataset.fetch(keys)
    words = list(fields["word"])
    return keys, dataset.labels[keys], dataset.timestamps[keys], fields["x"], fields["flag"], words
