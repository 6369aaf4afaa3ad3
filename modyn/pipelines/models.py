"""The models of a run: safetensors and JSON, under a content key.

    models/<content key>/weights.safetensors      state of the module
                         optimizer.safetensors    only with use_previous_model
                         model.json               what the key was made of, facts, checksums
                         clock.json               how long the training took, here or elsewhere
                         found                    only where another run had trained it

The content key is the BLAKE2b of everything that decides what a training results in: parent,
training set digest, training configuration, model, seed and dataset.  So a training that was
done before is found instead of done again, after a crash or anywhere else.

A model is written under a temporary name, synced, and renamed: under its key it is whole or not
there.  Loading deletes and changes nothing, and checks each file against its checksum first.
Nothing is pickled: a foreign file can be damaged, but it cannot run.

With `use_previous_model` the state of the optimizers (moments, step counts) is stored as well and
the next training goes on with it; step sizes and other options come from the configuration each
time, and a scheduler starts anew.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.errors import RunCorruptError
from modyn.pipelines import durable
from modyn.pipelines.ledger import canonical

if TYPE_CHECKING:
    import torch

VERSION = 1
WEIGHTS, OPTIMIZER, DESCRIPTION, CLOCK = (
    "weights.safetensors",
    "optimizer.safetensors",
    "model.json",
    "clock.json",
)
FOUND = "found"

Tensors = dict[str, "torch.Tensor"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides the outcome of a training; all plain JSON values.

    Examples
    --------
    >>> recipe = Recipe(parent=None, training_set="ab", training={}, model={}, seed=1, dataset="d")
    >>> len(recipe.key()), recipe.key() == recipe.key()
    (64, True)
    """

    parent: str | None
    training_set: str
    training: Mapping[str, Any]
    model: Mapping[str, Any]
    seed: int
    dataset: str

    def values(self) -> dict[str, Any]:
        """Return the recipe as plain values."""
        return {
            "parent": self.parent,
            "training_set": self.training_set,
            "training": dict(self.training),
            "model": dict(self.model),
            "seed": self.seed,
            "dataset": self.dataset,
        }

    def key(self) -> str:
        """Return the content key, 64 hexadecimal digits."""
        return blake2b(canonical(self.values()).encode(), digest_size=32).hexdigest()

    def draw(self, choice: str) -> int:
        """Return the seed of the training's own random numbers, below 2**63.

        It is a function of the recipe, so that a training found by its key is the one that
        would have been done; but not of which copy of a dataset it is, so that a dataset made
        once more from the same data gives the same models; and not of downsampling, so that
        trainings with and without it begin with the same weights and the same order.

        Parameters
        ----------
        choice : str
            `TrainingSet.choice` of the training set: what was chosen, of whatever copy.
        """
        values = {
            "choice": choice,
            "training": {k: v for k, v in self.training.items() if k != "downsampling"},
            "model": dict(self.model),
            "seed": self.seed,
        }
        text = canonical(values).encode()
        digest = blake2b(text, digest_size=8, person=b"modyn-seed").digest()
        return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True, kw_only=True)
