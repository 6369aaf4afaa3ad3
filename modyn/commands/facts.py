"""What `modyn dataset info` tells of a dataset, as plain data."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modyn.dates import moment

if TYPE_CHECKING:
    from modyn.dataset import Dataset

LABELS_SHOWN = 20
PIECE = 1 << 20
_SEGMENT = re.compile(r"\d{6,}(-\d+)?\.(seg|col)")


def facts(dataset: Dataset) -> dict[str, Any]:
    """Return what there is to say, in values that JSON holds."""
    view = dataset.view
    events = dataset.audit()
    erased, pending = pending_erasures(dataset, events)
    return {
        "path": dataset.path,
        "uuid": dataset.uuid,
        "samples": view.count,
        "living": view.count - erased,
        "erased": erased,
        "erased_not_compacted": pending,
        "commits": _commits(dataset.path),
        "segments": segment_count(dataset),
        "linked_files": sorted({event.file for event in events if event.action == "link"}),
        "schema": dataset.schema,
        "timestamp_unit": dataset.timestamp_unit,
        "has_labels": view.has_labels,
        **_columns(dataset),
        "files_ingested": len(_sources(dataset)),
        "time_order_stored": Path(dataset.path, "time.order").exists(),
        "compressed": _is_compressed(dataset.path),
        "bytes_on_disk": bytes_on_disk(dataset.path),
    }


def segment_records(path: str) -> int:
    """Return how many samples a segment holds, as the header of the manifest says."""
    return 1 << int.from_bytes(_head(path)[36:40], "little")


def segment_count(dataset: Dataset) -> int:
    """Return how many segments have samples."""
    return -(-dataset.view.count // segment_records(dataset.path))


def pending_erasures(dataset: Dataset, events: list[Any]) -> tuple[int, int]:
    """Return how many samples are erased, and of how many the bytes are still in our files.

    A compaction writes a segment without all that was erased in it until then.
    """
    records = segment_records(dataset.path)
    waiting: Counter[int] = Counter()
    erased = 0
    for event in events:
        if event.action == "compact":
            for segment in event.segments:
                waiting.pop(segment, None)
        for part in event.keys:
            erased += len(part)
            for segment in range(part.start // records, (part.stop - 1) // records + 1):
                first, stop = segment * records, (segment + 1) * records
                waiting[segment] += min(part.stop, stop) - max(part.start, first)
    return erased, sum(waiting.values())


def bytes_on_disk(path: str) -> dict[str, int]:
    """Return the bytes that files take on the disk (holes take none), by what they hold."""
    found: Counter[str] = Counter()
    for entry in os.scandir(path):
        if entry.is_file(follow_symlinks=False):
            found[_kind(entry.name)] += entry.stat(follow_symlinks=False).st_blocks * 512
    return {name: found[name] for name in sorted(found)} | {"total": found.total()}


def _kind(name: str) -> str:
    if _SEGMENT.fullmatch(name):
        return "records" if name.endswith(".seg") else "columns"
    if name in ("manifest", "events", "sources"):
        return name
    if name.startswith("time.order"):
        return "time order"
    return "other"


def _columns(dataset: Dataset) -> dict[str, Any]:
    """Return the span of time, and how often the most frequent labels are there."""
    view, unit = dataset.view, dataset.timestamp_unit
    low: list[int] = []
    high: list[int] = []
    labels: Counter[int] = Counter()
    for first in range(0, view.count, PIECE):
        count = min(PIECE, view.count - first)
        times, classes = view.columns(first, count)
        if view.erased_count:
            living = ~view.erased(first, count)
            times = times[living]
            classes = None if classes is None else classes[living]
        if len(times):
            low.append(int(times.min()))
            high.append(int(times.max()))
        if classes is not None:
            values, counts = np.unique(classes, return_counts=True)
            labels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    span = None
    if low:
        span = {
            "first": min(low),
            "last": max(high),
            "from": moment(min(low), unit),
            "to": moment(max(high), unit),
        }
    return {
        "time": span,
        "classes": len(labels),
        "labels": {str(label): count for label, count in labels.most_common(LABELS_SHOWN)},
    }


def _head(path: str) -> bytes:
    with open(os.path.join(path, "manifest"), "rb") as file:
        return file.read(512)


def _is_compressed(path: str) -> bool:
    return bool(int.from_bytes(_head(path)[12:16], "little") & 2)


def _commits(path: str) -> int:
    size = int.from_bytes(_head(path)[40:44], "little")
    records_at = 1536 + -(-size // 512) * 512
    return (os.path.getsize(os.path.join(path, "manifest")) - records_at) // 128


def _sources(dataset: Dataset) -> set[str]:
    import json

    paths: set[str] = set()
    for payload in dataset._core.sources():
        entry = json.loads(payload)
        paths.difference_update(entry.get("gone", ()))
        paths.update(entry.get("prefix", "") + path for path in entry.get("paths", ()))
    return paths


def waiting_keys(dataset: Dataset, events: list[Any]) -> list[range]:
    """Return the erased samples whose bytes are still in the files, in ascending order."""
    records = segment_records(dataset.path)
    waiting: dict[int, list[range]] = {}
    for event in events:
        if event.action == "compact":
            for segment in event.segments:
                waiting.pop(segment, None)
        for part in event.keys:
            for segment in range(part.start // records, (part.stop - 1) // records + 1):
                first, stop = segment * records, (segment + 1) * records
                cut = range(max(part.start, first), min(part.stop, stop))
                waiting.setdefault(segment, []).append(cut)
    found = sorted((part for parts in waiting.values() for part in parts), key=lambda r: r.start)
    merged: list[range] = []
    for part in found:
        if merged and merged[-1].stop == part.start:
            merged[-1] = range(merged[-1].start, part.stop)
        else:
            merged.append(part)
    return merged
