"""The page of a backtest: what each policy costs and scores, and which are best."""

from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import Any

from modyn.backtesting.cost import shown
from modyn.backtesting.result import Backtest, Entry
from modyn.report import figures
from modyn.report.page import Cell, Figure, Page, Table, label

SHOWN = 200  # rows of the table of dominated policies
HEIGHT = 520  # pixels of the picture
GREY = "#b6bec8"


def write_backtest(found: Backtest, path: str | Path, *, about: str = "") -> Path:
    """Write a page about a backtest, and return its path.

    Parameters
    ----------
    found : Backtest
    path : path
    about : str
        What was tried, for the title.

    Raises
    ------
    ModuleNotFoundError
        When plotly, the extra `report`, is not installed.
    """
    page = Page(f"Backtest: {about}" if about else "Backtest")
    exact = sum(entry.exact for entry in found)
    page.tiles(
        [
            (f"{len(found):,}", "policies"),
            (f"{exact:,}", "of them exact"),
            (f"{len(found.front):,}", "on the front"),
            (f"{found.seeds}", "seed" if found.seeds == 1 else "seeds"),
            (f"{found.compared} of {found.windows}", "windows compared"),
        ]
    )
    page.heading(f"{found.metric} against {found.cost.name}")
    page.paragraph(explanation(found))
    what = f"{found.metric} of each policy against its cost"
    page.figures([(picture(found), what)], height=HEIGHT)
    page.heading("Which policy at which budget")
    page.paragraph(
        "The policies that no other dominates, from the cheapest to the best: each is the best "
        "from its cost on, up to that of the next. The bound is what no schedule of the recorded "
        "models exceeds at that cost, even one that knows the future."
    )
    page.table(_table(found, found.front))
    if found.dominated:
        rest = sorted(found.dominated, key=lambda entry: (-entry.score, entry.cost))
        more = "" if len(rest) <= SHOWN else f", the best {SHOWN} of them"
        page.table(_table(found, rest[:SHOWN]), folded=f"{len(rest):,} dominated policies{more}")
    page.footer("Written by modyn from the ledgers of the runs; nothing was trained for it.")
    return page.write(Path(path))


def height_of(found: Backtest) -> int:
    """Return about how many pixels the page is high, tables folded as they are at first."""
    return 720 + HEIGHT + 31 * len(found.front)


def explanation(found: Backtest) -> str:
    """Return what the numbers are, in words."""
    words = (
        "The currently active model of each policy, each window counting as its samples do. "
        + (
            "Until a policy has one of its own, that is the first recorded model, which it pays. "
            if found.without_model == "first"
            else "A window without a model counts 0. "
        )
    )
    if found.seeds > 1:
        words += f"Means of {found.seeds} seeds; bands go from the lowest to the highest. "
    estimated = sum(not entry.exact for entry in found)
    if estimated:
        words += (
            f"{estimated:,} policies are estimated (open markers): they ask for trainings that "
            "were not recorded, and the nearest earlier models stand in. "
        )
    return words + "Up is better, left is cheaper."


def picture(found: Backtest) -> Figure:
    """Return cost against score: policies, the front with its band, and the upper bound."""
    front = found.front
    traces = [
        *_cloud(found.dominated, found, GREY, "dominated", 6),
        *_band(front, found),
        _steps(front),
        *_cloud(front, found, figures.COLOURS[0], "on the front", 10),
        _bound(found),
    ]
    costs = [entry.cost for entry in found if entry.cost > 0]
    wide = bool(costs) and max(costs) > 20 * min(costs)
    kind: dict[str, Any] = {"rangemode": "tozero"}
    if wide:  # the bound begins where nothing else is, and is left out there
        kind = {"type": "log", "range": [log10(0.7 * min(costs)), log10(1.4 * max(costs))]}
    title = found.cost.name + (", logarithmic" if wide else "")
    low = min((entry.scores[0] for entry in front), default=0.0)
    high = max([*(entry.scores[1] for entry in found), *found.oracle.scores.tolist()])
    low = min(low, high - 1e-3)
    margin = 0.05 * (high - low)
    side = figures.side(found.metric, range=[low - margin, high + margin])
    return {
        "data": [trace for trace in traces if trace["x"]],
        "layout": figures.layout(xaxis=figures.side(title, **kind), yaxis=side),
    }


