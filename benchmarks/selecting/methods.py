"""Every method under the name that tables use, made for a share of the data.

A share is in parts of a thousand: 500, 250, 125.  Candidates of a trigger are all samples so far,
so that every selection has something to choose from.  A method whose class is not in this version
of modyn is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modyn import downsampling, policies

WHOLE = 1000
ALL: Any = None  # tail_triggers: all samples so far
PARTS = 6  # of a stream: a trigger after each but the last
EXACT: dict[str, Any] = {"force_required_target_size": True}


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a pipeline is given for a share of the data, next to what all are given.

    `make(share, part)` gets the share in parts of a thousand, and how many samples one part of the
    stream has (a trigger falls due after each).
    """

    name: str
    kind: str  # "baseline", "presampling" or "downsampling"
    make: Callable[[int, int], dict[str, Any]]
    shares: tuple[int, ...] = (500, 250, 125)
    seeds: int = 3  # at most

    @property
    def there(self) -> bool:
        """Whether this version of modyn has what it takes."""
        try:
            self.make(500, 1000)
        except AttributeError:
            return False
        return True


def everything() -> dict[str, Any]:
    return {"selection": policies.NewData(tail_triggers=ALL)}


def presampling(name: str, class_name: str, **options: Any) -> Method:
    """Return a selection that takes the share as `ratio`."""

    def make(share: int, part: int) -> dict[str, Any]:
        policy = getattr(policies, class_name)
        return {"selection": policy(ratio=share, ratio_max=WHOLE, tail_triggers=ALL, **options)}

    return Method(name=name, kind="presampling", make=make)


def buffer(name: str, class_name: str) -> Method:
    """Return a buffer of the share of half of the stream: what others keep on average."""

    def make(share: int, part: int) -> dict[str, Any]:
        return {"selection": getattr(policies, class_name)(size=part * PARTS // 2 * share // WHOLE)}

    return Method(name=name, kind="presampling", make=make)


def fresh(share: int, part: int) -> dict[str, Any]:
    limit = part * PARTS // 2 * share // WHOLE
    return {"selection": policies.FreshnessSampling(unused_data_ratio=50, limit=limit)}


def stratified(share: int, part: int) -> dict[str, Any]:
    """Return periods of a quarter of a part."""
    every = f"{part // 4}s"
    return presampling("", "TimeStratified", every=every, **EXACT).make(share, part)


def younger(share: int, part: int) -> dict[str, Any]:
    """Return a draw in which chances halve with each part of the stream; nothing undoes it."""
    made = presampling(
        "", "Weighted", by="timestamp", half_life=f"{part}s", scheme="sequential", floor=0.0
    )
    return made.make(share, part)


def by_loss(share: int, part: int) -> dict[str, Any]:
    """Return a draw by the losses of earlier trainings, and the weights that undo it."""
    made = presampling("", "Weighted", by="loss")
    return {**made.make(share, part), "signals": ("loss",)}


def hardest(share: int, part: int) -> dict[str, Any]:
    made = presampling("", "TopBySignal", signal="loss", trainings=PARTS)
    return {**made.make(share, part), "signals": ("loss",)}


def middle(share: int, part: int) -> dict[str, Any]:
    """Return the middle half of the losses, and all that has none, cut to the size of buffers."""
    limit = part * PARTS // 2 * share // WHOLE
    band = policies.QuantileBand(signal="loss", low=0.25, high=0.75, trainings=PARTS, limit=limit)
    return {"selection": band, "signals": ("loss",)}


def downsampler(name: str, class_name: str, seeds: int = 3, **options: Any) -> Method:
    """Return all data so far, and a downsampler that keeps the share of it."""

    def make(share: int, part: int) -> dict[str, Any]:
        sampler = getattr(downsampling, class_name)(ratio=share, ratio_max=WHOLE, **options)
        return {**everything(), "downsampling": sampler}

    return Method(name=name, kind="downsampling", make=make, seeds=seeds)


def rho(share: int, part: int) -> dict[str, Any]:
    """Return RHO-LOSS with a tenth held out, trained as the model is."""
    sampler = downsampling.RHOLoss(ratio=share, ratio_max=WHOLE, holdout_set_ratio=10)
    return {**everything(), "downsampling": sampler}


def fewer_epochs(share: int, part: int) -> dict[str, Any]:
    return {**everything(), "passes": share / WHOLE}


def no_less(share: int, part: int) -> dict[str, Any]:
    return everything()


METHODS = [
    Method(name="all data", kind="baseline", make=no_less, shares=(WHOLE,)),
    Method(name="all data, fewer epochs", kind="baseline", make=fewer_epochs),
    presampling("uniform", "Random"),
    presampling("uniform, not again", "RandomNoReplacement"),
    presampling("balanced by label", "LabelBalanced", **EXACT),
    presampling("balanced by trigger", "TriggerBalanced", **EXACT),
    Method(name="stratified by time", kind="presampling", make=stratified),
    presampling("newest", "MostRecent"),
    Method(name="younger more often", kind="presampling", make=younger),
    Method(name="drawn by loss before", kind="presampling", make=by_loss),
    Method(name="half fresh", kind="presampling", make=fresh),
    buffer("reservoir", "Reservoir"),
    buffer("class-balanced reservoir", "ClassBalancedReservoir"),
    buffer("GDumb", "GDumb"),
    Method(name="new, then highest loss", kind="presampling", make=hardest),
    Method(name="new, and middle losses", kind="presampling", make=middle),
    downsampler("uniform, each batch", "Uniform"),
    downsampler("RS2", "RS2", with_replacement=False),
    downsampler("RS2 with replacement", "RS2", with_replacement=True),
    downsampler("loss", "Loss"),
    downsampler("loss, whole set", "Loss", sample_then_batch=True),
    downsampler("gradient norm", "GradNorm"),
    downsampler("gradient norm, whole set", "GradNorm", sample_then_batch=True),
    downsampler("least confidence", "Uncertainty", score_metric="LeastConfidence"),
    downsampler("entropy", "Uncertainty", score_metric="Entropy"),
    downsampler("margin", "Uncertainty", score_metric="Margin"),
    downsampler("EL2N", "EL2N"),
    downsampler("GraNd", "GraNd", seeds=1),
    downsampler("forgetting", "Forgetting"),
    Method(name="RHO-LOSS", kind="downsampling", make=rho),
    downsampler("k-center", "KcenterGreedy"),
    downsampler("CRAIG", "Craig"),
    downsampler("GradMatch", "GradMatch"),
    downsampler("facility location", "Submodular", submodular_function="FacilityLocation"),
    downsampler("graph cut", "Submodular", submodular_function="GraphCut"),
    downsampler("log determinant", "Submodular", submodular_function="LogDeterminant"),
    downsampler("herding", "Herding"),
    downsampler("D-optimal", "DOptimal"),
]
