"""Reports: all in one file, all names in it, and no name can do anything there."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from modyn.dates import axis, duration, moment
from modyn.policies.batched import BatchedTrigger
from modyn.report import decisions, facts, figures, write_comparison, write_run
from modyn.report.page import Page
from tests.python.plausible import DAY, EVERY, plausible_run
from tests.python.streams import drifting, pipeline

pytest.importorskip("plotly")

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "<!--",
    "&lt;b&gt;",
    "<a href='javascript:alert(4)'>x</a>",
    "line\u2028separator",
]
FETCHES = ("src", "href", "action", "data", "poster", "srcset", "background", "formaction")


class Reader(HTMLParser):
    """What a browser would see: elements, what they would fetch, text, and the charts' data."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.fetched: list[tuple[str, str]] = []
        self.handlers: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.policy = ""
        self._inside: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.figures = next(json.loads(s) for s in self.scripts if s.startswith("["))

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self._inside.append((tag, dict(attrs)))
        for name, value in attrs:
            if name in FETCHES:
                self.fetched.append((tag, value or ""))
            if name.startswith("on"):
                self.handlers.append(f"{tag} {name}={value}")
            if tag == "meta" and name == "content" and "default-src" in (value or ""):
                self.policy = value or ""

    def handle_data(self, data):
        tag = self._inside[-1][0] if self._inside else ""
        if tag == "script":
            self.scripts.append(data)
        elif tag != "style":
            self.text += data

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop()[0] != tag:
            pass


def shown(figure: dict) -> str:
    """All strings of a chart."""
    return json.dumps(figure, ensure_ascii=False)


def test_the_page_of_a_run_says_what_it_is_and_what_it_came_to(tmp_path):
    run = plausible_run(tmp_path / "monthly")

    path = write_run(run)

    page = Reader(path)
    assert path == tmp_path / "monthly" / "report.html"
    for words in (
        "monthly",
        "A model a month.",
        "TimeTrigger(every=30d)",
        run.digest(),
        "finished",
    ):
        assert words in page.text
    assert f"{run.score('Accuracy'):.4f}" in page.text
    assert "NewDataStrategy(tail_triggers=null)" in page.text
    assert "SGD(lr=0.1)" in page.text
    assert "epochs_per_trigger=1, batch_size=32, use_previous_model=false" in page.text


def test_the_page_of_a_run_says_who_waited_for_whom(tmp_path):
    run = plausible_run(tmp_path / "monthly", triggers=2)

    page = Reader(write_run(run))

    # Stage i of trigger t took 0.125 * (i + t) seconds; load and train are 3 and 6.
    assert (
        "While training, the loop waited 35.0 % of 2.5 s for data; "
        "workers: 48 % filling, 52 % waiting for room."
    ) in page.text
    assert "35.0 %" in page.text.split("of training spent waiting for data")[0]


def test_a_run_that_trained_nothing_waited_for_nothing(tmp_path):
    page = Reader(write_run(plausible_run(tmp_path / "monthly", triggers=0)))

    assert "waited" not in page.text
    assert "waiting for data" not in page.text


def test_the_page_of_a_run_has_a_chart_of_everything(tmp_path):
    page = Reader(write_run(plausible_run(tmp_path / "monthly")))

    kinds = [[trace["type"] for trace in figure["data"]] for figure in page.figures]

    # Composite and matrix of each metric; triggers, samples, seconds.
    assert kinds.count(["scatter", "scatter"]) == 2
    assert kinds.count(["heatmap", "scatter", "scatter"]) == 2
    assert ["bar", "scatter"] in kinds
    assert len(kinds) == 7


def test_every_chart_is_one_that_plotly_knows(tmp_path):
    import plotly.graph_objects as go

    runs = [plausible_run(tmp_path / name, name=name) for name in ("a", "b")]
    pages = [Reader(write_run(runs[0])), Reader(write_comparison(runs, tmp_path / "r.html"))]

    for figure in [figure for page in pages for figure in page.figures]:
        go.Figure(figure)  # raises on an unknown property or an impossible value


