"""Which sample comes when: the loader against its plain twin, and what users are promised."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.loader import Loader
from tests.python.loading import dataset, joined
from tests.reference.loader_order import Buckets, Order, batches_of

__all__ = ["dataset"]  # fixtures

COUNT = 1100
SCHEMA = {"text": "bytes", "n": "int64", "image": "bytes"}


def length_of(key: int) -> int:
    return key * key % 17


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loader") / "data"
    dataset = modyn.Dataset.create(path, schema=SCHEMA, labels=False)
    keys = np.arange(COUNT)
    texts = [bytes([key % 256]) * length_of(key) for key in range(COUNT)]
    dataset.append({"text": texts, "n": keys, "image": texts}, timestamps=keys)
    dataset.close()
    return path


def key_lists(batches: Any) -> list[list[int]]:
    found = []
    for batch in batches:
        keys = batch.numpy("keys")
        assert np.array_equal(batch.numpy("n"), keys.astype(np.int64))
        assert [len(text) for text in batch.numpy("text")] == [length_of(int(k)) for k in keys]
        found.append(keys.tolist())
    return found


@dataclass(frozen=True)
class Case:
    """A loader and its twin, drawn at random."""

    keys: list[int]
    order: Order
    epoch: int
    batch_size: int
    samples: int | None
    drop_last: bool
    bucket_batches: int | None

    @classmethod
    def draw(cls, random: np.random.Generator) -> Case:
        def below(high: int) -> int:
            return int(random.integers(high))

        count = (below(5), 1 + below(150), 1 + below(1500))[(0, 1, 1, 1, 1, 2)[below(6)]]
        keys = random.integers(0, COUNT, count).tolist()
        shuffle = ("", "global", "partition")[below(3)]
        order = Order(count, shuffle, 1 + below((1, 10, 200, 1000)[below(4)]), below(2**32))
        return cls(
            keys=keys,
            order=order,
            epoch=(below(5), 2**64 - 1)[below(6) == 0],
            batch_size=12 * (1 + below(4 + count // 10)),
            samples=None if count == 0 or below(2) else 1 + below(3 * count),
            drop_last=below(2) == 0,
            bucket_batches=None if below(2) else 1 + below(6),
        )

    def expected(self, rank: int = 0, world_size: int = 1) -> list[list[int]]:
        buckets = self.bucket_batches and Buckets(
            self.bucket_batches, lambda position: length_of(self.keys[position])
        )
        batches = batches_of(
            self.order,
            epoch=self.epoch,
            batch_size=self.batch_size,
            samples_to_pass=self.samples,
            drop_last=self.drop_last,
            buckets=buckets or None,
            rank=rank,
            world_size=world_size,
        )
        return [[self.keys[position] for position in batch] for batch in batches]

    def loader(self, dataset: modyn.Dataset, **more: Any) -> Loader:
        shuffle: Any = self.order.shuffle or False
        return Loader(
            dataset,
            np.array(self.keys, dtype=np.uint64),
            batch_size=self.batch_size,
            shuffle=shuffle,
            partition_size=self.order.partition_size,
            seed=self.order.seed,
            epoch=self.epoch,
            num_samples_to_pass=self.samples,
            drop_last=self.drop_last,
            bucket_by=None if self.bucket_batches is None else "text",
            bucket_batches=self.bucket_batches or 64,
            **more,
        )


@pytest.mark.parametrize("part", range(8))
def test_batches_are_those_of_the_twin(dataset, rand, part):
    for _ in range(8):
        case = Case.draw(rand.numpy)
        threads, prefetch = (int(n) for n in rand.integers(1, 5, 2))

        loader = case.loader(dataset, threads=threads, prefetch=prefetch)

        expected = case.expected()
        assert key_lists(loader) == expected, case
        assert len(loader) == len(expected)


@pytest.mark.parametrize("part", range(6))
def test_a_pass_goes_on_anywhere_and_in_any_stride(dataset, rand, part):
    case = Case.draw(rand.numpy)
    loader = case.loader(dataset)
    whole = key_lists(loader)
    stride = int(rand.integers(1, 6, 1)[0])

    for first in range(len(whole) + 1):
        assert key_lists(loader.batches(first, stride=stride)) == whole[first::stride], case
    shared = [key_lists(loader.batches(worker, stride=stride)) for worker in range(stride)]
    turns = [batch for turn in itertools.zip_longest(*shared) for batch in turn if batch]
    assert turns == whole


@pytest.mark.parametrize("part", range(3))
def test_ranks_share_each_batch_whatever_their_number(dataset, rand, part):
    case = Case.draw(rand.numpy)
    alone = case.expected()

    for world_size in (1, 2, 3, 4, 6, 12):
        ranks = [
            key_lists(case.loader(dataset, rank=rank, world_size=world_size))
            for rank in range(world_size)
        ]

        for rank, batches in enumerate(ranks):
            assert batches == case.expected(rank, world_size), case
            assert len(batches) == len(alone)
        for number, batch in enumerate(alone):
            together = joined([batches[number] for batches in ranks])
            assert together[: len(batch)] == batch
            assert len(together) == max(len(batch), world_size)


@pytest.mark.parametrize("partition_size", [1, 2, 7, 64, 99, 100, 101, 10**18])
def test_a_shuffle_by_partitions_keeps_them_together(dataset, partition_size):
    keys = np.arange(100)
    loader = Loader(
        dataset, keys, batch_size=100, shuffle="partition", partition_size=partition_size, seed=3
    )

    ((order),) = key_lists(loader)

    assert sorted(order) == keys.tolist()
    partitions = [key // partition_size for key in order]
    assert [p for p, _ in itertools.groupby(partitions)] == list(dict.fromkeys(partitions))
    assert loader.partition_size == partition_size
    if partition_size not in (1, 99):  # 99 may leave the single last one in front
        assert order != sorted(order)


@pytest.mark.parametrize("partition_size", [2, 3, 511, 512, 513, 1099])
def test_few_and_many_are_shuffled_as_the_twin_says(dataset, partition_size):
    options: dict[str, Any] = {"shuffle": "partition", "partition_size": partition_size}
    keys = np.arange(COUNT)

    (order,) = key_lists(Loader(dataset, keys, batch_size=COUNT, seed=9, epoch=2, **options))

    assert order == Order(COUNT, "partition", partition_size, seed=9).epoch(2)


def test_partitions_and_what_is_in_them_change_from_epoch_to_epoch(dataset):
    loader = Loader(dataset, np.arange(90), batch_size=90, shuffle="partition", partition_size=10)
    orders = []

    for epoch in range(10):
        loader.set_epoch(epoch)
        orders.append(key_lists(loader)[0])

    assert len({tuple(key // 10 for key in order) for order in orders}) == 10
    inside = [tuple(key % 10 for key in order if key // 10 == 4) for order in orders]
    assert len(set(inside)) == 10
    of_one_epoch = [tuple(key % 10 for key in orders[0] if key // 10 == p) for p in range(9)]
    assert len(set(of_one_epoch)) == 9


def test_the_usual_partition_follows_from_the_schema(tmp_path):
    def usual(name: str, schema: dict[str, str]) -> int:
        with modyn.Dataset.create(tmp_path / name, schema=schema, labels=False) as dataset:
            return Loader(dataset, [], batch_size=1).partition_size

    mib = 2**20
    assert usual("a", {"n": "int64"}) == 8 * mib
    assert usual("b", {"x": "float32[40]"}) == 64 * mib // 256  # 160 bytes
    assert usual("c", {"x": f"uint8[{mib}]"}) == 64
    assert usual("d", {"x": f"uint8[{100 * mib}]"}) == 1
    assert usual("e", {"image": "bytes"}) == 8192  # below 16384: four bytes are the length
    assert usual("f", {"image": "bytes", "more": "bytes"}) == 8192 // 2


def test_a_pass_may_end_within_an_epoch_or_go_beyond_it(dataset):
    def lists(samples: int | None, **more: Any) -> list[list[int]]:
        return key_lists(
            Loader(dataset, [5, 6, 7], batch_size=2, num_samples_to_pass=samples, **more)
        )

    assert lists(None) == [[5, 6], [7]]
    assert lists(2) == [[5, 6]]
    assert lists(1) == [[5]]
    assert lists(8) == [[5, 6], [7, 5], [6, 7], [5, 6]]
    assert lists(7) == [[5, 6], [7, 5], [6, 7], [5]]
    assert lists(7, drop_last=True) == [[5, 6], [7, 5], [6, 7]]


def test_a_long_pass_is_one_epoch_after_the_other(dataset):
    options: dict[str, Any] = {"shuffle": "global", "seed": 4}
    keys = np.arange(50)
    epochs = [
        joined(key_lists(Loader(dataset, keys, batch_size=7, epoch=epoch, **options)))
        for epoch in (6, 7, 8)
    ]

    passed = key_lists(
        Loader(dataset, keys, batch_size=7, epoch=6, num_samples_to_pass=130, **options)
    )

    assert joined(passed) == joined(epochs)[:130]
    assert [len(batch) for batch in passed] == [7] * 18 + [4]


@pytest.mark.parametrize("bucket_by", [None, "text"])
@pytest.mark.parametrize("shuffle", [False, "global", "partition"])
def test_an_endless_pass_goes_on_and_has_no_length(dataset, shuffle, bucket_by):
    options: dict[str, Any] = {"shuffle": shuffle, "bucket_by": bucket_by, "bucket_batches": 3}
    keys = np.arange(40)
    loader = Loader(
        dataset, keys, batch_size=9, num_samples_to_pass=math.inf, partition_size=6, **options
    )
    finite = Loader(
        dataset, keys, batch_size=9, num_samples_to_pass=9 * 60, partition_size=6, **options
    )

    with loader.batches() as batches:
        got = key_lists(itertools.islice(batches, 60))
    with loader.batches(20, stride=3) as batches:
        later = key_lists(itertools.islice(batches, 5))

    assert got == key_lists(finite)
    assert later == got[20:35:3]
    with pytest.raises(TypeError, match="never ends"):
        len(loader)


def test_an_endless_pass_begins_at_any_batch_a_number_can_name(dataset):
    loader = Loader(
        dataset, np.arange(40), batch_size=1, num_samples_to_pass=math.inf, shuffle="global"
    )

    with loader.batches(2**63 - 1) as batches:
        far = joined(key_lists(itertools.islice(batches, 80)))

    first = (2**63 - 1) % 40
    assert sorted(far[40 - first :][:40]) == list(range(40))


def test_what_a_seed_means_never_changes(dataset):
    def keys(count: int, **options: Any) -> list[list[int]]:
        return key_lists(Loader(dataset, np.arange(count), seed=5, epoch=3, **options))

    by_partition = {"shuffle": "partition", "partition_size": 4, "batch_size": 20}
    large = {"shuffle": "partition", "partition_size": 540, "batch_size": 8}
    many = {"shuffle": "partition", "partition_size": 2, "batch_size": 8}
    buckets = {"bucket_by": "text", "bucket_batches": 4, "batch_size": 2}

    assert keys(10, shuffle="global", batch_size=10) == [[9, 6, 3, 4, 8, 5, 7, 2, 0, 1]]
    assert keys(11, **by_partition, num_samples_to_pass=20) == [
        [2, 3, 1, 0, 4, 5, 7, 6, 8, 9, 10, 9, 8, 10, 0, 3, 1, 2, 4, 5]
    ]
    assert keys(1100, **large)[0] == [235, 104, 349, 322, 39, 317, 346, 18]
    assert keys(1100, **many)[0] == [101, 100, 1073, 1072, 1043, 1042, 944, 945]
    in_buckets = [[6, 2], [5, 9], [7, 4], [8, 10], [0, 1], [3]]
    assert keys(11, **buckets, shuffle="global") == in_buckets


# Buckets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, "global", "partition"])
def test_buckets_hold_the_rows_of_their_window_and_like_lengths(dataset, rand, shuffle):
    keys = rand.integers(0, COUNT, 333)
    options: dict[str, Any] = {"shuffle": shuffle, "seed": rand.seed, "partition_size": 50}
    plain = key_lists(Loader(dataset, keys, batch_size=10, **options))
    loader = Loader(
        dataset, keys, batch_size=10, bucket_by="text", bucket_batches=8, threads=3, **options
    )

    batches = key_lists(loader)

    assert [len(batch) for batch in batches] == [len(batch) for batch in plain]
    for first in range(0, len(plain), 8):
        window = batches[first : first + 8]
        assert sorted(joined(window)) == sorted(joined(plain[first : first + 8]))
        spans = sorted(
            (min(lengths), max(lengths))
            for lengths in ([length_of(key) for key in batch] for batch in window)
        )
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert batches != plain
    assert batches == key_lists(loader)


def test_the_batches_of_a_window_come_in_a_drawn_order_when_shuffled(dataset):
    def longest(shuffle: Any, epoch: int) -> list[int]:
        loader = Loader(
            dataset,
            np.arange(320),
            batch_size=10,
            bucket_by="text",
            bucket_batches=32,
            shuffle=shuffle,
            epoch=epoch,
        )
        return [max(length_of(key) for key in batch) for batch in key_lists(loader)]

    assert longest(False, 0) == sorted(longest(False, 0))
    assert longest("global", 0) != sorted(longest("global", 0))
    assert longest("global", 0) != longest("global", 1)


def test_lengths_of_any_size_are_sorted_and_equal_ones_stay(tmp_path):
    sizes = [0, 1, 255, 256, 257, 65535, 65536, 65793, 131072, 1 << 24, (1 << 24) + 1] * 2
    sizes = [sizes[i * 7 % len(sizes)] for i in range(len(sizes))]
    with modyn.Dataset.create(tmp_path / "data", schema={"x": "bytes"}, labels=False) as writer:
        writer.append({"x": [bytes(size) for size in sizes]}, timestamps=range(len(sizes)))

        (batch,) = Loader(writer, np.arange(len(sizes)), batch_size=99, bucket_by="x", fields=[])

    assert batch.numpy("keys").tolist() == sorted(range(len(sizes)), key=lambda k: sizes[k])


def test_buckets_need_not_be_by_a_field_of_the_batch(dataset):
    loader = Loader(dataset, np.arange(100), batch_size=50, bucket_by="image", fields=["n"])

    keys = joined([batch.numpy("n").tolist() for batch in loader])

    assert keys == sorted(range(100), key=length_of)


def test_a_bad_key_in_a_window_is_an_error_of_its_first_batch(dataset):
    keys = np.arange(100)
    keys[57] = COUNT + 5
    for threads in (1, 2, 4):
        loader = Loader(
            dataset, keys, batch_size=5, bucket_by="text", bucket_batches=4, threads=threads
        )
        iterator = iter(loader)

        good = key_lists(itertools.islice(iterator, 8))

        assert joined(good[:4]) == sorted(range(20), key=length_of)
        for _ in range(2):
            with pytest.raises(KeyError, match=rf"batch 8: .*key {COUNT + 5}"):
                next(iterator)


def test_abandoned_windows_end(dataset):
    """Closing does not wait for a worker that waits for another's plan."""
    for taken in range(8):
        loader = Loader(
            dataset,
            np.arange(COUNT),
            batch_size=5,
            bucket_by="text",
            bucket_batches=5,
            num_samples_to_pass=math.inf,
            threads=4,
            prefetch=16,
        )
        with loader.batches() as batches:
            for _ in range(taken):
                next(batches)


