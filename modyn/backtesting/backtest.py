"""`modyn.backtest`: trigger policies held against what runs recorded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modyn.backtesting.cost import Cost
from modyn.backtesting.families import FAMILIES
from modyn.backtesting.matrix import Matrix, Windows
from modyn.backtesting.oracle import frontier, oracle
from modyn.backtesting.play import Player
from modyn.backtesting.result import Backtest, Bound, Entry
from modyn.backtesting.scoring import Schedule, Scorer, compared
from modyn.backtesting.tape import Tape
from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.policies import Trigger

if TYPE_CHECKING:
    from modyn.pipelines.run import Run

__all__ = ["backtest", "named"]

Policies = Mapping[str, Trigger] | Sequence[Trigger]


def backtest(
    runs: "Run | Sequence[Run]",
    policies: Policies,
    *,
    dataset: Dataset | None = None,
    datasets: str | Path = "datasets",
    metric: str = "Accuracy",
    cost: Cost | None = None,
) -> Backtest:
    """Return what trigger policies would have come to in place of the one that runs had.

    Each is played over the stream, its trainings are looked up among those that were recorded,
    and its composite model (currently active) is read off their scores.  That is exact where all
    its trainings were recorded; elsewhere the nearest earlier model stands in, and the outcome is
    an estimate and says so.  Nothing is trained.

    Parameters
    ----------
    runs : Run or sequence of Run
        Recordings of one pipeline: every model measured on windows that do not depend on the
        triggers (`models: matrix`).  Runs of one seed are taken together, and each further seed
        gives another value to the bands.
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
    matrices = recordings(runs, dataset=dataset, datasets=datasets, metric=metric)
    return judge(matrices, named(policies), cost or Cost())


def recordings(
    runs: "Run | Sequence[Run]",
    *,
    dataset: Dataset | None = None,
    datasets: str | Path = "datasets",
    metric: str = "Accuracy",
) -> list[Matrix]:
    """Return what runs recorded, one matrix per seed; see `backtest`."""
    runs = list(runs) if isinstance(runs, Sequence) else [runs]
    if not runs:
        raise ValueError("no runs to go by")
    if dataset is None:
        dataset = _opened(runs[0], Path(datasets))
    tape, windows = Tape.of(runs[0], dataset), Windows.of(runs[0])
    found: dict[int, Matrix] = {}
    for run in runs:
        _check_like(runs[0], run, windows)
        seed = int(run.identity["config"]["training"]["seed"])
        if seed in found:
            found[seed].add(run)
        else:
            found[seed] = Matrix.of(run, tape, windows, run.metric_name(metric))
    return [found[seed] for seed in sorted(found)]


def judge(matrices: Sequence[Matrix], policies: Mapping[str, Trigger], cost: Cost) -> Backtest:
    """Return what policies come to on recordings; see `backtest`."""
    chosen = compared(matrices)
    scorers = [Scorer(matrix, chosen, cost) for matrix in matrices]
    players = [Player(matrix) for matrix in matrices]
    schedules = [_schedules(player, policies) for player in players]
    entries = [
        Entry(
            name=name,
            trigger=policy,
            outcomes=[
                scorer.score(found[name]) for scorer, found in zip(scorers, schedules, strict=True)
            ],
        )
        for name, policy in policies.items()
    ]
    return Backtest(
        entries=entries,
        metric=matrices[0].metric,
        cost=cost,
        seeds=len(matrices),
        compared=int(chosen.sum()),
        windows=len(chosen),
        oracle=_bound(scorers),
    )


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
    found = {}
    for name, policy in policies.items():
        family = FAMILIES.get(type(policy))
        if family is None:
            found[name] = player.play(policy)
            continue
        places = family(policy, player.matrix.tape)[: player.most]
        found[name] = Schedule(places=places, certain=len(places))
    return found


def _bound(scorers: Sequence[Scorer]) -> Bound:
    """Return the upper bound, in the mean over the seeds."""
    most = min(len(scorer.matrix.table) for scorer in scorers)
    scores, corners = [], []
    for scorer in scorers:
        values, start = scorer.values, scorer.starts
        scores.append(oracle(values, start, scorer.weight, most).score)
        corners.append(frontier(values, start, scorer.weight, scorer.price))
    costs = np.unique(np.concatenate([costs for costs, _ in corners]))
    mean = np.mean([np.interp(costs, *corner) for corner in corners], axis=0)
    return Bound(
        trainings=np.arange(1, most + 1),
        score=np.mean(scores, axis=0),
        costs=costs,
        scores=mean,
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
    ours, theirs = (_but_for_trigger(one) for one in (first, run))
    for name in ours:
        if ours[name] != theirs.get(name):
            raise ConfigError(
                f"{run.path} and {first.path} are runs of pipelines that differ in {name}: a "
                "backtest compares runs that differ in trigger and seed only"
            )
    if not Windows.of(run).same(windows):
        raise ConfigError(f"{run.path} and {first.path} were measured on different windows")


def _but_for_trigger(run: "Run") -> dict[str, object]:
    config = run.identity["config"]
    training = {name: value for name, value in config["training"].items() if name != "seed"}
    pipeline = {name: config["pipeline"][name] for name in ("order", "maximum_triggers")}
    bounds = {name: config["pipeline"][name] for name in ("start_replay_at", "stop_replay_at")}
    return {
        "dataset": run.identity["dataset"],
        "pipeline": {**pipeline, **bounds},
        "model": config["model"],
        "training": training,
        "selection_strategy": config["selection_strategy"],
        "downsampling": config.get("downsampling"),
    }
