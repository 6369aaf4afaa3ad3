"""W13: selections of a dataset, in order and shuffled; weights; drawing what to select."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import modyn
import modyn.sampling
from benchmarks.loading import ways
from benchmarks.loading.data import SCHEMA, Fields, Keys
from benchmarks.loading.ground import Ground
from benchmarks.loading.race import Race, Way
from benchmarks.loading.site import Site
from benchmarks.measure import Bar, Outcome, in_turns, spread
from benchmarks.section import Section, Table
from modyn.trainset import TrainingSet

ABOUT = """\
A selection of 100, 50 or 10 percent of a stretch of the dataset, drawn anew in each repetition,
is fetched front to back, in batches of 65,536; one of 10 percent also shuffled, from a training
set on disk, with a weight that travels with each sample. Then 65,536 of all samples are drawn:
uniformly, without repeats, and in proportion to weights."""

SHARES = (1.0, 0.5, 0.1)
DRAWN = 1 << 16


def selection(records: int, count: int, share: float) -> Callable[[int], Keys]:
    """Return what draws ascending keys, this share of a stretch that begins somewhere."""

    def keys(repetition: int) -> Keys:
        random = np.random.default_rng((13, round(100 * share), repetition + 1))
        stretch = min(records, int(count / share))
        first = int(random.integers(records - stretch + 1))
        chosen = random.permutation(stretch)[: min(count, stretch)] if share < 1 else stretch
        chosen = np.sort(chosen) if share < 1 else np.arange(stretch)
        return (chosen + first).astype(np.uint64)

    return keys


def weighted_loader(ground: Ground, folder: str) -> Way:
    """A Loader over a training set with weights, shuffled, which takes weights as well."""
    kept: list[Any] = []

    def prepare(keys: Keys) -> None:
        chosen = TrainingSet.write(folder, np.sort(keys), np.sqrt(np.sort(keys)))
        kept[:] = [
            modyn.Loader(
                ground.dataset, chosen, batch_size=ground.batch, shuffle="global", threads=1
            )
        ]
        for _, batch in zip(range(12), kept[0], strict=False):
            del batch
        kept[0].set_epoch(1)

    def run(keys: Keys) -> tuple[Keys, Fields]:
        for batch in kept[0]:
            tensors = [batch[name] for name in SCHEMA]
            weights = batch.weights
        got = batch.numpy("keys")
        assert np.array_equal(weights.numpy(), np.sqrt(got)), "not the weights of these samples"
        return got, {name: t.numpy() for name, t in zip(SCHEMA, tensors, strict=True)}

    return Way(run, prepare, kind="ours", close=kept.clear)


def fetch_lines(site: Site, ground: Ground) -> list[Outcome]:
    lines = []
    count = site.size(1 << 21, 1 << 18)
    for share in SHARES:
        line = Outcome("W13", 0.8, "floor", "modyn Loader", case=f"{share:.0%} in order")
        line.bars = [Bar("modyn fetch", "floor", 0.8)]
        everybody = {
            "floor": ways.floor(ground),
            "modyn fetch": ways.fetch(ground),
            "modyn Loader": ways.loader(ground),
            "np.take(out=)": ways.take(ground),
            "index_select(out=)": ways.torch_select(ground),
        }
        race = Race(line, ground.floor, selection(ground.records, count, share), ground.batch)
        lines.append(race.run(everybody, site.repetitions))
    return lines


def shuffled_line(site: Site, ground: Ground) -> Outcome:
    line = Outcome("W13", 0.8, "floor", "modyn Loader, weighted", case="10% shuffled, with weights")
    random = np.random.default_rng(99)

    def mixed(way: Way) -> Way:
        """Give a way that fetches what it is given the keys in an order drawn before."""

        def prepare(keys: Keys) -> None:
            order[:] = [keys[random.permutation(len(keys))]]

        order: list[Keys] = []
        return Way(lambda keys: way.run(order[0]), prepare, kind=way.kind)

    with tempfile.TemporaryDirectory(dir=site.folder) as folder:
        everybody = {
            "floor": mixed(ways.floor(ground)),
            "modyn fetch": mixed(ways.fetch(ground)),
            "modyn Loader": ways.loader(ground, shuffle=True),
            "modyn Loader, weighted": weighted_loader(ground, folder),
            "np.take(out=)": mixed(ways.take(ground)),
            "index_select(out=)": mixed(ways.torch_select(ground)),
        }
        keys = selection(ground.records, site.size(1 << 21, 1 << 18), 0.1)
        race = Race(line, ground.floor, keys, ground.batch)
        return race.run(everybody, site.repetitions)


def measure(site: Site) -> Section:
    section = Section("W13", "Selections and weights", " ".join(ABOUT.split()))
    ground = Ground(site.dataset, 1 << 16)
    section.lines = [*fetch_lines(site, ground), shuffled_line(site, ground)]
    for line in section.lines:
        line.facts["mapped_mib"] = ground.mapped()
    section.lines.append(uniform_line(site, ground))
    section.tables.append(weighted_draws(site, ground.records))
    section.notes.append(
        "Drawing in proportion to weights: modyn.sampling has none yet (a Loader takes and "
        "delivers weights, and leaves drawing to whoever made them)."
    )
    ground.close()
    return section


def timed(draw: Callable[[int], Any], records: int) -> Callable[[int], tuple[float, float]]:
    def run(repetition: int) -> tuple[float, float]:
        wall, busy = time.perf_counter(), time.process_time()
        keys = np.asarray(draw(repetition + 1))
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        assert len(keys) == DRAWN
        assert len(np.unique(keys)) == DRAWN
        assert int(keys.max()) < records
        return wall, busy

    return run


def uniform_line(site: Site, ground: Ground) -> Outcome:
    """Draw without repeats."""
    import torch

    records, view = ground.records, ground.dataset.view
    line = Outcome("W13", 5.0, "torch.randperm", "modyn uniform")
    line.case = f"drawing {DRAWN:,} of {records:,}, uniform"

    def uniform(seed: int) -> Any:
        candidates = modyn.sampling.Candidates.from_dataset(view, first=0, last=records)
        return modyn.sampling.uniform(candidates, DRAWN, seed=seed)

    def choice(seed: int) -> Any:
        return np.random.default_rng(seed).choice(records, DRAWN, replace=False, shuffle=False)

    def permutation(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(records, generator=generator)[:DRAWN]

    ways_to = {"torch.randperm": permutation, "modyn uniform": uniform, "numpy choice": choice}
    in_turns(line, {n: timed(w, records) for n, w in ways_to.items()}, min(5, site.repetitions))
    line.work, line.unit = records / 1e6, "M candidates"
    line.kinds = {name: "ours" if name.startswith("modyn") else "rival" for name in ways_to}
    return line


def weighted_draws(site: Site, records: int) -> Table:
    """Time what there is for drawing by weights; torch refuses more than 2**24 of them."""
    import torch
    from torch.utils.data import WeightedRandomSampler

    weights = np.random.default_rng(5).random(records)
    share = weights / weights.sum()
    few = torch.from_numpy(weights[: (1 << 24) - 1])
    drawers: dict[str, tuple[int, Callable[[], Any]]] = {
        "numpy Generator.choice(p=)": (
            records,
            lambda: np.random.default_rng(1).choice(records, DRAWN, p=share),
        ),
        "torch WeightedRandomSampler": (
            len(few),
            lambda: list(WeightedRandomSampler(few, DRAWN)),  # type: ignore[arg-type]
        ),
    }
    rows: list[list[Any]] = []
    for name, (of, draw) in drawers.items():
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            draw()
            seconds.append(1e3 * (time.perf_counter() - started))
        rows.append([name, of, spread(seconds)["median"]])
    rows.append(["modyn", records, "not there yet"])
    return Table(f"Drawing {DRAWN:,} by weights, with repeats", ["way", "of", "ms"], rows)
