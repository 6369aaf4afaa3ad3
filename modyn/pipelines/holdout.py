"""Which samples of a training set RHO-LOSS holds out, and which it trains on.

A sample's place is its draw, a function of the seed and its key alone (`sampling.uniform`): the
holdout is the samples with the smallest draws, exactly as many as asked for.  So it is the same
wherever the metadata lies and in whatever order samples come, and a sample that two triggers
choose is nearly always in the holdout of both or of none, because only the border moves.

The parts are training sets of their own, with weights if the whole has any, and a digest that
names them in recipes.
"""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modyn import sampling
from modyn.downsampling.rho import RHOLoss
from modyn.trainset import TrainingSet

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """A training set in parts.

    Parameters
    ----------
    main : TrainingSet
        What the model trains on.
    holdouts : tuple of TrainingSet
        What each IL model learns from, disjoint: one that is no part of `main`, or with "Twin" two
        of equal size that are; empty where the share is less than a sample.
    """

    main: TrainingSet
    holdouts: tuple[TrainingSet, ...]


def split(chosen: TrainingSet, rho: RHOLoss, seed: int, folder: Path) -> Split:
    """Return the parts of a training set, written to a folder.

    Parameters
    ----------
    chosen : TrainingSet
        At least one sample, none of them erased.
    rho : RHOLoss
        How to split.
    seed : int
        Of the run.
    folder : Path
        Where training sets lie.
    """
    count = rho.held_out(len(chosen))
    if count == 0:
        return Split(main=chosen, holdouts=())
    first = _lowest(chosen.keys, count, seed)
    if rho.holdout_set_strategy == "Simple":
        return Split(
            main=_part(chosen, ~contained(chosen.keys, first), folder),
            holdouts=(_part(chosen, contained(chosen.keys, first), folder),),
        )
    # The other half has the highest draws; a sample left over is in neither.
    others = _lowest(chosen.keys, len(chosen) - count, seed)
    return Split(
        main=chosen,
        holdouts=(
            _part(chosen, contained(chosen.keys, first), folder),
            _part(chosen, ~contained(chosen.keys, others), folder),
        ),
    )


def contained(keys: Keys, among: Keys) -> npt.NDArray[np.bool_]:
    """Return which of `keys` are among others, which ascend.

    Examples
    --------
    >>> contained(np.arange(4, dtype=np.uint64), np.array([1, 3], np.uint64)).tolist()
    [False, True, False, True]
    """
    if len(among) == 0:
        return np.zeros(len(keys), dtype=np.bool_)
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    found: npt.NDArray[np.bool_] = among[places] == keys
    return found


def _lowest(keys: Keys, count: int, seed: int) -> Keys:
    """Return the keys with the smallest draws, ascending."""
    digest = blake2b(seed.to_bytes(8, "little"), digest_size=8, person=b"modyn-holdout")
    return sampling.uniform(keys, count, seed=int.from_bytes(digest.digest(), "little"))


def _part(whole: TrainingSet, inside: npt.NDArray[np.bool_], folder: Path) -> TrainingSet:
    return TrainingSet.write(
        folder,
        whole.keys[inside],
        None if whole.weights is None else whole.weights[inside],
        dataset_uuid=whole.dataset_uuid,
    )
