"""What a trigger may choose from, and how it is chosen, in C and in bounded memory."""

from modyn.sampling.candidates import Candidates, Part
from modyn.sampling.draws import balanced, fair_shares, target_size, uniform
from modyn.sampling.keyset import KeySet
from modyn.sampling.ranked import band, newest, top
from modyn.sampling.sampler import Drawn, Sampler
from modyn.sampling.weighted import weighted

__all__ = [
    "Candidates",
    "Drawn",
    "KeySet",
    "Part",
    "Sampler",
    "balanced",
    "band",
    "fair_shares",
    "newest",
    "target_size",
    "top",
    "uniform",
    "weighted",
]
