"""What contenders that fill leaves stand on: a database, samples, and leaves that come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.postgres.samples import Blocks, Rows, Samples, leaf_name
from benchmarks.postgres.server import connect

LEAVES = 2  # at most, one for each connection


@dataclass
class Ground:
    """A database in which every contender fills leaf 1, or leaves 1 and 2."""

    url: str
    layout: Rows | Blocks
    samples: Samples
    unlogged: bool = False
    control: Any = field(init=False)

    def __post_init__(self) -> None:
        self.control = connect(self.url)
        for statement in self.layout.blank:
            self.control.execute(statement)

    def clear(self) -> None:
        """Drop the leaves and have the server write out all that it has not yet."""
        for leaf in range(1, LEAVES + 1):
            self.control.execute(f"DROP TABLE IF EXISTS {leaf_name(leaf)}")
        self.control.execute("CHECKPOINT")

    def parts(self, count: int, connections: int = 1) -> list[tuple[int, Samples]]:
        """Share the first samples among leaves."""
        return list(enumerate(self.samples.part(0, count).parts(connections), start=1))

    def create(self, leaf: int, part: Samples) -> str:
        return self.layout.create(leaf, part, unlogged=self.unlogged)

    def check(self, connections: int = 1) -> Callable[[int, Any], None]:
        """Return a look at what arrived."""

        def look(count: int, _: Any) -> None:
            for leaf, part in self.parts(count, connections):
                self.layout.check(self.control, leaf, part)

        return look

    def close(self) -> None:
        self.control.close()


def side_by_side(functions: Sequence[Callable[[], None]]) -> None:
    """Run functions at the same time, one alone in this thread."""
    if len(functions) == 1:
        return functions[0]()
    errors: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
