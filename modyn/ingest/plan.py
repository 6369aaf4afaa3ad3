"""The rules: what of which file is new, and what is not to be read again.

For every file there are four answers: all of it is in the dataset (`known`); it is known, and
only its new name, time or inode is to be written down (`noted`); it is to be read from some
position on (`take`); or it is refused (`rejected`). docs/ingest.md says the rules in the words of
users; this module is all that decides.

A path stands for what was read under it until that file has got another name: a log that is
rotated is a known file under a new name, and a new file under the old one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from modyn.ingest.facts import Facts, Rejected, check, is_at
from modyn.ingest.lines import GIVE_ANOTHER_NAME, next_line
from modyn.ingest.sources import INODE, NEW, PATH, Record, Sources

__all__ = ["Plan", "Rules", "make_plan"]


@dataclass(frozen=True)
class Rules:
    """What there is to know of a format.

    Parameters
    ----------
    kind : str
        Its name; a file is not gone on with as another kind.
    append_only : bool
        Files may grow at their end; otherwise a file is whole, or changed.
    lines : bool
        Samples end with a line.
    growing : bool
        Somebody follows: an unfinished sample at the end of a file waits.
    """

    kind: str
    append_only: bool
    lines: bool
    growing: bool


@dataclass
class Plan:
    """What to do with the files at `facts.paths`, by their places there."""

    facts: Facts
    take: list[int] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)
    refused: dict[int, Exception] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)  # and those without facts
    links: dict[int, int] = field(default_factory=dict)  # those that are not NEW
    records: dict[int, Record] = field(default_factory=dict)  # of those
    renamed: list[tuple[str, str]] = field(default_factory=list)
    gone: dict[int, list[str]] = field(default_factory=dict)  # names that a renamed file had
    later: list[str] = field(default_factory=list)  # further names of what is taken now
    known: int = 0

    def start(self, place: int) -> int:
        """Return the position at which reading begins."""
        record = self.records.get(place)
        return record.end if record else 0

    def is_as_it_was(self, place: int) -> bool:
        """Whether nothing about a known file is new, its name and inode neither."""
        record = self.records[place]
        same = self.facts.at(place) == record[:4]
        return same and bool(record.whole) and self.links[place] == PATH

    def row(
        self, place: int, end: int, checked: tuple[int, int], whole: bool, count: int
    ) -> dict[str, int]:
        """Return what an entry says of a file after this."""
        facts = self.facts
        return {
            "link": self.links.get(place, NEW),
            "device": facts.device[place],
            "inode": facts.inode[place],
            "size": facts.size[place],
            "mtime": facts.mtime[place],
            "end": end,
            "head": checked[0],
            "tail": checked[1],
            "whole": int(whole),
            "samples": count,
        }

    def rows(
        self, places: list[int], head: list[int], tail: list[int]
    ) -> tuple[list[str], dict[str, list[int]]]:
        """Return what an entry says of files that are one sample each."""
        facts = self.facts
        columns = {
            "link": [self.links.get(place, NEW) for place in places],
            "device": [facts.device[place] for place in places],
            "inode": [facts.inode[place] for place in places],
            "size": [facts.size[place] for place in places],
            "mtime": [facts.mtime[place] for place in places],
            "end": [1] * len(places),
            "head": head,
            "tail": tail,
            "whole": [1] * len(places),
            "samples": [1] * len(places),
        }
        return [facts.paths[place] for place in places], columns


def make_plan(facts: Facts, sources: Sources, rules: Rules, waiting: Container[str] = ()) -> Plan:
    """Decide about all files but those that are to wait."""
    plan = Plan(facts, rejected=list(facts.errors))
    inodes = list(zip(facts.device, facts.inode, strict=True))
    rows = [sources.by_path.get(path, -1) for path in facts.paths]
    living: set[int] = set()  # what is known and seen here by its inode
    for place, inode in enumerate(inodes):
        row = sources.by_inode.get(inode, -1)
        if row < 0:
            continue
        if row == rows[place]:
            living.add(row)
        elif _is_renamed(facts, place, sources.record(row), rules):
            plan.links[place] = INODE
            names = sources.names(row)
            plan.gone[place] = [path for path in names if not is_at(path, *inode)]
            former = [*plan.gone[place], *names, sources.first_name(row)][0]
            plan.renamed.append((facts.paths[place], former))
            rows[place] = row
            living.add(row)
    new: list[int] = []
    doubtful: list[int] = []
    claimed: set[tuple[int, int]] = set()  # inodes that are written down by this plan
    for place, row in enumerate(rows):
        if facts.paths[place] in waiting:
            continue
        by_inode = place in plan.links or sources.by_inode.get(inodes[place], -1) == row
        if row < 0 or (row in living and not by_inode):
            new.append(place)
            continue
        if _decide(plan, place, sources.record(row), rules):
            _claim(plan, place, claimed, inodes[place])
        elif place in plan.noted[-1:]:
            claimed.add(inodes[place])
        if place not in plan.refused:
            living.add(row)  # no other file goes on with it
        elif not by_inode:
            doubtful.append(place)
    for place in doubtful:
        if rows[place] in living:  # what was known by this path is found elsewhere
            del plan.refused[place], plan.links[place], plan.records[place]
            new.append(place)
    for place in sorted(new):
        _claim(plan, place, claimed, inodes[place])
    for place, error in plan.refused.items():
        if inodes[place] in claimed:  # it is another name of a file that is taken now
            plan.later.append(facts.paths[place])
        else:
            plan.rejected.append((facts.order[place], facts.paths[place], error))
    plan.take.sort()
    return plan


def _claim(plan: Plan, place: int, claimed: set[tuple[int, int]], inode: tuple[int, int]) -> None:
    """Take a file, or look at it again when it is known under its other name."""
    if inode in claimed:
        plan.later.append(plan.facts.paths[place])
    else:
        claimed.add(inode)
        plan.take.append(place)


def _is_renamed(facts: Facts, place: int, record: Record, rules: Rules) -> bool:
    """Whether a file whose inode is known is the one that had this inode before."""
    size, mtime = facts.size[place], facts.mtime[place]
    if record.kind != rules.kind:
        return (size, mtime) == (record.size, record.mtime)
    length = _length(record, rules)
    if size < length or (size > length and not rules.append_only):
        return False
    # The inode of a file that is gone may have passed on to another one with the same content;
    # that one has a time of its own, and a file that was only renamed has not.
    if not rules.append_only and mtime != record.mtime:
        return False
    return check(facts.paths[place], length) == (record.head, record.tail)


def _length(record: Record, rules: Rules) -> int:
    """Return how many bytes at the beginning of a file are known by their check."""
    return record.end if rules.append_only else record.size


def _decide(plan: Plan, place: int, record: Record, rules: Rules) -> bool:
    """Whether a known file is to be read on; otherwise it is put where it belongs."""
    facts = plan.facts
    plan.links.setdefault(place, PATH)
    plan.records[place] = record
    try:
        if record.kind != rules.kind:
            raise ValueError(
                f"{facts.paths[place]}: was ingested as {record.kind}, and so it cannot be "
                f"ingested as {rules.kind}"
            )
        if _is_as_it_was(facts, place, record):
            more = _has_more(record, rules)
        else:
            more = _has_grown(facts.paths[place], facts.size[place], record, rules)
    except (ValueError, OSError) as error:
        plan.refused[place] = error
        return False
    if more:
        return True
    plan.known += 1
    inode = (facts.device[place], facts.inode[place])
    is_new = inode != (record.device, record.inode)
    if is_new or plan.links[place] == INODE or not _is_as_it_was(facts, place, record):
        plan.noted.append(place)
    return False


def _is_as_it_was(facts: Facts, place: int, record: Record) -> bool:
    return (facts.size[place], facts.mtime[place]) == (record.size, record.mtime)


def _has_more(record: Record, rules: Rules) -> bool:
    """Whether a file that is as it was has something that was not taken."""
    if not record.whole:
        return True  # the work ended in the middle of it
    return rules.append_only and not rules.growing and record.end < record.size


def _has_grown(path: str, size: int, record: Record, rules: Rules) -> bool:
    """Whether a file that is not as it was has more at its end; ValueError if it is another."""
    length = _length(record, rules)
    if size < length:
        raise ValueError(
            f"{path}: has shrunk from {length} bytes to {size} since it was ingested; "
            f"{GIVE_ANOTHER_NAME}"
        )
    is_same = check(path, length) == (record.head, record.tail)
    if not is_same or (size > length and not rules.append_only):
        raise ValueError(f"{path}: has changed since it was ingested; {GIVE_ANOTHER_NAME}")
    if not rules.append_only:
        return not record.whole
    return size > length and (not rules.lines or next_line(path, length) is not None)
