"""Draws over blocks of keys, and draws that stay the same from trigger to trigger."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn import sampling
from modyn.policies.base import Context

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["Draw", "fractions", "position_seed", "steady_seed", "uniform_of"]

STREAM_STEADY = 20  # MDN_STREAM_STEADY of csrc/base/random.h
STREAM_POSITION = 40  # MDN_STREAM_POSITION of csrc/base/random.h
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


class Draw:
    """A uniform draw of `count` keys among all that are offered, in memory for a few times as many.

    It is the choice of `sampling.uniform` among them: which they are, not how they came, decides.

    Examples
    --------
    >>> draw = Draw(3, seed=7)
    >>> for first in range(0, 1000, 100):
    ...     draw.offer(np.arange(first, first + 100, dtype=np.uint64))
    >>> draw.keys().tolist() == sampling.uniform(range(1000), 3, seed=7).tolist()
    True
    >>> draw.offered
    1000
    """

    def __init__(self, count: int, *, seed: int) -> None:
        self._sampler = sampling.Sampler.uniform(count, seed=seed)
        self._seed = seed
        self.offered = 0

    def offer(self, keys: npt.NDArray[np.uint64]) -> None:
        """Take keys that were not offered before."""
        self.offered += len(keys)
        if len(keys) > 0:
            self._sampler.offer(keys)

    def keys(self, count: int | None = None) -> npt.NDArray[np.uint64]:
        """Return the keys drawn, ascending, or a draw of at most so many of them; ends the draw."""
        drawn = self._sampler.finish().keys
        if count is None or count >= len(drawn):
            return drawn
        return sampling.uniform(drawn, count, seed=self._seed)


def uniform_of(
    candidates: "Candidates", count: int, *, seed: int, among: Any
) -> npt.NDArray[np.uint64]:
    """Return `count` of those candidates for which `among(keys)` is true, ascending."""
    draw = Draw(count, seed=seed)
    for block in candidates.blocks():
        draw.offer(block.keys[among(block.keys)])
    return draw.keys()


def steady_seed(context: Context) -> int:
    """Return a seed of draws that are the same at every trigger of a pipeline.

    It is draw 0 of stream MDN_STREAM_STEADY of the pipeline's seed (csrc/base/random.h).

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> steady_seed(PlainContext(seed=7)) == steady_seed(PlainContext(seed=7, trigger=3))
    True
    """
    return int(_words(context.seed, STREAM_STEADY, np.zeros(1, dtype=np.uint64))[0])


def position_seed(context: Context, position: int) -> int:
    """Return a seed of draws that belong to a position of the stream, whenever they are made.

    It is draw number `position` of stream MDN_STREAM_POSITION of the pipeline's seed
    (csrc/base/random.h).

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> one, other = PlainContext(seed=7), PlainContext(seed=7, trigger=3, position=9)
    >>> position_seed(one, 5) == position_seed(other, 5)
    True
    """
    return _at_position(context.seed, position)


@lru_cache(maxsize=4096)
def _at_position(seed: int, position: int) -> int:
    return int(_words(seed, STREAM_POSITION, np.array([position], dtype=np.uint64))[0])


def fractions(seed: int, stream: int, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return a number of [0, 1) for each key, which follows from seed, stream and key alone.

    They are the upper 53 bits of the draws of csrc/base/random.h, as C would draw them.
    """
    words = _words(seed, stream, keys)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _words(seed: int, stream: int, index: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """mdn_draw of csrc/base/random.h."""
    base = np.array([(seed + GOLDEN) & MASK], dtype=np.uint64)
    other = np.uint64(stream * 0xD1B54A32D192ED03 & MASK)
    start = _mix(_mix(base) ^ other)
    return _mix(_mix(start + index * np.uint64(GOLDEN)))


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """mdn_mix of csrc/base/random.h."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
