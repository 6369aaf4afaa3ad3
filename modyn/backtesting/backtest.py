"""`modyn.backtest`: trigger policies held against what runs recorded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modyn.backtesting.cost import Cost
from modyn.backtesting.crowds import kind, walked
from modyn.backtesting.families import FAMILIES
from modyn.backtesting.matrix import Matrix, Windows
from modyn.backtesting.missing import Trainer, complete, folder_of, recall
from modyn.backtesting.oracle import frontier, oracle, together
from modyn.backtesting.play import Player
from modyn.backtesting.result import Backtest, Bound, Entry
from modyn.backtesting.scoring import Schedule, Scorer, WithoutModel, compared
from modyn.backtesting.source import Asked, answers_of, but_for_trigger, pipeline_of
from modyn.backtesting.tape import Tape
from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.pipelines.pipeline import Pipeline
from modyn.pipelines.progress import Progress
from modyn.policies import Trigger

if TYPE_CHECKING:
    from modyn.pipelines.run import Run

__all__ = ["Bench", "backtest", "named", "recordings"]

Policies = Mapping[str, Trigger] | Sequence[Trigger]


def backtest(
    runs: "Run | Sequence[Run]",
    policies: Policies,
    *,
    dataset: Dataset | None = None,
    datasets: str | Path = "datasets",
    metric: str = "Accuracy",
    cost: Cost | None = None,
    without_model: WithoutModel = "first",
    train_missing: str | Path | None = None,
    most: int | None = None,
    pipeline: Pipeline | None = None,
    allow: Collection[str] = (),
    progress: Progress | None = None,
) -> Backtest:
    """Return what trigger policies would have come to in place of the one that runs had.

    Each is played over the stream, its trainings are looked up among those that were recorded,
    and its composite model (currently active) is read off their scores.  That is exact where all
    its trainings were recorded; elsewhere the nearest earlier model stands in, and the outcome is
    an estimate and says so.

    Parameters
    ----------
    runs : Run or sequence of Run
        Recordings of one pipeline: every model measured on windows that do not depend on the
        triggers (`models: matrix`).  Runs of the same seeds (of pipeline and training) are taken
        together, and each further pair gives another value to the bands.
    policies : mapping or sequence of Trigger
        By name; without names, they are called what they are.
    dataset : Dataset, optional
        The stream of the runs.
    datasets : path
        Where it lies under its id, if it is not given.
    metric : str
        What to compare by, as reported.
    cost : Cost, optional
        What to count; seconds of training if None.
    without_model : {"first", "zero"}
        What a window counts in which a policy has no model yet: as with the first recorded model,
        whose training is added to its cost, so that policies differ in how they go on from there;
        or 0.
    train_missing : path, optional
        Do the trainings that estimates lack, as runs in this folder, until all policies are
        exact; those that may still be on the front come first. Without it nothing is trained,
        but what an earlier backtest left there is taken in.
    most : int, optional
        Begin no further round once so many trainings were done; with 0, none is done.
    pipeline : Pipeline, optional
        The pipeline of the runs, whatever its trigger and seeds, where their file cannot say what
        it was: a model that is a function, a selection of one's own.
    allow : collection of str
        Modules from which `model.id` may name a function.
    progress : Progress, optional
        Who is told how trainings go.

    Returns
    -------
    Backtest
        `.front`, `.best(budget)`, `.table`, `.oracle`.

    Raises
    ------
    ConfigError
        When the runs cannot be compared, were not measured for this, or the dataset is another.
    ValueError
        When no policies are given, or two have one name.
    """
    dataset, matrices = recordings(runs, dataset=dataset, datasets=datasets, metric=metric)
    bench = Bench(
        matrices=matrices,
        dataset=dataset,
        policies=named(policies),
        cost=cost or Cost(),
        without_model=without_model,
        pipeline=pipeline,
        allow=allow,
    )
    if train_missing is None:
        return bench.judge()
    return bench.complete(Path(train_missing), most=most, progress=progress)


def recordings(
    runs: "Run | Sequence[Run]",
    *,
    dataset: Dataset | None = None,
    datasets: str | Path = "datasets",
    metric: str = "Accuracy",
) -> tuple[Dataset, list[Matrix]]:
    """Return the dataset of runs, and what they recorded, one matrix per seed; see `backtest`."""
    runs = list(runs) if isinstance(runs, Sequence) else [runs]
    if not runs:
        raise ValueError("no runs to go by")
    if dataset is None:
        dataset = _opened(runs[0], Path(datasets))
    tape, windows = Tape.of(runs[0], dataset), Windows.of(runs[0])
    found: dict[tuple[int, int], Matrix] = {}
    for run in runs:
        _check_like(runs[0], run, windows)
        config = run.identity["config"]
        seeds = int(config["training"]["seed"]), int(config["pipeline"]["seed"])
        if seeds in found:
            found[seeds].add(run)
        else:
            found[seeds] = Matrix.of(run, tape, windows, run.metric_name(metric))
    return dataset, [found[seeds] for seeds in sorted(found)]


@dataclass(kw_only=True)
class Bench:
    """Policies on recordings.

    Parameters
    ----------
    matrices : sequence of Matrix
        One per seed.
    dataset : Dataset
        Their stream.
    policies : mapping of str to Trigger
    cost : Cost
    without_model, pipeline, allow
        As of `backtest`.
    """

    matrices: Sequence[Matrix]
    dataset: Dataset
    policies: Mapping[str, Trigger]
    cost: Cost
    without_model: WithoutModel = "first"
    pipeline: Pipeline | None = None
    allow: Collection[str] = ()

    def judge(self) -> Backtest:
        """Return what the policies come to, by what is recorded now."""
        chosen = compared(self.matrices)
        scorers = self.scorers()
        schedules = [_schedules(player, self.policies) for player in self.players]
        entries = [
            Entry(
                name=name,
                trigger=policy,
                outcomes=[
                    scorer.score(found[name])
                    for scorer, found in zip(scorers, schedules, strict=True)
                ],
            )
            for name, policy in self.policies.items()
        ]
        return Backtest(
            entries=entries,
            metric=self.matrices[0].metric,
            cost=self.cost,
            seeds=len(self.matrices),
            without_model=self.without_model,
            compared=int(chosen.sum()),
            windows=len(chosen),
            oracle=_bound(scorers),
        )

    def complete(
        self, out: Path, *, most: int | None = None, progress: Progress | None = None
    ) -> Backtest:
        """Train what is missing, in this folder, and return what the policies come to then."""
        trainers = []
        for matrix, pipeline in zip(self.matrices, self._pipelines, strict=True):
            folder = folder_of(out, pipeline, matrix)
            recall(matrix, folder)
            trainers.append(
                Trainer(matrix=matrix, pipeline=pipeline, folder=folder, progress=progress)
            )
        return complete(trainers, self.judge, self.scorers, most=most)

    def scorers(self) -> list[Scorer]:
        """Return what scores on each recording."""
        chosen = compared(self.matrices)
        return [Scorer(matrix, chosen, self.cost, self.without_model) for matrix in self.matrices]

    @cached_property
    def _pipelines(self) -> list[Pipeline]:
        return [
            pipeline_of(matrix.run, self.dataset, pipeline=self.pipeline, allow=self.allow)
            for matrix in self.matrices
        ]

    @cached_property
    def players(self) -> list[Player]:
        def asked(i: int) -> Asked:
            return Asked(lambda: answers_of(self.matrices[i], self._pipelines[i]))

        return [Player(matrix, asked(i)) for i, matrix in enumerate(self.matrices)]


def named(policies: Policies) -> dict[str, Trigger]:
    """Return policies by name."""
    if isinstance(policies, Mapping):
        found = dict(policies)
    else:
        found = {}
        for policy in policies:
            name = repr(policy)
            if name in found:
                raise ValueError(f"two policies are {name}")
            found[name] = policy
    if not found:
        raise ValueError("no policies to try")
    for name, policy in found.items():
        if not isinstance(policy, Trigger):
            raise TypeError(f"policy {name!r} is no Trigger: {policy!r:.80}")
    return found


def _schedules(player: Player, policies: Mapping[str, Trigger]) -> dict[str, Schedule]:
    """Return where each policy fires on one recording."""
    found: dict[str, Schedule] = {}
    crowds: dict[object, list[str]] = {}
    for name, policy in policies.items():
        family = FAMILIES.get(type(policy))
        crowd = None if family is not None else kind(policy, player)
        if family is not None:
            places = family(policy, player.matrix.tape)[: player.most]
            found[name] = Schedule(places=places, certain=len(places))
        elif crowd is not None:
            crowds.setdefault(crowd, []).append(name)
        else:
            found[name] = player.play(policy)
    for names in crowds.values():
        schedules = walked([policies[name] for name in names], player)
        found |= dict(zip(names, schedules, strict=True))
    return found


def _bound(scorers: Sequence[Scorer]) -> Bound:
    """Return the upper bound, in the mean over the seeds."""
    most = min(len(scorer.matrix.table) for scorer in scorers)
    scores, corners = [], []
    for scorer in scorers:
        values, start = scorer.values, scorer.starts
        scores.append(oracle(values, start, scorer.weight, most).score)
        corners.append(frontier(values, start, scorer.weight, scorer.price))
    costs, means = together(corners)
    return Bound(
        trainings=np.arange(1, most + 1),
        score=np.mean(scores, axis=0),
        costs=costs,
        scores=means,
    )


def _opened(run: "Run", datasets: Path) -> Dataset:
    name = str(run.config["data"]["dataset_id"])
    try:
        return Dataset.open(datasets / name)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no dataset {name!r} in {datasets}: name its folder (datasets=..., "
            "--datasets), or give it (dataset=...)"
        ) from None


def _check_like(first: "Run", run: "Run", windows: Windows) -> None:
    """Refuse runs that differ in more than trigger and seed."""
    ours, theirs = (
        {"dataset": one.identity["dataset"], **but_for_trigger(one.identity["config"])}
        for one in (first, run)
    )
    for name in ours:
        if ours[name] != theirs[name]:
            raise ConfigError(
                f"{run.path} and {first.path} are runs of pipelines that differ in {name}: a "
                "backtest compares runs that differ in trigger and seed only"
            )
    if not Windows.of(run).same(windows):
        raise ConfigError(f"{run.path} and {first.path} were measured on different windows or data")
