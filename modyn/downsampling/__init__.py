"""On which samples to train, decided while a model is trained."""

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.data_diet import EL2N, GraNd
from modyn.downsampling.forgetting import Forgetting
from modyn.downsampling.importance import GradNorm, Loss
from modyn.downsampling.infobatch import InfoBatch
from modyn.downsampling.rho import RHOLoss
from modyn.downsampling.rs2 import RS2
from modyn.downsampling.schedule import Schedule
from modyn.downsampling.uncertainty import Uncertainty
from modyn.downsampling.uniform import Uniform

__all__ = [
    "Chosen",
    "Context",
    "Downsampler",
    "EL2N",
    "Forgetting",
    "GraNd",
    "GradNorm",
    "InfoBatch",
    "Loss",
    "Pool",
    "RHOLoss",
    "RS2",
    "Schedule",
    "Uncertainty",
    "Uniform",
]
