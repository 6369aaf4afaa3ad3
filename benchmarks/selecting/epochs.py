"""S2 and S3, on MNIST: RS2 is ordinary training for fewer epochs; InfoBatch leaves out steps.

Both train one model of a perceptron on all 60,000 digits, with SGD whose rate follows a cosine
over the steps that the training will take.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from benchmarks.section import Section, Table, Verdict
from benchmarks.selecting import cells, ground, streams
from benchmarks.selecting.site import Site
from modyn import Dataset, Pipeline, downsampling, policies
from modyn.pipelines import LrScheduler, Model

RS2, RS2_SEEDS, RS2_EPOCHS = "rs2", 3, 20
SHARES = (50, 25, 10, 5)  # percent of the digits in each epoch
INFOBATCH, INFOBATCH_SEEDS = "infobatch", 3
STREAM = "flights"
ABOUT_RS2 = """\
A perceptron with two hidden layers of 100, SGD with momentum 0.9, batches of 128, a rate of 0.05
that falls along a cosine over the steps of the training. RS2 draws a share of the digits anew for
each of {epochs} epochs; ordinary training goes through all of them as many times as makes the
same number of steps. Without replacement every digit comes once before any comes twice, so the
two should agree within the noise of the seed."""
ABOUT_INFOBATCH = """\
InfoBatch leaves out half of the samples whose last loss is below the mean and doubles the weight of
the other half, in all but the last eighth of the epochs. On MNIST as for RS2; on the stream
`{stream}` as for all methods. Both are trained for {epochs} epochs: the first of each training
leaves out nothing, and with four there is little to save. (With 16, the first number that was
tried, `flights` saved 29.9 % of the steps.)"""


def on_digits(site: Site, epochs: int, seed: int, downsampler: Any = None) -> Pipeline:
    """Return a pipeline that trains once, on all digits."""
    digits = site.mnist("train")
    more: dict[str, Any] = {} if downsampler is None else {"downsampling": downsampler}
    return Pipeline(
        dataset=digits,
        model=Model(
            id="MLP", config={"num_features": 784, "num_classes": 10, "hidden": [100, 100]}
        ),
        trigger=policies.DataAmountTrigger(num_samples=len(digits)),
        selection=policies.NewData(),
        training=ground.training(
            128,
            epochs,
            optimizers=ground.optimizer("SGD", lr=0.05, momentum=0.9),
            lr_scheduler=LrScheduler(
                name="CosineAnnealingLR",
                step_every="batch",
                config={"T_max": "MODYN_NUM_BATCHES"},
            ),
        ),
        evaluation=ground.on_test(site.mnist("t10k")),
        seed=seed,
        **more,
    )


def cell(
    site: Site, workload: str, method: str, ratio: str, seed: int, pipeline: Pipeline
) -> cells.Result:
    name = cells.Name(workload, "mnist", method, ratio, seed)
    return site.cell(name, pipeline, ground.last_accuracy)


Found = dict[tuple[str, int], list[cells.Result]]


def run_rs2(site: Site, seed: int) -> Found:
    """Return the results of a seed, by name and share."""
    found: Found = {}
    for share in (100, *SHARES):
        ways = {"ordinary": on_digits(site, RS2_EPOCHS * share // 100, seed)}
        for replacement, name in ((False, "RS2"), (True, "RS2 with replacement")):
            if share < 100:
                sampler = downsampling.RS2(ratio=share, with_replacement=replacement)
                ways[name] = on_digits(site, RS2_EPOCHS, seed, sampler)
        for name, pipeline in ways.items():
            found[(name, share)] = [cell(site, RS2, name, f"{share} %", seed, pipeline)]
    return found


def rs2(site: Site) -> Section:
    """Return RS2 beside ordinary training of as many steps."""
    results: Found = {}
    seeds, skipped = [], []
    for seed in site.seeds(RS2_SEEDS):
        try:
            for key, found in run_rs2(site, seed).items():
                results.setdefault(key, []).extend(found)
            seeds.append(seed)
        except streams.NotThereError as error:
            skipped.append(str(error))
    rows, verdicts = [], []
    for share in (100, *SHARES):
        epochs = RS2_EPOCHS * share // 100
        row = [f"{share} % x {RS2_EPOCHS} epochs, or {epochs} epochs"]
        for name in ("ordinary", "RS2", "RS2 with replacement"):
            found = results.get((name, share), [])
            row.append(spread([result.value for result in found]) if found else "")
        row.append(f"{results[('ordinary', share)][0].steps:,}")
        if share < 100:
            row[-1] += f", {results[('RS2', share)][0].steps:,}"
            verdicts.append(agreement(share, results))
        rows.append(row)
    heads = ["", "ordinary", "RS2", "RS2 with replacement", "steps: ordinary, RS2"]
    return Section(
        id="S2",
        title="RS2 is ordinary training for fewer epochs",
        about=ABOUT_RS2.format(epochs=RS2_EPOCHS),
        tables=[Table(f"MNIST, percent right, {len(seeds)} seeds", heads, rows)],
        verdicts=verdicts,
        skipped=skipped,
    )


def agreement(share: int, results: Found) -> Verdict:
    """Hold RS2 against ordinary training: means as near as chance has them."""
    ours = [result.value for result in results[("RS2", share)]]
    theirs = [result.value for result in results[("ordinary", share)]]
    error = math.sqrt(
        statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)
    )
    difference = statistics.mean(ours) - statistics.mean(theirs)
    return Verdict(
        what=f"RS2 without replacement at {share} %, less ordinary training",
        bar="0 within 3 standard errors",
        seen=f"{difference:+.2f} ± {error:.2f}",
        met=abs(difference) <= 3 * error,
    )


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def infobatch(site: Site) -> Section:
    """Return how many steps InfoBatch saves, and what it costs."""
    pairs: dict[str, list[tuple[cells.Result, cells.Result]]] = {}
    skipped = []
    for seed in site.seeds(INFOBATCH_SEEDS):
        try:
            pairs.setdefault("MNIST", []).append(on_mnist(site, seed))
            pairs.setdefault(STREAM, []).append(on_stream(site, seed))
        except streams.NotThereError as error:
            skipped.append(str(error))
    rows, verdicts = [], []
    for name, found in pairs.items():
        if found:
            rows.append(saving_row(name, found))
            verdicts += saving(name, found)
    heads = ["", "all data", "InfoBatch", "steps saved", "processor seconds saved"]
    return Section(
        id="S3",
        title="InfoBatch leaves out steps",
        about=ABOUT_INFOBATCH.format(epochs=RS2_EPOCHS, stream=STREAM),
        tables=[Table("Percent right, and what is saved", heads, rows)],
        verdicts=verdicts,
        skipped=sorted(set(skipped)),
    )


def on_mnist(site: Site, seed: int) -> tuple[cells.Result, cells.Result]:
    full = cell(site, RS2, "ordinary", "100 %", seed, on_digits(site, RS2_EPOCHS, seed))
    pruned = on_digits(site, RS2_EPOCHS, seed, downsampling.InfoBatch())
    return full, cell(site, INFOBATCH, "InfoBatch", "", seed, pruned)


def on_stream(site: Site, seed: int) -> tuple[cells.Result, cells.Result]:
    dataset: Dataset = site.stream(STREAM)
    found = []
    for method, sampler in (("all data", None), ("InfoBatch", downsampling.InfoBatch())):
        given: dict[str, Any] = {"selection": policies.NewData(tail_triggers=None)}
        given |= {} if sampler is None else {"downsampling": sampler}
        name = cells.Name(INFOBATCH, STREAM, method, "", seed)
        pipeline = ground.over_parts(
            streams.STREAMS[STREAM], dataset, seed, given, epochs=RS2_EPOCHS
        )
        found.append(site.cell(name, pipeline, ground.composite))
    return found[0], found[1]


def steps_saved(found: list[tuple[cells.Result, cells.Result]]) -> float:
    return 1 - sum(less.steps for _, less in found) / sum(full.steps for full, _ in found)


def saving_row(name: str, found: list[tuple[cells.Result, cells.Result]]) -> list[Any]:
    seconds = 1 - statistics.median(less.busy / full.busy for full, less in found)
    return [
        f"{name}, {len(found)} seeds",
        spread([full.value for full, _ in found]),
        spread([less.value for _, less in found]),
        f"{100 * steps_saved(found):.1f} %",
        f"{100 * seconds:.1f} %",
    ]


def saving(name: str, found: list[tuple[cells.Result, cells.Result]]) -> list[Verdict]:
    lost = statistics.mean(full.value - less.value for full, less in found)
    saved = 100 * steps_saved(found)
    return [
        Verdict(f"{name}: steps saved", "30 %", f"{saved:.1f} %", saved >= 30),
        Verdict(f"{name}: points lost", "at most 0.3", f"{lost:+.2f}", lost <= 0.3),
    ]
