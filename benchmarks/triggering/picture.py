"""Pictures of docs/triggers as SVG: scores over a stream, and races of policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.picture import (
    CURVES,
    INK,
    LINE,
    SOFT,
    WIDTH,
    Scale,
    frame,
    nice,
    number,
    text,
    tick_text,
)
from benchmarks.triggering.outcome import Outcome, Race

LEFT, RIGHT, TOP, PANEL, GAP, BOTTOM = 78, 24, 98, 130, 46, 46
FIRED, BOUND = "#d55e00", "#9aa4af"
GROUPS = {  # of the families in a race
    "drift of windows": ("MMD", "KS,", "JS", "classifier"),
    "performance": ("accuracy", "avoidable", "estimated"),
    "cost": ("latency", "avoidable latency"),
    "detectors": ("ADWIN", "Page-Hinkley", "DDM", "EDDM", "KSWIN"),
    "ensembles": ("ensemble",),
}
COLOURS = dict(zip(GROUPS, (*CURVES[:4], "#e0a03c"), strict=True))


@dataclass(frozen=True)
class Line:
    """Values at places of a stream, ascending; nan leaves a gap."""

    name: str
    places: Sequence[float]
    values: Sequence[float]
    colour: str = CURVES[0]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines over one scale, with the places of triggers, or rows of marks."""

    title: str
    lines: Sequence[Line] = ()
    fired: Sequence[float] = ()
    rows: dict[str, Sequence[float]] = field(default_factory=dict)
    least: float | None = None
    most: float | None = None


def series(title: str, unit: str, across: str, panels: Sequence[Panel]) -> str:
    """Draw panels below each other over the same stream."""
    places = [p for panel in panels for line in panel.lines for p in line.places]
    places += [p for panel in panels for row in panel.rows.values() for p in row]
    places += [p for panel in panels for p in panel.fired]
    x = Scale(min(places), max(places), False, LEFT, WIDTH - RIGHT)
    parts: list[str] = []
    top = float(TOP)
    for panel in panels:
        parts += drawn(panel, x, top)
        top += PANEL + GAP
    bottom = top - GAP + 18
    for tick in ticks(x):
        parts.append(text(x(tick), bottom, tick_text(tick).replace(",", ""), fill=SOFT,
                          font_size="11", text_anchor="middle") if tick < 3000 else
                     text(x(tick), bottom, tick_text(tick), fill=SOFT,
                          font_size="11", text_anchor="middle"))  # fmt: skip
    parts.append(
        text(WIDTH - RIGHT, bottom + 18, across, fill=SOFT, font_size="11", text_anchor="end")
    )
    return frame(bottom + BOTTOM - 18, title, unit, parts, f"{title}: {unit}")


def ticks(scale: Scale) -> list[float]:
    step = nice((scale.high - scale.low) / 8)
    first = math.ceil(scale.low / step)
    return [step * n for n in range(first, math.floor(scale.high / step) + 1)]


def drawn(panel: Panel, x: Scale, top: float) -> list[str]:
    """Draw one panel, its triggers first."""
    parts = [
        f'<rect x="{LEFT}" y="{top:.1f}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" '
        f'fill="none" stroke="{LINE}"/>',
        text(LEFT, top - 8, panel.title, fill=INK, font_size="12"),
    ]
    at = float(WIDTH - RIGHT)
    named = [(line.name, line.colour) for line in reversed(panel.lines)]
    if panel.fired:
        named.insert(0, ("trigger", FIRED))
    for name, colour in named:
        parts.append(text(at, top - 8, name, fill=colour, font_size="11", text_anchor="end"))
        at -= 6.1 * len(name) + 14
    parts += [
        f'<path d="M{x(p):.1f} {top:.1f}v{PANEL}" stroke="{FIRED}" stroke-width="1" '
        'stroke-opacity="0.55"/>'
        for p in panel.fired
    ]
    return parts + (marks(panel, x, top) if panel.rows else lines(panel, x, top))


def lines(panel: Panel, x: Scale, top: float) -> list[str]:
    values = [v for line in panel.lines for v in line.values if math.isfinite(v)]
    low = min(values) if panel.least is None else panel.least
    high = max(values) if panel.most is None else panel.most
    room = 0.06 * (high - low)
    y = Scale(low - room, high + room, False, top + PANEL, top)
    step = nice((high - low) / 4)
    parts = []
    for n in range(math.ceil(y.low / step), math.floor(y.high / step) + 1):
        parts.append(
            f'<path d="M{LEFT} {y(n * step):.1f}H{WIDTH - RIGHT}" stroke="{LINE}" '
            'stroke-width="0.6"/>'
        )
        parts.append(
            text(LEFT - 8, y(n * step) + 4, number(n * step), fill=SOFT, font_size="11",
                 text_anchor="end")
        )  # fmt: skip
    for line in panel.lines:
        parts.append(path(line, x, y))
    return parts


