"""The page of a dry run: what would be chosen, by trigger, label and time, and its weights."""

import itertools
from pathlib import Path

from modyn.dates import PER_SECOND, axis, is_date, moment
from modyn.pipelines.looks import Counts, DryRun, Look
from modyn.report.figures import COLOURS, MILLISECONDS, layout, side
from modyn.report.page import Cell, Figure, Page, Table, label

GREY = "#d0d7de"
LABELS = 40  # in the picture, those with most candidates
HEIGHT = 300
FOLDED = 8  # triggers; the table of more is behind a line to click on


def write_choices(found: DryRun, path: str | Path) -> Path:
    """Write the page of a dry run and return its path.

    Raises
    ------
    ModuleNotFoundError
        When plotly, the extra `report`, is not installed.
    """
    page = Page(f"{found.name}: what would be chosen")
    _head(page, found)
    if found.looks:
        _triggers(page, found)
        _labels(page, found)
        _times(page, found)
        _weights(page, found)
    page.footer("Written by modyn select --dry-run; nothing was trained. All times are UTC.")
    return page.write(Path(path))


def height_of(found: DryRun) -> int:
    """Return about how many pixels the page is high, with nothing unfolded."""
    rows = len(found.looks)
    facts = 3 + len({look.downsampling for look in found.looks})
    table = 60 if rows > FOLDED else 60 + 33 * rows
    charts = 1 + (rows > 1) + bool(found.labels) + any(look.weights for look in found.looks)
    return 240 + 40 * facts + (table + 440 * charts if rows else 0)


def _head(page: Page, found: DryRun) -> None:
    total = found.total
    many = len(found.looks)
    page.tiles(
        [
            (f"{many:,}", "trigger" if many == 1 else "triggers"),
            (f"{total.candidates:,}", "candidates, at each trigger"),
            (f"{total.chosen:,}", "chosen"),
            (_share(total), "of the candidates"),
        ]
    )
    facts = [("selection", found.selection), ("dataset", found.dataset)]
    if found.rest and many == found.triggers:
        facts.append(("behind the last trigger", f"{found.rest:,} samples, in no choice"))
    for words in dict.fromkeys(look.downsampling for look in found.looks if look.downsampling):
        facts.append(("downsampling", words))
    page.facts(facts)
    if not many:
        page.paragraph(f"No trigger falls due in {found.rest:,} samples.")


def _triggers(page: Page, found: DryRun) -> None:
    if len(found.looks) > 1:
        page.heading("By trigger")
        names = [str(look.trigger) for look in found.looks]
        figure = _pair(names, [look.total for look in found.looks], "trigger")
        page.figures([(figure, "Candidates and chosen samples of each trigger")], height=HEIGHT)
    page.table(_table(found), folded="All triggers as a table" if len(found.looks) > FOLDED else "")


def _labels(page: Page, found: DryRun) -> None:
    labels = found.labels
    if not labels:
        return
    page.heading("By label")
    page.paragraph(
        "Left, how many samples of each label could be chosen and were; right, which part of "
        "each label was chosen. The line is the part of all."
    )
    most = sorted(labels, key=lambda one: -labels[one].candidates)[:LABELS]
    shown = sorted(most)
    if len(labels) > len(shown):
        page.paragraph(f"The {len(shown)} most frequent of {len(labels):,} labels are shown.")
    names, counts = [str(one) for one in shown], [labels[one] for one in shown]
    page.figures(
        [
            (_pair(names, counts, "label"), "Candidates and chosen samples by label"),
            (_shares(names, counts, found.total), "The part of each label that was chosen"),
        ],
        height=HEIGHT,
    )


def _times(page: Page, found: DryRun) -> None:
    page.heading("By time")
    unit, edges, times = found.timestamp_unit, found.edges, found.times
    dates = all(is_date(at, unit) for at in edges)
    middles = [a + (b - a) // 2 for a, b in itertools.pairwise(edges)]
    width = (edges[1] - edges[0]) * (MILLISECONDS / PER_SECOND[unit] if dates else 1)
    spans = [f"{moment(a, unit)} to {moment(b, unit)}" for a, b in itertools.pairwise(edges)]
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": axis(middles, unit),
            "y": values,
            "width": [width * 0.96] * len(values),
            "text": [label(f"{span}: {n:,} {name}") for span, n in zip(spans, values, strict=True)],
            "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": colour},
        }
        for name, values, colour in _both(times)
    ]
    kind = {"type": "date"} if dates else {}
    figure = {
        "data": traces,
        "layout": layout(
            barmode="overlay",
            xaxis=side("time of the samples", showgrid=False, **kind),
            yaxis=side("samples", rangemode="tozero"),
        ),
    }
    if len(found.looks) > 1:
        page.paragraph("A sample that several triggers could choose counts for each of them.")
    page.figures([(figure, "Candidates and chosen samples over time")], height=HEIGHT)


def _weights(page: Page, found: DryRun) -> None:
    weighted = [look for look in found.looks if look.weights is not None]
    if not weighted:
        return
    page.heading("Weights")
    page.paragraph(
        "How much chosen samples count in the loss, at the last trigger that has weights; and as "
        "how many samples of equal weight each choice counts, which is (sum w)\u00b2 / sum w\u00b2."
    )
    page.figures(
        [
            (_histogram(weighted[-1]), "Weights of the last choice"),
            (_effective(weighted), "Effective sample sizes"),
        ],
        height=HEIGHT,
    )


