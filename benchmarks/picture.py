"""Pictures of sections as SVG, drawn from what a benchmark's JSON says and nothing else.

Bars lie, so that the names of contenders can be read; a thin line through the end of a bar
reaches from the least to the greatest of the repetitions.  Where the slowest is a fiftieth of
the fastest or less, the scale is logarithmic and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT = 880, 190, 96
ROW, BAR, GROUP_HEAD, GROUP_GAP, TOP, BOTTOM = 24, 15, 30, 14, 92, 46
DOTS_ROW, DOT_GAP = 30, 8.5
LOG_FROM = 50  # greatest by least
# Okabe and Ito: told apart with any kind of colour vision, and in print.
FILL = {"ours": "#0072b2", "floor": "#9aa4af", "rival": "#e0a03c"}
NAMES = {"ours": "modyn", "floor": "floor", "rival": "rivals"}
INK, SOFT, LINE = "#1f2328", "#59636e", "#d8dee4"
CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Scale:
    """From values to places between two ends, evenly or by powers of ten."""

    low: float
    high: float
    log: bool
    first: float
    last: float

    def __call__(self, value: float) -> float:
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = round(math.log10(self.low)), math.ceil(math.log10(self.high))
            values = [10.0**power for power in range(first, last + 1)]
            if len(values) <= 3:
                values = sorted(v * part for v in values for part in (1, 2, 5))
            return [value for value in values if self.low <= value <= self.high]
        step = nice((self.high - self.low) / 5)
        count = math.floor((self.high - self.low) / step + 1e-9)
        return [round(self.low + step * number, 12) for number in range(count + 1)]


def nice(step: float) -> float:
    """Return the next round number: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * part for part in (1, 2, 5, 10) if power * part >= step * (1 - 1e-9))


def number(value: float) -> str:
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def tick_text(value: float) -> str:
    return f"{value:,.10g}"


