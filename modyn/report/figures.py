"""Charts, as the plain data and layout that plotly.js draws.

A chart's title and explanation stand in the page around it, so nothing in it can overlap them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modyn.dates import PER_SECOND, axis, is_date, moment
from modyn.pipelines.run import Run
from modyn.report.facts import ACTIVE, STAGES, TRAINED, Series, composite
from modyn.report.page import Figure, label

# Okabe and Ito: told apart with any kind of colour vision, and in print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MORE_COLOURS = ("#882255", "#117733", "#332288", "#999933", "#aa4499", "#661100", "#888888")
STAGE_COLOURS = (
    "#000000",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c959f",
    "#f0e442",
    "#0072b2",
    "#009e73",
    "#d55e00",
)
SHADES = [[0, "#f7fbff"], [0.25, "#c6dbef"], [0.5, "#6baed6"], [0.75, "#2171b5"], [1, "#08306b"]]
GREY, RED = "#8c959f", "#d55e00"
TICKS = 10  # labels along an axis at most
MILLISECONDS = 1_000
YEAR_DAYS = 365

Layout = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """A composite model over time: its name and its rows (start, end, trigger, value, count)."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    colour: str
    kind: str = ACTIVE


@dataclass(frozen=True)
class Point:
    """What a run costs and what it gains."""

    name: str
    cost: float
    score: float
    colour: str


def layout(**more: Any) -> Layout:
    """Return the common look, with additions."""
    base: Layout = {
        "font": {"family": 'system-ui, -apple-system, "Segoe UI", sans-serif', "size": 13},
        "margin": {"l": 56, "r": 16, "t": 40, "b": 48},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "colorway": list(COLOURS),
    }
    return base | more


def side(title: str, **more: Any) -> Layout:
    """Return an axis with a title."""
    look: Layout = {
        "title": {"text": label(title), "standoff": 8},
        "automargin": True,
        "gridcolor": "#e6e9ed",
        "zeroline": False,
        "linecolor": "#8c959f",
        "ticks": "outside",
        "tickcolor": "#8c959f",
    }
    return look | more


def curves(lines: Sequence[Curve], metric: str, unit: str) -> Figure:
    """Return composite models over time, one line each, at the middle of their windows."""
    traces = []
    for line in lines:
        active = line.kind == ACTIVE
        middles = [row["start"] + (row["end"] - row["start"]) // 2 for row in line.rows]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label(line.name),
                "x": axis(middles, unit),
                "y": [row["value"] for row in line.rows],
                "text": [label(_window_text(row, unit)) for row in line.rows],
                "hovertemplate": f"%{{text}}<br>{label(metric)} %{{y:.4f}}",
                "line": {"color": line.colour, "width": 2, "dash": "solid" if active else "dot"},
                "marker": {"size": 5, "symbol": "circle" if active else "circle-open"},
            }
        )
    return {
        "data": traces,
        "layout": layout(xaxis=_time_axis("evaluation window", lines, unit), yaxis=side(metric)),
    }