def test_a_page_fetches_nothing(tmp_path):
    runs = [plausible_run(tmp_path / name, name=name) for name in ("a", "b")]
    pages = [write_run(runs[0]), write_comparison(runs, tmp_path / "report.html")]

    for path in pages:
        page = Reader(path)
        assert "default-src 'none'" in page.policy
        assert not [url for _, url in page.fetched if re.match(r"(?i)\s*([a-z]+:|//)", url)]
        assert {tag for tag, _ in page.fetched} <= {"a"}
        assert not {"link", "iframe", "object", "embed", "img", "base", "form"} & {*page.elements}


def test_plotly_is_in_a_page_once(tmp_path):
    from plotly.offline import get_plotlyjs

    text = write_run(plausible_run(tmp_path / "a")).read_text(encoding="utf-8")

    assert text.count(get_plotlyjs()) == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_only_text(tmp_path, name):
    runs = [
        plausible_run(
            tmp_path / f"r{i}", name=name, dataset=name, description=name, metrics=(name,)
        )
        for i in range(2)
    ]
    harmless = [plausible_run(tmp_path / f"h{i}", name="name") for i in range(2)]

    for path, other in (
        (write_run(runs[0]), write_run(harmless[0])),
        (
            write_comparison(runs, tmp_path / "hostile.html"),
            write_comparison(harmless, tmp_path / "harmless.html"),
        ),
    ):
        page, expected = Reader(path), Reader(other)
        assert page.handlers == []
        assert page.scripts[1:] == expected.scripts[1:]  # all but the data of the charts
        assert set(page.elements) == set(expected.elements)
        assert page.elements.count("script") == expected.elements.count("script")
        assert name in page.text
        assert all("<" not in text for text in names_in(page.figures))


def names_in(figures: list[dict]) -> list[str]:
    """Texts of charts that come from outside: plotly reads tags in them."""
    found = []
    for figure in figures:
        found += [trace["name"] for trace in figure["data"] if "name" in trace]
        found += [axis["title"]["text"] for key, axis in figure["layout"].items() if "axis" in key]
    return found


def test_no_data_can_end_the_script_that_holds_it(tmp_path):
    page = Page("x")
    page.figures([({"data": [{"name": "</script><!--"}], "layout": {}}, "about")], height=100)

    text = page.write(tmp_path / "x.html").read_text(encoding="utf-8")
    data = text.split('id="figures">')[1].split("</script>")[0]

    assert "<" not in data
    assert json.loads(data)[0]["data"][0]["name"] == "</script><!--"


def test_undefined_numbers_become_null(tmp_path):
    page = Page("x")
    page.figures([({"data": [{"y": [float("nan"), float("inf"), 1.5]}]}, "about")], height=100)

    assert Reader(page.write(tmp_path / "x.html")).figures[0]["data"][0]["y"] == [None, None, 1.5]


def test_a_failed_write_leaves_the_page_as_it_was(tmp_path, monkeypatch):
    run = plausible_run(tmp_path / "a")
    path = write_run(run)
    before = path.read_bytes()

    def refuse(*_):
        raise OSError("no space")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="no space"):
        write_run(run)

    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["pipeline.yaml", "report.html"]


# The matrix --------------------------------------------------------------------------------------


def test_the_matrix_has_a_row_per_model_and_a_column_per_window(tmp_path):
    run = plausible_run(tmp_path / "a", triggers=3, windows=5)
    series = facts.series_of(run)[0]

    figure, _ = figures.matrix(run, series, "Accuracy")

    values = figure["data"][0]["z"]
    assert [len(row) for row in values] == [5, 5, 5]
    assert values[1][1] == pytest.approx(0.9)
    assert values[0][4] == pytest.approx(0.7)
    assert figure["data"][0]["text"][2][0] == "model of trigger 2: 1969-11-01"


def test_boxes_mark_the_active_windows(tmp_path):
    """Model t is active in window t + 1, and the last one in all that follow."""
    run = plausible_run(tmp_path / "a", triggers=3, windows=6)
    series = facts.series_of(run)[0]

    active = figures.matrix(run, series, "Accuracy")[0]["data"][1]

    corners = list(zip(active["x"][::6], active["y"][::6], active["x"][1::6], strict=True))
    assert corners == [(0.5, -0.5, 1.5), (1.5, 0.5, 2.5), (2.5, 1.5, 5.5)]