def _cloud(
    entries: Sequence[Entry], found: Backtest, colour: str, name: str, size: int
) -> list[dict[str, Any]]:
    """Return markers, filled where a policy is exact and open where it is estimated."""
    traces = []
    for exact in (True, False):
        some = [entry for entry in entries if entry.exact == exact]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name if exact else f"{name}, estimated",
                "x": [entry.cost for entry in some],
                "y": [entry.score for entry in some],
                "text": [_hover(entry, found) for entry in some],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {
                    "size": size,
                    "color": colour if exact else "#ffffff",
                    "line": {"color": "#ffffff" if exact else colour, "width": 1 if exact else 2},
                },
            }
        )
    return traces


def _hover(entry: Entry, found: Backtest) -> str:
    kind = "" if entry.exact else f"<br>estimated: {entry.missing} trainings missing"
    lines = [
        label(entry.name),
        f"{label(found.metric)} {entry.score:.4f}",
        f"{label(found.cost.name)} {shown(entry.cost)}",
        f"{shown(entry.trainings)} trainings{kind}",
    ]
    return "<br>".join(lines)


def _steps(front: Sequence[Entry]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best at a budget",
        "x": [entry.cost for entry in front],
        "y": [entry.score for entry in front],
        "line": {"shape": "hv", "color": figures.COLOURS[0], "width": 2},
        "hoverinfo": "skip",
    }


def _band(front: Sequence[Entry], found: Backtest) -> list[dict[str, Any]]:
    """Return the lowest and the highest seed of the front, the space between them filled."""
    if found.seeds == 1:
        return []
    look = {
        "type": "scatter",
        "mode": "lines",
        "x": [entry.cost for entry in front],
        "line": {"shape": "hv", "color": "rgba(0,114,178,0)", "width": 0},
        "hoverinfo": "skip",
    }
    low = {**look, "y": [entry.scores[0] for entry in front], "showlegend": False}
    high = {
        **look,
        "y": [entry.scores[1] for entry in front],
        "fill": "tonexty",
        "fillcolor": "rgba(0,114,178,0.18)",
        "name": f"band of {found.seeds} seeds",
    }
    return [low, high]


def _bound(found: Backtest) -> dict[str, Any]:
    """Return the upper bound, which ends where more cost brings nothing."""
    costs, scores = found.oracle.costs.tolist(), found.oracle.scores.tolist()
    inside = [i for i, cost in enumerate(costs) if cost > 0]
    last = max((entry.cost for entry in found), default=0.0)
    more = [last] if inside and last > costs[-1] else []
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "no schedule of recorded models is above",
        "x": [*(costs[i] for i in inside), *more],
        "y": [*(scores[i] for i in inside), *(scores[-1:] * len(more))],
        "line": {"color": "#000000", "width": 1.5, "dash": "dash"},
        "hovertemplate": "cost %{x:,.4~g}<br>bound %{y:.4f}<extra></extra>",
    }


def _table(found: Backtest, entries: Sequence[Entry]) -> Table:
    names = ["trainings", found.cost.name, found.metric]
    names += ["seeds, from", "to"] if found.seeds > 1 else []
    names += ["bound"]
    head = [Cell("policy"), *(Cell(name, number=True) for name in names), Cell("")]
    rows = []
    for entry in entries:
        numbers = [shown(entry.trainings), shown(entry.cost), f"{entry.score:.4f}"]
        if found.seeds > 1:
            numbers += [f"{value:.4f}" for value in entry.scores]
        numbers.append(f"{found.oracle.at(entry.cost):.4f}" if entry.exact else "")
        state = "exact" if entry.exact else f"estimated, {entry.missing} trainings missing"
        cells = [Cell(value, number=True) for value in numbers]
        rows.append([Cell(entry.name), *cells, Cell(state, name=True)])
    return Table(head, rows)
