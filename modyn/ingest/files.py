"""Files whose samples are appended: what is new in them, and nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from modyn.ingest.driver import Intake
from modyn.ingest.labels import Labels
from modyn.ingest.names import Files, expand
from modyn.ingest.report import IngestReport
from modyn.ingest.times import Times

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["ingest"]


def ingest(
    dataset: Dataset,
    files: Files,
    *,
    format: object,
    mode: Literal["copy", "link"] = "copy",
    on_error: Literal["stop", "skip"] = "stop",
    threads: int | None = None,
    timestamps: Times | None = None,
    labels: Labels | None = None,
) -> IngestReport:
    r"""Append what is new in files and return what was added; it is durable then.

    Every sample of every file is taken once. A file that is known is not read
    again; one that has grown is read from where it ended; one that was renamed
    is known. docs/ingest.md has the rules.

    Small files share a commit. A file with more than 64 MiB of samples is
    taken in several; after a crash, or a bad line in the middle, the next
    ingest goes on behind the last of them.

    Parameters
    ----------
    files : path, or sequence of paths
        Files, folders and patterns such as `incoming/*.csv`. A folder means
        all files in it and below it. Names that begin with `.` or end like
        those of half-written files (`~`, `.tmp`, `.part`, ...) are left out
        of folders and patterns.
    format : one of modyn.formats
        How the files look, and what in them is what.
    mode : {"copy", "link"}
        With "copy" the files are not needed afterwards. With "link" samples
        stay in their files, which are `FixedRecord`, and are read from there,
        apart from those that do not fill segments. Such a file has to stay as
        it is, where it is: once its size or time of change is another, or it
        is gone, reading its samples is an error that says so. docs/ingest.md
        says what can be linked.
    on_error : {"stop", "skip"}
        Whether a bad file ends the work or is left out and reported. An error
        of the dataset or of its disk always ends it.
    threads : int, optional
        How many threads parse; the result is the same for any number.
    timestamps : "mtime", FileNameTime or function, optional
        Where timestamps come from if not from the files themselves: a
        function is called with the path and the count of samples, and gives
        one integer for all of them, or one for each.
    labels : FolderLabels or LabelFile, optional
        Where the labels of files come from that are one sample each, if not
        from files beside them.

    Raises
    ------
    FileNotFoundError
        A file is missing, or nothing matches a pattern.
    ValueError
        A file is wrong: the message names it, the line, the column and the
        value; a note says what was added before.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from modyn import Dataset
    >>> from modyn.formats import CSV
    >>> home = Path(tempfile.mkdtemp())
    >>> june = home / "june.csv"
    >>> _ = june.write_text("day,temp,rain\n151,19.5,0\n152,17,1\n")
    >>> days = Dataset.create(home / "days", schema={"temp": "float32"})
    >>> format = CSV(timestamp="day", label="rain")
    >>> days.ingest(home / "*.csv", format=format).samples
    2
    >>> _ = june.write_text(june.read_text() + "153,18,0\n")
    >>> days.ingest(home / "*.csv", format=format).samples
    1
    >>> days.fetch([2])["temp"]
    array([18.], dtype=float32)
    """
    if mode not in ("copy", "link"):
        raise ValueError(f"mode must be 'copy' or 'link', got {mode!r}")
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error must be 'stop' or 'skip', got {on_error!r}")
    if mode == "link":
        from modyn.ingest.link import LinkIntake  # which is an Intake

        if labels is not None:
            raise ValueError("labels of samples that are linked come from their records")
        linking = LinkIntake(dataset, format, timestamps=timestamps, threads=threads)
        return linking.take(expand(files, without=dataset.path), on_error=on_error)
    intake = Intake(
        dataset,
        format,
        timestamps=timestamps,
        labels=labels,
        threads=threads,
    )
    paths = expand(files, without=dataset.path, ending=intake.ending)
    return intake.take(paths, on_error=on_error)