def test_colours_leave_out_extremes():
    assert figures._shown_range([0.0, *[0.5 + i / 1000 for i in range(98)], 9.0]) == (0.501, 0.596)
    assert figures._shown_range([0.5]) == pytest.approx((0.49, 0.51))
    assert figures._shown_range([]) == (None, None)


# Edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"triggers": 0, "windows": 0, "metrics": ()},
        {"triggers": 1},
        {"metrics": ()},
        {"finished": False},
        {"unit": "ns", "scale": 10**9},
        {"start": 2**60, "unit": "s"},  # no dates
        {"triggers": 60, "windows": 80},
    ],
)
def test_any_run_has_a_page(tmp_path, changes):
    run = plausible_run(tmp_path / "a", **changes)

    page = Reader(write_run(run))
    both = Reader(write_comparison([run, run], tmp_path / "report.html"))

    assert "monthly" in page.text
    assert "monthly" in both.text
    assert ("unfinished" in page.text) == (not run.finished)


def test_nanoseconds_fall_on_the_same_dates_as_seconds(tmp_path):
    seconds = plausible_run(tmp_path / "s")
    nanoseconds = plausible_run(tmp_path / "ns", unit="ns", scale=10**9)

    charts = [figures.timeline(run, None)["data"] for run in (seconds, nanoseconds)]

    assert charts[0][0]["x"] == [date.split(".")[0] for date in charts[1][0]["x"]]
    assert charts[0][0]["width"] == pytest.approx(charts[1][0]["width"])


# Comparisons -------------------------------------------------------------------------------------


class Noting(BatchedTrigger):
    """Fires in every second interval, and notes verdicts wherever policies have them."""

    def decide(self, interval, context):
        fires = interval.index % 2 == 0
        verdict = {"threshold": 0.5, "fires": fires}
        context.note(
            "Noting",
            {
                "metrics": {"</script>": {"distance": 0.1 * interval.index, **verdict}},
                "judged": [{"criteria": {"few": {"score": math.inf, **verdict}}}, {}],
                "inner": {"converted": 1.0, "training_seconds": 2.0},
            },
        )
        return fires


def test_the_page_shows_scores_with_thresholds_and_where_triggers_fell(tmp_path):
    import plotly.graph_objects as go

    trigger = Noting(evaluation_interval_data_points=30)
    dataset = drifting(tmp_path / "stream", count=210)
    run = pipeline(dataset, trigger=trigger, evaluation=None).replay(tmp_path / "run")

    scores = {one.name: one for one in decisions.scores_of(run)}
    page = Reader(write_run(run))

    assert list(scores) == ["Noting inner", "Noting criteria few", "Noting metrics </script>"]
    distances = scores["Noting metrics </script>"]
    assert distances.values == pytest.approx([0.1 * i for i in range(1, 7)])
    assert distances.thresholds == [0.5] * 6
    assert distances.fired == [False, True] * 3
    assert scores["Noting criteria few"].values == [None] * 6
    assert scores["Noting inner"].thresholds == [2.0] * 6
    assert "Decisions" in page.text
    assert "Noting metrics </script>" in page.text
    drawn = [f for f in page.figures if f["data"][0].get("name") == "score"]
    assert len(drawn) == 3
    for figure in drawn:
        go.Figure(figure)
        assert len(figure["data"][-1]["x"]) == 3


def test_long_series_of_scores_are_thinned_and_keep_all_triggers():
    count = 50_001
    fired = [i % 997 == 0 for i in range(count)]
    scores = decisions.Scores("x", list(range(count)), [0.5] * count, [None] * count, fired)

    shown = scores.thinned()

    assert len(shown.values) <= decisions.POINTS + sum(fired)
    assert sum(shown.fired) == sum(fired)
    assert len({len(shown.values), len(shown.timestamps), len(shown.thresholds)}) == 1


