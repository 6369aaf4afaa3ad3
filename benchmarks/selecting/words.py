"""What the page of benchmarks.selection says beside its sections."""

from __future__ import annotations

from typing import Any

MARK = "<!-- What follows is made by `python -m benchmarks.page` from benchmarks/results. -->"
ORDER = ["S1", "S2", "S3", "S4"]
HEAD = """\
# What was measured

Published figures run again, and all methods beside plain ways of the same cost, misses included.
`python -m benchmarks.page` makes this half of the page and its pictures from the JSON in
[benchmarks/results](../benchmarks/results).
"""
HOW = """\
**How it is measured.** Everything runs through `Pipeline.replay`, as a user would run it, in one
process with one thread of torch and one of the loader. Plus or minus is the standard deviation over
seeds. Accuracies follow from code and seed alone. Seconds are processor seconds, since the machine
is shared: what the run took of the processor, all threads together, evaluation left out. For these
figures streams were run side by side and the machine was busy otherwise, so take seconds as good to
a third or so. The greedy methods were run later, on a calmer machine: theirs are too low beside the
others'. Not every method has all twelve runs (four streams, three seeds): `runs` says how many.
"""
NOT_CLAIMED = """\
## What is not claimed

* That any of this holds for large networks. Perceptrons on a processor learn in seconds; a method
  whose scores cost as much as they do here may pay where a backward pass costs more.
* Published figures of ResNets on CIFAR-10, CIFAR-100 and ImageNet (GDumb, RS2, InfoBatch, CRAIG,
  GradMatch, k-center, EL2N, GraNd, forgetting), of Clothing-1M (RHO-LOSS), and of Yearbook and
  CGLM: each needs hours to days of a GPU. What was run instead: GDumb's three figures on MNIST,
  with the authors' recipe; the property behind RS2 and the saving of InfoBatch, on MNIST and a
  stream; and all methods on small real streams.
* That a method is bad because it costs more here than it gains. Four epochs of a small model are
  hard on methods that need a history (forgetting, InfoBatch), and scores of a model that has
  just begun are noise.
"""


SAID = {
    "at equal steps": {
        "better": "More accurate than a uniform draw of as many samples",
        "worse": "Less accurate than that",
    },
    "at equal passes": {
        "better": "More accurate than plain ways of as many forward and backward passes",
        "worse": "Less accurate than those",
    },
    "at equal seconds": {
        "better": "More accurate than plain ways of the same seconds",
        "even": "Neither more nor less, as far as can be told",
        "worse": "Less accurate than those",
    },
}


def chapter(sections: dict[str, dict[str, Any]]) -> str:
    """Say which methods pay, from the gains of S4."""
    if "S4" not in sections:
        return ""
    table = sections["S4"]["tables"][1]
    lines = []
    for way, said in SAID.items():
        lines.append(f"**{way.capitalize()}**\n")
        for verdict, words in said.items():
            names = "; ".join(names_of(table, way, verdict)) or "none"
            lines.append(f"* {words}: {names}.")
        lines.append("")
    return "## What pays for itself\n\n" + "\n".join(lines)


def names_of(table: dict[str, Any], way: str, verdict: str) -> list[str]:
    """Return the methods of which that was seen, and at which shares where not at all."""
    columns = [(at, head.split(":")[0]) for at, head in enumerate(table["heads"]) if way in head]
    found = []
    for name, *cells in table["rows"]:
        known = [(share, cells[at - 1]) for at, share in columns if cells[at - 1]]
        shares = [share for share, cell in known if cell.endswith(verdict)]
        if shares:
            found.append(name if len(shares) == len(known) else f"{name} ({', '.join(shares)})")
    return found
