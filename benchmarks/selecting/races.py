"""S4: all methods at three shares of the data on real streams, beside uniform and all data."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.section import Section
from benchmarks.selecting import cells, ground, streams
from benchmarks.selecting.comparing import SEEDS, WORKLOAD, Comparison, name_of
from benchmarks.selecting.methods import METHODS, PARTS, Method
from benchmarks.selecting.site import Site

ABOUT = """\
Each stream is cut into {parts} equal parts. After each but the last a fresh model (a perceptron
with one hidden layer of {width}, Adam, {epochs} epochs, batches of {batch}) is trained on what the
method keeps of all samples so far, and measured on the next part: that is the composite model.
Buffers hold the share of half of the stream, which is what the others keep on average; "fewer
epochs" trains on all data for the share of the epochs. Seconds are processor seconds of a whole run
without its evaluation; methods take turns, a round for each seed (GraNd, the dearest, has one)."""
EVEN = """\
*At equal steps* is percent right less that of a uniform draw of the same share with the same seed:
what a method's choice is worth, were it free. *At equal passes* and *at equal seconds* is percent
right less what the plain ways (all data, all data for fewer epochs, uniform) get on the same stream
for the same price; between their points a line is drawn over the logarithm of the price. Passes are
three for a sample that is trained on and one for a sample that is scored, which is the price where
the model is large; what choosing itself costs, and the holdout's model of RHO-LOSS, are in the
seconds alone. Plus or minus is the standard error over streams and seeds; *better* is more than two
of them above 0, *worse* as far below, *even* what is between."""


def chosen(site: Site, seed: int) -> Iterator[tuple[Method, int]]:
    """Yield what is to be run on each stream."""
    for method in METHODS:
        if (
            method.there
            and seed < method.seeds
            and (not site.methods or method.name in site.methods)
        ):
            for share in method.shares:
                yield method, share


def names(site: Site) -> list[str]:
    return [name for name in streams.STREAMS if not site.only or name in site.only]


def run(site: Site) -> list[str]:
    """Run the cells that are not kept; return what could not be run, and why."""
    skipped: dict[str, str] = {}
    if site.no_new:
        return []
    for seed in site.seeds(SEEDS):
        for name in names(site):
            try:
                dataset = site.stream(name)
            except streams.NotThereError as error:
                skipped[name] = f"{name} is left out: {error}"
                continue
            for method, share in chosen(site, seed):
                cell = cells.Name(WORKLOAD, name, method.name, name_of(share), seed)
                if cell in site.kept or method.name in skipped:
                    continue
                given = method.make(share, len(dataset) // PARTS)
                pipeline = ground.over_parts(streams.STREAMS[name], dataset, seed, given)
                site.warm_up(pipeline, ground.composite)
                try:
                    site.cell(cell, pipeline, ground.composite)
                except (NotImplementedError, ValueError, TypeError) as error:
                    skipped[method.name] = f"{method.name} is left out: {error}"
    return list(skipped.values())


def measure(site: Site) -> Section:
    """Return what is to be said of all methods on all streams."""
    skipped = run(site)
    missing = [method.name for method in METHODS if not method.there]
    if missing:
        skipped.append(f"not in this version: {', '.join(missing)}")
    found = Comparison(site.kept, site.seeds(SEEDS), names(site))
    return Section(
        id="S4",
        title="All methods on real streams",
        about=ABOUT.format(
            parts=PARTS, width=ground.WIDTH, epochs=ground.EPOCHS, batch=ground.BATCH
        ),
        tables=[found.summary(), found.gains(), *found.tables()],
        dots=found.dots(),
        skipped=skipped,
        notes=[EVEN],
    )
