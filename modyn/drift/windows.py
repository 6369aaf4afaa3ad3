"""The two windows of a metric: checked, permuted, projected, and read a few columns at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Window", "checked", "covariance", "mean", "permuted", "rng", "sorted_columns"]

Floats = npt.NDArray[np.float64]
Window = npt.NDArray[np.floating]

BLOCK_BYTES = 8 << 20  # of float64, at a time
PURPOSES = {"permutation": 1, "projection": 2, "split": 3, "bandwidth": 4}


def rng(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return a generator of its own for each (seed, purpose, index)."""
    numbers = [seed, PURPOSES[purpose], index]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers)))


def checked(reference: npt.ArrayLike, current: npt.ArrayLike) -> tuple[Window, Window]:
    """Return the windows as matrices of float32 or float64, of the same width.

    Other numbers become float64; one dimension is one feature.

    Raises
    ------
    ValueError
        For windows without rows or columns, of different width, or with values not finite.
    """
    one, two = _matrix("reference", reference), _matrix("current", current)
    if one.shape[1] != two.shape[1]:
        raise ValueError(
            f"the windows differ in width: reference has {one.shape[1]} features, current has "
            f"{two.shape[1]}"
        )
    return one, two


def _matrix(name: str, given: npt.ArrayLike) -> Window:
    rows = np.asarray(given)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    if rows.ndim == 1:
        rows = rows[:, np.newaxis]
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"{name} must be a matrix with at least one row and one column, got shape {rows.shape}"
        )
    for block in blocks(rows):
        if not np.isfinite(block).all():
            raise ValueError(f"{name} holds values that are not finite")
    return np.ascontiguousarray(rows)


def blocks(rows: Window) -> Iterator[Window]:
    """Yield the rows, some MiB at a time."""
    step = max(1, BLOCK_BYTES // (8 * rows.shape[1]))
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


def sorted_columns(reference: Window, current: Window) -> Iterator[tuple[Floats, Floats]]:
    """Each feature of both windows, float64, ascending."""
    step = max(1, BLOCK_BYTES // (8 * max(len(reference), len(current))))
    for first in range(0, reference.shape[1], step):
        some = [
            np.sort(np.ascontiguousarray(rows[:, first : first + step].T), axis=1)
            for rows in (reference, current)
        ]
        for x, y in zip(*some, strict=True):
            yield x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)


def mean(rows: Window) -> Floats:
    """Return the mean of each feature."""
    total: Floats = sum(
        (block.sum(axis=0, dtype=np.float64) for block in blocks(rows)),
        start=np.zeros(rows.shape[1]),
    )
    return total / len(rows)


def covariance(rows: Window, center: Floats) -> Floats:
    """Return the mean of the outer squares of rows - center."""
    total = np.zeros((len(center), len(center)))
    for block in blocks(rows):
        apart = block - center
        total += apart.T @ apart
    return total / len(rows)


def permuted(reference: Window, current: Window, *, seed: int, index: int) -> tuple[Window, Window]:
    """All rows dealt out anew to two windows of the same sizes."""
    n = len(reference)
    which = permutation(n, len(current), seed=seed, index=index)
    rows = np.empty((len(which), reference.shape[1]), np.result_type(reference, current))
    of_reference = which < n
    rows[of_reference] = reference[which[of_reference]]
    rows[~of_reference] = current[which[~of_reference] - n]
    return rows[:n], rows[n:]


def permutation(n: int, m: int, *, seed: int, index: int) -> npt.NDArray[np.int64]:
    """Which row of both windows, one after the other, stands at each place of permutation index."""
    return rng(seed, "permutation", index).permutation(n + m)


def principal(reference: Window, current: Window, count: int) -> tuple[Window, Window]:
    """Both windows in the first `count` principal components of the reference.

    The sign of a component is that its largest coefficient is positive.

    Raises
    ------
    ValueError
        Where there are fewer features than components.
    """
    width = reference.shape[1]
    if count > width:
        raise ValueError(f"num_pca_component is {count}, but the windows have {width} features")
    center = mean(reference)
    _, vectors = np.linalg.eigh(covariance(reference, center))
    axes = vectors[:, ::-1][:, :count]
    largest = np.argmax(np.abs(axes), axis=0)
    axes = axes * np.where(axes[largest, np.arange(count)] < 0, -1.0, 1.0)
    return _project(reference, center, axes), _project(current, center, axes)


def _project(rows: Window, center: Floats, axes: Floats) -> Floats:
    out = np.empty((len(rows), axes.shape[1]))
    first = 0
    for block in blocks(rows):
        out[first : first + len(block)] = (block - center) @ axes
        first += len(block)
    return out
