"""Make the dataset `weather`: did it rain on this day?  18,159 days, 1949 to 1998.

    python examples/weather/prepare.py --datasets datasets

The original has one row per day and no dates.  Here row i is the i-th day after 1949-01-01, at
0:00 UTC; days with missing values were left out by its compilers, so dates are approximate.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prepared import PrepareError, Table, main, read

COUNT = 18_159
DAY = 86_400
FIRST_DAY = int(datetime(1949, 1, 1, tzinfo=UTC).timestamp())  # before 1970, so negative

# What feat_1 ... feat_8 of the original are: degrees Fahrenheit, millibars, miles, knots.
FEATURES = [
    *("temperature", "dew_point", "sea_level_pressure", "visibility"),
    *("average_wind", "maximum_wind", "maximum_temperature", "minimum_temperature"),
]
ORIGINAL = [*(f"feat_{i}" for i in range(1, 9)), "target"]
SCHEMA = {"dense": "float32[8]"}


def table(path: Path) -> Table:
    """Return the samples of the original."""
    rows = read(path, ORIGINAL)
    if len(rows) != COUNT:
        raise PrepareError(f"{path}: {len(rows)} rows, expected {COUNT}")
    return Table(schema=SCHEMA, fields={"dense": FEATURES}, rows=samples(rows), count=COUNT)


def samples(rows: list[list[str]]) -> Iterator[list[object]]:
    """Yield (timestamp, label, features) of each day."""
    for i, row in enumerate(rows):
        yield [FIRST_DAY + i * DAY, row[8], *row[:8]]


if __name__ == "__main__":
    sys.exit(main("weather", SCHEMA, COUNT, table, "weather.csv.xz"))
