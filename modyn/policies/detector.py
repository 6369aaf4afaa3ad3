"""A trigger where a streaming detector sees that the newest model's mistakes have changed."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.drift.detectors import ADWIN, Detector
from modyn.metrics import misclassified
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.context import Context
from modyn.policies.judged import placed
from modyn.policies.scores import score
from modyn.policies.waiting import WaitingLine, nobody_waits

__all__ = ["DetectorTrigger"]

Name = Literal["errors", "losses", "uncertainty"]
OwnNumbers = Callable[[Arrivals, Context], npt.ArrayLike]
NEEDS_LABELS = ("errors", "losses")


@dataclass(kw_only=True)
class DetectorTrigger(BatchedTrigger):
    """A trigger is due where a detector saw a drift in the numbers of an interval.

    The detector takes a number for each sample, in stream order: how the newest model does on it.
    The numbers of an interval are asked for together, at its end, when the trigger falls if there
    was a drift anywhere in it; where is noted. With a new model the detector begins anew, with the
    samples after the model's trigger, which an ensemble may have in the middle of an interval.

    Where labels come later, an interval waits until all of its labels are known. If there is a
    newer model by then, the interval is left out: the model that it speaks of is gone.

    Parameters
    ----------
    evaluation_interval_data_points : int
        How many samples are looked at together, at least 1. The forward passes of a small
        interval cost more; a drift is noticed at the end of one.
    warmup_intervals, warmup_policy
        As in `BatchedTrigger`. The detector sees the intervals of the warm-up too.
    detector : Detector
        Such as `modyn.drift.detectors.ADWIN`; the policy works with a copy.
    of : {"errors", "losses", "uncertainty"} or callable
        "errors": 1 where the most probable class is not the label, else 0. "losses": the losses
        of the training criterion. "uncertainty": 1 less the greatest probability, which needs no
        labels. Or a function from samples and context to a number for each, as of the end of the
        interval, which pipeline.yaml cannot say. Detectors that take only 0 and 1 need "errors"
        or a function.
    reset_on_model : bool
        Whether the detector begins anew with each new model.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.drift.detectors import PageHinkley
    >>> from modyn.policies.context import PastModel, PlainContext
    >>> from modyn.policies.history import HeldHistory
    >>> trigger = DetectorTrigger(
    ...     evaluation_interval_data_points=10,
    ...     detector=PageHinkley(threshold=5.0),
    ...     of=lambda samples, context: samples.timestamps >= 120,
    ... )
    >>> model = PastModel(
    ...     trigger=0, model="a", position=0, last_timestamp=None, samples=9, seconds=1.0
    ... )
    >>> stream = example_arrivals(200)
    >>> context = PlainContext(models=[model], history=HeldHistory(stream), informed=200)
    >>> trigger.inform(stream, context)
    130
    """

    detector: Detector = field(default_factory=ADWIN)
    of: Name | OwnNumbers = "errors"
    reset_on_model: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.detector, Detector):
            raise TypeError(f"detector must be a Detector, got {self.detector!r}")
        if not callable(self.of) and self.of not in get_args(Name):
            names = ", ".join(get_args(Name))
            raise ValueError(f"of must be a function or one of {names}, got {self.of!r}")
        if self.detector.binary and self.of in ("losses", "uncertainty"):
            kind = type(self.detector).__name__
            raise ValueError(f"{kind} takes only 0 and 1: set of to 'errors', not {self.of!r}")
        if not isinstance(self.reset_on_model, bool):
            raise TypeError(f"reset_on_model must be a bool, got {self.reset_on_model!r}")
        self._seen: dict[str, Any] | None = None  # the state of the detector
        self._model: int | None = None  # the trigger of the model that it looked at
        self._waiting = nobody_waits()

    def decide(self, interval: Interval, context: Context) -> bool:
        """Return whether a trigger is due at the end of an interval; see `BatchedTrigger`."""
        return any(self._look(interval, context))

    def warm_up(self, interval: Interval, context: Context) -> None:
        """Show the detector an interval in which another policy decides."""
        fires = self._warmup_fired or not context.models
        shown = self._look(interval, context, fires=fires) if context.models else []
        if fires and not shown:
            self._note(interval, context, np.zeros(0), [], fires=True)

    def _look(
        self, interval: Interval, context: Context, *, fires: bool | None = None
    ) -> list[bool]:
        """Show the detector what can be shown by now; return of each interval if it saw a drift.

        Parameters
        ----------
        interval : Interval
        context : Context
        fires : bool, optional
            What was decided, where it is not the detector that decides.
        """
        newest = context.models[-1].trigger
        line = WaitingLine(self._waiting)
        if self._model != newest:
            line.clear()  # the model that they speak of is gone
        detector = self._running(newest)
        begun = max(interval.first, context.models[-1].position)  # what came before, it learned
        line.append(interval, begun - interval.first, newest)
        drifted = []
        for one in line:
            samples = context.samples(one.first, one.last)
            if not self._known(samples, context):
                break
            looked = Interval(index=one.index, first=one.first, last=one.last)
            values = self._numbers(samples, context)
            drifts = detector.drifts(values)
            drifted.append(bool(drifts))
            decision = drifted[-1] if fires is None else fires
            warning = detector.warning
            self._note(looked, context, values, drifts, fires=decision, warning=warning)
        for _ in drifted:
            line.drop()
        self._seen = detector.state()
        return drifted

    def _running(self, newest: int) -> Detector:
        """Return the detector as it was left, or a fresh one where there is a new model."""
        fresh = self._seen is None or (self.reset_on_model and self._model != newest)
        self._model = newest
        detector = replace(self.detector)
        if not fresh and self._seen is not None:
            detector.load(self._seen)
        return detector

    def _known(self, samples: Arrivals, context: Context) -> bool:
        """Return whether all can be said of these samples."""
        if self.of not in NEEDS_LABELS:
            return True
        return bool(context.labelled(samples.keys).all())

    def _note(
        self,
        interval: Interval,
        context: Context,
        values: npt.NDArray[np.float64],
        drifts: list[int],
        *,
        fires: bool,
        warning: bool = False,
    ) -> None:
        """Note what the detector was shown, which is nothing where labels are waited for."""
        context.note(
            type(self).__name__,
            {
                **placed(interval, context),
                "warmup": self.warming_up,
                "mean": float(values.mean()) if len(values) else None,
                "drifts": drifts,
                "warning": warning,
                "fires": fires,
            },
        )

    def _numbers(self, samples: Arrivals, context: Context) -> npt.NDArray[np.float64]:
        """Return the number of each sample that has one."""
        if len(samples) == 0:
            return np.zeros(0)
        if callable(self.of):
            found = np.asarray(self.of(samples, context), dtype=np.float64)
            if found.shape != (len(samples),):
                raise ValueError(f"of must give {len(samples)} numbers, got shape {found.shape}")
            return _finite(found)
        model = context.models[-1].model
        return score(Numbers(model=model, keys=samples.keys.tobytes(), of=self.of), context)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The question how a model does on each of some samples.

    Parameters
    ----------
    model : str
        The newest one's content key.
    keys : bytes
        Of the samples, uint64.
    of : {"errors", "losses", "uncertainty"}
    """

    model: str
    keys: bytes
    of: Name

    @property
    def key(self) -> Hashable:
        """All that decides on the answer."""
        return self

    def answer(self, context: Context) -> npt.NDArray[np.float64]:
        """Return the number of each sample that has one."""
        keys = np.frombuffer(self.keys, dtype=np.uint64)
        if self.of == "errors":
            wrong = misclassified(context.predictions(keys), context.labels(keys))
            return wrong.astype(np.float64)
        if self.of == "losses":
            return _finite(context.losses(keys).astype(np.float64))
        return _finite(1.0 - context.predictions(keys).max(axis=1).astype(np.float64))


def _finite(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known: npt.NDArray[np.float64] = values[np.isfinite(values)]
    return known
