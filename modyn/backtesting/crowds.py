"""Crowds of policies of one family: which can walk side by side, and where they fire."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from modyn.backtesting.deciders import Amounts, Drift, Ensembles, Performance, Regrets, Waiting
from modyn.backtesting.families import FAMILIES
from modyn.backtesting.lockstep import Decider, walk
from modyn.backtesting.play import Played, Player
from modyn.backtesting.scoring import Schedule
from modyn.policies import (
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    EnsembleTrigger,
    PerformanceTrigger,
    Trigger,
)
from modyn.policies.batched import BatchedTrigger
from modyn.policies.side_by_side import (
    DriftRules,
    PerformanceRules,
    RegretRules,
    WaitingRules,
    counts,
)

__all__ = ["kind", "walked"]

Kind = tuple[object, ...]
Some = TypeVar("Some", bound=Trigger)


def kind(policy: Trigger, player: Player) -> Kind | None:
    """Return what policies of one crowd have in common; None for one that walks alone."""
    if player.delay or player.matrix.nothing:  # after a trigger there may be no model
        return None
    if type(policy) is EnsembleTrigger:
        samples = _interval(policy)
        found = None if samples is None else _ensemble_kind(policy, samples, player)
    else:
        found = _batched_kind(policy, player)
    try:
        hash(found)
    except TypeError:  # somebody's own metric or strategy
        return None
    return found


def _batched_kind(policy: Trigger, player: Player) -> Kind | None:
    tape = player.matrix.tape
    about: Kind | None = None
    if type(policy) is PerformanceTrigger:
        about = PerformanceRules.kind(policy)
    elif type(policy) is DataDriftTrigger and tape.positions is None:
        about = DriftRules.kind(policy)  # of erased samples a window may be empty
    elif type(policy) is DataIncorporationLatencyCostTrigger:
        about = () if WaitingRules.fits(len(tape), tape.span, tape.unit) else None
    elif type(policy) is AvoidableMisclassificationCostTrigger:
        about = RegretRules.kind(policy)
    if about is None or not isinstance(policy, BatchedTrigger):
        return None
    return (type(policy), policy.evaluation_interval_data_points, *_warmup(policy), about)


def _warmup(policy: BatchedTrigger) -> Kind:
    """Return what tells the warm-up of a policy apart."""
    first = policy.warmup_policy
    if not policy.warmup_intervals or first is None:
        return ()
    if type(first) not in FAMILIES:
        return (policy.warmup_intervals, id(first))
    values = [value for name, value in vars(first).items() if not name.startswith("_")]
    said = tuple(str(np.ravel(value).tolist()) for value in values)
    return (policy.warmup_intervals, type(first), *said)


def _interval(policy: Trigger) -> int | None:
    """Return the interval of the members of an ensemble that look at intervals, if it is one."""
    if isinstance(policy, BatchedTrigger):
        return policy.evaluation_interval_data_points
    if type(policy) is not EnsembleTrigger:
        return None
    found = {_interval(member) for member in policy.subtriggers.values()} - {None}
    return found.pop() if len(found) == 1 else None


def _ensemble_kind(policy: EnsembleTrigger, samples: int, player: Player) -> Kind | None:
    """Return what ensembles have in common that trigger at ends of intervals of so many samples."""
    if not counts(policy.ensemble_strategy):
        return None
    kinds: list[Kind] = []
    for member in policy.subtriggers.values():
        if type(member) is DataAmountTrigger:
            found: Kind | None = ("amount",) if member.num_samples % samples == 0 else None
        elif type(member) is EnsembleTrigger:
            found = _ensemble_kind(member, samples, player)
        elif isinstance(member, BatchedTrigger) and member.warmup_intervals:
            found = None
        elif _interval(member) == samples:
            found = _batched_kind(member, player)
        else:
            found = None
        if found is None:
            return None
        kinds.append(found)
    return (EnsembleTrigger, samples, *kinds)


def walked(policies: Sequence[Trigger], player: Player) -> list[Schedule]:
    """Return where the policies of one crowd fire."""
    first = policies[0]
    samples = _interval(first)
    if samples is None:
        raise TypeError(f"{type(first).__name__} has no crowd")
    warmup = (first.warmup_intervals or 0) if isinstance(first, BatchedTrigger) else 0
    fresh = player.fresh(first)
    player.follow(fresh, until=warmup * samples)
    fired = set(fresh.models.fired)
    warm = [(interval + 1) * samples in fired for interval in range(warmup)]
    return walk(
        player.matrix,
        _decider(policies, samples, fresh, player),
        count=len(policies),
        samples=samples,
        warm=warm,
        most=player.most,
    )


def _decider(policies: Sequence[Trigger], samples: int, fresh: Played, player: Player) -> Decider:
    """Return what the policies of one crowd decide."""
    first = policies[0]
    if isinstance(first, EnsembleTrigger):
        ensembles = _all(EnsembleTrigger, policies)
        places = range(len(first.subtriggers))
        members = [[list(one.subtriggers.values())[place] for one in ensembles] for place in places]
        return Ensembles(ensembles, [_decider(some, samples, fresh, player) for some in members])
    if isinstance(first, DataAmountTrigger):
        return Amounts(_all(DataAmountTrigger, policies), samples)
    if isinstance(first, PerformanceTrigger):
        return Performance(_all(PerformanceTrigger, policies), player)
    if isinstance(first, DataDriftTrigger):
        return Drift(_all(DataDriftTrigger, policies), fresh, player)
    if isinstance(first, DataIncorporationLatencyCostTrigger):
        return Waiting(_all(DataIncorporationLatencyCostTrigger, policies), player)
    return Regrets(_all(AvoidableMisclassificationCostTrigger, policies), player)


def _all(of: type[Some], policies: Sequence[Trigger]) -> list[Some]:
    return [policy for policy in policies if isinstance(policy, of)]
