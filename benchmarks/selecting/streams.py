"""Real streams as modyn datasets, made once from the files in a folder.

The folder (`--data`) holds a folder for each stream, with the originals as they were published,
compressed with xz:

    noaa_weather/weather.csv.xz                         rain or not, daily, 1949 to 1998
    flights/nycflights13_flights.csv.xz                 more than 15 minutes late? New York, 2013
    beijing_air/PRSA_Data_*_20130301-20170228.csv.xz    PM2.5 above 75 six hours on, 12 stations
    nvd_cve/nvd_cve.tsv.xz                              severity of a vulnerability, by its text
    insects/gradual_balanced_24150.csv.xz               which of six insects, by its wing beat
    mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.xz

Time is the place in the stream, so that windows of equal length are equal parts; long streams are
thinned evenly to some 20,000 samples.  All features are numbers, in one field, `dense`.
"""

from __future__ import annotations

import csv
import io
import lzma
import math
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn import Dataset

ROOT = Path(__file__).parents[2]
AHEAD_HOURS, LIMIT_PM25 = 6, 75.0
WORDS = 256  # into which the words of a text are hashed
AIR = ["PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM"]
INSECTS = [2, 3, 4, 5, 11, 12]
LATER = 60_000  # the first timestamp of test digits
SEVERITIES = ["LOW", "MEDIUM", "HIGH"]


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a stream in its order."""

    dense: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A stream that can be made into a dataset."""

    name: str
    what: str
    licence: str
    classes: int
    width: int
    read: Callable[[Path], Samples]


class NotThereError(Exception):
    """An original that the folder of data has not got."""


def opened(path: Path) -> bytes:
    """Return what an original holds."""
    if not path.exists():
        raise NotThereError(f"{path} is not there")
    return lzma.decompress(path.read_bytes())


def numbers(path: Path, *, header: bool) -> npt.NDArray[np.float64]:
    """Return a file of comma separated numbers."""
    text = io.BytesIO(opened(path))
    return np.loadtxt(text, delimiter=",", skiprows=int(header), dtype=np.float64)


def read_weather(folder: Path) -> Samples:
    """Return a sample for each day: eight measurements, and whether it rained."""
    table = numbers(folder / "noaa_weather/weather.csv.xz", header=True)
    return Samples(table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64))


def read_insects(folder: Path) -> Samples:
    """Return a sample for each insect: 33 features of its signal, and which it is."""
    table = numbers(folder / "insects/gradual_balanced_24150.csv.xz", header=False)
    labels = np.searchsorted(INSECTS, table[:, -1].astype(np.int64))
    return Samples(table[:, :-1].astype(np.float32), labels.astype(np.int64))


def flights_prepare() -> Any:
    """Return the module that makes the dataset of examples/flights."""
    place = ROOT / "examples/flights/prepare.py"
    spec = spec_from_file_location("flights_prepare", place)
    if spec is None or spec.loader is None:
        raise NotThereError(f"{place} is not there")
    prepare: Any = module_from_spec(spec)
    spec.loader.exec_module(prepare)
    return prepare


def read_flights(folder: Path) -> Samples:
    """Return every sixteenth flight, with what examples/flights knows when it should leave."""
    prepare = flights_prepare()
    path = folder / "flights/nycflights13_flights.csv.xz"
    opened(path)
    flights = prepare.departed(path)
    kept = np.flatnonzero(flights.late >= 0)[::16]
    columns = [prepare.dense(flights)]
    columns += [np.eye(3)[flights.ids["origin"]], np.eye(16)[flights.ids["carrier"]]]
    return Samples(
        np.concatenate(columns, axis=1)[kept].astype(np.float32),
        flights.late[kept].astype(np.int64),
    )


def read_air(folder: Path) -> Samples:
    """Return one station's measurements each second hour, the stations taking turns."""
    names = sorted((folder / "beijing_air").glob("PRSA_Data_*.csv.xz"))
    if len(names) != 12:
        raise NotThereError(f"{folder / 'beijing_air'}: 12 files PRSA_Data_*, found {len(names)}")
    stations = [station(path) for path in names]
    hours = len(stations[0])
    rows, labels = [], []
    for hour in range(0, hours - AHEAD_HOURS, 2):
        one = hour // 2 % len(stations)
        ahead = stations[one][hour + AHEAD_HOURS, 0]
        if not math.isnan(ahead):
            turn = np.zeros(len(stations))
            turn[one] = 1.0
            rows.append(np.concatenate([known(stations[one], hour), clock(hour), turn]))
            labels.append(int(ahead > LIMIT_PM25))
    return Samples(np.array(rows, np.float32), np.array(labels, np.int64))