def matrix(run: Run, series: Series, metric: str) -> tuple[Figure, int]:
    """Return every model on every window as a heat map, and its height in pixels."""
    unit = run.timestamp_unit
    columns = {row["window"]: i for i, row in enumerate(series.windows)}
    found = [
        row
        for row in run.evaluations
        if row["metric"] == metric and row["dataset"] == series.dataset and row["window"] in columns
    ]
    triggers = sorted({row["trigger"] for row in found})
    places = {trigger: i for i, trigger in enumerate(triggers)}
    values: list[list[float | None]] = [[None] * len(columns) for _ in triggers]
    for row in found:
        values[places[row["trigger"]]][columns[row["window"]]] = row["value"]
    low, high = _shown_range([row["value"] for row in found if row["value"] is not None])
    until = dict(zip(run.triggers["trigger"], run.triggers["last_timestamp"], strict=True))
    length = _typical_length(series, unit)
    names = [f"{t}: {_short(until.get(t), unit, days=length)}" for t in triggers]
    starts = [_short(row["start"], unit, days=length) for row in series.windows]
    heat = {
        "type": "heatmap",
        "z": values,
        "zmin": low,
        "zmax": high,
        "colorscale": SHADES,
        "xgap": 0.5,
        "ygap": 0.5,
        "colorbar": {
            "title": {"text": label(metric)},
            "thickness": 12,
            "outlinewidth": 0,
            "nticks": 5,
        },
        "customdata": [[label(_window_span(row, unit)) for row in series.windows]] * len(triggers),
        "text": [[label(f"model of trigger {name}")] * len(columns) for name in names],
        "hovertemplate": f"%{{text}}<br>%{{customdata}}<br>{label(metric)} %{{z:.4f}}"
        "<extra></extra>",
    }
    outlines = [_outline(run, series, metric, kind, columns, places) for kind in (ACTIVE, TRAINED)]
    height = min(max(len(triggers) * 12 + 180, 280), 760)
    return {
        "data": [heat, *outlines],
        "layout": layout(
            xaxis=side("evaluation window (its start)", showgrid=False, **_ticks(starts)),
            yaxis=side(
                "model (trained until)",
                showgrid=False,
                **_ticks(names, most=max(height // 40, 2)),
                range=[len(triggers) - 0.5, -0.5],
            ),
        ),
    }, height


def timeline(run: Run, until: int | None) -> Figure:
    """Return the triggers along the stream: which samples were new, and when it fell due."""
    unit = run.timestamp_unit
    rows = [row for row in run.triggers if row["first_timestamp"] is not None]
    first = [row["first_timestamp"] for row in rows]
    last = [row["last_timestamp"] for row in rows]
    new = [row["position"] - row["first"] for row in rows]
    dates = all(is_date(at, unit) for at in first + last)
    scale = MILLISECONDS / PER_SECOND[unit] if dates else 1
    notes = [
        label(
            f"trigger {row['trigger']}: {count:,} new samples, "
            f"{moment(row['first_timestamp'], unit)} to {moment(row['last_timestamp'], unit)}"
        )
        for row, count in zip(rows, new, strict=True)
    ]
    bars = {
        "type": "bar",
        "name": "new samples since the trigger before",
        "x": axis([a + (b - a) // 2 for a, b in zip(first, last, strict=True)], unit),
        "width": [max(b - a, 1) * scale for a, b in zip(first, last, strict=True)],
        "y": new,
        "text": notes,
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": "#c6dbef", "line": {"color": "#ffffff", "width": 1}},
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "trigger",
        "x": axis(last, unit),
        "y": new,
        "text": notes,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": RED, "size": 9, "symbol": "triangle-down"},
        "cliponaxis": False,
    }
    ends = axis([min(first), max([*last, *([until] if until is not None else [])])], unit)
    return {
        "data": [bars, dots],
        "layout": layout(
            xaxis=side("time of the samples", range=ends, **_date_type(ends)),
            yaxis=side("samples", rangemode="tozero"),
        ),
    }


def amounts(run: Run) -> Figure:
    """Return, per trigger, how many samples could be chosen and how many were."""
    table = run.triggers
    bars = [
        ("candidates", table["candidates"], "#d0d7de", 0.9),
        ("training set", table["samples"], COLOURS[0], 0.55),
    ]
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": table["trigger"],
            "y": values,
            "width": width,
            "marker": {"color": colour},
            "hovertemplate": f"trigger %{{x}}: %{{y:,}} {name}<extra></extra>",
        }
        for name, values, colour, width in bars
    ]
    more = {"barmode": "overlay", "xaxis": _trigger_axis(run)}
    return {"data": traces, "layout": layout(yaxis=side("samples", rangemode="tozero"), **more)}


def costs(run: Run) -> Figure:
    """Return, per trigger, the seconds of each stage as a stacked bar."""
    table = run.triggers
    traces = []
    for (stage, name), colour in zip(STAGES.items(), STAGE_COLOURS, strict=True):
        seconds = table[f"seconds_{stage}"]
        if any(seconds):
            traces.append(
                {
                    "type": "bar",
                    "name": name,
                    "x": table["trigger"],
                    "y": seconds,
                    "marker": {"color": colour},
                    "hovertemplate": f"trigger %{{x}}: %{{y:.3f}} s {name}<extra></extra>",
                }
            )
    more = {"barmode": "stack", "bargap": 0.15, "xaxis": _trigger_axis(run)}
    return {"data": traces, "layout": layout(yaxis=side("seconds", rangemode="tozero"), **more)}


def tradeoff(points: Sequence[Point], metric: str, cost: str) -> Figure:
    """Return cost against score, a point per run."""
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": label(point.name),
            "x": [point.cost],
            "y": [point.score],
            "marker": {
                "size": 13,
                "color": point.colour,
                "line": {"color": "#ffffff", "width": 1},
            },
            "hovertemplate": f"{label(point.name)}<br>{label(cost)} %{{x:,.3~f}}"
            f"<br>{label(metric)} %{{y:.4f}}<extra></extra>",
        }
        for point in points
    ]
    spread = [point.cost for point in points if point.cost > 0]
    wide = len(spread) == len(points) > 0 and max(spread) > 20 * min(spread)
    kind = {"type": "log", "dtick": "D2"} if wide else {"rangemode": "tozero"}
    title = cost + (", logarithmic" if wide else "")
    return {"data": traces, "layout": layout(xaxis=side(title, **kind), yaxis=side(metric))}


