"""The transaction that fills a leaf, or adds to it, as what `Connection.batch` takes.

    row of the batch; a leaf of its own, unless it is there; COPY; attach it;
    hold the dataset's row if its erasures are those we know; say what the leaf has;
    move the count of the dataset over all leaves without a gap

The row of the dataset is locked last and shortly, and always before rows of its leaves.
"""

from dataclasses import dataclass

from modyn.metadata.columns import Columns, Facts, Sent, blocks, facts, rows
from modyn.metadata.state import Leaf, State
from modyn.metadata.tables import BLOCK, text
from modyn.postgres import Copy, Statement

# $1 dataset, $2 erasures that the sender knows.  It holds back erasures and other senders until
# the commit; foreign keys to the row can be checked meanwhile.
SAME_EVENTS = "SELECT 1 FROM modyn.datasets WHERE id = $1 AND events = $2 FOR NO KEY UPDATE"
# $1 dataset, $2 first late key or NULL, $3 whether one that is known is still late.
ADVANCE = """
UPDATE modyn.datasets d
SET count = p.count, erased = p.erased, last_timestamp = p.last_timestamp,
    first_late = p.late, ascending = coalesce(p.late >= p.count, true)
FROM (
    SELECT coalesce(sum(count), 0)::bigint AS count,
           coalesce(sum(erased), 0)::bigint AS erased,
           (array_agg(last_timestamp ORDER BY leaf DESC)
               FILTER (WHERE last_timestamp IS NOT NULL))[1] AS last_timestamp,
           (SELECT CASE WHEN $3::boolean THEN least(first_late, $2::bigint) ELSE $2::bigint END
            FROM modyn.datasets WHERE id = $1::integer) AS late
    FROM (
        SELECT l.leaf, l.count, l.erased, l.last_timestamp,
               row_number() OVER (ORDER BY l.leaf) - 1 AS place,
               coalesce(bool_and(l.count = o.leaf_samples) OVER (
                   ORDER BY l.leaf ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               ), true) AS whole
        FROM modyn.leaves l JOIN modyn.datasets o ON o.id = l.dataset
        WHERE l.dataset = $1::integer
    ) AS all_leaves
    WHERE place = leaf AND whole
) AS p
WHERE d.id = $1::integer
"""
_NEW_LEAF = """
INSERT INTO modyn.leaves
    (dataset, leaf, "first", count, erased, min_timestamp, max_timestamp, last_timestamp)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
# $3 is the count that the leaf had.
_MORE_IN_LEAF = """
UPDATE modyn.leaves
SET count = count + $4, erased = erased + $5, min_timestamp = least(min_timestamp, $6),
    max_timestamp = greatest(max_timestamp, $7), last_timestamp = coalesce($8, last_timestamp)
WHERE dataset = $1 AND leaf = $2 AND count = $3
"""
# $9 is how often the leaf was filled again.
_LEAF_AGAIN = """
UPDATE modyn.leaves
SET refills = refills + 1, erased = $5, min_timestamp = $6, max_timestamp = $7,
    last_timestamp = $8
WHERE dataset = $1 AND leaf = $2 AND "first" = $3 AND count = $4 AND refills = $9
"""
_STILL_THERE = {
    "rows": "SELECT 1 FROM modyn.samples WHERE dataset = $1 AND key >= $2 AND key < $3 LIMIT 1",
    "blocks": "SELECT 1 FROM modyn.sample_blocks "
    'WHERE dataset = $1 AND "first" >= $2 AND "first" < $3 LIMIT 1',
}
_LAST_BLOCK = 'DELETE FROM modyn.sample_blocks WHERE dataset = $1 AND "first" = $2'


@dataclass(frozen=True, kw_only=True)
class Job:
    """Keys first .. last-1 that are to be sent; all are of one leaf.

    Parameters
    ----------
    number : int
        Of the leaf.
    leaf : Leaf or None
        What is there of it.
    again : bool
        Whether to send anew what was there.
    """

    number: int
    first: int
    last: int
    leaf: Leaf | None
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The arguments of `Connection.batch`."""

    id: str
    before: list[Statement]
    copies: list[Copy]
    after: list[Statement]