def test_a_comparison_names_and_links_every_run(tmp_path):
    names = ["all data", "half & half", "100%"]
    runs = [plausible_run(tmp_path / name, name=name) for name in names]
    for run in runs:
        write_run(run)

    page = Reader(write_comparison(runs, tmp_path / "report.html"))

    links = [url for tag, url in page.fetched if tag == "a"]
    assert [(tmp_path / unquote(url)).exists() for url in links] == [True] * 3
    assert all(name in page.text for name in names)


def test_a_comparison_counts_only_windows_that_all_have(tmp_path):
    """The late run has no model in its first windows, where the early one does badly."""
    early = plausible_run(tmp_path / "early", name="early", triggers=5, windows=6)
    late = plausible_run(tmp_path / "late", name="late", triggers=5, windows=6)
    models = [row for row in late._content.evaluations if row.trigger >= 3]
    late = type(late)(
        late.path,
        late.config,
        type(late._content)(
            **{
                **vars(late._content),
                "evaluations": models,
                "trainings": [row for row in late._content.trainings if row.trigger >= 3],
                "transitions": [row for row in late._content.transitions if row.trigger >= 3],
            }
        ),
    )

    page = Reader(write_comparison([early, late], tmp_path / "report.html"))

    assert "Only the 2 of 6 windows count" in page.text
    assert early.score("Accuracy") == pytest.approx(late.score("Accuracy"))


def test_runs_are_compared_by_dataset(tmp_path):
    runs = [
        plausible_run(tmp_path / "a", name="a", dataset="rain"),
        plausible_run(tmp_path / "b", name="b", dataset="planes", metrics=("Accuracy",)),
        plausible_run(tmp_path / "c", name="c", dataset="rain", better=0.01),
    ]

    page = Reader(write_comparison(runs, tmp_path / "report.html"))

    assert "Scores on rain" in page.text
    assert "Scores on planes" in page.text
    curves = [f for f in page.figures if all("lines" in t.get("mode", "") for t in f["data"])]
    assert [[t["name"] for t in f["data"]] for f in curves] == [["a", "c"], ["a", "c"], ["b"]]


def test_the_best_score_stands_out(tmp_path):
    runs = [plausible_run(tmp_path / n, name=n, better=b) for n, b in (("a", 0.0), ("b", 0.01))]

    text = write_comparison(runs, tmp_path / "report.html").read_text(encoding="utf-8")

    best = f"{runs[1].score('Accuracy'):.4f}"
    assert f'<td class="number best">{best}</td>' in text
    assert f'<td class="number">{runs[0].score("Accuracy"):.4f}</td>' in text


def test_a_run_without_evaluation_is_in_the_table_all_the_same(tmp_path):
    runs = [plausible_run(tmp_path / "a", name="a"), plausible_run(tmp_path / "b", metrics=())]

    assert "monthly" in Reader(write_comparison(runs, tmp_path / "report.html")).text


# Dates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamp", "unit", "expected"),
    [
        (0, "s", "1970-01-01"),
        (-1, "s", "1969-12-31 23:59:59"),
        (-1, "ns", "1969-12-31 23:59:59.999999999"),
        (60, "s", "1970-01-01 00:01"),
        (1500, "ms", "1970-01-01 00:00:01.500"),
        (-62_135_596_800, "s", "0001-01-01"),
        (-62_135_596_801, "s", "-62135596801 s"),
        (2**63 - 1, "s", f"{2**63 - 1} s"),
        (-(2**63), "ns", "1677-09-21 00:12:43.145224192"),
    ],
)
def test_moments_are_dates_where_they_can_be(timestamp, unit, expected):
    assert moment(timestamp, unit) == expected


def test_an_axis_is_all_dates_or_all_numbers():
    assert axis([0, EVERY], "s") == ["1970-01-01 00:00:00", "1970-01-31 00:00:00"]
    assert axis([0, 2**62], "s") == [0, 2**62]
    assert axis([], "s") == []
    assert axis([DAY * 1000 + 1], "ms") == ["1970-01-02 00:00:00.001000000"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
    ],
)
def test_durations_are_readable(seconds, expected):
    assert duration(seconds) == expected
