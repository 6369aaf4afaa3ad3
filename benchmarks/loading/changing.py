"""W11: fetching while a dataset changes: samples erased, a writer beside."""

from __future__ import annotations

from benchmarks.fetching import appending_line, erased_line
from benchmarks.loading.site import Site
from benchmarks.measure import Bar
from benchmarks.section import Section

ABOUT = """\
Views of one handle from before and after erasing 1, 10 and 50 percent of the samples fetch the
same keys, of samples that are still there. Then one view is fetched from alone, beside a
process that writes the same bytes to files, and beside one that appends them to the dataset:
batches of 65,536 records without a pause. What is lost beside a writer is lost to the shared
memory and disk; the bar is for what is lost beyond."""


def measure(site: Site) -> Section:
    section = Section("W11", "Fetching while the dataset changes", " ".join(ABOUT.split()))
    erased = erased_line(site.settings)
    erased.case = "samples erased"
    erased.bars = [Bar(f"{share} erased", "none erased", 0.95) for share in ("10%", "50%")]
    appending = appending_line(site.settings)
    appending.case = "a process that appends"
    for line in (erased, appending):
        line.kinds = dict.fromkeys(line.wall, "ours") | {line.floor: "floor"}
    section.lines = [erased, appending]
    return section
