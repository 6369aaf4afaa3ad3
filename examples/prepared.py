"""What the prepare.py scripts share: read a compressed original, make a dataset of it once.

The dataset is built under another name and renamed when it is complete, so a script that was
interrupted leaves nothing behind that looks finished, and running it again is always right.
"""

import argparse
import csv
import io
import lzma
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modyn import Dataset
from modyn.errors import CorruptError
from modyn.formats import CSV

DATA = Path(__file__).resolve().parent / "data"


class PrepareError(Exception):
    """An original or a folder that cannot be used; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What becomes of an original: rows for a CSV file, in the order of `header`.

    The columns `timestamp` and `label` are the sample's own; `fields` says which of the others
    make up which field of the schema.
    """

    schema: Mapping[str, str]
    fields: Mapping[str, Sequence[str]]
    rows: Iterable[Sequence[Any]]
    count: int

    @property
    def header(self) -> list[str]:
        """The names of the CSV columns."""
        return ["timestamp", "label", *(name for names in self.fields.values() for name in names)]


def read(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Return all rows of an .xz-compressed CSV file that has exactly these columns."""
    try:
        text = lzma.decompress(path.read_bytes()).decode("ascii")
    except FileNotFoundError:
        raise PrepareError(f"{path}: the file is missing; it belongs to the repository") from None
    except (lzma.LZMAError, UnicodeDecodeError, EOFError) as error:
        raise PrepareError(f"{path}: damaged or cut short ({error})") from None
    lines = csv.reader(io.StringIO(text))
    header = next(lines, [])
    if header != list(columns):
        raise PrepareError(f"{path}: expected the columns {list(columns)}, got {header}")
    rows = list(lines)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise PrepareError(
                f"{path}: line {number} has {len(row)} values, expected {len(header)}"
            )
    return rows


def build(directory: Path, table: Table) -> None:
    """Make the dataset at `directory` from a table: all of it, or nothing."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        source = work / f"{directory.name}.csv"
        with open(source, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.header)
            writer.writerows(table.rows)
        columns = {field: list(names) for field, names in table.fields.items()}
        layout = CSV(label="label", timestamp="timestamp", columns=columns)
        half = work / directory.name
        with Dataset.create(half, schema=table.schema, timestamp_unit="s") as dataset:
            dataset.ingest(source, format=layout)
            if len(dataset) != table.count:
                raise PrepareError(
                    f"{directory}: {len(dataset)} samples went in, expected {table.count}"
                )
        half.rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def is_complete(directory: Path, schema: Mapping[str, str], count: int) -> bool:
    """Whether the dataset is there in full; what is left of a half one is removed.

    Raises
    ------
    PrepareError
        When something else is there, which is never touched.
    """
    if not directory.exists():
        return False
    if not any(directory.iterdir()):
        directory.rmdir()
        return False
    if not (directory / "manifest").exists():
        raise PrepareError(f"{directory}: is not empty and holds no dataset; move it away")
    with Dataset.open(directory) as dataset:
        if dict(dataset.schema) != dict(schema):
            raise PrepareError(f"{directory}: holds another dataset ({dict(dataset.schema)})")
        if len(dataset) > count:
            raise PrepareError(f"{directory}: holds {len(dataset)} samples, more than {count}")
        if len(dataset) == count:
            return True
    shutil.rmtree(directory)
    return False


def main(
    name: str, schema: Mapping[str, str], count: int, make: Callable[[Path], Table], original: str
) -> int:
    """Run a prepare.py: arguments, the work, one line about the outcome; the exit code."""
    parser = argparse.ArgumentParser(description=f"Make the dataset {name!r} from {original}.")
    parser.add_argument(
        "--datasets", type=Path, default=Path("datasets"), help="folder of datasets (%(default)s)"
    )
    parser.add_argument(
        "--original", type=Path, default=DATA / original, help="the compressed original"
    )
    options = parser.parse_args()
    directory = options.datasets / name
    try:
        if is_complete(directory, schema, count):
            print(f"{directory}: {count:,} samples are there already")
            return 0
        build(directory, make(options.original))
    except (PrepareError, CorruptError, OSError, ValueError) as error:
        print(f"prepare {name}: {error}", file=sys.stderr)
        return 1
    print(f"{directory}: {count:,} samples, {_size(directory) / 1e6:.1f} MB")
    return 0


def _size(directory: Path) -> int:
    return sum(os.stat(path).st_blocks * 512 for path in directory.iterdir())
