"""What models said of blocks of samples, kept by content: in memory, and in the run's directory.

    answers/erased                        how many samples of the dataset were erased so far
            <model>/<kind>-<digest>.npy   the answer; then 32 bytes, the BLAKE2b of it

`digest` is that of the keys of the block, in their order, so a file is what it says or nothing:
one that is damaged is made again, like one that is missing.  That is why nothing here is synced.
Once a sample is erased all files go, since it may be in them; those of models that nobody asks
for any more go when the next one is trained.
"""

import io
import shutil
from collections import OrderedDict
from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.pipelines import durable
from modyn.pipelines.sealed import body_of, seal_of

__all__ = ["AnswerCache"]

MEMORY_BYTES = 256 << 20
DISK_BYTES = 2 << 30
ERASED = "erased"

Array = npt.NDArray[Any]


class AnswerCache:
    """Arrays by (model, kind, keys).

    Parameters
    ----------
    directory : Path
        Made when the first answer is kept.
    erased_count : int
        How many samples of the dataset are erased.
    memory_bytes, disk_bytes : int
        How much is kept where: of memory the arrays asked for last, of the disk the first.
    """

    def __init__(
        self,
        directory: Path,
        *,
        erased_count: int = 0,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self._directory = directory
        self._erased_count = erased_count
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._held: OrderedDict[tuple[str, str], Array] = OrderedDict()
        self._held_bytes = 0
        if not self._knows_erasures():
            shutil.rmtree(directory, ignore_errors=True)
        self._written_bytes = sum(path.stat().st_size for path in directory.glob("*/*"))

    def get(self, model: str, kind: str, keys: npt.NDArray[np.uint64]) -> Array | None:
        """Return an answer, read-only, or None where it has to be made."""
        name = f"{kind}-{_digest(keys)}"
        found = self._held.get((model, name))
        if found is not None:
            self._held.move_to_end((model, name))
            return found
        if self._disk_bytes == 0:
            return None
        found = _read(self._directory / model / f"{name}.npy", len(keys))
        if found is not None:
            self._hold(model, name, found)
        return found

    def put(self, model: str, kind: str, keys: npt.NDArray[np.uint64], answer: Array) -> Array:
        """Keep an answer, and return it read-only."""
        name = f"{kind}-{_digest(keys)}"
        answer.flags.writeable = False
        self._hold(model, name, answer)
        if self._written_bytes + answer.nbytes <= self._disk_bytes:
            self._written_bytes += self._write(self._directory / model / f"{name}.npy", answer)
        return answer

    def keep_only(self, models: Collection[str]) -> None:
        """Forget the answers of all other models."""
        for held in [held for held in self._held if held[0] not in models]:
            self._held_bytes -= self._held.pop(held).nbytes
        for folder in self._directory.glob("*/"):
            if folder.name not in models:
                self._written_bytes -= sum(path.stat().st_size for path in folder.iterdir())
                shutil.rmtree(folder)

    def _hold(self, model: str, name: str, answer: Array) -> None:
        if answer.nbytes > self._memory_bytes:
            return
        before = self._held.pop((model, name), None)
        self._held_bytes += answer.nbytes - (0 if before is None else before.nbytes)
        self._held[model, name] = answer
        while self._held_bytes > self._memory_bytes:
            self._held_bytes -= self._held.popitem(last=False)[1].nbytes

    def _write(self, path: Path, answer: Array) -> int:
        """Write a file, whole or not at all, and return how many bytes more there are."""
        if not path.parent.is_dir():
            durable.make_directory(path.parent)
            durable.replace(self._directory / ERASED, str(self._erased_count).encode())
        content = io.BytesIO()
        np.save(content, answer, allow_pickle=False)
        content.write(seal_of(content.getbuffer()))
        building = path.with_name(f".tmp-{path.name}")
        building.write_bytes(content.getbuffer())
        before = path.stat().st_size if path.exists() else 0
        building.replace(path)
        return content.tell() - before

    def _knows_erasures(self) -> bool:
        try:
            return (self._directory / ERASED).read_bytes() == str(self._erased_count).encode()
        except FileNotFoundError:
            return False


def _digest(keys: npt.NDArray[np.uint64]) -> str:
    content = np.ascontiguousarray(keys, dtype="<u8").data
    return blake2b(content, digest_size=16).hexdigest()


def _read(path: Path, count: int) -> Array | None:
    """Return what a file holds, None if it is not there or not as it was written."""
    try:
        body = body_of(memoryview(path.read_bytes()))
    except FileNotFoundError:
        return None
    if body is None:
        return None
    found: Array = np.load(io.BytesIO(body), allow_pickle=False)
    if len(found) != count:
        return None
    found.flags.writeable = False
    return found
