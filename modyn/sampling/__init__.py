"""What a trigger may choose from, and how it is chosen, in C and in bounded memory."""

from modyn.sampling.candidates import Candidates, Part
from modyn.sampling.draws import balanced, fair_shares, target_size, uniform
from modyn.sampling.keyset import KeySet

__all__ = [
    "Candidates",
    "KeySet",
    "Part",
    "balanced",
    "fair_shares",
    "target_size",
    "uniform",
]
