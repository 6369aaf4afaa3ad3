"""Distances of whole rows, from all their pairs: MMD and energy."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from modyn.drift.kernels import gaussian_sum, norm_sum, pair_squares
from modyn.drift.metric import WindowMetric
from modyn.drift.permuting import Sums, permuted_sums
from modyn.drift.windows import Floats, Window, mean, rng

__all__ = ["MMD", "Energy"]

BANDWIDTH_ROWS = 5000  # of a larger reference, that many give the bandwidth
REMEMBERED = 32
TINY = float(np.finfo(np.float64).tiny)  # one over less would be infinite


class _Remembered:
    """Numbers of the references that came last, by their content; for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: OrderedDict[bytes, float] = OrderedDict()

    def get(self, key: bytes, compute: Callable[[], float]) -> float:
        with self._lock:
            if key in self._numbers:
                self._numbers.move_to_end(key)
                return self._numbers[key]
        number = compute()
        with self._lock:
            self._numbers[key] = number
            while len(self._numbers) > REMEMBERED:
                self._numbers.popitem(last=False)
        return number


_remembered = _Remembered()


def _key(rows: Window, *more: object) -> bytes:
    digest = blake2b(np.ascontiguousarray(rows).data, digest_size=32)
    digest.update(repr((rows.shape, rows.dtype.str, *more)).encode())
    return digest.digest()


@dataclass(frozen=True, kw_only=True)
class MMD(WindowMetric):
    """The squared maximum mean discrepancy, with a Gaussian kernel.

    mean K(x, x') + mean K(y, y') - 2 mean K(x, y), with K(a, b) = exp(-gamma |a - b|^2).  gamma is
    one over the median of the squared distances of different rows of the reference, of an even
    number of them the lower of the two in the middle.  A reference of more than 5,000 rows gives
    the median of that many, drawn by the seed.  Where the median is 0 their mean takes its place,
    and where that is 0 too, the mean of the squared distances between the windows; windows of one
    single value are at distance 0.  gamma stands in the details: thresholds depend on it.

    Parameters
    ----------
    unbiased : bool
        The means are over different rows: the value is 0 on average where the windows come from
        one distribution, and may be negative; nan for a window of one row.  Otherwise they are
        over all pairs: never negative, and 0 for equal windows.
    gamma : float or None
        Above 0, instead of the median rule.
    num_pca_component, num_permutations
        As in `WindowMetric`; permutations keep gamma.

    References
    ----------
    A. Gretton et al., "A kernel two-sample test", JMLR 13, 2012.  The bandwidth, and the value
    with float64 rows, are those of alibi-detect's MMDDrift with its Gaussian kernel, which takes
    all rows of the reference for the median and computes in float32.  Evidently's "mmd" takes the
    median distance between the windows, of at most 1,000 rows each, and cuts at 0.

    Examples
    --------
    >>> import numpy as np
    >>> before, after = np.array([0.0, 1.0, 2.0]), np.array([10.0, 11.0, 12.0])
    >>> far = MMD().distance(before, after)
    >>> round(far.value, 4), far.details["gamma"]
    (0.5027, 1.0)
    """

    unbiased: bool = True
    gamma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma is not None and not 0 < self.gamma < np.inf:
            raise ValueError(f"gamma must be above 0, got {self.gamma}")

    @property
    def least_rows(self) -> int:
        """Two where the means are over different rows."""
        return 2 if self.unbiased else 1

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        reference, current = _alike(reference, current)
        gamma = self.gamma or _bandwidth(reference, current, seed)
        return self._value(reference, current, gamma), {"gamma": gamma}

    def _value(self, reference: Window, current: Window, gamma: float) -> float:
        n, m = len(reference), len(current)
        if min(n, m) < self.least_rows:
            return float("nan")
        key = _key(reference, "gaussian", gamma)
        sums = Sums(
            within_reference=_remembered.get(key, lambda: gaussian_sum(reference, None, gamma)),
            within_current=gaussian_sum(current, None, gamma),
            across=gaussian_sum(reference, current, gamma),
        )
        return float(discrepancy(sums, n, m, self.unbiased))

    def _permuted(self, reference: Window, current: Window, count: int, seed: int) -> Floats:
        one, two = _alike(*self._components(reference, current))
        gamma = self.gamma or _bandwidth(one, two, seed)

        def gaussian(squares: Floats) -> None:
            squares *= -gamma
            np.exp(squares, out=squares)

        sums = permuted_sums(one, two, gaussian, count, seed)
        return discrepancy(sums, len(one), len(two), self.unbiased)


