"""Make pages of figures, and their pictures, from what benchmarks wrote.

    python -m benchmarks.page benchmarks/results/*.json [--into docs]

Documents of benchmarks.loader make docs/performance.md, those of benchmarks.metadata
docs/postgres-figures.md, those of benchmarks.triggers docs/triggers/figures.md, and those of
benchmarks.selection the second half of docs/selection.md, whose first half is left as it is.
Nothing is measured here, and nothing is said that is not in the documents, but for the words on
how it was measured and on what is not claimed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import text_of
from benchmarks.picture import number, pictures
from benchmarks.postgres import words
from benchmarks.section import text_of_cell
from benchmarks.selecting import words as selecting
from benchmarks.triggering import words as triggering

HEAD = """\
# Performance

How fast samples reach a training loop, beside what else there is and what the machine can do.
This page and its pictures are made by `python -m benchmarks.page` from the JSON in
[benchmarks/results](../benchmarks/results); it says what was measured, misses included.
"""

HOW = """\
## How it is measured

* **In turns.** In each repetition every contender does the same work, one after the other in an
  order that rotates; keys are fresh each time. A ratio is taken within a repetition; shown are
  the median and, in brackets, the least and greatest. A bar against a floor is met by the median,
  one against a rival only by every repetition.
* **Floors.** `floor` is plain C for this one record ([floor.c](../benchmarks/floor.c)), over the
  same mapping, with the same keys, into the same number of bytes. It checks nothing.
* **Rivals** are used as their own documentation says is fastest, over the same data, in memory,
  in whole batches, without per-sample Python where they can. Those that keep files of their own
  hold fewer records, which helps them. `pip install --no-deps -r benchmarks/rivals.txt` brings
  them; one that is not there is named and left out.
* **Checked.** The last batch of every contender in every repetition is hashed and compared with
  the truth, which follows from the keys alone.
* **Pages.** "Huge pages": the page cache holds the file in pages of 2 MiB, mapped as such. "4 KiB
  pages": it was read in by small reads. The mapping is printed with each line: what is resident,
  and how much of that by huge pages.
* **Two threads.** `ALU` says how much more arithmetic two threads did than one, in the same
  seconds. On a shared machine the second core comes and goes; where it is well below 2, two
  threads had no two cores.
"""

NOT_CLAIMED = """\
## What is not claimed

* That modyn is faster than memory. For records of fixed size by position, `np.take(memmap, keys,
  out=)` is a C gather already; a rate means something only next to it, with the form of the index
  and the state of the mapping.
* Anything from two threads where there was one core: look at `ALU`.
* That these rates hold on other machines. Ratios carry over better than rates, and neither does
  to other record sizes.
* That a rival is slow at what it is made for. Several read from object stores, decode images or
  shuffle across machines; here they fetch small records of random keys from memory.
* Anything about samples that had to come from disk, or from a network, unless a section says so.
* That a training run gets faster by these ratios: only that it does not wait for data.
"""

ORDER = [*(f"W{number}" for number in range(1, 16)), "train"]


@dataclass(frozen=True)
class Page:
    """What a page says beside its sections."""

    name: str  # of its file, and of the folder of its pictures
    head: str
    how: str
    end: str
    order: Sequence[str]  # of its sections
    # Says from the sections what follows from them.
    chapter: Callable[[dict[str, dict[str, Any]]], str] = lambda sections: ""
    mark: str = ""  # where a page that is there already begins to be made anew


PAGES = {
    "loader": Page("performance", HEAD, HOW, NOT_CLAIMED, ORDER),
    "metadata": Page(
        "postgres-figures", words.HEAD, words.HOW, words.NOT_CLAIMED, words.ORDER, words.chapter
    ),
    "selection": Page(
        "selection",
        selecting.HEAD,
        selecting.HOW,
        selecting.NOT_CLAIMED,
        selecting.ORDER,
        selecting.chapter,
        selecting.MARK,
    ),
    "triggers": Page(
        "triggers/figures",
        triggering.HEAD,
        triggering.HOW,
        triggering.NOT_CLAIMED,
        triggering.ORDER,
        triggering.chapter,
    ),
}


def verdicts(section: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield what was asked for: what, the bar, what was seen, whether it was met."""
    for line in section["lines"]:
        if "missing" in line:
            continue
        own = line["ratio_to_floor"][line["ours"]]
        case = f", {line['case']}" if line["case"] else ""
        if line["ours"] != line["floor"] and line["bar"] > 0:
            what = f"{line['ours']} / {line['floor']}{case}"
            yield what, f"{line['bar']:g}", text_of(own), line["met"]
        for bar in line["bars"]:
            always = " always" if bar["always"] else ""
            yield (
                f"{bar['of']} / {bar['to']}{case}",
                f"{bar['least']:g}{always}",
                text_of(bar["seen"]),
                bar["met"],
            )
    for verdict in section["verdicts"]:
        yield verdict["what"], verdict["bar"], verdict["seen"], verdict["met"]


