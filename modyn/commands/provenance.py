"""`modyn provenance ...`: which model has seen which sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modyn.commands.answers import InputError, answers, complain

if TYPE_CHECKING:
    from rich.table import Table

    from modyn.dataset import Dataset
    from modyn.pipelines.run import Run
    from modyn.provenance import Erased, Provenance, SeenBy, TrainedModel

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Run directories, or folders of runs."),
]
Datasets = Annotated[
    Path | None,
    typer.Option(help="Folder of the datasets, to know of erasures; default: datasets."),
]
Name = "A trigger (3), with its pipeline (weather:3), or the beginning of a content key."
Keys = Annotated[int, typer.Option("--keys", min=0, metavar="N", help="List the first N keys.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

commands = typer.Typer(help="Say which model has seen which sample.")


@commands.command("who-saw")
def who_saw(
    key: Annotated[int, typer.Argument(metavar="KEY", help="The key of a sample.", min=0)],
    runs: Runs,
    datasets: Datasets = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say which models have seen a sample, directly or through a parent."""
    with answers(debug):
        seen = _load(runs, datasets)
        found = seen.who_saw(_known_key(key))
        if as_json:
            _print_json(
                {
                    "key": key,
                    "erased": _erased(found.erased),
                    "erasures_known": seen.erasures is not None,
                    "models": [
                        {
                            **_model(one.model),
                            "directly": one.directly,
                            "through": [model.key for model in one.through],
                        }
                        for one in found.sightings
                    ],
                }
            )
            return
        count = len(found.sightings)
        typer.echo(f"sample {key}: seen by {count} of {_models(len(seen.models))}")
        if found.erased is not None:
            typer.echo(f"erased {_when(found.erased)}, by {found.erased.who}: {found.erased.why}")
        table = _table("model", "run", "trigger", "seen")
        for one in found.sightings:
            ways = ["directly"] if one.directly else []
            ways += [f"through {_short(model)}" for model in one.through]
            _add(table, [*_place(one.model), ", ".join(ways)])
        _print(table)


@commands.command("seen-by")
def seen_by(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=Name)],
    runs: Runs,
    keys: Keys = 0,
    datasets: Datasets = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what a model has seen: by its own training, through its ancestors, and erased since."""
    with answers(debug):
        seen = _load(runs, datasets)
        found = seen.seen_by(_named(seen, model))
        listed = found.keys.keys(limit=keys).tolist()
        if as_json:
            _print_json(
                {
                    **_model(found.model),
                    "parts": [{**_model(part.model), "added": part.added} for part in found.parts],
                    "erasures_known": seen.erasures is not None,
                    "erased": [
                        {**(_erased(one.erasure) or {}), "samples_seen": one.samples}
                        for one in found.lost
                    ],
                    "keys": listed,
                }
            )
            return
        _print_seen(found)
        _print_keys("keys", listed, found.model.seen)


@commands.command()
def diff(
    model_a: Annotated[str, typer.Argument(metavar="MODEL_A", help=Name)],
    model_b: Annotated[str, typer.Argument(metavar="MODEL_B", help=Name)],
    runs: Runs,
    keys: Keys = 0,
    datasets: Datasets = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what only one, only the other, and both of two models have seen."""
    with answers(debug):
        seen = _load(runs, datasets)
        found = seen.diff(_named(seen, model_a), _named(seen, model_b))
        only_a = found.keys_only_a(keys).tolist() if keys else []
        only_b = found.keys_only_b(keys).tolist() if keys else []
        if as_json:
            _print_json(
                {
                    "a": _model(found.a),
                    "b": _model(found.b),
                    "only_a": found.only_a,
                    "only_b": found.only_b,
                    "both": found.both,
                    "keys_only_a": only_a,
                    "keys_only_b": only_b,
                }
            )
            return
        table = _table("seen by", "samples", right=("samples",))
        _add(table, [f"only {_long(found.a)}", f"{found.only_a:,}"])
        _add(table, [f"only {_long(found.b)}", f"{found.only_b:,}"])
        _add(table, ["both", f"{found.both:,}"])
        _print(table)
        _print_keys(f"only {_short(found.a)}", only_a, found.only_a)
        _print_keys(f"only {_short(found.b)}", only_b, found.only_b)


