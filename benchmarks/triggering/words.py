"""What docs/triggers/figures.md says beside the figures."""

from __future__ import annotations

from typing import Any

HEAD = """\
# Triggers: figures

What each family of [triggers](index.md) gets on real streams for how many trainings, how soon it
sees drifts that were planted, and what late labels cost. This page is made by
`python -m benchmarks.page` from the JSON of `python -m benchmarks.triggers`
([benchmarks/results](../../benchmarks/results)); it says what was measured, misses included.
"""

HOW = """\
## How it is measured

* **Runs, not estimates.** Each row is a replay of a pipeline with the policy as it stands in
  `modyn.policies`.
* **Equal trainings.** Every training begins afresh and takes equally many of the newest samples,
  so their number is the cost; policies differ in where they put them.
* **Beyond a schedule of as many trainings**: points beyond the best fixed schedule by amount or
  time with as many trainings or fewer, on the line between neighbours over the logarithm of their
  number, seed by seed.
* **Seeds.** Initial weights, order of batches, and what a policy draws. Verdicts are of means; "in
  2 of 3 seeds" says in how many the same policy is within 0.3 points of the best schedule of that
  seed, with fewer trainings than any schedule that is. "Triggers that other seeds share": the share
  of triggers for which another seed has one at most an interval away.
* **Seconds** are not shown: on this machine other work came and went. A training here takes about
  0.04 s of a core for 1,000 samples; a look at 250 to 1,500 samples a few hundredths.
"""

NOT_CLAIMED = """\
## What is not claimed

* That the best of many settings would have been chosen beforehand: both schedules and families are
  shown with all that were tried, and the verdicts take the best of each in hindsight.
* Anything beyond these streams, this small network, and training sets of fixed size.
* That a difference within the spread of three seeds is one.
"""

ORDER = ["T1", "T2", "T3"]
STREAMS = ("insects", "cve", "elec2", "weather", "flights")


def chapter(sections: dict[str, dict[str, Any]]) -> str:
    """Show the race of each stream."""
    if "T1" not in sections:
        return ""
    links = [
        f"![Percent right over trainings, {name}](figures/race-{name}.svg)" for name in STREAMS
    ]
    return "## The races\n\n" + "\n\n".join(links) + "\n"
