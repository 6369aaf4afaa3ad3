"""The fence: who has lost the lease of a pipeline writes nothing more.

A pipeline's row carries a token, which grows each time that somebody takes the lease.  Whoever
writes what belongs to a pipeline holds its token against that row, first in each transaction, and
keeps the row locked until the end.  So a process that was paused, cut off or given up, and comes
back, finds another token and fails, whatever it believes about the time.

The lock is FOR KEY SHARE: any number of writers of one pipeline hold it at once, and the holder's
renewals, which touch only the time, pass.  Who takes over locks the row FOR UPDATE first: it waits
for writers that are at it, and those that come later wait for it and then see its token.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modyn.errors import FencedError

if TYPE_CHECKING:
    from psycopg import Cursor

FENCE = "SELECT 1 FROM modyn.pipelines WHERE id = $1 AND token = $2 FOR KEY SHARE"
_FENCE = "SELECT 1 FROM modyn.pipelines WHERE id = %s AND token = %s FOR KEY SHARE"
_HOLDER = "SELECT name, holder FROM modyn.pipelines WHERE id = %s"


@dataclass(frozen=True)
class Fence:
    """The right to write what belongs to a pipeline, as long as the token is the newest.

    Parameters
    ----------
    pipeline : int
        The pipeline's id.
    token : int
        What its lease was given.
    """

    pipeline: int
    token: int

    @property
    def statement(self) -> tuple[str, tuple[str | None, ...], int]:
        """The check as the first statement of a `modyn.postgres.Connection.batch`."""
        return FENCE, (str(self.pipeline), str(self.token)), 1

    def check(self, cursor: "Cursor[Any]") -> None:
        """Check the token, first in a transaction, and keep it until its end.

        Raises
        ------
        FencedError
            When another process has taken over.
        """
        if cursor.execute(_FENCE, (self.pipeline, self.token)).fetchone() is not None:
            return
        found = cursor.execute(_HOLDER, (self.pipeline,)).fetchone()
        if found is None:
            raise FencedError(f"pipeline {self.pipeline} is gone from the database")
        name, holder = found
        raise FencedError(
            f"pipeline {name!r} was taken over by {holder or 'a process that has ended'}; "
            "this process writes nothing more"
        )
