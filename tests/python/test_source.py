"""Samples in Postgres as candidates and arrivals: the same as embedded, or a clear error."""

from __future__ import annotations

import numpy as np
import pytest

from modyn.errors import CorruptError, DatabaseError
from modyn.metadata.source import Part, Source
from modyn.sampling import Candidates, balanced, uniform
from tests.python.postgres_server import sql, terminate_backends
from tests.python.source_tables import (
    BLOCK,
    LAYOUTS,
    assert_equal,
    backends_busy,
    embedded,
    made,
    publish,
)

pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")


OWN_KEYS = pytest.mark.parametrize("own_keys", [False, True], ids=["keys", "positions"])


@LAYOUTS
@OWN_KEYS
@pytest.mark.parametrize("erased", [0.0, 0.2])
def test_any_range_is_that_of_embedded_candidates(database_url, rand, layout, own_keys, erased):
    count = 5 * BLOCK + 321
    samples = made(rand.numpy, count, permuted=own_keys)
    samples.erased = rand.numpy.random(count) < erased
    samples.erased[2 * BLOCK - 5 : 3 * BLOCK + 5] |= erased > 0  # whole blocks, and leaf ends
    source = publish(database_url, samples, 2 * BLOCK, layout=layout, own_keys=own_keys)

    assert source.count == count
    for first, last in [(0, count), (count, count), (7, 7), *rand.numpy.integers(0, count, (8, 2))]:
        first, last = sorted((int(first), int(last)))
        got = Candidates.from_source(source, first=first, last=last)
        assert_equal(got, embedded(samples, first, last))


@LAYOUTS
def test_blocks_are_cut_as_asked_for(database_url, rand, layout):
    samples = made(rand.numpy, 3 * BLOCK + 17)
    samples.erased = rand.numpy.random(len(samples)) < 0.1
    source = publish(database_url, samples, 2 * BLOCK, layout=layout)
    whole = embedded(samples, 0, len(samples))

    for block_count in (1, 7, BLOCK - 1, BLOCK, 10**12):
        last = 40 if block_count == 1 else len(samples)
        whole = embedded(samples, 0, last)
        got = Candidates.from_source(source, first=0, last=last, block_count=block_count)
        blocks = list(got.blocks())
        assert {len(block) for block in blocks[:-1]} <= {block_count}
        assert np.concatenate([b.keys for b in blocks]).tolist() == whole.keys.tolist()
        assert np.concatenate([b.timestamps for b in blocks]).tolist() == whole.timestamps.tolist()


@LAYOUTS
def test_a_dataset_without_labels(database_url, rand, layout):
    samples = made(rand.numpy, 2500)
    samples.labels = None
    source = publish(database_url, samples, BLOCK, layout=layout)

    got = Candidates.from_source(source, first=100, last=2400)

    assert_equal(got, embedded(samples, 100, 2400))
    with pytest.raises(ValueError, match="no labels"):
        got.where(labels=[1])
    with pytest.raises(ValueError, match="no labels"):
        balanced(got, 3, seed=1)


# Filters ------------------------------------------------------------------------------------------


@LAYOUTS
@OWN_KEYS
@pytest.mark.parametrize("erased", [0.0, 0.2])
def test_a_filter_is_that_of_embedded_candidates(database_url, rand, layout, own_keys, erased):
    samples = made(rand.numpy, 4 * BLOCK + 99, permuted=own_keys)
    samples.erased = rand.numpy.random(len(samples)) < erased
    source = publish(database_url, samples, 2 * BLOCK, layout=layout, own_keys=own_keys)
    first, last = 50, len(samples) - 60
    got = Candidates.from_source(source, first=first, last=last)
    want = embedded(samples, first, last)
    low, high = np.quantile(samples.timestamps, [0.3, 0.6]).astype(int)

    for bounds in (
        {"start": low},
        {"stop": high},
        {"start": low, "stop": high, "labels": [0, 3, 77]},
        {"labels": [-2]},
        {"labels": []},
        {"start": high, "stop": low},
        {"start": -(2**63), "stop": 2**63 - 1},
    ):
        assert_equal(got.where(**bounds), want.where(**bounds))
    twice = got.where(start=low, labels=[0, 1, 2]).where(stop=high, labels=[1, 2, 4])
    assert_equal(twice, want.where(start=low, stop=high, labels=[1, 2]))
    assert next(iter(twice.blocks())).keys.tolist() == twice.keys.tolist()


