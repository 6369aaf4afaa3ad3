"""Into how many partitions the rows of one trigger are cut by a hash of their key."""

LEAF_ROWS = 2**22
MOST = 16


def modulus_of(given: int | None, rows: int) -> int:
    """Return the modulus asked for, or one for so many rows: a leaf has about 4 Mi of them.

    A table costs the server a few milliseconds and a place in its catalogue, so that the many small
    triggers of a run are better off with one each.

    Examples
    --------
    >>> [modulus_of(None, rows) for rows in (0, 2**22, 2**22 + 1, 10**7, 10**10)]
    [1, 1, 2, 4, 16]
    >>> modulus_of(3, 10**10)
    3

    Raises
    ------
    ValueError
        For a modulus below 1.
    """
    if given is not None:
        if given < 1:
            raise ValueError(f"hash_partition_modulus must be at least 1, got {given}")
        return given
    leaves = -(-rows // LEAF_ROWS)
    return min(MOST, 1 << max(0, leaves - 1).bit_length())