@dataclass(frozen=True, kw_only=True)
class Energy(WindowMetric):
    """The energy distance: 2 mean |x - y| - mean |x - x'| - mean |y - y'|, over all pairs.

    Parameters
    ----------
    squared : bool
        Whether it is left as it is; otherwise its root.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    G. J. Szekely and M. L. Rizzo, J. Stat. Plan. Inference 143(8), 2013.  Of one feature it is
    twice the integral of (F - G)^2; scipy.stats.energy_distance is its root.

    Examples
    --------
    >>> import numpy as np
    >>> Energy().distance(np.array([0.0, 2.0]), np.array([0.0, 2.0]) + 4).value
    6.0
    """

    squared: bool = True

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        reference, current = _alike(reference, current)
        sums = Sums(
            within_reference=_remembered.get(
                _key(reference, "norm"), lambda: norm_sum(reference, None)
            ),
            within_current=norm_sum(current, None),
            across=norm_sum(reference, current),
        )
        return float(self._value(sums, len(reference), len(current))), {}

    def _value(self, sums: Sums, n: int, m: int) -> Floats:
        value = np.maximum(
            2 * sums.across / (n * m) - sums.within_reference / n**2 - sums.within_current / m**2,
            0.0,
        )
        return np.asarray(value if self.squared else np.sqrt(value))

    def _permuted(self, reference: Window, current: Window, count: int, seed: int) -> Floats:
        one, two = _alike(*self._components(reference, current))

        def root(squares: Floats) -> None:
            np.sqrt(squares, out=squares)

        return self._value(permuted_sums(one, two, root, count, seed), len(one), len(two))


def discrepancy(sums: Sums, n: int, m: int, unbiased: bool) -> Floats:
    """Return the squared MMD of windows of n and m rows; the kernel is 1 on the diagonal."""
    if unbiased:
        one = sums.within_reference / (n * (n - 1))
        two = sums.within_current / (m * (m - 1))
    else:
        one = (sums.within_reference + n) / n**2
        two = (sums.within_current + m) / m**2
    return np.asarray(one + two - 2 * sums.across / (n * m))


def _alike(reference: Window, current: Window) -> tuple[Window, Window]:
    """Both windows of one dtype."""
    dtype = np.result_type(reference, current)
    return reference.astype(dtype, copy=False), current.astype(dtype, copy=False)


def _bandwidth(reference: Window, current: Window, seed: int) -> float:
    return _remembered.get(
        _key(reference, "bandwidth", seed if len(reference) > BANDWIDTH_ROWS else 0),
        lambda: _median_rule(reference, seed),
    ) or _fallback(reference, current)


def _median_rule(reference: Window, seed: int) -> float:
    """One over the lower median of the squared distances, or their mean; 0 where all are 0."""
    if len(reference) > BANDWIDTH_ROWS:
        drawn = rng(seed, "bandwidth").choice(len(reference), BANDWIDTH_ROWS, replace=False)
        reference = reference[np.sort(drawn)]
    if len(reference) < 2:
        return 0.0
    squares = pair_squares(reference)
    middle = (len(squares) - 1) // 2
    squares.partition(middle)
    scale = float(squares[middle]) or float(squares.mean())
    return 1 / scale if scale > TINY else 0.0


def _fallback(reference: Window, current: Window) -> float:
    """One over the mean squared distance of the windows; 1 where that is 0."""
    one, two = mean(reference), mean(current)
    apart = float(np.sum((one - two) ** 2))
    spread = sum(
        float(np.mean(np.sum((rows - center) ** 2, axis=1)))
        for rows, center in ((reference, one), (current, two))
    )
    return 1 / (apart + spread) if apart + spread > TINY else 1.0
