"""A loader inside of torch's DataLoader.

A `Loader` needs no DataLoader: its threads fill batches without the GIL.  For code that wants one
this is a dataset for ``DataLoader(dataset, batch_size=None, num_workers=...)``.  Worker w of W
fills batches w, w + W, w + 2 W, ...  with threads of its own, and the DataLoader, which asks its
workers in turn, puts them together again: the batches of the loader, in its order.

Workers have copies of the loader, made when they start.  What the parent says later, to workers
that persist, stands on a board in shared memory, with a number: a worker that begins an iteration
looks there, and takes over what is newer than its copy.

A worker ends with its parent.  torch looks for that at the parent that the system names, which is
another process where a fork server started the worker, and is too late where the parent died while
the worker came up; so a thread of ours waits for the end of the one it really has.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset, get_worker_info

from modyn.loader.batch import Batch

if TYPE_CHECKING:
    from modyn.loader.plan import Loader

__all__ = ["Board", "LoaderDataset"]

TURN, EPOCH, FIRST, USER = range(4)


class Board:
    """Where the next iteration begins, for all processes that share it.

    A process of the workers never writes but who uses a place.
    """

    def __init__(self) -> None:
        self._words = torch.zeros(4, dtype=torch.int64)
        self._words.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def _shared(self) -> npt.NDArray[np.uint64]:
        words: npt.NDArray[np.int64] = self._words.numpy()
        return words.view(np.uint64)

    @property
    def turn(self) -> int:
        """How often it was written."""
        return int(self._shared[TURN])

    @property
    def place(self) -> tuple[int, int]:
        """The epoch, and its batch at which to begin."""
        return int(self._shared[EPOCH]), int(self._shared[FIRST])

    @property
    def is_used(self) -> bool:
        """Whether an iteration has begun there."""
        return bool(self._shared[USER])

    def write(self, epoch: int, first: int) -> int:
        """Say where the next iteration begins; return the turn."""
        shared = self._shared
        shared[EPOCH], shared[FIRST], shared[USER] = epoch, first, 0
        shared[TURN] += np.uint64(1)
        return self.turn

    def use(self, user: int) -> bool:
        """Begin there, as one of these users; False if others have."""
        shared = self._shared
        if int(shared[USER]) not in (0, user):
            return False
        shared[USER] = user
        return True


class LoaderDataset(IterableDataset[Any]):
    """The batches of a loader, for DataLoader with batch_size=None; see `Loader.torch_dataset`.

    An item is a dictionary: the fields of the batch, and its keys, labels and weights under these
    names unless a field has the name.
    """

    def __init__(self, loader: Loader) -> None:
        super().__init__()
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration runs."""
        return self.loader.epoch

    def set_epoch(self, epoch: int) -> None:
        """As `Loader.set_epoch`; also for workers that persist."""
        self.loader.set_epoch(epoch)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Loader.load_state_dict`; also for workers that persist."""
        self.loader.load_state_dict(state)

    def state_at(self, batch: int) -> dict[str, Any]:
        """As `Loader.state_at`: with workers only the loop knows how many batches it was given."""
        return self.loader.state_at(batch)

    def __iter__(self) -> Iterator[Any]:
        # No generator: the place is taken now, in every worker, and not with the first batch.
        info = get_worker_info()
        if info is None:
            return map(_item, self.loader)
        _end_with_parent()
        user = (info.seed - info.id) % 2**63 + 1  # the same for all workers of an iteration
        return map(_item, self.loader._share(info.id, info.num_workers, user))


_watching: set[int] = set()  # the process that has the thread below


def _end_with_parent() -> None:
    """Let this worker end when its parent does, wherever it waits just then."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None or os.getpid() in _watching:
        return
    _watching.add(os.getpid())
    ends: list[Any] = [parent.sentinel]  # tells, unless a fork of the parent keeps it open
    try:
        ends.append(os.pidfd_open(parent.pid))
    except ProcessLookupError:
        os._exit(1)  # it is gone already
    except (AttributeError, OSError):
        pass  # not Linux, or an old kernel
    threading.Thread(target=_wait_and_end, args=(ends,), daemon=True, name="modyn-parent").start()


def _wait_and_end(ends: list[Any]) -> None:
    connection.wait(ends)
    os._exit(1)


def _item(batch: Any) -> Any:
    if not isinstance(batch, Batch):  # collate= made something else of it
        return batch
    return batch.own_tensors() | batch.tensors()
