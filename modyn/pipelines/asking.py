"""What the models of a run say of samples: forward passes for policies, each done once.

A block of keys goes through the model in eval mode, in batches of a fixed size and on one thread,
so that on a CPU the answer is a function of model and keys, bit for bit.  Outputs are what is
kept; probabilities and losses are made of them.  Embeddings are kept beside them, from the same
pass, once anybody has asked for embeddings.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.dataset import Dataset
from modyn.inputs import Field
from modyn.loader import Loader
from modyn.pipelines.answer_cache import AnswerCache
from modyn.pipelines.calls import as_compared, call_model, device_of, one_thread
from modyn.pipelines.jobs import Batch
from modyn.pipelines.optimizing import criterion_of
from modyn.pipelines.scoring import keeping_embeddings
from modyn.pipelines.settings import Training
from modyn.policies.context import PastModel

if TYPE_CHECKING:
    import torch

__all__ = ["RunAnswers", "probabilities"]

BATCH_SIZE = 1024
ALIGNMENT = 64  # bytes
MODULES = 2  # models that are ready to be asked

Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]


class RunAnswers:
    """The answers of a run's models, with the methods of `modyn.policies.context.Answers`.

    Parameters
    ----------
    dataset : Dataset
        The samples.
    training : Training
        How the models are trained: criterion, device, and threads that read.
    module : callable
        Returns a new module with the weights of a model, by its content key.
    cache : AnswerCache
        Where answers are kept.

    Attributes
    ----------
    passed : int
        How many samples went through a model so far.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        training: Training,
        module: "Callable[[str], torch.nn.Module]",
        cache: AnswerCache,
    ) -> None:
        self.passed = 0
        self._dataset = dataset
        self._training = training
        self._make = module
        self._cache = cache
        self._modules: OrderedDict[str, torch.nn.Module] = OrderedDict()
        self._embeds = False  # whether anybody asks for embeddings

    def embeddings(self, model: PastModel, keys: Keys, /) -> Floats:
        """Return the input of the last layer, shape (n, d)."""
        return self._answer(model, "embeddings", keys)

    def predictions(self, model: PastModel, keys: Keys, /) -> Floats:
        """Return class probabilities, shape (n, classes), or outputs where there are none."""
        outputs = self._answer(model, "outputs", keys)
        return probabilities(outputs, self._training.optimization_criterion.name)

    def losses(self, model: PastModel, keys: Keys, /) -> Floats:
        """Return the training criterion's loss of each sample, shape (n,)."""
        import torch

        outputs = torch.tensor(self._answer(model, "outputs", keys))
        labels = torch.tensor(self._labels(keys))
        criterion = self._training.optimization_criterion.name
        each = criterion_of(self._training, "none")
        with one_thread(), torch.inference_mode():
            outputs, labels = as_compared(outputs, labels, criterion)
            losses = each(outputs, labels).reshape(len(labels), -1).mean(dim=1)
        found: Floats = losses.float().numpy()
        return found

    def fields(self, keys: Keys, /) -> Mapping[str, Any]:
        """Return the records, by field, first dimension n."""
        return self._dataset.fetch(keys)

    def keep_only(self, models: set[str]) -> None:
        """Forget what all other models said."""
        self._cache.keep_only(models)

    def _labels(self, keys: Keys) -> npt.NDArray[np.int64]:
        labels = np.empty(len(keys), dtype=np.int64)
        self._dataset.view.fetch(np.ascontiguousarray(keys, np.uint64), (), labels, None, 1)
        return labels

    def _answer(self, model: PastModel, kind: str, keys: Keys) -> Floats:
        found: Floats | None = self._cache.get(model.model, kind, keys)
        if found is not None:
            return found
        self._embeds |= kind == "embeddings"
        made = self._pass(self._module(model.model), keys, with_embeddings=self._embeds)
        for name, answer in made.items():
            made[name] = self._cache.put(model.model, name, keys, answer)
        return made[kind]

    def _module(self, key: str) -> "torch.nn.Module":
        if key not in self._modules:
            if len(self._modules) == MODULES:
                self._modules.popitem(last=False)
            device = device_of(self._training.device, "training.device")
            self._modules[key] = self._make(key).to(device).eval()
        self._modules.move_to_end(key)
        return self._modules[key]

    def _pass(
        self, module: "torch.nn.Module", keys: Keys, *, with_embeddings: bool
    ) -> dict[str, Floats]:
        """Show the model these samples, and return what is kept of it."""
        import torch

        if len(keys) == 0:
            raise ValueError("no samples to show to the model: ask for at least one")
        device = device_of(self._training.device, "training.device")
        fields = tuple(self._dataset.schema)
        seen: dict[str, torch.Tensor] = {}
        parts: dict[str, list[Floats]] = {}
        with (
            one_thread(),
            torch.inference_mode(),
            keeping_embeddings(module, with_embeddings, seen),
        ):
            for batch in self._batches(keys, fields):
                seen["outputs"] = call_model(module, batch, fields, device)
                for name, values in seen.items():
                    parts.setdefault(name, []).append(values.float().cpu().numpy())
        self.passed += len(keys)
        return {name: np.concatenate(some) for name, some in parts.items()}

    def _batches(self, keys: Keys, fields: tuple[str, ...]) -> Iterable[Batch]:
        """Return the samples in batches; a single one is not worth the threads of a loader."""
        keys = np.ascontiguousarray(keys, dtype=np.uint64)
        if len(keys) <= BATCH_SIZE and "bytes" not in self._dataset.schema.values():
            return [_Fetched(self._dataset, keys)]
        return Loader(
            self._dataset,
            keys,
            batch_size=BATCH_SIZE,
            fields=fields,
            threads=self._training.dataloader_workers,
        )