# Errors ------------------------------------------------------------------------------------------


Bad = tuple[dict[str, Any], type[Exception], str]
BAD: list[Bad] = [
    ({"num_samples_to_pass": 0}, ValueError, "num_samples_to_pass must be at least 1, got 0"),
    ({"num_samples_to_pass": -math.inf}, TypeError, "num_samples_to_pass must be an integer"),
    ({"num_samples_to_pass": math.nan}, TypeError, "num_samples_to_pass must be an integer"),
    ({"num_samples_to_pass": 5.0}, TypeError, "num_samples_to_pass must be an integer, got 5.0"),
    ({"num_samples_to_pass": 2**63}, ValueError, "num_samples_to_pass must be at most"),
    ({"samples": [], "num_samples_to_pass": 1}, ValueError, "no samples that a pass could repeat"),
    ({"samples": [], "num_samples_to_pass": math.inf}, ValueError, "no samples"),
    ({"partition_size": 0}, ValueError, "partition_size must be at least 1, got 0"),
    ({"partition_size": "64"}, TypeError, "partition_size must be an integer, got '64'"),
    ({"bucket_by": "texts"}, ValueError, "no field 'texts' in the dataset; it has text, n, image"),
    ({"bucket_by": "n"}, ValueError, "must name a field of bytes; 'n' is int64"),
    ({"bucket_batches": 0}, ValueError, "bucket_batches must be at least 1, got 0"),
    (
        {"bucket_by": "text", "bucket_batches": 2**20, "batch_size": 2**13},
        ValueError,
        r"bucket_batches \* batch_size must be at most 4294967296, got 1048576 \* 8192",
    ),
    ({"rank": 0}, ValueError, "rank and world_size are given together"),
    ({"world_size": 2}, ValueError, "rank and world_size are given together"),
    ({"rank": 2, "world_size": 2}, ValueError, "rank must be less than world_size, 2, got 2"),
    ({"rank": -1, "world_size": 2}, ValueError, "rank must be at least 0, got -1"),
    ({"rank": 0, "world_size": 0}, ValueError, "world_size must be at least 1, got 0"),
    ({"rank": 1, "world_size": 3}, ValueError, "a multiple of world_size, which is 3, got 8"),
    ({"shuffle": "partitions"}, ValueError, "shuffle must be .* got 'partitions'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_a_bad_argument_is_named(dataset, arguments, error, message):
    good: dict[str, Any] = {"samples": [1, 2, 3], "batch_size": 8}

    with pytest.raises(error, match=message):
        Loader(dataset, **(good | arguments))


def test_a_stride_is_checked(dataset):
    loader = Loader(dataset, np.arange(10), batch_size=5)

    assert key_lists(loader.batches(3, stride=2)) == []
    with pytest.raises(ValueError, match="first must be at most 3, got 4"):
        loader.batches(4, stride=2)
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        loader.batches(stride=0)
