"""Choices whose candidates come in parts: from blocks, threads, processes or machines."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.sampling.candidates import Candidates, core_of
from modyn.sampling.numbers import number
from modyn.sampling.values import Values, core_values

__all__ = ["Drawn", "Sampler", "mode_of"]

_LEVEL, _EXACT, _EQUAL = 0, 1, 2  # mdn_shares_mode
_UNIFORM, _BALANCED, _SMALLEST, _LARGEST, _NEWEST = 0, 1, 2, 3, 4  # mdn_sampler_kind
_SCHEMES = {"sequential": 5, "priority": 6, "with_replacement": 7}


@dataclass(frozen=True, eq=False)
class Drawn:
    """Keys that were chosen, and what each of them counts in an estimate.

    Parameters
    ----------
    keys : uint64, shape (k,)
        Ascending, each once.
    weights : float64, shape (k,), or None
        None where the choice promises none.
    """

    keys: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.keys)


class Sampler:
    """A choice from candidates that are offered in parts, in any order.

    What is chosen follows from the seed and from all candidates that were offered, not from how
    they were cut into parts: samplers that saw parts of them can be merged, and then have seen
    all. The memory needed is that of a few times `count` keys.

    Made by `uniform`, `balanced`, `weighted`, `top` and `newest`, which say what is chosen.

    Examples
    --------
    >>> one, other = Sampler.uniform(3, seed=7), Sampler.uniform(3, seed=7)
    >>> one.offer(range(500))
    >>> other.offer(range(500, 1000))
    >>> one.merge(other)
    >>> one.finish().keys.tolist()
    [736, 880, 908]
    """

    def __init__(self, kind: int, count: int, seed: int, mode: int = _LEVEL) -> None:
        self._core = _core.Sampler.new(kind, number("count", count), seed, mode, True)
        self._ranks_by_time = kind == _NEWEST

    @classmethod
    def uniform(cls, count: int, *, seed: int) -> "Sampler":
        """Choose as `uniform` does; a key that is offered more than once counts once."""
        return cls(_UNIFORM, count, number("seed", seed))

    @classmethod
    def balanced(
        cls,
        count: int,
        *,
        seed: int,
        force_column_balancing: bool = False,
        force_required_target_size: bool = False,
    ) -> "Sampler":
        """Choose as `balanced` does."""
        mode = mode_of(force_column_balancing, force_required_target_size)
        return cls(_BALANCED, count, number("seed", seed), mode)

    @classmethod
    def weighted(cls, count: int, *, seed: int, scheme: str = "sequential") -> "Sampler":
        """Choose as `weighted` does with this scheme, but "pps", which needs to see all at once.

        Raises
        ------
        ValueError
            For another scheme.
        """
        if scheme not in _SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(_SCHEMES)}, got {scheme!r}")
        return cls(_SCHEMES[scheme], count, number("seed", seed))

    @classmethod
    def top(cls, count: int, *, largest: bool = True) -> "Sampler":
        """Choose as `top` does."""
        return cls(_LARGEST if largest else _SMALLEST, count, 0)

    @classmethod
    def newest(cls, count: int) -> "Sampler":
        """Choose as `newest` does; values are timestamps if nothing else is given."""
        return cls(_NEWEST, count, 0)

    def offer(
        self,
        candidates: "Candidates | npt.ArrayLike",
        values: Values | None = None,
        *,
        labels: npt.ArrayLike | None = None,
        threads: int = 1,
    ) -> None:
        """Look at candidates; a failure leaves the sampler unusable.

        Parameters
        ----------
        candidates : Candidates, or integers >= 0 of shape (n,)
            Or bare keys, for `balanced` with `labels`. Each key once in all that is offered.
        values : numbers of shape (n,), "timestamp", "label", callable, or None
            Weights, or what ranks the candidates; for `uniform` and `balanced` None.
        labels : int64, shape (n,), or None
            Of bare keys.
        threads : int
            At most that many, at least 1.

        Raises
        ------
        ValueError
            For values that are missing, not numbers, or (weights) negative; after `finish`.
        """
        if values is None and self._ranks_by_time:
            values = "timestamp"
        core = core_of(candidates, labels)
        self._core.offer(core, core_values("values", values), 0.0, number("threads", threads))

    def merge(self, other: "Sampler") -> None:
        """Look at what another sampler made with the same arguments has seen.

        Raises
        ------
        ValueError
            When the arguments differ, or one of the two has been finished.
        """
        self._core.merge(other._core)

    def state(self) -> npt.NDArray[np.uint64]:
        """Return all that it has seen, to go to another process: uint64, shape (m,)."""
        return self._core.save()

    @classmethod
    def from_state(cls, state: npt.NDArray[np.uint64]) -> "Sampler":
        """Return the sampler whose `state` this is.

        Raises
        ------
        ValueError
            For anything else.
        """
        made = cls.__new__(cls)
        made._core = _core.Sampler.load(np.ascontiguousarray(state, dtype=np.uint64))
        made._ranks_by_time = int(state[1]) == _NEWEST
        return made

    def finish(self) -> Drawn:
        """Return what is chosen; the sampler can do nothing more.

        Raises
        ------
        ValueError
            For a key that was offered more than once (not `uniform`).
        """
        keys, weights, _ = self._core.finish()
        return Drawn(keys, weights)


def mode_of(force_column_balancing: bool, force_required_target_size: bool) -> int:
    """Return how shares are filled: mdn_shares_mode."""
    if force_required_target_size:
        return _EXACT
    return _EQUAL if force_column_balancing else _LEVEL
