"""What must be in a dataset after a history of files: plain Python, on whole contents.

A `World` is a folder with the files that a random history makes in it, and beside each file on
disk its content here. It ingests as modyn does by its rules (docs/ingest.md), but knows a file by
all of its bytes, and takes them one file after the other.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

HEADER = b"t,x\n"


@dataclass(eq=False)
class File:
    """An inode."""

    content: bytes = b""


@dataclass(eq=False)
class Taken:
    """What was taken of one file."""

    inode: File
    consumed: bytes = b""
    samples: list[int] = field(default_factory=list)
    seen: tuple[int, int] | None = None  # size and mtime


class World:
    def __init__(self, folder: Path, rand: random.Random) -> None:
        self.folder = folder / "in"
        self.grave = folder / "grave"  # keeps inodes of files that are gone from coming back
        self.folder.mkdir()
        self.grave.mkdir()
        self.rand = rand
        self.files: dict[str, File] = {}
        self.taken: list[Taken] = []
        self.by_path: dict[str, Taken] = {}
        self.by_inode: dict[File, Taken] = {}
        self.next_id = 1_000_000
        self.buried = 0
        self.log: list[str] = []

    # What happens to files ----------------------------------------------------------------------

    def step(self) -> None:
        """Do something to some file."""
        names = sorted(self.files)
        actions = [self.create] if not names else [self.create] * 3
        if names:
            actions += [self.append] * 6 + [self.append_half] * 3 + [self.rename] * 3
            actions += [self.copy, self.rewrite, self.touch, self.touch, self.link, self.delete]
            actions += [self.rotate]
        self.rand.choice(actions)()

    def step_in_between(self) -> None:
        """Do something that makes no difference for what an interrupted ingest must take."""
        if self.files:
            self.rand.choice([self.append, self.copy, self.touch])()

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def some(self) -> str:
        return self.rand.choice(sorted(self.files))

    def new_name(self) -> str:
        return f"{self.rand.randrange(12):02}.csv"

    def lines(self) -> bytes:
        ids = range(self.next_id, self.next_id + self.rand.randrange(1, 6))
        self.next_id = ids.stop
        return b"".join(b"%d,%d\n" % (i % 7, i) for i in ids)

    def bury(self, name: str) -> None:
        if name in self.files:
            self.buried += 1
            os.link(self.path(name), self.grave / str(self.buried))

    def write(self, name: str, more: bytes) -> None:
        self.files[name].content += more
        with open(self.path(name), "ab") as out:
            out.write(more)
        self.date(name)

    def date(self, name: str) -> None:
        """Give a file a time: now, or one that a clock that jumps would give."""
        if self.rand.random() < 0.5:
            day = 86_400 * 10**9
            at = self.rand.randrange(-3 * day, 3 * day) + 1_700_000_000 * 10**9
            os.utime(self.path(name), ns=(at, at))

    def create(self) -> None:
        name = self.new_name()
        self.bury(name)
        if name in self.files:
            os.unlink(self.path(name))
        self.files[name] = File()
        self.log.append(f"create {name}")
        self.write(name, HEADER + self.lines() if self.rand.random() < 0.8 else HEADER)

    def append(self) -> None:
        name = self.some()
        self.log.append(f"append {name}")
        if not self.files[name].content.endswith(b"\n"):
            self.write(name, b"\n")
        self.write(name, self.lines())

    def append_half(self) -> None:
        """Write a line without its end, or the rest of one."""
        name = self.some()
        self.log.append(f"append_half {name}")
        if self.files[name].content.endswith(b"\n"):
            self.write(name, self.lines()[: -self.rand.randrange(1, 4)])
        else:
            self.write(name, self.rand.choice([b"7", b"77\n", b"\n"]))

    def rename(self) -> None:
        old, new = self.some(), self.new_name()
        if old == new or self.files.get(new) is self.files[old]:
            return  # to rename one name of a file to another one of it does nothing
        self.log.append(f"rename {old} {new}")
        self.bury(new)
        os.rename(self.path(old), self.path(new))
        self.files[new] = self.files.pop(old)

    def rotate(self) -> None:
        """Rename a file and begin a new one under its name."""
        old, new = self.some(), self.new_name()
        if old == new or self.files.get(new) is self.files[old]:
            return
        self.log.append(f"rotate {old} {new}")
        self.bury(new)
        os.rename(self.path(old), self.path(new))
        self.files[new] = self.files[old]
        self.files[old] = File()
        self.write(old, HEADER + self.lines())

    def copy(self) -> None:
        """Copy with its times: cp -p."""
        old, new = self.some(), self.new_name()
        if new in self.files:
            return
        self.log.append(f"copy {old} {new}")
        Path(self.path(new)).write_bytes(self.files[old].content)
        self.files[new] = File(self.files[old].content)
        facts = os.stat(self.path(old))
        os.utime(self.path(new), ns=(facts.st_atime_ns, facts.st_mtime_ns))

    def rewrite(self) -> None:
        """Replace by a longer file in one step, as rsync does."""
        name = self.some()
        more = self.lines() if self.files[name].content.endswith(b"\n") else b"\n"
        self.log.append(f"rewrite {name}")
        self.bury(name)
        other = Path(self.path(".coming"))
        other.write_bytes(self.files[name].content + more)
        os.rename(other, self.path(name))
        self.files[name] = File(self.files[name].content + more)
        self.date(name)

    def touch(self) -> None:
        name = self.some()
        self.log.append(f"touch {name}")
        self.date(name)

    def link(self) -> None:
        old, new = self.some(), self.new_name()
        if new in self.files:
            return
        self.log.append(f"link {old} {new}")
        os.link(self.path(old), self.path(new))
        self.files[new] = self.files[old]

    def delete(self) -> None:
        name = self.some()
        self.log.append(f"delete {name}")
        self.bury(name)
        os.unlink(self.path(name))
        del self.files[name]

    # What must come of it -----------------------------------------------------------------------

    def ingest(self, growing: bool) -> list[str]:
        """Take what is new; return the names that are rejected."""
        self.log.append(f"ingest growing={growing}")
        rejected: list[str] = []
        names = sorted(self.files)
        while names:
            names = self._round(names, growing, rejected)
        return sorted(rejected)

    def samples(self) -> list[int]:
        return sorted(x for taken in self.taken for x in taken.samples)

    def _round(self, names: list[str], growing: bool, rejected: list[str]) -> list[str]:
        by_inode, living = self._by_inode(names)
        work: list[tuple[str, Taken | None]] = []
        notes: list[tuple[str, Taken]] = []
        new: list[str] = []
        later: list[str] = []
        refused: list[str] = []
        claimed: set[File] = set()

        def claim(name: str, taken: Taken | None) -> None:
            if self.files[name] in claimed:
                later.append(name)
            else:
                claimed.add(self.files[name])
                work.append((name, taken))

        for name in names:
            taken = by_inode.get(name) or self.by_path.get(name)
            if taken is None or (name not in by_inode and taken in living):
                new.append(name)
                continue
            try:
                if self._has_more(name, taken, growing):
                    claim(name, taken)
                elif self._is_news(name, taken):
                    notes.append((name, taken))
                    claimed.add(self.files[name])
                living.add(taken)
            except ValueError:
                refused.append(name)
        for name in list(refused):
            if name not in by_inode and self.by_path[name] in living:
                refused.remove(name)
                new.append(name)
        for name in sorted(new):
            claim(name, None)
        for name in refused:
            (later if self.files[name] in claimed else rejected).append(name)
        for name, taken in notes:
            self._note(name, taken)
        for name, known in sorted(work, key=lambda one: one[0]):
            self._take(name, known, growing)
        return later

    def _by_inode(self, names: list[str]) -> tuple[dict[str, Taken], set[Taken]]:
        """Return the files that are known by their inode."""
        known: dict[str, Taken] = {}
        for name in names:
            taken = self.by_inode.get(self.files[name])
            if taken is None:
                continue
            is_new_name = taken is not self.by_path.get(name)
            if not is_new_name or self.files[name].content.startswith(taken.consumed):
                known[name] = taken
        return known, set(known.values())

    def _has_more(self, name: str, taken: Taken, growing: bool) -> bool:
        content, consumed = self.files[name].content, taken.consumed
        if self._seen(name) == taken.seen:
            return not growing and len(consumed) < len(content)
        if not content.startswith(consumed):
            raise ValueError("changed")
        rest = content[len(consumed) :]
        if rest and not consumed.endswith(b"\n") and not rest.startswith(b"\n"):
            raise ValueError("the last line had no end")
        return bool(rest)

    def _seen(self, name: str) -> tuple[int, int]:
        facts = os.stat(self.path(name))
        return facts.st_size, facts.st_mtime_ns

    def _is_news(self, name: str, taken: Taken) -> bool:
        moved = self.by_path.get(name) is not taken or self.files[name] is not taken.inode
        return moved or self._seen(name) != taken.seen

    def _note(self, name: str, taken: Taken) -> None:
        inode = self.files[name]
        if taken.inode is not inode and self.by_inode.get(taken.inode) is taken:
            del self.by_inode[taken.inode]
        if self.by_path.get(name) is not taken:
            for old, other in list(self.by_path.items()):
                if other is taken and self.files.get(old) is not inode:
                    del self.by_path[old]
        taken.inode, taken.seen = inode, self._seen(name)
        self.by_path[name] = self.by_inode[inode] = taken

    def _take(self, name: str, taken: Taken | None, growing: bool) -> None:
        content = self.files[name].content
        end = content.rfind(b"\n") + 1 if growing else len(content)
        start = 0 if taken is None else len(taken.consumed)
        end = max(end, start)
        rows = content[start:end].split(b"\n")[start == 0 :]
        if taken is None:
            taken = Taken(self.files[name])
            self.taken.append(taken)
        taken.samples += [int(row.split(b",")[1]) for row in rows if row]
        taken.consumed = content[:end]
        self._note(name, taken)
