"""On which samples to train, decided while a model is trained."""

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.rho import RHOLoss
from modyn.downsampling.schedule import Schedule

__all__ = [
    "Chosen",
    "Context",
    "Downsampler",
    "Pool",
    "RHOLoss",
    "Schedule",
]
