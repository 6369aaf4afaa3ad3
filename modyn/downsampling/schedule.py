"""One downsampler after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

from modyn.downsampling.base import Downsampler
from modyn.policies.checked import check_integer

__all__ = ["Schedule"]


@dataclass(kw_only=True)
class Schedule:
    """One downsampler after the other, each from a given trigger on.

    Parameters
    ----------
    downsamplers : sequence of Downsampler or None
        None: train on everything.
    thresholds : sequence of int
        From which trigger on the next one holds: one fewer, strictly ascending, from 1.  Triggers
        count from the end of the warm-up.

    Examples
    --------
    >>> class One(Downsampler):
    ...     pass
    >>> class Two(Downsampler):
    ...     pass
    >>> schedule = Schedule(downsamplers=[One(), None, Two()], thresholds=[5, 10])
    >>> [type(schedule.at(trigger)).__name__ for trigger in (0, 4, 5, 9, 10, 99)]
    ['One', 'One', 'NoneType', 'NoneType', 'Two', 'Two']
    """

    downsamplers: Sequence[Downsampler | None]
    thresholds: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.downsamplers) - 1:
            raise ValueError(
                f"{len(self.downsamplers)} downsamplers need {len(self.downsamplers) - 1} "
                f"thresholds, got {len(self.thresholds)}"
            )
        before = 0
        for i, threshold in enumerate(self.thresholds):
            check_integer(f"thresholds[{i}]", threshold, before + 1)
            before = threshold

    def at(self, trigger: int) -> Downsampler | None:
        """Return the one that holds at a trigger, which is counted from the end of the warm-up."""
        passed = sum(threshold <= trigger for threshold in self.thresholds)
        return self.downsamplers[passed]
