"""What policies looked at when they decided, as series over the time of the samples.

A policy notes what it likes (`Context.note`).  Of that a page shows every score that stands beside
the threshold it was held against, and where triggers fell.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modyn.dates import axis, moment
from modyn.pipelines.run import Run
from modyn.report.figures import COLOURS, GREY, RED, layout, side
from modyn.report.page import Figure, label

__all__ = ["Scores", "chart", "scores_of"]

# A score, and what it is held against; None for scores that are held against their own past.
PAIRS = (
    ("score", "threshold"),
    ("distance", "threshold"),
    ("converted", "training_seconds"),
    ("mean", None),
)
POINTS = 4_000  # of a line; of longer ones every so many are shown, and all that fired
Number = float | None


@dataclass
class Scores:
    """A score over time: one entry per decision that looked at it."""

    name: str
    timestamps: list[int] = field(default_factory=list)
    values: list[Number] = field(default_factory=list)
    thresholds: list[Number] = field(default_factory=list)
    fired: list[bool] = field(default_factory=list)

    def thinned(self) -> "Scores":
        """Return so few of the entries that a browser draws them."""
        step = -(-len(self.values) // POINTS)
        if step <= 1:
            return self
        rows = [i for i, fired in enumerate(self.fired) if fired or i % step == 0]
        return Scores(
            self.name,
            *(
                [column[i] for i in rows]  # type: ignore[arg-type]
                for column in (self.timestamps, self.values, self.thresholds, self.fired)
            ),
        )


def scores_of(run: Run) -> list[Scores]:
    """Return the scores that the policies of a run noted, by the name under which they stand."""
    found: dict[str, Scores] = {}
    for row in run.decisions:
        if row["timestamp"] is None:
            continue
        for place, value, threshold in _verdicts(row["values"]):
            name = " ".join([row["name"], *place])
            scores = found.setdefault(name, Scores(name))
            scores.timestamps.append(row["timestamp"])
            scores.values.append(value)
            scores.thresholds.append(threshold)
            scores.fired.append(row["fired"])
    return list(found.values())


def _verdicts(
    values: Any, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Number, Number]]:
    """Yield what was held against what, wherever in the values it stands."""
    if isinstance(values, list):
        for one in values:
            yield from _verdicts(one, place)
    if not isinstance(values, Mapping):
        return
    for score, threshold in PAIRS:
        if score in values and (threshold is None or threshold in values):
            against = None if threshold is None else _number(values[threshold])
            yield place, _number(values[score]), against
            return
    for name, inner in values.items():
        yield from _verdicts(inner, (*place, name) if isinstance(inner, Mapping) else place)


def _number(value: Any) -> Number:
    """Return what can be drawn: neither nan nor inf."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


def chart(scores: Scores, unit: str) -> Figure:
    """Return a score over time, its threshold, and where triggers fell."""
    shown = scores.thinned()
    times = axis(shown.timestamps, unit)
    text = [label(moment(at, unit)) for at in shown.timestamps]
    common = {"type": "scatter", "x": times, "text": text}
    traces: list[dict[str, Any]] = [
        {
            **common,
            "mode": "lines+markers",
            "name": "score",
            "y": shown.values,
            "hovertemplate": "%{text}<br>score %{y:.5g}",
            "line": {"color": COLOURS[0], "width": 1.5},
            "marker": {"size": 4},
        }
    ]
    if any(threshold is not None for threshold in shown.thresholds):
        traces.append(
            {
                **common,
                "mode": "lines",
                "name": "threshold",
                "y": shown.thresholds,
                "hovertemplate": "%{text}<br>threshold %{y:.5g}",
                "line": {"color": GREY, "width": 1.5, "dash": "dash"},
            }
        )
    fell = [i for i, fired in enumerate(shown.fired) if fired]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "trigger",
            "x": [times[i] for i in fell],
            "y": [shown.values[i] for i in fell],
            "text": [text[i] for i in fell],
            "hovertemplate": "%{text}<br>a trigger fell here",
            "marker": {"color": RED, "size": 9, "symbol": "triangle-up"},
        }
    )
    return {
        "data": traces,
        "layout": layout(xaxis=side("time of the samples"), yaxis=side("score")),
    }
