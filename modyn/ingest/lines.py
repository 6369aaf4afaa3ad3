"""Files of lines that grow: where the next line begins, and whether the last one had ended."""

from __future__ import annotations

from modyn.ingest.facts import read_bytes

__all__ = ["GIVE_ANOTHER_NAME", "begins_with_line", "next_line"]

GIVE_ANOTHER_NAME = "its samples stay; give the new content another name"

FIRST_LINE_MAX = 1 << 20
"""How far the end of the first line of a file is looked for that still grows."""


def next_line(path: str, end: int) -> int | None:
    """Return where the line behind those up to `end` begins; None while it does not.

    The last line of a file may have been taken without its end, which comes first then.

    Raises
    ------
    ValueError
        What was taken as the last line goes on.
    """
    if end == 0:
        return 0
    around = read_bytes(path, end - 1, 3)
    last, rest = around[:1], around[1:]
    if last == b"\n":
        return end
    if rest.startswith(b"\n"):
        return end + 1
    if rest.startswith(b"\r\n"):
        return end + 2
    if rest in (b"", b"\r"):
        return None
    raise ValueError(
        f"{path}: its last line had no end when it was ingested, at byte {end}, and has grown "
        f"since: that sample stays as it was read; {GIVE_ANOTHER_NAME}"
    )


def begins_with_line(path: str) -> bool:
    """Whether there is a first line, or so much of one that an error may be said of it."""
    begin = read_bytes(path, 0, FIRST_LINE_MAX)
    return b"\n" in begin or len(begin) == FIRST_LINE_MAX