def table(heads: list[str], rows: list[list[str]]) -> str:
    align = ["---", *["---:"] * (len(heads) - 1)]
    lines = [heads, align, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def line_table(line: dict[str, Any]) -> str:
    """Show one line: rate, ratios, and what else was seen of every contender."""
    rows = []
    work = "samples" if "samples_per_repetition" in line else "keys"
    for name, rate in line["rate"].items():
        share = line["shares"].get(name)
        bold = "**" if line["kinds"].get(name) == "ours" else ""
        rows.append(
            [
                f"{bold}{name}{bold}" + (f" ({share:.3g} of the {work})" if share else ""),
                number(rate),
                text_of(line["ratio_to_floor"][name]),
                text_of(line["ratio_to_floor_by_processor"][name]),
                "" if name == line["ours"] else text_of(line["ours_to"][name]),
            ]
        )
    heads = ["", line["unit"], f"to {line['floor']}", "by processor", f"{line['ours']} to it"]
    return table(heads, rows)


def facts(line: dict[str, Any]) -> str:
    """Say in a sentence how a line was measured."""
    said = [f"{line['repetitions']} repetitions"]
    if "records_per_repetition" in line:
        said[0] += f" of {line['records_per_repetition']:,} records"
    for what in ("samples", "transitions"):
        if f"{what}_per_repetition" in line:
            said[0] += f" of {line[f'{what}_per_repetition']:,} {what}"
    if "mapped_mib" in line:
        mapped = line["mapped_mib"]
        said.append(
            f"mapped {mapped['Rss']:,.0f} MiB, {mapped['FilePmdMapped']:,.0f} of them by huge pages"
        )
    if "alu_two_threads_to_one" in line:
        said.append(f"ALU {text_of(line['alu_two_threads_to_one'])}")
    if line.get("checked"):
        what = line.get("compared", "batches")
        said.append(f"{line['checked']:,} {what} compared with the truth")
    for name, why in line.get("failed", {}).items():
        said.append(f"{name} failed: {why}")
    return "; ".join(said) + "."


def section_text(section: dict[str, Any], names: list[str], folder: str) -> str:
    parts = [f"## {section['id']}: {section['title']}\n", section["about"] + "\n"]
    parts += [f"![{section['title']}]({folder}/{name})\n" for name in names]
    seen = [[w, bar, s, "yes" if met else "**no**"] for w, bar, s, met in verdicts(section)]
    if seen:
        parts.append(table(["asked for", "bar", "seen", "met"], seen))
    for each in section["tables"]:
        rows = [[text_of_cell(cell) for cell in row] for row in each["rows"]]
        parts.append(f"{each['title']}:\n\n" + table(each["heads"], rows))
    for line in section["lines"]:
        if "missing" in line:
            parts.append(f"{line['name']}: not there yet: {line['missing']}\n")
            continue
        head = f"<details><summary>{section['id']}, {line['case'] or line['name']}</summary>\n"
        parts.append(f"{head}\n{line_table(line)}\n{facts(line)}\n\n</details>\n")
    parts += [f"* {words}" for words in (*section["skipped"], *section["notes"])]
    return "\n".join(parts) + "\n"


def summary(sections: list[dict[str, Any]]) -> str:
    """Say per workload how many bars were met."""
    rows = []
    for section in sections:
        met = [verdict[3] for verdict in verdicts(section)]
        link = f"[{section['id']}](#{anchor(section)})"
        rows.append([link, section["title"], f"{sum(met)} of {len(met)}" if met else ""])
    return table(["", "workload", "bars met"], rows).replace("---: | ---:", "--- | ---:", 1)


def anchor(section: dict[str, Any]) -> str:
    words = f"{section['id']}: {section['title']}".lower()
    return "".join(c for c in words if c.isalnum() or c in " -_").replace(" ", "-")


def source(document: dict[str, Any]) -> str:
    """Say where sections come from."""
    ids = ", ".join(section["id"] for section in document["sections"])
    said = f"* {ids}: `{document['command']}`, {document['date']}, on {document['machine']}"
    if "server" in document:
        settings = (f"{name} {value}" for name, value in document["server"].items())
        said += f"; {', '.join(settings)}"
    return said + ("; small and few repetitions (`--quick`)" if document["quick"] else "")


def page(documents: list[dict[str, Any]], into: Path, kind: str = "loader") -> str:
    """Write the pictures; return the page."""
    made = PAGES[kind]
    folder = into / made.name
    folder.mkdir(parents=True, exist_ok=True)
    sections = {s["id"]: s for document in documents for s in document["sections"]}
    ordered = [sections[id] for id in made.order if id in sections]
    parts = [made.head, *map(source, documents), "", summary(ordered)]
    parts += [part for part in (made.chapter(sections), made.how) if part]
    for section in ordered:
        drawn = pictures(section)
        for name, svg in drawn:
            (folder / name).write_text(svg)
        parts.append(section_text(section, [name for name, _ in drawn], made.name))
    return "\n".join([*parts, made.end])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("document", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "docs")
    options = parser.parse_args()
    documents = [json.loads(path.read_text()) for path in sorted(options.document)]
    for kind, made in PAGES.items():
        own = [document for document in documents if document["benchmark"] == kind]
        if own:
            path = options.into / f"{made.name}.md"
            path.write_text(kept(path, made.mark) + page(own, options.into, kind))


def kept(path: Path, mark: str) -> str:
    """Return what of a page stays as it is: all up to the mark and its line, if it has one."""
    if not mark:
        return ""
    text = path.read_text() if path.exists() else ""
    head, found, _ = text.partition(mark)
    return f"{head}{mark}\n\n" if found else ""


if __name__ == "__main__":
    main()
