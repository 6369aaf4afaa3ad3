"""The page around the charts: one self-contained HTML file.

Everything is in the file: styles, data and, once, plotly.js.  A content security policy forbids the
browser to fetch anything, whatever ends up in the text.  All text from outside (names, values,
configuration) goes through `text`, and all data through `_data`, which leaves no character that
could end a script.
"""

import html
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Figure = Mapping[str, Any]  # data and layout, as plotly.js takes them

LABEL_LENGTH = 80  # characters

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)

STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #f6f8fa; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: #fff; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .25rem; padding-top: .75rem;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.5rem 0 0; }
p { margin: .25rem 0 .75rem; max-width: 46rem; color: var(--soft); overflow-wrap: anywhere; }
p.lead { color: var(--ink); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: 1rem 0; }
.tile { background: var(--back); border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem .75rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tile span { font-size: .8rem; color: var(--soft); }
.wide { overflow-x: auto; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
  gap: 0 1rem; }
table { border-collapse: collapse; font-size: .875rem; margin: .75rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
td.name { white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; vertical-align: bottom; }
.facts th { color: var(--soft); font-weight: 400; white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.best { font-weight: 700; }
figure { margin: 0 0 1rem; break-inside: avoid; }
.plot { width: 100%; }
a { color: var(--accent); }
pre { background: var(--back); border: 1px solid var(--line); border-radius: 6px; padding: .75rem;
  overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; margin-top: 1.5rem; color: var(--accent); }
footer { margin-top: 3rem; font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
/* Buttons that nobody asks for would lie on the names of lines. */
.modebar { opacity: 0; } .plot:hover .modebar { opacity: 1; background: #fff; }
@media (min-width: 44rem) {
  .wide td:not(.name, .number) { overflow-wrap: anywhere; min-width: 12rem; } }
@media (max-width: 44rem) { .modebar { display: none; } body { padding: 1rem .75rem 3rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } .modebar { display: none; }
  .wide { overflow: visible; } details > summary { display: none; } table { font-size: 8pt; } }
"""

SCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const options = {responsive: true, displaylogo: false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]]};
figures.forEach((f, i) => Plotly.newPlot("plot-" + i, f.data, f.layout, options));
window.addEventListener("beforeprint", () => figures.forEach(
  (f, i) => Plotly.Plots.resize("plot-" + i)));
"""


@dataclass
class Page:
    """A page in the making: parts are added in reading order, then it is written.

    Parameters
    ----------
    title : str
        Its name, as plain text.
    """

    title: str
    _parts: list[str] = field(default_factory=list)
    _figures: list[Figure] = field(default_factory=list)

    def heading(self, words: str, *, level: int = 2) -> None:
        """Add a heading."""
        self._parts.append(f"<h{level}>{text(words)}</h{level}>")

    def paragraph(self, words: str, *, lead: bool = False) -> None:
        """Add a paragraph of plain text."""
        kind = ' class="lead"' if lead else ""
        self._parts.append(f"<p{kind}>{text(words)}</p>")

    def tiles(self, values: Sequence[tuple[str, str]]) -> None:
        """Add a row of big numbers: (value, what it is)."""
        tiles = "".join(
            f'<div class="tile"><b>{text(value)}</b><span>{text(what)}</span></div>'
            for value, what in values
        )
        self._parts.append(f'<div class="tiles">{tiles}</div>')

    def facts(self, values: Sequence[tuple[str, str]]) -> None:
        """Add a table of (what, value)."""
        rows = "".join(
            f"<tr><th>{text(what)}</th><td>{text(value)}</td></tr>" for what, value in values
        )
        self._parts.append(f'<table class="facts"><tbody>{rows}</tbody></table>')

    def table(self, table: "Table", *, folded: str = "") -> None:
        """Add a table; behind a line to click on if `folded` names it."""
        inner = table.html()
        if folded:
            inner = f"<details><summary>{text(folded)}</summary>{inner}</details>"
        self._parts.append(inner)

    def figures(self, figures: Sequence[tuple[Figure, str]], *, height: int) -> None:
        """Add charts, side by side where there is room.

        With each goes a line about what it shows, for those who cannot see it.
        """
        found = []
        for figure, about in figures:
            found.append(
                f'<figure role="img" aria-label="{text(about)}"><div class="plot" '
                f'id="plot-{len(self._figures)}" style="height:{height}px"></div></figure>'
            )
            self._figures.append(figure)
        inner = "".join(found)
        self._parts.append(inner if len(found) == 1 else f'<div class="row">{inner}</div>')

    def source(self, words: str, *, folded: str) -> None:
        """Add a text as it is, behind a line to click on."""
        self._parts.append(
            f"<details><summary>{text(folded)}</summary><pre>{text(words)}</pre></details>"
        )

    def footer(self, words: str) -> None:
        """Add the last line."""
        self._parts.append(f"<footer>{text(words)}</footer>")

    def write(self, path: Path) -> Path:
        """Write the page, whole or not at all, and return its path.

        Raises
        ------
        ModuleNotFoundError
            When plotly is not installed.
        """
        from plotly.offline import get_plotlyjs

        body = "\n".join(self._parts)
        document = (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{text(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{text(self.title)}</h1>\n{body}\n"
            "<noscript><p>The charts need JavaScript; all of it is in this file.</p></noscript>\n"
            f'<script type="application/json" id="figures">{_data(self._figures)}</script>\n'
            f"<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )
        _replace(path, document)
        return path


@dataclass(frozen=True)
class Cell:
    """A value of a table; numbers stand right, names unbroken, the best of a column stands out."""

    text: str
    name: bool = False
    number: bool = False
    best: bool = False
    link: str = ""  # relative, already percent-encoded

    def html(self, tag: str = "td") -> str:
        """Return the cell as HTML."""
        kinds = " ".join(name for name in ("name", "number", "best") if getattr(self, name))
        if len(self.text) > LABEL_LENGTH // 2:
            kinds = kinds.replace("name", "")  # long names are broken all the same
        inner = text(self.text)
        if self.link:
            inner = f'<a href="{text(self.link)}">{inner}</a>'
        return f'<{tag} class="{kinds}">{inner}</{tag}>' if kinds else f"<{tag}>{inner}</{tag}>"


@dataclass(frozen=True)
class Table:
    """Rows of cells below their names."""

    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]

    def html(self) -> str:
        """Return the table as HTML; it scrolls on its own where it is too wide."""
        head = "".join(cell.html("th") for cell in self.head)
        rows = "".join(f"<tr>{''.join(cell.html() for cell in row)}</tr>" for row in self.rows)
        return (
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )


def text(words: str) -> str:
    """Return plain text as HTML, for content and for attributes in double quotes."""
    return html.escape(words, quote=True)


def label(words: str) -> str:
    """Return plain text as plotly.js takes it in names and labels, where tags have a meaning.

    A long one is cut: a chart has no room for it, and it stands in the page in full.
    """
    if len(words) > LABEL_LENGTH:
        words = words[: LABEL_LENGTH - 3] + "..."
    return html.escape(words, quote=False)


def _data(value: Any) -> str:
    """Return JSON that can stand inside a script element; NaN and infinity become null."""
    found = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return found.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # also false for NaN
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def _replace(path: Path, document: str) -> None:
    """Write a file beside its place and rename it, so that a half page never stands there."""
    handle, name = tempfile.mkstemp(prefix=".tmp-report-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(document)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
