"""Make the dataset `flights`: did it arrive more than 15 minutes late?  New York, 2013.

    python examples/flights/prepare.py --datasets datasets

A sample is a flight at the moment of its scheduled departure, and holds only what is known then:
the timetable, and the departures board, which is how late the flights that have already left
were.  The flight's own dep_time, dep_delay, arr_time and air_time are not known then.

Flights that were cancelled or diverted have no arrival delay, so no label; they are left out.
(A diverted flight has left all the same, so it is on the board.)
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prepared import PrepareError, Table, main, read

ROWS, UNLABELED = 336_776, 9_430
COUNT = ROWS - UNLABELED
LATE_MINUTES = 15
DAY_MINUTES = 1_440
DIGITS = 5  # after the point, in the CSV file
EPOCH_MINUTES = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp()) // 60

ORIGINAL = [
    *("year", "month", "day", "dep_time", "dep_delay", "arr_time", "arr_delay", "carrier"),
    *("tailnum", "flight", "origin", "dest", "air_time", "distance", "hour", "minute"),
]
TIMETABLE = ["hour", "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "log_distance"]
BOARD = [
    *("airport_delay_1h", "airport_late_1h", "airport_delay_3h", "airport_late_3h"),
    *("carrier_delay_3h", "carrier_late_3h", "dest_delay_6h", "dest_late_6h"),
    *("city_delay_1h", "city_late_1h"),
]
CATEGORIES = ["carrier", "origin", "dest"]
SCHEMA = {"dense": f"float32[{len(TIMETABLE) + len(BOARD)}]", "cat": f"int32[{len(CATEGORIES)}]"}

# A name's id is its place here.  The lists are fixed, in the order of the names, so that ids
# never depend on which rows are read.
NAMES = {
    "carrier": "9E AA AS B6 DL EV F9 FL HA MQ OO UA US VX WN YV".split(),
    "origin": "EWR JFK LGA".split(),
    "dest": """
        ABQ ACK ALB ANC ATL AUS AVL BDL BGR BHM BNA BOS BQN BTV BUF BUR BWI BZN CAE CAK CHO CHS
        CLE CLT CMH CRW CVG DAY DCA DEN DFW DSM DTW EGE EYW FLL GRR GSO GSP HDN HNL HOU IAD IAH
        ILM IND JAC JAX LAS LAX LEX LGA LGB MCI MCO MDW MEM MHT MIA MKE MSN MSP MSY MTJ MVY MYR
        OAK OKC OMA ORD ORF PBI PDX PHL PHX PIT PSE PSP PVD PWM RDU RIC ROC RSW SAN SAT SAV SBN
        SDF SEA SFO SJC SJU SLC SMF SNA SRQ STL STT SYR TPA TUL TVC TYS XNA
    """.split(),
}

# Days of 2013 before each month; month 0 is none.
DAYS_BEFORE = np.cumsum([0, 0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Flights:
    """The flights that left, by scheduled departure; times in minutes since 2013-01-01.

    `late` is whether the arrival was late, -1 where it is not known (diverted).
    """

    scheduled: Ints
    delay: Ints
    late: Ints
    distance: Ints
    ids: dict[str, Ints]


def scheduled_minute(dep_time: str, dep_delay: str) -> int:
    """Return the scheduled departure as minute of the day.

    The date of a row is that of the schedule, so a flight that left after midnight has a
    departure time on the clock of the next day, and the difference wraps around.

    >>> scheduled_minute("517", "2"), scheduled_minute("32", "33"), scheduled_minute("2400", "10")
    (315, 1439, 1430)
    """
    clock = int(dep_time)
    return (clock // 100 * 60 + clock % 100 - int(dep_delay)) % DAY_MINUTES


def departed(path: Path) -> Flights:
    """Return the flights of the original that left, in the order of the timetable."""
    rows = read(path, ORIGINAL)
    if len(rows) != ROWS:
        raise PrepareError(f"{path}: {len(rows)} rows, expected {ROWS}")
    at = {name: i for i, name in enumerate(ORIGINAL)}
    rows = [row for row in rows if row[at["dep_time"]]]
    months = np.array([int(row[at["month"]]) for row in rows])
    day = DAYS_BEFORE[months] + [int(row[at["day"]]) - 1 for row in rows]
    minute = [scheduled_minute(row[at["dep_time"]], row[at["dep_delay"]]) for row in rows]
    scheduled = day * DAY_MINUTES + np.array(minute)
    order = np.argsort(scheduled, kind="stable")
    late = [
        int(int(row[at["arr_delay"]]) > LATE_MINUTES) if row[at["arr_delay"]] else -1
        for row in rows
    ]
    ids = {}
    for kind, names in NAMES.items():
        places = {name: i for i, name in enumerate(names)}
        ids[kind] = np.array([places[row[at[kind]]] for row in rows])[order]
    return Flights(
        scheduled=scheduled[order],
        delay=np.array([int(row[at["dep_delay"]]) for row in rows])[order],
        late=np.array(late)[order],
        distance=np.array([int(row[at["distance"]]) for row in rows])[order],
        ids=ids,
    )


def board(flights: Flights, group: Ints, minutes: int) -> list[Floats]:
    """Return the mean delay and the share of late ones on the board of each flight.

    On its board are the flights of its group that left in the last `minutes` before its scheduled
    departure; 0 where none did.  A flight that left early has itself left by then: it is not
    counted.
    """
    delay = np.clip(flights.delay, -15, 180).astype(np.float64)
    late = (flights.delay > LATE_MINUTES).astype(np.float64)
    left = flights.scheduled + flights.delay
    found = [np.zeros(len(group)), np.zeros(len(group))]
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        by_time = rows[np.argsort(left[rows], kind="stable")]
        now = flights.scheduled[rows]
        first = np.searchsorted(left[by_time], now - minutes)
        last = np.searchsorted(left[by_time], now)
        own = (left[rows] >= now - minutes) & (left[rows] < now)
        count = np.maximum(last - first - own, 1)
        for values, out in zip((delay, late), found, strict=True):
            running = np.concatenate([[0.0], np.cumsum(values[by_time])])
            out[rows] = (running[last] - running[first] - own * values[rows]) / count
    return found


def dense(flights: Flights) -> Floats:
    """Return the numbers, in the order of TIMETABLE and BOARD."""
    hour = flights.scheduled % DAY_MINUTES / 60
    day = 2 * math.pi * hour / 24
    week = 2 * math.pi * (flights.scheduled // DAY_MINUTES) / 7
    airport, carrier = flights.ids["origin"], flights.ids["carrier"]
    columns = [hour, np.sin(day), np.cos(day), np.sin(week), np.cos(week)]
    columns.append(np.log(flights.distance))
    columns += board(flights, airport, 60) + board(flights, airport, 180)
    columns += board(flights, airport * len(NAMES["carrier"]) + carrier, 180)
    columns += board(flights, flights.ids["dest"], 360)
    columns += board(flights, np.zeros_like(airport), 60)
    return np.stack(columns, axis=1)


def table(path: Path) -> Table:
    """Return the samples of the original."""
    flights = departed(path)
    fields = {"dense": TIMETABLE + BOARD, "cat": CATEGORIES}
    return Table(schema=SCHEMA, fields=fields, rows=samples(flights), count=COUNT)


def samples(flights: Flights) -> Iterator[list[object]]:
    """Yield (timestamp, label, numbers, categories) of each flight that has a label."""
    kept = np.flatnonzero(flights.late >= 0)
    seconds = (EPOCH_MINUTES + flights.scheduled[kept]) * 60
    numbers = dense(flights)[kept].round(DIGITS)
    categories = np.stack([flights.ids[kind][kept] for kind in CATEGORIES], axis=1)
    rows = zip(
        seconds.tolist(),
        flights.late[kept].tolist(),
        numbers.tolist(),
        categories.tolist(),
        strict=True,
    )
    for second, label, values, places in rows:
        yield [second, label, *values, *places]


if __name__ == "__main__":
    sys.exit(main("flights", SCHEMA, COUNT, table, "nycflights13_flights.csv.xz"))
