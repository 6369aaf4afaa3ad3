"""When to train, and on what: the policies, and the base classes for your own."""

from modyn.policies.aggregation import AggregationStrategy, AtLeastN, Custom, MajorityVote
from modyn.policies.amount import DataAmountTrigger
from modyn.policies.base import Context, PlainContext, Selected, Selection, Trigger, seed_of
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.by_signal import QuantileBand, TopBySignal
from modyn.policies.class_balanced_reservoir import ClassBalancedReservoir
from modyn.policies.context import Note, PastModel
from modyn.policies.cost import (
    AvoidableMisclassificationCostTrigger,
    DataIncorporationLatencyCostTrigger,
)
from modyn.policies.criteria import (
    DecisionCriterion,
    DynamicQuantileThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    ThresholdDecisionCriterion,
    Verdict,
)
from modyn.policies.detector import DetectorTrigger
from modyn.policies.drift import DataDriftTrigger
from modyn.policies.ensemble import EnsembleTrigger
from modyn.policies.estimation import ATC, CBPE, Estimator
from modyn.policies.freshness import FreshnessSampling
from modyn.policies.gdumb import GDumb
from modyn.policies.history import HeldHistory, History
from modyn.policies.label_balanced import LabelBalanced
from modyn.policies.most_recent import MostRecent
from modyn.policies.new_data import NewData
from modyn.policies.performance import PerformanceTrigger
from modyn.policies.performance_criteria import (
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
)
from modyn.policies.random import Random
from modyn.policies.random_no_replacement import RandomNoReplacement
from modyn.policies.reservoir import Reservoir
from modyn.policies.time import TimeTrigger
from modyn.policies.time_stratified import TimeStratified
from modyn.policies.trigger_balanced import TriggerBalanced
from modyn.policies.weighted import Weighted
from modyn.policies.windows import AmountWindowingStrategy, TimeWindowingStrategy

__all__ = [
    "ATC",
    "AggregationStrategy",
    "AmountWindowingStrategy",
    "AtLeastN",
    "AvoidableMisclassificationCostTrigger",
    "BatchedTrigger",
    "CBPE",
    "ClassBalancedReservoir",
    "Context",
    "Custom",
    "DataAmountTrigger",
    "DataDriftTrigger",
    "DataIncorporationLatencyCostTrigger",
    "DecisionCriterion",
    "DetectorTrigger",
    "DynamicQuantilePerformanceThresholdCriterion",
    "DynamicQuantileThresholdCriterion",
    "DynamicRollingAveragePerformanceThresholdCriterion",
    "DynamicRollingAverageThresholdCriterion",
    "EnsembleTrigger",
    "Estimator",
    "FreshnessSampling",
    "GDumb",
    "HeldHistory",
    "History",
    "Interval",
    "LabelBalanced",
    "MajorityVote",
    "MostRecent",
    "NewData",
    "Note",
    "PastModel",
    "PerformanceTrigger",
    "PlainContext",
    "QuantileBand",
    "Random",
    "RandomNoReplacement",
    "Reservoir",
    "Selected",
    "Selection",
    "StaticNumberAvoidableMisclassificationCriterion",
    "StaticPerformanceThresholdCriterion",
    "ThresholdDecisionCriterion",
    "TimeStratified",
    "TimeTrigger",
    "TimeWindowingStrategy",
    "TopBySignal",
    "Trigger",
    "TriggerBalanced",
    "Verdict",
    "Weighted",
    "seed_of",
]
