"""W5: records of 10 to 100 KB and of 0.1 to 2 KB, by key, to one block and offsets."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import modyn
from benchmarks.loading import decoding
from benchmarks.loading.data import Keys
from benchmarks.loading.payloads import Kind, Ragged, Store, Taking
from benchmarks.loading.site import Site
from benchmarks.machine import alu_control, compile_source
from benchmarks.measure import Bar, Outcome, Seconds, Stopwatch, in_turns, spread
from benchmarks.section import Section

ABOUT = """Random keys of records as images are (10 to 100 KB) and as texts are (0.1 to 2 KB), all
of them in the page cache, in batches of 256 and of 4,096.  A batch is one block in which payloads
lie one after the other, and where each of them ends.  The floor is a loop of memcpy in C that asks
early for what it copies next, from one mapping of the packed payloads into blocks that take turns;
`touch` reads the words in place and copies nothing (modyn offers no such views).  `fetch` makes a
new block for each batch, `fetch(out=)` uses blocks again.  The slices, the join and pyarrow's take
read the mapping of the floor; of the formats that read front to back WebDataset takes part,
whatever the keys are.  Whatever is not ours runs on one thread, but for Lance and the two
DataLoader workers, whose processor time is not counted.  With decoding the bytes are JPEG images,
and a batch is one array of their pixels; the floor decodes what is in memory."""

IMAGES = Kind("records of 10 to 100 KB", 10_000, 100_000, (20_000, 600), 256, (48, 3), True)
TEXTS = Kind("texts of 0.1 to 2 KB", 100, 2_000, (400_000, 20_000), 4096, (64, 3), False)
WARM = 12  # batches that a loader gives before it is measured, so that its memory is there


class Floor:
    """The loops of ragged_floor.c."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._starts = store.payloads.starts.ctypes.data
        self._c = compile_source("ragged_floor.c")
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._c.floor_ragged_copy.argtypes = [pointer, pointer, pointer, size, pointer, pointer]
        self._c.floor_ragged_copy.restype = None
        self._c.floor_ragged_touch.argtypes = [pointer, pointer, pointer, size]
        self._c.floor_ragged_touch.restype = ctypes.c_uint64

    def copy(self, keys: Keys) -> tuple[Keys, Ragged]:
        base, starts = self._store.base, self._starts
        for (values, offsets), part in self._store.parts(keys):
            out = values.ctypes.data, offsets.ctypes.data
            self._c.floor_ragged_copy(base, starts, part.ctypes.data, len(part), *out)
        return part, (values[: offsets[-1]], offsets)

    def touch(self, keys: Keys) -> tuple[Keys, None]:
        for _, part in self._store.parts(keys):
            address = part.ctypes.data
            self._c.floor_ragged_touch(self._store.base, self._starts, address, len(part))
        return part, None


def fetch(store: Store) -> Taking:
    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for _, part in store.parts(keys):
            got = store.dataset.fetch(part)["payload"]
        assert isinstance(got, modyn.dataset.Ragged)
        return part, (got.values, got.offsets)

    return Taking(run, kind="ours")


def fetch_out(store: Store) -> Taking:
    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for block, part in store.parts(keys):
            out = {"payload": modyn.dataset.Ragged(*block)}
            got = store.dataset.fetch(part, out=out)["payload"]
        assert isinstance(got, modyn.dataset.Ragged)
        return part, (got.values, got.offsets)

    return Taking(run, kind="ours")


def loader(store: Store, threads: int) -> Taking:
    kept: list[modyn.Loader] = []

    def prepare(keys: Keys) -> None:
        size = store.kind.batch
        kept[:] = [modyn.Loader(store.dataset, keys, batch_size=size, threads=threads)]
        for _, batch in zip(range(WARM), kept[0], strict=False):
            del batch

    def run(keys: Keys) -> tuple[Keys, Ragged]:
        for batch in kept[0]:
            payload = batch["payload"]
            values, offsets = payload.values, payload.offsets
        return batch.numpy("keys"), (values.numpy(), offsets.numpy())

    return Taking(run, prepare, kind="ours")


def ours(store: Store) -> dict[str, Taking]:
    floor = Floor(store)
    return {
        "memcpy": Taking(floor.copy, kind="floor"),
        "touch": Taking(floor.touch, kind="floor"),
        "modyn fetch": fetch(store),
        "modyn fetch(out=)": fetch_out(store),
        "modyn Loader, 1 thread": loader(store, 1),
        "modyn Loader, 2 threads": loader(store, 2),
    }


def run_line(store: Store, outcome: Outcome, takings: dict[str, Taking], repetitions: int) -> None:
    """Have all of them take the same fresh keys in each repetition."""
    drawn: dict[int, Keys] = {}
    alu: list[float] = []

    def keys_of(repetition: int, share: float) -> Keys:
        if repetition not in drawn:
            drawn.clear()
            drawn[repetition] = store.draw()
            alu.append(alu_control(store.floor))
        batches = max(1, round(share * store.batches))
        return drawn[repetition][: batches * store.kind.batch]

    def contender(name: str, taking: Taking) -> Callable[[int], Seconds]:
        def run(repetition: int) -> Seconds:
            keys = keys_of(repetition, taking.share)
            share = len(keys) / (store.batches * store.kind.batch)
            if taking.prepare is not None:
                taking.prepare(keys)
            watch = Stopwatch()
            part, got = taking.run(keys)
            wall, busy = watch.stop()
            if got is not None:
                store.payloads.check(name, part, got)
                outcome.checked += 1
            if share < 1:
                outcome.shares[name] = share
            return wall / share, busy / share

        return run

    in_turns(outcome, {name: contender(name, each) for name, each in takings.items()}, repetitions)
    outcome.kinds = {name: taking.kind for name, taking in takings.items()}
    outcome.work = store.batches * store.kind.batch * float(store.payloads.sizes.mean()) / 1e6
    outcome.facts["records_of_mean_bytes"] = round(float(store.payloads.sizes.mean()))
    outcome.facts["records"] = store.payloads.count
    outcome.facts["mapped_mib"] = store.mapped()
    outcome.facts["alu_two_threads_to_one"] = spread(alu[1:])


def line(site: Site, kind: Kind, section: Section) -> Outcome:
    from benchmarks.loading.ragged_rivals import rivals

    outcome = Outcome("W5", 0.90, "memcpy", "modyn fetch(out=)", case=kind.name)
    store = Store(site, kind)
    found, section.skipped = rivals(store)
    run_line(store, outcome, {**ours(store), **found}, min(site.repetitions, 7))
    one, two = "modyn Loader, 1 thread", "modyn Loader, 2 threads"
    outcome.bars = [Bar("modyn fetch", "memcpy", 0.90), Bar(one, "memcpy", 0.90)]
    wanted = {"memmap slices": 1.5, "LMDB": 1.5, "one file each": 1.7}
    for name, least in wanted.items():
        if name in found:
            outcome.bars += [Bar(one, name, least), Bar(two, name, least)]
    store.close()
    return outcome


def measure(site: Site) -> Section:
    section = Section("W5", "Records of varying length", " ".join(ABOUT.split()))
    for kind in (IMAGES, TEXTS):
        section.lines.append(line(site, kind, section))
    decoded, absent = decoding.lines(site)
    section.lines += decoded
    section.skipped += absent
    section.notes.append(
        "With records of 10 to 100 KB a loop in Python copies as fast as one thread can: no "
        "other single thread can be 1.5 times as fast."
    )
    return section
