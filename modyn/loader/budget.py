"""The memory a loader may take, and for what: one account for all its stages."""

from __future__ import annotations

from modyn.loader.arguments import as_number

__all__ = ["Budget"]


class Budget:
    """Bytes that are reserved once, when a loader is made, so that they are never exceeded.

    Whatever is kept for long (a resident copy, partitions staged ahead) is reserved first; batches
    that are filled or being filled share the rest.  Batches that were handed over belong to the
    loop and are not counted.

    Parameters
    ----------
    total : int or None
        Bytes for everything; None: any amount.
    batch_bytes : int
        What a whole batch takes, less payloads.

    Raises
    ------
    ValueError
        When not even one batch fits.

    Examples
    --------
    >>> budget = Budget(1000, batch_bytes=100)
    >>> budget.spare(depth=4)
    600
    >>> budget.reserve("the resident copy", 500)
    >>> budget.for_batches, budget.spare(depth=4)
    (500, 100)
    """

    def __init__(self, total: int | None, *, batch_bytes: int) -> None:
        self.total = None if total is None else as_number("memory_budget", total, 1, 2**63 - 1)
        self._batch_bytes = batch_bytes
        self._reserved: dict[str, int] = {}
        if self.total is not None and self.total < batch_bytes:
            raise ValueError(
                f"memory_budget must hold a batch, which takes {batch_bytes} bytes, "
                f"got {self.total}"
            )

    def reserve(self, what: str, size: int) -> None:
        """Take bytes away from batches.

        Raises
        ------
        ValueError
            When they leave no room for one batch; names all that was reserved.
        """
        self._reserved[what] = self._reserved.get(what, 0) + size
        needed = sum(self._reserved.values()) + self._batch_bytes
        if self.total is not None and needed > self.total:
            parts = [f"{name}, {size} bytes" for name, size in self._reserved.items()]
            parts.append(f"one batch, {self._batch_bytes} bytes")
            raise ValueError(f"memory_budget of {self.total} bytes cannot hold {'; '.join(parts)}")

    def spare(self, *, depth: int) -> int | None:
        """Return how many bytes can be reserved so that `depth` batches still fit; None: any."""
        if self.total is None:
            return None
        rest = self.total - sum(self._reserved.values()) - depth * self._batch_bytes
        return max(rest, 0)

    @property
    def for_batches(self) -> int:
        """Bytes for batches filled or being filled; 0: any amount, as in C."""
        return 0 if self.total is None else self.total - sum(self._reserved.values())
