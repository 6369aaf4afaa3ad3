"""The greedy methods where the features are: for tensors, on a GPU or a CPU.

The same functions as in `modyn.coresets`, with the same answers, up to rounding: features are
float32 (or narrower), sums float64, and no matrix of samples by samples is built; columns of it
are computed when they are needed, as many at once as fit into `COLUMN_BYTES`. Rows of the answers
come back as NumPy arrays.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.coresets.device_greedy import Objective, choose, first_largest
from modyn.coresets.greedy import Greedy
from modyn.coresets.locations import Centers, Facilities
from modyn.coresets.matching import Herd, Matching
from modyn.coresets.nonnegative import Fit
from modyn.coresets.spread import Greedily

if TYPE_CHECKING:
    import torch

__all__ = [
    "Tensors",
    "craig",
    "d_optimal",
    "facility_location",
    "gradient_match",
    "graph_cut",
    "herding",
    "kcenter",
    "log_determinant",
]

COLUMN_BYTES = 1 << 28
_NOTHING = 1e-12  # inner products this small are rounding errors

Rows = npt.NDArray[np.intp]
Pairs = Callable[["torch.Tensor"], "torch.Tensor"]  # rows -> what all have with them, (n, rows)


@dataclass(frozen=True, eq=False)
class Tensors:
    """As `Features`, of tensors of one device.

    Parameters
    ----------
    rows : tensor, shape (n, d), n and d at least 1
        Finite.
    embeddings : tensor, shape (n, w), or None
        Finite.
    """

    rows: "torch.Tensor"
    embeddings: "torch.Tensor | None" = None

    def __post_init__(self) -> None:
        for name, tensor in [("features", self.rows), ("embeddings", self.embeddings)]:
            if tensor is None:
                continue
            if tensor.ndim != 2 or 0 in tensor.shape or len(tensor) != len(self.rows):
                raise ValueError(f"{name} must have shape (n, d), got {tuple(tensor.shape)}")
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} hold a number that is not finite")

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: npt.NDArray[np.integer[Any]]) -> "Tensors":
        """Return some of the samples."""
        import torch

        which = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self.rows.device)
        return Tensors(
            self.rows[which], None if self.embeddings is None else self.embeddings[which]
        )

    def double(self) -> "Tensors":
        """Return the same in float64."""
        more = self.embeddings
        return Tensors(self.rows.double(), None if more is None else more.double())

    def products(self, which: "torch.Tensor") -> "torch.Tensor":
        """Return <G_i, G_x> of all i and the rows x in `which`; shape (n, len(which))."""
        found = self.rows @ self.rows[which].T
        if self.embeddings is not None:
            found *= 1.0 + self.embeddings @ self.embeddings[which].T
        return found

    def squares(self) -> "torch.Tensor":
        """Return norm(G_i)^2."""
        found = self.rows.square().sum(1)
        if self.embeddings is not None:
            found = found * (1.0 + self.embeddings.square().sum(1))
        return found

    def moment(self, weights: "torch.Tensor") -> "torch.Tensor":
        """Return the sum of weights * G: shape (d,), or (d, 1 + w) with embeddings."""
        if self.embeddings is None:
            return weights @ self.rows
        weighted = self.rows * weights[:, None]
        import torch

        return torch.cat([weighted.sum(0)[:, None], weighted.T @ self.embeddings], dim=1)

    def against(self, moment: "torch.Tensor") -> "torch.Tensor":
        """Return <G_i, moment> for all i."""
        if self.embeddings is None:
            return self.rows @ moment
        return (self.rows @ moment[:, :1]).squeeze(1) + (
            (self.embeddings @ moment[:, 1:].T) * self.rows
        ).sum(1)


def kcenter(features: Tensors, count: int, *, start: int | npt.ArrayLike = 0) -> Centers:
    """As `modyn.coresets.kcenter`."""
    import torch

    begin = np.asarray(start)
    first = begin.reshape(-1).astype(np.int64)
    _check_start(first, count, len(features), begin.ndim == 0)
    given, n = features.double(), len(features)
    squares = given.squares()
    nearest = torch.full((n,), torch.inf, dtype=torch.float64, device=squares.device)
    taken = torch.zeros(n, dtype=torch.bool, device=squares.device)
    chosen, radii = [], []
    for step in range(len(first) + (count - 1 if begin.ndim == 0 else count)):
        if step < len(first):
            row = int(first[step])
        else:
            row = first_largest(nearest.masked_fill(taken, -torch.inf))
        if step >= len(first) or begin.ndim == 0:
            chosen.append(row)
            radii.append(nearest[row])
        taken[row] = True
        products = given.products(torch.tensor([row], device=squares.device)).squeeze(1)
        nearest = torch.minimum(nearest, (squares + squares[row] - 2 * products).clamp_(min=0))
        nearest[row] = 0.0
    away = torch.stack(radii).sqrt().cpu().numpy() if radii else np.empty(0)
    return Centers(np.array(chosen, dtype=np.uint64), away, nearest.sqrt().cpu().numpy())


def facility_location(features: Tensors, count: int, *, greedy: Greedy | None = None) -> Facilities:
    """As `modyn.coresets.facility_location`."""
    return _facility(_directions(features.double()), features, count, greedy)


def craig(features: Tensors, count: int, *, greedy: Greedy | None = None) -> Facilities:
    """As `modyn.coresets.craig`."""
    given = features.double()
    squares = given.squares()
    far = 2.0 * squares.max().sqrt()

    def places(which: "torch.Tensor") -> "torch.Tensor":
        apart = squares[:, None] + squares[which] - 2.0 * given.products(which)
        return far - _diagonal(apart.clamp_(min=0), which, 0.0).sqrt_()

    return _facility(places, features, count, greedy)


def graph_cut(
    features: Tensors, count: int, *, coverage: float = 2.0, greedy: Greedy | None = None
) -> Greedily:
    """As `modyn.coresets.graph_cut`."""
    given, n = features.double(), len(features)
    pairs, inverse = _directions(given), _inverse(given.squares())
    sums = 0.5 * (n + given.against(given.moment(inverse)) * inverse) + 0.5 * (inverse == 0)
    gains = coverage * sums - 1.0

    def take(row: int) -> None:
        gains.sub_(2.0 * pairs(_one(row, gains)).squeeze(1))

    objective = Objective(n, gains.device, lambda rows: gains[rows], take)
    rows, added, _ = choose(objective, count, _lazily(greedy))
    return Greedily(rows, added)


def log_determinant(
    features: Tensors, count: int, *, ridge: float = 1e-6, greedy: Greedy | None = None
) -> Greedily:
    """As `modyn.coresets.log_determinant`, by the kernel."""
    import torch

    given = features.double()
    own = torch.ones(len(given), dtype=torch.float64, device=given.rows.device)
    return _volume(_directions(given), own, count, ridge, 1.0, greedy)


def d_optimal(
    features: Tensors, count: int, *, ridge: float = 1.0, greedy: Greedy | None = None
) -> Greedily:
    """As `modyn.coresets.d_optimal`, by the kernel."""
    given = features.double()
    return _volume(given.products, given.squares(), count, ridge, ridge, greedy)


def herding(features: Tensors, count: int) -> Herd:
    """As `modyn.coresets.herding`."""
    import torch

    _check_count(count, len(features))
    given, n = features.double(), len(features)
    squares = given.squares()
    mean = given.moment(torch.full_like(squares, 1.0 / n))
    wanted, taken = torch.zeros_like(mean), torch.zeros(n, dtype=torch.bool, device=mean.device)
    chosen, errors = [], []
    for step in range(count):
        wanted += mean
        values = 2.0 * given.against(wanted) - squares
        row = first_largest(values.masked_fill(taken, -torch.inf))
        taken[row] = True
        wanted -= _vector(given, row)
        chosen.append(row)
        errors.append(float(wanted.norm()) / (step + 1))
    return Herd(np.array(chosen, dtype=np.uint64), np.array(errors, dtype=np.float64))


def gradient_match(
    features: Tensors,
    count: int,
    *,
    ridge: float = 0.5,
    target: "torch.Tensor | None" = None,
) -> Matching:
    """As `modyn.coresets.gradient_match`; weights are fitted on the host."""
    import torch

    _check_count(count, len(features))
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge must be at least 0 and finite, got {ridge}")
    given, n = features.double(), len(features)
    squares = given.squares()
    mean_square = float(squares.mean())
    least = _NOTHING * (squares * mean_square).sqrt()
    wanted = given.moment(torch.full_like(squares, 1.0 / n)) if target is None else target.double()
    fit, useless = Fit(ridge * mean_square), torch.zeros(n, dtype=torch.bool, device=squares.device)
    objectives: list[float] = []
    residual = wanted
    while len(fit.names) < count and len(objectives) < 4 * count + 16:
        along = given.against(residual).masked_fill_(useless, -torch.inf)
        if fit.names:
            along[torch.tensor(fit.names, device=along.device)] = -torch.inf
        row = first_largest(along)
        if not bool(along[row] > least[row]):
            break
        vector = _vector(given, row)
        known = torch.tensor(fit.names, dtype=torch.int64, device=along.device)
        inner = _some_products(given, known, row)
        if not fit.add(
            row, inner.cpu().numpy(), float(squares[row]), float((vector * wanted).sum())
        ):
            useless[row] = True
            continue
        residual = wanted - _weighted(given, fit)
        objectives.append(float(residual.square().sum()) + fit.penalty)
    order = np.argsort(fit.names).astype(np.intp)
    return Matching(
        np.array(fit.names, dtype=np.uint64)[order],
        np.asarray(fit.weights, dtype=np.float64)[order],
        np.array(objectives, dtype=np.float64),
        float(residual.norm()),
    )


# Inside -----------------------------------------------------------------------------------------


def _facility(pairs: Pairs, features: Tensors, count: int, greedy: Greedy | None) -> Facilities:
    import torch

    n, device = len(features), features.rows.device
    current = torch.zeros(n, dtype=torch.float64, device=device)
    server = torch.zeros(n, dtype=torch.int64, device=device)
    taken = 0

    def evaluate(rows: "torch.Tensor") -> "torch.Tensor":
        most = max(COLUMN_BYTES // (8 * n), 1)
        parts = [
            (pairs(part) - current[:, None]).clamp_(min=0).sum(0) for part in _parts(rows, most)
        ]
        return torch.cat(parts)

    def take(row: int) -> None:
        nonlocal taken
        similar = pairs(_one(row, current)).squeeze(1)
        nearer = similar > current
        nearer[row] = True
        current[nearer] = similar[nearer]
        server[nearer] = taken
        taken += 1

    objective = Objective(n, device, evaluate, take)
    rows, gains, evaluations = choose(objective, count, greedy or Greedy())
    served = torch.bincount(server, minlength=max(count, 1))[:count].cpu().numpy()
    return Facilities(rows, gains, served.astype(np.uint64), evaluations)


def _volume(
    pairs: Pairs,
    own: "torch.Tensor",
    count: int,
    ridge: float,
    unit: float,
    greedy: Greedy | None,
) -> Greedily:
    """With the Cholesky factor L of those chosen: left = own + ridge - norm(L^-1 K_Sx)^2."""
    import torch

    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge must be above 0 and finite, got {ridge}")
    n = len(own)
    _check_count(count, n)
    factor = torch.zeros(count, count, dtype=torch.float64, device=own.device)
    chosen: list[int] = []

    def solved(rows: "torch.Tensor") -> "torch.Tensor":
        k = len(chosen)
        known = torch.tensor(chosen, dtype=torch.int64, device=own.device)
        inner = _between(pairs, rows, known)
        found: torch.Tensor = torch.linalg.solve_triangular(factor[:k, :k], inner, upper=False)
        return found

    def left(rows: "torch.Tensor", z: "torch.Tensor") -> "torch.Tensor":
        return (own[rows] + ridge - z.square().sum(0)).clamp_(min=ridge)

    def evaluate(rows: "torch.Tensor") -> "torch.Tensor":
        return (left(rows, solved(rows)) / unit).log()

    def take(row: int) -> None:
        which, k = _one(row, own), len(chosen)
        z = solved(which)
        factor[k, :k] = z.squeeze(1)
        factor[k, k] = left(which, z).sqrt().squeeze(0)
        chosen.append(row)

    objective = Objective(n, own.device, evaluate, take)
    rows, gains, _ = choose(objective, count, _lazily(greedy))
    return Greedily(rows, gains)


def _lazily(greedy: Greedy | None) -> Greedy:
    """Return naive greedy as lazy, which chooses the same."""
    asked = greedy or Greedy()
    return replace(asked, how="LazyGreedy") if asked.how == "NaiveGreedy" else asked


def _parts(rows: "torch.Tensor", most: int) -> "list[torch.Tensor]":
    """Return rows in pieces of at most that many."""
    return [rows[i : i + most] for i in range(0, len(rows), most)]


def _inverse(squares: "torch.Tensor") -> "torch.Tensor":
    """Return 1 / norm, and 0 for norm 0."""
    import torch

    return torch.where(squares > 0, squares.rsqrt(), 0.0)


def _directions(given: Tensors) -> Pairs:
    """Return the similarity of directions, (1 + cos) / 2."""
    inverse = _inverse(given.squares())

    def similar(which: "torch.Tensor") -> "torch.Tensor":
        cosine = given.products(which) * (inverse[:, None] * inverse[which])
        return _diagonal((0.5 + 0.5 * cosine).clamp_(max=1.0), which, 1.0)

    return similar


def _diagonal(columns: "torch.Tensor", which: "torch.Tensor", value: float) -> "torch.Tensor":
    """Set what each of these rows has with itself."""
    import torch

    columns[which, torch.arange(len(which), device=which.device)] = value
    return columns


def _between(pairs: Pairs, rows: "torch.Tensor", known: "torch.Tensor") -> "torch.Tensor":
    """Return what `known` have with `rows`, shape (known, rows): columns of the shorter list."""
    if len(rows) <= len(known):
        return pairs(rows)[known]
    return pairs(known)[rows].T


def _one(row: int, like: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.tensor([row], dtype=torch.int64, device=like.device)


def _vector(given: Tensors, row: int) -> "torch.Tensor":
    """Return G of a row, as `Tensors.moment` has it."""
    import torch

    if given.embeddings is None:
        return given.rows[row]
    return torch.cat(
        [given.rows[row, :, None], torch.outer(given.rows[row], given.embeddings[row])], 1
    )


def _some_products(given: Tensors, known: "torch.Tensor", row: int) -> "torch.Tensor":
    """Return <G_i, G_row> of the rows i in `known`."""
    found = given.rows[known] @ given.rows[row]
    if given.embeddings is not None:
        found *= 1.0 + given.embeddings[known] @ given.embeddings[row]
    return found


def _weighted(given: Tensors, fit: Fit) -> "torch.Tensor":
    """Return the sum of weights * G of those in the fit."""
    import torch

    known = torch.tensor(fit.names, dtype=torch.int64, device=given.rows.device)
    more = None if given.embeddings is None else given.embeddings[known]
    weights = torch.as_tensor(np.asarray(fit.weights), dtype=torch.float64)
    return Tensors(given.rows[known], more).moment(weights.to(given.rows.device))


def _check_count(count: int, n: int) -> None:
    if not 0 <= count <= n:
        raise ValueError(f"count must be 0 to {n}, got {count}")


def _check_start(first: npt.NDArray[np.int64], count: int, n: int, alone: bool) -> None:
    if len(first) == 0 or len(np.unique(first)) < len(first):
        raise ValueError("start must be different rows, at least one")
    if first.min() < 0 or first.max() >= n:
        raise ValueError(f"start must be rows below {n}, got {first.min()} to {first.max()}")
    if not int(alone) <= count <= n - (0 if alone else len(first)):
        raise ValueError(f"count is out of range, got {count} of {n}")