class Downsampled:
    """How many samples a downsampled training looked at, and how many it trained on.

    Parameters
    ----------
    scored : int
        Samples that went forward through the model for their score alone.
    trained : int
        Samples that were trained on; in both, each as often as it came.
    """

    scored: int
    trained: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a training came to, without wall clock."""

    epochs: int
    batches: int
    samples: int
    final_loss: float | None
    losses: list[tuple[int, float | None]]
    downsampled: Downsampled | None = None

    def values(self) -> dict[str, Any]:
        """Return them as plain values."""
        values: dict[str, Any] = {**vars(self)}
        del values["downsampled"]
        if self.downsampled is not None:
            values["downsampled"] = {**vars(self.downsampled)}
        return values


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """The tensors of a model; `optimizer` is empty where it was not kept."""

    weights: Tensors
    optimizer: Tensors
    facts: Facts


class ModelStore:
    """The `models` folder of a run; one writer, which holds the run's lock.

    Parameters
    ----------
    directory : path
        Made when the first model is stored.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)

    def clean(self) -> None:
        """Remove what a killed process was about to write; only with the run's lock."""
        for left in self.directory.glob(".tmp-*"):
            shutil.rmtree(left)

    def __contains__(self, key: str) -> bool:
        return (self.directory / key).is_dir()

    def facts(self, key: str) -> Facts:
        """Return what the training of a stored model came to.

        Raises
        ------
        KeyError
            When there is no such model.
        RunCorruptError
            When its description is damaged.
        """
        return _facts(self._description(key), self.directory / key / DESCRIPTION)

    def recipe(self, key: str) -> Recipe:
        """Return what decided the training of a stored model.

        Raises
        ------
        KeyError
            When there is no such model.
        RunCorruptError
            When its description is damaged; the key is made of the recipe, and is held against it.
        """
        path = self.directory / key / DESCRIPTION
        try:
            return Recipe(**self._description(key)["recipe"])
        except TypeError as error:
            raise RunCorruptError(f"{path}: damaged recipe ({error})") from None

    def found(self, key: str) -> bool:
        """Return whether a stored model was taken over from another run."""
        return (self.directory / key / FOUND).exists()

    def check(self, key: str) -> None:
        """Read a stored model, file by file.

        Raises
        ------
        KeyError
            When there is no such model.
        RunCorruptError
            When anything of it is missing or damaged; names the file.
        """
        self.load(key)
        self.seconds(key)

    def seconds(self, key: str) -> float:
        """Return how long the training of a stored model took when it was done.

        That is no part of what the model is. It is 0 for models of before it was written down.

        Raises
        ------
        RunCorruptError
            When the file is damaged.
        """
        path = self.directory / key / CLOCK
        try:
            content = path.read_bytes()
            clock = json.loads(content)
            if content == _sealed({"seconds": clock["seconds"]}):
                return float(clock["seconds"])
        except FileNotFoundError:
            return 0.0
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise RunCorruptError(f"{path}: the content does not match its own checksum")

    def put(self, recipe: Recipe, model: StoredModel, seconds: float = 0.0) -> str:
        """Store a model and return its key; nothing changes where it is stored already.

        Parameters
        ----------
        recipe : Recipe
        model : StoredModel
        seconds : float
            How long the training took.
        """
        key = recipe.key()
        if key in self:
            return key
        durable.make_directory(self.directory)
        building = self.directory / f".tmp-{key}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        checksums = {WEIGHTS: _write_tensors(building / WEIGHTS, model.weights)}
        if model.optimizer:
            checksums[OPTIMIZER] = _write_tensors(building / OPTIMIZER, model.optimizer)
        description = {
            "version": VERSION,
            "recipe": recipe.values(),
            "facts": model.facts.values(),
            "blake2b": checksums,
        }
        durable.write(building / DESCRIPTION, _sealed(description))
        durable.write(building / CLOCK, _sealed({"seconds": seconds}))
        durable.sync_directory(building)
        building.rename(self.directory / key)
        durable.sync_directory(self.directory)
        return key

    def load(self, key: str) -> StoredModel:
        """Return a stored model.

        Raises
        ------
        KeyError
            When there is no such model.
        RunCorruptError
            When a file is missing, damaged, or of a version not known here; names the file.
        """
        folder = self.directory / key
        description = self._description(key)
        checksums = description.get("blake2b")
        if not isinstance(checksums, dict) or WEIGHTS not in checksums:
            raise RunCorruptError(f"{folder / DESCRIPTION}: names no checksum of {WEIGHTS}")
        tensors = {
            name: _read_tensors(folder / name, str(checksums[name]))
            for name in (WEIGHTS, OPTIMIZER)
            if name in checksums
        }
        return StoredModel(
            weights=tensors[WEIGHTS],
            optimizer=tensors.get(OPTIMIZER, {}),
            facts=_facts(description, folder / DESCRIPTION),
        )

    def _description(self, key: str) -> dict[str, Any]:
        path = self.directory / key / DESCRIPTION
        if key not in self:
            raise KeyError(f"no model {key} in {self.directory}")
        try:
            content = path.read_bytes()
            description = json.loads(content)
        except FileNotFoundError:
            raise RunCorruptError(f"{path}: the file is missing") from None
        except (ValueError, RecursionError) as error:
            raise RunCorruptError(f"{path}: damaged ({error})") from None
        if not isinstance(description, dict) or description.get("version") != VERSION:
            raise RunCorruptError(f"{path}: not a model description of version {VERSION}")
        if content != _sealed({k: v for k, v in description.items() if k != "seal"}):
            raise RunCorruptError(f"{path}: the content does not match its own checksum")
        recipe = description.get("recipe")
        found = blake2b(canonical(recipe).encode(), digest_size=32).hexdigest()
        if found != key:
            raise RunCorruptError(f"{path}: describes the model {found}, not {key}")
        return description


def _sealed(description: Mapping[str, Any]) -> bytes:
    """Return the bytes of a description, with the BLAKE2b of the rest in it."""
    seal = blake2b(canonical(description).encode(), digest_size=32).hexdigest()
    return canonical({**description, "seal": seal}).encode() + b"\n"


def _facts(description: Mapping[str, Any], path: Path) -> Facts:
    try:
        facts = description["facts"]
        losses = [(int(batch), _number(loss)) for batch, loss in facts["losses"]]
        return Facts(
            epochs=int(facts["epochs"]),
            batches=int(facts["batches"]),
            samples=int(facts["samples"]),
            final_loss=_number(facts["final_loss"]),
            losses=losses,
            downsampled=_downsampled(facts.get("downsampled")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunCorruptError(f"{path}: damaged facts ({error!r})") from None


def _downsampled(values: Any) -> Downsampled | None:
    if values is None:
        return None
    return Downsampled(scored=int(values["scored"]), trained=int(values["trained"]))


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _write_tensors(path: Path, tensors: Tensors) -> str:
    """Write a safetensors file and return the BLAKE2b of its bytes."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    durable.write(path, content)
    return blake2b(content, digest_size=32).hexdigest()


def _read_tensors(path: Path, checksum: str) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RunCorruptError(f"{path}: the file is missing") from None
    if blake2b(content, digest_size=32).hexdigest() != checksum:
        raise RunCorruptError(f"{path}: the bytes do not match the checksum in {DESCRIPTION}")
    try:
        return load(content)
    except SafetensorError as error:
        raise RunCorruptError(f"{path}: {error}") from None
