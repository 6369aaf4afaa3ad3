"""The rules that parameters of several selection policies share."""

__all__ = ["check_limit", "check_ratio", "check_tail_triggers"]


def check_tail_triggers(tail_triggers: int | None) -> None:
    """Refuse what is neither None nor a number of triggers."""
    if tail_triggers is not None and tail_triggers < 0:
        raise ValueError(f"tail_triggers must be at least 0, or None, got {tail_triggers}")


def check_limit(limit: int) -> None:
    """Refuse a limit of 0, which could be taken for none, and numbers below -1."""
    if limit != -1 and limit < 1:
        raise ValueError(f"limit must be at least 1, or -1 for no limit, got {limit}")


def check_ratio(ratio: int, ratio_max: int) -> None:
    """Refuse a share outside 0 to 1."""
    if ratio_max < 1:
        raise ValueError(f"ratio_max must be at least 1, got {ratio_max}")
    if not 0 <= ratio <= ratio_max:
        raise ValueError(f"ratio must be from 0 to ratio_max ({ratio_max}), got {ratio}")