def test_a_filter_that_keeps_no_label_is_not_widened():
    source = Source("", [Part("modyn.samples_d1_l0", 0, 5)])

    none = source.where(labels=[0]).where(labels=[1])

    assert none.where(labels=[1])._labels == frozenset()


def test_a_filter_of_arrays_and_views_keeps_what_it_says(rand):
    samples = made(rand.numpy, 3000)
    assert samples.labels is not None
    candidates = embedded(samples, 0, 3000)

    got = candidates.where(start=-500, stop=900, labels=[1, 3])

    keep = (samples.timestamps >= -500) & (samples.timestamps < 900)
    keep &= np.isin(samples.labels, [1, 3])
    assert len(got) == keep.sum()
    assert got.keys.tolist() == samples.keys[keep].tolist()
    assert (
        balanced(got, 5, seed=1).tolist()
        == balanced(samples.keys[keep], 5, labels=samples.labels[keep], seed=1).tolist()
    )


# What is wrong with a table -----------------------------------------------------------------------


def shuffled(url: str, table: str, order: str) -> None:
    """Rewrite a table so that its rows lie in another order."""
    sql(url, f"CREATE TABLE public.other AS SELECT * FROM {table} ORDER BY {order}")
    sql(url, f"DROP TABLE {table}")
    sql(url, f"ALTER TABLE public.other RENAME TO {table.split('.')[1]}")