def text(x: float, y: float, words: str, **more: str) -> str:
    attributes = {"fill": INK, "font_size": "13", **more}
    listed = " ".join(f'{k.replace("_", "-")}="{v}"' for k, v in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" {listed}>{escape(words)}</text>'


def frame(height: float, title: str, unit: str, parts: Sequence[str], words: str) -> str:
    """Put parts on a white card with a title; `words` are for who cannot see it."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" role="img" font-family="{FONT}">',
        f"<title>{escape(words)}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="10" '
        f'fill="#ffffff" stroke="{LINE}"/>',
        text(24, 36, title, font_size="18", font_weight="600"),
        text(24, 58, unit, fill=SOFT),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def legend(kinds: Sequence[str]) -> list[str]:
    parts, x = [], float(WIDTH - 24)
    for kind in reversed(kinds):
        x -= 6.6 * len(NAMES[kind])
        parts.append(text(x, 36, NAMES[kind], fill=SOFT))
        x -= 18
        parts.append(
            f'<rect x="{x:.1f}" y="25" width="12" height="12" rx="2" fill="{FILL[kind]}"/>'
        )
        x -= 18
    return parts


def scale_of(
    values: Sequence[float], ends: Sequence[float], left: float, *, linear: bool = False
) -> Scale:
    """Return a scale for the bars of these values, with room for the ends of their ranges."""
    high, low = max(ends), min(value for value in values if value > 0)
    if high / low > LOG_FROM and not linear:
        least = 10.0 ** math.floor(math.log10(min(low, *(end for end in ends if end > 0)) / 1.3))
        return Scale(least, high * 1.1, True, left, WIDTH - RIGHT)
    step = nice(high / 5)
    return Scale(0.0, step * math.ceil(high * 1.02 / step), False, left, WIDTH - RIGHT)


def axis(scale: Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for value in scale.ticks():
        x = scale(value)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{LINE}"/>'
        )
        label = text(
            x, bottom + 18, tick_text(value), fill=SOFT, font_size="12", text_anchor="middle"
        )
        parts.append(label)
    return parts


def bars(chart: dict[str, Any]) -> str:
    """Draw groups of bars: {"title", "unit", "groups": [[name, [mark, ...]], ...]}."""
    marks = [mark for _, group in chart["groups"] for mark in group]
    ends = [mark[key] for mark in marks for key in ("value", "low", "high") if mark[key]]
    left = max(LEFT, 28 + 7.9 * max(len(mark["name"]) for mark in marks))
    values, linear = [mark["value"] for mark in marks], chart.get("linear", False)
    scale = scale_of(values, ends, left, linear=linear)
    parts: list[str] = []
    y = float(TOP)
    for name, group in chart["groups"]:
        if name:
            parts.append(
                text(
                    *(24, y + 18, name),
                    font_weight="600",
                    stroke="#ffffff",
                    stroke_width="5",
                    paint_order="stroke",
                )
            )
            y += GROUP_HEAD
        for mark in group:
            parts += bar(mark, scale, y)
            y += ROW
        y += GROUP_GAP
    bottom = y - GROUP_GAP + 6
    kinds = [kind for kind in FILL if any(mark["kind"] == kind for mark in marks)]
    unit = chart["unit"] + (", logarithmic scale" if scale.log else "")
    lines = [*axis(scale, TOP - 8, bottom), *legend(kinds), *parts]
    return frame(bottom + BOTTOM, chart["title"], unit, lines, f"{chart['title']}, {unit}")


def bar(mark: dict[str, Any], scale: Scale, y: float) -> list[str]:
    left, end, middle = scale.first, scale(mark["value"]), y + ROW / 2
    weight = "600" if mark["kind"] == "ours" else "400"
    parts = [
        text(left - 12, middle + 4.5, mark["name"], text_anchor="end", font_weight=weight),
        f'<rect x="{left:.1f}" y="{middle - BAR / 2:.1f}" width="{max(1.5, end - left):.1f}" '
        f'height="{BAR}" rx="2.5" fill="{FILL[mark["kind"]]}"/>',
    ]
    edge = end
    if mark["low"] and mark["high"]:
        first, last = scale(mark["low"]), scale(mark["high"])
        edge = max(end, last)
        parts.append(
            f'<path d="M{first:.1f} {middle:.1f}H{last:.1f}M{first:.1f} {middle - 3.5:.1f}v7'
            f'M{last:.1f} {middle - 3.5:.1f}v7" stroke="{INK}" stroke-opacity="0.55" fill="none"/>'
        )
    parts.append(text(edge + 8, middle + 4.5, number(mark["value"]), font_size="12"))
    return parts


def curves(figure: dict[str, Any]) -> str:
    """Draw lines: {"title", "across", "up", "curves": {name: [[x, y], ...]}}."""
    points = [point for curve in figure["curves"].values() for point in curve]
    height, top, bottom, left = 320.0, float(TOP), 320.0 - 52, 72.0
    across = Scale(0.0, max(x for x, _ in points), False, left, WIDTH - 150)
    highest = max(y for _, y in points)
    step = nice(highest / 4)
    up = Scale(0.0, step * math.ceil(highest * 1.1 / step), False, bottom, top)
    parts = []
    for value in up.ticks():
        y = up(value)
        parts.append(
            f'<line x1="{left}" x2="{WIDTH - 150}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LINE}"/>'
        )
        parts.append(
            text(left - 8, y + 4, tick_text(value), fill=SOFT, font_size="12", text_anchor="end")
        )
    for value in across.ticks():
        label = tick_text(value)
        place = across(value)
        parts.append(
            text(place, bottom + 18, label, fill=SOFT, font_size="12", text_anchor="middle")
        )
    middle = (left + WIDTH - 150) / 2
    parts.append(text(middle, bottom + 38, figure["across"], fill=SOFT, text_anchor="middle"))
    ends: list[float] = []
    for colour, (name, curve) in zip(CURVES, figure["curves"].items(), strict=False):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5" '
            'stroke-linejoin="round"/>'
        )
        y = up(curve[-1][1])
        while any(abs(y - other) < 16 for other in ends):
            y += 4
        ends.append(y)
        parts.append(text(WIDTH - 142, y + 4, name, fill=colour, font_weight="600"))
    words = f"{figure['title']}, {figure['up']}"
    return frame(height, figure["title"], figure["up"], parts, words)


def dots(figure: dict[str, Any]) -> str:
    """Draw differences from 0: {"title", "unit", "rows": [[group, name, [dot, ...]], ...]}."""
    marks = [mark for _, _, found in figure["rows"] for mark in found]
    series = list(dict.fromkeys(mark["series"] for mark in marks))
    colours = dict(zip(series, CURVES, strict=False))
    left = 36 + 7.0 * max(len(name) for _, name, _ in figure["rows"])
    scale = scale_around_zero(marks, figure["least"], left)
    parts: list[str] = []
    y, last = float(TOP), ""
    for group, name, found in figure["rows"]:
        if group != last:
            y += GROUP_GAP if last else 0
            parts.append(text(24, y + 18, group, font_weight="600"))
            y, last = y + GROUP_HEAD, group
        middle = y + DOTS_ROW / 2
        parts.append(text(left - 14, middle + 4.5, name, text_anchor="end"))
        for at, mark in enumerate(found):
            parts += dot(mark, scale, middle + DOT_GAP * (at - (len(found) - 1) / 2), colours)
        y += DOTS_ROW
    lines = axis(scale, TOP - 8, y + 6)
    zero = f'<line x1="{scale(0):.1f}" x2="{scale(0):.1f}" y1="{TOP - 8}" y2="{y + 6:.1f}" '
    lines.append(f'{zero}stroke="{SOFT}" stroke-width="1.5"/>')
    for at, name in enumerate(series):
        x = WIDTH - 24 - 76.0 * (len(series) - at)
        lines.append(f'<circle cx="{x:.1f}" cy="53" r="5" fill="{colours[name]}"/>')
        lines.append(text(x + 10, 58, name, fill=SOFT))
    words = f"{figure['title']}, {figure['unit']}"
    return frame(y + BOTTOM, figure["title"], figure["unit"], [*lines, *parts], words)


def scale_around_zero(marks: Sequence[dict[str, Any]], least: float, left: float) -> Scale:
    """Return a scale for dots that begins and ends at a tick, and not below `least`."""
    low = min(0.0, *(max(mark["low"], least) for mark in marks))
    high = max(0.0, *(mark["high"] for mark in marks))
    step = nice((high - low) / 5)
    ends = step * math.floor(low / step), step * math.ceil(high / step)
    return Scale(*ends, False, left, WIDTH - 40.0)


def dot(mark: dict[str, Any], scale: Scale, y: float, colours: dict[str, str]) -> list[str]:
    """Draw a mean and its range; an arrow and the number where it is out of the picture."""
    colour = colours[mark["series"]]
    if mark["value"] < scale.low:
        edge = scale.first
        return [
            f'<path d="M{edge - 6:.1f} {y:.1f}l7 -3.6v7.2z" fill="{colour}"/>',
            text(edge + 6, y + 3.4, number(mark["value"]), fill=colour, font_size="9"),
        ]
    low = max(mark["low"], scale.low)
    return [
        f'<path d="M{scale(low):.1f} {y:.1f}H{scale(mark["high"]):.1f}" '
        f'stroke="{colour}" stroke-opacity="0.6" stroke-width="2"/>',
        f'<circle cx="{scale(mark["value"]):.1f}" cy="{y:.1f}" r="3.4" fill="{colour}"/>',
    ]


def chart_of_lines(section: dict[str, Any], lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the picture of a section that has lines only: a group for each, with its rates."""
    groups = []
    for line in lines:
        marks = []
        for name, rate in line["rate"].items():
            low, high = line["rate_range"][name]
            kind = line["kinds"].get(name, "floor" if name == line["floor"] else "rival")
            marks.append({"name": name, "value": rate, "low": low, "high": high, "kind": kind})
        groups.append((line["case"], marks))
    return {"title": section["title"], "unit": lines[0]["unit"], "groups": groups}


def pictures(section: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to see of a section: (name of the file, SVG)."""
    drawn = [bars(chart) for chart in section["charts"]]
    drawn += [curves(figure) for figure in section["curves"]]
    drawn += [dots(figure) for figure in section.get("dots", [])]
    if not section["charts"]:
        by_unit: dict[str, list[dict[str, Any]]] = {}
        for line in section["lines"]:
            if "missing" not in line:
                by_unit.setdefault(line["unit"], []).append(line)
        drawn += [bars(chart_of_lines(section, lines)) for lines in by_unit.values()]
    names = [section["id"] + ("" if at == 0 else f"-{at + 1}") for at in range(len(drawn))]
    return [(f"{name}.svg", svg) for name, svg in zip(names, drawn, strict=True)]
