"""Which files are meant: one by one, by a pattern, or all of a folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator

__all__ = ["Files", "expand", "is_half_written", "walk"]

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

HALF_WRITTEN = ("~", ".tmp", ".part", ".partial", ".crdownload", ".swp")
"""How the names of files end that some program has not finished yet."""


def is_half_written(name: str) -> bool:
    """Whether a file of this name, without its folder, is left out of folders and patterns."""
    return name.startswith(".") or name.endswith(HALF_WRITTEN)


def expand(files: Files, *, without: str = "", ending: str = "") -> list[str]:
    """Return the absolute paths that are meant, each once, but none in folder `without`.

    A folder gives all files in it and below it, a pattern all that match,
    both sorted by name and without those that are half-written. A folder that
    a pattern matches is no file and left out, and so is a file in a folder that does
    not end in `ending`.

    Raises
    ------
    FileNotFoundError
        Nothing matches a pattern, or there are no files at all.
    """
    given = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    paths: dict[str, None] = {}
    for item in (os.fspath(path) for path in given):
        if os.path.isdir(item):
            paths.update(dict.fromkeys(walk(os.path.abspath(item), without, ending=ending)))
        elif not glob.has_magic(item) or os.path.lexists(item):
            paths[os.path.abspath(item)] = None
        else:
            paths.update(dict.fromkeys(_matches(item, ending)))
    if not given:
        raise FileNotFoundError("there are no files to ingest")
    return list(paths)


def walk(
    folder: str, without: str = "", errors: list[OSError] | None = None, ending: str = ""
) -> Iterator[str]:
    """Yield the files in a folder and below it, sorted by name within each.

    Links to files are followed and links to folders are not, so that no
    ring of links is walked for ever. Folders that cannot be read are put to
    `errors`, if it is given.
    """
    try:
        with os.scandir(folder) as entries:
            here = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if errors is None:
            raise
        errors.append(error)
        return
    for entry in here:
        if is_half_written(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.path != without:
                yield from walk(entry.path, without, errors, ending)
        elif entry.name.endswith(ending) and entry.is_file():
            yield entry.path


def _matches(pattern: str, ending: str) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise FileNotFoundError(f"no file matches {pattern!r}")
    whole = (path for path in found if not is_half_written(os.path.basename(path)))
    named = (path for path in whole if path.endswith(ending))
    return [os.path.abspath(path) for path in named if not os.path.isdir(path)]