@LAYOUTS
@pytest.mark.parametrize("erased", [0.0, 0.2])
def test_tables_that_do_not_lie_in_order_are_sorted(database_url, rand, layout, erased):
    samples = made(rand.numpy, 6 * BLOCK)
    samples.erased = rand.numpy.random(len(samples)) < erased
    source = publish(database_url, samples, 3 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    shuffled(database_url, "public.leaf_0", f"({column} + {2 * BLOCK}) % {3 * BLOCK}")
    shuffled(database_url, "public.leaf_1", f"{column} DESC")

    for _ in range(2):
        got = Candidates.from_source(source, first=10, last=6 * BLOCK - 10)
        assert_equal(got, embedded(samples, 10, 6 * BLOCK - 10))
    low = int(np.median(samples.timestamps))
    fresh = Candidates.from_source(source.where(), first=0, last=6 * BLOCK).where(start=low)
    assert_equal(fresh, embedded(samples, 0, 6 * BLOCK).where(start=low))


@pytest.mark.parametrize("fill", [10, 55, 100])
def test_a_part_of_a_table_is_found_wherever_it_lies(database_url, rand, fill):
    samples = made(rand.numpy, 20 * BLOCK)
    source = publish(database_url, samples, 20 * BLOCK)
    if fill < 100:  # a part of the pages holds fewer rows
        sql(database_url, "CREATE TABLE public.other (LIKE public.leaf_0)")
        for setting, rows in ((fill, "< 9000"), (100, ">= 9000")):
            sql(database_url, f"ALTER TABLE public.other SET (fillfactor = {setting})")
            move = f"SELECT * FROM public.leaf_0 WHERE key {rows} ORDER BY key"
            sql(database_url, f"INSERT INTO public.other {move}")
        sql(database_url, "DROP TABLE public.leaf_0")
        sql(database_url, "ALTER TABLE public.other RENAME TO leaf_0")

    for first, last in [
        (0, 1),
        (8990, 9010),
        (19 * BLOCK, 20 * BLOCK),
        (20 * BLOCK - 1, 20 * BLOCK),
    ]:
        got = Candidates.from_source(source, first=first, last=last)
        assert_equal(got, embedded(samples, first, last))


@LAYOUTS
@pytest.mark.parametrize("order", [None, "asc", "desc"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_last_table_may_hold_more(database_url, rand, layout, order, parts):
    samples = made(rand.numpy, 9 * BLOCK)
    publish(database_url, samples, 9 * BLOCK // parts, layout=layout)
    count = 8 * BLOCK + 123
    if order:
        column = '"first"' if layout == "blocks" else "key"
        shuffled(database_url, f"public.leaf_{parts - 1}", f"{column} {order}")
    leaf = 9 * BLOCK // parts
    firsts = range(0, count, leaf)
    wanted = [Part(f"public.leaf_{n}", f, min(leaf, count - f)) for n, f in enumerate(firsts)]
    source = Source(database_url, wanted, layout=layout)

    for first, last in [(0, count), (5, count - 5), (count - 1, count)]:
        got = Candidates.from_source(source, first=first, last=last)
        assert_equal(got, embedded(samples, first, last))
        low = int(np.median(samples.timestamps))
        assert_equal(got.where(start=low), embedded(samples, first, last).where(start=low))


@LAYOUTS
@pytest.mark.parametrize("position", [0, BLOCK, 3 * BLOCK - 1])
def test_a_row_that_is_missing_in_a_part_is_named(database_url, rand, layout, position):
    samples = made(rand.numpy, 4 * BLOCK)
    source = publish(database_url, samples, 4 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    at = position // BLOCK * BLOCK if layout == "blocks" else position
    sql(database_url, f"DELETE FROM public.leaf_0 WHERE {column} = {at}")
    first = max(position - 5, 0)
    due = max(first, at)

    with pytest.raises(CorruptError, match=rf"public.leaf_0: .*position {due} is missing"):
        Candidates.from_source(source, first=first, last=position + 5).keys  # noqa: B018


@LAYOUTS
@pytest.mark.parametrize("position", [0, BLOCK, 3 * BLOCK - 1])
def test_a_row_that_is_missing_is_named(database_url, rand, layout, position):
    samples = made(rand.numpy, 4 * BLOCK)
    source = publish(database_url, samples, 3 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    at = position // BLOCK * BLOCK if layout == "blocks" else position
    sql(database_url, f"DELETE FROM public.leaf_0 WHERE {column} = {at}")

    with pytest.raises(CorruptError, match=rf"public.leaf_0: .*position {at} is missing"):
        uniform(Candidates.from_source(source, first=0, last=len(samples)), 5, seed=0)
    with pytest.raises(CorruptError, match=rf"public.leaf_0 .*where {3 * BLOCK} are due"):
        next(Candidates.from_source(source, first=0, last=len(samples)).where(start=0).blocks())


@LAYOUTS
@pytest.mark.parametrize("position", [0, BLOCK, 3 * BLOCK - 1])
@pytest.mark.parametrize("order", [None, "rank"])
def test_a_row_that_is_there_twice_is_named(database_url, rand, layout, position, order):
    samples = made(rand.numpy, 4 * BLOCK)
    source = publish(database_url, samples, 3 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    at = position // BLOCK * BLOCK if layout == "blocks" else position
    sql(
        database_url,
        f"INSERT INTO public.leaf_0 SELECT * FROM public.leaf_0 WHERE {column} = {at}",
    )
    if order:
        shuffled(database_url, "public.leaf_0", column)

    with pytest.raises(CorruptError, match=rf"public.leaf_0: .*position {at} is there twice"):
        uniform(Candidates.from_source(source, first=0, last=len(samples)), 5, seed=0)


def test_an_erased_leaf_that_lost_a_row_is_refused(database_url, rand):
    samples = made(rand.numpy, 3000)
    samples.erased[100:200] = True
    source = publish(database_url, samples, 3000)
    sql(database_url, "DELETE FROM public.leaf_0 WHERE key = 2000")

    with pytest.raises(CorruptError, match=r"public.leaf_0 .*holds 2899 .*where 2900 are due"):
        uniform(Candidates.from_source(source, first=0, last=3000), 5, seed=0)


@pytest.mark.parametrize(
    "damage",
    [
        "timestamps = substr(timestamps, 9)",
        "labels = NULL",
        "erased = '\\x00'",
        "count = 0",
        "count = -5",
        "count = 2000000000",
        "timestamps = NULL",
        '"first" = -1',
    ],
)
def test_blocks_that_contradict_themselves_are_refused(database_url, rand, damage):
    samples = made(rand.numpy, 3 * BLOCK)
    source = publish(database_url, samples, 3 * BLOCK, layout="blocks")
    sql(database_url, f'UPDATE public.leaf_0 SET {damage} WHERE "first" = {BLOCK}')

    with pytest.raises(CorruptError, match=r"public\.leaf_0"):
        Candidates.from_source(source, first=0, last=len(samples)).labels  # noqa: B018


# Faults -------------------------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("erased", [0.0, 0.1])
def test_reading_goes_on_after_the_backend_is_gone(database_url, rand, layout, erased):
    samples = made(rand.numpy, 60 * BLOCK)
    samples.erased = rand.numpy.random(len(samples)) < erased
    source = publish(database_url, samples, 30 * BLOCK, layout=layout)
    candidates = Candidates.from_source(
        source, first=5, last=len(samples), block_count=3 * BLOCK // 2
    )

    got = []
    for number, block in enumerate(candidates.blocks()):
        got.append(block)
        if number % 7 == 3:
            terminate_backends(database_url)

    want = embedded(samples, 5, len(samples))
    assert np.concatenate([block.keys for block in got]).tolist() == want.keys.tolist()
    assert np.concatenate([block.timestamps for block in got]).tolist() == want.timestamps.tolist()


def test_what_cannot_pass_is_an_error_at_once(database_url, rand):
    samples = made(rand.numpy, 100)
    source = publish(database_url, samples, 100)
    sql(database_url, "DROP TABLE public.leaf_0")

    with pytest.raises(DatabaseError, match=r"leaf_0.*does not exist"):
        uniform(Candidates.from_source(source, first=0, last=100), 5, seed=0)


def test_a_server_that_is_not_there_is_given_up_in_the_end(tmp_path):
    source = Source(f"host={tmp_path}", [Part("leaf", 0, 10)], retry_seconds=0.3)

    with pytest.raises(DatabaseError, match="cannot connect"):
        uniform(Candidates.from_source(source, first=0, last=10), 1, seed=0)


@LAYOUTS
def test_a_stream_left_early_leaves_nothing_running(database_url, rand, layout):
    samples = made(rand.numpy, 300 * BLOCK)
    source = publish(database_url, samples, 300 * BLOCK, layout=layout)
    blocks = Candidates.from_source(source, first=0, last=len(samples), block_count=10).blocks()
    next(blocks)
    assert backends_busy(database_url) == 1

    blocks.close()

    for _ in range(200):
        if backends_busy(database_url) == 0:
            break
    assert backends_busy(database_url) == 0
    assert_equal(Candidates.from_source(source, first=0, last=10), embedded(samples, 0, 10))


# Making a source ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([("t; DROP TABLE x", 0, 1, 0)], "not the name of a table"),
        ([("a.b.c", 0, 1, 0)], "not the name of a table"),
        ([("T", 0, 1, 0)], "not the name of a table"),
        ([("t", 1, 1, 0)], "cannot follow position 0"),
        ([("t", 0, 0, 0)], "cannot follow position 0"),
        ([("t", 0, 5, 6)], "cannot follow position 0"),
        ([("t", 0, 5, 0), ("u", 6, 5, 0)], "cannot follow position 5"),
        ([("t", 0, 5, 0), ("u", 5, 2**63 - 1, 0)], "cannot follow position 5"),
    ],
)
def test_parts_that_cannot_be_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Source("host=/nowhere", parts)


def test_a_source_of_nothing_is_empty():
    source = Source("host=/nowhere", [])

    candidates = Candidates.from_source(source, first=0, last=0)

    assert len(candidates) == 0
    assert candidates.keys.tolist() == []
    assert uniform(candidates, 3, seed=0).tolist() == []


def test_positions_out_of_range_are_refused():
    source = Source("host=/nowhere", [Part("t", 0, 5)])

    with pytest.raises(ValueError, match="0 <= first <= last <= 5"):
        Candidates.from_source(source, first=0, last=6)


# Who brought them, and which are still there ------------------------------------------------------


@LAYOUTS
@OWN_KEYS
def test_parts_are_those_of_embedded_candidates(database_url, rand, layout, own_keys):
    samples = made(rand.numpy, 3 * BLOCK + 99, permuted=own_keys)
    samples.erased = rand.numpy.random(len(samples)) < 0.2
    source = publish(database_url, samples, 2 * BLOCK, layout=layout, own_keys=own_keys)
    last, starts = len(samples), [(3, 17), (4, BLOCK + 5), (5, BLOCK + 5), (7, 2 * BLOCK)]
    whole = Candidates.from_source(source, first=17, last=last, starts=starts)
    ends = [first for _, first in starts[1:]] + [last]

    for (trigger, first), end, part in zip(starts, ends, whole.parts, strict=True):
        assert part.trigger == trigger
        assert_equal(part.candidates, embedded(samples, first, end))
        some = whole.where(labels=[1]).parts[trigger - 3 if trigger < 7 else 3].candidates
        assert_equal(some, embedded(samples, first, end).where(labels=[1]))
    assert_equal(whole.new, embedded(samples, 2 * BLOCK, last))


@LAYOUTS
def test_without_a_view_the_stream_says_what_lives(database_url, rand, layout):
    samples = made(rand.numpy, 2 * BLOCK + 99)
    samples.erased = rand.numpy.random(len(samples)) < 0.2
    source = publish(database_url, samples, BLOCK, layout=layout)

    whole = Candidates.from_source(source, first=0, last=len(samples))

    assert whole.living(samples.keys).tolist() == (~samples.erased).tolist()
