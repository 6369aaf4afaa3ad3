"""Metadata of a dataset on its way into Postgres: what is new, exactly once."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from modyn.metadata.columns import ArrayColumns, Columns
from modyn.metadata.database import Database
from modyn.metadata.publisher import Followed, Identity, Publisher, Settings

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.erasure import Event

__all__ = ["PublishReport", "publish", "publish_columns"]


@dataclass(frozen=True, kw_only=True)
class PublishReport:
    """What came of publishing a dataset.

    Parameters
    ----------
    samples : int
        Published since the call began.
    total : int
        Published in all: keys 0 to total-1, those of erased samples included.
    erased : int
        Of these, erased: nothing is there of them.
    erasures : int
        Events of the dataset's journal that were applied now.
    refilled : int
        Samples sent again, because a crash of the server had emptied unlogged tables.
    seconds : float
        How long it took.
    layout : {"rows", "blocks"}
        How samples are laid out.
    """

    samples: int
    total: int
    erased: int
    erasures: int
    refilled: int
    seconds: float
    layout: str

    def __str__(self) -> str:
        said = [
            f"{self.samples:,} samples published in {self.seconds:.1f} s",
            f"{self.total:,} in all" + (f", {self.erased:,} erased" if self.erased else ""),
        ]
        if self.refilled:
            said.append(f"{self.refilled:,} sent again after a crash of the server")
        return "; ".join(said)


def publish(
    dataset: "Dataset",
    url: str | Database,
    *,
    layout: Literal["rows", "blocks"] | None = None,
    connections: int = 2,
    unlogged: bool | None = None,
    leaf_samples: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PublishReport:
    """Send to Postgres what it does not know yet of a dataset; `Dataset.publish` explains it.

    `leaf_samples` is how many keys share a table, a power of two, by default 2**22. `progress` is
    called with how many samples are published and how many there are.
    """
    settings = Settings(layout=layout, unlogged=unlogged, leaf_samples=leaf_samples)
    return _publish(_Committed(dataset.path), url, settings, connections, progress)


def publish_columns(
    timestamps: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64] | None,
    url: str | Database,
    *,
    uuid: str,
    layout: Literal["rows", "blocks"] | None = None,
    connections: int = 2,
    unlogged: bool | None = None,
    leaf_samples: int | None = None,
) -> PublishReport:
    """Publish arrays as if they were the columns of a dataset; for benchmarks.

    Longer arrays that begin with the same samples are published from where it ended, under the
    same `uuid`: 32 hexadecimal digits.
    """
    settings = Settings(layout=layout, unlogged=unlogged, leaf_samples=leaf_samples)
    columns = ArrayColumns(timestamps=timestamps, labels=labels)
    return _publish(_Given(columns, uuid), url, settings, connections, None)


def _publish(
    dataset: Followed,
    url: str | Database,
    settings: Settings,
    connections: int,
    progress: Callable[[int, int], None] | None,
) -> PublishReport:
    if connections < 1:
        raise ValueError(f"connections must be at least 1, got {connections}")
    began = time.perf_counter()
    with _database(url) as database:
        publisher = Publisher(dataset, database, settings, connections, progress or _quiet)
        state = publisher.run()
    before = publisher.first.count if publisher.first else 0
    return PublishReport(
        samples=state.count - before,
        total=state.count,
        erased=state.erased,
        erasures=publisher.erasures,
        refilled=publisher.refilled,
        seconds=time.perf_counter() - began,
        layout=state.layout,
    )


def _quiet(done: int, total: int) -> None:
    pass


@contextmanager
def _database(url: str | Database) -> Iterator[Database]:
    if isinstance(url, Database):
        yield url
        return
    with Database(url) as database:
        yield database


class _Committed:
    """A dataset as of its last commit, seen through a handle of our own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.refresh()

    def refresh(self) -> None:
        from modyn.dataset import Dataset

        with Dataset.open(self._path) as dataset:
            view = dataset.view
            self.view: Columns = view
            self.events: Sequence[Event] = dataset.audit()
            self.identity = Identity(
                uuid=dataset.uuid,
                name=os.path.basename(dataset.path),
                fields=json.dumps(dataset.schema),
                timestamp_unit=dataset.timestamp_unit,
                has_labels=view.has_labels,
                where=dataset.path,
            )


class _Given:
    """Columns in memory, as a dataset of which nothing is erased."""

    def __init__(self, columns: ArrayColumns, uuid: str) -> None:
        self.view: Columns = columns
        self.events: Sequence[Event] = ()
        self.identity = Identity(
            uuid=uuid,
            name="columns",
            fields="{}",
            timestamp_unit="s",
            has_labels=columns.has_labels,
            where="columns",
        )

    def refresh(self) -> None:
        """Nothing: arrays do not grow."""
