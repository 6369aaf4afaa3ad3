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
is shared: what the run took of the processor, all threads together, evaluation left out.
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


def chapter(sections: dict[str, dict[str, Any]]) -> str:
    """Say which methods pay, from the gains of S4."""
    if "S4" not in sections:
        return ""
    by_verdict: dict[str, list[str]] = {"pays": [], "even": [], "costs": []}
    for name, verdicts in verdicts_of(sections["S4"]["tables"][0]):
        shares = {v: [share for share, found in verdicts if found == v] for v in by_verdict}
        for verdict, found in shares.items():
            if found:
                said = "" if len(found) == len(verdicts) else f" ({', '.join(found)})"
                by_verdict[verdict].append(f"{name}{said}")
    said = {
        "pays": "More accurate than plain ways of the same cost",
        "even": "No better and no worse than they, as far as can be told",
        "costs": "Less accurate than they: not worth their seconds here",
    }
    lines = [f"* **{said[v]}:** {'; '.join(names) or 'none'}." for v, names in by_verdict.items()]
    return "## What pays for itself\n\n" + "\n".join(lines) + "\n"


def verdicts_of(table: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the verdicts of each method, by share."""
    columns = [(at, head.split(":")[0]) for at, head in enumerate(table["heads"]) if "gain" in head]
    found = []
    for row in table["rows"]:
        verdicts = [(share, row[at].rsplit(", ", 1)[1]) for at, share in columns if row[at]]
        if verdicts:
            found.append((row[0], verdicts))
    return found