def _histogram(look: Look) -> Figure:
    weights = look.weights
    if weights is None:
        raise AssertionError("a choice without weights has no histogram")
    edges = weights.edges
    bars = {
        "type": "bar",
        "x": [(a + b) / 2 for a, b in itertools.pairwise(edges)],
        "y": list(weights.counts),
        "width": [0.96 * (edges[1] - edges[0])] * len(weights.counts),
        "marker": {"color": COLOURS[0]},
        "hovertemplate": "weight %{x:.4g}: %{y:,} samples<extra></extra>",
    }
    title = f"weight at trigger {look.trigger}"
    return {
        "data": [bars],
        "layout": layout(
            xaxis=side(title, showgrid=False), yaxis=side("samples", rangemode="tozero")
        ),
    }


def _effective(looks: list[Look]) -> Figure:
    names = [str(look.trigger) for look in looks]
    counts = [
        Counts(candidates=look.total.chosen, chosen=round(look.weights.effective))
        for look in looks
        if look.weights is not None
    ]
    return _pair(names, counts, "trigger", ("chosen", "count as"))


def _pair(
    names: list[str],
    counts: list[Counts],
    what: str,
    kinds: tuple[str, str] = ("candidates", "chosen"),
) -> Figure:
    """Return a thick pale bar behind a thin dark one for each name."""
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": values,
            "width": 0.9 if name == kinds[0] else 0.55,
            "marker": {"color": colour},
            "hovertemplate": f"{what} %{{x}}: %{{y:,}} {name}<extra></extra>",
        }
        for name, values, colour in _both(counts, kinds)
    ]
    return {
        "data": traces,
        "layout": layout(
            barmode="overlay",
            xaxis=side(what, **_names(names)),
            yaxis=side("samples", rangemode="tozero"),
        ),
    }


def _shares(names: list[str], counts: list[Counts], total: Counts) -> Figure:
    shares = [100 * c.chosen / c.candidates if c.candidates else None for c in counts]
    bars = {
        "type": "bar",
        "name": "chosen",
        "x": names,
        "y": shares,
        "width": 0.55,
        "marker": {"color": COLOURS[0]},
        "hovertemplate": "label %{x}: %{y:.1f} % chosen<extra></extra>",
    }
    whole = 100 * total.chosen / total.candidates if total.candidates else 0
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": f"of all: {whole:.1f} %",
        "x": [-0.5, len(names) - 0.5],
        "y": [whole, whole],
        "xaxis": "x2",
        "line": {"color": COLOURS[1], "width": 2, "dash": "dot"},
        "hoverinfo": "skip",
    }
    behind = {"overlaying": "x", "range": [-0.5, len(names) - 0.5], "visible": False}
    return {
        "data": [bars, line],
        "layout": layout(
            xaxis=side("label", range=[-0.5, len(names) - 0.5], **_names(names)),
            xaxis2=behind,
            yaxis=side("percent chosen", rangemode="tozero"),
        ),
    }


def _names(names: list[str]) -> dict[str, object]:
    """Return an axis of names that are no numbers, with as many of them as there is room for."""
    step = max(-(-len(names) // 12), 1)
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": names,
        "tickvals": names[::step],
        "showgrid": False,
    }


def _both(
    counts: list[Counts], kinds: tuple[str, str] = ("candidates", "chosen")
) -> list[tuple[str, list[int], str]]:
    return [
        (kinds[0], [c.candidates for c in counts], GREY),
        (kinds[1], [c.chosen for c in counts], COLOURS[0]),
    ]


def _table(found: DryRun) -> Table:
    numbers = ["trigger", "new", "candidates", "chosen", "share"]
    more = ["weights", "mean", "counts as"] if any(look.weights for look in found.looks) else []
    head = [Cell("trigger", number=True), Cell("first sample"), Cell("last sample")]
    head += [Cell(name, number=True) for name in (*numbers[1:], *more)]
    rows = []
    for look in found.looks:
        times = [
            Cell("-" if at is None else moment(at, found.timestamp_unit), name=True)
            for at in (look.first_timestamp, look.last_timestamp)
        ]
        cells = [f"{look.new:,}", f"{look.total.candidates:,}", f"{look.total.chosen:,}"]
        cells += [_share(look.total), *(_weight_cells(look) if more else [])]
        rows.append(
            [Cell(str(look.trigger), number=True), *times, *(Cell(c, number=True) for c in cells)]
        )
    return Table(head, rows)


def _weight_cells(look: Look) -> list[str]:
    weights = look.weights
    if weights is None:
        return ["1", "1", f"{look.total.chosen:,}"]
    return [
        f"{weights.least:.4g} to {weights.greatest:.4g}",
        f"{weights.mean:.4g}",
        f"{weights.effective:,.0f}",
    ]


def _share(counts: Counts) -> str:
    return f"{100 * counts.chosen / counts.candidates:.1f} %" if counts.candidates else "-"
