"""How the largest gain is looked for."""

from dataclasses import dataclass

__all__ = ["GREEDY", "Greedy"]

GREEDY = ("NaiveGreedy", "LazyGreedy", "StochasticGreedy", "ApproximateLazyGreedy")
_CODES = {name: code for code, name in enumerate(GREEDY)}


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Greedy maximisation: always the sample that adds most is taken next.

    Parameters
    ----------
    how : str
        "NaiveGreedy" evaluates all samples before each choice. "LazyGreedy" makes the same choice
        with few evaluations: what a sample added earlier bounds what it adds now.
        "StochasticGreedy" takes the best of ceil(n / k ln(1 / epsilon)) samples drawn anew for
        each choice. "ApproximateLazyGreedy" is lazy, and takes the first sample on top that still
        adds `beta` of its bound.
    batch : int
        How many samples are evaluated at once, at most; the choice does not depend on it.
    epsilon : float
        Between 0 and 1. A stochastic choice is worth 1 - 1/e - epsilon of the best, in
        expectation.
    beta : float
        Between 0 and 1.
    seed : int
        Of the stochastic choice, 0 to 2**64 - 1.

    References
    ----------
    M. Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978;
    B. Mirzasoleiman et al., "Lazier than lazy greedy", AAAI 2015.
    """

    how: str = "LazyGreedy"
    batch: int = 64
    epsilon: float = 0.1
    beta: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.how not in _CODES:
            raise ValueError(f"greedy must be one of {', '.join(GREEDY)}, got {self.how!r}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        for name, value in [("epsilon", self.epsilon), ("beta", self.beta)]:
            if not 0 < value < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be 0 to 2**64 - 1, got {self.seed}")

    @property
    def numbers(self) -> tuple[int, int, float, float, int]:
        """As C reads it."""
        return (_CODES[self.how], self.batch, self.epsilon, self.beta, self.seed)