@commands.command()
def erased(
    runs: Runs,
    datasets: Datasets = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say for each erasure of the dataset which models had seen of its samples."""
    with answers(debug):
        seen = _load(runs, datasets, needed=True)
        found = seen.lost()
        if as_json:
            _print_json(
                [
                    {
                        **(_erased(event) or {}),
                        "models": [{**_model(m), "samples_seen": n} for m, n in models],
                    }
                    for event, models in found
                ]
            )
            return
        if not found:
            typer.echo("nothing was ever erased")
        for event, models in found:
            typer.echo(
                f"erasure {event.number}, {_when(event)}, by {event.who}: {event.why}\n"
                f"{event.samples:,} samples, seen by {len(models)} of {_models(len(seen.models))}"
            )
            table = _table("model", "run", "trigger", "of them seen", right=("of them seen",))
            for model, samples in models:
                _add(table, [*_place(model), f"{samples:,}"])
            _print(table)


# Loading -----------------------------------------------------------------------------------------


def _load(paths: Sequence[Path], datasets: Path | None, needed: bool = False) -> Provenance:
    from modyn.provenance import Provenance

    runs = list(_opened(paths))
    dataset = _dataset(runs, datasets, needed)
    seen: Provenance = _found(Provenance.of, runs, dataset)
    return seen


def _opened(paths: Iterable[Path]) -> Iterable[Run]:
    from modyn.pipelines import rundir
    from modyn.pipelines.run import Run

    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder")
        inside = [path] if rundir.is_run(path) else sorted(filter(rundir.is_run, path.iterdir()))
        if not inside:
            raise InputError(f"{path}: holds no runs")
        for one in inside:
            yield Run.open(one)


def _dataset(runs: Sequence[Run], datasets: Path | None, needed: bool) -> Dataset | None:
    """Return the dataset that the runs followed, if it lies where datasets do."""
    from modyn.dataset import Dataset

    folder = Path("datasets") if datasets is None else datasets
    name = str(runs[0].config["data"]["dataset_id"])
    try:
        found = Dataset.open(folder / name)
    except FileNotFoundError:
        where = f"there is no dataset {name!r} in {folder}; --datasets names the folder"
        if needed or datasets is not None:
            raise InputError(where) from None
        complain(f"erasures are not known: {where}")
        return None
    if found.uuid == runs[0].dataset_uuid:
        return found
    other = f"{folder / name} is another dataset than the one that the runs followed"
    if needed or datasets is not None:
        raise InputError(other)
    complain(f"erasures are not known: {other}")
    return None


def _found(call: Any, *arguments: Any) -> Any:
    """Return what a call answers; what it finds wrong with its arguments is the input's fault."""
    try:
        return call(*arguments)
    except ValueError as error:
        raise InputError(str(error)) from None


def _named(seen: Provenance, name: str) -> TrainedModel:
    model: TrainedModel = _found(seen.model, name)
    return model


def _known_key(key: int) -> int:
    if key >= 2**64:
        raise InputError(f"KEY is below 2**64, got {key}")
    return key


# Printing ----------------------------------------------------------------------------------------


def _print_seen(found: SeenBy) -> None:
    model = found.model
    typer.echo(f"{_long(model)} has seen {model.seen:,} samples")
    table = _table(
        "by the training of", "run", "trigger", "samples", "new", right=("samples", "new")
    )
    for part in found.parts:
        _add(table, [*_place(part.model), f"{part.samples:,}", f"{part.added:,}"])
    _print(table)
    for one in found.lost:
        typer.echo(
            f"{one.samples:,} of them were erased {_when(one.erasure)}, by {one.erasure.who}: "
            f"{one.erasure.why}"
        )


def _print_keys(what: str, keys: Sequence[int], count: int) -> None:
    if keys:
        more = f" and {count - len(keys):,} more" if count > len(keys) else ""
        typer.echo(f"{what}: {' '.join(map(str, keys))}{more}")


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numbers = name in right or name == "trigger"
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    return table


def _add(table: Table, cells: Sequence[str]) -> None:
    from rich.markup import escape

    table.add_row(*map(escape, cells))


def _print(table: Table) -> None:
    from modyn.commands.show import console

    if table.row_count:
        console().print(table)


def _place(model: TrainedModel) -> list[str]:
    kind = " (holdout)" if model.holdout else ""
    return [_short(model) + kind, ", ".join(model.runs), str(model.trigger)]


def _short(model: TrainedModel) -> str:
    return model.key[:12]


def _long(model: TrainedModel) -> str:
    runs = ", ".join(model.runs)
    return f"model {_short(model)} of trigger {model.trigger} of {runs}"


def _models(count: int) -> str:
    return f"{count} model" if count == 1 else f"{count} models"


def _when(erased: Erased) -> str:
    return f"{erased.when:%Y-%m-%d %H:%M:%S} UTC"


def _model(model: TrainedModel) -> dict[str, Any]:
    return {
        "model": model.key,
        "runs": list(model.runs),
        "trigger": model.trigger,
        "parents": list(model.parents),
        "training_set": model.training_set,
        "samples": model.samples,
        "seen": model.seen,
        "holdout": model.holdout,
    }


def _erased(erased: Erased | None) -> dict[str, Any] | None:
    if erased is None:
        return None
    return {
        "number": erased.number,
        "when": erased.when.isoformat(),
        "who": erased.who,
        "why": erased.why,
        "samples": erased.samples,
    }