def path(line: Line, x: Scale, y: Scale) -> str:
    pieces, pen = [], "M"
    for place, value in zip(line.places, line.values, strict=True):
        if math.isfinite(value):
            value = min(max(value, y.low), y.high)
            pieces.append(f"{pen}{x(place):.1f} {y(value):.1f}")
            pen = "L"
        else:
            pen = "M"
    dashes = ' stroke-dasharray="4 3"' if line.dashed else ""
    return (
        f'<path d="{"".join(pieces)}" fill="none" stroke="{line.colour}" '
        f'stroke-width="1.6" stroke-linejoin="round"{dashes}/>'
    )


def marks(panel: Panel, x: Scale, top: float) -> list[str]:
    """Draw a row of ticks for each name."""
    parts = []
    height = PANEL / len(panel.rows)
    for n, (name, places) in enumerate(panel.rows.items()):
        middle = top + (n + 0.5) * height
        colour = FIRED if name == "trigger" else CURVES[n % len(CURVES)]
        parts.append(text(LEFT - 8, middle + 4, name, fill=SOFT, font_size="11", text_anchor="end"))
        parts += [
            f'<path d="M{x(p):.1f} {middle - 0.36 * height:.1f}v{0.72 * height:.1f}" '
            f'stroke="{colour}" stroke-width="1.8"/>'
            for p in places
        ]
    return parts


def group_of(outcome: Outcome) -> str:
    """Return the group of a family; the longest beginning that fits."""
    found = [
        (len(start), name)
        for name, starts in GROUPS.items()
        for start in starts
        if outcome.entry.family.startswith(start)
    ]
    return max(found)[1]


def race(found: Race) -> str:
    """Draw percent right over the number of trainings: schedules as a line, policies as dots."""
    height, left = 380, 70
    values = [one.value for one in found.outcomes if one.count > 1.5]
    low, high = min(values), max(values)
    low = max(low, high - 2.5 * (high - sorted(values)[len(values) // 6]))
    x = Scale(1.0, 1.1 * max(one.count for one in found.outcomes), True, left, WIDTH - RIGHT)
    y = Scale(low - 0.04 * (high - low), high + 0.06 * (high - low), False, height, 110)
    parts = axes(x, y, left, height)
    at = float(WIDTH - RIGHT)
    for name, colour in reversed([("fixed schedules", SOFT), *COLOURS.items()]):
        parts.append(text(at, 82, name, fill=colour, font_size="12", text_anchor="end"))
        at -= 6.6 * len(name) + 14
    schedules = sorted(
        (one.count, one.value) for one in found.fixed if one.entry.family == "amount"
    )
    inside = [(c, v) for c, v in schedules if v >= y.low]
    parts.append(
        path(Line("", [c for c, _ in inside], [v for _, v in inside], SOFT), x, y)
        + "".join(dot(x(c), y(v), SOFT, 3.0) for c, v in inside)
    )
    for one in found.adaptive:
        if one.value >= y.low:
            parts.append(dot(x(one.count), y(one.value), COLOURS[group_of(one)], 5.0))
    hidden = sum(one.value < y.low for one in found.adaptive)
    unit = f"percent right over trainings, means of {len(found.adaptive[0].results)} seeds"
    if hidden:
        unit += f"; {hidden} policies lie below the picture"
    title = f"{found.stream.name}: {found.stream.what}"
    return frame(height + 52, title, unit, parts, f"{title}: {unit}")


def axes(x: Scale, y: Scale, left: float, height: float) -> list[str]:
    parts = [
        f'<path d="M{left} {height}H{WIDTH - RIGHT}M{left} {height}V110" stroke="{LINE}" '
        'fill="none"/>',
        text(WIDTH - RIGHT, height + 38, "trainings", fill=SOFT, font_size="11",
             text_anchor="end"),
    ]  # fmt: skip
    for tick in (1, 2, 3, 5, 10, 20, 30, 50, 100):
        if tick <= x.high:
            parts.append(
                text(x(tick), height + 20, str(tick), fill=SOFT, font_size="11",
                     text_anchor="middle")
            )  # fmt: skip
    step = nice((y.high - y.low) / 5)
    for n in range(math.ceil(y.low / step), math.floor(y.high / step) + 1):
        parts.append(
            f'<path d="M{left} {y(n * step):.1f}H{WIDTH - RIGHT}" stroke="{LINE}" '
            'stroke-width="0.6"/>'
        )
        parts.append(
            text(left - 8, y(n * step) + 4, number(n * step), fill=SOFT, font_size="11",
                 text_anchor="end")
        )  # fmt: skip
    return parts


def dot(x: float, y: float, colour: str, radius: float) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" '
        'fill-opacity="0.8" stroke="#ffffff" stroke-width="1"/>'
    )
