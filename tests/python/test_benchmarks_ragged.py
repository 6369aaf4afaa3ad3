"""The contenders of W5 to W7 and of the training loop, on tiny data: is what they deliver right?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.loading import cold, cold_rivals, decoding, disk, ragged, ragged_rivals, staging
from benchmarks.loading.payloads import Kind, Payloads, Store, forget
from benchmarks.loading.rivals import missing
from benchmarks.loading.site import Site
from benchmarks.machine import file_system

# Warnings of rivals are theirs: files left open, forks of a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore")

KIND = Kind("tiny", 10, 3_000, (300, 300), 16, (3, 3), True)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, quick=True, records=50_000)


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    made = Store(site, KIND)
    yield made
    made.close()


def test_a_batch_that_differs_in_one_byte_is_refused() -> None:
    payloads = Payloads(20, 5, 50)
    keys = np.array([3, 3, 19], np.uint64)
    values = np.frombuffer(b"".join(payloads[int(key)] for key in keys), np.uint8).copy()
    payloads.check("right", keys, (values, payloads.offsets(keys)))

    values[-1] ^= 1

    with pytest.raises(AssertionError, match="wrong: the batch is not what was stored"):
        payloads.check("wrong", keys, (values, payloads.offsets(keys)))


@pytest.mark.parametrize("name", ["memcpy", "modyn fetch", "modyn Loader, 2 threads"])
def test_records_of_varying_length_arrive(store: Store, name: str) -> None:
    check_taking(store, ragged.ours(store)[name])


@pytest.mark.parametrize("name", list(ragged_rivals.RIVALS))
def test_rivals_take_records_of_varying_length(store: Store, name: str) -> None:
    rival = ragged_rivals.RIVALS[name]
    if rival.needs and (absent := missing(rival.needs)):
        pytest.skip(absent)
    if name == "files, DataLoader 2":
        ragged_rivals.write_files(store)

    check_taking(store, ragged.Taking(rival.make(store)))


def check_taking(store: Store, taking: ragged.Taking) -> None:
    keys = store.draw()
    if taking.prepare is not None:
        taking.prepare(keys)

    part, got = taking.run(keys)

    assert got is not None
    assert len(part) == KIND.batch
    store.payloads.check("taken", part, got)


def test_what_is_dropped_is_not_in_memory(tmp_path: Path) -> None:
    if file_system(tmp_path) in ("tmpfs", "overlay"):
        pytest.skip("a file system that is its own page cache")
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 22))
    mapped = np.memmap(path, np.uint8, "r")
    with path.open("rb") as file:
        mapped.sum()
        assert disk.share_in_memory(file.fileno()) == 1

        disk.drop(path)

        assert disk.share_in_memory(file.fileno()) == 0
    assert mapped.sum() == 0  # the mapping is as good as before


@pytest.mark.parametrize("kind", ["clicks", "images"])
def test_the_cold_contenders_deliver_what_was_stored(site: Site, kind: str) -> None:
    records = getattr(cold, kind)(site)
    found, _ = cold_rivals.rivals(site, records)
    ways = [cold_rivals.Floor(records), cold.Fetch(records, second=True), cold.Load(records)]
    keys = np.random.default_rng(4).integers(records.count, size=64, dtype=np.uint64)
    records.batch = 32

    for way in [*ways, *found.values()]:
        way.open(keys)
        part, got = way.run(keys)
        records.check(type(way).__name__, part, way.plain(got))
        way.close()


def test_the_floor_of_cold_reads_says_why_it_cannot_read(site: Site) -> None:
    records = cold.images(site)
    floor = cold_rivals.Floor(records)
    floor.cold = dataclasses.replace(records, packed=site.folder / "nowhere")

    with pytest.raises(OSError, match="the floor could not read"):
        floor.batch(np.zeros(3, np.uint64))


def test_every_way_through_an_epoch_ends_with_a_batch_of_it(site: Site) -> None:
    epoch = staging.Epoch(site.dataset, 40_000, 9_000)

    for name, way in staging.ways(epoch).items():
        way.open()
        keys, fields = way.run(1)
        assert len(fields) == (0 if name == "read" else 3)
        if fields:
            staging.check(name, keys, fields)
            assert keys.max() < epoch.records


def test_records_are_read_over_the_ends_of_files(tmp_path: Path) -> None:
    files = [tmp_path / "0", tmp_path / "1"]
    whole = np.arange(200, dtype=np.uint8)
    for file, part in zip(files, np.split(whole, 2), strict=True):
        file.write_bytes(part.tobytes())
    room = np.zeros(50, np.uint8)

    staging.read_range(files, 80, room)

    assert np.array_equal(room, whole[80:130])
    forget(*files)


@pytest.mark.skipif(bool(missing("Pillow")), reason="Pillow is not installed")
def test_images_are_decoded_by_everybody_alike(site: Site) -> None:
    album = decoding.Album.made(dataclasses.replace(site, quick=True))
    keys = np.random.default_rng(8).integers(len(album.pictures), size=2 * decoding.BATCH)

    for name, run in decoding.ways(album, decoding.pillow).items():
        if "processes" in name:
            continue  # they import this file by its name; tests of the loader have them
        part, got = run(keys.astype(np.uint64))
        wanted = np.stack([decoding.pillow(album.pictures[int(key)]) for key in part])
        assert np.array_equal(got, wanted), name
    album.close()
