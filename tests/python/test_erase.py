"""Erased means gone: from every read at once, and from every file after a compaction."""

from __future__ import annotations

import getpass
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from modyn import Loader
from modyn._core import CorruptError
from modyn.dataset import Dataset
from modyn.sampling import Candidates, uniform
from tests.conftest import Rand
from tests.reference.format import Reference

FIXED, RAGGED = {"a": "int64", "b": "uint8[3]"}, {"a": "int64", "w": "bytes"}
ROWS = 8192


def canary(key: int) -> bytes:
    """32 bytes that stand nowhere else."""
    return b"canary of sample %015d" % key


def batch(schema: dict[str, str], first: int, count: int) -> dict[str, object]:
    """Samples whose content is a function of their key."""
    keys = np.arange(first, first + count)
    fields: dict[str, object] = {"a": keys * 3}
    if "w" in schema:
        fields["w"] = [canary(key) * int(key % 3) for key in keys]
    else:
        fields["b"] = np.stack([keys % 251, keys % 241, keys % 7], 1).astype(np.uint8)
    return {"fields": fields, "labels": keys % 10, "timestamps": keys + 1000}


def check(dataset: Dataset, erased: set[int], count: int) -> None:
    """Everything that is left is as it was, and nothing else is there."""
    living = np.array([key for key in range(count) if key not in erased], np.uint64)
    assert np.array_equal(dataset.keys(), living)
    fields = dataset.fetch(living)
    assert np.array_equal(fields["a"], living.astype(np.int64) * 3)
    if "w" in dataset.schema:
        assert [bytes(w) for w in fields["w"]] == [canary(k) * (k % 3) for k in living.tolist()]
    assert dataset.labels is not None
    assert np.array_equal(dataset.labels[living], living % 10)
    assert np.array_equal(dataset.timestamps[living], living + 1000)
    for key in sorted(erased)[:: max(1, len(erased) // 20)]:
        assert dataset.labels[key] == dataset.timestamps[key] == 0
        with pytest.raises(KeyError, match=rf"sample {key} of .* was erased"):
            dataset.fetch([key])


@pytest.fixture(params=[FIXED, RAGGED], ids=["fixed", "ragged"])
def schema(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(request.param)


@pytest.fixture
def dataset(tmp_path: Path, schema: dict[str, str]) -> Dataset:
    made = Dataset.create(tmp_path / "d", schema=schema, segment_records=ROWS)
    made.append(**batch(schema, 0, 2 * ROWS + 100))  # type: ignore[arg-type]
    return made


def test_an_erased_sample_is_refused_by_every_handle_that_was_opened_or_refreshed_since(
    dataset: Dataset,
) -> None:
    before, refreshed = Dataset.open(dataset.path), Dataset.open(dataset.path)

    assert dataset.erase([5, 9000, 5], reason="asked for") == 2
    refreshed.refresh()

    for reader in (dataset, refreshed, Dataset.open(dataset.path)):
        check(reader, {5, 9000}, 2 * ROWS + 100)
    check(before, set(), 2 * ROWS + 100)


def test_the_first_bad_key_of_a_fetch_is_the_one_that_is_reported(dataset: Dataset) -> None:
    dataset.erase([7, 70], reason="x")
    count = len(dataset)
    good = [key for key in range(300) if key not in (7, 70)]
    dataset.fetch(good)

    for bad, message in ((70, "sample 70 of"), (count, f"no sample has key {count}")):
        for other in (7, count + 1):
            for at, later in ((0, 1), (3, 62), (63, 64), (90, 297)):
                keys = good.copy()
                keys[at], keys[later] = bad, other
                with pytest.raises(KeyError, match=message):
                    dataset.fetch(keys)


def test_erasing_twice_erases_once(dataset: Dataset) -> None:
    dataset.erase([1, 2, 3], reason="first")

    assert dataset.erase([2, 3, 4], reason="second") == 1
    assert dataset.erase([2, 3, 4], reason="third") == 0
    assert [event.samples for event in dataset.audit()] == [3, 1]


def test_a_key_that_never_was_erases_nothing(dataset: Dataset) -> None:
    with pytest.raises(KeyError, match="no sample has key 99999"):
        dataset.erase([1, 99999], reason="typo")

    check(dataset, set(), 2 * ROWS + 100)


def test_samples_are_erased_by_label_and_time(dataset: Dataset) -> None:
    erased = dataset.erase(labels=[3, 4], since=1100, until=1200, reason="a bad day")

    expected = {key for key in range(100, 200) if key % 10 in (3, 4)}
    assert erased == len(expected)
    check(dataset, expected, 2 * ROWS + 100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reason": "nothing named"}, "say which samples"),
        ({"keys": [1], "reason": " "}, "reason must say why"),
    ],
)
def test_what_is_to_be_erased_and_why_must_be_said(
    dataset: Dataset, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataset.erase(**arguments)  # type: ignore[arg-type]


def test_a_reader_cannot_erase_or_compact(dataset: Dataset) -> None:
    reader = Dataset.open(dataset.path)

    for act in (lambda: reader.erase([1], reason="no"), reader.compact):
        with pytest.raises(ValueError, match="open for reading"):
            act()


def test_streams_and_loaders_do_not_show_erased_samples(dataset: Dataset) -> None:
    erased = {0, 1, ROWS - 1, ROWS, 2 * ROWS + 99}
    dataset.erase(sorted(erased), reason="asked for")

    for order in (None, np.arange(len(dataset), dtype=np.uint64)[::-1].copy()):
        candidates = Candidates.from_dataset(
            dataset, order=order, first=0, last=len(dataset), block_count=1000
        )
        shown = [int(key) for block in candidates.blocks() for key in block.keys]
        chosen = uniform(candidates, len(dataset), seed=1).tolist()

        assert len(candidates) == len(shown) == len(dataset) - len(erased)
        assert sorted(shown) == dataset.keys().tolist() == chosen
        assert shown == candidates.keys.tolist()
    for batches in Loader(dataset, dataset.keys(), batch_size=4096):
        assert not erased & set(np.asarray(batches.keys).tolist())
    with pytest.raises(KeyError, match=r"batch 0: sample 0 of .* was erased"):
        list(Loader(dataset, np.arange(ROWS, dtype=np.uint64), batch_size=64))


def test_the_audit_says_who_when_why_and_how_many(dataset: Dataset) -> None:
    dataset.erase([1, 2, 3, 10], reason="user 4711 left")
    dataset.erase([20], reason="wrong label: \u00e4\u4e2d", who="clerk")
    dataset.compact()

    first, second, third = dataset.audit()

    assert (first.action, first.why, first.samples) == ("erase", "user 4711 left", 4)
    assert first.who.startswith(getpass.getuser() + "@")
    assert first.keys == (range(1, 4), range(10, 11))
    assert (second.who, second.why) == ("clerk", "wrong label: \u00e4\u4e2d")
    assert (third.action, third.segments) == ("compact", (0,))
    assert first.when <= second.when <= third.when
    assert len({event.digest for event in dataset.audit()}) == 3


def test_a_changed_audit_log_is_noticed(dataset: Dataset) -> None:
    dataset.erase([1], reason="user 4711 left")
    log = Path(dataset.path) / "events"
    log.write_bytes(log.read_bytes().replace(b"4711", b"4712"))

    for act in (dataset.audit, lambda: Dataset.open(dataset.path)):
        with pytest.raises(CorruptError, match=r"events.*digest"):
            act()


def all_bytes(path: str) -> bytes:
    """Of every file of the dataset."""
    return b"".join((Path(path) / name).read_bytes() for name in sorted(os.listdir(path)))


def test_after_a_compaction_no_file_holds_an_erased_byte(tmp_path: Path, rand: Rand) -> None:
    for schema in ({"a": "uint8[32]"}, {"w": "bytes"}):
        dataset = Dataset.create(tmp_path / next(iter(schema)), schema=schema, segment_records=ROWS)
        count = ROWS + 700
        values = [canary(key) for key in range(count)]
        if "a" in schema:
            fields = {"a": np.frombuffer(b"".join(values), np.uint8).reshape(count, 32)}
        else:
            fields = {"w": values}  # type: ignore[dict-item]
        # No row of zero bytes in any of them, as a padding has it.
        numbers = np.arange(count) * 0x0123456789AB + 0x0123456789ABCDEF
        dataset.append(fields, labels=numbers, timestamps=-numbers)
        erased = np.unique(rand.integers(0, count, 300))
        dataset.erase(erased, reason="asked for")
        before = all_bytes(dataset.path)

        report = dataset.compact()

        after = all_bytes(dataset.path)
        assert report.samples == len(erased)
        for key in erased.tolist():
            label = int(numbers[key]).to_bytes(8, "little")
            for secret in (
                canary(key),
                label,
                int(-numbers[key]).to_bytes(8, "little", signed=True),
            ):
                assert secret in before
                assert secret not in after
        living = dataset.keys().tolist()
        assert all(canary(key) in after for key in living)


def test_a_compaction_changes_nothing_for_the_others(dataset: Dataset, rand: Rand) -> None:
    count = 2 * ROWS + 100
    erased = {int(key) for key in rand.integers(0, count, 500)} | set(range(4000, 5000))
    dataset.erase(sorted(erased), reason="asked for")

    for _ in range(2):
        dataset.compact()
        check(dataset, erased, count)
        dataset.append(**batch(dataset.schema, count, 5000))  # type: ignore[arg-type]
        count += 5000
        erased |= {count - 1, count - 2}
        dataset.erase([count - 1, count - 2], reason="asked for")
        check(dataset, erased, count)
        check(Dataset.open(dataset.path), erased, count)
    dataset.close()
    check(Dataset.open(dataset.path, mode="w"), erased, count)


def test_pages_of_erased_records_give_their_room_back(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", schema={"x": "uint8[512]"}, segment_records=ROWS)
    dataset.append({"x": np.ones((ROWS, 512), np.uint8)}, labels=[0] * ROWS, timestamps=[0] * ROWS)
    before = sum(f.stat().st_blocks for f in Path(dataset.path).glob("*.seg"))
    dataset.erase(np.arange(ROWS // 2), reason="old")

    dataset.compact()

    after = sum(f.stat().st_blocks for f in Path(dataset.path).glob("*.seg"))
    assert after <= before * 0.55


def test_a_second_compaction_has_nothing_to_do(dataset: Dataset) -> None:
    dataset.erase([1, ROWS + 1], reason="asked for")

    assert dataset.compact().segments == 2
    assert dataset.compact().segments == 0


def test_the_reader_made_from_the_page_agrees(dataset: Dataset, rand: Rand) -> None:
    count = 2 * ROWS + 100
    erased = {int(key) for key in rand.integers(0, count, 100)}
    dataset.erase(sorted(erased), reason="asked for", who="me")
    dataset.erase([7], reason="again", who="you") if 7 not in erased else None
    dataset.compact()
    dataset.append(**batch(dataset.schema, count, 10))  # type: ignore[arg-type]
    dataset.erase([count + 1], reason="the last", who="me")
    erased |= {7, count + 1}

    reference = Reference(dataset.path)

    assert reference.erased == erased
    assert reference.reasons[0] == ("me", "asked for")
    assert set(reference.generation) == {key // ROWS for key in erased if key < count}
    for key in dataset.keys().tolist():
        assert reference.samples[key]["a"] == key * 3


def test_a_view_from_before_a_compaction_stays(dataset: Dataset, schema: dict[str, str]) -> None:
    reader = Dataset.open(dataset.path)
    reader.fetch([0])  # the first segment is mapped now, the second is not
    dataset.erase([1, ROWS + 1, 2 * ROWS + 1], reason="asked for")
    dataset.compact()

    count = 2 * ROWS + 100
    others = [key for key in range(count) if key != ROWS + 1]
    assert np.array_equal(reader.fetch(others)["a"], np.array(others) * 3)
    with pytest.raises(KeyError, match=r"sample 8193 .*after this view of it was made; refresh"):
        reader.fetch([ROWS + 1])
    reader.refresh()
    check(reader, {1, ROWS + 1, 2 * ROWS + 1}, count)


def _read_on(path: str, stop: Callable[[], bool], answers: multiprocessing.Queue[str]) -> None:
    reader, rounds = Dataset.open(path), 0
    rand = np.random.default_rng(os.getpid())
    try:
        while not stop() or rounds == 0:
            reader.refresh()
            living = reader.keys()
            keys: npt.NDArray[np.uint64] = rand.choice(living, 500)
            try:
                found = reader.fetch(keys)["a"]
            except KeyError as error:  # compacted between the refresh and the fetch
                if "after this view of it was made" not in str(error):
                    raise
                continue
            assert np.array_equal(found, keys.astype(np.int64) * 3)
            rounds += 1
        answers.put("fine")
    except BaseException as error:
        answers.put(repr(error))


def test_readers_in_other_processes_go_on_during_compactions(dataset: Dataset, rand: Rand) -> None:
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    readers = [
        context.Process(target=_read_on, args=(dataset.path, stop.is_set, answers))
        for _ in range(2)
    ]
    for reader in readers:
        reader.start()
    try:
        for _ in range(15):
            dataset.erase(np.unique(rand.numpy.choice(dataset.keys(), 50)), reason="asked for")
            dataset.compact()
        stop.set()
        assert [answers.get(timeout=60) for _ in readers] == ["fine", "fine"]
    finally:
        for reader in readers:
            reader.kill()
            reader.join(60)