def station(path: Path) -> npt.NDArray[np.float64]:
    """Return the measurements of a station, an hour in a row; nan where there are none."""
    lines = csv.DictReader(io.StringIO(opened(path).decode()))
    table = [[math.nan if row[c] == "NA" else float(row[c]) for c in AIR] for row in lines]
    return np.array(table)


def known(table: npt.NDArray[np.float64], hour: int) -> npt.NDArray[np.float64]:
    """Return for each column the newest value of the last day, 0 where there is none."""
    day = table[max(hour - 23, 0) : hour + 1]
    found = np.zeros(day.shape[1])
    for values in day:
        found = np.where(np.isnan(values), found, values)
    return found


def clock(hour: int) -> list[float]:
    """Return the time of day and of year as places on circles."""
    turns = [hour / 24, hour / (24 * 365.25)]
    return [f(2 * math.pi * turn) for turn in turns for f in (math.sin, math.cos)]


def read_cve(folder: Path) -> Samples:
    """Return every fifth report until 2018 that has a severity, with its words hashed."""
    text = opened(folder / "nvd_cve/nvd_cve.tsv.xz").decode()
    lines = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    clean = (
        row
        for row in lines
        if row["cvss2_severity"] and row["published"] < "2019" and row["cve_id"] < "CVE-2019"
    )
    rows, labels = [], []
    for row in islice(clean, 0, None, 5):
        rows.append(hashed(row["description"]))
        labels.append(SEVERITIES.index(row["cvss2_severity"]))
    return Samples(np.array(rows, np.float32), np.array(labels, np.int64))


def hashed(text: str) -> npt.NDArray[np.float64]:
    """Return log(1 + n), n how many words of the text fall into each place."""
    counts = np.zeros(WORDS)
    for word in text.lower().split():
        counts[zlib.crc32(word.strip(".,;:()\"'").encode()) % WORDS] += 1
    return np.log1p(counts)


def read_mnist(folder: Path, part: str) -> Samples:
    """Return the digits of "train" or "t10k", standardised as a whole."""
    images = np.frombuffer(opened(folder / f"mnist/{part}-images-idx3-ubyte.xz"), np.uint8, -1, 16)
    labels = np.frombuffer(opened(folder / f"mnist/{part}-labels-idx1-ubyte.xz"), np.uint8, -1, 8)
    dense = (images.reshape(-1, 784).astype(np.float32) / 255 - 0.1307) / 0.3081
    return Samples(dense, labels.astype(np.int64))


STREAMS = {
    stream.name: stream
    for stream in (
        Stream(
            name="weather",
            what="rain or not, daily",
            licence="US government data",
            classes=2,
            width=8,
            read=read_weather,
        ),
        Stream(
            name="flights",
            what="late or not, New York 2013, every 16th flight",
            licence="CC0",
            classes=2,
            width=35,
            read=read_flights,
        ),
        Stream(
            name="air",
            what="PM2.5 above 75 in six hours, Beijing, 12 stations in turns",
            licence="CC BY 4.0",
            classes=2,
            width=27,
            read=read_air,
        ),
        Stream(
            name="cve",
            what="severity of a vulnerability report, every 5th, words hashed to 256",
            licence="public domain",
            classes=3,
            width=WORDS,
            read=read_cve,
        ),
        Stream(
            name="insects",
            what="which of six insects, gradual drift",
            licence="unclear: not part of the repository",
            classes=6,
            width=33,
            read=read_insects,
        ),
    )
}


Reader = Callable[[], Samples]


def made(
    directory: Path, read: Reader, limit: int | None = None, first_timestamp: int = 0
) -> Dataset:
    """Return the dataset of a directory; make it there first if it is not, all or nothing."""
    if not directory.exists():
        samples = read()
        count = len(samples.labels)
        rows = np.arange(0, count, max(count // (limit or count), 1))
        half = directory.with_name(f".{directory.name}")
        shutil.rmtree(half, ignore_errors=True)
        write(half, samples, rows, first_timestamp)
        half.rename(directory)
    return Dataset.open(directory)


def write(
    directory: Path, samples: Samples, rows: npt.NDArray[np.int64], first_timestamp: int = 0
) -> None:
    """Write these rows as a dataset, whose time is the place in it."""
    schema = {"dense": f"float32[{samples.dense.shape[1]}]"}
    directory.parent.mkdir(parents=True, exist_ok=True)
    with Dataset.create(directory, schema=schema, timestamp_unit="s") as dataset:
        dataset.append(
            {"dense": np.ascontiguousarray(samples.dense[rows])},
            labels=samples.labels[rows],
            timestamps=first_timestamp + np.arange(len(rows), dtype=np.int64),
        )
