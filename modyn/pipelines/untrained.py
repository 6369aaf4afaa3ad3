"""What a dry run knows of its models: that they would be there, and nothing that they would say."""

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from modyn.errors import ConfigError
from modyn.policies.context import PastModel

__all__ = ["UntrainedAnswers", "UntrainedModel", "nobody_knows"]

Keys = npt.NDArray[np.uint64]


def nobody_knows(what: str) -> NoReturn:
    """Raise: only a training could tell.

    Raises
    ------
    ConfigError
        Saying what was asked for.
    """
    raise ConfigError(
        f"a trigger depends on {what}, and a dry run trains none: run the pipeline, whose triggers "
        "are then in its report, or try a TimeTrigger or a DataAmountTrigger in its place"
    )


class UntrainedModel(PastModel):
    """A model that a run would have trained; nobody knows how long that would take."""

    @property
    def seconds(self) -> float:
        """Raise: nothing was measured."""
        nobody_knows("how long the training of a model took")

    @seconds.setter
    def seconds(self, value: float) -> None:
        """Take no note of it."""


class UntrainedAnswers:
    """The records of samples, and no answers of models.

    Parameters
    ----------
    dataset : Dataset
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def embeddings(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Raise: nothing was trained."""
        nobody_knows("embeddings of a model")

    def predictions(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Raise: nothing was trained."""
        nobody_knows("predictions of a model")

    def losses(self, model: PastModel, keys: Keys, /) -> npt.NDArray[np.float32]:
        """Raise: nothing was trained."""
        nobody_knows("losses of a model")

    def fields(self, keys: Keys, /) -> dict[str, Any]:
        """Return the records."""
        found: dict[str, Any] = self._dataset.fetch(keys)
        return found