# Details -----------------------------------------------------------------------------------------


def _outline(
    run: Run,
    series: Series,
    metric: str,
    kind: str,
    columns: Mapping[int, int],
    places: Mapping[int, int],
) -> dict[str, Any]:
    """Return boxes around the cells of a composite model; neighbours in a row share one."""
    cells = sorted(
        (columns[row["window"]], places[row["trigger"]])
        for row in composite(run, series, metric, kind)
        if row["trigger"] in places
    )
    boxes: list[list[int]] = []  # row, first column, last column
    for column, place in cells:
        if boxes and boxes[-1][0] == place and boxes[-1][2] == column - 1:
            boxes[-1][2] = column
        else:
            boxes.append([place, column, column])
    xs: list[float | None] = []
    ys: list[float | None] = []
    for place, start, end in boxes:
        xs += [start - 0.5, end + 0.5, end + 0.5, start - 0.5, start - 0.5, None]
        ys += [place - 0.5, place - 0.5, place + 0.5, place + 0.5, place - 0.5, None]
    active = kind == ACTIVE
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "currently active model" if active else "currently trained model",
        "x": xs,
        "y": ys,
        "line": {"color": RED if active else "#000000", "width": 2, "dash": "solid"},
        "hoverinfo": "skip",
        "visible": True if active else "legendonly",
    }


def _time_axis(title: str, lines: Sequence[Curve], unit: str) -> Layout:
    ends = [at for line in lines for row in line.rows for at in (row["start"], row["end"])]
    if not ends:
        return side(title)
    span = axis([min(ends), max(ends)], unit)
    return side(title, range=span, **_date_type(span))


def _date_type(values: Sequence[Any]) -> Layout:
    return {"type": "date"} if values and isinstance(values[0], str) else {"type": "linear"}


def _trigger_axis(run: Run) -> Layout:
    last = max(run.triggers["trigger"], default=0)
    whole = {"tickmode": "linear", "dtick": 1} if last < 20 else {"tickformat": "d"}
    return side("trigger", range=[-0.75, max(last, 4) + 0.75], **whole)


def _ticks(names: Sequence[str], most: int = TICKS) -> Layout:
    """Return labels for places 0, 1, 2, ..., as many as there is room for."""
    step = max(-(-len(names) // most), 1)
    places = list(range(0, len(names), step))
    return {
        "tickmode": "array",
        "tickvals": places,
        "ticktext": [label(names[place]) for place in places],
    }


def _window_text(row: Mapping[str, Any], unit: str) -> str:
    model = "no model" if row["trigger"] is None else f"model of trigger {row['trigger']}"
    return f"{_window_span(row, unit)}, {model}"


def _window_span(row: Mapping[str, Any], unit: str) -> str:
    start, end = moment(row["start"], unit), moment(row["end"], unit)
    return f"{start} to {end}, {row['count']:,} samples"


def _typical_length(series: Series, unit: str) -> float:
    """Return the length of the windows in days."""
    lengths: list[int] = sorted(row["end"] - row["start"] for row in series.windows)
    return lengths[len(lengths) // 2] / PER_SECOND[unit] / 86_400


def _short(timestamp: int | None, unit: str, *, days: float) -> str:
    """Return a date as exactly as things that last so many days need it."""
    if timestamp is None:
        return "-"
    full = moment(timestamp, unit)
    if days < 1 or not is_date(timestamp, unit):
        return full
    day = full.split(" ")[0]
    return day if days < YEAR_DAYS else day[: len("YYYY-MM")]


def _shown_range(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the range that colours cover: all values but the two percent at either end."""
    if not values:
        return None, None
    ordered = sorted(values)
    cut = len(ordered) // 50
    low, high = ordered[cut], ordered[-1 - cut]
    return (low, high) if low < high else (low - 0.01, high + 0.01)
