"""Draws over blocks of keys, and draws that stay the same from trigger to trigger."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn import sampling
from modyn.policies.base import Context

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["Draw", "fractions", "newest", "steady_seed", "uniform_of"]

STREAM_STEADY = 20  # MDN_STREAM_STEADY of csrc/base/random.h
ROOM = 2**18  # keys that wait for a draw at least
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


class Draw:
    """A uniform draw of `count` keys among all that are offered, in memory for twice as many.

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
        self._count = count
        self._seed = seed
        self._waiting: list[npt.NDArray[np.uint64]] = []
        self._room = 0
        self.offered = 0

    def offer(self, keys: npt.NDArray[np.uint64]) -> None:
        """Take keys that were not offered before."""
        self.offered += len(keys)
        if len(keys) == 0 or self._count == 0:
            return
        self._waiting.append(keys)
        self._room += len(keys)
        if self._room > 2 * self._count + ROOM:
            self._settle(self._count)

    def keys(self, count: int | None = None) -> npt.NDArray[np.uint64]:
        """Return the keys drawn, ascending; or a draw of fewer."""
        return self._settle(self._count if count is None else min(count, self._count))

    def _settle(self, count: int) -> npt.NDArray[np.uint64]:
        if not self._waiting or count == 0:
            return np.empty(0, dtype=np.uint64)
        kept = sampling.uniform(np.concatenate(self._waiting), count, seed=self._seed)
        if count == self._count:
            self._waiting, self._room = [kept], len(kept)
        return kept


def uniform_of(
    candidates: "Candidates", count: int, *, seed: int, among: Any
) -> npt.NDArray[np.uint64]:
    """Return `count` of those candidates for which `among(keys)` is true, ascending."""
    draw = Draw(count, seed=seed)
    for block in candidates.blocks():
        draw.offer(block.keys[among(block.keys)])
    return draw.keys()


def newest(candidates: "Candidates", count: int) -> npt.NDArray[np.uint64]:
    """Return the `count` newest by (timestamp, key), holding 2 * count and a block at most."""
    keys = np.empty(0, dtype=np.uint64)
    timestamps = np.empty(0, dtype=np.int64)
    oldest = None  # what is older than this is out already
    for block in candidates.blocks():
        fresh = slice(None) if oldest is None else block.timestamps >= oldest
        keys = np.concatenate((keys, block.keys[fresh]))
        timestamps = np.concatenate((timestamps, block.timestamps[fresh]))
        if len(keys) > 2 * count:
            keep = np.lexsort((keys, timestamps))[-count:]
            keys, timestamps = keys[keep], timestamps[keep]
            oldest = timestamps[0]
    return np.sort(keys[np.lexsort((keys, timestamps))[-count:]])


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
