"""When to train, and on what: the policies, and the base classes for your own."""

from modyn.policies.amount import DataAmountTrigger
from modyn.policies.base import Context, PlainContext, Selected, Selection, Trigger, seed_of
from modyn.policies.label_balanced import LabelBalanced
from modyn.policies.new_data import NewData
from modyn.policies.random import Random
from modyn.policies.time import TimeTrigger

__all__ = [
    "Context",
    "DataAmountTrigger",
    "LabelBalanced",
    "NewData",
    "PlainContext",
    "Random",
    "Selected",
    "Selection",
    "TimeTrigger",
    "Trigger",
    "seed_of",
]
