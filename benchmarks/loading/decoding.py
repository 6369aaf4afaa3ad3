"""W5 again, with what comes behind the bytes: JPEG images, decoded."""

from __future__ import annotations

import inspect
import io
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

import modyn
from benchmarks.loading.rivals import missing
from benchmarks.loading.site import Site
from benchmarks.loading.training_rivals import Given
from benchmarks.measure import Bar, Outcome, Seconds, Stopwatch, in_turns

SIDE = 256  # pixels
QUALITY = 90
WORKERS = 2
BATCH = 64

Pixels = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]
Decode = Callable[[Any], Pixels]
# Takes the batches of these keys and returns the keys and images of the last one.
Run = Callable[[Keys], tuple[Keys, Pixels]]


def pillow(data: Any) -> Pixels:
    """Decode with Pillow."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def simple(data: Any) -> Pixels:
    """Decode with simplejpeg."""
    import simplejpeg

    image: Pixels = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
    return image


def picture(key: int) -> bytes:
    """Make a JPEG that looks like something: waves, and noise as a camera has it."""
    from PIL import Image

    random = np.random.default_rng((3, key))
    across, down = np.meshgrid(np.linspace(0, 6, SIDE), np.linspace(0, 6, SIDE))
    waves = [np.sin(a * across + b * down) for a, b in random.uniform(-4, 4, (3, 2))]
    pixels = 128 + 70 * np.stack(waves, -1) + random.normal(0, 12, (SIDE, SIDE, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


@dataclass
class Album:
    """Images in a dataset, in a file each, and in memory."""

    folder: Path
    pictures: list[bytes]
    dataset: modyn.Dataset
    paths: list[str]
    batches: int

    @classmethod
    def made(cls, site: Site) -> Album:
        folder = site.folder / "album"
        folder.mkdir()
        pictures = [picture(key) for key in range(site.size(1_500, 96))]
        paths = [str(folder / f"{key:06}.jpg") for key in range(len(pictures))]
        for path, data in zip(paths, pictures, strict=True):
            Path(path).write_bytes(data)
        dataset = modyn.Dataset.create(folder / "dataset", schema={"image": "bytes"}, labels=False)
        dataset.append({"image": pictures}, timestamps=np.arange(len(pictures)))
        dataset.close()
        opened = modyn.Dataset.open(folder / "dataset")
        opened.fetch(np.arange(len(pictures)))
        return cls(folder, pictures, opened, paths, site.size(8, 2))

    def close(self) -> None:
        self.dataset.close()
        shutil.rmtree(self.folder)


def cut(keys: Keys) -> Iterator[list[int]]:
    """Cut keys into batches."""
    numbers = keys.tolist()
    return (numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH))


def alone(album: Album, decode: Decode, threads: int) -> Run:
    """Decode what is in memory, on a pool of threads: nothing is loaded."""
    pool = ThreadPoolExecutor(threads)

    def run(keys: Keys) -> tuple[Keys, Pixels]:
        for part in cut(keys):
            images = list(pool.map(decode, [album.pictures[key] for key in part]))
            got = np.stack(images)
        return keys[-BATCH:], got

    return run


def loader(album: Album, decode: Decode, *, processes: bool) -> Run:
    """One loader, which keeps its processes; its order is another one in each repetition."""
    loader = modyn.Loader(
        album.dataset,
        np.arange(len(album.pictures)),
        batch_size=BATCH,
        shuffle="global",
        num_samples_to_pass=album.batches * BATCH,
        threads=1,
        decode={"image": decode},
        decode_workers=WORKERS,
        decode_processes=processes,
    )

    def run(keys: Keys) -> tuple[Keys, Pixels]:
        loader.set_epoch(int(keys[0]))
        for batch in loader:
            got: Any = batch["image"]
        drawn: Any = batch.numpy("keys")
        return drawn, np.asarray(got)

    return run


class Images(Dataset[torch.Tensor]):
    """A file per image, as a torch dataset."""

    def __init__(self, paths: list[str], decode: Decode) -> None:
        self._paths, self._decode = paths, decode

    def __getitem__(self, key: int) -> torch.Tensor:
        return torch.from_numpy(self._decode(Path(self._paths[key]).read_bytes()).copy())


def workers(album: Album, decode: Decode, count: int) -> Run:
    """A DataLoader that reads and decodes a file per sample."""
    given = Given()
    loader: DataLoader[Any] = DataLoader(
        Images(album.paths, decode),
        batch_sampler=given,
        num_workers=count,
        persistent_workers=count > 0,
        multiprocessing_context="fork" if count else None,
    )
    list(loader)  # the workers are forked now, before there are threads

    def run(keys: Keys) -> tuple[Keys, Pixels]:
        given.keys = list(cut(keys))
        for images in loader:
            got: Pixels = images.numpy()
        return keys[-BATCH:], got

    return run


def ways(album: Album, decode: Decode) -> dict[str, Run]:
    found = {
        f"DataLoader, {count} workers": workers(album, decode, count) for count in (0, WORKERS)
    }
    found[f"decode alone, {WORKERS} threads"] = alone(album, decode, WORKERS)
    if "decode" in inspect.signature(modyn.Loader).parameters:
        found[f"modyn Loader, {WORKERS} threads"] = loader(album, decode, processes=False)
        found[f"modyn Loader, {WORKERS} processes"] = loader(album, decode, processes=True)
    return found


def run_line(outcome: Outcome, album: Album, decode: Decode, repetitions: int) -> None:
    """Have all of them decode the same images in each repetition."""
    named = ways(album, decode)

    def contender(name: str, run: Run) -> Callable[[int], Seconds]:
        def measured(repetition: int) -> Seconds:
            random = np.random.default_rng((23, repetition + 1))
            keys = random.integers(len(album.pictures), size=album.batches * BATCH)
            watch = Stopwatch()
            part, got = run(keys.astype(np.uint64))
            taken = watch.stop()
            wanted = np.stack([decode(album.pictures[key]) for key in part.tolist()])
            if got.tobytes() != wanted.tobytes():
                raise AssertionError(f"{name}: the batch is not what was stored")
            outcome.checked += 1
            return taken

        return measured

    in_turns(outcome, {name: contender(name, run) for name, run in named.items()}, repetitions)
    outcome.kinds = {name: "ours" for name in named if name.startswith("modyn")}
    outcome.kinds |= {outcome.floor: "floor"}
    outcome.work, outcome.unit = album.batches * BATCH, "images"


def lines(site: Site) -> tuple[list[Outcome], list[str]]:
    """Return a line for each decoder that is here, and one of text for each that is not."""
    found: list[Outcome] = []
    skipped = [line for name in ("Pillow", "simplejpeg") if (line := missing(name))]
    if missing("Pillow"):
        return [], skipped
    album = Album.made(site)
    for name, decode in (("Pillow", pillow), ("simplejpeg", simple)):
        if missing(name):
            continue
        ours, floor = f"modyn Loader, {WORKERS} threads", f"decode alone, {WORKERS} threads"
        outcome = Outcome("W5", 0.9, floor, ours)
        outcome.case = f"JPEG of {SIDE} x {SIDE}, decoded with {name}"
        outcome.facts["mean_bytes"] = sum(map(len, album.pictures)) // len(album.pictures)
        run_line(outcome, album, decode, min(site.repetitions, 5))
        if ours in outcome.wall:
            outcome.bars = [Bar(ours, f"DataLoader, {WORKERS} workers", 1.0, always=True)]
        else:
            outcome = Outcome("W5", 0.9, floor, ours, missing="the loader cannot decode yet")
        found.append(outcome)
    album.close()
    return found, skipped
