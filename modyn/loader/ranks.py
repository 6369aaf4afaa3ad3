"""Which share of each batch this process trains on."""

from __future__ import annotations

import sys

from modyn.loader.arguments import as_number

__all__ = ["rank_and_world_size"]


def rank_and_world_size(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size: as given, of torch.distributed, or 0 of 1.

    torch is not imported for it: whoever initialised torch.distributed has.
    """
    if (rank is None) != (world_size is None):
        raise ValueError(
            "rank and world_size are given together, or neither of them; "
            f"got rank={rank} and world_size={world_size}"
        )
    if rank is None or world_size is None:
        return _of_torch()
    world_size = as_number("world_size", world_size, 1, 2**32 - 1)
    rank = as_number("rank", rank, 0, 2**32 - 1)
    if rank >= world_size:
        raise ValueError(f"rank must be less than world_size, {world_size}, got {rank}")
    return rank, world_size


def _of_torch() -> tuple[int, int]:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