class _Fetched:
    """A batch of records in memory that begins where a cache line does, as those of loaders do.

    Where memory begins may decide in which order a kernel adds.
    """

    def __init__(self, dataset: Dataset, keys: Keys) -> None:
        self.keys = keys
        self.labels = self.weights = None
        places: dict[str, npt.NDArray[Any]] = {}
        for name, kind in dataset.schema.items():
            field = Field.parse(f"{name}: {kind}")
            places[name] = _aligned((len(keys), *field.shape), np.dtype(field.dtype))
        self._fields = dataset.fetch(keys, out=places)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, field: str, /) -> Any:
        return self._fields[field]


def _aligned(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> npt.NDArray[Any]:
    """Return an array whose memory begins at a multiple of ALIGNMENT."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, dtype=np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + size].view(dtype).reshape(shape)


def probabilities(outputs: npt.NDArray[np.floating[Any]], criterion: str) -> Floats:
    """Return class probabilities of outputs, or the outputs where a criterion knows no classes.

    Parameters
    ----------
    outputs : floating, shape (n, ...)
    criterion : str
        What the model was trained with, as `settings.CRITERIA` names it.

    Returns
    -------
    float32, shape (n, classes)
        One output for two classes gives two columns.

    Examples
    --------
    >>> probabilities(np.zeros((1, 4)), "CrossEntropyLoss")
    array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    >>> probabilities(np.array([[0.0], [np.log(3)]]), "BCEWithLogitsLoss")
    array([[0.5 , 0.5 ],
           [0.25, 0.75]], dtype=float32)
    """
    values = outputs.reshape(len(outputs), -1).astype(np.float64)
    if criterion in ("CrossEntropyLoss", "MultiMarginLoss"):
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    elif criterion == "NLLLoss":
        values = np.exp(values)
    elif criterion in ("BCEWithLogitsLoss", "BCELoss"):
        if criterion == "BCEWithLogitsLoss":
            values = 1 / (1 + np.exp(-np.clip(values, -700, 700)))
        if values.shape[1] == 1:
            values = np.concatenate((1 - values, values), axis=1)
    return values.astype(np.float32)
