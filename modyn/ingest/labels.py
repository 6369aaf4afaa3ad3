"""Labels of files that are one sample each: from the folder, or from a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping

from modyn.formats import FolderLabels, LabelFile

__all__ = ["LabelOf", "Labels", "folder_classes", "label_rule"]

Labels = FolderLabels | LabelFile
"""What users give: where labels come from that are not in files beside the samples."""


LabelOf = Callable[[str], int]
"""The label of the file with a path; ValueError if it has none."""


def label_rule(labels: Labels, classes: Mapping[str, int]) -> LabelOf:
    """Return the function that gives the label of a file; ValueError if there is none."""
    if isinstance(labels, LabelFile):
        return _FromFile(labels)
    return _FromFolder(labels.classes if labels.classes is not None else classes)


def folder_classes(paths: list[str], known: Mapping[str, int]) -> dict[str, int]:
    """Return the class of every folder: those that are known keep theirs.

    Folders that are new get the next free numbers, in the order of their names.
    """
    folders = {path.rpartition("/")[0] for path in paths}
    names = sorted({folder.rpartition("/")[2] for folder in folders} - known.keys())
    first = max(known.values(), default=-1) + 1
    return {**known, **{name: first + place for place, name in enumerate(names)}}


class _FromFolder:
    def __init__(self, classes: Mapping[str, int]) -> None:
        self._classes = classes

    def __call__(self, path: str) -> int:
        name = path.rpartition("/")[0].rpartition("/")[2]
        try:
            return self._classes[name]
        except KeyError:
            raise ValueError(
                f"{path}: its folder {name!r} is none of the classes {sorted(self._classes)}"
            ) from None


class _FromFile:
    def __init__(self, labels: LabelFile) -> None:
        self._path = os.path.abspath(labels.path)
        self._folder = os.path.dirname(self._path) + "/"
        self._labels = self._read(labels)

    def __call__(self, path: str) -> int:
        name = path.removeprefix(self._folder)
        label = self._labels.get(name)
        if label is None:
            label = self._labels.get(path.rpartition("/")[2])
        if label is None:
            raise ValueError(f"{path}: {self._path} has no label for it")
        return label

    def _read(self, labels: LabelFile) -> dict[str, int]:
        found: dict[str, int] = {}
        with open(self._path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file, delimiter=labels.separator)
            for column in (labels.name, labels.label):
                if column not in (rows.fieldnames or ()):
                    raise ValueError(
                        f"{self._path}: there is no column {column!r}; it has {rows.fieldnames}"
                    )
            for row in rows:
                where = f"{self._path}: line {rows.line_num}"
                name, text = row[labels.name], row[labels.label]
                try:
                    label = int(text or "")
                except ValueError:
                    raise ValueError(f"{where}: label {text!r} is no integer") from None
                if not -(2**63) <= label < 2**63:
                    raise ValueError(f"{where}: label {label} is no integer of 64 bits")
                if found.setdefault(name, label) != label:
                    raise ValueError(f"{where}: {name!r} has had label {found[name]}")
        return found