def work(state: State, total: int) -> list[Job]:
    """Return what is missing of a dataset with `total` samples, in order."""
    size = state.leaf_samples
    known = {leaf.leaf: leaf for leaf in state.leaves}
    jobs = []
    for number in range(-(-total // size)):
        leaf = known.get(number)
        first = number * size + (leaf.count if leaf else 0)
        last = min((number + 1) * size, total)
        if first < last:
            jobs.append(Job(number=number, first=first, last=last, leaf=leaf))
    return jobs


def lost(state: State) -> list[Job]:
    """Return what a crash of the server has taken out of unlogged tables."""
    return [
        Job(number=leaf.leaf, first=leaf.first, last=leaf.end, leaf=leaf, again=True)
        for leaf in state.leaves
        if leaf.lost
    ]


def batch(state: State, view: Columns, job: Job, events: int, late: int | None) -> Batch:
    """Return the transaction of a job.

    Its id names the dataset and the first key, or how often the leaf was filled before: what was
    committed once is never sent again.
    """
    parts, said = state.parts, facts(view, job.first, job.last)
    fresh = job.leaf is None or job.again
    first = job.first
    if state.layout == "blocks" and not fresh:
        first -= first % block_samples(state)  # the last block is replaced by one with more
    sent = _sent(state, view, first, job.last)
    names = (f"samples:{state.id}:{job.first}", f"refill:{state.id}:{job.number}")
    refills = job.leaf.refills if job.leaf else 0
    return Batch(
        id=f"{names[1]}:{refills}" if job.again else names[0],
        before=_before(state, job, first),
        copies=[Copy(parts.copy(job.number, sent.names, fresh=fresh), sent.arrays, sent.rows)],
        after=[
            *([] if job.leaf else [parts.attach_leaf(job.number), parts.free_leaf(job.number)]),
            Statement(SAME_EVENTS, text(state.id, events), 1),
            _leaf_row(state, job, said),
            Statement(ADVANCE, text(state.id, late, "true"), 1),
        ],
    )


def block_samples(state: State) -> int:
    """Return how many samples a block has."""
    return min(BLOCK, state.leaf_samples)


def _sent(state: State, view: Columns, first: int, last: int) -> Sent:
    if state.layout == "rows":
        return rows(view, first, last)
    return blocks(view, first, last, block_samples(state))


def _before(state: State, job: Job, first: int) -> list[Statement]:
    if job.leaf is None:
        return [state.parts.create_leaf(job.number)]
    if job.again:
        return [state.parts.empty_leaf(job.number)]
    before: list[Statement] = []
    leaf = job.leaf
    if state.unlogged and leaf.count > leaf.erased:  # a crash may have emptied it just now
        start = job.number * state.leaf_samples
        bounds = text(state.id, start, start + state.leaf_samples)
        before.append(Statement(_STILL_THERE[state.layout], bounds, 1))
    if first < job.first:
        before.append(Statement(_LAST_BLOCK, text(state.id, first), 1))
    return before


def _leaf_row(state: State, job: Job, said: Facts) -> Statement:
    """Return the statement that says what the leaf has now."""
    facts = (
        said.count,
        said.erased,
        *(said.min_timestamp, said.max_timestamp, said.last_timestamp),
    )
    if job.leaf is None:
        return Statement(_NEW_LEAF, text(state.id, job.number, job.first, *facts), 1)
    if job.again:
        refills = job.leaf.refills
        return Statement(_LEAF_AGAIN, text(state.id, job.number, job.first, *facts, refills), 1)
    return Statement(_MORE_IN_LEAF, text(state.id, job.number, job.leaf.count, *facts), 1)
