"""What a trigger may choose from, and how it is chosen, in C and in bounded memory."""

from modyn.sampling.candidates import Candidates, Part
from modyn.sampling.draws import balanced, fair_shares, target_size, uniform

__all__ = ["Candidates", "Part", "balanced", "fair_shares", "target_size", "uniform"]
