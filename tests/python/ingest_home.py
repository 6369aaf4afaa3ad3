"""A folder of files that are ingested into a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modyn.dataset import Dataset
from modyn.formats import (
    CSV,
)
from modyn.ingest import IngestReport
from modyn.ingest.driver import Intake

ROWS = CSV(timestamp="t")


class Home:
    """A folder with files, and a dataset that takes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dataset = Dataset.create(path / "dataset", schema={"x": "int64"}, labels=False)

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def rows(self, name: str, *numbers: int) -> Path:
        return self.write(name, "t,x\n" + "".join(f"0,{n}\n" for n in numbers))

    def add(self, path: Path, content: str | bytes) -> None:
        with open(path, "ab") as file:
            file.write(content if isinstance(content, bytes) else content.encode())

    def take(self, *paths: Any, **more: Any) -> IngestReport:
        return self.dataset.ingest(
            list(paths) or self.path / "*.csv", **{"format": ROWS, "on_error": "skip", **more}
        )

    def follow(self, *paths: Path, **more: Any) -> IngestReport:
        """Take as a watch does."""
        intake = Intake(self.dataset, more.pop("format", ROWS), growing=True, **more)
        return intake.take([str(path) for path in paths])

    def values(self) -> list[int]:
        keys = np.arange(len(self.dataset))
        return list(np.asarray(self.dataset.fetch(keys)["x"]).tolist())


def reason(report: IngestReport) -> str:
    ((_, text),) = report.skipped
    return text
