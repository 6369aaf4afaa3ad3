"""Real streams with their own time, as modyn datasets that are made once.

The originals lie in a folder as benchmarks/selecting/streams.py says, and in it also

    elec2/elec.csv.xz                                   price up or down, New South Wales

Time is that of the stream where there is one (publication of a report, scheduled departure, half
hours, days), in microseconds, so that samples of the same minute stay in their order; for insects
it is the place in the stream.  Long streams are thinned evenly to some 20,000 samples.

A stream with planted drifts is a real one without the drift that it has: its samples in a drawn
order, so that nothing changes but where it is made to.  From each planted place on, the features
are those of another column, drawn anew.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.selecting import streams as plain
from benchmarks.selecting.streams import NotThereError
from modyn import Dataset

MICRO = 1_000_000
HALF_HOUR, DAY = 1800, 86_400
PLANTED_COUNT = 12_000  # samples of a stream with planted drifts
PLANTED = (0.4, 0.6, 0.8)  # where features are permuted, as shares of the stream
ELEC2_TURN = 17_424  # row from which prices of Victoria are known: checked when it is read


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a stream in its order, with their times in seconds, ascending."""

    dense: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A stream that can be made into a dataset."""

    name: str
    what: str
    classes: int
    width: int
    read: Callable[[Path], Samples]
    newest: int  # samples that each training takes
    periods: tuple[str, ...] = ()  # of time triggers, where time is not the place in the stream
    brief: bool = False  # whether one setting for each family is enough
    drifts: tuple[float, ...] = ()  # known places, as shares of the stream


def read_weather(folder: Path) -> Samples:
    found = plain.read_weather(folder)
    days = np.arange(len(found.labels), dtype=np.int64)
    return Samples(found.dense, found.labels, days * DAY)


def read_insects(folder: Path) -> Samples:
    found = plain.read_insects(folder)
    return Samples(found.dense, found.labels, np.arange(len(found.labels), dtype=np.int64))


def read_elec2(folder: Path) -> Samples:
    """Return every second half hour: time of day, demands, prices and transfer, up or down."""
    text = plain.opened(folder / "elec2/elec.csv.xz").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    names = [name for name in rows[0] if name != "class"]
    dense = np.array([[float(row[name]) for name in names] for row in rows])
    labels = np.array([row["class"].strip() in ("1", "UP") for row in rows], dtype=np.int64)
    price = dense[:, names.index("vicprice")]
    if not (price[:ELEC2_TURN] == price[0]).all() or price[ELEC2_TURN] == price[0]:
        raise NotThereError(f"elec2: prices of Victoria do not begin at {ELEC2_TURN}")
    kept = np.arange(0, len(labels), 2)
    return Samples(dense[kept].astype(np.float32), labels[kept], kept * HALF_HOUR)


def read_flights(folder: Path) -> Samples:
    """Return every sixteenth flight, at its scheduled departure."""
    found = plain.read_flights(folder)
    prepare = plain.flights_prepare()
    flights = prepare.departed(folder / "flights/nycflights13_flights.csv.xz")
    kept = np.flatnonzero(flights.late >= 0)[::16]
    return Samples(found.dense, found.labels, np.asarray(flights.scheduled)[kept] * 60)


def read_cve(folder: Path) -> Samples:
    """Return every fifth report that has a severity, at its publication."""
    found = plain.read_cve(folder)
    text = plain.opened(folder / "nvd_cve/nvd_cve.tsv.xz").decode()
    lines = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    clean = (
        row["published"]
        for row in lines
        if row["cvss2_severity"] and row["published"] < "2019" and row["cve_id"] < "CVE-2019"
    )
    times = [
        int(datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=UTC).timestamp())
        for text in islice(clean, 0, None, 5)
    ]
    return Samples(found.dense, found.labels, np.array(times, dtype=np.int64))


def planted(read: Callable[[Path], Samples], folder: Path, seed: int) -> Samples:
    """Return a stream in a drawn order, with its columns permuted anew from each planted place."""
    found = read(folder)
    rng = np.random.default_rng([seed, 7])
    width = found.dense.shape[1]
    order = rng.permutation(len(found.labels))[:PLANTED_COUNT]
    count = len(order)
    dense = found.dense[order]
    for share in PLANTED:
        first = int(share * count)
        dense[first:] = dense[first:, rng.permutation(width)]
    return Samples(dense, found.labels[order], np.arange(count, dtype=np.int64))


STREAMS = {
    stream.name: stream
    for stream in (
        Stream(
            name="insects",
            what="which of six insects, by its wing beat, while it gets warmer",
            classes=6,
            width=33,
            read=read_insects,
            newest=1000,
        ),
        Stream(
            name="cve",
            what="severity of a vulnerability report, by its words, 1988 to 2018",
            classes=3,
            width=plain.WORDS,
            read=read_cve,
            newest=4000,
            periods=("60d", "120d", "1y", "2y"),
        ),
        Stream(
            name="elec2",
            what="electricity price up or down, New South Wales, 1996 to 1998",
            classes=2,
            width=6,
            read=read_elec2,
            newest=1000,
            drifts=(ELEC2_TURN / 45_312,),
        ),
        Stream(
            name="weather",
            what="rain or not, daily, 1949 to 1999",
            classes=2,
            width=8,
            read=read_weather,
            newest=4000,
        ),
        Stream(
            name="flights",
            what="late or not, New York, 2013",
            classes=2,
            width=35,
            read=read_flights,
            newest=4000,
            brief=True,
            periods=("1w", "2w", "30d", "60d", "120d"),
        ),
    )
}


Reader = Callable[[], Samples]


def made(directory: Path, read: Reader, limit: int | None = None) -> Dataset:
    """Return the dataset of a directory; make it there first if it is not, all or nothing."""
    if not directory.exists():
        samples = read()
        count = len(samples.labels)
        rows = np.arange(count)[: limit or count]
        half = directory.with_name(f".{directory.name}")
        shutil.rmtree(half, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        schema = {"dense": f"float32[{samples.dense.shape[1]}]"}
        with Dataset.create(half, schema=schema, timestamp_unit="us") as dataset:
            dataset.append(
                {"dense": np.ascontiguousarray(samples.dense[rows])},
                labels=samples.labels[rows],
                timestamps=apart(samples.seconds)[rows],
            )
        half.rename(directory)
    return Dataset.open(directory)


def apart(seconds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return times in microseconds, of which no two are the same."""
    assert (np.diff(seconds) >= 0).all()
    first = np.searchsorted(seconds, seconds)  # of those with the same time
    found: npt.NDArray[np.int64] = seconds * MICRO + np.arange(len(seconds)) - first
    return found
