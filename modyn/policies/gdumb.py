"""A buffer with equally many samples of each class, for training from scratch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.policies.buffer import CHUNK, STREAM_PLACE, Buffer, Places
from modyn.policies.drawing import fractions

__all__ = ["GDumb"]

STRETCH = 256  # samples that are looked at one by one where the largest class has given one


@dataclass(kw_only=True)
class GDumb(Buffer):
    """A buffer of `size` samples, filled greedily so that no class has more than its part.

    A sample enters if there are fewer than size / classes of its class, counting the classes seen
    so far; where the buffer is full, a random sample of the largest class goes. The method trains
    from scratch on the buffer at each trigger: `use_previous_model=False`.

    An erased sample leaves its place to the next one that may enter. Once all classes have their
    part the buffer stays as it is if `size` is a multiple of the number of classes; otherwise
    classes go on giving each other the places that are left over.

    Parameters
    ----------
    size : int
        Samples in the buffer, at least 1.
    tail_triggers : None
        All data so far.

    References
    ----------
    A. Prabhu, P. H. S. Torr and P. K. Dokania, "GDumb: A Simple Approach that Questions Our
    Progress in Continual Learning", ECCV 2020. Of several largest classes the one that came first
    gives a sample.

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> labels = [0] * 90 + [1, 2, 0, 1, 0, 2, 1, 0, 0, 2]
    >>> candidates = Candidates.from_arrays(range(100), range(100), labels)
    >>> keys = GDumb(size=6).select(candidates, PlainContext()).keys
    >>> [labels[key] for key in keys.tolist()]
    [0, 0, 1, 2, 1, 2]
    """

    size: int
    tail_triggers: int | None = None

    def _offer(
        self,
        places: Places,
        keys: npt.NDArray[np.uint64],
        labels: npt.NDArray[np.int64],
        seed: int,
    ) -> None:
        seen = len(places.labels)  # classes
        classes = places.classes(labels)
        first, room, each = 0, STRETCH, False
        while first < len(keys):
            theirs = classes[first : first + room]
            rows = np.arange(first, first + len(theirs))
            if not each:
                rows = rows[places.counts[theirs] * seen < self.size]
            draws = fractions(seed, STREAM_PLACE, keys[rows])
            columns = (column.tolist() for column in (rows, classes[rows], keys[rows], draws))
            first, room, opened = first + room, min(2 * room, CHUNK), False
            for row, which, key, draw in zip(*columns, strict=True):
                if which >= seen:
                    seen = which + 1
                if len(places.keys[which]) * seen >= self.size:
                    continue
                gives = places.largest() if places.total >= self.size else None
                if gives is not None:
                    places.remove(gives, draw)
                places.add(which, key)
                if gives is not None and len(places.keys[gives]) * seen < self.size:
                    opened = True  # now samples of that class may enter as well
                    if not each:
                        first = row + 1
                        break
            if opened:
                room = STRETCH
            each = opened
