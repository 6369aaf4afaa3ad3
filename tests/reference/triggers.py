"""Triggers and the loop, sample by sample: the plain twins."""

from __future__ import annotations


def time_positions(timestamps: list[int], period: int, start: int | None = None) -> list[int]:
    """The positions at which a time trigger fires."""
    fired: list[int] = []
    since = 0  # samples since the last trigger
    end = None
    for position, timestamp in enumerate(timestamps):
        if end is None:
            end = (timestamp if start is None else start) + period
        if timestamp >= end:
            if since > 0:
                fired.append(position)
            while timestamp >= end:
                end += period
            since = 0
        since += 1
    return fired


def amount_positions(count: int, num_samples: int) -> list[int]:
    """The positions at which an amount trigger fires."""
    return list(range(num_samples, count + 1, num_samples))


def transitions(fired: list[int], tail: int | None) -> list[tuple[int, int, int, int]]:
    """(trigger, first, position, candidates_first) of triggers at these positions."""
    starts = [0, *fired]
    rows = []
    for trigger, position in enumerate(fired):
        oldest = 0 if tail is None else max(0, trigger - tail)
        rows.append((trigger, starts[trigger], position, starts[oldest]))
    return rows
